"""`maskfix complete`: what is written, what is left alone, and what a killed run leaves behind."""

from __future__ import annotations

import csv
import os
import pickle
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from maskfix.base import FloatArray, InputError, MaskfixError, UInt8Array, processes, read_image, write_image
from maskfix.cli import complete as module
from maskfix.cli import saving
from maskfix.cli.complete import NOTE, CompleteSettings, run_complete
from maskfix.cli.faces import FaceFinder
from maskfix.deocclude import Deoccluder
from tests.cli.random_networks import called, save_random_weights


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return {bias: save_random_weights(folder, bias) for bias in (20, -20)}


@pytest.fixture(scope="module")
def finder() -> FaceFinder:
    return FaceFinder()


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch: pytest.MonkeyPatch, finder: FaceFinder) -> None:
    monkeypatch.setattr(module, "FaceFinder", lambda *_: finder)


@pytest.fixture(scope="module")
def face(astronaut: UInt8Array) -> UInt8Array:
    return np.ascontiguousarray(astronaut[20:220, 120:320])


@pytest.fixture
def tree(tmp_path: Path, face: UInt8Array) -> Path:
    """A folder with a portrait, a group two folders down, a picture without a face, half a picture, and a text."""
    folder = tmp_path / "in"
    write_image(folder / "a.png", face)
    write_image(folder / "x" / "y" / "two.JPG", np.concatenate([face, face[:, ::-1]], axis=1))
    write_image(folder / "x" / "grey.png", np.full((80, 80, 3), 90, np.uint8))
    whole = (folder / "a.png").read_bytes()
    (folder / "x" / "half.png").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no picture")
    return folder


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def run(source: object, out: Path, weights: Path, **more: Any) -> int:
    inputs = [str(item) for item in source] if isinstance(source, list) else [str(source)]
    return run_complete(inputs, out, CompleteSettings(weights=str(weights), device="cpu"), **more)


class TestFolder:
    def test_tree_is_mirrored_and_failures_are_told(
        self, tree: Path, weights: dict[int, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tree.parent / "out"
        assert called(monkeypatch, "complete", tree, out, "--weights", weights[20], "--device", "cpu") == 1
        shown = capsys.readouterr()
        assert files(out) == [NOTE, "a.png", "failures.csv", "x/y/two.JPG"]
        assert shown.out.splitlines() == [
            "2 pictures completed; 3 of 3 faces completed",
            f"no face on 1 picture, 1 unreadable: nothing written for them, see {out / 'failures.csv'}",
        ]
        assert "4/4" in shown.err
        rows = list(csv.reader((out / "failures.csv").open(encoding="utf-8")))
        assert [row[:2] for row in rows[1:]] == [
            [str(tree / "x" / "grey.png"), "no face"],
            [str(tree / "x" / "half.png"), "unreadable"],
        ]
        assert "truncated or damaged" in rows[2][2]

    def test_every_face_is_completed_in_place(
        self, tree: Path, weights: dict[int, Path], finder: FaceFinder, face: UInt8Array
    ) -> None:
        out = tree.parent / "out"
        run(tree, out, weights[20])
        blind = Deoccluder.from_pretrained(weights[20], device="cpu")
        guess = finder.find(face)[:1]
        assert blind.reader is not None
        once = blind.restore(face, blind.reader.correct([face], guess)[0])
        [five] = blind.refine([face], guess, finder.find)
        expected = blind.restore(face, five)
        assert np.abs(once.astype(int) - expected).max() > 5
        got = read_image(out / "a.png")
        assert np.abs(got.astype(int) - expected).max() <= 2
        assert np.abs(got.astype(int) - face).mean() > 3
        both = read_image(tree / "x" / "y" / "two.JPG").astype(int)
        changed = np.abs(read_image(out / "x" / "y" / "two.JPG").astype(int) - both).max(-1) > 20
        assert changed[:, :200].mean() > 0.05
        assert changed[:, 200:].mean() > 0.05

    def test_unoccluded__copied_to_the_byte(self, tree: Path, weights: dict[int, Path]) -> None:
        out = tree.parent / "out"
        assert run(tree, out, weights[-20]) == 1
        for name in ("a.png", "x/y/two.JPG"):
            assert (out / name).read_bytes() == (tree / name).read_bytes()

    def test_always(self, tree: Path, weights: dict[int, Path]) -> None:
        out = tree.parent / "out"
        settings = CompleteSettings("always", weights=str(weights[-20]), device="cpu")
        run_complete([str(tree / "a.png"), str(tree / "x" / "y" / "two.JPG")], out, settings)
        # The network takes nothing for occluded, so no pixel changes; but the file is a new one.
        np.testing.assert_array_equal(read_image(out / "a.png"), read_image(tree / "a.png"))
        assert (out / "x" / "y" / "two.JPG").read_bytes() != (tree / "x" / "y" / "two.JPG").read_bytes()

    def test_unusable_pictures_do_not_stop_the_others(
        self,
        tmp_path: Path,
        weights: dict[int, Path],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        folder, out = tmp_path / "in", tmp_path / "out"
        strip = np.random.default_rng(0).integers(0, 256, (128, 33_000, 3), np.uint8)
        write_image(folder / "long.bmp", strip)
        two = [Image.fromarray(strip[:, start : start + 128]) for start in (0, 128)]
        old = folder / os.fsdecode(b"pages\xe9.tif")  # a name of an old archive, in Latin-1
        two[0].save(old, save_all=True, append_images=two[1:])
        two[0].save(folder / ("n" * 251 + ".bmp"))
        monkeypatch.setattr(module, "FaceFinder", lambda *_: OneFace())
        assert run(folder, out, weights[-20]) == 1
        assert files(out) == [NOTE, "failures.csv", "n" * 251 + ".bmp"]
        [_, long, pages] = csv.reader((out / "failures.csv").open(encoding="utf-8", errors="surrogateescape"))
        assert [*long[:2], *pages[:2]] == [str(folder / "long.bmp"), "unusable", str(old), "unusable"]
        assert long[2].startswith(f"{folder / 'long.bmp'}: photo: 33000x128 has a side of more than 32766 pixels")
        assert pages[2].startswith(f"{old}: animated or of several pages (2)")
        assert "\n2 unusable: nothing written for them, see" in capsys.readouterr().out

    def test_output_inside_the_input(self, tree: Path, weights: dict[int, Path]) -> None:
        out = tree / "out"
        for _ in range(2):
            run(tree, out, weights[-20])
            assert [name for name in files(out) if "out" in name] == []
            assert len(files(out)) == 4


class TestGoingOn:
    @pytest.fixture
    def worked(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
        """Names of the pictures that are worked on."""
        names: list[str] = []
        work = module.Networks.work

        def noted(self: Any, job: module.Job) -> module.Outcome:
            names.append(job.source.name)
            return work(self, job)

        monkeypatch.setattr(module.Networks, "work", noted)
        return names

    def test_what_is_there_is_not_made_again(
        self, tree: Path, weights: dict[int, Path], worked: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        out = tree.parent / "out"
        run(tree, out, weights[20])
        before = (out / "a.png").stat().st_mtime_ns
        worked.clear()
        run(tree, out, weights[20])
        # Failures are tried again, since pictures get replaced.
        assert sorted(worked) == ["grey.png", "half.png"]
        assert (out / "a.png").stat().st_mtime_ns == before
        assert "2 done before" in capsys.readouterr().out

    def test_newer_pictures_and_missing_counterparts_are(
        self, tree: Path, weights: dict[int, Path], worked: list[str]
    ) -> None:
        out = tree.parent / "out"
        run(tree, out, weights[20])
        later = (out / "a.png").stat().st_mtime_ns + 10**9
        os.utime(tree / "a.png", ns=(later, later))
        (out / "x" / "y" / "two.JPG").unlink()
        (tree / "x" / "grey.png").unlink()
        shutil.copy(tree / "a.png", tree / "x" / "half.png")
        worked.clear()
        assert run(tree, out, weights[20]) == 0
        assert sorted(worked) == ["a.png", "half.png", "two.JPG"]
        assert "failures.csv" not in files(out)

    def test_killed_while_writing__no_half_picture(
        self, tree: Path, weights: dict[int, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tree.parent / "out"
        save = saving.save_picture

        def killed(path: Path, *rest: Any) -> None:
            save(path, *rest)
            path.write_bytes(path.read_bytes()[:100])
            raise KeyboardInterrupt

        monkeypatch.setattr(saving, "save_picture", killed)
        with pytest.raises(KeyboardInterrupt):
            run(tree, out, weights[20])
        assert not (out / "a.png").exists()
        monkeypatch.setattr(saving, "save_picture", save)
        run(tree, out, weights[20])
        assert read_image(out / "a.png").shape == read_image(tree / "a.png").shape

    def test_killed_for_good__the_next_run_removes_what_is_left(self, tree: Path, weights: dict[int, Path]) -> None:
        out = tree.parent / "out"
        other, ours = ".half.of.somebody.png", "maskfix-0123456789ab"
        left = [f".half.{ours}.png", f".{Path(NOTE).stem}.{ours}.json", f".failures.{ours}.csv"]
        out.mkdir()
        for name in (*left, other):
            (out / name).touch()
        run([tree / "x" / "half.png"], Path(f"{out}{os.sep}"), weights[20])
        assert files(out) == [other, NOTE, "failures.csv"]
        # Of one file likewise.
        (out / left[0]).touch()
        run([tree / "a.png"], out / "half.png", weights[20])
        assert files(out) == [other, NOTE, "failures.csv", "half.png"]

    def test_other_settings_are_refused(self, tree: Path, weights: dict[int, Path], worked: list[str]) -> None:
        out = tree.parent / "out"
        run(tree, out, weights[20])
        with pytest.raises(InputError, match="out: holds pictures made with other settings; choose another folder or"):
            run(tree, out, weights[-20])
        worked.clear()
        run(tree, out, weights[-20], overwrite=True)
        assert len(worked) == 4
        assert (out / "a.png").read_bytes() == (tree / "a.png").read_bytes()

    def test_killed_while_overwriting__the_rest_counts_as_old(
        self, tree: Path, weights: dict[int, Path], worked: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tree.parent / "out"
        run(tree, out, weights[20])
        monkeypatch.setattr(module, "track", self.interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tree, out, weights[-20], overwrite=True)
        monkeypatch.setattr(module, "track", lambda stream, *_: list(stream))
        worked.clear()
        run(tree, out, weights[-20])
        assert (out / "x" / "y" / "two.JPG").read_bytes() == (tree / "x" / "y" / "two.JPG").read_bytes()
        assert "a.png" not in worked

    @staticmethod
    def interrupted(stream: Iterator[module.Outcome], *_: object) -> None:
        """Stands in for the progress bar: stops after the first picture."""
        assert next(stream).source.name == "a.png"
        raise KeyboardInterrupt

    def test_pictures_of_others_are_not_overwritten(self, tree: Path, weights: dict[int, Path]) -> None:
        out = tree.parent / "out"
        write_image(out / "a.png", np.full((8, 8, 3), 1, np.uint8))
        with pytest.raises(InputError, match=r"a\.png: is there and not from maskfix complete"):
            run(tree, out, weights[20])
        assert read_image(out / "a.png").shape == (8, 8, 3)

    def test_workers(self, tree: Path, weights: dict[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        """Threads stand in for the processes, each of which would load torch anew; what they are sent is pickled."""
        alone, together = tree.parent / "alone", tree.parent / "together"
        run(tree, alone, weights[20])

        def pool(workers: int, *, mp_context: Any, initializer: Any, initargs: Any) -> ThreadPoolExecutor:
            assert mp_context.get_start_method() == "spawn"
            return ThreadPoolExecutor(1, initializer=pickled(initializer), initargs=pickled(initargs))

        def submit(self: ThreadPoolExecutor, work: Any, job: Any) -> Any:
            return plain(self, lambda: pickled(pickled(work)(pickled(job))))

        plain = ThreadPoolExecutor.submit
        monkeypatch.setattr(processes, "ProcessPoolExecutor", pool)
        monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
        monkeypatch.setattr(module, "_NETWORKS", None)
        monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
        assert run(tree, together, weights[20], workers=2) == 1
        assert files(together) == files(alone)
        for name in ("a.png", "x/y/two.JPG"):
            np.testing.assert_array_equal(read_image(together / name), read_image(alone / name))

    def test_worker_dies(self, tree: Path, weights: dict[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object) -> Iterator[Any]:
            raise BrokenProcessPool("killed")
            yield

        monkeypatch.setattr(processes, "as_completed", broken)
        monkeypatch.setattr(processes, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
        monkeypatch.setattr(module, "_work", lambda job: None)
        with pytest.raises(MaskfixError, match=r"a worker process died, .* go on with fewer --workers"):
            run(tree, tree.parent / "out", weights[20], workers=2)


class OneFace:
    """A finder that sees a face at the left of every picture."""

    name = "one"

    def find_hidden(self, photo: UInt8Array, blind: Deoccluder) -> FloatArray:
        return np.asarray(blind.layout.array, np.float32)[None]

    def find(self, photo: UInt8Array) -> FloatArray:
        raise AssertionError("no face is occluded")


def pickled(value: Any) -> Any:
    """What arrives of a value in another process."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - our own


class TestOnePicture:
    def test_into_a_file(self, tree: Path, weights: dict[int, Path], capsys: pytest.CaptureFixture[str]) -> None:
        out = tree.parent / "deep" / "b.webp"
        assert run(tree / "a.png", out, weights[20]) == 0
        assert files(tree.parent / "deep") == ["b.webp"]
        assert Image.open(out).format == "WEBP"
        assert capsys.readouterr().out == f"written: {out}, 1 of 1 face completed\n"
        assert run(tree / "a.png", out, weights[-20], overwrite=True) == 0
        assert capsys.readouterr().out == f"written: {out}, a copy: no face is occluded\n"

    def test_into_a_file_that_is_there(self, tree: Path, weights: dict[int, Path]) -> None:
        out = tree.parent / "b.png"
        out.write_text("precious")
        with pytest.raises(InputError, match=r"b\.png: is there already; choose another name or --overwrite$"):
            run(tree / "a.png", out, weights[20])
        assert out.read_text() == "precious"

    def test_into_a_folder(self, tree: Path, weights: dict[int, Path]) -> None:
        out = tree.parent / "folder"
        assert run(tree / "a.png", Path(f"{out}{os.sep}"), weights[20]) == 0
        assert files(out) == [NOTE, "a.png"]

    @pytest.mark.parametrize(("name", "reason"), [("half.png", "truncated or damaged"), ("grey.png", "no face found")])
    def test_failure__says_why(
        self, tree: Path, weights: dict[int, Path], capsys: pytest.CaptureFixture[str], name: str, reason: str
    ) -> None:
        out = tree.parent / "b.png"
        assert run(tree / "x" / name, out, weights[20]) == 1
        shown = capsys.readouterr()
        assert shown.out == ""
        assert f"error: {tree / 'x' / name}: {reason}" in shown.err
        assert not out.exists()

    def test_turned_upright(self, tree: Path, weights: dict[int, Path], face: UInt8Array) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        lying = np.rot90(face)
        Image.fromarray(lying).save(tree / "lying.png", exif=exif)
        np.testing.assert_array_equal(read_image(tree / "lying.png"), face)
        for name in ("lying.png", "a.png"):
            run(tree / name, tree.parent / "made" / name, weights[20])
        made = [Image.open(tree.parent / "made" / name) for name in ("lying.png", "a.png")]
        assert 0x0112 not in made[0].getexif()
        np.testing.assert_array_equal(np.asarray(made[0]), np.asarray(made[1]))

    def test_colour_profile_stays(self, tree: Path, weights: dict[int, Path], face: UInt8Array) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        Image.fromarray(face).save(tree / "wide.jpg", icc_profile=profile)
        run(tree / "wide.jpg", tree.parent / "wide.jpg", weights[20])
        assert Image.open(tree.parent / "wide.jpg").info["icc_profile"] == profile

    def test_grey_picture__comes_out_in_colour_without_its_profile(
        self, tree: Path, weights: dict[int, Path], face: UInt8Array
    ) -> None:
        Image.fromarray(face).convert("L").save(tree / "grey.tif", icc_profile=b"grey")
        assert run(tree / "grey.tif", tree.parent / "grey.tif", weights[20]) == 0
        made = Image.open(tree.parent / "grey.tif")
        assert made.mode == "RGB"
        assert "icc_profile" not in made.info


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--mode", "fuse"), "mode: 'fuse' is unknown; known: gate, always"),
        (("--workers", 0), "workers: expected at least 1, got 0"),
        (("--weights", "cadf_huge"), "weights 'cadf_huge' are unknown"),
    ],
)
def test_bad_settings__one_line_and_nothing_written(
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: tuple[object, ...],
    message: str,
) -> None:
    assert called(monkeypatch, "complete", tree, tree.parent / "out", *more) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert not (tree.parent / "out").exists()
