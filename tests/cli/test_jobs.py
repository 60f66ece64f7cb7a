"""Which pictures the words of `maskfix complete` mean, and where the counterpart of each goes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from maskfix.base import DatasetError, InputError
from maskfix.cli.jobs import NOTE, plan


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder with pictures on three floors, of which nothing but the names is looked at, and a text."""
    folder = tmp_path / "in"
    for name in ("a.png", "x/y/two.JPG", "x/grey.png", "x/half.png", "notes.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


class TestPlan:
    def test_glob__hangs_from_its_fixed_part(self, tree: Path) -> None:
        jobs, folder = plan([f"{tree}/**/*.png"], Path("out"))
        assert folder == Path("out")
        assert [job.target.as_posix() for job in jobs] == ["out/a.png", "out/x/grey.png", "out/x/half.png"]

    def test_glob__relative(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tree)
        assert [job.target.as_posix() for job in plan(["x/*/*"], Path("out"))[0]] == ["out/y/two.JPG"]
        assert [job.target.as_posix() for job in plan(["*.png"], Path("out"))[0]] == ["out/a.png"]

    def test_pictures_of_a_shells_glob__hang_from_their_common_folder(self, tree: Path) -> None:
        words = [str(tree / "a.png"), str(tree / "x" / "grey.png")]
        assert [job.target.as_posix() for job in plan(words, Path("out"))[0]] == ["out/a.png", "out/x/grey.png"]

    def test_relative_and_absolute_mixed(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tree / "x")
        jobs, _ = plan(["../a.png", str(tree / "x" / "grey.png")], Path("out"))
        assert sorted(job.target.as_posix() for job in jobs) == ["out/a.png", "out/x/grey.png"]

    def test_file_whose_name_is_a_pattern(self, tree: Path) -> None:
        odd = tree / "a[1].png"
        shutil.copy(tree / "a.png", odd)
        [job] = plan([str(odd)], Path("out.png"))[0]
        assert job == (odd, Path("out.png"))

    def test_folder__leaves_out_what_any_run_has_written_in_it(self, tree: Path) -> None:
        (tree / "x" / "y" / NOTE).touch()
        targets = [job.target.name for job in plan([str(tree)], tree.parent / "elsewhere")[0]]
        assert targets == ["a.png", "grey.png", "half.png"]
        # A folder that is asked for by itself is meant.
        assert [job.target.name for job in plan([str(tree / "x" / "y")], tree.parent / "elsewhere")[0]] == ["two.JPG"]

    def test_glob__leaves_out_what_was_written(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tree)
        for glob in ("**/*.png", f"{tree}/**/*.png"):
            for _ in range(2):
                jobs, _ = plan([glob], Path("out"))
                assert [job.target.as_posix() for job in jobs] == ["out/a.png", "out/x/grey.png", "out/x/half.png"]
                for job in jobs:
                    job.target.parent.mkdir(parents=True, exist_ok=True)
                    job.target.touch()

    def test_glob__only_what_was_written(self, tree: Path) -> None:
        with pytest.raises(DatasetError, match="matches no picture"):
            plan([f"{tree}/*/grey.png"], tree / "x")

    def test_glob__begins_inside_the_output(self, tree: Path) -> None:
        jobs, _ = plan([f"{tree}/x/*.png"], tree)
        assert [job.target for job in jobs] == [tree / "grey.png", tree / "half.png"]

    def test_two_pictures_for_one_output(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tree / "link").symlink_to("x/y")
        monkeypatch.chdir(tree)
        # Through the link, this is another picture than a path without it says.
        shutil.copy("x/grey.png", "x/a.png")
        with pytest.raises(InputError, match=r"^out/a\.png: would be made of both a\.png and link/\.\./a\.png"):
            plan(["link/../a.png", "a.png"], Path("out"))

    def test_one_picture_named_twice(self, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tree)
        jobs, _ = plan(["a.png", str(tree / "a.png"), "x/../a.png"], Path("out"))
        assert [job.target.as_posix() for job in jobs] == ["out/a.png"]

    @pytest.mark.parametrize(
        ("words", "out", "message"),
        [
            (["absent.png"], "out.png", "absent.png: no such picture"),
            (["*.gif"], "out", r"\*\.gif: matches no picture"),
            (["notes.txt"], "notes.txt", "cannot write this format"),
            (["a.png"], "a.png", "a.png: is a picture to complete"),
            (["a.png"], ".", "a.png: is a picture to complete"),
            (["."], ".", r"^\.: holds the pictures to complete"),
            (["x"], ".", r"^\.: holds the pictures to complete"),
            (["x", "a.png"], "out", "x: give one folder by itself"),
            (["a.png", "x/grey.png"], "notes.txt", "notes.txt: is a file; give a folder for 2 pictures"),
            (["a.png"], "out.gif", "out.gif: cannot write this format"),
            (["x"], "notes.txt", "notes.txt: is a file; give a folder for 3 pictures"),
        ],
    )
    def test_refused(
        self, tree: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], out: str, message: str
    ) -> None:
        monkeypatch.chdir(tree)
        with pytest.raises((InputError, OSError), match=message):
            plan(words, Path(out))

    def test_a_slash_means_a_folder(self, tree: Path) -> None:
        [job], folder = plan([str(tree / "a.png")], f"{tree.parent}/results.v2/")
        assert folder == tree.parent / "results.v2"
        assert job.target == folder / "a.png"

    def test_linked_output(self, tree: Path) -> None:
        link = tree.parent / "link.png"
        link.hardlink_to(tree / "a.png")
        with pytest.raises(InputError, match=r"link\.png: is a picture to complete"):
            plan([str(tree / "a.png")], link)
