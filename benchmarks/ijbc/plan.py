"""How pictures of people become templates, media and pairs of the kind that IJB-C has."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.base import BoolArray, InputError

MIN_PICTURES = 3
"""People with fewer pictures have no gallery template; some of them become probes without a genuine pair."""

_LARGEST_PROBE = 3
_SAME_MEDIUM = 0.4


class Plan(NamedTuple):
    """T templates made of R pictures.

    Attributes:
        templates: Ids, `(T,)` int32, sorted; gallery and probes mixed.
        subject: Person of each template, `(T,)`, numbered as in the list that the plan was drawn from.
        is_probe: `(T,)` bool.
        picture: Picture of each row, `(R,)`; one picture may be in two probes of its person.
        place: Template of each row, a place in `templates`, `(R,)`, sorted.
        media: Media id of each row, `(R,)`.
    """

    templates: NDArray[np.int32]
    subject: NDArray[np.int64]
    is_probe: BoolArray
    picture: NDArray[np.int64]
    place: NDArray[np.int64]
    media: NDArray[np.int64]


class PlannedPairs(NamedTuple):
    """P comparisons of a plan, sorted: places of gallery and probe in its templates, and what is genuine."""

    gallery: NDArray[np.int64]
    probe: NDArray[np.int64]
    same: BoolArray


def draw_templates(
    person: NDArray[np.int64], rng: np.random.Generator, *, strangers: int = 8, repeats: float = 0.2
) -> Plan:
    """Divide the pictures of people into templates and media.

    Of a person with n pictures, n at least three, n // 3 form the gallery template and the others probe templates of
    one to three pictures. Pictures of a template that follow each other are of one medium with probability 0.4.

    Args:
        person: Person on each picture, `(M,)`.
        rng: Source of the draws.
        strangers: How many people with fewer pictures to add as probes without a genuine pair.
        repeats: Share of the people with several probes, one of whose pictures is in two of them, as IJB-C's frames.

    Raises:
        InputError: If fewer than two people have three pictures.
    """
    counts = np.bincount(person)
    people = np.flatnonzero(counts >= MIN_PICTURES)
    if len(people) < 2:
        raise InputError(
            f"{len(people)} people have {MIN_PICTURES} pictures with a face, two are needed; give a larger data set"
        )
    made: list[tuple[int, bool, NDArray[np.int64]]] = []
    for one in people:
        made += [
            (int(one), probe, pictures) for probe, pictures in _divide(np.flatnonzero(person == one), rng, repeats)
        ]
    others = rng.permutation(np.flatnonzero((counts > 0) & (counts < MIN_PICTURES)))[:strangers]
    made += [(int(one), True, np.flatnonzero(person == one)) for one in others]
    made = [made[place] for place in rng.permutation(len(made))]
    sizes = np.array([len(pictures) for _, _, pictures in made])
    starts = rng.random(int(sizes.sum())) >= _SAME_MEDIUM
    starts[np.cumsum(sizes) - sizes] = True
    return Plan(
        templates=np.arange(1, len(made) + 1, dtype=np.int32),
        subject=np.array([one for one, _, _ in made], dtype=np.int64),
        is_probe=np.array([probe for _, probe, _ in made], dtype=np.bool_),
        picture=np.concatenate([pictures for _, _, pictures in made]),
        place=np.repeat(np.arange(len(made)), sizes),
        media=np.cumsum(starts),
    )


def draw_pairs(plan: Plan, impostors: int, rng: np.random.Generator) -> PlannedPairs:
    """All genuine pairs of a plan and some impostor pairs, drawn without replacement.

    Args:
        plan: The templates.
        impostors: How many impostor pairs. There are more where probes without a genuine pair are more, since each of
            them is in one pair at least, and fewer where no more can be formed.
        rng: Source of the draws.
    """
    gallery, probe = np.flatnonzero(~plan.is_probe), np.flatnonzero(plan.is_probe)
    same = plan.subject[gallery][:, None] == plan.subject[probe]
    strangers = np.flatnonzero(~same.any(axis=0))
    listed = same.copy()
    listed[rng.integers(len(gallery), size=len(strangers)), strangers] = True
    different = np.flatnonzero(~listed)
    wanted = min(max(impostors - len(strangers), 0), len(different))
    drawn = rng.choice(different, wanted, replace=False, shuffle=False)
    cells = np.sort(np.concatenate([np.flatnonzero(listed), drawn]))
    return PlannedPairs(gallery[cells // len(probe)], probe[cells % len(probe)], same.ravel()[cells])


def _divide(
    pictures: NDArray[np.int64], rng: np.random.Generator, repeats: float
) -> list[tuple[bool, NDArray[np.int64]]]:
    """One person's pictures as a gallery template and probes: (is it a probe, its pictures)."""
    mixed = rng.permutation(pictures)
    first = len(mixed) // MIN_PICTURES
    gallery, rest = mixed[:first], mixed[first:]
    # Cuts at drawn distances of one to three; those behind the end cut nothing.
    cuts = np.cumsum(rng.integers(1, _LARGEST_PROBE + 1, size=len(rest)))
    probes = np.split(rest, cuts[cuts < len(rest)])
    if len(probes) > 1 and rng.random() < repeats:
        probes[0] = np.append(probes[0], probes[1][0])
    return [(False, gallery), *((True, probe) for probe in probes)]
