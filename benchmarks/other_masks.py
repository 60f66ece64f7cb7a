"""`python -m benchmarks.other_masks`: masks that no training saw, as templates, out of packages of PyPI.

Two packages bring pictures of masks of their own. insightface's mask renderer has four photographs of flat surgical
masks; face-mask 0.3.0 has four drawings, two of them with a face printed on. The folder written is read like
MaskTheFace's:

    python -m benchmarks.other_masks --out runs/other-masks
    python -m benchmarks.lfw --templates runs/other-masks --kind photo_blue --kind photo_white ...

Nothing of the packages is part of this project.
"""

from __future__ import annotations

import configparser
import importlib.util
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer

from maskfix.base import DependencyError, InputError, UInt8Array, check_choice, replacing
from maskfix.cli.shared import one_line_errors

Points = tuple[tuple[float, float], ...]


class MaskPicture(NamedTuple):
    """A picture in a package and where its mask sits.

    Attributes:
        file: The picture, from the package's folder on.
        points: a..f as `maskfix.occlude.Template` has them, each as shares of the picture's width and height, read off
            by eye. None where the mask lies flat, see `worn`.
    """

    file: str
    points: Points | None


WORN_POINTS: Points = ((0.0, 0.16), (0.5, 0.0), (1.0, 0.16), (0.0, 0.68), (0.5, 1.0), (1.0, 0.68))
"""a..f of a flat mask once it is worn: the upper edge rises to the nose, the lower one falls to the chin."""

_BORDER = 0.04
"""Share of a flat photograph's width and height that is cut off on each side: its borders are light and uneven."""

PACKAGES: dict[str, dict[str, MaskPicture]] = {
    "insightface": {
        f"photo_{colour}": MaskPicture(f"data/images/mask_{colour}.jpg", None)
        for colour in ("black", "blue", "green", "white")
    },
    "face_mask": {
        "drawn_grey": MaskPicture(
            "images/default-mask.png",
            ((0.13, 0.27), (0.5, 0.04), (0.87, 0.27), (0.16, 0.74), (0.5, 0.98), (0.84, 0.74)),
        ),
        "drawn_blue": MaskPicture(
            "images/blue-mask.png",
            ((0.11, 0.33), (0.48, 0.07), (0.9, 0.33), (0.15, 0.84), (0.53, 0.99), (0.88, 0.84)),
        ),
        "print_black": MaskPicture(
            "images/black-mask.png",
            ((0.09, 0.2), (0.5, 0.04), (0.91, 0.2), (0.09, 0.81), (0.5, 0.98), (0.91, 0.8)),
        ),
        "print_red": MaskPicture(
            "images/red-mask.png",
            ((0.12, 0.33), (0.5, 0.15), (0.88, 0.32), (0.12, 0.85), (0.5, 0.93), (0.88, 0.85)),
        ),
    },
}
"""The pictures of each package, by the names that their kinds get."""

_INSTALL = {"insightface": "insightface", "face_mask": "--no-deps face-mask==0.3.0"}


def write_templates(package: str, out: Path) -> tuple[str, ...]:
    """Write the masks of one package as a folder in MaskTheFace's layout.

    Args:
        package: One of `PACKAGES`.
        out: Folder to write; it is made, and must not hold a `masks.cfg` yet.

    Returns:
        The kinds that the folder gives.

    Raises:
        InputError: If the package is unknown or the folder holds templates already.
        DependencyError: If the package is not installed, or a version without these pictures is.
    """
    check_choice("package", package, PACKAGES)
    if (out / "masks.cfg").exists():
        raise InputError(f"{out}: holds masks.cfg already; give another folder")
    root = _folder_of(package)
    table = configparser.ConfigParser()
    for name, picture in PACKAGES[package].items():
        image = _read(root / picture.file, package)
        if picture.points is None:
            image = worn(image)
        height, width = image.shape[:2]
        points = np.array(picture.points or WORN_POINTS) * [width - 1, height - 1]
        _write(out / f"{name}.png", image)
        table[name] = {"template": f"{name}.png"} | {
            f"mask_{letter}": f"{x:.1f}, {y:.1f}" for letter, (x, y) in zip("abcdef", points, strict=True)
        }
    with replacing(out / "masks.cfg") as temporary, temporary.open("w", encoding="utf-8") as file:
        table.write(file)
    return tuple(PACKAGES[package])


def worn(flat: UInt8Array) -> UInt8Array:
    """Bend a flat mask as a face does: each column is stretched between an arched upper and a rounded lower edge.

    Args:
        flat: `(h, w, 4)` uint8 RGBA, a mask that fills its picture.

    Returns:
        `(h', w', 4)` uint8 RGBA without the flat picture's borders; `WORN_POINTS` lie on its outline.
    """
    import cv2

    rows, columns = (round(_BORDER * side) for side in flat.shape[:2])
    inner = flat[rows : flat.shape[0] - rows, columns : flat.shape[1] - columns]
    height, width = inner.shape[0] * 3 // 2, inner.shape[1]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    (_, side_top), _, _, (_, side_bottom), _, _ = WORN_POINTS
    aside = (2 * x / (width - 1) - 1) ** 2
    top, bottom = side_top * aside * (height - 1), (1 - (1 - side_bottom) * aside) * (height - 1)
    source = ((y - top) / (bottom - top) * (inner.shape[0] - 1)).astype(np.float32)
    # The colour goes on beyond the edges, where it is clear: no dark seam.
    bent = cv2.remap(inner, x, source, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    bent[..., 3] = cv2.remap(inner[..., 3], x, source, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(bent, dtype=np.uint8)


def _folder_of(package: str) -> Path:
    """The package's folder, found without running anything of it: face_mask asks for libraries of 2020 when run."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DependencyError(f"{package}: not installed; pip install {_INSTALL[package]}")
    return Path(spec.submodule_search_locations[0])


def _read(path: Path, package: str) -> UInt8Array:
    """A picture as RGBA."""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            return np.array(picture.convert("RGBA"), dtype=np.uint8)
    except OSError as error:
        raise DependencyError(f"{path}: cannot be read ({error}); pip install {_INSTALL[package]}") from error


def _write(path: Path, image: UInt8Array) -> None:
    from PIL import Image

    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")


app = typer.Typer(add_completion=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Folder to write the templates to.")],
    package: Annotated[str, typer.Option(help="insightface (photographs) or face_mask (drawings).")] = "insightface",
) -> None:
    """Masks of other tools as templates for `--templates` of the benchmarks."""
    with one_line_errors():
        kinds = write_templates(package, out)
    print(f"{out}: {' '.join(f'--kind {kind}' for kind in kinds)}")


if __name__ == "__main__":
    app()
