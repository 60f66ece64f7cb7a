"""Pillow reading pictures that are cut off, in one thread and for a while."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

_LOCK = threading.Lock()


class _InSomeThreads:
    """Stands for Pillow's flag, which is one for the whole process: true in some threads, elsewhere as it was.

    Attributes:
        threads: Identities of the threads in which it is true.
        before: The flag that it stands for.
    """

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.before: object = False

    def __bool__(self) -> bool:
        return threading.get_ident() in self.threads or bool(self.before)


_FLAG = _InSomeThreads()


@contextlib.contextmanager
def truncated_pictures() -> Iterator[None]:
    """While it lasts, Pillow fills up pictures that are cut off, in this thread alone; not to be nested.

    Example:
        >>> from PIL import ImageFile
        >>> with truncated_pictures():
        ...     bool(ImageFile.LOAD_TRUNCATED_IMAGES)
        True
        >>> ImageFile.LOAD_TRUNCATED_IMAGES
        False
    """
    from PIL import ImageFile

    with _LOCK:
        # By the user it may have been set anew since another thread came.
        if ImageFile.LOAD_TRUNCATED_IMAGES is not _FLAG:  # type: ignore[comparison-overlap]
            _FLAG.before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, _FLAG  # type: ignore[assignment]
        _FLAG.threads.add(threading.get_ident())
    try:
        yield
    finally:
        with _LOCK:
            _FLAG.threads.discard(threading.get_ident())
            if not _FLAG.threads and ImageFile.LOAD_TRUNCATED_IMAGES is _FLAG:  # type: ignore[comparison-overlap]
                ImageFile.LOAD_TRUNCATED_IMAGES = _FLAG.before  # type: ignore[assignment]
