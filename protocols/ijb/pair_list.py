"""Lists of template comparisons, 15.7 million lines for IJB-C: read once, then mapped from a cache."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.base import UNREADABLE_ARRAYS, BoolArray, replacing
from protocols.ijb.tables import COMMAS, SPACES, Field, read_table

CACHE_FORMAT = 1
"""Part of the cache's key; to be raised whenever the columns of the cache change."""

_ENDS = 1 << 16
_KEY_BYTES = 32
_SIDES = (Field("gallery_template", "id"), Field("probe_template", "id"))
_LABEL = Field("label", "flag")


class IdPairs(NamedTuple):
    """P comparisons as a list names them.

    Attributes:
        gallery: Id of the gallery (enrol) template, `(P,)` int32.
        probe: Id of the probe (verif) template, `(P,)` int32.
        same: True for genuine comparisons, `(P,)` bool; None where the list has no labels.
    """

    gallery: NDArray[np.int32]
    probe: NDArray[np.int32]
    same: BoolArray | None


def read_pair_list(path: str | Path, cache: str | Path | None = None) -> IdPairs:
    """Read a list of labelled comparisons, such as ijbc_template_pair_label.txt.

    A line is `gallery_template probe_template label`, separated by spaces; label 1 is genuine, 0 impostor. The first
    reading takes about as long as `pandas.read_csv` in one thread, checks and all; it leaves a cache of nine bytes a
    line, which later readings map into memory in milliseconds. The cache holds for a file's size, time stamp, and first
    and last 64 KiB.

    Args:
        path: The list.
        cache: Folder for the cache; beside the list, as a hidden file, when None. Where it cannot be written, the list
            is read anew each time.

    Returns:
        The comparisons, in the order of the list. The arrays cannot be written to.

    Raises:
        DatasetError: If the file is missing, cut off, or a line is not as it should be; the message names the line.
    """
    return _read(Path(path), cache, (*_SIDES, _LABEL), SPACES)


def read_matches(path: str | Path, cache: str | Path | None = None) -> IdPairs:
    """Read a list of comparisons without labels, such as NIST's match.csv: `gallery_template,probe_template`.

    Args:
        path: The list; it has no header.
        cache: As in `read_pair_list`.

    Returns:
        The comparisons, `same` None. The arrays cannot be written to.

    Raises:
        DatasetError: As `read_pair_list`.
    """
    return _read(Path(path), cache, _SIDES, COMMAS)


def cache_path(path: str | Path, cache: str | Path | None = None) -> Path:
    """Where the cache of a list lies: beside the list, or in a folder, where the list's full path makes its name."""
    path = Path(path)
    if cache is None:
        return path.with_name(f".{path.name}.npy")
    return Path(cache) / f"{path.name}-{hashlib.sha256(bytes(path.resolve())).hexdigest()[:12]}.npy"


def _read(path: Path, cache: str | Path | None, fields: Sequence[Field], separator: str) -> IdPairs:
    """From the cache, or else from the text into the cache."""
    place = cache_path(path, cache)
    key = _key(path, len(fields)) if path.is_file() else b""
    known = _load(place, key, len(fields))
    if known is not None:
        return known
    source = "fetch the list again; a line holds " + ", ".join(field.name for field in fields)
    table = read_table(path, fields, separator=separator, source=source)
    pairs = IdPairs(table[_SIDES[0].name], table[_SIDES[1].name], table.get(_LABEL.name))
    for column in pairs:
        if column is not None:
            column.setflags(write=False)
    with contextlib.suppress(OSError):  # data sets may lie where nobody may write
        _save(place, key, pairs)
    return pairs


def _key(path: Path, columns: int) -> bytes:
    """What the cache of a file belongs to, 32 bytes."""
    status = path.stat()
    told = f"{CACHE_FORMAT} {columns} {sys.byteorder} {status.st_size} {status.st_mtime_ns}"
    digest = hashlib.sha256(told.encode())
    with path.open("rb") as stream:
        digest.update(stream.read(_ENDS))
        stream.seek(max(status.st_size - _ENDS, 0))
        digest.update(stream.read(_ENDS))
    return digest.digest()


def _load(place: Path, key: bytes, columns: int) -> IdPairs | None:
    """Map a cache into memory; None where there is none, or it is damaged or belongs to another file."""
    try:
        data = np.asarray(np.load(place, mmap_mode="r", allow_pickle=False))
    except UNREADABLE_ARRAYS:
        return None
    width = 9 if columns == 3 else 8
    if data.dtype != np.uint8 or data.ndim != 1 or data[:_KEY_BYTES].tobytes() != key:
        return None
    count, rest = divmod(len(data) - _KEY_BYTES, width)
    if rest:
        return None
    gallery, probe, same = np.split(data[_KEY_BYTES:], [4 * count, 8 * count])
    return IdPairs(gallery.view(np.int32), probe.view(np.int32), same.view(np.bool_) if columns == 3 else None)


def _save(place: Path, key: bytes, pairs: IdPairs) -> None:
    """Write the key and the columns, one after the other, as one .npy file of bytes; it appears whole or not at all."""
    columns = [column for column in pairs if column is not None]
    size = _KEY_BYTES + sum(column.nbytes for column in columns)
    with replacing(place) as temporary, temporary.open("wb") as stream:
        _write_header(stream, size)
        stream.write(key)
        for column in columns:
            stream.write(np.ascontiguousarray(column).data)


def _write_header(stream: IO[bytes], size: int) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (size,)}
    np.lib.format.write_array_header_1_0(stream, header)  # type: ignore[no-untyped-call]
