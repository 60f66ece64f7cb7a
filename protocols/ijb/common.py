"""What the readers of IJB's layouts share: rows, pairs and subjects, joined and checked against each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.base import BoolArray, DatasetError
from protocols.ijb.pair_list import IdPairs
from protocols.ijb.tables import Field, line_of_row, read_table
from protocols.ijb.templates import (
    UNKNOWN,
    FaceRows,
    Ids,
    TemplatePairs,
    TemplateSet,
    check_one_to_one,
    find_places,
    number_subjects,
    rebuild_subjects,
)

TEMPLATE = Field("TEMPLATE_ID", "id")
SUBJECT = Field("SUBJECT_ID", "id")
SIGHTING = Field("SIGHTING_ID", "id")
IMAGE = Field("FILENAME", "text", other_names=("FILE",))
BOX = tuple(Field(f"FACE_{name}", "number", optional=True) for name in ("X", "Y", "WIDTH", "HEIGHT"))
CSV_SOURCE = "fetch NIST's csv file again"


class Subjects(NamedTuple):
    """Person and side of templates, as NIST's csv files tell them.

    Attributes:
        templates: Template ids, sorted, `(T,)`.
        subject: SUBJECT_ID of each, `(T,)`.
        is_probe: Whether a template is in the file of the probes, `(T,)` bool.
    """

    templates: Ids
    subject: Ids
    is_probe: BoolArray


def join_subjects(gallery: Sequence[tuple[Path, Ids, Ids]], probe: tuple[Path, Ids, Ids]) -> Subjects:
    """Put the csv files of gallery and probe together.

    Args:
        gallery: Of each gallery file its path, and TEMPLATE_ID and SUBJECT_ID of its rows.
        probe: The same of the file of the probes.

    Raises:
        DatasetError: If a template is in two files or has two subjects; the message names it.
    """
    files = [*gallery, probe]
    found = [np.unique(templates) for _, templates, _ in files]
    for (path, _, _), ids, earlier in zip(files[1:], found[1:], np.arange(1, len(files)), strict=True):
        again = np.intersect1d(ids, np.concatenate(found[:earlier]))
        if len(again):
            raise DatasetError(
                f"{path}: template {again[0]} is in another file of gallery or probes as well; only 1:1 protocols, "
                "whose templates are on one side each, can be read"
            )
    template = np.concatenate([templates for _, templates, _ in files])
    subject = np.concatenate([subjects for _, _, subjects in files])
    ids, first, place = np.unique(template, return_index=True, return_inverse=True)
    wrong = np.flatnonzero(subject != subject[first][place.reshape(-1)])
    if len(wrong):
        row = wrong[0]
        sizes = np.cumsum([len(templates) for _, templates, _ in files])
        path = files[int(np.searchsorted(sizes, row, side="right"))][0]
        raise DatasetError(
            f"{path}: template {template[row]} has two subjects, {subject[first][place.reshape(-1)[row]]} and "
            f"{subject[row]}; {CSV_SOURCE}"
        )
    return Subjects(ids, subject[first], np.isin(ids, found[-1]))


def read_subjects(gallery: Sequence[Path], probe: Path) -> Subjects:
    """Read persons and sides of templates from the csv files of gallery and probes.

    Raises:
        DatasetError: If a file is missing or wrong, or the files contradict each other.
    """

    def columns(path: Path) -> tuple[Path, Ids, Ids]:
        table = read_table(path, (TEMPLATE, SUBJECT), header=True, source=CSV_SOURCE)
        return path, table[TEMPLATE.name], table[SUBJECT.name]

    return join_subjects([columns(path) for path in gallery], columns(probe))


def build_set(
    rows: FaceRows,
    pairs: IdPairs,
    pictures: Path,
    *,
    listing: Path,
    table: str,
    subjects: Subjects | None = None,
) -> TemplateSet:
    """Join rows, pairs and subjects; templates that no pair names are left out, with their rows.

    Args:
        rows: All face rows.
        pairs: All comparisons, by id; where they have no labels, the subjects decide what is genuine.
        pictures: Folder of the pictures.
        listing: The file of the pairs, for messages.
        table: The file or files of the rows, for messages.
        subjects: Person and side of templates; persons are rebuilt from genuine pairs when None.

    Raises:
        DatasetError: If a pair names a template without rows or without a subject, a template is on both sides, the
            columns are swapped, labels contradict the subjects or each other, or one of the two classes is empty.
    """
    ids = np.unique(rows.template)
    sides = [_places(ids, column, listing, table) for column in (pairs.gallery, pairs.probe)]
    used = [_used(places, len(ids)) for places in sides]
    check_one_to_one(ids[used[0]], ids[used[1]], listing)
    kept = used[0] | used[1]
    if not kept.all():
        renumbered = (np.cumsum(kept) - 1).astype(np.int32)
        sides = [renumbered[places] for places in sides]
        rows, ids, used = rows.take(kept[np.searchsorted(ids, rows.template)]), ids[kept], [side[kept] for side in used]
    if subjects is None:
        same = _labels(pairs)
        subject = rebuild_subjects(TemplatePairs(sides[0], sides[1], same), len(ids))
        _check_labels(subject[sides[0]], subject[sides[1]], pairs, listing)
    else:
        person = _persons(ids, used[1], subjects, listing)
        same = _genuine(person[sides[0]] == person[sides[1]], pairs, listing)
        subject = number_subjects(person, np.ones(len(ids), dtype=np.bool_))
    if not same.any() or same.all():
        raise DatasetError(f"{listing}: holds no {'impostor' if same.any() else 'genuine'} pair; fetch it again")
    return TemplateSet(rows, ids, subject, TemplatePairs(sides[0], sides[1], same), used[1], pictures)


def check_pictures(data: TemplateSet, source: str) -> None:
    """Check that every picture is there, by listing each folder once.

    Args:
        data: The set.
        source: The file that names the pictures, for the message.

    Raises:
        DatasetError: If one is missing; the message names the first and counts the others.
    """
    names = np.unique(data.rows.image.astype(np.str_))
    folders = {name.rpartition("/")[0] for name in names}
    there: set[str] = set()
    for folder in folders:
        place = data.pictures / folder
        if place.is_dir():
            there.update(f"{folder}/{item.name}" if folder else item.name for item in place.iterdir())
    missing = [name for name in names if name not in there]
    if missing:
        others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DatasetError(
            f"{data.pictures / missing[0]}: picture named by {source} is missing{others}; unpack the pictures again"
        )


def _places(ids: Ids, column: Ids, listing: Path, table: str) -> Ids:
    """Templates of one side of the pairs as places in `ids`."""
    places = find_places(column, ids)
    if places.min() < 0:
        row = int(np.argmax(places < 0))
        raise DatasetError(
            f"{listing}:{line_of_row(listing, row)}: template {column[row]} is in no row of {table}; both must be of "
            "one release"
        )
    return places


def _used(places: Ids, count: int) -> BoolArray:
    """Which of `count` templates occur."""
    used = np.zeros(count, dtype=np.bool_)
    used[places] = True
    return used


def _labels(pairs: IdPairs) -> BoolArray:
    if pairs.same is None:  # readers of unlabelled lists always have subjects
        raise DatasetError("pairs without labels need the subjects of templates")
    return pairs.same


def _persons(ids: Ids, is_probe: BoolArray, subjects: Subjects, listing: Path) -> Ids:
    """SUBJECT_ID of each template; sides must be those of the csv files."""
    places = find_places(ids, subjects.templates)
    if (places == UNKNOWN).any():
        template = ids[int(np.argmax(places == UNKNOWN))]
        raise DatasetError(
            f"{listing}: template {template} is in no csv file of gallery or probes; move the csv files away to take "
            "subjects from genuine pairs instead"
        )
    astray = subjects.is_probe[places] != is_probe
    if astray.any():
        template = int(np.argmax(astray))
        file, column = ("gallery", "second") if is_probe[template] else ("probe", "first")
        raise DatasetError(
            f"{listing}: the columns look swapped: template {ids[template]} of the {file} csv file is in the {column} "
            "column; gallery templates come first"
        )
    return subjects.subject[places]


def _genuine(agree: NDArray[np.bool_], pairs: IdPairs, listing: Path) -> BoolArray:
    """Labels of the pairs: those of the list, if the subjects say the same, else those of the subjects."""
    if pairs.same is None:
        return agree
    wrong = agree != pairs.same
    if wrong.any():
        row = int(np.argmax(wrong))
        says, are = ("genuine", "two subjects") if pairs.same[row] else ("impostor", "one subject")
        raise DatasetError(
            f"{listing}:{line_of_row(listing, row)}: templates {pairs.gallery[row]} and {pairs.probe[row]} are "
            f"labelled {says}, but are {are} in the csv files; move those away to take "
            "subjects from genuine pairs instead"
        )
    return pairs.same


def _check_labels(gallery: Ids, probe: Ids, pairs: IdPairs, listing: Path) -> None:
    """No pair may be labelled impostor whose templates other pairs make one person."""
    wrong = (gallery == probe) & (gallery != UNKNOWN) & ~_labels(pairs)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DatasetError(
            f"{listing}:{line_of_row(listing, row)}: templates {pairs.gallery[row]} and {pairs.probe[row]} are "
            "labelled impostor, but the genuine pairs of the list join them into one subject; fetch the list again"
        )
