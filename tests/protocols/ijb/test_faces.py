"""Faces of a block: whose points count, what the detector sees, and where a box cuts a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskfix.align import mask_points_from_five
from maskfix.align.base import nothing
from maskfix.base import Landmarks, Occluded, UInt8Array, arcface_layout, canonical_layout, read_image, write_image
from maskfix.occlude import Occluder
from protocols.ijb import FeatureSettings, Flag, IjbParts
from protocols.ijb.faces import Face, FaceFinder, Faces, read_picture
from protocols.ijb.units import Job
from protocols.landmark_cache import LandmarkCache
from tests.protocols.ijb.small import WEIGHTS
from tests.protocols.worlds import FirstRowRestorer, MiddleEmbedder

FIVE = (arcface_layout(112).array * 0.5 + [70, 40]).astype(np.float32)
"""A face in a photograph of 200 x 150: from (89, 66) to (107, 86)."""

BOX = np.array([80, 50, 40, 50], np.float32)


class NotingOccluder(Occluder):
    """Remembers the points that it was given, and masks nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[Any] = []

    def occlude(self, photo: UInt8Array, points: Any, kind: str) -> Occluded:
        self.points.append(np.array(points))
        return Occluded(photo.copy(), np.zeros(photo.shape[:2], np.float32), np.zeros(photo.shape[:2], np.bool_))


class FixedDetector:
    """Finds points at fixed places of what it is shown, and remembers the sizes of that."""

    name = "fixed"
    version = "1"

    def __init__(self, five: Any, shift: tuple[float, float] = (0, 0)) -> None:
        self.five, self.shift = five, np.array(shift, np.float32)
        self.sizes: list[tuple[int, int]] = []

    def detect(self, photos: Sequence[UInt8Array]) -> list[Landmarks]:
        self.sizes += [(photo.shape[1], photo.shape[0]) for photo in photos]
        if self.five is None:
            return [nothing() for _ in photos]
        mask = np.arange(12, dtype=np.float32).reshape(6, 2)
        return [Landmarks(self.five + self.shift, mask, None, 1.0, "") for _ in photos]


def find(
    tmp_path: Path, detector: FixedDetector, *, points: Any = FIVE, box: Any = None, probe: bool = True
) -> tuple[Faces, NotingOccluder]:
    photo = np.zeros((150, 200, 3), np.uint8)
    photo[..., 0], photo[..., 1] = np.arange(200), np.arange(150)[:, None]
    path = tmp_path / "photo.png"
    write_image(path, photo)
    job = Job(
        0,
        (str(path),),
        np.zeros((1, 32), np.uint8),
        np.full((1, 5, 2), np.nan, np.float32) if points is None else points[None],
        np.full((1, 4), np.nan, np.float32) if box is None else box[None],
        np.array([probe]),
    )
    occluder = NotingOccluder()
    parts = IjbParts(detector, occluder, FirstRowRestorer(), WEIGHTS, [MiddleEmbedder()])
    finder = FaceFinder(parts, FeatureSettings(), LandmarkCache(tmp_path, detector), canonical_layout(16))
    return finder.find(job, [read_picture(job, 0)]), occluder


def only(faces: Faces) -> Face:
    (face,) = faces.faces
    return face


def test_points__files_five_and_the_detectors_mask(tmp_path: Path) -> None:
    faces, occluder = find(tmp_path, FixedDetector(FIVE, (2, 3)))
    assert np.array_equal(only(faces).five, FIVE)
    assert np.array_equal(occluder.points[0], np.arange(12, dtype=np.float32).reshape(6, 2))
    assert faces.flags.tolist() == [0]
    assert len(faces.found) == 1


def test_points__mask_of_an_average_face_where_none_was_found(tmp_path: Path) -> None:
    faces, occluder = find(tmp_path, FixedDetector(None))
    assert faces.flags.tolist() == [Flag.ESTIMATED]
    assert np.array_equal(occluder.points[0], mask_points_from_five(FIVE))
    assert not faces.reasons
    assert np.array_equal(only(faces).five, FIVE)


def test_points__another_face_in_the_picture_does_not_count(tmp_path: Path) -> None:
    faces, occluder = find(tmp_path, FixedDetector(FIVE, (30, 0)))
    assert faces.flags.tolist() == [Flag.ESTIMATED]
    assert np.array_equal(occluder.points[0], mask_points_from_five(FIVE))


def test_points__gallery_asks_no_detector(tmp_path: Path) -> None:
    detector = FixedDetector(None)
    faces, occluder = find(tmp_path, detector, probe=False)
    assert not detector.sizes
    assert not occluder.points
    assert only(faces).masked is only(faces).photo
    # Without points in the file it is asked, and its failure is said.
    faces, _ = find(tmp_path, detector, points=None, probe=False)
    assert faces.flags.tolist() == [Flag.NO_FACE]
    assert faces.reasons == {0: "no face found"}


def test_box__detector_sees_the_box_and_points_come_back(tmp_path: Path) -> None:
    # A quarter of the box's longer side around it: 12.5 pixels, from (67, 37) to (133, 113).
    detector = FixedDetector(FIVE - [67, 37])
    faces, _ = find(tmp_path, detector, points=None, box=BOX)
    assert detector.sizes == [(66, 76)]
    face = only(faces)
    # The longer side around the box is kept: from (30, 0) to (170, 150).
    assert face.photo.shape == (150, 140, 3)
    assert face.photo[0, 0].tolist() == [30, 0, 0]
    np.testing.assert_allclose(face.five, FIVE - [30, 0], atol=1e-4)
    whole = read_image(tmp_path / "photo.png")
    x, y = np.rint(face.five[2]).astype(int)
    assert face.photo[y, x].tolist() == whole[y, x + 30].tolist()


def test_box__outside_the_picture(tmp_path: Path) -> None:
    box = np.array([900, 900, 10, 10], np.float32)
    faces, _ = find(tmp_path, FixedDetector(FIVE), points=None, box=box)
    assert faces.flags.tolist() == [Flag.UNREADABLE]
    assert "face box lies outside" in faces.reasons[0]
