"""Deoccluder.refine: which faces are looked for again, on what, and what it is worth on real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskfix import Deoccluder, read_image
from maskfix.align import find_with, load_detector
from maskfix.base import InputError, UInt8Array, WeightsError
from maskfix.occlude import PAPER_KINDS, Occluder, folder_templates
from maskfix.weights import list_weights, save_weights
from tests.plugin.worlds import early_green_deoccluder, green_deoccluder, with_chin
from tests.readers import shifting_reader

FIVE = np.array([[210.0, 200.0], [262.0, 196.0], [238.0, 230.0], [216.0, 258.0], [260.0, 254.0]], np.float32)


class Finder:
    """Moves the points by two pixels, and keeps what it was shown."""

    def __init__(self) -> None:
        self.seen: list[UInt8Array] = []

    def __call__(self, photo: UInt8Array) -> Any:
        self.seen.append(photo)
        return FIVE[None] + 2


@pytest.fixture
def photos() -> list[UInt8Array]:
    grey = np.full((400, 400, 3), 90, np.uint8)
    return [grey, with_chin(grey, FIVE)]


def test_occluded_faces_are_found_again_on_their_completion(photos: list[UInt8Array]) -> None:
    find, blind = Finder(), green_deoccluder()
    landmarks = np.stack([FIVE, FIVE]).astype(np.float64)
    refined = blind.refine(photos, landmarks, find)
    np.testing.assert_array_equal(refined, np.stack([FIVE, FIVE + 2]))
    assert refined.dtype == np.float32
    [seen] = find.seen
    np.testing.assert_array_equal(seen, blind.restore(photos[1], FIVE))
    assert (seen != photos[1]).any()
    np.testing.assert_array_equal(landmarks, np.stack([FIVE, FIVE]))


def test_reader__reads_before_completion_and_the_detector_is_asked_after(photos: list[UInt8Array]) -> None:
    reader = shifting_reader(2, -3)
    blind = green_deoccluder(reader=reader)
    landmarks = np.stack([FIVE, FIVE])
    read = reader.correct(photos, landmarks)
    np.testing.assert_array_equal(blind.refine(photos, landmarks), np.stack([FIVE, read[1]]))
    assert np.abs(read - landmarks).min() > 0.5
    find = Finder()
    refined = blind.refine(photos, landmarks, find)
    np.testing.assert_array_equal(refined, np.stack([FIVE, FIVE + 2]))
    [seen] = find.seen
    np.testing.assert_array_equal(seen, blind.restore(photos[1], read[1]))


def test_without_reader_and_detector__nothing_moves(photos: list[UInt8Array]) -> None:
    landmarks = np.stack([FIVE, FIVE])
    np.testing.assert_array_equal(green_deoccluder().refine(photos, landmarks), landmarks)


def test_reread__all_but_the_surely_clean(photos: list[UInt8Array]) -> None:
    reader = shifting_reader(2, -3)
    top = photos[0].copy()
    top[:160] = (0, 255, 0)
    pictures, landmarks = [photos[0], top], np.stack([FIVE, FIVE])
    blind = early_green_deoccluder(reader)
    points, suspected = blind.reread(pictures, landmarks)
    assert suspected.tolist() == [False, True]
    np.testing.assert_array_equal(points, np.stack([FIVE, reader.correct([top], FIVE[None])[0]]))
    # Below what the early look calls clean, it has no say.
    points, suspected = blind.reread(pictures, landmarks, 0.01)
    assert suspected.all()
    np.testing.assert_array_equal(points, reader.correct(pictures, landmarks))


def test_reader__loaded_on_first_use_by_name_or_path(tmp_path: Path) -> None:
    blind = Deoccluder(green_deoccluder()._runner.network, device="cpu", reader=tmp_path / "none.safetensors")
    with pytest.raises(WeightsError, match=r"none\.safetensors"):
        _ = blind.reader
    path = tmp_path / "landmarks_128.tiny.safetensors"
    save_weights(path, shifting_reader(1, 2)._network.state_dict(), "landmarks_128")
    blind = Deoccluder(green_deoccluder()._runner.network, device="cpu", reader=path)
    assert blind.reader is blind.reader
    assert blind.reader is not None
    assert blind.reader.weights is not None
    assert green_deoccluder().reader is None


def test_threshold(photos: list[UInt8Array]) -> None:
    blind, landmarks = green_deoccluder(), np.stack([FIVE, FIVE])
    coverage = blind.restore_batch(photos, landmarks)[1].coverage
    assert coverage[0] == 0 < coverage[1]
    for threshold, count in ((-1.0, 2), (float(coverage[1]) - 1e-3, 1), (float(coverage[1]), 0)):
        find = Finder()
        blind.refine(photos, landmarks, find, threshold)
        assert len(find.seen) == count


def test_no_photograph() -> None:
    assert green_deoccluder().refine([], np.zeros((0, 5, 2)), Finder()).shape == (0, 5, 2)


def test_wrong_landmarks(photos: list[UInt8Array]) -> None:
    with pytest.raises(InputError, match="landmarks"):
        green_deoccluder().refine(photos, FIVE[None], Finder())


@pytest.mark.skipif(not list_weights(), reason="no released weights in this checkout")
def test_real_faces__nearer_to_where_they_are(shared: Path) -> None:
    """Nose and mouth by MTCNN under a mask, after completion, and without the mask."""
    pytest.importorskip("mediapipe", reason="mediapipe, which places the masks, is not installed")
    folders = sorted((shared / "data/lfw/lfw-deepfunneled").iterdir())[:400:40]
    photos = [read_image(sorted(folder.iterdir())[0]) for folder in folders]
    mesh, detector = load_detector("mesh"), load_detector("mtcnn")
    occluder = Occluder(folder_templates(shared / "data/masktheface"))
    masked = [
        occluder.occlude(photo, found.mask, PAPER_KINDS[place % 9]).image
        for place, (photo, found) in enumerate(zip(photos, mesh.detect(photos), strict=True))
        if found.mask is not None
    ]
    found = [(clean.five, seen.five) for clean, seen in zip(*map(detector.detect, (photos, masked)), strict=True)]
    kept = [row for row, (clean, seen) in enumerate(found) if clean is not None and seen is not None]
    assert len(kept) >= 7
    clean, seen = (np.stack([found[row][side] for row in kept]) for side in (0, 1))
    blind = Deoccluder.from_pretrained("cadf_small_128", device="cpu")
    refined = blind.refine([masked[row] for row in kept], seen, find_with(detector))
    eyes = np.linalg.norm(clean[:, 1] - clean[:, 0], axis=1)
    before, after = (np.linalg.norm(points - clean, axis=2)[:, 2:].mean(1) / eyes for points in (seen, refined))
    assert after.mean() < 0.6 * before.mean()
    assert (after < before).mean() > 0.7
