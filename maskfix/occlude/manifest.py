"""The manifest of a run's masks: which picture wears which mask, where, and why not."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from maskfix.base import DatasetError, FloatArray, replacing

_POINT_COLUMNS = tuple(f"{letter}_{axis}" for letter in "abcdef" for axis in "xy")
# File names may hold bytes that are no UTF-8.
_TEXT: Any = {"encoding": "utf-8", "errors": "surrogateescape"}
_COLUMNS = ("image", "role", "kind", "colour", "seed", "ok", "reason", *_POINT_COLUMNS)


class OcclusionRecord(NamedTuple):
    """One picture in one role.

    Attributes:
        image: What names the picture in its data set.
        role: What the picture is used for, for example `probe`.
        kind: Name of the mask, see `parse_kind`.
        colour: `#rrggbb` mixed into the template, or None.
        seed: Seed of the run that drew the kind.
        points: a..f, `(6, 2)` float32, x and y in pixels of the photo; None where no face was found.
        ok: Whether the mask was put on.
        reason: Empty where it was, otherwise one line that says why not.
    """

    image: str
    role: str
    kind: str
    colour: str | None
    seed: int
    points: FloatArray | None
    ok: bool
    reason: str


def write_manifest(path: str | Path, records: Iterable[OcclusionRecord]) -> None:
    """Write records as CSV, one row each, in the order given; the file appears whole or not at all.

    Points are written with the shortest digits that give the same float32 again, so reading returns them exactly.

    Args:
        path: The file to write; its folder is made if it is missing.
        records: The records.
    """
    with replacing(path) as temporary, temporary.open("w", newline="", **_TEXT) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for record in records:
            writer.writerow(_to_row(record))


def read_manifest(path: str | Path) -> list[OcclusionRecord]:
    """Read what `write_manifest` wrote.

    Raises:
        DatasetError: If the file is missing, is no manifest, or a row is broken; the message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"{path}: no such manifest")
    records = []
    try:
        with path.open(newline="", **_TEXT) as file:
            reader = csv.reader(file, strict=True)
            if tuple(next(reader, ())) != _COLUMNS:
                raise DatasetError(f"{path}: is no manifest of masks; its first line should be {','.join(_COLUMNS)}")
            for row in reader:
                try:
                    records.append(_from_row(row))
                except ValueError as error:
                    raise DatasetError(f"{path}: line {reader.line_num} is broken ({error}); write it anew") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: is no manifest of masks ({error}); write it anew") from error
    return records


def _to_row(record: OcclusionRecord) -> list[str]:
    if record.points is None:
        numbers = [""] * len(_POINT_COLUMNS)
    else:
        numbers = [
            np.format_float_positional(value, unique=True, trim="-")
            for value in np.asarray(record.points, dtype=np.float32).ravel()
        ]
    fields = [record.image, record.role, record.kind, record.colour or "", str(record.seed)]
    return [*fields, "yes" if record.ok else "no", record.reason, *numbers]


def _from_row(row: list[str]) -> OcclusionRecord:
    if len(row) != len(_COLUMNS):
        raise ValueError(f"{len(row)} fields instead of {len(_COLUMNS)}")
    image, role, kind, colour, seed, ok, reason, *numbers = row
    if ok not in ("yes", "no"):
        raise ValueError(f"ok should be yes or no, got {ok!r}")
    points: FloatArray | None = None
    if any(numbers):
        points = np.array(numbers, dtype=np.float32).reshape(6, 2)
    return OcclusionRecord(image, role, kind, colour or None, int(seed), points, ok == "yes", reason)
