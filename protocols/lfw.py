"""Labeled Faces in the Wild, View 2: the official list of 6,000 pairs in ten folds, and where its pictures lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskfix.base import DatasetError, InputError
from maskfix.weights import file_sha256
from protocols.base import PairList

OFFICIAL_SHA256 = "ea42330c62c92989f9d7c03237ed5d591365e89b3e649747777b70e692dc1592"
"""Hash of the official pairs.txt (the same file in facenet and scikit-learn)."""

FOLDERS = ("lfw-deepfunneled/lfw-deepfunneled", "lfw-deepfunneled", "lfw_funneled", "lfw", ".")
"""Where person folders may lie below the root: Kaggle's archive nests its folder, scikit-learn's has its own names."""

SUFFIXES = (".jpg", ".png")

_MAX_BYTES = 10_000_000
_SOURCE = "http://vis-www.cs.umass.edu/lfw/"


class _Row(NamedTuple):
    """One line of pairs.txt: two pictures as (name, number)."""

    first: tuple[str, int]
    second: tuple[str, int]


def read_pairs(path: str | Path) -> PairList:
    """Read pairs.txt of View 2.

    The header holds the number of folds F and of pairs of each class in a fold, N (`10` and `300`). F times follow N
    genuine rows (`name n1 n2`) and N impostor rows (`name1 n1 name2 n2`), fields apart by tabs or spaces. A pair's fold
    is a matter of its row alone, whatever becomes of other pairs later.

    Args:
        path: The file.

    Raises:
        DatasetError: If the file is missing or a line is not as it should be; the message names file and line.
    """
    path = Path(path)
    lines = _read_lines(path)
    folds, size = _parse_header(path, lines[0] if lines else "")
    expected = folds * size * 2
    if len(lines) - 1 != expected:
        raise DatasetError(
            f"{path}: {len(lines) - 1} pairs, but the header promises {folds} folds of {size} genuine and {size} "
            f"impostor pairs ({expected}); fetch the file again from {_SOURCE}"
        )
    same = (np.arange(expected) // size) % 2 == 0
    rows = [_parse_row(path, number, line, bool(same[number - 2])) for number, line in enumerate(lines[1:], start=2)]
    return _pair_list(rows, same, np.arange(expected) // (2 * size))


def take_folds(pairs: PairList, folds: int) -> PairList:
    """The first folds of a list; pictures and people that no longer occur are left out.

    Args:
        pairs: The list.
        folds: How many folds to keep, from 1 to the number there are.

    Raises:
        InputError: If there are not so many.
    """
    available = int(pairs.fold.max()) + 1
    if not 1 <= folds <= available:
        raise InputError(f"limit folds: expected a number from 1 to {available}, got {folds}")
    kept = pairs.fold < folds
    used, places = np.unique(np.stack([pairs.first[kept], pairs.second[kept]]), return_inverse=True)
    places = places.reshape(2, -1)
    people, person = np.unique(pairs.person[used], return_inverse=True)
    return PairList(
        pictures=tuple(pairs.pictures[row] for row in used),
        people=tuple(pairs.people[row] for row in people),
        person=person.reshape(-1).astype(np.int64),
        first=places[0].astype(np.int64),
        second=places[1].astype(np.int64),
        same=pairs.same[kept],
        fold=pairs.fold[kept],
    )


class LfwDataset:
    """View 2 of LFW in a folder, with every picture that its pairs name.

    Args:
        root: Folder with pairs.txt. Person folders lie in it, or in `lfw`, `lfw_funneled`, `lfw-deepfunneled` or
            `lfw-deepfunneled/lfw-deepfunneled` below it.
        limit_folds: Take only so many folds, the first ones; all when None.

    Raises:
        DatasetError: If the folder is missing, is not LFW, or lacks a picture of a pair.
        InputError: If there are fewer folds than asked for.

    Attributes:
        root: The folder.
        folder: The folder below it whose pictures are taken, `.` for itself. Where several hold as many of the people,
            it is the first of `FOLDERS`: aligned pictures before those as they were found.
        pairs: The pairs.
        paths: The picture file of each of `pairs.pictures`.
        pairs_sha256: Hash of pairs.txt.
        official: Whether these are all the official pairs: pairs.txt to the byte, and every fold of it.
        title: What the pairs are called: `LFW View 2`, and in what they differ from it.
    """

    name = "lfw"

    def __init__(self, root: str | Path, limit_folds: int | None = None) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise DatasetError(f"{self.root}: no such folder; give the folder that holds LFW's pairs.txt")
        listing = self.root / "pairs.txt"
        if not listing.is_file():
            raise DatasetError(f"{self.root}: is not LFW, it holds no pairs.txt; fetch it from {_SOURCE}pairs.txt")
        every = read_pairs(listing)
        self.pairs = every if limit_folds is None else take_folds(every, limit_folds)
        self.pairs_sha256 = file_sha256(listing)
        listed, whole = self.pairs_sha256 == OFFICIAL_SHA256, len(self.pairs.fold) == len(every.fold)
        self.official = listed and whole
        self.title = "LFW View 2" if listed else "LFW, not the official pairs"
        if not whole:
            self.title += f", first {limit_folds} folds" if limit_folds != 1 else ", first fold"
        self.folder = _find_folder(self.root, self.pairs)
        self.paths = _find_pictures(self.root / self.folder, self.pairs)


def _read_lines(path: Path) -> list[str]:
    """Lines of pairs.txt without empty ones at its end."""
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; fetch pairs.txt from {_SOURCE}pairs.txt")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DatasetError(f"{path}: larger than {_MAX_BYTES} bytes, this is no pairs.txt")
        return path.read_text(encoding="utf-8").rstrip().split("\n")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: is no text ({error.reason}); fetch it again from {_SOURCE}pairs.txt") from error


def _parse_header(path: Path, line: str) -> tuple[int, int]:
    """Number of folds and of pairs of each class in a fold."""
    fields = line.split()
    if len(fields) == 1 and fields[0].isdecimal():
        raise DatasetError(f"{path}:1: header {line.strip()!r} is that of a View 1 list; View 2's pairs.txt is needed")
    if len(fields) != 2 or not all(_is_number(field) for field in fields):
        raise DatasetError(f"{path}:1: expected the header '10<tab>300' (folds, pairs of a class), got {line[:60]!r}")
    return int(fields[0]), int(fields[1])


def _parse_row(path: Path, number: int, line: str, same: bool) -> _Row:
    """One pair; `same` says which form the line must have at its place."""
    fields = line.split()
    wanted = "'name n1 n2' (a genuine pair)" if same else "'name1 n1 name2 n2' (an impostor pair)"
    if len(fields) != (3 if same else 4):
        raise DatasetError(f"{path}:{number}: expected {wanted}, got {line[:80]!r}")
    names = (fields[0], fields[0]) if same else (fields[0], fields[2])
    numbers = (fields[1], fields[2]) if same else (fields[1], fields[3])
    # Names become folders: one that leaves the data set is refused.
    if any("/" in name or "\\" in name or name.startswith(".") for name in names):
        raise DatasetError(f"{path}:{number}: {line[:80]!r} holds a name that cannot be a folder of the data set")
    if not all(_is_number(text) for text in numbers):
        raise DatasetError(f"{path}:{number}: expected {wanted} with picture numbers from 1, got {line[:80]!r}")
    row = _Row((names[0], int(numbers[0])), (names[1], int(numbers[1])))
    if row.first == row.second:
        raise DatasetError(f"{path}:{number}: a picture is paired with itself: {line[:80]!r}")
    if not same and names[0] == names[1]:
        raise DatasetError(f"{path}:{number}: an impostor pair needs two people, got {line[:80]!r}")
    return row


def _is_number(text: str) -> bool:
    """Whether a text is a whole number from 1 to 999,999, in plain digits."""
    return text.isascii() and text.isdecimal() and len(text) <= 6 and int(text) >= 1


def _pair_list(rows: Sequence[_Row], same: np.ndarray[tuple[int], np.dtype[np.bool_]], fold: object) -> PairList:
    """Number pictures and people in order of first use."""
    pictures: dict[tuple[str, int], int] = {}
    people: dict[str, int] = {}
    sides = [[pictures.setdefault(picture, len(pictures)) for picture in row] for row in rows]
    person = [people.setdefault(name, len(people)) for name, _ in pictures]
    indices = np.asarray(sides, dtype=np.int64).reshape(-1, 2)
    return PairList(
        pictures=tuple(f"{name}/{name}_{number:04d}" for name, number in pictures),
        people=tuple(people),
        person=np.asarray(person, dtype=np.int64),
        first=indices[:, 0],
        second=indices[:, 1],
        same=np.asarray(same, dtype=np.bool_),
        fold=np.asarray(fold, dtype=np.int64),
    )


def _find_folder(root: Path, pairs: PairList) -> str:
    """The one of `FOLDERS` that holds most of the people.

    Raises:
        DatasetError: If none holds any.
    """
    counts = {place: sum((root / place / name).is_dir() for name in pairs.people) for place in FOLDERS}
    best = max(FOLDERS, key=lambda place: counts[place])
    if not counts[best]:
        raise DatasetError(
            f"{root}: is not LFW, no folder such as {pairs.people[0]} in it or in its "
            f"{', '.join(place for place in FOLDERS if place != '.')}; unpack LFW's pictures there"
        )
    return best


def _find_pictures(folder: Path, pairs: PairList) -> tuple[Path, ...]:
    """The file of each picture; names are built with four digits, never taken from a folder's listing.

    Raises:
        DatasetError: If a picture is missing.
    """
    paths = [_picture_path(folder, picture) for picture in pairs.pictures]
    missing = [picture for picture, path in zip(pairs.pictures, paths, strict=True) if path is None]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DatasetError(
            f"{folder / missing[0]}.jpg: picture named by pairs.txt is missing{others}; unpack LFW's pictures again"
        )
    return tuple(path for path in paths if path is not None)


def _picture_path(folder: Path, picture: str) -> Path | None:
    """A picture's file, or None where there is none."""
    # Names may hold dots, so the suffix is added, not replaced.
    candidates = (folder / f"{picture}{suffix}" for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)
