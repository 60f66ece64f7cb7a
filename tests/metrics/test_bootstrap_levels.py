"""The bootstrap of long lists against the one that weights every pair, draw by draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.scoring_data import ijbc_sizes, make_method_scores, make_pairs, probe_subjects
from maskfix.base import InputError
from maskfix.metrics import bootstrap, bootstrap_levels, own_subjects, subject_bootstrap
from maskfix.metrics.bootstrap import _draw, _whole_tables
from maskfix.metrics.bootstrap_levels import level_statistics

FPRS = (0.0005, 0.001, 0.01, 0.1, 1.0)


def some_list(seed: int, genuine: int = 150, impostor: int = 4000, subjects: int = 40, digits: int = 9) -> Any:
    """Scores of two methods, flags, subjects `(2, P)`, all subjects present; pairs mixed."""
    rng = np.random.default_rng(seed)
    same = rng.permutation(np.arange(genuine + impostor) < genuine)
    first = rng.integers(subjects, size=len(same))
    second = np.where(same, first, (first + rng.integers(1, subjects, size=len(same))) % subjects)
    luck = rng.normal(0, 0.3, subjects)
    base = rng.normal(size=len(same)) + luck[first] + luck[second]
    scores = {
        name: (base + rng.normal(size=len(same)) + shift * same).round(digits)
        for name, shift in (("a", 2.0), ("b", 3.0))
    }
    return scores, same, np.stack([first, second])


def level_table(values: np.ndarray, same: np.ndarray, people: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return level_statistics({"one": values}, same, people, counts, FPRS)["one"]


def draw(seed: int, replicates: int, subjects: int) -> np.ndarray:
    return _draw(np.random.default_rng(seed), replicates, subjects).astype(np.int32)


@pytest.mark.parametrize("digits", [0, 1, 9])
@pytest.mark.parametrize("failures", [False, True])
@pytest.mark.parametrize("few", [0, 100, 2048])
def test_tpr_is_exact_draw_by_draw(digits: int, failures: bool, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, same, people = some_list(0, digits=digits)
    if failures:
        for values in scores.values():
            values[::9] = -np.inf
    counts = draw(1, 150, 40)
    whole = _whole_tables(scores, same, people, counts, FPRS)
    monkeypatch.setattr(bootstrap_levels, "_FEW", few)
    monkeypatch.setattr(bootstrap_levels, "_ELEMENTS", 3000)
    for name, values in scores.items():
        table = level_table(values, same, people, counts)
        np.testing.assert_array_equal(table[:, 1:], whole[name][:, 1:])
        error = table[:, 0] - whole[name][:, 0]
        assert np.sqrt(np.mean(error**2)) < 0.01 * whole[name][:, 0].std()
        # Bounds at all genuine scores leave nothing to be assumed.
        with monkeypatch.context() as patch:
            patch.setattr(bootstrap_levels, "_GENUINE_BOUNDS", 1000)
            exact = level_table(values, same, people, counts)
        np.testing.assert_allclose(exact, whole[name], rtol=1e-14)


@pytest.mark.parametrize("bounds", [2, 16, 64])
def test_auc_between_the_bounds(bounds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scores, same, people = some_list(10)
    counts = draw(11, 200, 40)
    monkeypatch.setattr(bootstrap_levels, "_GENUINE_BOUNDS", bounds)
    monkeypatch.setattr(bootstrap_levels, "_HALVINGS", 1)
    for name, whole in _whole_tables(scores, same, people, counts, FPRS).items():
        table = level_table(scores[name], same, people, counts)
        np.testing.assert_array_equal(table[:, 1:], whole[:, 1:])
        error = table[:, 0] - whole[:, 0]
        assert 0 < np.sqrt(np.mean(error**2)) < 0.1 * whole[:, 0].std()
        assert abs(error.mean()) < 0.02 * whole[:, 0].std()


def test_weights_of_one_give_the_auc_itself() -> None:
    scores, same, people = some_list(2, digits=1)
    counts = np.ones((1, 40), dtype=np.int32)
    whole = _whole_tables(scores, same, people, counts, FPRS)["a"]
    np.testing.assert_allclose(level_table(scores["a"], same, people, counts), whole, rtol=1e-14)


@pytest.mark.parametrize(("genuine", "impostor", "subjects"), [(1, 1, 3), (2, 5, 4), (3, 17, 6), (5, 16, 2)])
def test_tiny_lists(genuine: int, impostor: int, subjects: int) -> None:
    scores, same, people = some_list(3, genuine, impostor, subjects, digits=0)
    counts = draw(4, 60, subjects)
    whole = _whole_tables(scores, same, people, counts, FPRS)
    table = level_table(scores["b"], same, people, counts)
    np.testing.assert_array_equal(table[:, 1:], whole["b"][:, 1:])
    np.testing.assert_array_equal(np.isnan(table), np.isnan(whole["b"]))


def test_large_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, same, people = some_list(5)
    counts = draw(6, 30, 40)
    monkeypatch.setattr(bootstrap_levels, "_FEW", 0)
    small = level_table(scores["a"], same, people, counts)
    # Sums beyond float32's whole numbers; then rows beyond 16 bits, which weights of a thousand times as much are.
    monkeypatch.setattr(bootstrap_levels, "_EXACT", 1)
    np.testing.assert_array_equal(level_table(scores["a"], same, people, counts), small)
    large = level_table(scores["a"], same, people, counts * 1000)
    whole = _whole_tables(scores, same, people, counts * 1000, FPRS)["a"]
    np.testing.assert_array_equal(large[:, 1:], whole[:, 1:])
    np.testing.assert_allclose(large[:, 0], small[:, 0], rtol=1e-12)


def test_sort_together__both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(15)
    scores = np.r_[rng.normal(size=500).round(1), 0.0, -0.0, -np.inf, -np.inf, 3e38, -3e38, 1e-45].astype(np.float32)
    pairs = rng.integers(2**32, size=len(scores), dtype=np.uint32)
    monkeypatch.setattr(bootstrap_levels, "_PIECE", 100)
    copies = scores.copy(), pairs.copy()
    values, packed = bootstrap_levels._sort_together(scores, pairs)
    slow = bootstrap_levels._sort_together(scores.astype(np.float64), pairs)
    np.testing.assert_array_equal(values, slow[0])
    np.testing.assert_array_equal(values, np.sort(scores))
    # Ties may be in any order, but each score keeps its pair.
    assert set(zip(values.tolist(), packed.tolist(), strict=True)) == set(
        zip(*map(np.ndarray.tolist, slow), strict=True)
    )
    np.testing.assert_array_equal(scores, copies[0])
    np.testing.assert_array_equal(pairs, copies[1])


def test_float32_equals_float64() -> None:
    scores, same, people = some_list(16, digits=1)
    values = scores["a"].astype(np.float32)
    values[::11] = -np.inf
    counts = draw(17, 50, 40)
    single = level_table(values, same, people, counts)
    np.testing.assert_array_equal(single[:, 1:], level_table(values.astype(float), same, people, counts)[:, 1:])
    np.testing.assert_array_equal(single[:, 1:], _whole_tables({"a": values}, same, people, counts, FPRS)["a"][:, 1:])


def test_many_subjects() -> None:
    # More than 65,536 subjects no longer fit two by two into 32 bits.
    scores, same, people = some_list(13)
    counts = np.zeros((20, 70_000), dtype=np.int32)
    counts[:, 69_960:] = draw(14, 20, 40)
    far = level_table(scores["a"], same, people + 69_960, counts)
    np.testing.assert_array_equal(far, level_table(scores["a"], same, people, counts[:, 69_960:]))


def test_levels_are_narrow_around_the_rates_and_never_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, same, people = some_list(12, 100, 50_000)
    monkeypatch.setattr(bootstrap_levels, "_LARGEST", 5000)
    packed = np.zeros(50_000, np.uint32)
    method = bootstrap_levels._sort(scores["a"][same], scores["a"][~same], people[0, same], packed)
    bounds = bootstrap_levels._bounds(method, (1e-2, 1e-1))
    assert (bounds[0], bounds[-1]) == (0, 50_000)
    sizes = np.diff(bounds)
    assert sizes.min() > 0
    assert sizes.max() <= 5000
    for fpr in (1e-2, 1e-1):
        place = np.searchsorted(bounds, 50_000 * (1 - fpr))
        assert sizes[place - 2 : place + 2].max() <= 0.006 * fpr * 50_000 + 1
    assert set(method.below) | set(method.upto) <= set(bounds)


def test_subject_bootstrap__both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, same, people = some_list(7)
    results = []
    for limit in (1 << 14, 0):
        monkeypatch.setattr(bootstrap, "_WHOLE", limit)
        rng = np.random.default_rng(8)
        results.append(subject_bootstrap(scores, same, *(people * 7 + 3), rng=rng, fprs=FPRS, replicates=200))
    whole, levels = results
    assert (whole.subjects, whole.replicates) == (levels.subjects, levels.replicates) == (40, 200)
    for mine, other in ((whole.methods, levels.methods), (whole.differences, levels.differences)):
        assert set(mine) == set(other)
        for key in mine:
            assert mine[key].tpr_at_fpr == other[key].tpr_at_fpr  # type: ignore[index]
            area, near = mine[key].auc, other[key].auc  # type: ignore[index]
            assert area.value == near.value
            assert near[1:] == pytest.approx(area[1:], abs=0.03 * (area.high - area.low))


def test_long_list() -> None:
    sizes = ijbc_sizes(0.01)
    pairs = make_pairs(sizes)
    scores = make_method_scores(sizes, pairs)
    subject = own_subjects(np.concatenate([np.arange(sizes.gallery), probe_subjects(sizes)]))
    result = subject_bootstrap(
        scores,
        pairs.same,
        subject[pairs.gallery],
        subject[pairs.probe + sizes.gallery],
        rng=np.random.default_rng(0),
        fprs=(1e-4, 1e-2),
        replicates=200,
    )
    assert result.subjects == sizes.gallery + sizes.unknown
    assert result.differences["completed", "masked"].auc.low > 0
    clean = result.methods["clean"].tpr_at_fpr[0.01]
    assert clean.low < clean.value < clean.high


def test_unknown_subjects() -> None:
    assert own_subjects(np.array([2, -1, 5, -1, 0], np.int32)).tolist() == [2, 6, 5, 7, 0]
    assert own_subjects([-1, -1]).tolist() == [0, 1]
    assert own_subjects(np.zeros(0, int)).tolist() == []
    for bad in ([0, -2], [0.0, 1.0]):
        with pytest.raises(InputError, match="subject: expected integer ids"):
            own_subjects(bad)
    with pytest.raises(InputError, match=r"second: pair 1 has the subject -1; .*own_subjects"):
        subject_bootstrap({"a": [0.9, 0.1]}, [True, False], [0, 1], [0, -1], rng=np.random.default_rng(0))


def test_numbering_of_any_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, same, people = some_list(9, 20, 60, 10)
    results = []
    for scale, offset in ((1, 0), (3, 5), (10**9, 7)):
        ids = people.astype(np.int64) * scale + offset
        results.append(subject_bootstrap(scores, same, *ids, rng=np.random.default_rng(1), replicates=50))
    assert results[0] == results[1] == results[2]
