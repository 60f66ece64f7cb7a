"""Accuracy over subject-disjoint folds with a threshold from the other folds: LFW's official figure."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from maskfix.base import BoolArray, DoubleArray, InputError, check_shape
from maskfix.metrics.verification import check_same, check_scores


class FoldAccuracy(NamedTuple):
    """Accuracy over folds.

    Attributes:
        mean: Mean accuracy of the held-out folds, in [0, 1].
        se: Standard error of the mean: sd / sqrt(F) with n - 1 in the sd. Some scripts print the sd itself after "+-".
        per_fold: Accuracy of each held-out fold, `(F,)`, in the order of the sorted fold numbers.
        thresholds: Threshold used on each held-out fold, `(F,)`; accept iff score > threshold.
    """

    mean: float
    se: float
    per_fold: DoubleArray
    thresholds: DoubleArray


def kfold_accuracy(scores: ArrayLike, same: ArrayLike, folds: ArrayLike) -> FoldAccuracy:
    """Accuracy of each fold at the threshold that is best on all the others (protocols.md 1.3).

    Candidate thresholds lie halfway between neighbouring scores, so a held-out score near a training score falls on
    the side of that score. Several candidates are often equally good: the middle one of them is taken, not the first.

    Args:
        scores: Score of each pair, `(P,)`; higher means more alike, -inf marks a failed pair (a non-match).
        same: True for genuine pairs, `(P,)` bool.
        folds: Fold number of each pair, `(P,)` integers. Take them from the rows of the official list; folds drawn
            anew over the pairs that survived are other folds.

    Returns:
        Mean, standard error, and accuracy and threshold of each fold.

    Raises:
        InputError: If the shapes differ, there are fewer than two folds, or a score is nan or +inf.

    Example:
        >>> result = kfold_accuracy([0.9, 0.2, 0.8, 0.1], [True, False, True, False], [0, 0, 1, 1])
        >>> result.mean, result.se, result.thresholds
        (1.0, 0.0, array([0.45, 0.55]))
    """
    values = check_scores("scores", scores).astype(np.float64)
    flags = check_same(same)
    numbers = np.asarray(folds)
    check_shape("same", flags, values.shape)
    check_shape("folds", numbers, values.shape)
    distinct = np.unique(numbers)
    if len(distinct) < 2:
        raise InputError(f"folds: expected at least 2 folds, got {len(distinct)}; the threshold comes from the others")
    held_out = [numbers == fold for fold in distinct]
    thresholds = np.array([_best_threshold(values[~rows], flags[~rows]) for rows in held_out])
    per_fold = np.array(
        [np.mean((values[rows] > cut) == flags[rows]) for rows, cut in zip(held_out, thresholds, strict=True)]
    )
    error = float(per_fold.std(ddof=1)) / math.sqrt(len(per_fold))
    return FoldAccuracy(float(per_fold.mean()), error, per_fold, thresholds)


def _best_threshold(scores: DoubleArray, same: BoolArray) -> float:
    """The middle one of the candidate thresholds with the most correct decisions.

    Candidates: just below the lowest score (accept all that did not fail), halfway between neighbouring distinct
    scores, the highest score (accept none).
    """
    distinct = np.unique(scores)
    halfway = distinct[:-1] / 2 + distinct[1:] / 2
    candidates = np.concatenate([[np.nextafter(distinct[0], -np.inf)], halfway, distinct[-1:]])
    genuine, impostor = np.sort(scores[same]), np.sort(scores[~same])
    correct = len(genuine) - np.searchsorted(genuine, candidates, side="right")
    correct = correct + np.searchsorted(impostor, candidates, side="right")
    best = np.flatnonzero(correct == correct.max())
    return float(candidates[best[(len(best) - 1) // 2]])
