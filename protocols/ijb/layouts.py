"""IJB-B and IJB-C 1:1 in whatever layout a folder holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from maskfix.base import DatasetError, check_choice
from protocols.ijb.community import LOOKED_FOR, find_community, read_community
from protocols.ijb.nist import LOOKED_FOR_FLAT, LOOKED_FOR_TEST1, NistFiles, find_flat, find_test1, read_nist
from protocols.ijb.templates import TemplateSet


class _Layout(NamedTuple):
    """How a layout is known and read."""

    looked_for: str
    holds: Callable[[Path], bool]
    read: Callable[[Path, Path | None, bool], TemplateSet]


def _community(folder: Path, cache: Path | None, pictures: bool) -> TemplateSet:
    files = find_community(folder)
    if files is None:
        raise _unknown(folder, LOOKED_FOR)
    return read_community(files, cache=cache, pictures=pictures)


def _nist(
    find: Callable[[Path], NistFiles | None], looked_for: str
) -> Callable[[Path, Path | None, bool], TemplateSet]:
    def read(folder: Path, cache: Path | None, pictures: bool) -> TemplateSet:
        files = find(folder)
        if files is None:
            raise _unknown(folder, looked_for)
        return read_nist(files, cache=cache, pictures=pictures)

    return read


def _unknown(folder: Path, looked_for: str) -> DatasetError:
    """The error for a folder that holds no layout, or not the one asked for."""
    below = [item.name for item in sorted(folder.iterdir()) if item.is_dir() and find_layout(item)]
    hint = f"give {folder / below[0]}" if below else "give the folder of IJB-B or IJB-C, in one of these layouts"
    return DatasetError(f"{folder}: is neither IJB-B nor IJB-C, looked for {looked_for}; {hint}")


_LAYOUTS = {
    "community": _Layout(LOOKED_FOR, lambda folder: find_community(folder) is not None, _community),
    "nist-flat": _Layout(
        LOOKED_FOR_FLAT, lambda folder: find_flat(folder) is not None, _nist(find_flat, LOOKED_FOR_FLAT)
    ),
    "nist-test1": _Layout(
        LOOKED_FOR_TEST1, lambda folder: find_test1(folder) is not None, _nist(find_test1, LOOKED_FOR_TEST1)
    ),
}

LAYOUTS = tuple(_LAYOUTS)
"""Names of the layouts, in the order in which a folder is searched for them."""


def find_layout(folder: str | Path) -> str | None:
    """Name of the first of `LAYOUTS` that a folder holds, judged by file names alone; None for none."""
    return next((name for name, layout in _LAYOUTS.items() if layout.holds(Path(folder))), None)


def read_ijb(
    folder: str | Path, *, layout: str | None = None, cache: str | Path | None = None, pictures: bool = True
) -> TemplateSet:
    """Read the 1:1 protocol of IJB-B or IJB-C.

    Args:
        folder: The data set.
        layout: One of `LAYOUTS`; the first that the folder holds when None.
        cache: Folder for the cache of the list of pairs; beside the list when None.
        pictures: Whether every picture must be there; without, lists are read alone, as for features saved earlier.

    Returns:
        Rows, templates, subjects and pairs, checked against each other.

    Raises:
        DatasetError: If the folder is missing or holds no layout, or its files are damaged or contradict each other.
        InputError: If there is no layout of this name.

    References:
        Whitelam et al., IARPA Janus Benchmark-B, CVPRW 2017; Maze et al., IARPA Janus Benchmark-C, ICB 2018.
    """
    folder = Path(folder)
    if layout is not None:
        check_choice("layout", layout, LAYOUTS)
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; give the folder of IJB-B or IJB-C")
    layout = layout or find_layout(folder)
    if layout is None:
        raise _unknown(folder, ", ".join(known.looked_for for known in _LAYOUTS.values()))
    return _LAYOUTS[layout].read(folder, None if cache is None else Path(cache), pictures)
