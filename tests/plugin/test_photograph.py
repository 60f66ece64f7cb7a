"""Faces completed inside one photograph, and their landmarks found again there."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from maskfix.base import InputError, UInt8Array
from maskfix.plugin.base import Completer, SeamSettings
from maskfix.plugin.photograph import CompletedPhoto
from tests.plugin.worlds import batches, early_green_deoccluder, green_deoccluder, with_chin
from tests.readers import shifting_reader

LEFT = np.array([[110.0, 200.0], [162.0, 196.0], [138.0, 230.0], [116.0, 258.0], [160.0, 254.0]], np.float32)
RIGHT = LEFT + np.array([260, 0], np.float32)
SHIFT = np.array([[0, 0], [0, 0], [1, 3], [-2, 4], [2, 3]], np.float32)
BOTH = np.stack([LEFT, RIGHT])


class Finder:
    def __init__(self, shift: Any = SHIFT) -> None:
        self.shift = shift
        self.seen: list[UInt8Array] = []

    def __call__(self, photo: UInt8Array) -> Any:
        self.seen.append(photo)
        return BOTH[::-1] + self.shift


@pytest.fixture
def photo() -> UInt8Array:
    """Two places for a face on grey, the right one with a green chin."""
    return with_chin(np.full((400, 540, 3), 90, np.uint8), RIGHT)


def completed(photo: UInt8Array, mode: str = "gate") -> CompletedPhoto:
    return CompletedPhoto(Completer(green_deoccluder(), SeamSettings(mode)), photo, BOTH)


@pytest.mark.parametrize("mode", ["gate", "always", "observe"])
def test_refined__the_occluded_face_alone_is_completed_by_its_new_points(photo: UInt8Array, mode: str) -> None:
    plain, find = completed(photo, mode), Finder()
    refined = plain.refined(find)
    [seen] = find.seen
    np.testing.assert_array_equal(seen, plain.picture(np.array([False, True])))
    by_hand = CompletedPhoto(Completer(green_deoccluder()), photo, np.stack([LEFT, RIGHT + SHIFT]))
    every = np.array([True, True])
    np.testing.assert_array_equal(refined.picture(every), by_hand.picture(every))
    np.testing.assert_array_equal(refined.result.completion.coverage, by_hand.result.completion.coverage)
    assert (refined.result.completion.occlusion[1] != plain.result.completion.occlusion[1]).any()


def test_refined__nothing_occluded(photo: UInt8Array) -> None:
    clean, find = completed(np.full_like(photo, 90)), Finder()
    assert clean.refined(find) is clean
    assert not find.seen


@pytest.mark.parametrize("shift", [np.zeros((5, 2), np.float32), np.full((5, 2), 90, np.float32)])
def test_refined__not_moved_or_not_found(photo: UInt8Array, shift: Any) -> None:
    plain = completed(photo)
    assert plain.refined(Finder(shift)) is plain
    assert batches(plain._completer.deoccluder()) == [2]


def test_reread__what_may_be_occluded_is_completed_by_the_points_read(photo: UInt8Array) -> None:
    blind = green_deoccluder(reader=shifting_reader(3, 2))
    reread = CompletedPhoto(Completer(blind), photo, BOTH)
    moved = shifting_reader(3, 2).correct([photo, photo], BOTH)
    np.testing.assert_allclose(reread.landmarks, moved, atol=1e-3)
    assert np.abs(moved - BOTH).min() > 0.5
    by_hand = CompletedPhoto(Completer(green_deoccluder()), photo, moved)
    np.testing.assert_array_equal(reread.picture(), by_hand.picture())
    plain = CompletedPhoto(Completer(blind, SeamSettings(refine=False)), photo, BOTH)
    np.testing.assert_array_equal(plain.landmarks, BOTH)


def test_reread__not_once_more_where_the_detector_was_asked_again(photo: UInt8Array) -> None:
    plain = CompletedPhoto(Completer(green_deoccluder(reader=shifting_reader(1, 1))), photo, BOTH)
    find = Finder(plain.landmarks[1] - RIGHT + SHIFT)
    np.testing.assert_allclose(plain.refined(find).landmarks[1], plain.landmarks[1] + SHIFT, atol=1e-3)


@pytest.fixture
def half_green(photo: UInt8Array) -> UInt8Array:
    """Green above the right face too: to the early look of these tests the left one alone is clean."""
    photo[:170, 300:] = (0, 255, 0)
    return photo


@pytest.mark.parametrize("refine", [True, False])
def test_surely_clean_faces__as_they_are_and_not_decoded(half_green: UInt8Array, refine: bool) -> None:
    blind = early_green_deoccluder(shifting_reader(3, 2))
    seen = CompletedPhoto(Completer(blind, SeamSettings(refine=refine)), half_green, BOTH)
    network: Any = blind._runner.network
    assert (network.encoded, network.batches) == ([2], [1])
    assert seen.result.early is not None
    assert seen.result.early.tolist() == [True, False]
    np.testing.assert_array_equal(seen.landmarks[0], LEFT)
    assert (np.abs(seen.landmarks[1] - RIGHT) > 0.5).all() == refine
    by_hand = CompletedPhoto(Completer(green_deoccluder()), half_green, seen.landmarks)
    every = np.array([True, True])
    np.testing.assert_array_equal(seen.picture(every), by_hand.picture(every))
    np.testing.assert_array_equal(seen.result.images, by_hand.result.images)
    # What the early look says of a face has its own meaning; of all others the whole network speaks.
    for ours, expected in zip(seen.result.completion, by_hand.result.completion, strict=True):
        np.testing.assert_array_equal(ours[1], expected[1])
    assert np.isnan(seen.result.completion.uv[0]).all()


@pytest.mark.parametrize("mode", ["always", "observe", "fuse"])
def test_early_look__has_no_say_in_other_modes(half_green: UInt8Array, mode: str) -> None:
    blind = early_green_deoccluder()
    seen = CompletedPhoto(Completer(blind, SeamSettings(mode)), half_green, BOTH)
    network: Any = blind._runner.network
    assert (network.encoded, network.batches) == ([], [2])
    assert seen.result.early is None


def test_moved_to__faces_whose_points_differ_alone_are_completed_anew(half_green: UInt8Array) -> None:
    blind = early_green_deoccluder()
    first = CompletedPhoto(Completer(blind), half_green, BOTH)
    before = [column.copy() for column in first.result.completion]
    five = np.stack([LEFT, RIGHT + SHIFT])
    again = first.moved_to(five)
    network: Any = blind._runner.network
    assert (network.encoded, network.batches) == ([2], [1, 1])
    assert again.result.early is not None
    assert again.result.early.tolist() == [True, False]
    by_hand = CompletedPhoto(Completer(green_deoccluder()), half_green, five)
    np.testing.assert_array_equal(again.picture(), by_hand.picture())
    np.testing.assert_array_equal(again.result.images, by_hand.result.images)
    assert (again.picture() != first.picture()).any()
    for ours, kept in zip(first.result.completion, before, strict=True):
        np.testing.assert_array_equal(ours, kept)
    # A face of which the early look was sure is decoded once its points are others.
    left = first.moved_to(np.stack([LEFT + SHIFT, RIGHT]))
    assert left.result.early is not None
    assert left.result.early.tolist() == [False, False]
    assert not np.isnan(left.result.completion.uv).any()


def test_moved_to__nowhere(photo: UInt8Array) -> None:
    first = completed(photo)
    assert first.moved_to(BOTH.astype(np.float64) + 1e-9) is first
    with pytest.raises(InputError, match="landmarks"):
        first.moved_to(BOTH[:1])
