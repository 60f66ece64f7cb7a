"""1:1 verification metrics, exact: no interpolation, no grid of thresholds, ties and failed pairs handled.

A higher score means more alike everywhere, and a pair is accepted iff its score is greater than the threshold.
A failed comparison has the score -inf and is accepted at no threshold. Rates are fractions in [0, 1]; FPR is the false
match rate (FMR) and 1 - TPR the false non-match rate (FNMR) of ISO/IEC 19795-1 (protocols.md 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from maskfix.base import InputError
from maskfix.metrics.guards import (
    Scores,
    allowed_accepts,
    check_classes,
    check_rate,
    check_same,
    check_scores,
    split_scores,
)
from maskfix.metrics.ranking import Counts, OperatingPoint, RocCurve, SortedScores, round_down

__all__ = [
    "ErrorRates",
    "OperatingPoint",
    "RocCurve",
    "Scores",
    "allowed_accepts",
    "auc",
    "check_rate",
    "check_same",
    "check_scores",
    "eer",
    "fmr_fnmr",
    "operating_points",
    "roc_curve",
    "split_scores",
    "tpr_at_fpr",
]


class ErrorRates(NamedTuple):
    """Comparison errors at one threshold.

    Attributes:
        fmr: False match rate: accepted share of the impostor pairs.
        fnmr: False non-match rate: rejected share of the genuine pairs.
    """

    fmr: float
    fnmr: float


def roc_curve(genuine: ArrayLike, impostor: ArrayLike) -> RocCurve:
    """The exact ROC curve: a point for every distinct score.

    The points are those of scikit-learn's `roc_curve(drop_intermediate=False)`; only the thresholds differ, since here
    a pair is accepted above the threshold and there from the threshold on.

    Args:
        genuine: Scores of genuine pairs, `(G,)`; higher means more alike, -inf marks a failed pair.
        impostor: Scores of impostor pairs, `(I,)`.

    Returns:
        The curve, from (0, 0) to (1, 1).

    Raises:
        InputError: If a class is empty or a score is nan or +inf.

    Example:
        >>> curve = roc_curve([0.9, 0.4], [0.4, 0.1])
        >>> curve.fpr, curve.tpr, curve.thresholds
        (array([0. , 0. , 0.5, 1. ]), array([0. , 0.5, 1. , 1. ]), array([ 0.9,  0.4,  0.1, -inf]))
    """
    positive, negative = check_classes(genuine, impostor)
    distinct, hits, alarms = _cumulative(positive, negative)
    return RocCurve(alarms / len(negative), hits / len(positive), np.append(distinct, -np.inf).astype(np.float64))


def auc(genuine: ArrayLike, impostor: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a genuine pair outscores an impostor pair, ties counted half.

    Exact (midranks in integers), equal to the trapezoid under `roc_curve`; higher is better, 0.5 is chance.

    Args:
        genuine: Scores of genuine pairs, `(G,)`; -inf marks a failed pair.
        impostor: Scores of impostor pairs, `(I,)`.

    Raises:
        InputError: If a class is empty or a score is nan or +inf.

    Example:
        >>> auc([0.9, 0.4], [0.4, 0.1])
        0.875
    """
    return SortedScores.from_classes(genuine, impostor).auc()


def tpr_at_fpr(genuine: ArrayLike, impostor: ArrayLike, fpr: float) -> OperatingPoint:
    """True positive rate at a false positive rate, by the conservative rule (protocols.md 3.1).

    With N impostor pairs, k = floor(fpr * N) of them may be accepted; the threshold is the (k + 1)-th largest impostor
    score. That is the largest TPR of all thresholds whose FPR is at most `fpr`, also under ties: nothing is
    interpolated.

    Args:
        genuine: Scores of genuine pairs, `(G,)`; -inf marks a failed pair.
        impostor: Scores of impostor pairs, `(I,)`.
        fpr: False positive rate asked for, in (0, 1]; 0.001 means one in a thousand.

    Returns:
        The operating point; `resolvable` is False where k = 0.

    Raises:
        InputError: If a class is empty, a score is nan or +inf, or `fpr` is outside (0, 1].

    Example:
        >>> point = tpr_at_fpr([0.9, 0.6, 0.5, 0.1], [0.7, 0.5, 0.3, 0.2], fpr=0.25)
        >>> point.tpr, point.fpr, point.threshold, point.accepted, point.nearest
        (0.5, 0.25, 0.5, 1, 0.5)
    """
    return operating_points(genuine, impostor, (fpr,))[0]


def operating_points(genuine: ArrayLike, impostor: ArrayLike, fprs: Sequence[float]) -> tuple[OperatingPoint, ...]:
    """Several operating points with one sort; see `tpr_at_fpr`.

    `OperatingPoint.nearest` follows insightface's evaluation scripts to the letter: scikit-learn's `roc_curve` with its
    default `drop_intermediate=True`, turned round, first minimum of |FPR - fpr|. So of two points equally far away the
    one with the larger FPR counts, and of several points with one FPR the one with the largest TPR.

    Args:
        genuine: Scores of genuine pairs, `(G,)`; -inf marks a failed pair.
        impostor: Scores of impostor pairs, `(I,)`.
        fprs: False positive rates asked for, each in (0, 1].

    Returns:
        One operating point for each rate, in the order of `fprs`.

    Raises:
        InputError: If a class is empty, a score is nan or +inf, or a rate is outside (0, 1].
    """
    return SortedScores.from_classes(genuine, impostor).operating_points(fprs)


def eer(genuine: ArrayLike, impostor: ArrayLike) -> float:
    """Equal error rate: the mean of FMR and FNMR at the threshold where they are closest; lower is better.

    The distances are compared in integers. Where two thresholds are equally good, the stricter one counts.

    Args:
        genuine: Scores of genuine pairs, `(G,)`; -inf marks a failed pair.
        impostor: Scores of impostor pairs, `(I,)`.

    Raises:
        InputError: If a class is empty or a score is nan or +inf.

    Example:
        >>> eer([0.9, 0.8, 0.7, 0.3], [0.6, 0.2, 0.1, 0.0])
        0.25
    """
    return SortedScores.from_classes(genuine, impostor).eer()


def fmr_fnmr(genuine: ArrayLike, impostor: ArrayLike, threshold: float) -> ErrorRates:
    """Both error rates at a threshold fixed elsewhere (threshold transfer, protocols.md 3.3).

    Args:
        genuine: Scores of genuine pairs, `(G,)`; a failed pair (-inf) is a false non-match.
        impostor: Scores of impostor pairs, `(I,)`; a failed pair is no false match.
        threshold: Accept iff score > threshold.

    Raises:
        InputError: If a class is empty, a score is nan or +inf, or the threshold is nan.

    Example:
        >>> fmr_fnmr([0.9, 0.4], [0.5, 0.1, 0.1, 0.0], threshold=0.4)
        ErrorRates(fmr=0.25, fnmr=0.5)
    """
    positive, negative = check_classes(genuine, impostor)
    if math.isnan(threshold):
        raise InputError("threshold: expected a number, got nan")
    # A Python float would be rounded to the type of float32 scores and could then tie with one of them.
    cut = round_down(np.asarray(threshold, dtype=np.float64), negative.dtype)
    accepted, matched = np.count_nonzero(negative > cut), np.count_nonzero(positive > cut)
    return ErrorRates(fmr=accepted / len(negative), fnmr=(len(positive) - matched) / len(positive))


def _cumulative(positive: Scores, negative: Scores) -> tuple[Scores, Counts, Counts]:
    """Distinct scores, falling `(T,)`, and the accepted genuine and impostor pairs `(T + 1,)`.

    Entry i of the counts is the number of pairs above distinct score i; the last entry counts all of them.
    """
    distinct = np.unique(np.concatenate([positive, negative]))
    hits, alarms = (
        np.append(0, len(scores) - np.searchsorted(np.sort(scores), distinct[::-1], side="left"))
        for scores in (positive, negative)
    )
    return distinct[::-1], hits.astype(np.int64), alarms.astype(np.int64)
