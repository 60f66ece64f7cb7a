"""Work in processes of their own: all results come, and whatever ends a process or a job is told."""

from __future__ import annotations

import os

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
