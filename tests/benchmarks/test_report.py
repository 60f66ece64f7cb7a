"""Files appear whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.report import FILES, check_out, folder_names, peak_rss_bytes, staged
from maskfix.base import InputError
from tests.protocols.worlds import MiddleEmbedder

ROOT = Path(__file__).resolve().parents[2]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_staged__moves_everything_and_keeps_other_files(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    (out / "report.json").write_text("old")
    with staged(out) as stage:
        (stage / "sub").mkdir()
        (stage / "sub" / "table.md").write_text("t")
        (stage / "report.json").write_text("new")
        assert (out / "report.json").read_text() == "old"
    assert (out / "report.json").read_text() == "new"
    assert (out / "sub" / "table.md").read_text() == "t"
    assert (out / "notes.txt").read_text() == "mine"
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_staged__what_an_earlier_run_had_more_of_is_gone(tmp_path: Path) -> None:
    def write(folder: Path, methods: str) -> None:
        (folder / "scores").mkdir(parents=True)
        for method in methods:
            (folder / "scores" / f"{method}.npy").write_text("values")
        (folder / "report.json").write_text(methods)

    with staged(tmp_path / "out") as stage:
        write(stage, "abc")
    (tmp_path / "out" / "scores" / "notes.txt").write_text("mine")
    with staged(tmp_path / "out") as stage:
        write(stage, "ab")
    assert {path.name for path in (tmp_path / "out" / "scores").iterdir()} == {"a.npy", "b.npy", "notes.txt"}
    # Drawn again, without new scores.
    with staged(tmp_path / "out") as stage:
        (stage / "report.json").write_text("ab")
    assert (tmp_path / "out" / "scores" / "a.npy").is_file()
    # Now two recognisers, each in a folder of its own: of the single one nothing may be left that a reader would take.
    for name in (*FILES, "templates.npz", "pictures.npz", "det.svg", "histogram.png", "notes.txt"):
        (tmp_path / "out" / name).write_text("single")
    with staged(tmp_path / "out") as stage:
        write(stage / "one", "ab")
        write(stage / "two", "ab")
        (stage / "table.md").write_text("both")
    assert files(tmp_path / "out") == {
        "notes.txt",
        "scores/notes.txt",
        "table.md",
        *(f"{folder}/{name}" for folder in ("one", "two") for name in ("report.json", "scores/a.npy", "scores/b.npy")),
    }
    assert (tmp_path / "out" / "table.md").read_text() == "both"


def test_staged__without_a_report_only_what_every_run_writes_is_taken_away(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "features").mkdir(parents=True)
    # A run that was killed between its files left scores; the other two may be anybody's.
    for name in ("scores.npz", "templates.npz", "features/mine.npy"):
        (out / name).write_text("values")
    with staged(out) as stage:
        for name in ("one", "two"):
            (stage / name).mkdir()
            (stage / name / "report.json").write_text(name)
    assert files(out) == {"templates.npz", "features/mine.npy", "one/report.json", "two/report.json"}


def test_staged__error_leaves_nothing(tmp_path: Path) -> None:
    def spoil() -> None:
        with staged(tmp_path / "out") as stage:
            (stage / "scores.npz").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        spoil()
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from benchmarks.report import staged
with staged(Path(sys.argv[1])) as stage:
    (stage / "report.json").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_staged__kill_9_keeps_the_old_report(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(out)], cwd=ROOT, check=False)
    assert done.returncode == -9
    assert (out / "report.json").read_text() == "old"
    with staged(out) as stage:
        assert list(stage.iterdir()) == []
        (stage / "report.json").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_check_out(tmp_path: Path) -> None:
    check_out(tmp_path / "a" / "b" / "c")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    for bad in ("file", "file/below"):
        with pytest.raises(InputError, match="file: is a file"):
            check_out(tmp_path / bad)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_check_out__not_writable(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        check_out(tmp_path / "out")


def test_folder_names() -> None:
    one, two, three = MiddleEmbedder("arcface:a"), MiddleEmbedder("arcface:a", 112), MiddleEmbedder("dlib")
    assert folder_names([one, three]) == ["arcface-a", "dlib"]
    assert folder_names([one, two]) == [f"arcface-a-{one.sha256[:8]}", f"arcface-a-{two.sha256[:8]}"]
    with pytest.raises(InputError, match="same recogniser is given twice"):
        folder_names([one, one])


def test_peak_rss__in_bytes() -> None:
    block = b"x" * (200 * 2**20)
    assert 200 * 2**20 < peak_rss_bytes() < 20 * 2**30
    del block
