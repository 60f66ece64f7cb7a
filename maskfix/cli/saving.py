"""How `maskfix complete` writes a counterpart: the format of its suffix, and what it keeps of the picture."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskfix.base import ImageError, InputError, UInt8Array, read_image, replacing

_JPEG = {"quality": 95, "subsampling": 0}
_OPTIONS: dict[str, dict[str, Any]] = {
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": {"quality": 95},
    ".tif": {"compression": "tiff_deflate"},
}
_OPTIONS[".tiff"] = _OPTIONS[".tif"]
_SAME = {".jpeg": ".jpg", ".tiff": ".tif"}
_WITH_ALPHA = (".png", ".webp", ".tif", ".tiff")


def read_single(path: Path) -> UInt8Array:
    """Read a picture that is one: what is animated or has pages would lose all but the first.

    Returns:
        `(H, W, 3)` uint8 RGB, see `read_image`.

    Raises:
        ImageError: If the file cannot be read.
        InputError: If it holds several pictures.
    """
    from PIL import Image

    photo = read_image(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                # Cameras put previews and depths behind a JPEG's one picture, which Pillow then calls MPO.
                frames = 1 if picture.format == "MPO" else getattr(picture, "n_frames", 1)
    except Exception as error:
        # The first picture is whole; of damage behind it, Pillow says whatever its decoder stumbled over.
        raise ImageError(f"{path}: truncated or damaged picture ({error}); replace the file") from error
    if frames > 1:
        raise InputError(f"animated or of several pages ({frames}), of which one would remain; save each as a picture")
    return photo


def write_counterpart(target: Path, source: Path, photo: UInt8Array, completed: UInt8Array | None) -> None:
    """Write the counterpart of a picture, whole or not at all; it is never older than the picture.

    Args:
        target: Where it goes.
        source: The picture: copied where nothing is completed and `target` has its format.
        photo: `(H, W, 3)` uint8 RGB, what `read_image` made of the source.
        completed: The same with faces completed; None where none is.

    Raises:
        ImageError: If the counterpart cannot be written.
    """
    try:
        with replacing(target) as temporary:
            if completed is None and _format(source) == _format(target):
                shutil.copyfile(source, temporary)
            else:
                save_picture(temporary, photo if completed is None else completed, photo, source)
            # A clock may have gone wrong where the picture was made: it counts as done all the same.
            dated = source.stat().st_mtime_ns
            if dated > temporary.stat().st_mtime_ns:
                os.utime(temporary, ns=(dated, dated))
    except (OSError, ValueError) as error:
        # A ValueError is Pillow's, of a format's own limits, such as WebP's 16,383 pixels a side.
        raise ImageError(f"{target}: cannot be written ({getattr(error, 'strerror', None) or error})") from error


def save_picture(path: Path, picture: UInt8Array, photo: UInt8Array, source: Path) -> None:
    """Write a picture in the format of its suffix, with colour profile and transparency of what it was made of.

    Args:
        path: Where to; formats without transparency get the picture as it is, on black.
        picture: `(H, W, 3)` uint8 RGB.
        photo: `(H, W, 3)` uint8 RGB, what `read_image` made of the source.
        source: The file that the picture was made of.
    """
    from PIL import Image, ImageOps

    array: NDArray[np.uint8] = picture
    with Image.open(source) as original:
        # Profiles of grey and CMYK pictures do not describe the RGB values that they were converted to.
        profile = original.info.get("icc_profile") if original.mode in ("RGB", "RGBA", "P") else None
        see_through = original.mode in ("RGBA", "LA", "PA") or "transparency" in original.info
        # Pillow knows no transparency for 16 bits of grey.
        if see_through and not original.mode.startswith("I") and path.suffix.lower() in _WITH_ALPHA:
            array = _see_through(np.asarray(ImageOps.exif_transpose(original).convert("RGBA")), picture, photo)
    options = dict(_OPTIONS.get(path.suffix.lower(), {}))
    if profile:
        options["icc_profile"] = profile
    Image.fromarray(array).save(path, **options)


def _see_through(rgba: NDArray[np.uint8], picture: UInt8Array, photo: UInt8Array) -> NDArray[np.uint8]:
    """The source's `(H, W, 4)` RGBA with the pixels in which a picture differs from the photo, which lies on black."""
    result, changed = rgba.copy(), (picture != photo).any(-1)
    alpha = rgba[changed, 3:].astype(np.float64)
    # On black, the colour is to look as the networks left it.
    result[changed, :3] = np.minimum(np.rint(picture[changed] / np.maximum(alpha, 1) * 255), 255)
    return result


def _format(path: Path) -> str:
    suffix = path.suffix.lower()
    return _SAME.get(suffix, suffix)
