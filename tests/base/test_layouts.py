"""Crop layouts against the recogniser's own numbers."""

from __future__ import annotations

import numpy as np
import pytest

from maskfix.base import CropLayout, InputError, arcface_layout


def test_arcface_112_is_insightfaces() -> None:
    face_align = pytest.importorskip("insightface.utils.face_align")
    np.testing.assert_allclose(arcface_layout(112).array, face_align.arcface_dst, atol=1e-5)


@pytest.mark.parametrize("size", [8, 112, 128, 224, 256])
def test_sizes_are_one_layout_scaled(size: int) -> None:
    layout = arcface_layout(size)
    assert (layout.name, layout.size) == (f"arcface_{size}", size)
    assert layout.array.shape == (5, 2)
    assert layout.array.dtype == np.float64
    np.testing.assert_allclose(layout.array / size, arcface_layout(112).array / 112)


@pytest.mark.parametrize("size", [7, 0, -112])
def test_impossible_size(size: int) -> None:
    with pytest.raises(InputError, match=f"expected 5 points and size >= 8, got 5 and {size}"):
        arcface_layout(size)


def test_wrong_number_of_points() -> None:
    with pytest.raises(InputError, match="crop layout 'four': expected 5 points and size >= 8, got 4 and 112"):
        CropLayout("four", 112, arcface_layout(112).points[:4])


def test_unknown_fit() -> None:
    with pytest.raises(InputError, match="crop layout 'x': fit: 'best' is unknown; known: points, midpoints, box"):
        CropLayout("x", 112, arcface_layout(112).points, fit="best")
