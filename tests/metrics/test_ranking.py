"""Figures from one sort: against the exact curve, scikit-learn and the single functions; time and memory at size."""

from __future__ import annotations

import math
import time
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
            ranked.det_curve(0)
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


class TestDetCurve:
    @pytest.mark.parametrize("digits", [1, 9])
    @pytest.mark.parametrize("failures", [False, True])
    def test_exact_points_evenly_spread(self, digits: int, failures: bool) -> None:
        genuine, impostor = some_scores(4, 900, 40_000, digits)
        if failures:
            genuine[::30], impostor[::50] = -np.inf, -np.inf
        thinned = SortedScores.from_classes(genuine, impostor).det_curve(50)
        exact = roc_curve(genuine, impostor)
        known = set(zip(exact.fpr.tolist(), (1 - exact.tpr).round(12).tolist(), strict=True))
        assert set(zip(thinned.fmr.tolist(), thinned.fnmr.round(12).tolist(), strict=True)) <= known
        assert (np.diff(thinned.thresholds) < 0).all()
        assert (np.diff(thinned.fmr) >= 0).all()
        assert (np.diff(thinned.fnmr) <= 0).all()
        assert thinned.fmr[0] == 0
        assert thinned.fmr[-1] == np.isfinite(impostor).mean()
        assert len(thinned.fmr) < 50 * 8.5
        # At any rate of either kind, what the thinned curve reaches is what the exact one reaches a grid step below.
        step = 10 ** (1 / 50)
        for rate in np.geomspace(1e-4, 1, 300):
            if rate / step >= 1 / 40_000:
                best = thinned.fnmr[thinned.fmr <= rate * (1 + 1e-9)].min()
                assert best <= (1 - exact.tpr)[exact.fpr <= rate / step].min() + 1e-12
            if rate / step >= 1 / 900 and rate > thinned.fnmr[-1]:
                best = thinned.fmr[thinned.fnmr <= rate * (1 + 1e-9)].min()
                reached = (1 - exact.tpr) <= max(rate / step, thinned.fnmr[-1]) + 1e-12
                assert best <= exact.fpr[reached].min() + 1e-12

    def test_small_lists_keep_every_corner(self) -> None:
        genuine, impostor = [0.9, 0.6, 0.5, 0.1], [0.7, 0.5, 0.3, 0.2]
        curve = SortedScores.from_classes(genuine, impostor).det_curve()
        # Strictest first: above 0.7; above 0.6 also 0.7; above 0.5 also 0.6; above 0.3 also the tie at 0.5; and so on.
        assert curve.fmr.tolist() == [0, 0.25, 0.25, 0.5, 0.75, 1, 1]
        assert curve.fnmr.tolist() == [0.75, 0.75, 0.5, 0.25, 0.25, 0.25, 0]
        single = SortedScores.from_classes([0.9], [0.1]).det_curve()
        assert (single.fmr.tolist(), single.fnmr.tolist()) == ([0, 1], [0, 0])


def test_time_and_memory() -> None:
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
    start = time.process_time()
    ranked = SortedScores.from_pairs(values, same)
    assert (ranked.auc(), ranked.eer(), ranked.operating_points(FPRS)) == ours
    fast = time.process_time() - start
    start = time.process_time()
    reference.roc_curve(same, values)
    area = reference.roc_auc_score(same, values)
    assert time.process_time() - start > 8 * fast
    assert ours[0] == pytest.approx(area, abs=1e-12)
