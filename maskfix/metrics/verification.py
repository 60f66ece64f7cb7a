"""1:1 verification metrics, exact: no interpolation, no grid of thresholds, ties and failed pairs handled.

A higher score means more alike everywhere, and a pair is accepted iff its score is greater than the threshold.
A failed comparison has the score -inf and is accepted at no threshold. Rates are fractions in [0, 1]; FPR is the false
match rate (FMR) and 1 - TPR the false non-match rate (FNMR) of ISO/IEC 19795-1 (protocols.md 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskfix.base import BoolArray, DoubleArray, InputError, check_shape

Scores = NDArray[np.floating[Any]]
Counts = NDArray[np.int64]


class RocCurve(NamedTuple):
    """All points of an empirical ROC curve, from the strictest threshold to the loosest.

    Attributes:
        fpr: Accepted share of the impostor pairs at each threshold, `(T,)` float64, rising from 0 to 1.
        tpr: Accepted share of the genuine pairs, `(T,)` float64, rising from 0 to 1.
        thresholds: `(T,)`, falling: every distinct score, then -inf. The last point accepts everything, failed pairs
            too; it is there so that the area under the points is the AUC.
    """

    fpr: DoubleArray
    tpr: DoubleArray
    thresholds: DoubleArray


class OperatingPoint(NamedTuple):
    """The true positive rate at a false positive rate, with what was really achieved.

    Attributes:
        tpr: Accepted share of the genuine pairs, in [0, 1].
        fpr: False positive rate achieved: at most the rate asked for; less where impostor scores are tied.
        threshold: Accept iff score > threshold.
        accepted: Number of impostor pairs accepted.
        resolvable: False where the rate asked for is below 1 / number of impostor pairs, so that `tpr` is the rate at
            no false accept at all.
        nearest: TPR by insightface's rule (the ROC point nearest to the rate asked for, which may lie above it), for
            comparison with published numbers only.
    """

    tpr: float
    fpr: float
    threshold: float
    accepted: int
    resolvable: bool
    nearest: float


class ErrorRates(NamedTuple):
    """Comparison errors at one threshold.

    Attributes:
        fmr: False match rate: accepted share of the impostor pairs.
        fnmr: False non-match rate: rejected share of the genuine pairs.
    """

    fmr: float
    fnmr: float


def split_scores(scores: ArrayLike, same: ArrayLike) -> tuple[Scores, Scores]:
    """Split scores in pair order into genuine and impostor scores.

    Args:
        scores: Score of each pair, `(P,)`; higher means more alike, -inf marks a failed pair.
        same: True for genuine pairs, `(P,)` bool.

    Returns:
        Genuine scores `(G,)` and impostor scores `(I,)`, in the order of the pairs.

    Raises:
        InputError: If the shapes differ, `same` is not boolean, a class is empty, or a score is nan or +inf.

    Example:
        >>> split_scores([0.9, 0.1, 0.8], [True, False, True])
        (array([0.9, 0.8]), array([0.1]))
    """
    values, flags = check_scores("scores", scores), check_same(same)
    check_shape("same", flags, values.shape)
    genuine, impostor = values[flags], values[~flags]
    if not len(genuine) or not len(impostor):
        raise InputError(f"same: expected pairs of both classes, got {len(genuine)} genuine, {len(impostor)} impostor")
    return genuine, impostor


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
    positive, negative = _check_classes(genuine, impostor)
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
    positive, negative = (np.sort(scores) for scores in _check_classes(genuine, impostor))
    below = np.searchsorted(negative, positive, side="left").sum(dtype=np.int64)
    upto = np.searchsorted(negative, positive, side="right").sum(dtype=np.int64)
    return int(below + upto) / (2 * len(positive) * len(negative))


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
    positive, negative = (np.sort(scores) for scores in _check_classes(genuine, impostor))
    _, hits, alarms = _cumulative(positive, negative)
    kept = _corners(hits, alarms)
    curve_fpr, curve_tpr = alarms[kept][::-1] / len(negative), hits[kept][::-1] / len(positive)
    points = []
    for fpr in fprs:
        budget = allowed_accepts(fpr, len(negative))
        threshold = float(negative[-1 - budget]) if budget < len(negative) else -math.inf
        accepted = len(negative) - int(np.searchsorted(negative, threshold, side="right"))
        matched = len(positive) - int(np.searchsorted(positive, threshold, side="right"))
        points.append(
            OperatingPoint(
                tpr=matched / len(positive),
                fpr=accepted / len(negative),
                threshold=threshold,
                accepted=accepted,
                resolvable=budget > 0,
                nearest=float(curve_tpr[np.abs(curve_fpr - fpr).argmin()]),
            )
        )
    return tuple(points)


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
    positive, negative = _check_classes(genuine, impostor)
    _, hits, alarms = _cumulative(positive, negative)
    misses = len(positive) - hits
    best = int(np.abs(alarms * len(positive) - misses * len(negative)).argmin())
    return (int(alarms[best]) / len(negative) + int(misses[best]) / len(positive)) / 2


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
    positive, negative = _check_classes(genuine, impostor)
    if math.isnan(threshold):
        raise InputError("threshold: expected a number, got nan")
    # In float64: a Python float would be rounded to the type of float32 scores and could then tie with one of them.
    accepted = np.count_nonzero(negative.astype(np.float64) > threshold)
    matched = np.count_nonzero(positive.astype(np.float64) > threshold)
    return ErrorRates(fmr=accepted / len(negative), fnmr=(len(positive) - matched) / len(positive))


def allowed_accepts(fpr: float, impostors: int) -> int:
    """How many of `impostors` pairs may be accepted at a false positive rate: floor(fpr * impostors).

    The product is nudged up by one part in 10^12 before it is cut, so that 0.29 * 100 = 28.999999999999996 gives 29.

    Args:
        fpr: Rate in (0, 1].
        impostors: Number (or total integer weight) of impostor pairs.

    Raises:
        InputError: If `fpr` is outside (0, 1].

    Example:
        >>> allowed_accepts(0.29, 100), allowed_accepts(0.001, 3000), allowed_accepts(0.001, 999)
        (29, 3, 0)
    """
    check_rate("fpr", fpr)
    return min(impostors, math.floor(fpr * impostors * (1 + 1e-12)))


def check_rate(name: str, rate: float) -> None:
    """Check that a rate lies in (0, 1].

    Raises:
        InputError: If it does not or is nan.
    """
    if not 0 < rate <= 1:
        raise InputError(f"{name}: expected a fraction in (0, 1], got {rate}; 1% is 0.01")


def check_scores(name: str, scores: ArrayLike) -> Scores:
    """Check one axis of scores and give them as a floating array: any number or -inf, but no nan and no +inf.

    Raises:
        InputError: If there is not exactly one axis, no score at all, or a score is nan or +inf.
    """
    values = np.asarray(scores)
    check_shape(name, values, (None,))
    if not len(values):
        raise InputError(f"{name}: expected at least one score, got none")
    if values.dtype.kind not in "fiu":
        raise InputError(f"{name}: expected numbers, got dtype {values.dtype}")
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    wrong = ~(values < np.inf)
    if wrong.any():
        where = int(wrong.argmax())
        raise InputError(f"{name}: score {where} is {values[where]}; expected a number, or -inf for a failed pair")
    return values


def check_same(same: ArrayLike) -> BoolArray:
    """Check the flags of genuine pairs, `(P,)` bool.

    Raises:
        InputError: If they are not boolean with one axis; 0 and 1 are refused, since an array of indices looks alike.
    """
    flags = np.asarray(same)
    check_shape("same", flags, (None,))
    if flags.dtype != np.bool_:
        raise InputError(f"same: expected bool flags, got dtype {flags.dtype}; use same.astype(bool)")
    return flags


def _check_classes(genuine: ArrayLike, impostor: ArrayLike) -> tuple[Scores, Scores]:
    """Check both classes and bring them to one floating type, so that equal scores compare equal."""
    positive, negative = check_scores("genuine", genuine), check_scores("impostor", impostor)
    common = np.result_type(positive, negative)
    return positive.astype(common, copy=False), negative.astype(common, copy=False)


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


def _corners(hits: Counts, alarms: Counts) -> Counts:
    """The points that scikit-learn's `roc_curve` keeps by default: all but those amid equal steps on a straight line.

    The first point, (0, 0), takes no part, as there it is put before the curve afterwards.
    """
    bends = (np.diff(hits[1:], 2) != 0) | (np.diff(alarms[1:], 2) != 0)
    inner = np.flatnonzero(bends) + 2
    kept: Counts = np.unique(np.concatenate([[0, 1], inner, [len(hits) - 1]])).astype(np.int64)
    return kept
