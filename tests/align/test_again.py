"""A known face found again on another version of its photograph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from maskfix.align import find_again, find_with, known_faces, same_faces
from maskfix.align.base import nothing
from maskfix.base import InputError, Landmarks, UInt8Array, arcface_layout

FIVE = arcface_layout(112).array.astype(np.float32)
EYES = float(FIVE[1, 0] - FIVE[0, 0])
PHOTO = np.zeros((112, 112, 3), np.uint8)


def again(*found: Any) -> Any:
    return find_again([PHOTO], FIVE[None], lambda _: np.array(found, np.float32).reshape(-1, 5, 2))[0]


def test_known_faces__which_are_among_those_found() -> None:
    five = arcface_layout(112).array
    looked_for = np.stack([five, five + 300])
    points, known = known_faces(np.stack([five + 500, five + 2]), looked_for)
    assert known.tolist() == [True, False]
    np.testing.assert_allclose(points, np.stack([five + 2, five + 300]), rtol=1e-6)
    assert known_faces(np.zeros((0, 5, 2)), looked_for)[1].tolist() == [False, False]
    nobody, none = known_faces(looked_for, np.zeros((0, 5, 2)))
    assert (nobody.shape, none.shape) == ((0, 5, 2), (0,))


def test_the_nearest_face_is_taken_whole() -> None:
    """Mouth and nose may have moved far: they are what was guessed under the mask."""
    near = FIVE + 1
    near[2:] += 30
    np.testing.assert_array_equal(again(FIVE + 5, near, FIVE - 6), near)


@pytest.mark.parametrize(("share", "taken"), [(0.45, True), (0.55, False)])
def test_how_far_an_eye_may_move(share: float, taken: bool) -> None:
    """Either eye: one far off is another face, however near the other is."""
    for eye in (0, 1):
        moved = FIVE.copy()
        moved[eye, 1] += share * EYES
        np.testing.assert_array_equal(again(moved), moved if taken else FIVE)


def test_nothing_found() -> None:
    np.testing.assert_array_equal(again(), FIVE)


def test_each_photograph_by_itself() -> None:
    photos = [np.full((112, 112, 3), value, np.uint8) for value in (1, 2, 3)]
    points = np.stack([FIVE, FIVE + 100, FIVE])

    def find(photo: UInt8Array) -> Any:
        return {1: [FIVE + 2], 2: [FIVE, FIVE + 103], 3: []}[int(photo[0, 0, 0])] or np.zeros((0, 5, 2))

    found = find_again(photos, points, find)
    np.testing.assert_array_equal(found, np.stack([FIVE + 2, FIVE + 103, FIVE]))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(points[0], FIVE)


def test_several_faces_of_one_photograph() -> None:
    """Each takes the nearest to itself; one that is not there keeps its points."""
    known = np.stack([FIVE, FIVE + 300, FIVE + 900])
    found = np.stack([FIVE + 303, FIVE + 600, FIVE + 2, FIVE + 4])
    np.testing.assert_array_equal(same_faces(found, known), np.stack([FIVE + 2, FIVE + 303, FIVE + 900]))
    assert same_faces(found, known[:0]).shape == (0, 5, 2)


def test_no_photograph() -> None:
    assert find_again([], np.zeros((0, 5, 2)), lambda _: np.zeros((0, 5, 2))).shape == (0, 5, 2)


def test_wrong_shapes() -> None:
    with pytest.raises(InputError, match="landmarks"):
        find_again([PHOTO], FIVE, lambda _: FIVE[None])
    with pytest.raises(InputError, match=r"find: expected points of shape \(M, 5, 2\), got \(5, 2\)"):
        find_again([PHOTO], FIVE[None], lambda _: FIVE)


def test_find_with_a_detector() -> None:
    class Detector:
        name = version = "1"

        def detect(self, photos: Sequence[UInt8Array]) -> list[Landmarks]:
            return [Landmarks(FIVE, None, None, 1.0, "") if photo.any() else nothing() for photo in photos]

    find = find_with(Detector())
    np.testing.assert_array_equal(find(PHOTO + 1), FIVE[None])
    assert find(PHOTO).shape == (0, 5, 2)
