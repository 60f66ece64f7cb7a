"""The cache of landmarks: found once, kept whole."""

from __future__ import annotations

import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from maskfix.base import ImageError, Landmarks, UInt8Array, write_image
from protocols import LandmarkCache, LfwDataset, find_landmarks
from tests.protocols.worlds import FlatDetector, flat, write_world

ROOT = Path(__file__).resolve().parents[2]


def test_find_landmarks__second_run_asks_nobody(tmp_path: Path) -> None:
    folder = write_world(tmp_path / "data")
    write_image(folder / "A_Red" / "A_Red_0002.png", flat((0, 0, 0)))
    paths = LfwDataset(tmp_path / "data").paths
    calls: list[tuple[str, int, int]] = []
    first, second = FlatDetector(), FlatDetector()
    fresh = find_landmarks(paths, first, LandmarkCache(tmp_path / "cache", first), lambda *call: calls.append(call))
    again = find_landmarks(paths, second, LandmarkCache(tmp_path / "cache", second))
    assert (first.seen, second.seen) == (12, 0)
    assert (fresh.detected, again.detected) == (12, 0)
    assert (calls[0], calls[-1]) == (("landmarks", 0, 12), ("landmarks", 12, 12))
    for one, other in zip(fresh.landmarks, again.landmarks, strict=True):
        assert (one.ok, one.reason, one.score) == (other.ok, other.reason, other.score)
        if one.five is not None and one.mask is not None:
            assert np.array_equal(one.five, other.five)
            assert np.array_equal(one.mask, other.mask)
    assert [item.reason for item in again.landmarks if not item.ok] == ["it is black"]


def test_find_landmarks__keyed_by_bytes_and_detector(tmp_path: Path) -> None:
    folder = write_world(tmp_path / "data")
    paths = LfwDataset(tmp_path / "data").paths
    find_landmarks(paths, FlatDetector(), LandmarkCache(tmp_path / "cache", FlatDetector()))
    changed = FlatDetector()
    write_image(folder / "A_Red" / "A_Red_0001.png", flat((9, 9, 9)))
    find_landmarks(paths, changed, LandmarkCache(tmp_path / "cache", changed))
    assert changed.seen == 1
    newer = FlatDetector()
    newer.version = "2"
    find_landmarks(paths, newer, LandmarkCache(tmp_path / "cache", newer))
    assert newer.seen == 12


def test_find_landmarks__same_bytes_looked_at_once(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / name, flat((1, 2, 3)))
    detector = FlatDetector()
    found = find_landmarks(
        [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "a.png"],
        detector,
        LandmarkCache(tmp_path / "cache", detector),
    )
    assert detector.seen == 1
    assert len(found.landmarks) == 3


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "shapes", "empty", "npy"])
def test_cache__damaged_file_counts_as_empty(tmp_path: Path, damage: str) -> None:
    write_world(tmp_path / "data")
    paths = LfwDataset(tmp_path / "data").paths
    cache = LandmarkCache(tmp_path / "cache", FlatDetector())
    find_landmarks(paths, FlatDetector(), cache)
    blob = cache.path.read_bytes()
    if damage == "truncated":
        cache.path.write_bytes(blob[: len(blob) // 2])
    elif damage == "flipped":
        # The first byte of what is compressed: no block begins so, which zlib says in a way of its own.
        with zipfile.ZipFile(cache.path) as archive:
            header = archive.getinfo("five.npy").header_offset
        place = header + 30 + sum(struct.unpack("<HH", blob[header + 26 : header + 30]))
        cache.path.write_bytes(blob[:place] + b"\xff" + blob[place + 1 :])
        with pytest.raises(zlib.error), np.load(cache.path) as file:
            file["five"]
    elif damage == "foreign":
        cache.path.write_text("hello")
    elif damage == "npy":
        np.save(tmp_path / "a.npy", np.zeros(3))
        (tmp_path / "a.npy").replace(cache.path)
    elif damage == "empty":
        cache.path.write_bytes(b"")
    else:
        with np.load(cache.path) as file:
            arrays = dict(file)
        np.savez(cache.path, **(arrays | {"five": arrays["five"][:3]}))
    detector = FlatDetector()
    find_landmarks(paths, detector, LandmarkCache(tmp_path / "cache", detector))
    assert detector.seen == 12
    assert len(LandmarkCache(tmp_path / "cache", detector)) == 12


class Interrupted(FlatDetector):
    """Broken off at the second batch."""

    def detect(self, photos: Sequence[UInt8Array]) -> list[Landmarks]:
        if self.seen:
            raise KeyboardInterrupt
        return super().detect(photos)


def test_find_landmarks__interrupt_keeps_what_was_found(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(20)]
    for number, path in enumerate(paths):
        write_image(path, flat((1 + number, 5, 5)))
    with pytest.raises(KeyboardInterrupt):
        find_landmarks(paths, Interrupted(), LandmarkCache(tmp_path / "cache", Interrupted()))
    assert len(LandmarkCache(tmp_path / "cache", Interrupted())) == 16


KILLED = """
import os, signal, sys
from pathlib import Path
from protocols import LandmarkCache, find_landmarks, landmark_cache
from tests.protocols.worlds import FlatDetector

landmark_cache.SAVE_EVERY_S = 0.0

class Killed(FlatDetector):
    def detect(self, photos):
        if self.seen == 32:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().detect(photos)

root = Path(sys.argv[1])
find_landmarks(sorted(root.glob("*.png")), Killed(), LandmarkCache(root / "cache", Killed()))
"""


def test_find_landmarks__kill_9_leaves_a_cache_that_goes_on(tmp_path: Path) -> None:
    for number in range(40):
        write_image(tmp_path / f"{number:02d}.png", flat((1 + number, 5, 5)))
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=ROOT, check=False)
    assert done.returncode == -9
    detector = FlatDetector()
    found = find_landmarks(sorted(tmp_path.glob("*.png")), detector, LandmarkCache(tmp_path / "cache", detector))
    assert detector.seen == 8
    assert all(item.ok for item in found.landmarks)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["landmarks-flat-1-1.npz"]


def test_find_landmarks__truncated_picture_is_a_result_that_names_it(tmp_path: Path) -> None:
    for name in ("a", "whole"):
        write_image(tmp_path / f"{name}.jpg", flat((5, 5, 5)))
    path = tmp_path / "a.jpg"
    path.write_bytes(path.read_bytes()[:200])
    paths = [path, tmp_path / "whole.jpg"]
    found = find_landmarks(paths, FlatDetector(), LandmarkCache(tmp_path / "cache", FlatDetector())).landmarks
    assert [item.ok for item in found] == [False, True]
    assert "a.jpg" in found[0].reason


def test_find_landmarks__missing_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"b\.jpg: cannot be read"):
        find_landmarks([tmp_path / "b.jpg"], FlatDetector(), LandmarkCache(tmp_path / "cache", FlatDetector()))
