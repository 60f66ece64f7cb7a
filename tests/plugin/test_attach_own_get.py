"""attach behind a `get` of the user's own, or of a subclass: the library's picture counts, whatever it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest

import maskfix
from maskfix.base import UInt8Array
from tests.plugin.worlds import batches, by_place, green_deoccluder

insightface_app = pytest.importorskip("insightface.app")
FaceAnalysis = insightface_app.FaceAnalysis


def padded(app: Any, img: UInt8Array) -> list[Any]:
    """With a border, and coordinates of the picture without it."""
    faces: list[Any] = FaceAnalysis.get(app, cv2.copyMakeBorder(img, 60, 60, 60, 60, cv2.BORDER_CONSTANT))
    for face in faces:
        face.kps, face.bbox = face.kps - 60, face.bbox - 60
    return faces


def larger(app: Any, img: UInt8Array) -> list[Any]:
    faces: list[Any] = FaceAnalysis.get(app, cv2.resize(img, None, fx=1.5, fy=1.5))
    for face in faces:
        face.kps, face.bbox = face.kps / 1.5, face.bbox / 1.5
    return faces


def mirrored(app: Any, img: UInt8Array) -> list[Any]:
    faces: list[Any] = FaceAnalysis.get(app, np.ascontiguousarray(img[:, ::-1]))
    return faces


def by_length(app: Any, img: UInt8Array) -> list[Any]:
    """What needs each face's embedding at once."""
    faces: list[Any] = FaceAnalysis.get(app, img)
    return sorted((face for face in faces if np.linalg.norm(face.embedding) > 0), key=lambda face: -face.embedding[0])


GETS = [padded, larger, mirrored, by_length]


@pytest.fixture(params=["of the user's own", "a subclass's"])
def put(request: pytest.FixtureRequest, app: Any) -> Iterator[Callable[[Any], None]]:
    """Puts a `get` in the place of the application's."""
    kind = type(app)

    def replace(get: Any) -> None:
        if request.param == "a subclass's":
            app.__class__ = type("Own", (FaceAnalysis,), {"get": get})
        else:
            app.get = lambda img: get(app, img)

    yield replace
    if isinstance(vars(app).get("get"), maskfix.plugin.attaching._AttachedGet):
        maskfix.detach(app)
    vars(app).pop("get", None)
    app.__class__ = kind


@pytest.mark.parametrize("get", GETS, ids=lambda get: get.__name__)
def test_clean_faces_to_the_bit_masked_ones_completed(
    app: Any, both_bgr: UInt8Array, put: Callable[[Any], None], get: Any
) -> None:
    put(get)
    bare = by_place(app.get(both_bgr))
    maskfix.attach(app, deoccluder=green_deoccluder())
    faces = by_place(app.get(both_bgr))
    assert len(faces) == len(bare) == 2
    assert sorted(face.completion.used for face in faces) == [False, True]
    for face, known in zip(faces, bare, strict=True):
        np.testing.assert_array_equal(face.kps, known.kps)
        assert (face.embedding != known.embedding).any() == face.completion.used


def test_nothing_is_looked_for_beside_what_it_finds(app: Any, both_bgr: UInt8Array, put: Callable[[Any], None]) -> None:
    """It may leave faces out on purpose, and what is guessed on one picture means nothing on another."""
    put(lambda self, img: [])
    blind = green_deoccluder()
    maskfix.attach(app, deoccluder=blind)
    assert app.get(both_bgr) == []
    assert batches(blind) == []


def test_the_librarys_own_get_completes_all_faces_at_once(app: Any, both_bgr: UInt8Array) -> None:
    blind = green_deoccluder()
    maskfix.attach(app, deoccluder=blind, refine=False)
    assert len(app.get(both_bgr)) == 2
    assert batches(blind) == [2]
