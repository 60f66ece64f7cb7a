"""Work in processes of their own: all results come, and whatever ends a process or a job is told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maskfix.base import MaskfixError
from maskfix.base.processes import in_processes

_GIVEN: list[int] = []


def begin(*numbers: int) -> None:
    """Before a process's first job."""
    _GIVEN.extend(numbers)


def add(job: int) -> tuple[int, int]:
    """The job, the process's numbers and the process; 0 has no answer and -1 ends the process."""
    if job < 0:
        os._exit(1)
    return 10 // job + sum(_GIVEN), os.getpid()


def test_in_processes__all_results_from_processes_that_were_started() -> None:
    found = list(in_processes(add, iter([1, 2, 5]), 1, begin, (100, 1000)))
    assert sorted(value for value, _ in found) == [1102, 1105, 1110]
    # One process, begun once, and not this one.
    assert len({process for _, process in found} | {os.getpid()}) == 2
    assert not _GIVEN


def test_in_processes__error_of_a_job_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_processes(add, [0], 1))


def test_in_processes__dead_process() -> None:
    with pytest.raises(MaskfixError, match=r"^a worker process died, .* go on with fewer --workers$"):
        list(in_processes(add, [-1], 1))


def test_in_processes__nothing_to_do() -> None:
    assert list(in_processes(add, [], 2)) == []


_ALONE = """
import os, sys, time
from maskfix.base.processes import in_processes
from tests.base.test_processes import tell
if __name__ == "__main__":
    for process in in_processes(tell, [0], 1):
        print(process, flush=True)
        time.sleep(60)
"""


def tell(job: int) -> int:
    """The process that does the job."""
    return os.getpid()


@pytest.mark.skipif(sys.platform == "win32", reason="no signal of its own ends a process at once here")
def test_in_processes__end_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    (tmp_path / "alone.py").write_text(_ALONE)
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, tmp_path / "alone.py"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": root},
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert _lives(worker)
        parent.kill()
    until = time.monotonic() + 20
    while _lives(worker) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _lives(worker)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
