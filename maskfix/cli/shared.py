"""What every command shares: progress bars, and errors as one line with exit code 2."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import typer

from maskfix.base import InputError, MaskfixError

Item = TypeVar("Item")

BAD_INPUT = 2
"""Exit code of a command that was given something it cannot use."""

INTERRUPTED, CLOSED_PIPE = 130, 141
"""Exit codes of a command that was stopped by Ctrl-C, and of one whose output nobody takes."""


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line on stderr: exit code 2 for bad input and failing files, 130 when interrupted.

    A reader that goes away, as `head` does, ends it without a line and with exit code 141, as shells have it: 128 and
    the signal's number. What comes of a bug is let through, with its traceback.

    Raises:
        SystemExit: In the place of `MaskfixError`, `OSError` and `KeyboardInterrupt`.
    """
    try:
        yield
    except BrokenPipeError:
        # Python would write at its end what the pipe did not take, fail again, and say so.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(CLOSED_PIPE) from None
    except (MaskfixError, OSError) as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(BAD_INPUT) from None
    except KeyboardInterrupt:
        print("error: interrupted; what was saved stays, run the same command to go on", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None


def printable(path: str | os.PathLike[str]) -> str:
    """A path as it can be printed and drawn: bytes of its name that are no UTF-8, as old archives have, become U+FFFD.

    Example:
        >>> printable(os.fsdecode(b"caf" + bytes([233]) + b".jpg")) == f"caf{chr(0xFFFD)}.jpg"
        True
    """
    return os.fsencode(path).decode("utf-8", errors="replace")


def run(app: typer.Typer) -> None:
    """Run a typer application on the process's arguments under `one_line_errors`.

    Args:
        app: The application.

    Raises:
        SystemExit: Always, with the exit code.
    """
    command = typer.main.get_command(app)
    invoke = command.invoke

    def guarded(context: Any) -> Any:
        # In here, since typer has exit codes of its own for Ctrl-C and closed pipes. They differ by its version, and 1
        # is among them, by which `maskfix verify` says that these are two people.
        with one_line_errors():
            try:
                return invoke(context)
            finally:
                sys.stdout.flush()

    command.invoke = guarded  # type: ignore[assignment, method-assign]
    with one_line_errors():
        for place, word in enumerate(sys.argv[1:], 1):
            # As a path it would be the folder that one is in.
            if not word.strip():
                raise InputError(f"argument {place} is empty; is a variable of the shell not set?")
        command()


def make_progress(console: Any = None) -> Any:
    """A rich progress display with count, elapsed and remaining time.

    Args:
        console: Rich console to draw on; stderr when None.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console or Console(stderr=True),
    )


def track(items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
    """Show a progress bar over an iterable.

    Args:
        items: What to iterate.
        total: How many they are.
        description: Text before the bar.
    """
    with make_progress() as progress:
        yield from progress.track(items, total=total, description=description)
