"""The points of a face found anew on another version of its photograph: what a mask misled, a completion puts right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskfix.align.base import LandmarkDetector
from maskfix.base import BoolArray, FloatArray, InputError, UInt8Array, check_shape

Find = Callable[[UInt8Array], NDArray[Any]]
"""Finds the faces of one photograph `(H, W, 3)` uint8 RGB: `(M, 5, 2)` ArcFace points in its pixels, M may be 0."""

SAME_FACE = 0.5
"""Eye distances that an eye may have moved by for a face to count as the one looked for."""


def find_with(detector: LandmarkDetector) -> Find:
    """A detector of one face a photograph as a `Find`.

    Args:
        detector: What finds the main face.
    """

    def find(photo: UInt8Array) -> NDArray[Any]:
        five = detector.detect([photo])[0].five
        return np.zeros((0, 5, 2), np.float32) if five is None else five[None]

    return find


def find_again(photos: Sequence[UInt8Array], landmarks: NDArray[Any], find: Find) -> FloatArray:
    """The points of known faces on other versions of their photographs.

    A face is known again by its eyes, which masks leave visible: the nearest face whose eyes lie within `SAME_FACE` eye
    distances of where they were. Where there is none, the old points stay.

    Args:
        photos: N pictures `(H, W, 3)` uint8 RGB, of any sizes.
        landmarks: `(N, 5, 2)` ArcFace points of the face looked for, in pixels of each photo.
        find: What finds faces.

    Returns:
        `(N, 5, 2)` float32.

    Raises:
        InputError: If the landmarks, or what `find` gives, have a wrong shape.

    Example:
        >>> from maskfix.base import arcface_layout
        >>> five = arcface_layout(112).array
        >>> photo = np.zeros((112, 112, 3), np.uint8)
        >>> again = find_again([photo], five[None], lambda photo: np.stack([five + 200, five + 2]))
        >>> bool(np.allclose(again[0], five + 2))
        True
    """
    check_shape("landmarks", landmarks, (len(photos), 5, 2))
    again = np.array(landmarks, np.float32)
    for row, photo in enumerate(photos):
        again[row] = same_faces(find(photo), again[row : row + 1])[0]
    return again


def same_faces(found: NDArray[Any], landmarks: NDArray[Any]) -> FloatArray:
    """Known faces among those found on one photograph, as `find_again` knows them.

    Args:
        found: `(M, 5, 2)` ArcFace points in pixels, M may be 0.
        landmarks: `(N, 5, 2)` points of the faces looked for.

    Returns:
        `(N, 5, 2)` float32, the old points of faces that are not among them.

    Raises:
        InputError: If an array has a wrong shape.
    """
    return known_faces(found, landmarks)[0]


def known_faces(found: NDArray[Any], landmarks: NDArray[Any]) -> tuple[FloatArray, BoolArray]:
    """As `same_faces`, and which faces are among those found, `(N,)` bool."""
    found, again = np.asarray(found, np.float32), np.array(landmarks, np.float32)
    if found.ndim != 3 or found.shape[1:] != (5, 2):
        raise InputError(f"find: expected points of shape (M, 5, 2), got {found.shape}")
    check_shape("landmarks", again, (None, 5, 2))
    if not len(found) or not len(again):
        return again, np.zeros(len(again), np.bool_)
    eyes = again[:, :2]
    distance = np.maximum(np.linalg.norm(eyes[:, 1] - eyes[:, 0], axis=1), 1e-6)
    moved = np.linalg.norm(found[None, :, :2] - eyes[:, None], axis=3).max(2) / distance[:, None]
    known = moved.min(1) <= SAME_FACE
    again[known] = found[moved.argmin(1)[known]]
    return again, known
