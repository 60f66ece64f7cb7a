"""Folders of pictures and stores of prepared faces."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from maskfix.base import DatasetError, InputError, arcface_layout, canonical_layout
from maskfix.data import list_pictures, open_store, whole_photographs, write_layout


class TestListPictures:
    def test_sorted_to_any_depth(self, tmp_path: Path) -> None:
        names = ["b.JPG", "a/z.png", "a/b/c.jpeg", "d.webp", "e.bmp", "f.tif", "g.tiff"]
        for name in [*names, "notes.txt", "a/.hidden.jpg", "jpg", "h.npy"]:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        (tmp_path / "folder.jpg").mkdir()
        found = list_pictures(str(tmp_path))
        assert found == sorted(tmp_path / name for name in names)

    def test_missing(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").touch()
        for path in (tmp_path / "nowhere", tmp_path / "a.jpg"):
            with pytest.raises(DatasetError, match=f"{path}: no such folder; pass the folder that holds the pictures"):
                list_pictures(path)

    def test_empty(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").touch()
        with pytest.raises(DatasetError, match=r"no pictures \(\.jpg, .*\) in this folder"):
            list_pictures(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two faces of three pictures; one name looks like a number, one like a missing value."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "crops.npy", rng.integers(0, 256, (2, 16, 16, 3), dtype=np.uint8))
    np.save(tmp_path / "points.npy", rng.random((2, 6, 2), dtype=np.float32))
    np.save(tmp_path / "correspondence.npy", rng.integers(0, 256, (2, 16, 16, 2), dtype=np.uint8))
    np.save(tmp_path / "frames.npy", rng.random((2, 4, 2), dtype=np.float32))
    records = {"image": ["001", "bad.jpg", "NA"], "ok": [True, False, True], "reason": ["", "no face found", ""]}
    pd.DataFrame(records).to_csv(tmp_path / "records.csv", index=False)
    write_layout(tmp_path, canonical_layout(16))
    return tmp_path


class TestOpenStore:
    def test_whole(self, store: Path) -> None:
        opened = open_store(str(store))
        assert (len(opened), opened.size, opened.names) == (2, 16, ("001", "NA"))
        for name in ("crops", "points", "correspondence", "frames"):
            array = getattr(opened, name)
            np.testing.assert_array_equal(array, np.load(store / f"{name}.npy"))
            assert isinstance(array, np.memmap), "a store is larger than the memory"
            assert not array.flags.writeable

    def test_missing_files(self, store: Path) -> None:
        (store / "points.npy").unlink()
        (store / "records.csv").unlink()
        with pytest.raises(DatasetError, match=r"points\.npy, records\.csv missing; make it with: maskfix prepare"):
            open_store(store)
        with pytest.raises(DatasetError, match=r"crops\.npy, points\.npy, .*, records\.csv, layout\.json missing"):
            open_store(store / "nowhere")

    @pytest.mark.parametrize("name", ["crops.npy", "points.npy", "correspondence.npy", "frames.npy"])
    @pytest.mark.parametrize("keep", [0, 40, 180])
    def test_damaged_array(self, store: Path, name: str, keep: int) -> None:
        (store / name).write_bytes((store / name).read_bytes()[:keep])
        with pytest.raises(DatasetError, match=r"damaged array \(.*\); run maskfix prepare again"):
            open_store(store)

    @pytest.mark.parametrize(
        "text",
        ["", "image,reason\na.jpg,\n", "image,ok,reason\na.jpg,perhaps,\n", 'image,ok,reason\n"a.jpg,True,\nb', "\0\0"],
    )
    def test_damaged_records(self, store: Path, text: str) -> None:
        (store / "records.csv").write_text(text)
        with pytest.raises(DatasetError, match=r"damaged records\.csv \(.*\); run maskfix prepare again"):
            open_store(store)

    @pytest.mark.parametrize("name", ["crops", "points", "correspondence", "frames"])
    def test_files_that_disagree(self, store: Path, name: str) -> None:
        array = np.load(store / f"{name}.npy")
        np.save(store / f"{name}.npy", array[:1])
        with pytest.raises(DatasetError, match="disagree on the number of faces; run maskfix prepare again"):
            open_store(store)

    @pytest.mark.parametrize(
        ("name", "array"),
        [
            ("crops", np.zeros((2, 16, 12, 3), np.uint8)),
            ("crops", np.zeros((2, 16), np.uint8)),
            ("crops", np.zeros((2, 16, 16, 3), np.float32)),
            ("points", np.zeros((2, 5, 2), np.float32)),
            ("points", np.zeros((2, 6, 2), np.float64)),
            ("correspondence", np.zeros((2, 8, 8, 2), np.uint8)),
            ("frames", np.zeros((2, 2, 2), np.float32)),
        ],
    )
    def test_arrays_of_another_kind(self, store: Path, name: str, array: np.ndarray) -> None:
        np.save(store / f"{name}.npy", array)
        with pytest.raises(DatasetError, match=r"\.npy holds \(2, .*, not of these faces; run maskfix prepare again"):
            open_store(store)

    def test_known_by_its_records(self, store: Path) -> None:
        text = (store / "records.csv").read_bytes()
        assert open_store(store).sha256 == hashlib.sha256(text).hexdigest()

    def test_other_layout(self, store: Path) -> None:
        write_layout(store, arcface_layout(16))
        with pytest.raises(DatasetError, match=r"not in this version's layout 'canonical_16'; run maskfix"):
            open_store(store)

    def test_other_points_of_the_same_name(self, store: Path) -> None:
        layout = canonical_layout(16)
        points = ((0.0, 0.0), *layout.points[1:])
        write_layout(store, dataclasses.replace(layout, points=points))
        with pytest.raises(DatasetError, match="not in this version's layout"):
            open_store(store)

    @pytest.mark.parametrize("text", ["", "{", "[]"])
    def test_damaged_layout(self, store: Path, text: str) -> None:
        (store / "layout.json").write_text(text)
        with pytest.raises(DatasetError, match=r"layout.*run maskfix prepare again"):
            open_store(store)


class TestWholePhotographs:
    @pytest.mark.parametrize("angle", [0.0, 0.3, -0.7])
    def test_against_opencv(self, angle: float) -> None:
        """Whole where every corner of the crop lies in the photograph's quadrilateral."""
        rng = np.random.default_rng(1)
        size, turn = 32, np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        square = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        half, middles = rng.uniform(14, 34, (60, 1, 2)), 15.5 + rng.normal(0, 2, (60, 1, 2))
        frames = ((square * half) @ turn.T + middles).astype(np.float32)
        corners = [(-0.5, -0.5), (31.5, -0.5), (31.5, 31.5), (-0.5, 31.5)]
        expected = [min(cv2.pointPolygonTest(frame, corner, True) for corner in corners) for frame in frames]
        assert 5 < (np.array(expected) > 0).sum() < 55
        np.testing.assert_array_equal(whole_photographs(frames, size), np.array(expected) > 0)

    def test_shape(self) -> None:
        with pytest.raises(InputError, match=r"frames: expected shape \(\*, 4, 2\)"):
            whole_photographs(np.zeros((4, 2)), 32)
