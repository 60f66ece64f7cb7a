"""IJB-B and IJB-C 1:1 as NIST hands them out: csv files of templates, unlabelled comparisons, whole pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocols.ijb.common import (
    BOX,
    CSV_SOURCE,
    IMAGE,
    SIGHTING,
    SUBJECT,
    TEMPLATE,
    build_set,
    check_pictures,
    join_subjects,
)
from protocols.ijb.pair_list import read_matches
from protocols.ijb.tables import check_names, read_table
from protocols.ijb.templates import FaceRows, TemplateSet

LOOKED_FOR_FLAT = "protocols/ijbc_1N_gallery_G1.csv (or ijbb_..._S1.csv)"
"""What makes a folder the flat layout, for messages."""

LOOKED_FOR_TEST1 = "protocols/test1/enroll_templates.csv"
"""What makes a folder the layout by tests, for messages."""

_FOLDERS = ("protocols", "protocol", ".")
_PREFIXES = {"ijbc": ("G1", "G2"), "ijbb": ("S1", "S2")}


class NistFiles(NamedTuple):
    """The files of one data set; they need not be there.

    Attributes:
        gallery: csv files of the enrol templates, one or two.
        probe: csv file of the verif templates.
        matches: Comparisons: enrol template, verif template.
        pictures: Folder that the file names in the csv files are relative to.
    """

    gallery: tuple[Path, ...]
    probe: Path
    matches: Path
    pictures: Path


def find_flat(folder: str | Path) -> NistFiles | None:
    """The files of the flat layout, such as ijbc_1N_gallery_G1.csv in `protocols`; None where there are none."""
    root = Path(folder)
    for place in _FOLDERS:
        for prefix, (first, second) in _PREFIXES.items():
            start = root / place
            files = NistFiles(
                gallery=(start / f"{prefix}_1N_gallery_{first}.csv", start / f"{prefix}_1N_gallery_{second}.csv"),
                probe=start / f"{prefix}_1N_probe_mixed.csv",
                matches=start / f"{prefix}_11_{first}_{second}_matches.csv",
                pictures=_pictures(root),
            )
            if any(path.is_file() for path in (*files.gallery, files.matches)):
                return files
    return None


def find_test1(folder: str | Path) -> NistFiles | None:
    """The files of the layout by tests, `protocols/test1`; None where there are none."""
    root = Path(folder)
    for place in _FOLDERS[:2]:
        start = root / place / "test1"
        files = NistFiles(
            gallery=(start / "enroll_templates.csv",),
            probe=start / "verif_templates.csv",
            matches=start / "match.csv",
            pictures=_pictures(root),
        )
        if any(path.is_file() for path in (*files.gallery, files.probe, files.matches)):
            return files
    return None


def read_nist(files: NistFiles, *, cache: Path | None = None, pictures: bool = True) -> TemplateSet:
    """Read IJB-B or IJB-C in one of NIST's layouts.

    The list of comparisons has no labels: one is genuine if SUBJECT_ID is the same on both sides. The medium of a row
    is its SIGHTING_ID. There are boxes but no points.

    Args:
        files: From `find_flat` or `find_test1`.
        cache: Folder for the cache of the list of comparisons; beside it when None.
        pictures: Whether every picture must be there.

    Raises:
        DatasetError: If a file is missing or damaged, or the files contradict each other; the message names file and
            line.
    """
    paths = (*files.gallery, files.probe)
    tables = [_read_csv(path) for path in paths]
    columns = [(path, table[TEMPLATE.name], table[SUBJECT.name]) for path, table in zip(paths, tables, strict=True)]
    subjects = join_subjects(columns[:-1], columns[-1])
    names = " and ".join((", ".join(path.name for path in files.gallery), files.probe.name))
    data = build_set(
        _rows(tables),
        read_matches(files.matches, cache),
        files.pictures,
        listing=files.matches,
        table=names,
        subjects=subjects,
    )
    if pictures:
        check_pictures(data, names)
    return data


def _pictures(root: Path) -> Path:
    """`images` where there is one; IJB-B's file names start at the root."""
    return root / "images" if (root / "images").is_dir() or not (root / "img").is_dir() else root


def _read_csv(path: Path) -> dict[str, NDArray[Any]]:
    """One file of templates."""
    table = read_table(path, (TEMPLATE, SUBJECT, IMAGE, SIGHTING, *BOX), header=True, source=CSV_SOURCE)
    check_names(path, table[IMAGE.name])
    return table


def _rows(tables: list[dict[str, NDArray[Any]]]) -> FaceRows:
    """Rows of all files, one file after the other."""
    whole = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    count = len(whole[TEMPLATE.name])
    return FaceRows(
        image=whole[IMAGE.name],
        template=whole[TEMPLATE.name],
        media=whole[SIGHTING.name],
        points=np.full((count, 5, 2), np.nan, dtype=np.float32),
        score=np.ones(count, dtype=np.float32),
        box=np.stack([whole[field.name] for field in BOX], axis=1),
    )
