"""Subject bootstrap: weights by hand, repeated pairs, paired intervals, coverage of a known case, speed."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from maskfix.base import InputError
from maskfix.metrics import auc, subject_bootstrap, tpr_at_fpr, weighted_statistics
from maskfix.metrics.bootstrap import _draw, _pair_weights
from tests.reference.verification import repeat_pairs, slow_auc, slow_pair_weights, slow_tpr_at_fpr


def verification_list(seed: int, pairs: int, subjects: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flags and subjects of a list with as many genuine as impostor pairs, mixed."""
    rng = np.random.default_rng(seed)
    same = rng.permutation(np.arange(2 * pairs) % 2 == 0)
    first = rng.integers(subjects, size=2 * pairs)
    second = np.where(same, first, (first + rng.integers(1, subjects, size=2 * pairs)) % subjects)
    return same, first, second


def test_pair_weights__by_hand() -> None:
    same = np.array([True, True, False, False])
    people = np.array([[0, 1, 0, 1], [0, 1, 1, 2]])
    weights = _pair_weights(np.array([[2, 1, 0], [0, 3, 2]]), people, same)
    assert weights.tolist() == [[2, 1, 2, 0], [0, 3, 0, 6]]


def test_weighted_statistics__by_hand() -> None:
    scores = np.array([0.9, 0.5, 0.3, 0.8, 0.5, 0.1])
    same = np.array([True, True, True, False, False, False])
    weights = np.array([[1, 2, 1, 1, 2, 1], [1, 0, 1, 0, 2, 0], [0, 0, 0, 1, 1, 1]])
    area, rates = weighted_statistics(scores, same, weights, [0.25, 0.75])
    # Row 0, 4 * 4 comparisons: 0.9 wins 4; 0.5, twice, wins 1 and ties 2, so 2 each; 0.3 wins 1: 4 + 4 + 1 = 9.
    # FPR 0.25 allows one accept: threshold 0.5, of the genuine weight only 0.9 passes. 0.75 allows 3: threshold 0.1.
    # Row 1: 0.9 against 0.5 wins, 0.3 loses. No accept below 2 of 2: threshold 0.5.
    np.testing.assert_allclose(area, [9 / 16, 0.5, np.nan])
    np.testing.assert_allclose(rates, [[0.25, 1.0], [0.5, 0.5], [np.nan, np.nan]])


@pytest.mark.parametrize("digits", [1, 8])
@pytest.mark.parametrize("failures", [False, True])
def test_weighted_statistics__equals_repeated_pairs(digits: int, failures: bool) -> None:
    rng = np.random.default_rng(3)
    same = rng.random(60) < 0.5
    scores = (rng.normal(size=60) + same).round(digits)
    if failures:
        scores[::8] = -np.inf
    weights = rng.integers(0, 4, size=(7, 60))
    fprs = [0.01, 0.1, 0.5, 1.0]
    area, rates = weighted_statistics(scores, same, weights, fprs)
    for row in range(7):
        genuine, impostor = repeat_pairs(scores, same, weights[row])
        assert area[row] == pytest.approx(slow_auc(genuine, impostor), abs=1e-14)
        for column, fpr in enumerate(fprs):
            assert rates[row, column] == tpr_at_fpr(genuine, impostor, fpr).tpr
            assert rates[row, column] == slow_tpr_at_fpr(genuine, impostor, fpr)[0]  # type: ignore[arg-type]


def test_subject_bootstrap__equals_plain_loop() -> None:
    same, first, second = verification_list(0, 80, 30)
    rng = np.random.default_rng(1)
    scores = {"a": rng.normal(size=160) + same, "b": rng.normal(size=160) + 2 * same}
    result = subject_bootstrap(
        scores, same, first + 100, second + 100, rng=np.random.default_rng(7), fprs=[0.1], replicates=64
    )
    assert result.subjects == len(np.unique([first, second]))
    counts = _draw(np.random.default_rng(7), 64, result.subjects)
    number = {subject: i for i, subject in enumerate(np.unique([first, second]))}
    ids = np.array([[number[s] for s in side] for side in (first, second)])
    table = []
    for row in counts:
        weights = np.array(slow_pair_weights(row, same, ids[0], ids[1]))
        sides = {name: repeat_pairs(values, same, weights) for name, values in scores.items()}
        table.append([f for s in sides.values() for f in (auc(*s), tpr_at_fpr(*s, 0.1).tpr)])
    drawn = np.array(table)
    for column, name in ((0, "a"), (2, "b")):
        method = result.methods[name]
        genuine, impostor = scores[name][same], scores[name][~same]
        assert method.auc.value == auc(genuine, impostor)
        assert method.tpr_at_fpr[0.1].value == tpr_at_fpr(genuine, impostor, 0.1).tpr
        assert method.auc[1:] == pytest.approx(np.percentile(drawn[:, column], [2.5, 97.5]))
        assert method.tpr_at_fpr[0.1][1:] == pytest.approx(np.percentile(drawn[:, column + 1], [2.5, 97.5]))
    difference = result.differences["b", "a"]
    assert difference.auc.value == result.methods["b"].auc.value - result.methods["a"].auc.value
    assert difference.auc[1:] == pytest.approx(np.percentile(drawn[:, 2] - drawn[:, 0], [2.5, 97.5]))
    backward = result.differences["a", "b"].auc
    assert (backward.value, backward.low, backward.high) == pytest.approx(
        (-difference.auc.value, -difference.auc.high, -difference.auc.low)
    )


def test_subject_bootstrap__draws_all_subjects_evenly() -> None:
    counts = _draw(np.random.default_rng(0), 2000, 5)
    assert (counts.sum(axis=1) == 5).all()
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.1)
    # Multinomial: variance 1 - 1/5 each, covariance -1/5 between two.
    np.testing.assert_allclose(np.cov(counts.T), np.eye(5) - 0.2, atol=0.1)


def test_subject_bootstrap__pairing_narrows_the_difference() -> None:
    same, first, second = verification_list(4, 400, 200)
    rng = np.random.default_rng(2)
    base = rng.normal(size=800) + same
    scores = {"a": base + 0.01 * rng.normal(size=800), "b": base, "c": base}
    result = subject_bootstrap(scores, same, first, second, rng=np.random.default_rng(0), replicates=200)
    own = result.methods["a"].auc
    difference = result.differences["a", "b"].auc
    assert difference.high - difference.low < 0.2 * (own.high - own.low)
    assert result.differences["b", "c"].auc == (0.0, 0.0, 0.0)
    assert own.low < own.value < own.high
    assert set(result.methods["a"].tpr_at_fpr) == {0.01, 0.001}
    assert result.replicates == 200


def test_subject_bootstrap__knows_that_pairs_share_people() -> None:
    # Each subject has 20 genuine pairs with one common score: the pairs are worth 50 observations, not 1,000.
    rng = np.random.default_rng(0)
    genuine = np.repeat(np.arange(50), 20)
    left = rng.integers(50, size=1000)
    first = np.r_[genuine, left]
    second = np.r_[genuine, (left + rng.integers(1, 50, size=1000)) % 50]
    same = np.r_[np.ones(1000, dtype=bool), np.zeros(1000, dtype=bool)]
    values = np.r_[np.repeat(rng.normal(1, 1, 50), 20), rng.normal(size=1000)]
    interval = subject_bootstrap({"a": values}, same, first, second, rng=rng, replicates=300).methods["a"].auc
    # The same scores as if every pair had people of its own.
    loners = np.arange(2000)
    partners = np.where(same, loners, loners + 2000)
    naive = subject_bootstrap({"a": values}, same, loners, partners, rng=rng, replicates=300).methods["a"].auc
    assert interval.high - interval.low > 2 * (naive.high - naive.low)


def test_subject_bootstrap__same_generator_same_result() -> None:
    same, first, second = verification_list(1, 50, 20)
    values = {"a": np.random.default_rng(0).normal(size=100)}
    runs = [
        subject_bootstrap(values, same, first, second, rng=np.random.default_rng(5), replicates=70) for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_subject_bootstrap__replicates_without_a_class_are_left_out() -> None:
    same = np.array([True, False])
    result = subject_bootstrap(
        {"a": [0.9, 0.1]}, same, [0, 1], [0, 2], rng=np.random.default_rng(0), fprs=[0.5], replicates=200
    )
    # All three subjects must be drawn: 3! / 27 of the replicates.
    assert 20 < result.replicates < 80
    assert result.methods["a"].auc == (1.0, 1.0, 1.0)


def test_subject_bootstrap__memory_of_the_draws() -> None:
    same, first, second = verification_list(6, 300, 4000)
    values = np.random.default_rng(0).normal(size=600)
    tracemalloc.start()
    result = subject_bootstrap({"a": values}, same, first, second, rng=np.random.default_rng(0), replicates=4000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Four bytes for each subject of each replicate, and a block of 64 replicates in work.
    assert peak < 2 * 4 * result.subjects * 4000


def test_subject_bootstrap__three_methods_of_a_whole_list() -> None:
    same, first, second = verification_list(6, 3000, 4281)
    rng = np.random.default_rng(0)
    scores = {
        name: (rng.normal(size=6000) + 2.9 * same).astype(np.float32) for name in ("clean", "masked", "completed")
    }
    result = subject_bootstrap(scores, same, first, second, rng=rng)
    assert len(result.differences) == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"first": [0, 1, 0, 1], "second": [1, 1, 1, 2]}, "pair 0 is genuine, but its subject ids are 0 and 1"),
        ({"first": [0, 1, 0, 1], "second": [0, 1, 0, 2]}, "pair 2 is impostor, but its subject ids are 0 and 0"),
        ({"first": [0.0, 1.0, 0.0, 1.0]}, "integer subject ids"),
        ({"first": [0, 1]}, "first: expected shape"),
        ({"scores": {"a": [0.1]}}, "scores of 'a'"),
        ({"scores": {"a": [0.1, 0.2, 0.3, np.nan]}}, "score 3 is nan"),
        ({"scores": {}}, "at least one method"),
        ({"replicates": 0}, "replicates >= 1"),
        ({"level": 1.0}, "level in"),
        ({"fprs": [0.0]}, "fraction in"),
    ],
)
def test_subject_bootstrap__bad_input(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "scores": {"a": [0.9, 0.8, 0.2, 0.1]},
        "same": [True, True, False, False],
        "first": [0, 1, 0, 1],
        "second": [0, 1, 1, 2],
        "rng": np.random.default_rng(0),
    }
    with pytest.raises(InputError, match=message):
        subject_bootstrap(**(arguments | change))  # type: ignore[arg-type]


def test_weighted_statistics__bad_weights() -> None:
    for weights in (np.array([[0.5, 1.0]]), np.array([[-1, 1]]), np.array([1, 1])):
        with pytest.raises(InputError, match="weights"):
            weighted_statistics([0.1, 0.2], [True, False], weights, [0.1])
