"""Where mask templates come from: this project's own drawings, or any folder in MaskTheFace's layout."""

from __future__ import annotations

import configparser
import functools
import hashlib
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np

from maskfix.base import DatasetError, FloatArray, UInt8Array
from maskfix.occlude.quads import in_order

View = Literal["front", "left", "right"]
"""Front, or turned towards the image's left or right side (the far cheek is on that side)."""

MAX_TEMPLATE_PIXELS = 16_000_000
"""Template pictures with more pixels are refused before they are decoded."""

_MAX_CFG_BYTES = 1_000_000
_POINT_KEYS = ("mask_a", "mask_b", "mask_c", "mask_d", "mask_e", "mask_f")


class Template(NamedTuple):
    """One mask picture and where it sits on a face.

    Attributes:
        image: `(h, w, 4)` uint8 RGBA, not premultiplied.
        points: a..f, `(6, 2)` float32, x and y in template pixels; they may lie outside the picture. a, b, c are the
            upper left, middle and right, d, e, f the lower left, middle (chin) and right, as seen in the picture.
    """

    image: UInt8Array
    points: FloatArray


class TemplateSource(Protocol):
    """Anything that hands out mask templates by name and view."""

    @property
    def name(self) -> str:
        """Short name, for reports."""

    @property
    def templates(self) -> tuple[str, ...]:
        """Names of the templates that there are."""

    def get(self, template: str, view: View) -> Template:
        """Give one template.

        Args:
            template: Name, one of `templates`.
            view: Which view of it.

        Raises:
            DatasetError: If the source lacks the template.
        """


class _Section(NamedTuple):
    """One section of masks.cfg after its checks."""

    path: Path
    points: FloatArray


class FolderTemplates:
    """Templates of a folder in MaskTheFace's layout; pictures are read at first use and kept.

    Args:
        path: Folder with `masks.cfg` and the PNG files it names.

    Raises:
        DatasetError: If the folder or `masks.cfg` is missing or broken, a picture it names is missing or lies outside
            the folder, or six points do not form two halves of a mask.
    """

    def __init__(self, path: str | Path) -> None:
        self._folder = Path(path)
        self._sections = _read_sections(self._folder)
        self._kept: dict[tuple[str, View], Template] = {}

    @property
    def name(self) -> str:
        """`folder:` and the folder's name."""
        return f"folder:{self._folder.name}"

    @property
    def sha256(self) -> str:
        """Hash of `masks.cfg` and of the pictures it names, 64 hexadecimal digits: folders of one name may differ.

        Raises:
            DatasetError: If a file is gone.
        """
        digest = hashlib.sha256()
        try:
            for path in (self._folder / "masks.cfg", *(section.path for section in self._sections.values())):
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            raise DatasetError(f"{self._folder}: cannot be read ({error}); restore the file") from error
        return digest.hexdigest()

    @property
    def templates(self) -> tuple[str, ...]:
        """Names of the templates that have a front view, sorted."""
        return tuple(sorted(n for n in self._sections if not n.endswith(("_left", "_right"))))

    def get(self, template: str, view: View) -> Template:
        """Give one template; a missing side view is the other side mirrored, or else the front.

        Raises:
            DatasetError: If the folder has no such template or its picture is damaged.
        """
        key = (template, view)
        if key not in self._kept:
            self._kept[key] = self._load(template, view)
        return self._kept[key]

    def _load(self, template: str, view: View) -> Template:
        if template not in self._sections:
            known = ", ".join(self.templates) or "none"
            raise DatasetError(f"{self._folder / 'masks.cfg'}: no template {template!r}; it has: {known}")
        if view == "front":
            return _read_template(self._sections[template])
        other: View = "left" if view == "right" else "right"
        if f"{template}_{view}" in self._sections:
            return _read_template(self._sections[f"{template}_{view}"])
        if f"{template}_{other}" in self._sections:
            return mirrored(_read_template(self._sections[f"{template}_{other}"]))
        return _read_template(self._sections[template])


def source_sha256(source: TemplateSource) -> str | None:
    """Hash of the files that templates come from; None where they come from no files, as drawn ones do."""
    return source.sha256 if isinstance(source, FolderTemplates) else None


def folder_templates(path: str | Path) -> FolderTemplates:
    """Open a folder in MaskTheFace's layout: `masks.cfg` and the PNG files it names.

    Args:
        path: The folder, for example `../shared/data/masktheface`.

    Raises:
        DatasetError: One line that names what is missing or broken (see `FolderTemplates`).
    """
    return FolderTemplates(path)


@functools.cache
def drawn_templates() -> TemplateSource:
    """The templates drawn by this project's own code; each is drawn at first use and kept."""
    from maskfix.occlude.drawn import DrawnTemplates

    return DrawnTemplates()


def mirrored(template: Template) -> Template:
    """Mirror a template left to right; a and c, d and f change places."""
    points = template.points[[2, 1, 0, 5, 4, 3]].copy()
    # The mirror image of pixel centre x is w - 1 - x.
    points[:, 0] = template.image.shape[1] - 1 - points[:, 0]
    return Template(np.ascontiguousarray(template.image[:, ::-1]), points)


def _read_sections(folder: Path) -> dict[str, _Section]:
    """Read and check all sections of masks.cfg that name a picture."""
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder of mask templates; give one that holds masks.cfg")
    path = folder / "masks.cfg"
    if not path.is_file():
        raise DatasetError(f"{folder}: holds no masks.cfg; give a folder in MaskTheFace's layout (masks.cfg + PNG)")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        if path.stat().st_size > _MAX_CFG_BYTES:
            raise DatasetError(f"{path}: larger than {_MAX_CFG_BYTES} bytes, this is no masks.cfg")
        parser.read_string(path.read_text(encoding="utf-8"))
    except (configparser.Error, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(f"{path}: cannot be read ({reason}); restore the file") from error
    # [empty] and [inpaint] name no picture: they are commands of MaskTheFace, not templates.
    names = [name for name in parser.sections() if parser.has_option(name, "template")]
    sections = {name: _check_section(path, name, parser[name]) for name in names}
    if not sections:
        raise DatasetError(f"{path}: names no template; restore the file")
    return sections


def _check_section(path: Path, name: str, section: configparser.SectionProxy) -> _Section:
    """Check one section of masks.cfg: its picture is there and its points make two halves of a mask."""
    picture = _find_picture(path, name, section["template"])
    rows = []
    for key in _POINT_KEYS:
        text = section.get(key)
        try:
            x, y = (float(part) for part in (text or "").split(","))
        except ValueError as error:
            raise DatasetError(f"{path}: [{name}] {key} should be 'x, y', got {text!r}") from error
        rows.append((x, y))
    points = np.asarray(rows, dtype=np.float32)
    if not np.isfinite(points).all() or not in_order(points):
        raise DatasetError(
            f"{path}: [{name}] the points a..f do not form the left and the right half of a mask "
            "(a, b, c along the top from left to right, d, e, f along the bottom)"
        )
    return _Section(picture, points)


def _find_picture(path: Path, name: str, value: str) -> Path:
    """Find a template's picture inside the folder of masks.cfg.

    MaskTheFace writes paths relative to its own root (`masks/templates/x.png`), while the folder may have any name;
    leading parts are dropped until a file is found. A path that leaves the folder is refused.
    """
    folder = path.parent
    parts = Path(value.strip()).parts
    if not parts or ".." in parts or Path(value.strip()).is_absolute():
        raise DatasetError(f"{path}: [{name}] template {value!r} must be a relative path inside the folder")
    for start in range(len(parts)):
        candidate = folder.joinpath(*parts[start:])
        if candidate.is_file() and candidate.resolve().is_relative_to(folder.resolve()):
            return candidate
    raise DatasetError(f"{path}: [{name}] names {value}, which is not in {folder}; restore the picture")


def _read_template(section: _Section) -> Template:
    """Read a template's picture as RGBA."""
    from PIL import Image, UnidentifiedImageError

    path = section.path
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_TEMPLATE_PIXELS:
                raise DatasetError(f"{path}: {picture.width}x{picture.height} is too large for a template; shrink it")
            image = np.array(picture.convert("RGBA"), dtype=np.uint8)
    except UnidentifiedImageError as error:
        raise DatasetError(f"{path}: not a picture; a template is an RGBA PNG") from error
    except (OSError, SyntaxError, ValueError, RuntimeError, Image.DecompressionBombError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{path}: truncated or damaged template ({error}); replace the file") from error
    return Template(image, section.points)
