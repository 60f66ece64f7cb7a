"""How `maskfix complete` writes a completed picture: the format of its suffix, and what it keeps of the source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskfix.base import UInt8Array

_JPEG = {"quality": 95, "subsampling": 0}
_OPTIONS: dict[str, dict[str, Any]] = {
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": {"quality": 95},
    ".tif": {"compression": "tiff_deflate"},
}
_OPTIONS[".tiff"] = _OPTIONS[".tif"]


def save_picture(path: Path, picture: UInt8Array, source: Path) -> None:
    """Write a picture in the format of its suffix, with the colour profile of the picture that it was made of."""
    from PIL import Image

    with Image.open(source) as original:
        # Profiles of grey and CMYK pictures do not describe the RGB values that they were converted to.
        profile = original.info.get("icc_profile") if original.mode in ("RGB", "RGBA", "P") else None
    options = dict(_OPTIONS.get(path.suffix.lower(), {}))
    if profile:
        options["icc_profile"] = profile
    Image.fromarray(picture).save(path, **options)
