"""How good scores are as evidence: Cllr of log-likelihood ratios, its least value, and calibration on folds.

Cllr is the mean cost in bits of trusting the log-likelihood ratios (LLR) at equal priors: 0 is perfect, 1 is what a
system costs that says nothing, more is worse than saying nothing. Min Cllr is what is left when the scores are mapped
to LLR by the best rising function there is, chosen with the truth at hand; Cllr minus min Cllr is the loss of the
calibration, min Cllr that of telling people apart (Brummer and du Preez 2006; Mandasari et al., Idiap-RR-01-2014).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskfix.base import BoolArray, DoubleArray, InputError, check_shape
from maskfix.metrics.guards import Scores, check_same, check_scores
from maskfix.metrics.ranking import SortedScores

_EXACT_PAIRS = 1 << 17
_BINS = 1 << 13
"""With more pairs than `_EXACT_PAIRS`, scores are put into so many bins of equal width before the fit."""

_PENALTY = 1000.0

_PIECE = 1 << 20
"""Pairs put into bins at a time."""


class _Class(NamedTuple):
    """Scores of one class to fit on.

    Attributes:
        scores: Distinct places, `(B,)` float64.
        counts: How many pairs each stands for, `(B,)` float64.
        failed: Number of failed pairs.
    """

    scores: DoubleArray
    counts: DoubleArray
    failed: int


def cllr(genuine: ArrayLike, impostor: ArrayLike) -> float:
    """Mean cost of log-likelihood ratios in bits, both classes counted alike; lower is better.

    With the natural LLR l it is half the mean of log2(1 + exp(-l)) over genuine pairs plus half the mean of
    log2(1 + exp(l)) over impostor pairs. Scores are no LLR: calibrate them first (`calibrate`).

    Args:
        genuine: Natural log-likelihood ratio of genuine pairs, `(G,)`; infinite values are allowed.
        impostor: That of impostor pairs, `(I,)`.

    Returns:
        Cost from 0 up; infinite where a genuine pair has -inf or an impostor pair +inf.

    Raises:
        InputError: If a class is empty or a ratio is nan.

    Example:
        >>> cllr([0.0], [0.0]), cllr([np.inf], [-np.inf])
        (1.0, 0.0)
    """
    cost = 0.0
    for name, values, sign in (("genuine", genuine, -1), ("impostor", impostor, 1)):
        ratios = np.asarray(values, dtype=np.float64)
        check_shape(name, ratios, (None,))
        if not len(ratios) or np.isnan(ratios).any():
            raise InputError(f"{name}: expected log-likelihood ratios, at least one and none nan")
        cost += float(np.logaddexp(0, sign * ratios).mean()) / (2 * math.log(2))
    return cost


def min_cllr(genuine: ArrayLike, impostor: ArrayLike) -> float:
    """The least Cllr that any rising map of the scores to log-likelihood ratios gives; in [0, 1], lower is better.

    Failed pairs have no score and so no place in the order: as in `calibrate` their ratio is their own. The map is
    found by isotonic regression (pool adjacent violators). Equal scores share a ratio. Between two genuine scores all
    impostor pairs are one step of the map, so they are counted, not regressed: 15.66 million pairs cost a sort.

    Args:
        genuine: Scores of genuine pairs, `(G,)`; higher means more alike, -inf marks a failed pair.
        impostor: Scores of impostor pairs, `(I,)`.

    Raises:
        InputError: If a class is empty or a score is nan or +inf.

    Example:
        >>> min_cllr([0.9, 0.8], [0.1, 0.2]), min_cllr([0.5], [0.5])
        (0.0, 1.0)
    """
    from sklearn.isotonic import IsotonicRegression

    positive, negative = SortedScores.from_classes(genuine, impostor)
    sizes = len(positive), len(negative)
    lost = [int(np.searchsorted(ranked, -np.inf, side="right")) for ranked in (positive, negative)]
    positive, negative = positive[lost[0] :], negative[lost[1] :]
    distinct, hits = np.unique(positive, return_counts=True)
    below = np.searchsorted(negative, distinct, side="left")
    upto = np.searchsorted(negative, distinct, side="right")
    # Steps in rising score: impostors below the first genuine score, those tied with it, those up to the next, ...
    alarms = np.diff(np.column_stack([below, upto]).ravel(), prepend=0, append=len(negative)).astype(np.float64)
    matches = np.zeros(len(alarms))
    matches[1::2] = hits
    matches, alarms = matches / sizes[0], alarms / sizes[1]
    weight = matches + alarms
    used = weight > 0
    matches, alarms, weight = matches[used], alarms[used], weight[used]
    fit = IsotonicRegression(y_min=0, y_max=1)
    share = fit.fit_transform(np.arange(len(weight)), matches / weight, sample_weight=weight) if len(weight) else weight
    # Of failed pairs all share one ratio, whichever suits them best.
    rates = np.array([lost[0] / sizes[0], lost[1] / sizes[1]])
    if rates.any():
        matches, alarms = np.append(matches, rates[0]), np.append(alarms, rates[1])
        share = np.append(share, rates[0] / rates.sum())
    # At equal priors the share of genuine weight is the posterior probability.
    gain = 0.0
    for masses, posterior in ((matches, share), (alarms, 1 - share)):
        held = masses > 0
        gain += float(masses[held] @ np.log2(posterior[held]))
    # Where nothing is told apart, the sum may round to more than that.
    return min(-gain / 2 + 0.0, 1.0)


def calibrate(scores: ArrayLike, same: ArrayLike, folds: ArrayLike) -> DoubleArray:
    """Natural log-likelihood ratio of each pair, by logistic regression on the other folds at equal priors.

    The ratio is linear in the score. scikit-learn's `LogisticRegression` fits it, with a penalty on the slope (C =
    1000, on scores brought to standard deviation 1) that does not show where the classes overlap and keeps the ratios
    finite where they do not. With more than 131,072 pairs the fit is made on the means of 8,192 bins of equal width,
    which changes the ratios by less than 1e-3.

    A failed pair (-inf) has no place on a line. Its ratio is that of the classes' failure rates in the other folds;
    half a failed pair and half a whole one are added to each class, so that it stays finite. That the others did not
    fail says something too: the ratio of the rates of whole pairs is part of theirs.

    Args:
        scores: Score of each pair, `(P,)`; higher means more alike, -inf marks a failed pair.
        same: True for genuine pairs, `(P,)` bool.
        folds: Fold of each pair, `(P,)` integers, best without a person in two folds.

    Returns:
        `(P,)` float64, what `cllr` takes once split.

    Raises:
        InputError: If shapes differ, a score is nan or +inf, or there are fewer than two folds, or the others of a fold
            lack a class.

    Example:
        >>> ratios = calibrate([0.9, 0.2, 0.8, 0.1], [True, False, True, False], [0, 0, 1, 1])
        >>> (ratios > 0).tolist()
        [True, False, True, False]
    """
    values, flags = check_scores("scores", scores), check_same(same)
    numbers = np.asarray(folds)
    check_shape("same", flags, values.shape)
    check_shape("folds", numbers, values.shape)
    distinct = np.unique(numbers)
    if len(distinct) < 2:
        raise InputError(f"folds: expected at least 2 folds, got {len(distinct)}; a fold is fitted on the others")
    samples = _samples if len(values) <= _EXACT_PAIRS else _binned_samples
    lines = np.array([_fit(*classes, fold) for fold, classes in samples(values, flags, numbers, distinct)])
    ratios = np.empty(len(values))
    for start in range(0, len(values), _PIECE):
        piece = slice(start, start + _PIECE)
        slope, offset, failed = lines[np.searchsorted(distinct, numbers[piece])].T
        lost = np.isneginf(values[piece])
        ratios[piece] = np.where(lost, failed, slope * np.where(lost, 0, values[piece]) + offset)
    return ratios


def _samples(
    scores: Scores, same: BoolArray, folds: NDArray[Any], distinct: NDArray[Any]
) -> Iterator[tuple[Any, tuple[_Class, _Class]]]:
    """Each fold with the genuine and the impostor pairs of all the others."""

    def pick(chosen: BoolArray) -> _Class:
        values = scores[chosen].astype(np.float64)
        whole = values[np.isfinite(values)]
        return _Class(whole, np.ones(len(whole)), len(values) - len(whole))

    for fold in distinct:
        others = folds != fold
        yield fold, (pick(others & same), pick(others & ~same))


def _binned_samples(
    scores: Scores, same: BoolArray, folds: NDArray[Any], distinct: NDArray[Any]
) -> Iterator[tuple[Any, tuple[_Class, _Class]]]:
    """The same with the means of bins for scores; all folds are counted in one pass."""
    whole = scores[np.isfinite(scores)]
    low = float(whole.min()) if len(whole) else 0.0
    width = (float(whole.max()) - low) / (_BINS - 1) if len(whole) else 0.0
    size = len(distinct) * 2 * (_BINS + 1)
    counts, sums = np.zeros(size), np.zeros(size)
    for start in range(0, len(scores), _PIECE):
        piece = slice(start, start + _PIECE)
        values = scores[piece].astype(np.float64)
        lost = np.isneginf(values)
        values[lost] = low
        bins = ((values - low) / (width or 1.0)).astype(np.int64)
        bins[lost] = _BINS
        bins += (np.searchsorted(distinct, folds[piece]) * 2 + same[piece]) * (_BINS + 1)
        counts += np.bincount(bins, minlength=size)
        sums += np.bincount(bins, weights=values, minlength=size)
    shape = (len(distinct), 2, _BINS + 1)
    counts, sums = counts.reshape(shape), sums.reshape(shape)
    for row, fold in enumerate(distinct):
        others = np.arange(len(distinct)) != row
        classes = []
        for kind in (1, 0):
            number, total = counts[others, kind].sum(axis=0), sums[others, kind].sum(axis=0)
            filled = number[:-1] > 0
            classes.append(_Class(total[:-1][filled] / number[:-1][filled], number[:-1][filled], int(number[-1])))
        yield fold, (classes[0], classes[1])


def _fit(genuine: _Class, impostor: _Class, fold: Any) -> tuple[float, float, float]:
    """Slope and offset of the log-likelihood ratio, and the ratio of failed pairs."""
    from sklearn.linear_model import LogisticRegression

    totals = [kind.counts.sum() for kind in (genuine, impostor)]
    if not all(totals):
        raise InputError(f"folds: the folds other than {fold} have no whole pair of one class; use fewer folds")
    rates = [
        (kind.failed + 0.5) / (kind.failed + total + 1) for kind, total in zip((genuine, impostor), totals, strict=True)
    ]
    failed = math.log(rates[0] / rates[1])
    shares = [kind.failed / (kind.failed + total) for kind, total in zip((genuine, impostor), totals, strict=True)]
    whole = math.log((1 - shares[0]) / (1 - shares[1]))
    half = sum(totals) / 2
    weight = np.concatenate([genuine.counts * (half / totals[0]), impostor.counts * (half / totals[1])])
    values = np.concatenate([genuine.scores, impostor.scores])
    mean = float(np.average(values, weights=weight))
    deviation = math.sqrt(float(np.average((values - mean) ** 2, weights=weight)))
    if not deviation:  # One score says nothing of who is who, and scikit-learn's solver warns of it.
        return 0.0, whole, failed
    model = LogisticRegression(C=_PENALTY, solver="newton-cholesky", tol=1e-8)
    labels = np.repeat([1, 0], [len(genuine.scores), len(impostor.scores)])
    model.fit(((values - mean) / deviation)[:, None], labels, sample_weight=weight)
    slope = float(model.coef_[0, 0]) / deviation
    return slope, float(model.intercept_[0]) - slope * mean + whole, failed
