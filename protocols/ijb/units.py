"""Units: what is read, masked, completed and embedded once, however many rows of templates show it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.base import BoolArray, FloatArray, UInt8Array
from protocols.base import Integers, Progress, silent
from protocols.ijb.hashes import hash_files
from protocols.ijb.templates import Ids, TemplateSet


class Units(NamedTuple):
    """U units, each one face on one picture, in the order of their first rows.

    Frames of IJB-C repeat across templates, also under other file names (protocols.md 2.1): rows whose files have the
    same bytes and that have the same points and box are one unit.

    Attributes:
        row: Unit of each row, `(R,)` int32.
        order: Rows in the order of their units, `(R,)`; this is the order in which rows are pooled.
        start: Where each unit begins in `order`, `(U + 1,)`.
        image: A picture file of each unit, relative to the pictures' folder, `(U,)` strings.
        digest: SHA-256 of that file, `(U, 32)` uint8: the key of its mask.
        points: Five points, `(U, 5, 2)` float32; nan where the layout has none.
        box: Face box, `(U, 4)` float32; nan where there is none.
        probe: Whether a row of a probe template shows it, so that it is masked and completed, `(U,)` bool.
        gallery: Whether a row of a gallery template shows it, `(U,)` bool; a unit can be both.
    """

    row: Ids
    order: Integers
    start: Integers
    image: NDArray[np.object_]
    digest: UInt8Array
    points: FloatArray
    box: FloatArray
    probe: BoolArray
    gallery: BoolArray


class Job(NamedTuple):
    """A block of N units, with all that a worker needs to know of them.

    Attributes:
        number: Place of the block.
        paths: Picture file of each unit.
        digest: SHA-256 of each file, `(N, 32)` uint8.
        points: Five points, `(N, 5, 2)` float32; nan where there are none.
        box: Face box, `(N, 4)` float32; nan where there is none.
        probe: Whether a unit is masked and completed, `(N,)` bool.
    """

    number: int
    paths: tuple[str, ...]
    digest: UInt8Array
    points: FloatArray
    box: FloatArray
    probe: BoolArray


def find_units(data: TemplateSet, cache: Path, progress: Progress = silent) -> Units:
    """Group the rows of a set by what they show.

    Args:
        data: The set.
        cache: Folder for the hashes of the pictures.
        progress: Told about the files that are hashed, as stage `hashes`.
    """
    rows = data.rows
    names, file = np.unique(rows.image.astype(np.str_), return_inverse=True)
    digest = hash_files(data.pictures, names.tolist(), cache, progress)[file.reshape(-1)]
    box = np.full((len(file), 4), np.nan, dtype=np.float32) if rows.box is None else rows.box
    # Bytes as keys: nan becomes 0 and -0 becomes 0, so that equal numbers have equal bytes.
    numbers = np.nan_to_num(np.concatenate([rows.points.reshape(-1, 10), box], axis=1).astype(np.float32)) + 0.0
    key = np.ascontiguousarray(np.concatenate([digest, numbers.astype(np.float32).view(np.uint8)], axis=1))
    _, first, group = np.unique(key.view(f"V{key.shape[1]}").reshape(-1), return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    unit, first = rank[group.reshape(-1)], np.sort(first)
    probe_row = data.is_probe[data.row_template]
    return Units(
        row=unit,
        order=np.argsort(unit, kind="stable"),
        start=np.append(0, np.cumsum(np.bincount(unit, minlength=len(first)))),
        image=rows.image[first],
        digest=digest[first],
        points=rows.points[first],
        box=box[first],
        probe=np.bincount(unit, probe_row, len(first)) > 0,
        gallery=np.bincount(unit, ~probe_row, len(first)) > 0,
    )


def make_job(units: Units, pictures: Path, number: int, size: int) -> Job:
    """Block `number` of the units, `size` of them or, at the end, fewer.

    Args:
        units: The units.
        pictures: Folder of the pictures.
        number: Place of the block, from 0.
        size: Units in a block.
    """
    part = slice(number * size, (number + 1) * size)
    return Job(
        number,
        tuple(str(pictures / name) for name in units.image[part]),
        units.digest[part],
        units.points[part],
        units.box[part],
        units.probe[part],
    )
