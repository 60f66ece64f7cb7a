"""What a seam told of the last batch, in each thread apart."""

from __future__ import annotations

import threading

from maskfix.plugin.base import FaceCompletion


class LastResult(threading.local):
    """What a seam told of the last batch, apart for each thread; a pickled copy starts empty.

    Attributes:
        faces: A `FaceCompletion` a face.
    """

    faces: tuple[FaceCompletion, ...] = ()

    def __reduce__(self) -> tuple[type[LastResult], tuple[()]]:
        """Leave what the threads hold behind."""
        return LastResult, ()


class LastFaces(LastResult):
    """What a library's seam told of the last batch, whose faces it takes as the library finds them.

    Attributes:
        faces: A `FaceCompletion` a face, None for a face in whose place nothing could be completed.
    """

    faces: tuple[FaceCompletion | None, ...] = ()  # type: ignore[assignment]

    def __repr__(self) -> str:
        """The faces, which tell in a line each what was done with them."""
        return f"LastFaces(faces={self.faces})"

    def __reduce__(self) -> tuple[type[LastFaces], tuple[()]]:
        """Leave what the threads hold behind."""
        return LastFaces, ()
