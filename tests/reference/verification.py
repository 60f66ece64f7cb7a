"""Slow twins of maskfix.metrics, written from the definitions with plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def slow_auc(genuine: Sequence[float], impostor: Sequence[float]) -> float:
    """Chance that a genuine score wins against an impostor score, ties half: every pair of scores compared."""
    wins = Fraction(0)
    for g in genuine:
        for i in impostor:
            wins += Fraction(1) if g > i else Fraction(1, 2) if g == i else Fraction(0)
    return float(wins / (len(genuine) * len(impostor)))


def slow_rates(genuine: Sequence[float], impostor: Sequence[float], threshold: float) -> tuple[float, float]:
    """(FPR, TPR) when pairs above the threshold are accepted."""
    return (
        sum(1 for s in impostor if s > threshold) / len(impostor),
        sum(1 for s in genuine if s > threshold) / len(genuine),
    )


def slow_tpr_at_fpr(genuine: Sequence[float], impostor: Sequence[float], fpr: Fraction) -> tuple[float, float]:
    """max{(TPR, FPR): FPR <= fpr} over every threshold that can matter, as (tpr, fpr achieved)."""
    best = (-1.0, 0.0)
    for threshold in [*genuine, *impostor, -math.inf, math.inf]:
        accepted = sum(1 for s in impostor if s > threshold)
        if Fraction(accepted, len(impostor)) <= fpr:
            tpr = sum(1 for s in genuine if s > threshold) / len(genuine)
            best = max(best, (tpr, accepted / len(impostor)))
    return best


def slow_eer(genuine: Sequence[float], impostor: Sequence[float]) -> float:
    """Mean of FMR and FNMR at the strictest of the thresholds with the smallest exact distance of the two."""
    best: tuple[Fraction, float] | None = None
    value = math.nan
    for threshold in sorted({*genuine, *impostor}, reverse=True):
        fmr = Fraction(sum(1 for s in impostor if s > threshold), len(impostor))
        fnmr = Fraction(sum(1 for s in genuine if s <= threshold), len(genuine))
        key = (abs(fmr - fnmr), -threshold)
        if best is None or key < best:
            best, value = key, float((fmr + fnmr) / 2)
    return value


def slow_accuracy(scores: Array, same: NDArray[np.bool_], folds: NDArray[np.int64]) -> list[float]:
    """Held-out accuracy of each fold; all candidate thresholds tried one after the other on the other folds."""
    accuracies = []
    for fold in sorted(set(folds.tolist())):
        train = [(float(s), bool(f)) for s, f, n in zip(scores, same, folds, strict=True) if n != fold]
        test = [(float(s), bool(f)) for s, f, n in zip(scores, same, folds, strict=True) if n == fold]
        values = sorted({s for s, _ in train})
        candidates = [math.nextafter(values[0], -math.inf)]
        candidates += [a / 2 + b / 2 for a, b in pairwise(values)]
        candidates += [values[-1]]
        correct = [sum(1 for s, f in train if (s > t) == f) for t in candidates]
        best = [t for t, c in zip(candidates, correct, strict=True) if c == max(correct)]
        threshold = best[(len(best) - 1) // 2]
        accuracies.append(sum(1 for s, f in test if (s > threshold) == f) / len(test))
    return accuracies


def repeat_pairs(scores: Array, same: NDArray[np.bool_], weights: NDArray[np.int64]) -> tuple[list[float], list[float]]:
    """Genuine and impostor scores, each as often as its weight says."""
    genuine: list[float] = []
    impostor: list[float] = []
    for score, flag, weight in zip(scores, same, weights, strict=True):
        (genuine if flag else impostor).extend([float(score)] * int(weight))
    return genuine, impostor


def slow_pair_weights(
    counts: NDArray[np.int64], same: NDArray[np.bool_], first: NDArray[np.int64], second: NDArray[np.int64]
) -> list[int]:
    """w_i for a genuine pair, w_i * w_j for an impostor pair."""
    weights = []
    for flag, i, j in zip(same, first, second, strict=True):
        weights.append(int(counts[i]) if flag else int(counts[i]) * int(counts[j]))
    return weights
