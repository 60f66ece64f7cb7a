"""Deoccluder.find_hidden: what of a detector's guesses counts as a face, and what it is worth on real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from maskfix import Deoccluder, read_image
from maskfix.align import find_with, load_detector
from maskfix.align.mtcnn import MtcnnDetector
from maskfix.base import InputError, UInt8Array
from maskfix.deocclude import GUESSES
from maskfix.occlude import PAPER_KINDS, Occluder, folder_templates
from maskfix.weights import list_weights
from tests.plugin.worlds import GREEN, green_deoccluder, with_chin
from tests.readers import shifting_reader

FIVE = np.array([[110.0, 200.0], [162.0, 196.0], [138.0, 230.0], [116.0, 258.0], [160.0, 254.0]], np.float32)
OTHER = FIVE + np.float32([260, 0])


@pytest.fixture
def photo() -> UInt8Array:
    """Two places for a face on grey, a green chin at each."""
    return with_chin(with_chin(np.full((400, 540, 3), 90, np.uint8), FIVE), OTHER)


def sees(*faces: NDArray[np.float32]) -> Any:
    """A detector that finds faces, two pixels further down, whose chin is not green (as it is after completion)."""

    def find(picture: UInt8Array) -> Any:
        shown = [
            face + np.float32([0, 2])
            for face in faces
            if tuple(picture[int(face[3:, 1].mean()), int(face[2, 0])]) != GREEN
        ]
        return np.array(shown, np.float32).reshape(-1, 5, 2)

    return find


def test_a_guess_that_the_detector_sees_once_it_is_completed(photo: UInt8Array) -> None:
    find = sees(FIVE, OTHER)
    assert not len(find(photo))
    found = green_deoccluder().find_hidden(photo, lambda _: np.stack([OTHER, FIVE]), find)
    np.testing.assert_array_equal(found, np.stack([OTHER, FIVE]) + np.float32([0, 2]))
    assert found.dtype == np.float32


def test_a_guess_that_it_does_not_see_then(photo: UInt8Array) -> None:
    found = green_deoccluder().find_hidden(photo, lambda _: np.stack([OTHER, FIVE]), sees(FIVE))
    np.testing.assert_array_equal(found, FIVE[None] + np.float32([0, 2]))
    # It sees a face, but elsewhere.
    assert green_deoccluder().find_hidden(photo, lambda _: OTHER[None], lambda _: FIVE[None]).shape == (0, 5, 2)


def test_a_guess_on_which_nothing_is_hidden(photo: UInt8Array) -> None:
    """Nothing was completed there, so what the detector sees is no news."""
    clean = np.full_like(photo, 90)
    assert green_deoccluder().find_hidden(clean, lambda _: FIVE[None], lambda _: FIVE[None]).shape == (0, 5, 2)


def test_two_guesses_of_one_face_and_one_guess_too_many(photo: UInt8Array) -> None:
    twice = np.stack([FIVE, FIVE + 3, OTHER])
    assert len(green_deoccluder().find_hidden(photo, lambda _: twice, sees(FIVE, OTHER))) == 2
    late = np.stack([FIVE] * GUESSES + [OTHER])
    assert len(green_deoccluder().find_hidden(photo, lambda _: late, sees(FIVE, OTHER))) == 1


def test_faces_that_are_known_already_are_left_out(photo: UInt8Array) -> None:
    late = np.stack([FIVE] * GUESSES + [OTHER])
    found = green_deoccluder().find_hidden(photo, lambda _: late, sees(FIVE, OTHER), FIVE[None] + 2)
    np.testing.assert_array_equal(found, OTHER[None] + np.float32([0, 2]))
    every = green_deoccluder().find_hidden(photo, lambda _: late, sees(FIVE, OTHER), np.zeros((0, 5, 2)))
    assert len(every) == 1


def test_guesses_are_read_anew_before_they_are_completed(photo: UInt8Array) -> None:
    reader, shown = shifting_reader(4, -3), []

    def find(picture: UInt8Array) -> Any:
        shown.append(picture)
        return FIVE[None]

    green_deoccluder(reader=reader).find_hidden(photo, lambda _: FIVE[None], find)
    read = reader.correct([photo], FIVE[None])
    np.testing.assert_array_equal(shown[0], green_deoccluder().restore(photo, read[0]))
    assert (shown[0] != green_deoccluder().restore(photo, FIVE)).any()


def test_nothing_guessed(photo: UInt8Array) -> None:
    blind = green_deoccluder(reader=shifting_reader())
    nothing = np.zeros((0, 5, 2), np.float32)
    assert blind.find_hidden(photo, lambda _: nothing, lambda _: pytest.fail("nothing to see")).shape == (0, 5, 2)


def test_wrong_points(photo: UInt8Array) -> None:
    with pytest.raises(InputError, match="guess"):
        green_deoccluder().find_hidden(photo, lambda _: FIVE, sees(FIVE))


@pytest.mark.skipif(not list_weights(), reason="no released weights in this checkout")
def test_real_faces__most_of_those_that_mtcnn_misses(shared: Path) -> None:
    pytest.importorskip("mediapipe", reason="mediapipe, which places the masks, is not installed")
    mesh, detector = load_detector("mesh"), MtcnnDetector()
    occluder = Occluder(folder_templates(shared / "data/masktheface"))
    blind = Deoccluder.from_pretrained("cadf_small_128", device="cpu")
    missed, right, wrong = 0, 0, 0
    for place, path in enumerate(sorted((shared / "data/utkface").rglob("*.jpg"))[::400]):
        photo = cv2.copyMakeBorder(read_image(path), 60, 60, 60, 60, cv2.BORDER_REPLICATE)
        [points], [clean] = mesh.detect([photo]), detector.detect([photo])
        if points.mask is None or clean.five is None:
            continue
        masked = occluder.occlude(photo, points.mask, PAPER_KINDS[place % 9]).image
        if detector.detect([masked])[0].five is not None:
            continue
        missed += 1
        found = blind.find_hidden(masked, detector.guess, find_with(detector))
        away = np.linalg.norm(found - clean.five, axis=2).mean(1) / np.linalg.norm(clean.five[1] - clean.five[0])
        right, wrong = right + int((away < 0.15).any()), wrong + int((away >= 0.15).sum())
    assert missed >= 4
    assert right >= 0.6 * missed
    assert wrong <= 0.1 * missed
