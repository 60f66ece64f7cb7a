"""What is one face: same bytes and same points, whatever the file is called."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from protocols.ijb import find_units, hashes
from protocols.ijb.hashes import cache_path, hash_files
from protocols.ijb.units import make_job
from tests.protocols.ijb.small import ROWS, read_small


def test_units__copies_share_one_and_sides_are_known(tmp_path: Path) -> None:
    data = read_small(tmp_path)
    units = find_units(data, tmp_path / "cache")
    # g1 g2 g3 g4 p1 p2 p3 p4 (p5 is a copy) g3 again, p6 twice.
    assert units.row.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7, 2, 8, 8]
    assert units.image.tolist() == [f"{name}.png" for name in ("g1", "g2", "g3", "g4", "p1", "p2", "p3", "p4", "p6")]
    assert units.gallery.tolist() == [True] * 4 + [False] * 5
    assert units.probe.tolist() == [False, False, True, False, True, True, True, True, True]
    assert [units.row[row] for row in units.order] == sorted(units.row.tolist())
    assert units.order[units.start[2] : units.start[3]].tolist() == [2, 9]
    assert units.start[-1] == len(ROWS)
    content = (tmp_path / "loose_crop" / "p5.png").read_bytes()
    assert units.digest[7].tobytes() == hashlib.sha256(content).digest()


def test_units__other_points_or_box_are_another_face(tmp_path: Path) -> None:
    data = read_small(tmp_path)
    points = data.rows.points.copy()
    points[8, 2, 0] += 1
    moved = data._replace(rows=data.rows._replace(points=points))
    assert find_units(moved, tmp_path / "cache").row.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 2, 9, 9]
    box = np.tile(np.array([1, 2, 30, 40], np.float32), (len(ROWS), 1))
    box[9, 3] = 41
    boxed = data._replace(rows=data.rows._replace(points=np.full_like(points, np.nan), box=box))
    assert find_units(boxed, tmp_path / "cache").row.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 9]


def test_job__last_block_is_short(tmp_path: Path) -> None:
    data = read_small(tmp_path)
    units = find_units(data, tmp_path / "cache")
    job = make_job(units, data.pictures, 2, 4)
    assert job.paths == (str(tmp_path / "loose_crop" / "p6.png"),)
    assert job.probe.tolist() == [True]
    assert np.isnan(job.box).all()


def test_hashes__files_are_read_once(tmp_path: Path) -> None:
    crops = tmp_path / "pictures"
    crops.mkdir()
    names = ["b.jpg", "a.jpg", "gone.jpg"]
    for name in names[:2]:
        (crops / name).write_bytes(name.encode())
    told: list[tuple[str, int, int]] = []
    first = hash_files(crops, names, tmp_path / "cache", lambda *words: told.append(words))
    assert [row.tobytes() for row in first[:2]] == [hashlib.sha256(name.encode()).digest() for name in names[:2]]
    assert told == [("hashes", 0, 3), ("hashes", 3, 3)]
    # A file that is not there is asked for again; the others are not read.
    told.clear()
    (crops / "gone.jpg").write_bytes(b"here")
    second = hash_files(crops, names, tmp_path / "cache", lambda *words: told.append(words))
    assert told[-1] == ("hashes", 1, 1)
    assert (second[:2] == first[:2]).all()
    assert second[2].tobytes() == hashlib.sha256(b"here").digest()
    assert len({row.tobytes() for row in first}) == 3
    told.clear()
    hash_files(crops, names, tmp_path / "cache", lambda *words: told.append(words))
    assert told == []


def test_hashes__changed_file_and_damaged_cache(tmp_path: Path) -> None:
    crops = tmp_path / "pictures"
    crops.mkdir()
    path = crops / "a.jpg"
    path.write_bytes(b"one")
    hash_files(crops, ["a.jpg"], tmp_path)
    path.write_bytes(b"three")
    changed = hashlib.sha256(b"three").digest()
    assert hash_files(crops, ["a.jpg"], tmp_path)[0].tobytes() == changed
    # As long as before: its time alone tells.
    path.write_bytes(b"seven")
    os.utime(path, ns=(0, 0))
    changed = hashlib.sha256(b"seven").digest()
    assert hash_files(crops, ["a.jpg"], tmp_path)[0].tobytes() == changed
    cache_path(crops, tmp_path).write_bytes(b"no archive")
    assert hash_files(crops, ["a.jpg"], tmp_path)[0].tobytes() == changed
    np.savez(cache_path(crops, tmp_path), name=np.array(["a.jpg"]), stamp=np.zeros(3), sha256=np.zeros((1, 31)))
    assert hash_files(crops, ["a.jpg"], tmp_path)[0].tobytes() == changed


def test_hashes__killed_run_keeps_what_it_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crops = tmp_path / "pictures"
    crops.mkdir()
    names = ["a.jpg", "b.jpg", "c.jpg"]
    for name in names:
        (crops / name).write_bytes(name.encode())
    monkeypatch.setattr(hashes, "SAVE_EVERY_S", 0)
    monkeypatch.setattr(hashes, "_AT_ONCE", 1)

    def break_off(stage: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hash_files(crops, names, tmp_path, break_off)
    told: list[int] = []
    hash_files(crops, names, tmp_path, lambda stage, done, total: told.append(total))
    assert told[0] == 2  # the first one was saved
