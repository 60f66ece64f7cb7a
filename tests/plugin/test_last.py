"""What a seam told of the last batch."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

from maskfix.plugin.last import LastResult


def test_last_result_is_apart_for_each_thread() -> None:
    last = LastResult()
    last.faces = (1,)  # type: ignore[assignment]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: last.faces).result() == ()
    assert pickle.loads(pickle.dumps(last)).faces == ()  # noqa: S301
