"""Crop layouts by name."""

from __future__ import annotations

import numpy as np
import pytest

from maskfix.base import InputError, arcface_layout, canonical_layout
from maskfix.embed.dlib_resnet import dlib_layout
from maskfix.embed.layouts import facenet_layout, lightcnn_layout, list_layouts, load_layout


def test_lightcnns_two_points() -> None:
    layout = lightcnn_layout()
    eyes, mouth = layout.array[:2].mean(0), layout.array[3:].mean(0)
    assert (layout.size, layout.fit) == (128, "midpoints")
    np.testing.assert_allclose([eyes, mouth], [[64, 40], [64, 88]], atol=1e-9)
    # The rest of the face is ArcFace's: scaled by 48 over its 40.69 pixels between eyes and mouth.
    face = arcface_layout(112).array
    scales = np.linalg.norm(np.diff(layout.array, axis=0), axis=1) / np.linalg.norm(np.diff(face, axis=0), axis=1)
    np.testing.assert_allclose(scales, 1.1798, atol=2e-4)


def test_facenets_box_has_its_margin() -> None:
    layout = facenet_layout()
    assert (layout.size, layout.fit) == (160, "box")
    face = arcface_layout(112).array
    scales = layout.array.std(0) / face.std(0)
    # A box of 79.8 x 105.9 in ArcFace's pixels takes 146 of the crop's 160.
    np.testing.assert_allclose(scales, [146 / 79.8, 146 / 105.9])
    np.testing.assert_allclose((79.5 - layout.array) / scales, np.array([56, 62.8]) - face)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("arcface_112", arcface_layout(112)),
        ("arcface_224", arcface_layout(224)),
        ("canonical_256", canonical_layout(256)),
        ("dlib_150", dlib_layout()),
        ("dlib", dlib_layout()),
        ("lightcnn_128", lightcnn_layout()),
        ("lightcnn", lightcnn_layout()),
        ("facenet_160", facenet_layout()),
        ("facenet", facenet_layout()),
    ],
)
def test_by_name(name: str, expected: object) -> None:
    assert load_layout(name) == expected


@pytest.mark.parametrize(
    "name", ["", "arcface", "arcface_", "arcface_0112", "arcface_x", "lightcnn_144", "dlib_", "x_1"]
)
def test_unknown(name: str) -> None:
    with pytest.raises(InputError, match="is unknown; known: arcface_SIZE, canonical_SIZE, dlib_150") as raised:
        load_layout(name)
    assert all(known in str(raised.value) for known in list_layouts())


def test_impossible_size() -> None:
    with pytest.raises(InputError, match="expected 5 points and size >= 8, got 5 and 4"):
        load_layout("arcface_4")
