"""Accuracy over folds: slow twin, hand-computed thresholds, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest

from maskfix.base import InputError
from maskfix.metrics import kfold_accuracy
from tests.reference.verification import slow_accuracy


@pytest.mark.parametrize("digits", [1, 8])
@pytest.mark.parametrize("failures", [False, True])
def test_kfold_accuracy__equals_twin(digits: int, failures: bool) -> None:
    rng = np.random.default_rng(digits)
    same = rng.random(200) < 0.5
    scores = (rng.normal(size=200) + 1.5 * same).round(digits)
    if failures:
        scores[::9] = -np.inf
    folds = rng.permutation(np.arange(200) % 5)
    result = kfold_accuracy(scores, same, folds)
    expected = slow_accuracy(scores, same, folds)
    assert result.per_fold.tolist() == pytest.approx(expected)
    assert result.mean == pytest.approx(np.mean(expected))
    mean = sum(expected) / 5
    deviation = math.sqrt(sum((x - mean) ** 2 for x in expected) / 4)
    assert result.se == pytest.approx(deviation / math.sqrt(5))
    order = rng.permutation(200)
    assert kfold_accuracy(scores[order], same[order], folds[order]).mean == result.mean


def test_kfold_accuracy__threshold_comes_from_the_other_folds() -> None:
    # Fold 0 alone would be cut at 0.45 and be perfect; fold 1 cuts at 0.75, where the genuine pair 0.6 is lost.
    scores, same = np.array([0.6, 0.3, 0.9, 0.6]), np.array([True, False, True, False])
    result = kfold_accuracy(scores, same, np.array([0, 0, 1, 1]))
    assert result.thresholds.tolist() == pytest.approx([0.75, 0.45])
    assert result.per_fold.tolist() == [0.5, 0.5]
    assert result.se == 0.0


def test_kfold_accuracy__middle_of_the_plateau() -> None:
    # On the training fold the cuts 0.15, 0.35 and 0.55 each cost one error; scanning would stop at the first.
    train = [(0.1, False), (0.2, True), (0.3, False), (0.4, True), (0.5, False), (0.6, True)]
    scores = np.array([0.9, *(s for s, _ in train)])
    same = np.array([True, *(f for _, f in train)])
    result = kfold_accuracy(scores, same, np.array([0, 1, 1, 1, 1, 1, 1]))
    assert result.thresholds[0] == pytest.approx(0.35)


def test_kfold_accuracy__failures_are_rejected_at_any_threshold() -> None:
    # Accepting everything would be best, but failed pairs cannot be accepted.
    scores = np.array([-np.inf, 0.3, 0.2, -np.inf, 0.3, 0.2])
    same = np.array([True, True, True, True, True, True])
    result = kfold_accuracy(scores, same, np.array([0, 0, 0, 1, 1, 1]))
    assert result.per_fold.tolist() == pytest.approx([2 / 3, 2 / 3])


def test_kfold_accuracy__finite_thresholds_without_failures() -> None:
    for same in ([True] * 4, [False] * 4):
        result = kfold_accuracy([0.1, 0.1, 0.1, 0.1], same, [0, 0, 1, 1])
        assert np.isfinite(result.thresholds).all()
        assert result.mean == 1.0


@pytest.mark.parametrize(
    ("scores", "same", "folds", "message"),
    [
        ([0.1, 0.2], [True, False], [0, 0], "at least 2 folds"),
        ([0.1, 0.2], [True, False], [0], "folds: expected shape"),
        ([0.1, 0.2], [True], [0, 1], "same: expected shape"),
        ([0.1, np.nan], [True, False], [0, 1], "score 1 is nan"),
    ],
)
def test_kfold_accuracy__bad_input(scores: list[float], same: list[bool], folds: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        kfold_accuracy(scores, same, folds)
