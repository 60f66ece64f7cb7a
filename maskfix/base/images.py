"""Reading and writing pictures: always `uint8` RGB, size bounded, written to a temporary file and renamed."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskfix.base.checks import check_photo
from maskfix.base.errors import ImageError
from maskfix.base.types import UInt8Array

MAX_PIXELS = 64_000_000
"""Pictures with more pixels are refused before they are decoded (0.2 GB as RGB)."""

LONGEST_SIDE = 32_766
"""OpenCV counts the pixels of a side in 16 bits with a sign when it warps."""

# What a temporary name keeps of a file's own: a name has at most 255 bytes, on some encrypted file systems 143.
_KEPT_BYTES = 100
_TEMPORARY = re.compile(r"(\..*)\.maskfix-[0-9a-f]{12}(\.[^.]*)?", re.DOTALL)


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> UInt8Array:
    """Read a picture as `uint8` RGB; grey, RGBA and 16-bit pictures are converted, EXIF rotation is applied.

    Args:
        path: A JPEG, PNG or other file that Pillow can open.
        max_pixels: Upper bound of width x height; larger pictures are refused before they are decoded.

    Returns:
        `(H, W, 3)` uint8 RGB. Alpha is composed onto black.

    Raises:
        ImageError: If the file is missing, truncated, too large, no picture, or of numbers whose range is not known.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = _existing(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns of broken tags and of pictures large by its own limit; here a picture is good or an error.
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                if picture.width * picture.height > max_pixels:
                    size = f"{picture.width}x{picture.height}"
                    raise ImageError(f"{path}: {size} is more than {max_pixels} pixels; scale it down first")
                picture.load()
                turned = ImageOps.exif_transpose(picture)
                array = np.asarray(turned)
                if array.dtype.kind == "f" or (turned.mode == "I" and (array.min() < 0 or array.max() > 0xFFFF)):
                    kind = f"{array.dtype} numbers (mode {turned.mode})"
                    raise ImageError(f"{path}: holds {kind}, whose range is not known; convert it to 8 bit first")
                return _to_rgb(array, turned)
    except UnidentifiedImageError as error:
        raise ImageError(f"{path}: not a picture that can be read (JPEG, PNG, BMP, TIFF, WebP)") from error
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: too large ({error}); scale it down first") from error
    except (OSError, SyntaxError, ValueError, RuntimeError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"{path}: truncated or damaged picture ({error}); replace the file") from error


def _existing(path: str | Path) -> Path:
    """The path of a file that is there; an ImageError says what else it is."""
    if not isinstance(path, str | os.PathLike):
        raise ImageError(f"picture: expected the path of a file, got {type(path).__name__}")
    if str(path).startswith(("http://", "https://")):
        raise ImageError(f"{path}: is a web address; download the picture and give its path")
    file = Path(path)
    if file.is_dir():
        raise ImageError(f"{file}: is a folder; give a picture")
    if not file.is_file():
        raise ImageError(f"{file}: no such picture")
    return file


def _to_rgb(array: NDArray[Any], picture: Any) -> UInt8Array:
    """Convert what Pillow decoded to uint8 RGB; 16-bit values keep their most significant bits."""
    from PIL import Image

    # By kind and size, not by dtype: big-endian TIFF files come as `>u2`.
    if array.dtype.kind in "ui" and array.dtype.itemsize > 1 and array.ndim == 2:
        return np.repeat((array >> 8).clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        coloured = picture.convert("RGBA")
        ground = Image.new("RGBA", coloured.size, (0, 0, 0, 255))
        picture = Image.alpha_composite(ground, coloured)
    return np.ascontiguousarray(np.asarray(picture.convert("RGB"), dtype=np.uint8))


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path` and rename it onto `path` when the block ends without an error.

    A killed process leaves either the old file or the new one, never half of one. The temporary name keeps the suffix
    of `path`, since many writers choose the format by it. The file gets the mode that the umask leaves to new files.

    Args:
        path: The file to write; its folder is made if it is missing.

    Yields:
        The path to write to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replacing(f"{folder}/a.txt") as temporary:
        ...         _ = temporary.write_text("whole")
        ...     sorted(item.name for item in Path(folder).iterdir())
        ['a.txt']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{_beginning(path)}.maskfix-{secrets.token_hex(6)}{path.suffix}")
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    # What the system made of the umask; asking for the umask itself would change it for other threads.
    mode = os.fstat(handle).st_mode & 0o777
    os.close(handle)
    try:
        yield temporary
        # Some writers put a file of their own, of another mode, in its place.
        temporary.chmod(mode)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def drop_leftovers(paths: Iterable[str | Path]) -> None:
    """Remove the unfinished files that processes killed inside `replacing` left beside the files they were to write.

    Args:
        paths: The files that were to be written; nobody else may be writing them.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in (".a.maskfix-0123456789ab.txt", ".b.maskfix-0123456789ab.txt", ".a.b.txt"):
        ...         _ = Path(folder, name).write_text("half")
        ...     drop_leftovers([f"{folder}/a.txt"])
        ...     sorted(os.listdir(folder))
        ['.a.b.txt', '.b.maskfix-0123456789ab.txt']
    """
    meant: dict[Path, set[tuple[str, str]]] = defaultdict(set)
    for path in map(Path, paths):
        meant[path.parent].add((_beginning(path), path.suffix))
    # A folder is listed once, however many of its files are meant.
    for folder, names in meant.items():
        for item in list(folder.iterdir()) if folder.is_dir() else ():
            found = _TEMPORARY.fullmatch(item.name)
            if found and (found[1], found[2] or "") in names:
                item.unlink(missing_ok=True)


def _beginning(path: Path) -> str:
    """How the temporary names of a file begin; half a character at the end is left out."""
    return "." + os.fsencode(path.stem)[:_KEPT_BYTES].decode(errors="ignore")


def write_image(path: str | Path, image: UInt8Array) -> None:
    """Write `uint8` RGB `(H, W, 3)` to a file whose suffix names the format; the file appears whole or not at all.

    Raises:
        InputError: If `image` is not uint8 RGB.
        ImageError: If the suffix names no format that OpenCV writes.
    """
    import cv2

    check_photo("image", image)
    with replacing(path) as temporary:
        try:
            written = cv2.imwrite(str(temporary), image[..., ::-1])
        except cv2.error as error:
            raise ImageError(f"{path}: cannot write this format; use .png or .jpg") from error
        if not written:
            raise ImageError(f"{path}: cannot write this picture; use .png or .jpg")
