"""Work spread over processes that are started afresh, and the end of one said in one line."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, TypeVar

from maskfix.base.errors import MaskfixError

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_processes(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    workers: int,
    start: Callable[..., None] | None = None,
    given: tuple[Any, ...] = (),
) -> Iterator[Result]:
    """Results as they come, in no order. Nothing is forked: neither torch nor MediaPipe survive that.

    Args:
        work: Does one job; a function of a module, since each process imports it.
        jobs: What to do.
        workers: Processes, at least 1.
        start: Called once in each process before its first job.
        given: What `start` is called with.

    Raises:
        MaskfixError: If a process dies, for which a plain pool would wait for ever.
    """
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(start, given))
    try:
        for future in as_completed([pool.submit(work, job) for job in jobs]):
            yield future.result()
    except BrokenProcessPool as error:
        raise MaskfixError("a worker process died, perhaps for want of memory; go on with fewer --workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(start: Callable[..., None] | None, given: tuple[Any, ...]) -> None:
    """Begin a worker: it ends with its parent, which a pool's own workers do not hear of when that is killed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if start is not None:
        start(*given)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
