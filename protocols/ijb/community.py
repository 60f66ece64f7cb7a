"""IJB-B and IJB-C 1:1 in the layout of the recognition community: meta files beside a folder of loose crops."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.base import DatasetError
from protocols.ijb.common import Subjects, build_set, check_pictures, read_subjects
from protocols.ijb.pair_list import read_pair_list
from protocols.ijb.tables import Field, check_names, line_of_row, read_table
from protocols.ijb.templates import FaceRows, TemplateSet

LOOKED_FOR = "meta/ijbc_face_tid_mid.txt (or ijbb_...)"
"""What makes a folder this layout, for messages."""

_PREFIXES = {"ijbc": ("G1", "G2"), "ijbb": ("S1", "S2")}
_SOURCE = "fetch the meta files again"
_IMAGE = Field("image_name", "text")
_MEDIA = (_IMAGE, Field("template_id", "id"), Field("media_id", "id"))
_POINTS = tuple(Field(f"{axis}{point}", "number") for point in range(1, 6) for axis in "xy")
_SCORE = Field("score", "number")


class CommunityFiles(NamedTuple):
    """The files of one data set; they need not be there.

    Attributes:
        media: Image name, template id and media id of each row.
        points: Image name, five points and detector score of each row, in the same order.
        pairs: Template, template, label.
        gallery: csv files of the gallery's two halves, which name subjects.
        probe: csv file of the probes.
        pictures: Folder of the crops.
    """

    media: Path
    points: Path
    pairs: Path
    gallery: tuple[Path, Path]
    probe: Path
    pictures: Path


def find_community(folder: str | Path) -> CommunityFiles | None:
    """The files of this layout in a folder, or None where it holds none of the three meta files.

    Raises:
        DatasetError: If both IJB-B and IJB-C are there.
    """
    folder = Path(folder)
    found = [files for files in (_files(folder, name) for name in _PREFIXES) if _present(files)]
    if len(found) > 1:
        raise DatasetError(f"{folder / 'meta'}: holds both IJB-B and IJB-C; give each a folder of its own")
    return found[0] if found else None


def read_community(files: CommunityFiles, *, cache: Path | None = None, pictures: bool = True) -> TemplateSet:
    """Read IJB-B or IJB-C in this layout.

    Subjects come from the csv files of NIST's 1:N protocol, where they lie beside the meta files, else from genuine
    pairs; then templates without any genuine pair have none.

    Args:
        files: From `find_community`.
        cache: Folder for the cache of the pair list; beside it when None.
        pictures: Whether every picture must be there.

    Raises:
        DatasetError: If a file is missing or damaged, or the files contradict each other; the message names file and
            line.
    """
    rows = _read_rows(files)
    pairs = read_pair_list(files.pairs, cache)
    data = build_set(
        rows, pairs, files.pictures, listing=files.pairs, table=files.media.name, subjects=_read_subjects(files)
    )
    if pictures:
        check_pictures(data, files.media.name)
    return data


def _files(folder: Path, prefix: str) -> CommunityFiles:
    meta, halves = folder / "meta", _PREFIXES[prefix]
    return CommunityFiles(
        media=meta / f"{prefix}_face_tid_mid.txt",
        points=meta / f"{prefix}_name_5pts_score.txt",
        pairs=meta / f"{prefix}_template_pair_label.txt",
        gallery=(meta / f"{prefix}_1N_gallery_{halves[0]}.csv", meta / f"{prefix}_1N_gallery_{halves[1]}.csv"),
        probe=meta / f"{prefix}_1N_probe_mixed.csv",
        pictures=folder / "loose_crop",
    )


def _present(files: CommunityFiles) -> bool:
    return any(path.is_file() for path in files[:3])


def _read_rows(files: CommunityFiles) -> FaceRows:
    """Both files of rows, which must name the same pictures in the same order."""
    media = read_table(files.media, _MEDIA, source=_SOURCE)
    points = read_table(files.points, (_IMAGE, *_POINTS, _SCORE), source=_SOURCE)
    names = media[_IMAGE.name]
    _check_order(files, names, points[_IMAGE.name])
    check_names(files.media, names)
    return FaceRows(
        image=names,
        template=media["template_id"],
        media=media["media_id"],
        points=np.stack([points[field.name] for field in _POINTS], axis=1).reshape(-1, 5, 2),
        score=points[_SCORE.name],
        box=None,
    )


def _check_order(files: CommunityFiles, first: NDArray[np.object_], second: NDArray[np.object_]) -> None:
    """Row by row, both files must name the same picture: points of another face would go unnoticed for long."""
    count = min(len(first), len(second))
    differ = np.flatnonzero(first[:count] != second[:count])
    if len(differ):
        row = int(differ[0])
        raise DatasetError(
            f"{files.points}:{line_of_row(files.points, row)}: picture {second[row]}, but {files.media.name} has "
            f"{first[row]} in this place; both must be of one release"
        )
    if len(first) != len(second):
        raise DatasetError(
            f"{files.points}: {len(second)} rows, but {files.media.name} has {len(first)}; both must be of one release"
        )


def _read_subjects(files: CommunityFiles) -> Subjects | None:
    """Persons from the csv files: all three or none."""
    wanted = (*files.gallery, files.probe)
    there = [path for path in wanted if path.is_file()]
    if not there:
        return None
    if len(there) < len(wanted):
        missing = next(path for path in wanted if path not in there)
        raise DatasetError(
            f"{missing}: no such file, but {there[0].name} is there; subjects need all three csv files, or none "
            "of them, to take subjects from genuine pairs"
        )
    return read_subjects(files.gallery, files.probe)
