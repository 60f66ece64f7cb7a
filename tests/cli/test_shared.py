"""Errors as one line, and progress bars."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import typer

from maskfix.base import DatasetError
from maskfix.cli.shared import BAD_INPUT, one_line_errors, run, track


def application(work: Callable[..., None]) -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(work)
    return app


def exit_code(work: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["maskfix"])
    with pytest.raises(SystemExit) as stopped:
        run(application(work))
    return int(stopped.value.code or 0)


def test_run__maskfix_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise DatasetError("faces: two\n  lines")

    assert exit_code(work, monkeypatch) == BAD_INPUT == 2
    assert capsys.readouterr().err == "error: faces: two lines\n"


def test_run__failing_files_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise PermissionError(13, "Permission denied", "report.json")

    assert exit_code(work, monkeypatch) == BAD_INPUT
    assert capsys.readouterr().err == "error: [Errno 13] Permission denied: 'report.json'\n"


def test_one_line_errors__around_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(error: BaseException) -> int:
        with pytest.raises(SystemExit) as ended, one_line_errors():
            raise error
        return int(ended.value.code or 0)

    assert stopped(DatasetError("no\nfaces")) == BAD_INPUT
    assert capsys.readouterr().err == "error: no faces\n"
    assert stopped(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.startswith("error: interrupted")
    with pytest.raises(ZeroDivisionError), one_line_errors():
        raise ZeroDivisionError
    with one_line_errors():
        pass
    assert capsys.readouterr().err == ""


def test_run__success(monkeypatch: pytest.MonkeyPatch) -> None:
    assert exit_code(lambda: None, monkeypatch) == 0


def test_run__interrupted(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise KeyboardInterrupt

    assert exit_code(work, monkeypatch) == 130
    assert capsys.readouterr().err == "error: interrupted; what was saved stays, run the same command to go on\n"


def test_run__a_reader_that_went_away() -> None:
    """Neither 0 nor 1, which say of `maskfix verify` what nobody has read, and no line."""
    code = "import typer; from maskfix.cli.shared import run; app = typer.Typer(); "
    code += "app.command()(lambda: print('same')); run(app)"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("word", ["", " "])
def test_run__an_empty_argument_is_no_folder(
    word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(folder: str) -> None:
        raise AssertionError(folder)

    monkeypatch.setattr(sys, "argv", ["maskfix", word])
    with pytest.raises(SystemExit) as stopped:
        run(application(work))
    assert stopped.value.code == BAD_INPUT
    assert capsys.readouterr().err == "error: argument 1 is empty; is a variable of the shell not set?\n"


def test_run__bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def work() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(sys, "argv", ["maskfix"])
    with pytest.raises(ZeroDivisionError):
        run(application(work))


def test_track__passes_everything_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(iter("abc"), 3, "letters")) == ["a", "b", "c"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "letters" in shown.err
    assert "3/3" in shown.err
