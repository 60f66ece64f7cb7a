"""UTKFace's labels, which its file names hold: sex, age band, ethnicity, and how often to draw the faces of a group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from maskfix.base import DoubleArray, InputError, check_choice, check_range

UNLABELLED = "unlabelled"
"""Group of the names that do not say what UTKFace's say; it is counted and shown, and never the worst group."""

GROUPS: dict[str, tuple[str, ...]] = {
    "sex": ("male", "female"),
    "age": ("0-12", "13-19", "20-34", "35-49", "50-64", "65+"),
    "ethnicity": ("White", "Black", "Asian", "Indian", "Others"),
}
"""Attributes and their groups. Sex and ethnicity are UTKFace's own categories, in the order of its numbers."""

_NAME = r"(?:^|/)(?P<age>\d{1,3})_(?P<sex>[01])_(?P<ethnicity>[0-4])_[^/]*$"
# Lower edges of the age bands in years, and the end of the last; UTKFace's oldest face is 116.
_EDGES = (0, 13, 20, 35, 50, 65, 121)


def group_rows(names: Sequence[str]) -> dict[str, dict[str, NDArray[np.int64]]]:
    """Sort faces into groups by UTKFace's names, `age_sex_ethnicity_date...`.

    Args:
        names: Picture names, with or without folders.

    Returns:
        For each attribute of `GROUPS`, the rows of each of its groups, empty ones too, and of `UNLABELLED` last. Each
        attribute holds every row exactly once; a name that lacks one of the three labels is unlabelled in all of them.

    Example:
        >>> rows = group_rows(["26_1_0_2017.jpg", "39_1_2017.jpg"])
        >>> {group: found.tolist() for group, found in rows["sex"].items()}
        {'male': [], 'female': [0], 'unlabelled': [1]}
    """
    parsed = pd.Series(list(names), dtype=str).str.extract(_NAME).astype("Int64")
    # Band of each face, -1 for ages that are none.
    ages = parsed["age"].fillna(-1).to_numpy(dtype=np.int64)
    bands = np.digitize(ages, _EDGES) - 1
    bands[bands == len(GROUPS["age"])] = -1
    codes = {name: parsed[name].fillna(-1).to_numpy(dtype=np.int64) for name in ("sex", "ethnicity")} | {"age": bands}
    unlabelled = np.any([column < 0 for column in codes.values()], axis=0)
    found = {}
    for attribute, groups in GROUPS.items():
        rows = {group: np.flatnonzero((codes[attribute] == code) & ~unlabelled) for code, group in enumerate(groups)}
        found[attribute] = rows | {UNLABELLED: np.flatnonzero(unlabelled)}
    return found


def emphasise(names: Sequence[str], emphasis: Mapping[str, float]) -> DoubleArray:
    """How often each face is drawn, relative to the others.

    Args:
        names: N picture names, as for `group_rows`.
        emphasis: Factor by group of `GROUPS`, in [0.1, 10]; a face in several of them has their product, a face in none
            of them 1.

    Returns:
        `(N,)` float64, positive.

    Raises:
        InputError: If a group is unknown, a factor is out of range, or no name belongs to a group.

    Example:
        >>> emphasise(["26_1_1_2017.jpg", "70_0_1_2017.jpg", "39_1_2017.jpg"], {"Black": 2, "65+": 1.5}).tolist()
        [2.0, 3.0, 1.0]
    """
    check_emphasis(emphasis)
    rows = {group: found for groups in group_rows(names).values() for group, found in groups.items()}
    weights = np.ones(len(names))
    for group, factor in emphasis.items():
        if not len(rows[group]):
            raise InputError(f"emphasis: none of {len(names)} pictures is labelled {group!r}, as UTKFace's names would")
        weights[rows[group]] *= factor
    return weights


def check_emphasis(emphasis: Mapping[str, float]) -> None:
    """Check what `emphasise` takes before there are names.

    Raises:
        InputError: If a group is unknown or a factor is out of range.
    """
    for group, factor in emphasis.items():
        check_choice("emphasis", group, [name for groups in GROUPS.values() for name in groups])
        check_range(f"emphasis of {group}", factor, 0.1, 10)
