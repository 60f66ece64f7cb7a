"""Figures from one sort: against the exact curve, scikit-learn and the single functions; memory at size."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from maskfix.base import InputError
from maskfix.metrics import SortedScores, auc, eer, fmr_fnmr, operating_points, ranking, roc_curve, split_scores
from maskfix.metrics.ranking import round_down
from tests.reference.verification import slow_rates

FPRS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
LOW = -1e9
"""Stands for -inf where scikit-learn is asked, which takes finite scores only."""

score = st.one_of(st.integers(-4, 4).map(lambda n: n / 4), st.just(-math.inf))
scores = st.lists(score, min_size=1, max_size=30)


def some_scores(seed: int, genuine: int, impostor: int, digits: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(2, 1, genuine).round(digits), rng.normal(0, 1, impostor).round(digits)


def insightface_nearest(genuine: np.ndarray, impostor: np.ndarray, fpr: float) -> float:
    """The rule of insightface's IJB scripts, on scikit-learn's curve with its defaults."""
    values = np.concatenate([genuine, impostor])
    labels = np.r_[np.ones(len(genuine)), np.zeros(len(impostor))]
    fprs, tprs, _ = reference.roc_curve(labels, np.where(np.isneginf(values), LOW, values))
    fprs, tprs = np.flipud(fprs), np.flipud(tprs)
    return float(tprs[min(zip(abs(fprs - fpr), range(len(fprs)), strict=True))[1]])


class TestNearest:
    """The search for the nearest corner must not depend on how much of the curve it looks at together."""

    @given(scores, scores, st.integers(1, 4))
    @settings(max_examples=200, deadline=None)
    def test_small_stretches(self, genuine: list[float], impostor: list[float], block: int) -> None:
        patch = pytest.MonkeyPatch()
        patch.setattr(ranking, "_BLOCK", block)
        patch.setattr(ranking, "_LARGEST_BLOCK", 4 * block)
        try:
            fprs = [0.04, 0.2, 0.5, 0.9, 1.0]
            points = SortedScores.from_classes(genuine, impostor).operating_points(fprs)
        finally:
            patch.undo()
        expected = [insightface_nearest(np.array(genuine), np.array(impostor), fpr) for fpr in fprs]
        assert [point.nearest for point in points] == expected

    @pytest.mark.parametrize("digits", [1, 2, 3, 9])
    def test_long_straight_lines(self, digits: int) -> None:
        # Few genuine scores: between them the curve is a straight line over thousands of impostors.
        genuine, impostor = some_scores(0, 7, 20_000, digits)
        for point, fpr in zip(SortedScores.from_classes(genuine, impostor).operating_points(FPRS), FPRS, strict=True):
            assert point.nearest == insightface_nearest(genuine, impostor, fpr)

    def test_classes_apart(self) -> None:
        # No corner at all between the first point and the last.
        genuine, impostor = np.arange(5.0) + 1e6, np.arange(10_000.0)
        ranked = SortedScores.from_classes(genuine, impostor)
        for point, fpr in zip(ranked.operating_points(FPRS), FPRS, strict=True):
            assert point.nearest == insightface_nearest(genuine, impostor, fpr)


class TestSortedScores:
    def test_from_pairs_equals_single_functions(self) -> None:
        genuine, impostor = some_scores(1, 300, 700, 2)
        genuine[::20] = -np.inf
        order = np.random.default_rng(0).permutation(1000)
        values, same = np.r_[genuine, impostor][order].astype(np.float32), (np.arange(1000) < 300)[order]
        copy = values.copy()
        ranked = SortedScores.from_pairs(values, same)
        np.testing.assert_array_equal(values, copy)
        classes = split_scores(values, same)
        assert (np.diff(ranked.genuine[15:]) >= 0).all()
        assert ranked.impostor.dtype == np.float32
        assert ranked.auc() == auc(*classes)
        assert ranked.eer() == eer(*classes)
        assert ranked.operating_points(FPRS) == operating_points(*classes, FPRS)

    def test_threshold_of_float32_scores(self) -> None:
        genuine, impostor = (part.astype(np.float32) for part in some_scores(2, 50, 400))
        point = SortedScores.from_classes(genuine, impostor).operating_points([0.05])[0]
        assert isinstance(point.threshold, float)
        assert np.count_nonzero(impostor > np.float32(point.threshold)) == point.accepted == 20

    def test_bad_input(self) -> None:
        with pytest.raises(InputError, match="impostor: score 1 is nan"):
            SortedScores.from_classes([0.1], [0.1, np.nan])
        with pytest.raises(InputError, match="both classes"):
            SortedScores.from_pairs([0.1], [True])
        ranked = SortedScores.from_classes([0.1], [0.2])
        with pytest.raises(InputError, match="fraction in"):
            ranked.operating_points([0.0])
        with pytest.raises(InputError, match="points_per_decade"):
            ranked.thinned_curve(points_per_decade=0)
        with pytest.raises(InputError, match="got nan"):
            ranked.rates_at([0.1, np.nan])
        with pytest.raises(InputError, match="thresholds: expected shape"):
            ranked.rates_at(0.1)


class TestRatesAt:
    @given(scores, scores, st.lists(st.one_of(score, st.just(math.inf)), max_size=8))
    @settings(max_examples=100, deadline=None)
    def test_equals_slow_twin(self, genuine: list[float], impostor: list[float], cuts: list[float]) -> None:
        rates = SortedScores.from_classes(genuine, impostor).rates_at(np.array(cuts))
        expected = [slow_rates(genuine, impostor, cut) for cut in cuts]
        assert rates.fmr.tolist() == [fpr for fpr, _ in expected]
        assert rates.fnmr.tolist() == pytest.approx([1 - tpr for _, tpr in expected])
        assert rates.thresholds.tolist() == cuts

    def test_float64_thresholds_of_float32_scores(self) -> None:
        genuine, impostor = (part.astype(np.float32) for part in some_scores(3, 80, 200, 1))
        cuts = np.r_[np.arange(-3, 5, 0.1), 0.1, 1e300, -1e300, np.inf, -np.inf, np.float32(0.1)]
        rates = SortedScores.from_classes(genuine, impostor).rates_at(cuts)
        wide = genuine.astype(np.float64), impostor.astype(np.float64)
        for cut, fmr, fnmr in zip(cuts, rates.fmr, rates.fnmr, strict=True):
            assert (fmr, fnmr) == fmr_fnmr(*wide, cut) == fmr_fnmr(genuine, impostor, cut)

    def test_round_down(self) -> None:
        rng = np.random.default_rng(0)
        values = np.r_[rng.normal(size=1000), 0.0, 1e300, -1e300, np.inf, -np.inf]
        rounded = round_down(values, np.dtype(np.float32))
        assert (rounded.astype(np.float64) <= values).all()
        below = np.abs(rounded) < 1e30
        upward = np.nextafter(rounded[below], np.float32(np.inf))
        assert (upward.astype(np.float64) > values[below]).all()
        assert rounded[-4:].tolist() == [np.finfo(np.float32).max, -np.inf, np.inf, -np.inf]


class TestThinnedCurve:
    @pytest.mark.parametrize("digits", [1, 9])
    @pytest.mark.parametrize("failures", [False, True])
    def test_as_good_as_the_exact_curve_at_every_rate(self, digits: int, failures: bool) -> None:
        genuine, impostor = some_scores(4, 900, 40_000, digits)
        if failures:
            genuine[::30], impostor[::50] = -np.inf, -np.inf
        thinned = SortedScores.from_classes(genuine, impostor).thinned_curve(points_per_decade=50)
        exact = roc_curve(genuine, impostor)
        assert set(zip(*(part.tolist() for part in thinned), strict=True)) <= set(
            zip(*(part.tolist() for part in exact), strict=True)
        )
        # Failed pairs have a point of their own before the last one, as on the exact curve.
        assert (thinned.thresholds[1:-1] < thinned.thresholds[:-2]).all()
        assert thinned.thresholds[-1] == -np.inf
        assert len(thinned.fpr) < 50 * 8.5
        # At any rate of either kind, what the thinned curve reaches is what the exact one reaches a grid step below.
        step = 10 ** (1 / 50)
        for rate in np.geomspace(1e-4, 1, 300):
            if rate / step >= 1 / 40_000:
                best = thinned.tpr[thinned.fpr <= rate * (1 + 1e-9)].max()
                assert best >= exact.tpr[exact.fpr <= rate / step].max()
            if rate / step >= 1 / 900:
                best = thinned.fpr[1 - thinned.tpr <= rate * (1 + 1e-9)].min()
                assert best <= exact.fpr[1 - exact.tpr <= rate / step].min()

    def test_small_lists_keep_every_corner(self) -> None:
        genuine, impostor = [0.9, 0.6, 0.5, 0.1], [0.7, 0.5, 0.3, 0.2]
        curve = SortedScores.from_classes(genuine, impostor).thinned_curve()
        # Strictest first: above 0.9 none; above 0.7; above 0.6 also 0.7; above 0.5 also 0.6; above 0.3 also the tie at
        # 0.5; above 0.2; above 0.1; all.
        assert curve.thresholds.tolist() == [0.9, 0.7, 0.6, 0.5, 0.3, 0.2, 0.1, -np.inf]
        assert curve.fpr.tolist() == [0, 0, 0.25, 0.25, 0.5, 0.75, 1, 1]
        assert curve.tpr.tolist() == [0, 0.25, 0.25, 0.5, 0.75, 0.75, 0.75, 1]

    def test_holds_the_points_asked_for(self) -> None:
        ranked = SortedScores.from_classes(*some_scores(6, 500, 30_000))
        rates = (0.0123, 0.2, 1.0)
        curve = ranked.thinned_curve(rates, points_per_decade=1)
        for point in ranked.operating_points(rates):
            if point.threshold > -np.inf:
                assert (point.fpr, point.tpr, point.threshold) in set(zip(*curve, strict=True))
        assert 0.0123 not in ranked.thinned_curve(points_per_decade=1).fpr


def test_memory_at_size() -> None:
    genuine, impostor = some_scores(5, 1000, 800_000)
    values = np.r_[genuine, impostor].astype(np.float32)
    same = np.arange(len(values)) < 1000
    tracemalloc.start()
    ranked = SortedScores.from_pairs(values, same)
    ours = ranked.auc(), ranked.eer(), ranked.operating_points(FPRS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # One copy of the scores and some masks; a search among float32 scores by a float64 key would double that.
    assert peak < 2 * values.nbytes
    assert ours[0] == pytest.approx(reference.roc_auc_score(same, values), abs=1e-12)
