"""Face folders in, prepared face stores out: pictures on disk and the arrays that training reads."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from maskfix.base import (
    UNREADABLE_ARRAYS,
    BoolArray,
    CropLayout,
    DatasetError,
    FloatArray,
    UInt8Array,
    canonical_layout,
    check_shape,
    replacing,
)

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
STORE_FILES = ("crops.npy", "points.npy", "correspondence.npy", "frames.npy", "records.csv", "layout.json")


def list_pictures(folder: str | Path) -> list[Path]:
    """All pictures below a folder, sorted, hidden files left out.

    Raises:
        DatasetError: If the folder is missing or holds no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; pass the folder that holds the pictures")
    found = (path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    pictures = sorted(path for path in found if path.is_file() and not path.name.startswith("."))
    if not pictures:
        raise DatasetError(f"{folder}: no pictures ({', '.join(PICTURE_SUFFIXES)}) in this folder")
    return pictures


@dataclasses.dataclass(frozen=True, eq=False)
class FaceStore:
    """Prepared faces, memory mapped: nothing is read before it is used.

    Attributes:
        crops: `(N, S, S, 3)` uint8 RGB in the canonical layout.
        points: `(N, 6, 2)` float32 mask points a..f in pixels of the crop.
        correspondence: `(N, S, S, 2)` uint8, see `correspondence_target`.
        frames: `(N, 4, 2)` float32 corners of the photograph in pixels of the crop; outside stands its reflection.
        names: N picture names, relative to the folder they came from.
        sha256: Hash of `records.csv`, which says of all pictures what they are.
    """

    crops: UInt8Array
    points: FloatArray
    correspondence: UInt8Array
    frames: FloatArray
    names: tuple[str, ...]
    sha256: str = ""

    @property
    def size(self) -> int:
        """Side of the crops in pixels."""
        return int(self.crops.shape[1])

    def __len__(self) -> int:
        """Number of faces."""
        return len(self.names)


def whole_photographs(frames: FloatArray, size: int) -> BoolArray:
    """Which photographs reach past the crop on every side: what surrounds the face there is real.

    Args:
        frames: `(N, 4, 2)` corners of the photographs in pixels of the crop, clockwise from the top left one.
        size: Side of the crop in pixels.

    Returns:
        `(N,)` bool.

    Raises:
        InputError: If the shape differs.

    Example:
        >>> whole_photographs(np.array([[[-9, -9], [140, -9], [140, 140], [-9, 140]]]), 128).tolist()
        [True]
    """
    check_shape("frames", frames, (None, 4, 2))
    sides = np.roll(frames, -1, axis=1) - frames
    corners = np.array([[0, 0], [size, 0], [size, size], [0, size]]) - 0.5
    offsets = corners[:, None] - frames[:, None]
    # A corner of the crop lies on the inner hand of each side of the photograph.
    turned = sides[:, None, :, 0] * offsets[..., 1] - sides[:, None, :, 1] * offsets[..., 0]
    return np.asarray((turned >= 0).all((1, 2)))


def read_records(folder: str | Path) -> pd.DataFrame:
    """What a store says of every picture, the failed ones too: image, ok, reason, sha256.

    Stores of earlier versions have no hashes. Names that are no UTF-8 stay what they are.

    Args:
        folder: The `--out` folder of `maskfix prepare`.

    Raises:
        OSError: If there is no `records.csv`.
        ValueError: If it is damaged.
    """
    # As objects: pandas' own strings cannot hold such names.
    return pd.read_csv(
        Path(folder) / "records.csv",
        dtype={"image": object, "reason": object, "sha256": object},
        keep_default_na=False,
        encoding_errors="surrogateescape",
    )


def open_store(folder: str | Path) -> FaceStore:
    """Open what `maskfix prepare` wrote.

    Args:
        folder: Its `--out` folder.

    Raises:
        DatasetError: If a file is missing, damaged, holds arrays of another kind, the files disagree on the number of
            faces, or the crops are not in the canonical layout.
    """
    folder = Path(folder)
    missing = [name for name in STORE_FILES if not (folder / name).is_file()]
    if missing:
        raise DatasetError(
            f"{folder}: {', '.join(missing)} missing; make it with: maskfix prepare --images DIR --out {folder}"
        )
    try:
        arrays = [np.load(folder / name, mmap_mode="r") for name in STORE_FILES[:4]]
    except UNREADABLE_ARRAYS as error:
        raise DatasetError(f"{folder}: damaged array ({error}); run maskfix prepare again") from error
    try:
        records = read_records(folder)
        names = tuple(records.loc[records["ok"], "image"])
    except (ValueError, KeyError) as error:
        raise DatasetError(f"{folder}: damaged records.csv ({error}); run maskfix prepare again") from error
    if {len(array) for array in arrays} != {len(names)}:
        raise DatasetError(f"{folder}: the files disagree on the number of faces; run maskfix prepare again")
    crops, points, correspondence, frames = arrays
    size = crops.shape[1] if crops.ndim == 4 else 0
    expected = (("u1", (size, size, 3)), ("f4", (6, 2)), ("u1", (size, size, 2)), ("f4", (4, 2)))
    for name, array, (kind, shape) in zip(STORE_FILES, arrays, expected, strict=False):
        if array.dtype != np.dtype(kind) or array.shape[1:] != shape:
            raise DatasetError(
                f"{folder}: {name} holds {array.shape} of {array.dtype}, not of these faces; run maskfix prepare again"
            )
    _check_layout(folder, canonical_layout(size))
    with (folder / "records.csv").open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return FaceStore(crops, points, correspondence, frames, names, digest)


def write_layout(folder: str | Path, layout: CropLayout) -> None:
    """Note beside a store how its faces were cropped: a network learns nothing of use from another crop."""
    with replacing(Path(folder) / "layout.json") as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(layout)) + "\n", encoding="utf-8")


def _check_layout(folder: Path, expected: CropLayout) -> None:
    try:
        found = json.loads((folder / "layout.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(f"{folder}: damaged layout.json ({error}); run maskfix prepare again") from error
    # A round through JSON makes lists of tuples, as in what was read.
    if found != json.loads(json.dumps(dataclasses.asdict(expected))):
        raise DatasetError(
            f"{folder}: its crops are not in this version's layout {expected.name!r}; run maskfix prepare again"
        )
