"""Work done one batch ahead in threads, so that networks need not wait for files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Done = TypeVar("_Done")


def ahead(batches: Iterable[Sequence[_Item]], work: Callable[[_Item], _Done], workers: int) -> Iterator[list[_Done]]:
    """Do the work of one batch ahead in threads; results come in order, an error comes where its result would.

    Args:
        batches: Batches of items; they are taken one by one, as they are needed.
        work: What is done to each item; it runs in threads and must change nothing that is shared.
        workers: Number of threads, at least 1.

    Yields:
        The results of each batch.

    Example:
        >>> list(ahead([[1, 2], [3]], lambda item: 10 * item, workers=2))
        [[10, 20], [30]]
    """
    waiting: list[list[Future[_Done]]] = []
    pool = ThreadPoolExecutor(workers)
    try:
        for batch in batches:
            waiting.append([pool.submit(work, item) for item in batch])
            if len(waiting) > 1:
                yield [future.result() for future in waiting.pop(0)]
        for futures in waiting:
            yield [future.result() for future in futures]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
