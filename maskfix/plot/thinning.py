"""ROC curves with no more points than a figure can show, from scores or from the exact curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskfix.base import DoubleArray, InputError
from maskfix.metrics import RocCurve, SortedScores, roc_curve

POINTS_PER_DECADE = 200
EXACT_PAIRS = 50_000
"""Up to so many pairs `figure_curve` keeps every point."""

_HAIR = 1 + 1e-9
"""The ends of a logarithmic grid are rounded, and must not fall below the curve's own 1/N."""

Counts = NDArray[np.int64]


def figure_curve(genuine: ArrayLike, impostor: ArrayLike, fprs: Sequence[float] = ()) -> RocCurve:
    """The curve that a figure draws: exact for up to 50,000 pairs, thinned while it is computed for more.

    Args:
        genuine: Scores of genuine pairs, `(G,)`; higher means more alike, -inf marks a failed pair.
        impostor: Scores of impostor pairs, `(I,)`.
        fprs: Rates at which the curve must hold its exact point.

    Raises:
        InputError: If a class is empty or a score is nan or +inf.
    """
    if np.size(genuine) + np.size(impostor) <= EXACT_PAIRS:
        return roc_curve(genuine, impostor)
    return thinned_curve(genuine, impostor, fprs)


def thinned_curve(
    genuine: ArrayLike, impostor: ArrayLike, fprs: Sequence[float] = (), *, points_per_decade: int = POINTS_PER_DECADE
) -> RocCurve:
    """`metrics.SortedScores.thinned_curve` of scores that are not sorted: 15.66 million cost one sort.

    Each point is one of `roc_curve`'s, so rates and thresholds are exact; `thin` of this curve equals `thin` of the
    exact one.

    Args:
        genuine: Scores of genuine pairs, `(G,)`; higher means more alike, -inf marks a failed pair.
        impostor: Scores of impostor pairs, `(I,)`.
        fprs: Rates in (0, 1] at which the curve must hold its exact point, by `metrics.tpr_at_fpr`'s rule.
        points_per_decade: Points for each factor of ten, at least 1.

    Returns:
        The curve, from (0, 0) to (1, 1).

    Raises:
        InputError: If a class is empty, a score is nan or +inf, a rate is outside (0, 1], or `points_per_decade` is
            below 1.
    """
    return SortedScores.from_classes(genuine, impostor).thinned_curve(fprs, points_per_decade=points_per_decade)


def thin(curve: RocCurve, floor: float, fprs: Sequence[float] = ()) -> tuple[DoubleArray, DoubleArray]:
    """Thin a curve to at most 200 points a decade, from `floor` to 1.

    Args:
        curve: Exact curve, or one of `thinned_curve`.
        floor: Smallest FPR to keep, above 0.
        fprs: Rates to keep besides; those below `floor` are left out.

    Returns:
        FPR and TPR: for each FPR of a logarithmic grid the point of the curve with the largest TPR at no larger FPR.
        The first FPR is `floor` itself and the last point is (1, 1).

    Raises:
        InputError: If `floor` is not in (0, 1].
    """
    rows = np.unique(_rows(curve.fpr, floor, fprs))
    return np.maximum(curve.fpr[rows], floor), curve.tpr[rows]


def thin_det(curve: RocCurve, floor: float, fprs: Sequence[float] = ()) -> tuple[DoubleArray, DoubleArray]:
    """Thin a curve for DET axes: as `thin`, and evenly over the decades of FNMR as well.

    Args:
        curve: Exact curve, or one of `thinned_curve`.
        floor: Smallest FMR to keep, above 0.
        fprs: Rates to keep besides; those below `floor` are left out.

    Returns:
        FMR, rising from `floor`, and FNMR, falling to 0.

    Raises:
        InputError: If `floor` is not in (0, 1].
    """
    missed = 1 - curve.tpr
    rows = _rows(curve.fpr, floor, fprs)
    if (missed > 0).any():
        # Turned round, the FNMR rises; the row wanted is the strictest one with at most so many misses.
        turned = _rows(missed[::-1], float(missed[missed > 0].min()), ())
        rows = np.append(rows, len(missed) - 1 - turned)
    rows = np.unique(rows)
    first = max(int(np.searchsorted(curve.fpr, floor * _HAIR, side="right")) - 1, 0)
    rows = rows[rows >= first]
    return np.maximum(curve.fpr[rows], floor), missed[rows]


def _rows(rates: DoubleArray, floor: float, kept: Sequence[float]) -> Counts:
    """The last row whose rate does not pass each rate of a logarithmic grid from `floor` to 1."""
    if not 0 < floor <= 1:
        raise InputError(f"floor: expected a rate in (0, 1], got {floor}")
    grid = np.append(_grid(floor, POINTS_PER_DECADE), [rate for rate in kept if rate >= floor])
    return (np.searchsorted(rates, grid * _HAIR, side="right") - 1).astype(np.int64)


def _grid(floor: float, points_per_decade: int) -> NDArray[Any]:
    """Rates from `floor` to 1, at least so many a decade."""
    return np.geomspace(floor, 1.0, 1 + math.ceil(-math.log10(floor) * points_per_decade))
