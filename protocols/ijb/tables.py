"""Text tables of face-recognition protocols: parsed in blocks by pandas, judged strictly, errors with file and line."""

from __future__ import annotations

import csv
import io
import mmap
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.base import DatasetError

SPACES, COMMAS = " ", ","
"""What may separate the fields of a line: one space (or any white space, if the first line has more), or a comma."""

_BLOCK = 1 << 18
_SHOWN = 80

_SPAN_BYTES = 1 << 24
"""Bytes that are worth a thread: pandas lets others run while it parses."""

_MOST_THREADS = 8

_PATTERNS = {
    "id": rb"[0-9]{1,9}",
    "flag": rb"[01]",
    "number": rb"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?",
    "text": rb"[^,\s][^,\r\n]*",
}
_PARSED = {"id": "int64", "flag": "int64", "number": "float64", "text": "object"}
_STORED: dict[str, Any] = {"id": np.int32, "flag": np.bool_, "number": np.float32, "text": np.object_}
_LARGEST = {"id": 999_999_999, "flag": 1}


class Field(NamedTuple):
    """One column of a table.

    Attributes:
        name: What it is called in messages, and in the header where the table has one.
        kind: `id` (whole number of at most nine digits, int32), `flag` (0 or 1, bool), `number` (float32) or `text`
            (Python strings).
        optional: Whether a `number` may be empty, which gives nan.
        other_names: Further names that a header may use.
    """

    name: str
    kind: str
    optional: bool = False
    other_names: tuple[str, ...] = ()


class _Shape(NamedTuple):
    """How the lines of one file are built."""

    separator: str
    columns: tuple[Field | None, ...]  # None for a column that nobody asked for
    header: bool

    @property
    def line(self) -> bytes:
        """Regular expression of a good line, without its end."""
        between = {SPACES: rb" ", COMMAS: rb","}.get(self.separator, rb"[ \t]+")
        fields = [_pattern(field, self.separator) for field in self.columns]
        blank = rb"[ \t]*" if self.separator not in (SPACES, COMMAS) else b""
        more = rb"(?:,.*)?" if self.header else b""  # what stands right of the last wanted column does not matter
        return blank + between.join(fields) + more + blank + rb"\r?"


def read_table(
    path: Path, fields: Sequence[Field], *, separator: str = SPACES, header: bool = False, source: str = ""
) -> dict[str, NDArray[Any]]:
    """Read some columns of a text table.

    Numbers are parsed as 64 bits, checked and only then narrowed, so that nothing wraps round. Empty lines are skipped.

    Args:
        path: The file.
        fields: Without a header: the columns, all of them and in order. With one: the columns to look up by name.
        separator: `SPACES` or `COMMAS`.
        header: Whether the first line names the columns.
        source: The way out in messages, such as where the file comes from.

    Returns:
        Column by name, each `(R,)`: int32 (`id`), bool (`flag`), float32 (`number`) or object (`text`).

    Raises:
        DatasetError: If the file is missing, empty or cut off, or a line is not as it should be.
    """
    first = _first_line(path, source)
    shape = _with_header(path, first, fields) if header else _without_header(first, fields, separator)
    # pandas is lenient about the first line, which fixes the number of columns for it.
    if not header and not re.fullmatch(shape.line, first.encode(), re.DOTALL):
        raise _complaint(path, shape, source)
    try:
        return _parse(path, shape, fields)
    except (ValueError, OverflowError) as error:  # pandas' own errors and bad Unicode are ValueErrors
        raise _complaint(path, shape, source, str(error)) from error


def line_of_row(path: Path, row: int, *, header: bool = False) -> int:
    """Line number, from 1, of a row of a table, from 0; empty lines count as lines but not as rows."""
    with path.open("rb") as stream:
        filled = (number for number, line in enumerate(stream, start=1) if line.strip())
        return next(islice(filled, row + header, None), 0)


def check_names(path: Path, names: NDArray[np.object_]) -> None:
    """Check that picture names stay inside the folder of the pictures: relative, without `..`, with `/` only.

    Raises:
        DatasetError: If one does not; the message names it.
    """
    # One search through all names: no loop over half a million of them.
    found = re.search(r"^(?:.*/)?\.\.(?:/.*)?$|^/.*$|^.*\\.*$", "\n".join(names.tolist()), re.MULTILINE)
    if found:
        raise DatasetError(f"{path}: {found.group()[:_SHOWN]!r} cannot be a picture inside the data set")


def _pattern(field: Field | None, separator: str) -> bytes:
    """Regular expression of one field."""
    if field is None:
        return rb"[^,\r\n]*"
    pattern = rb"\S+" if field.kind == "text" and separator != COMMAS else _PATTERNS[field.kind]
    return rb"(?:" + pattern + rb")?" if field.optional else pattern


def _first_line(path: Path, source: str) -> str:
    """The first line that is not empty, without its end."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; {source or 'the data set needs it'}")
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        line = next((line for line in _bounded(stream) if line.strip()), "")
    if not line:
        raise DatasetError(f"{path}: is empty; {source or 'fetch it again'}")
    return line.rstrip("\r\n")


def _bounded(stream: Any) -> Iterator[str]:
    """Lines, the ones that are far too long for a table in pieces: a foreign file is not read whole."""
    while line := stream.readline(1 << 16):
        yield line


def _without_header(first: str, fields: Sequence[Field], separator: str) -> _Shape:
    """All columns are known; the first line says whether one space is enough to separate them."""
    plain = separator == COMMAS or " ".join(first.split()) == first
    return _Shape(separator if plain else r"\s+", tuple(fields), header=False)


def _with_header(path: Path, first: str, fields: Sequence[Field]) -> _Shape:
    """Look the wanted columns up in the header of a csv file."""
    names = [name.strip().upper() for name in first.split(COMMAS)]
    places: dict[int, Field] = {}
    for field in fields:
        known = [name for name in (field.name, *field.other_names) if name in names]
        if not known:
            raise DatasetError(f"{path}:1: the header has no column {field.name}: {first[:_SHOWN]!r}")
        places[names.index(known[0])] = field
    return _Shape(COMMAS, tuple(places.get(place) for place in range(max(places) + 1)), header=True)


def _parse(path: Path, shape: _Shape, fields: Sequence[Field]) -> dict[str, NDArray[Any]]:
    """The fast way: pandas in blocks of rows, a span of the file in each of some threads.

    Raises:
        ValueError: If anything is wrong; what and where has to be found out afterwards.
    """
    spans = _spans(path, shape)
    if len(spans) == 1:
        parts = [_parse_span(path, shape, spans[0])]
    else:
        with ThreadPoolExecutor(len(spans)) as pool:
            parts = list(pool.map(lambda span: _parse_span(path, shape, span), spans))
    table = {field.name: np.concatenate([one for part in parts for one in part[field.name]]) for field in fields}
    if not len(table[fields[0].name]):
        raise ValueError("no rows")
    return table


def _spans(path: Path, shape: _Shape) -> list[tuple[int, int]]:
    """Where to cut a file, between lines, so that each processor has something of a large one.

    Raises:
        ValueError: If the first line of a span is not as it should be, about which pandas is lenient.
    """
    size = path.stat().st_size
    count = max(1, min(os.cpu_count() or 1, _MOST_THREADS, size // _SPAN_BYTES))
    starts = [0]
    with path.open("rb") as stream:
        for place in range(1, count):
            stream.seek(max(starts[-1], size * place // count))
            stream.readline()
            start, line = stream.tell(), stream.readline()
            while line and not line.strip():
                start, line = stream.tell(), stream.readline()
            if line and not re.fullmatch(shape.line, line.removesuffix(b"\n"), re.DOTALL):
                raise ValueError(f"unexpected line at byte {start}")
            if line:
                starts.append(start)
    return list(pairwise([*starts, size]))


class _Span(io.RawIOBase):
    """Some bytes of a file, as a file."""

    def __init__(self, path: Path, start: int, stop: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._file.seek(start)
        self._left = stop - start

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(memoryview(buffer)[: self._left]) or 0
        self._left -= count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _parse_span(path: Path, shape: _Shape, span: tuple[int, int]) -> dict[str, list[NDArray[Any]]]:
    """The columns of some lines, block by block.

    Raises:
        ValueError: If anything is wrong.
    """
    import pandas as pd

    wanted = {str(place): field for place, field in enumerate(shape.columns) if field is not None}
    blocks: dict[str, list[NDArray[Any]]] = {field.name: [] for field in wanted.values()}
    dtypes: Mapping[str, Any] = {name: _PARSED[field.kind] for name, field in wanted.items()}
    with (
        io.BufferedReader(_Span(path, *span), 1 << 18) as text,
        pd.read_csv(
            text,
            sep=shape.separator,
            header=None,
            skiprows=int(shape.header and span[0] == 0),
            names=[str(place) for place in range(len(shape.columns))],
            usecols=list(wanted) if shape.header else None,
            dtype=dtypes,
            index_col=False,
            quoting=csv.QUOTE_NONE,
            keep_default_na=False,
            na_values=[""],
            na_filter=any(field.optional for field in wanted.values()),
            chunksize=_BLOCK,
        ) as reader,
    ):
        for block in reader:
            for name, field in wanted.items():
                blocks[field.name].append(_narrow(block[name].to_numpy(), field))
    return blocks


def _narrow(values: NDArray[Any], field: Field) -> NDArray[Any]:
    """Check one block of a column and store it in its final type."""
    largest = _LARGEST.get(field.kind)
    if largest is not None and len(values) and not (values.min() >= 0 and values.max() <= largest):
        raise ValueError(f"{field.name} out of range")
    if field.kind == "number":
        wild = np.isinf(values) if field.optional else ~np.isfinite(values)
        if wild.any():
            raise ValueError(f"{field.name} is not finite")
    # An empty text comes as nan, which is not equal to itself.
    if field.kind == "text" and ((values != values) | (values == "")).any():
        raise ValueError(f"{field.name} is empty")
    return values.astype(_STORED[field.kind], copy=False)


def _complaint(path: Path, shape: _Shape, source: str, reason: str = "") -> DatasetError:
    """The error for a table that cannot be read: the slow search for the line that is to blame."""
    wanted = f"'{_wanted(shape)}'"
    way_out = f"; {source}" if source else ""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
        start = text.find(b"\n") + 1 if shape.header else 0
        if shape.header and not text[start:].strip():
            return DatasetError(f"{path}: has a header and no rows{way_out}")
        found = re.compile(rb"(?m)^(?!(?:" + shape.line + rb"|[ \t]*\r?)$).*").search(text, start)
        if found is None:
            return DatasetError(f"{path}: cannot be read as lines of {wanted} ({' '.join(reason.split())}){way_out}")
        number = 1 + int(np.count_nonzero(np.frombuffer(text[: found.start()], np.uint8) == ord("\n")))
        line = found.group()[:_SHOWN].decode(errors="replace").rstrip("\r")
        cut = found.end() == len(text) and len(text) > 0
    if cut:
        return DatasetError(f"{path}:{number}: the file is cut off, expected {wanted}, got {line!r}{way_out}")
    return DatasetError(f"{path}:{number}: expected {wanted}, got {line!r}{way_out}")


def _wanted(shape: _Shape) -> str:
    """What a line should hold, in words."""
    between = COMMAS if shape.separator == COMMAS else " "
    texts = {"flag": "{} (0 or 1)", "id": "{}", "number": "{}", "text": "{}"}
    return between.join("..." if field is None else texts[field.kind].format(field.name) for field in shape.columns)
