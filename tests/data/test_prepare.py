"""`prepare_faces` from photographs to a store: whole, resumed, refused."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from maskfix.align import LandmarkDetector, load_detector
from maskfix.base import (
    DatasetError,
    InputError,
    MaskfixError,
    UInt8Array,
    read_image,
    write_image,
)
from maskfix.data import FaceStore, decode_correspondence, held_out, open_store
from maskfix.train import prepare
from maskfix.train.prepare import prepare_face, prepare_faces

pytest.importorskip("mediapipe", reason="mediapipe is not installed: nothing prepares faces")
FACES = ("a/head.png", "tight.png")
NAMES = ("a/head.png", "blank.png", "half.jpg", "tight.png")
SIZE = 64


@pytest.fixture(scope="module")
def detector() -> LandmarkDetector:
    return load_detector("mesh")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory, astronaut: UInt8Array) -> Path:
    """Two cuts of one face, a blank picture, a truncated file, and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    write_image(folder / "a" / "head.png", astronaut[:300, 80:380])
    write_image(folder / "tight.png", astronaut[60:185, 165:285])
    write_image(folder / "blank.png", np.full((120, 90, 3), 200, np.uint8))
    write_image(folder / "half.jpg", astronaut[:100, :100])
    (folder / "half.jpg").write_bytes((folder / "half.jpg").read_bytes()[:900])
    (folder / "list.txt").write_text("no picture")
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> tuple[Path, pd.DataFrame]:
    """The one run that goes through worker processes as users' runs do."""
    out = tmp_path_factory.mktemp("work") / "new" / "store"
    return out, prepare_faces(pictures, out, size=SIZE, workers=1)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch, detector: LandmarkDetector) -> None:
    """No processes where a test is not about them: each costs seconds of imports."""
    monkeypatch.setattr(prepare, "_DETECTOR", detector)
    monkeypatch.setattr(prepare, "in_processes", lambda work, jobs, _: map(work, jobs))


def files(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones as well."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Deadly:
    """Ends the process that receives it."""

    def __reduce__(self) -> Any:
        return os._exit, (9,)


class TestPrepareFaces:
    def test_a_record_for_every_picture(self, prepared: tuple[Path, pd.DataFrame], pictures: Path) -> None:
        out, records = prepared
        assert records["image"].tolist() == list(NAMES)
        assert records["ok"].tolist() == [True, False, False, True]
        assert records["reason"].tolist()[::3] == ["", ""]
        assert records["reason"][1] == "no face found"
        assert records["reason"][2].startswith(f"{pictures / 'half.jpg'}: truncated or damaged picture")
        hashes = [hashlib.sha256((pictures / name).read_bytes()).hexdigest() for name in NAMES]
        assert records["sha256"].tolist() == hashes
        stored = pd.read_csv(out / "records.csv", keep_default_na=False)
        pd.testing.assert_frame_equal(stored, records, check_dtype=False)

    def test_nothing_else_is_left(self, prepared: tuple[Path, pd.DataFrame]) -> None:
        assert sorted(os.listdir(prepared[0])) == [
            "correspondence.npy",
            "crops.npy",
            "frames.npy",
            "layout.json",
            "points.npy",
            "records.csv",
        ]

    def test_arrays(self, prepared: tuple[Path, pd.DataFrame], pictures: Path, detector: LandmarkDetector) -> None:
        store = open_store(prepared[0])
        assert store.names == FACES
        assert (store.crops.dtype, store.points.dtype, store.correspondence.dtype) == (np.uint8, np.float32, np.uint8)
        assert store.crops.shape == (2, SIZE, SIZE, 3)
        for i, name in enumerate(FACES):
            photo = read_image(pictures / name)
            [found] = detector.detect([photo])
            arrays = (store.crops, store.points, store.correspondence, store.frames)
            for stored, expected in zip(arrays, prepare_face(photo, found, SIZE), strict=True):
                np.testing.assert_array_equal(stored[i], expected)

    def test_two_cuts_of_one_face_are_alike(self, prepared: tuple[Path, pd.DataFrame]) -> None:
        """The same pixels lie in the same places, and so do points and correspondence."""
        store: FaceStore = open_store(prepared[0])
        inner = slice(12, 52)
        crops = store.crops.astype(int)[:, inner, inner]
        assert np.abs(crops[0] - crops[1]).mean() < 8
        assert np.linalg.norm(store.points[0] - store.points[1], axis=1).max() < 3
        (one, seen), (two, also) = (decode_correspondence(coded) for coded in store.correspondence)
        assert (seen == also).mean() > 0.97
        assert np.abs(one - two)[seen & also].mean() < 0.02

    def test_second_run_gives_the_same(
        self, prepared: tuple[Path, pd.DataFrame], pictures: Path, in_process: None
    ) -> None:
        out, records = prepared
        before = files(out)
        pd.testing.assert_frame_equal(prepare_faces(pictures, out, size=SIZE), records)
        assert files(out) == before

    def test_killed_run_continues(
        self,
        prepared: tuple[Path, pd.DataFrame],
        pictures: Path,
        tmp_path: Path,
        in_process: None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(prepare, "_CHUNK", 1)
        seen: list[int] = []

        def stop_after_two(done: Iterable[int], total: int) -> Iterator[int]:
            assert total == 4
            for count in done:
                yield count
                seen.append(count)
                if len(seen) == 2:
                    raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            prepare_faces(pictures, tmp_path, size=SIZE, track=stop_after_two)  # type: ignore[arg-type]
        assert sorted(files(tmp_path)) == ["parts/00000.npz", "parts/00001.npz", "parts/source.txt"]
        left: list[int] = []

        def count_jobs(done: Iterable[int], total: int) -> Iterable[int]:
            left.append(total)
            return done

        records = prepare_faces(pictures, tmp_path, size=SIZE, track=count_jobs)
        assert left == [2], "finished parts must not be made again"
        pd.testing.assert_frame_equal(records, prepared[1])
        assert files(tmp_path) == files(prepared[0])

    @pytest.mark.parametrize("content", [b"", b"half", "other columns"])
    def test_damaged_parts_are_made_again(
        self,
        prepared: tuple[Path, pd.DataFrame],
        pictures: Path,
        tmp_path: Path,
        in_process: None,
        monkeypatch: pytest.MonkeyPatch,
        content: bytes | str,
    ) -> None:
        """Of a power cut, and of a version before this one."""
        with monkeypatch.context() as patch:
            patch.setattr(prepare, "_collect", lambda *_: pd.DataFrame())
            prepare_faces(pictures, tmp_path, size=SIZE)
        [part] = (tmp_path / "parts").glob("*.npz")
        if isinstance(content, str):
            with np.load(part) as arrays:
                np.savez(part, **{**arrays, "rows": arrays["rows"][:, :3]})
        else:
            part.write_bytes(part.read_bytes()[:5000] if content else content)
        pd.testing.assert_frame_equal(prepare_faces(pictures, tmp_path, size=SIZE), prepared[1])
        assert files(tmp_path) == files(prepared[0])

    def test_killed_while_a_store_is_replaced__it_is_none(
        self, pictures: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_image(tmp_path / "one" / "a.png", read_image(pictures / "tight.png"))
        write_image(tmp_path / "two" / "a.png", read_image(pictures / "tight.png"))
        write_image(tmp_path / "two" / "b.png", read_image(pictures / "tight.png")[:, ::-1])
        out = tmp_path / "out"
        prepare_faces(tmp_path / "one", out, size=SIZE)
        replaced = prepare.replacing

        def killed(path: Path) -> Any:
            if path.name == "points.npy":
                raise KeyboardInterrupt
            return replaced(path)

        with monkeypatch.context() as patch:
            patch.setattr(prepare, "replacing", killed)
            with pytest.raises(KeyboardInterrupt):
                prepare_faces(tmp_path / "two", out, size=SIZE)
        with pytest.raises(DatasetError, match=r"records\.csv missing"):
            open_store(out)
        prepare_faces(tmp_path / "two", out, size=SIZE)
        assert len(open_store(out)) == 2

    @pytest.mark.parametrize("name", ["a.png", "b.png"], ids=["other pixels", "another name"])
    def test_store_of_other_pictures_is_refused(
        self, pictures: Path, tmp_path: Path, in_process: None, name: str
    ) -> None:
        write_image(tmp_path / "one" / "a.png", read_image(pictures / "tight.png"))
        write_image(tmp_path / "two" / name, read_image(pictures / "tight.png")[:, ::-1])
        out = tmp_path / "out"
        prepare_faces(tmp_path / "one", out, size=SIZE)
        before = files(out)
        with pytest.raises(DatasetError, match=r"holds 1 other pictures, such as a\.png, which would be lost; choose"):
            prepare_faces(tmp_path / "two", out, size=SIZE)
        assert files(out) == before
        prepare_faces([tmp_path / "one", tmp_path / "two"], out, size=SIZE)
        assert open_store(out).names == ("a.png", f"two/{name}")
        (out / "records.csv").unlink()
        prepare_faces(tmp_path / "two", out, size=SIZE)
        assert open_store(out).names == (name,)

    def test_several_folders(
        self, prepared: tuple[Path, pd.DataFrame], pictures: Path, tmp_path: Path, in_process: None
    ) -> None:
        """A folder that is added leaves the names of the first alone, and comes after it."""
        more = tmp_path / "more"
        write_image(more / "tight.png", read_image(pictures / "tight.png"))
        records = prepare_faces([pictures, more], tmp_path / "out", size=SIZE)
        assert records["image"].tolist() == [*NAMES, "more/tight.png"]
        store = open_store(tmp_path / "out")
        np.testing.assert_array_equal(store.crops[1], store.crops[2])

    def test_two_pictures_of_one_name(self, tmp_path: Path) -> None:
        for name in ("a/b/1.png", "c/b/1.png"):
            (tmp_path / name).parent.mkdir(parents=True)
            (tmp_path / name).touch()
        folders = [tmp_path / "a", tmp_path / "c" / "b"]
        with pytest.raises(DatasetError, match=r"c/b/1\.png: would be called b/1\.png as .*a/b/1\.png is; rename one"):
            prepare_faces(folders, tmp_path / "out")
        assert not list((tmp_path / "out").rglob("*.npz"))

    @pytest.mark.parametrize("change", ["size", "folder", "name"])
    def test_parts_of_another_run_are_refused(
        self, pictures: Path, tmp_path: Path, in_process: None, monkeypatch: pytest.MonkeyPatch, change: str
    ) -> None:
        images, out = tmp_path / "images", tmp_path / "out"
        for name in FACES:
            write_image(images / name, read_image(pictures / name))
        monkeypatch.setattr(prepare, "_collect", lambda *_: pd.DataFrame())
        prepare_faces(images, out, size=SIZE)
        before = files(out)
        if change == "name":
            (images / "tight.png").rename(images / "0.png")
        other = pictures if change == "folder" else images
        with pytest.raises(DatasetError, match="holds unfinished parts of other pictures; remove the folder or choose"):
            prepare_faces(other, out, size=32 if change == "size" else SIZE)
        assert files(out) == before

    def test_parts_that_nobody_claims_are_refused(self, pictures: Path, tmp_path: Path, in_process: None) -> None:
        (tmp_path / "parts").mkdir()
        for name in ("00000.npz", "drawing.dxf"):
            (tmp_path / "parts" / name).write_text("my own")
            with pytest.raises(DatasetError, match="maskfix keeps unfinished parts there, and these are none; choose"):
                prepare_faces(pictures, tmp_path, size=SIZE)
            assert files(tmp_path) == {f"parts/{name}": b"my own"}
            (tmp_path / "parts" / name).unlink()

    def test_what_a_user_put_beside_the_parts_stays(self, pictures: Path, tmp_path: Path, in_process: None) -> None:
        def put(done: Iterable[int], total: int) -> Iterable[int]:
            (tmp_path / "parts" / "model.npz").write_text("my own")
            return done

        prepare_faces(pictures, tmp_path, size=SIZE, track=put)
        assert [path.name for path in (tmp_path / "parts").iterdir()] == ["model.npz"]

    def test_killed_while_parts_are_removed__they_stay_claimed(
        self,
        prepared: tuple[Path, pd.DataFrame],
        pictures: Path,
        tmp_path: Path,
        in_process: None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        unlink = Path.unlink

        def killed(path: Path, missing_ok: bool = False) -> None:
            if path.name == "source.txt":
                raise KeyboardInterrupt
            unlink(path, missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", killed)
            with pytest.raises(KeyboardInterrupt):
                prepare_faces(pictures, tmp_path, size=SIZE)
        assert [path.name for path in (tmp_path / "parts").iterdir()] == ["source.txt"]
        prepare_faces(pictures, tmp_path, size=SIZE)
        assert files(tmp_path) == files(prepared[0])

    def test_leftovers_of_a_killed_run_are_removed(self, pictures: Path, tmp_path: Path, in_process: None) -> None:
        left = [tmp_path / ".crops.maskfix-0123456789ab.npy", tmp_path / "parts" / ".00000.maskfix-0123456789ab.npz"]
        for path in left:
            path.parent.mkdir(exist_ok=True)
            path.touch()
        prepare_faces(pictures, tmp_path, size=SIZE)
        assert not any(path.exists() for path in left)

    @pytest.mark.skipif(sys.platform != "linux", reason="file names are no bytes here")
    def test_name_that_is_no_utf8(self, pictures: Path, tmp_path: Path, in_process: None) -> None:
        """It is kept as it is, in a folder of such a name too, and is held out or not as ever."""
        name = os.fsdecode(b"caf\xe9.png")
        images = tmp_path / os.fsdecode(b"\xff")
        write_image(tmp_path / "a.png", read_image(pictures / "tight.png"))
        images.mkdir()
        (tmp_path / "a.png").rename(images / name)
        records = prepare_faces(images, tmp_path / "out", size=SIZE)
        assert records["image"].tolist() == [name]
        assert open_store(tmp_path / "out").names == (name,)
        assert held_out([name], 1.0).tolist() == [True]

    def test_fewer_workers_than_one(self, pictures: Path, tmp_path: Path) -> None:
        for workers in (0, -1):
            with pytest.raises(InputError, match="workers"):
                prepare_faces(pictures, tmp_path, workers=workers)

    def test_dead_worker_is_told(self) -> None:
        """Nobody waits for what a process will not do any more."""
        with pytest.raises(MaskfixError, match="a worker process died, perhaps for want of memory"):
            list(prepare.in_processes(prepare._prepare_chunk, [Deadly()], 1))  # type: ignore[list-item]

    @pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size to be set here")
    def test_full_disk_is_told(self, prepared: tuple[Path, pd.DataFrame], pictures: Path, tmp_path: Path) -> None:
        """An error, and no signal, in a process that may write no file beyond what the parts take."""
        code = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from maskfix.train import prepare
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
parts = Path(sys.argv[1]) / "parts"
parts.mkdir()
arrays = {"crops": np.zeros((9, 64, 64, 3), np.uint8), "points": np.zeros((9, 6, 2), np.float32)}
arrays |= {"correspondence": np.zeros((9, 64, 64, 2), np.uint8), "frames": np.zeros((9, 4, 2), np.float32)}
np.savez(parts / "00000.npz", **arrays, rows=np.array([("a", True, "", "")] * 9))
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    prepare._collect(Path(sys.argv[1]), parts, 1, 64)
except OSError as error:
    print("OSError", error)
"""
        ran = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout[:7]) == (0, "OSError")
        assert sorted(files(tmp_path)) == ["parts/00000.npz"]

    def test_no_face_at_all(self, tmp_path: Path, in_process: None) -> None:
        write_image(tmp_path / "images" / "blank.png", np.full((90, 90, 3), 9, np.uint8))
        with pytest.raises(DatasetError, match="no face found in any of 1 pictures; are these photographs of faces"):
            prepare_faces(tmp_path / "images", tmp_path / "out", size=SIZE)
        assert files(tmp_path / "out") == {}

    def test_missing_folder_leaves_nothing(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="no such folder"):
            prepare_faces(tmp_path / "nowhere", tmp_path / "out")
        assert os.listdir(tmp_path) == []
