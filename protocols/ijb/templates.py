"""Templates (sets of pictures of one person) and their comparisons: what IJB-B and IJB-C are made of."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.base import BoolArray, DatasetError, FloatArray, InputError, check_range

Ids = NDArray[np.int32]

UNKNOWN = -1
"""Subject of a template whose person no list tells."""

_TABLE_IDS = 1 << 24


class FaceRows(NamedTuple):
    """R faces, each of one template, in the order of the data set's files.

    Attributes:
        image: Picture file of each row, relative to the folder of the pictures, `(R,)` Python strings. One file may
            occur in several rows.
        template: Template id, `(R,)` int32.
        media: Media id, `(R,)` int32: rows of one template and one medium are frames of one video.
        points: ArcFace five points in pixels of the picture, `(R, 5, 2)` float32; nan where the layout has none.
        score: Detector's score, `(R,)` float32; 1 where the layout has none.
        box: Face box as x, y, width, height in pixels, `(R, 4)` float32, nan where a row has none; None where the
            layout has no boxes.
    """

    image: NDArray[np.object_]
    template: Ids
    media: Ids
    points: FloatArray
    score: FloatArray
    box: FloatArray | None

    def take(self, rows: BoolArray) -> FaceRows:
        """The rows that a mask `(R,)` names, in order."""
        return FaceRows(
            self.image[rows],
            self.template[rows],
            self.media[rows],
            self.points[rows],
            self.score[rows],
            None if self.box is None else self.box[rows],
        )


class TemplatePairs(NamedTuple):
    """P comparisons of a gallery (enrol) template with a probe (verif) template.

    Attributes:
        gallery: Gallery template, `(P,)` int32, places in `TemplateSet.templates`.
        probe: Probe template, `(P,)` int32, places in `TemplateSet.templates`.
        same: True for genuine comparisons, `(P,)` bool.
    """

    gallery: Ids
    probe: Ids
    same: BoolArray


class TemplateSet(NamedTuple):
    """A 1:1 protocol over templates; no template is on both sides.

    Attributes:
        rows: The faces of all templates.
        templates: Template ids, sorted, `(T,)` int32; each has a row and, as read, a pair.
        subject: Person of each template, `(T,)` int32, numbered from 0 without gaps; -1 where unknown.
        pairs: The comparisons.
        is_probe: Whether a template is a probe, `(T,)` bool; it is a gallery template otherwise.
        pictures: Folder that `rows.image` is relative to.
    """

    rows: FaceRows
    templates: Ids
    subject: Ids
    pairs: TemplatePairs
    is_probe: BoolArray
    pictures: Path

    @property
    def row_template(self) -> Ids:
        """Template of each row as a place in `templates`, `(R,)` int32."""
        return np.searchsorted(self.templates, self.rows.template).astype(np.int32)


def find_places(ids: Ids, templates: Ids) -> Ids:
    """Place of each id in a list of templates, -1 where it is not there.

    Args:
        ids: Template ids, `(P,)`, from 0.
        templates: The list, sorted, `(T,)`, from 0, at least one.

    Returns:
        `(P,)` int32.

    Example:
        >>> find_places(np.array([7, 3, 9], np.int32), np.array([3, 7], np.int32)).tolist()
        [1, 0, -1]
    """
    largest = int(templates[-1])
    if largest >= _TABLE_IDS:
        places = np.minimum(np.searchsorted(templates, ids), len(templates) - 1).astype(np.int32)
        places[templates[places] != ids] = UNKNOWN
        return places
    # A table is ten times as fast as a search, and IJB's ids are small.
    table = np.full(largest + 2, UNKNOWN, dtype=np.int32)
    table[templates] = np.arange(len(templates), dtype=np.int32)
    return table.take(ids, mode="clip")


def check_one_to_one(gallery: Ids, probe: Ids, source: str | Path) -> None:
    """Check that a list compares gallery templates in its first column with probe templates in its second.

    Args:
        gallery: Distinct ids of the first column.
        probe: Distinct ids of the second column.
        source: The list, for the message.

    Raises:
        DatasetError: If a template is in both columns, or the first column has more templates than the second: a
            subject has one gallery template and as a rule several probes.
    """
    both = np.intersect1d(gallery, probe)
    if len(both):
        others = f" and {len(both) - 1} more" if len(both) > 1 else ""
        raise DatasetError(
            f"{source}: template {both[0]}{others} is both gallery and probe; covariate lists (test2) are not 1:1, "
            "give the list of the 1:1 protocol (test1)"
        )
    if len(gallery) > len(probe):
        raise DatasetError(
            f"{source}: the columns look swapped: {len(gallery)} templates in the first (gallery), {len(probe)} in the "
            "second (probe); gallery templates, one of each subject, come first"
        )


def rebuild_subjects(pairs: TemplatePairs, templates: int) -> Ids:
    """Subjects from genuine pairs, for data sets that come without a list of subjects.

    Templates that genuine pairs join, also through others, are one person.

    Args:
        pairs: The comparisons.
        templates: Number of templates T.

    Returns:
        Subject of each template, `(T,)` int32, numbered from 0 in the order of their first template; -1 for templates
        without any genuine pair.

    Example:
        >>> sides = np.array([0, 0, 1, 1]), np.array([2, 3, 4, 5])
        >>> rebuild_subjects(TemplatePairs(*sides, np.array([True, True, True, False])), 6).tolist()
        [0, 1, 0, 0, 1, -1]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    gallery, probe = pairs.gallery[pairs.same], pairs.probe[pairs.same]
    joined = coo_array((np.ones(len(gallery), dtype=np.bool_), (gallery, probe)), shape=(templates, templates))
    _, component = connected_components(joined, directed=False)
    known = np.zeros(templates, dtype=np.bool_)
    known[gallery] = known[probe] = True
    return number_subjects(component, known)


def number_subjects(subject: NDArray[np.integer[Any]], known: BoolArray) -> Ids:
    """Number subjects from 0 without gaps, in the order of their first template; -1 where they are not known.

    Args:
        subject: Any numbers, `(T,)`.
        known: Which of them mean a person, `(T,)` bool.

    Example:
        >>> number_subjects(np.array([90, 5, 90, 7]), np.array([True, True, True, False])).tolist()
        [0, 1, 0, -1]
    """
    numbered = np.full(len(subject), UNKNOWN, dtype=np.int32)
    _, first, place = np.unique(subject[known], return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.int32)
    rank[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
    numbered[known] = rank[place.reshape(-1)]
    return numbered


def take_templates(data: TemplateSet, keep: BoolArray) -> TemplateSet:
    """Some templates with their rows, and the pairs of which both sides are left.

    Subjects keep their order and are numbered anew from 0. Templates that are in no pair any more stay.

    Args:
        data: The set.
        keep: Which templates to keep, `(T,)` bool.
    """
    place = np.cumsum(keep, dtype=np.int32) - 1
    kept = keep[data.pairs.gallery]
    kept &= keep[data.pairs.probe]
    subject = data.subject[keep]
    pairs = TemplatePairs(
        place[data.pairs.gallery[kept]].astype(np.int32),
        place[data.pairs.probe[kept]].astype(np.int32),
        np.asarray(data.pairs.same[kept]),
    )
    return TemplateSet(
        rows=data.rows.take(keep[data.row_template]),
        templates=data.templates[keep],
        subject=number_subjects(subject, subject != UNKNOWN),
        pairs=pairs,
        is_probe=data.is_probe[keep],
        pictures=data.pictures,
    )


def sample_subjects(
    data: TemplateSet, subjects: int | None = None, max_templates: int | None = None, seed: int = 0
) -> TemplateSet:
    """A smaller set of the same kind: some subjects with all their templates.

    Sampling templates or pairs would cut subjects apart and spoil intervals drawn by subject. Templates of unknown
    subject are sampled in the same share as subjects. The order in which subjects are drawn hangs on the seed alone,
    so a smaller sample is part of a larger one.

    Args:
        data: The set.
        subjects: Number of subjects; all when None.
        max_templates: Upper bound of the number of templates: as many subjects as fit; no bound when None.
        seed: Seed of the draws, at least 0.

    Returns:
        The sample, subjects numbered anew; `data` itself when nothing is to be left out.

    Raises:
        InputError: If there are not so many subjects, so few are left that no genuine or no impostor pair is, or the
            seed is negative.
    """
    check_range("seed", seed, 0, sys.maxsize)
    known = data.subject != UNKNOWN
    sizes = np.bincount(data.subject[known])
    strangers = np.flatnonzero(~known)
    count = len(sizes) if subjects is None else subjects
    if not 1 <= count <= len(sizes):
        raise InputError(f"subjects: expected a number from 1 to {len(sizes)}, got {subjects}")
    rng = np.random.default_rng(seed)
    order, strangers = rng.permutation(len(sizes)), rng.permutation(strangers)
    # With n subjects come floor(U n / S) of the U templates of unknown subject.
    with_n = np.arange(1, len(sizes) + 1) * len(strangers) // len(sizes)
    if max_templates is not None:
        fitting = int(np.searchsorted(np.cumsum(sizes[order]) + with_n, max_templates, side="right"))
        if fitting == 0:
            raise InputError(
                f"max templates: {max_templates} is too few, the first subject drawn has {sizes[order[0]]} already"
            )
        count = min(count, fitting)
    if count == len(sizes):
        return data
    drawn = np.zeros(len(sizes) + 1, dtype=np.bool_)  # the last one stands for -1
    drawn[order[:count]] = True
    keep = drawn[data.subject]
    keep[strangers[: with_n[count - 1]]] = True
    sample = take_templates(data, keep)
    if not sample.pairs.same.any() or sample.pairs.same.all():
        kind = "impostor" if sample.pairs.same.any() else "genuine"
        raise InputError(f"subjects: no {kind} pair is left among {count} of {len(sizes)} subjects; ask for more")
    return sample
