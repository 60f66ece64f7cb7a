"""One vocabulary of guards: each checks one thing and raises `InputError` naming what came and what was expected."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskfix.base.errors import InputError
from maskfix.base.types import Landmarks

_SMALLEST_FACE = 4
"""Pixels that the five points span at least, along one axis; no detector finds a face of so few."""


def check_shape(name: str, array: Any, shape: tuple[int | None, ...]) -> None:
    """Check the shape of an array or tensor; `None` in `shape` stands for any length.

    Args:
        name: What the caller calls the array, for the message.
        array: Anything with a `shape`.
        shape: Expected lengths, `None` where any length will do.

    Raises:
        InputError: If the number of axes or a fixed length differs.

    Example:
        >>> check_shape("crops", np.zeros((2, 8, 8, 3)), (None, 8, 8, 3))
        >>> check_shape("crops", np.zeros((8, 8)), (None, 8, 8, 3))
        Traceback (most recent call last):
        ...
        maskfix.base.errors.InputError: crops: expected shape (*, 8, 8, 3), got (8, 8)
    """
    actual = tuple(getattr(array, "shape", ()))
    if len(actual) == len(shape) and all(want in (None, have) for want, have in zip(shape, actual, strict=True)):
        return
    wanted = ", ".join("*" if length is None else str(length) for length in shape)
    raise InputError(f"{name}: expected shape ({wanted}{',' if len(shape) == 1 else ''}), got {actual}")


def check_dtype(name: str, array: NDArray[Any], dtype: Any) -> None:
    """Check the element type of a NumPy array.

    Raises:
        InputError: If `array` is no NumPy array or its dtype is not `dtype`.
    """
    if not isinstance(array, np.ndarray):
        raise InputError(f"{name}: expected a NumPy array of {np.dtype(dtype)}, got {type(array).__name__}")
    if array.dtype != np.dtype(dtype):
        raise InputError(f"{name}: expected dtype {np.dtype(dtype)}, got {array.dtype}")


def _check_picture(name: str, picture: Any) -> None:
    """Check that pictures come as a NumPy array of uint8, and say how what users have at hand becomes one."""
    try:
        check_dtype(name, picture, np.uint8)
    except InputError as error:
        raise InputError(f"{error}{_way_out(picture)}") from None


def _way_out(picture: Any) -> str:
    """How to make a NumPy array of uint8 of something else; empty where nobody knows."""
    library = type(picture).__module__.partition(".")[0]
    if picture is None or isinstance(picture, str | os.PathLike):
        return "; read the picture with maskfix.read_image"
    if library == "PIL":
        return '; give np.asarray(picture.convert("RGB"))'
    if library == "torch":
        return "; give tensor.cpu().numpy() with the channels last"
    if isinstance(picture, list | tuple):
        return "; give an array, such as np.stack makes of pictures of one size"
    if isinstance(picture, np.ndarray) and picture.dtype.kind == "f":
        return "; where x is in [0, 1], give np.rint(255 * x).astype(np.uint8)"
    return ""


def check_photo(name: str, photo: NDArray[Any]) -> None:
    """Check that `photo` is one `uint8` RGB picture `(H, W, 3)` with at least one pixel.

    Raises:
        InputError: If it is not; the message says how to convert what came.
    """
    _check_picture(name, photo)
    if photo.ndim != 3 or photo.shape[2] != 3 or 0 in photo.shape:
        raise InputError(
            f"{name}: expected uint8 RGB of shape (H, W, 3), got {photo.shape}; "
            "read it with maskfix.base.read_image, which converts grey, RGBA and 16-bit pictures"
        )


def check_crops(name: str, crops: NDArray[Any], size: int | None = None) -> None:
    """Check that `crops` are `uint8` RGB squares `(N, S, S, 3)`; N may be 0.

    Args:
        name: What the caller calls the array, for the message.
        crops: The candidate.
        size: Expected S in pixels; any square when None.

    Raises:
        InputError: On a wrong type, number of axes, size or a crop that is not square.
    """
    _check_picture(name, crops)
    if crops.ndim == 3 and crops.shape[2] == 3:
        side = "*" if size is None else size
        raise InputError(
            f"{name}: expected shape (*, {side}, {side}, 3), got {crops.shape}; give a single crop as crop[None]"
        )
    check_shape(name, crops, (None, size, size, 3))
    if crops.shape[1] != crops.shape[2]:
        raise InputError(f"{name}: expected square crops, got {crops.shape[1]}x{crops.shape[2]}")


def check_five(name: str, five: Any, photo: NDArray[Any]) -> None:
    """Check that `five` are the five points of a face on `photo`, in pixels; the face may stand partly outside.

    Args:
        name: What the caller calls the points, for the message.
        five: The candidate, `(5, 2)`.
        photo: `(H, W, 3)` uint8 RGB.

    Raises:
        InputError: If it is None, a detector's record, of another shape, smaller than a face, or all points lie outside
            the photo.

    Example:
        >>> check_five("landmarks", np.array([[3, 3], [7, 3], [5, 5], [3, 7], [7, 7]]) / 10, np.zeros((9, 9, 3)))
        Traceback (most recent call last):
        ...
        maskfix.base.errors.InputError: landmarks: the face is 0.4 pixels large; give points in pixels of the photo
    """
    if five is None:
        raise InputError(f"{name}: is None, which stands for a photo in which no face was found; leave it out")
    records = five if isinstance(five, list) else [five]
    if any(isinstance(record, Landmarks) for record in records):
        raise InputError(f"{name}: expected the five points, got what a detector returned; give `five` of one face")
    points = np.asarray(five)
    check_shape(name, points, (5, 2))
    size = np.ptp(points, axis=0).max()
    if size < _SMALLEST_FACE:
        raise InputError(f"{name}: the face is {size:.2g} pixels large; give points in pixels of the photo")
    height, width = photo.shape[:2]
    if ((points < 0) | (points >= (width, height))).any(1).all():
        raise InputError(f"{name}: all lie outside the photo of {width}x{height} pixels; give (x, y) in pixels of it")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Check that a number lies in the closed interval [low, high].

    Raises:
        InputError: If it lies outside or is not a number.
    """
    try:
        inside = low <= value <= high
    except (TypeError, ValueError):  # no number, or an array of several
        raise InputError(f"{name}: expected a number in [{low}, {high}], got {value!r}") from None
    if not inside:
        raise InputError(f"{name}: expected a number in [{low}, {high}], got {value}")


def check_choice(name: str, value: object, known: Collection[object]) -> None:
    """Check that `value` is one of the `known` names, or other plain values.

    Raises:
        InputError: If it is not; the message lists the known names.

    Example:
        >>> check_choice("mask kind", "scarf", ["KN95", "N95"])
        Traceback (most recent call last):
        ...
        maskfix.base.errors.InputError: mask kind: 'scarf' is unknown; known: KN95, N95
    """
    if value not in known:
        raise InputError(f"{name}: {value!r} is unknown; known: {', '.join(map(str, known))}")
