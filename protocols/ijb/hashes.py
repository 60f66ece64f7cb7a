"""SHA-256 of picture files, hashed once: a cache on disk by name, size and time stamp."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskfix.base import UNREADABLE_ARRAYS, BoolArray, UInt8Array, replacing
from protocols.base import Progress, silent

CACHE_FORMAT = 1
"""Part of the file's name; to be raised whenever its arrays change."""

SAVE_EVERY_S = 30.0
"""Seconds after which new hashes are written: what a killed run loses at most."""

_AT_ONCE = 512
_THREADS = 8

Stamps = NDArray[np.int64]


def hash_files(root: Path, names: Sequence[str], cache: Path, progress: Progress = silent) -> UInt8Array:
    """SHA-256 of the bytes of each file; only files that the cache does not know are read.

    A file of unchanged size and time stamp (in nanoseconds) is not read again. A file that cannot be read gets a hash
    of its name instead, which no other file has; whoever reads the picture later says what is wrong with it.

    Args:
        root: Folder that the names are relative to.
        names: F distinct files.
        cache: Folder for the cache, one file for each `root`.
        progress: Told about the files that are read, as stage `hashes`.

    Returns:
        `(F, 32)` uint8.
    """
    path = cache_path(root, cache)
    ordered = np.array(names, dtype=np.str_)
    stamps = np.array([_stamp(root / name) for name in names], dtype=np.int64).reshape(-1, 2)
    digests = np.zeros((len(names), 32), dtype=np.uint8)
    known = _look_up(path, ordered, stamps, digests)
    todo = np.flatnonzero(~known)
    if not len(todo):
        return digests
    progress("hashes", 0, len(todo))
    saved = time.monotonic()
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(todo), _AT_ONCE):
            rows = todo[start : start + _AT_ONCE]
            found = list(pool.map(lambda row: _digest(root, names[row]), rows.tolist()))
            digests[rows] = np.frombuffer(b"".join(digest for digest, _ in found), np.uint8).reshape(-1, 32)
            known[rows] = [whole for _, whole in found]
            progress("hashes", min(start + _AT_ONCE, len(todo)), len(todo))
            if time.monotonic() - saved > SAVE_EVERY_S:
                _save(path, ordered[known], stamps[known], digests[known])
                saved = time.monotonic()
    _save(path, ordered[known], stamps[known], digests[known])
    return digests


def cache_path(root: Path, cache: Path) -> Path:
    """Where the hashes of a folder's files are kept."""
    return cache / f"hashes-{hashlib.sha256(bytes(root.resolve())).hexdigest()[:12]}-{CACHE_FORMAT}.npz"


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time stamp of a file; -1 where there is none."""
    try:
        state = path.stat()
    except OSError:
        return -1, -1
    return state.st_size, state.st_mtime_ns


def _digest(root: Path, name: str) -> tuple[bytes, bool]:
    """SHA-256 of a file and True, or a stand-in and False."""
    try:
        with (root / name).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest(), True
    except OSError:
        return hashlib.sha256(f"unreadable: {name}".encode()).digest(), False


def _look_up(path: Path, names: NDArray[np.str_], stamps: Stamps, digests: UInt8Array) -> BoolArray:
    """Fill in the hashes that the cache holds; gives which, `(F,)` bool."""
    known = np.zeros(len(names), dtype=np.bool_)
    try:
        with np.load(path, allow_pickle=False) as file:
            old, old_stamps, old_digests = file["name"], file["stamp"], file["sha256"]
    except UNREADABLE_ARRAYS:
        return known
    shapes = (old.shape, old_stamps.shape, old_digests.shape, old_digests.dtype)
    if not len(old) or shapes != ((len(old),), (len(old), 2), (len(old), 32), np.dtype(np.uint8)):
        return known
    place = np.minimum(np.searchsorted(old, names), len(old) - 1)
    known[:] = (old[place] == names) & (old_stamps[place] == stamps).all(axis=1)
    digests[known] = old_digests[place[known]]
    return known


def _save(path: Path, names: NDArray[np.str_], stamps: Stamps, digests: UInt8Array) -> None:
    """Write the cache, sorted by name."""
    order = np.argsort(names)
    with replacing(path) as temporary:
        np.savez(temporary, name=names[order], stamp=stamps[order], sha256=digests[order])
