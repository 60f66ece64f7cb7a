"""Pictures of a web page: found beside a run, cut to the face, and written into the page as JPEG."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskfix.base import InputError, MaskfixError, UInt8Array, read_image

_THUMB = 96
_MARGIN = 1.6
_SUFFIXES = ("", ".jpg", ".png", ".jpeg", ".JPG")


class PictureFile(NamedTuple):
    """A picture to be shown.

    Attributes:
        name: Path below the folder of the pictures, with or without a suffix.
        box: Face box as x, y, width, height in pixels, to be cut out; None or nan for the whole picture.
    """

    name: str
    box: tuple[float, ...] | None = None


def find_pictures(folder: Path, files: Mapping[str, PictureFile]) -> dict[str, UInt8Array]:
    """Pictures of a folder; those that are missing, damaged or outside it are left out.

    Args:
        folder: Folder of the pictures.
        files: What to look for, by any names.

    Returns:
        `(H, W, 3)` uint8 RGB by the same names.

    Raises:
        InputError: If the folder is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of the pictures")
    root = folder.resolve()
    pictures = {}
    for key, file in files.items():
        picture = _read(root, file.name)
        if picture is not None:
            pictures[key] = cut_face(picture, file.box)
    return pictures


def cut_face(picture: UInt8Array, box: tuple[float, ...] | None) -> UInt8Array:
    """The square around a face box with some of its surroundings; the middle square where there is no usable box.

    Args:
        picture: `(H, W, 3)` uint8.
        box: x, y, width, height in pixels.

    Example:
        >>> cut_face(np.zeros((40, 60, 3), np.uint8), (10, 10, 10, 10)).shape
        (16, 16, 3)
        >>> cut_face(np.zeros((40, 60, 3), np.uint8), None).shape
        (40, 40, 3)
    """
    height, width = picture.shape[:2]
    if box is not None and np.isfinite(box).all() and min(box[2:]) >= 1:
        half = max(box[2:]) * _MARGIN / 2
        x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
        left, right = (int(np.clip(end, 0, width)) for end in (x - half, x + half))
        top, bottom = (int(np.clip(end, 0, height)) for end in (y - half, y + half))
        if right > left and bottom > top:
            return picture[top:bottom, left:right]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


def to_jpeg(picture: UInt8Array, width: int = _THUMB) -> tuple[str, tuple[int, int]]:
    """A picture as data URI, at most so wide, and its size.

    Args:
        picture: `(H, W, 3)` uint8 RGB.
        width: Largest width in pixels.
    """
    from PIL import Image

    image = Image.fromarray(picture)
    if image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}", image.size


def _read(root: Path, name: str) -> UInt8Array | None:
    """A picture below a folder; None where there is none that can be read."""
    for suffix in _SUFFIXES:
        try:
            path = (root / f"{name}{suffix}").resolve()
            if path.is_relative_to(root) and path.is_file():
                return read_image(path)
        except (MaskfixError, OSError, ValueError):  # a name may be too long for a file, or hold a zero byte
            continue
    return None
