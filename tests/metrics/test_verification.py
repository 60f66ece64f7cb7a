"""Verification metrics against scikit-learn, slow twins and hand-computed cases."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from maskfix.base import InputError
from maskfix.metrics import auc, eer, fmr_fnmr, operating_points, roc_curve, split_scores, tpr_at_fpr
from maskfix.metrics.verification import allowed_accepts
from tests.reference.verification import slow_auc, slow_eer, slow_rates, slow_tpr_at_fpr

LOW = -1e9
"""Stands for -inf where scikit-learn is asked, which takes finite scores only."""

score = st.one_of(st.integers(-4, 4).map(lambda n: n / 4), st.just(-math.inf))
scores = st.lists(score, min_size=1, max_size=25)


def draw(seed: int, genuine: int, impostor: int, ties: bool, failures: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    g, i = rng.normal(1.2, 1, genuine), rng.normal(0, 1, impostor)
    if ties:
        g, i = g.round(1), i.round(1)
    if failures:
        g[::7], i[::11] = -np.inf, -np.inf
    return g, i


def labelled(genuine: np.ndarray, impostor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values = np.concatenate([genuine, impostor])
    return np.r_[np.ones(len(genuine)), np.zeros(len(impostor))], np.where(np.isneginf(values), LOW, values)


def insightface_nearest(genuine: np.ndarray, impostor: np.ndarray, fpr: float) -> float:
    """The rule of insightface's IJB scripts, on scikit-learn's curve with its defaults."""
    fprs, tprs, _ = reference.roc_curve(*labelled(genuine, impostor))
    fprs, tprs = np.flipud(fprs), np.flipud(tprs)
    _, index = min(zip(abs(fprs - fpr), range(len(fprs)), strict=True))
    return float(tprs[index])


CASES = [(seed, ties, failures) for seed in range(3) for ties in (False, True) for failures in (False, True)]


@pytest.mark.parametrize(("seed", "ties", "failures"), CASES)
class TestAgainstSklearn:
    def test_auc(self, seed: int, ties: bool, failures: bool) -> None:
        genuine, impostor = draw(seed, 301, 502, ties, failures)
        assert auc(genuine, impostor) == pytest.approx(reference.roc_auc_score(*labelled(genuine, impostor)), abs=1e-12)

    def test_roc_curve(self, seed: int, ties: bool, failures: bool) -> None:
        genuine, impostor = draw(seed, 301, 502, ties, failures)
        curve = roc_curve(genuine, impostor)
        fpr, tpr, _ = reference.roc_curve(*labelled(genuine, impostor), drop_intermediate=False)
        np.testing.assert_array_equal(curve.fpr, fpr)
        np.testing.assert_array_equal(curve.tpr, tpr)
        assert reference.auc(curve.fpr, curve.tpr) == pytest.approx(auc(genuine, impostor), abs=1e-12)

    def test_counts_at_thresholds(self, seed: int, ties: bool, failures: bool) -> None:
        genuine, impostor = draw(seed, 40, 60, ties, failures)
        curve = roc_curve(genuine, impostor)
        for fpr, tpr, threshold in zip(curve.fpr[:-1], curve.tpr[:-1], curve.thresholds[:-1], strict=True):
            labels, values = labelled(genuine, impostor)
            cut = LOW if threshold == -math.inf else threshold
            tn, fp, fn, tp = reference.confusion_matrix(labels, values > cut, labels=[0, 1]).ravel()
            assert (fpr, tpr) == (fp / (tn + fp), tp / (tp + fn))
            assert fmr_fnmr(genuine, impostor, threshold) == (fp / (tn + fp), fn / (tp + fn))

    @pytest.mark.parametrize("fpr", [0.001, 0.01, 0.05, 0.3, 1.0])
    def test_nearest(self, seed: int, ties: bool, failures: bool, fpr: float) -> None:
        genuine, impostor = draw(seed, 301, 502, ties, failures)
        assert tpr_at_fpr(genuine, impostor, fpr).nearest == insightface_nearest(genuine, impostor, fpr)


class TestAgainstTwins:
    @given(scores, scores)
    @settings(max_examples=150, deadline=None)
    def test_auc_and_eer(self, genuine: list[float], impostor: list[float]) -> None:
        assert auc(genuine, impostor) == pytest.approx(slow_auc(genuine, impostor), abs=1e-15)
        assert eer(genuine, impostor) == pytest.approx(slow_eer(genuine, impostor), abs=1e-15)

    @given(scores, scores, st.integers(1, 20))
    @settings(max_examples=150, deadline=None)
    def test_tpr_at_fpr(self, genuine: list[float], impostor: list[float], twentieths: int) -> None:
        point = tpr_at_fpr(genuine, impostor, twentieths / 20)
        tpr, fpr = slow_tpr_at_fpr(genuine, impostor, Fraction(twentieths, 20))
        assert (point.tpr, point.fpr) == (tpr, fpr)
        assert slow_rates(genuine, impostor, point.threshold) == (point.fpr, point.tpr)
        assert point.accepted == round(point.fpr * len(impostor))
        assert point.resolvable == (twentieths * len(impostor) >= 20)

    @given(scores, scores)
    @settings(max_examples=100, deadline=None)
    def test_nearest(self, genuine: list[float], impostor: list[float]) -> None:
        for fpr in (0.04, 0.25, 0.5):
            expected = insightface_nearest(np.array(genuine), np.array(impostor), fpr)
            assert tpr_at_fpr(genuine, impostor, fpr).nearest == expected

    @given(scores, scores)
    @settings(max_examples=100, deadline=None)
    def test_invariants(self, genuine: list[float], impostor: list[float]) -> None:
        # Swapping the classes mirrors the AUC; a rising map of the scores changes nothing; nor does the order.
        assert auc(genuine, impostor) == pytest.approx(1 - auc(impostor, genuine), abs=1e-15)
        mapped = [[math.exp(s) if s > -math.inf else s for s in side] for side in (genuine, impostor)]
        assert auc(*mapped) == auc(genuine, impostor)
        assert eer(*mapped) == eer(genuine, impostor)
        assert eer(genuine[::-1], impostor[::-1]) == eer(genuine, impostor)
        forward = operating_points(genuine, impostor, [0.1, 0.5])
        assert operating_points(genuine[::-1], impostor[::-1], [0.1, 0.5]) == forward


class TestTprAtFpr:
    def test_hand_computed(self) -> None:
        genuine, impostor = [0.9, 0.8, 0.55, 0.5, 0.1], [0.85, 0.6, 0.5, 0.2, 0.15, 0.1, 0.05, 0.0, -0.1, -0.2]
        point = tpr_at_fpr(genuine, impostor, 0.2)
        # k = 2, so the threshold is the third impostor score, and the genuine score equal to it is rejected.
        assert point[:5] == (0.6, 0.2, 0.5, 2, True)

    def test_ties_never_pass_the_rate(self) -> None:
        # Two may be accepted, but the second and third are equal: only one is.
        point = tpr_at_fpr([0.95, 0.6, 0.5], [0.9, 0.5, 0.5, 0.1], 0.5)
        assert point[:5] == (pytest.approx(2 / 3), 0.25, 0.5, 1, True)

    def test_not_resolvable(self) -> None:
        point = tpr_at_fpr([0.9, 0.7, 0.7], [0.7, 0.1], 0.1)
        assert point[:5] == (pytest.approx(1 / 3), 0.0, 0.7, 0, False)

    @pytest.mark.parametrize(("fpr", "accepted"), [(0.001, 3), (0.01, 30), (0.0003, 0), (1 / 3000, 1)])
    def test_lfw_counts(self, fpr: float, accepted: int) -> None:
        point = tpr_at_fpr(np.arange(3000) / 3000 + 0.5, np.arange(3000) / 3000, fpr)
        assert point.accepted == accepted
        assert point.fpr == accepted / 3000

    def test_all_accepted_but_failed(self) -> None:
        point = tpr_at_fpr([0.2, -np.inf], [0.9, 0.1, -np.inf], 1.0)
        assert point[:5] == (0.5, pytest.approx(2 / 3), -math.inf, 2, True)

    def test_failed_probes_count(self) -> None:
        genuine, impostor = np.array([0.9, 0.8, 0.7, 0.6]), np.linspace(0, 0.5, 100)
        failed = np.where([True, False, False, False], -np.inf, genuine)
        assert tpr_at_fpr(genuine, impostor, 0.01).tpr == 1.0
        assert tpr_at_fpr(failed, impostor, 0.01).tpr == 0.75
        assert auc(failed, impostor) == 0.75

    def test_all_failed(self) -> None:
        point = tpr_at_fpr([-np.inf] * 2, [-np.inf] * 3, 0.5)
        assert point[:5] == (0.0, 0.0, -math.inf, 0, True)
        assert auc([-np.inf] * 2, [-np.inf] * 3) == 0.5

    def test_reversed_scores(self) -> None:
        assert auc([0.0, 0.1], [0.8, 0.9]) == 0.0
        assert eer([0.0, 0.1], [0.8, 0.9]) == 1.0
        assert tpr_at_fpr([0.0, 0.1], [0.8, 0.9], 0.5).tpr == 0.0

    def test_nearest_tie_takes_the_larger_fpr(self) -> None:
        # The curve has FPR 0, 0.5 and 1; 0.25 is as far from 0 (TPR 0.5) as from 0.5 (TPR 1).
        point = tpr_at_fpr([0.9, 0.6], [0.7, 0.1], 0.25)
        assert point.nearest == 1.0
        assert point.tpr == 0.5

    def test_float32_equals_float64(self) -> None:
        genuine, impostor = (part.astype(np.float32) for part in draw(5, 300, 400, True, True))
        wide = genuine.astype(np.float64), impostor.astype(np.float64)
        assert operating_points(genuine, impostor, [0.01, 0.1]) == operating_points(*wide, [0.01, 0.1])
        assert auc(genuine, wide[1]) == auc(*wide)

    def test_input_is_left_alone(self) -> None:
        genuine, impostor = draw(0, 30, 40, False, False)
        copies = genuine.copy(), impostor.copy()
        auc(genuine, impostor), eer(genuine, impostor), tpr_at_fpr(genuine, impostor, 0.1)
        np.testing.assert_array_equal(genuine, copies[0])
        np.testing.assert_array_equal(impostor, copies[1])


def test_allowed_accepts__guards_the_product() -> None:
    assert 0.29 * 100 < 29
    for count in (100, 1000, 3000, 15_638_932):
        for fpr in ("0.29", "0.001", "0.01", "0.57", "0.000001", "1"):
            assert allowed_accepts(float(fpr), count) == math.floor(Fraction(fpr) * count)


def test_fmr_fnmr__threshold_is_not_rounded_to_float32() -> None:
    scores = np.array([0.1], dtype=np.float32)  # 0.1 in float32 lies above 0.1 in float64.
    assert fmr_fnmr(scores, scores, 0.1) == (1.0, 0.0)
    assert fmr_fnmr(scores, scores, float(scores[0])) == (0.0, 1.0)


def test_eer__known_gaussians() -> None:
    # Equal variances: the EER is the tail beyond half the distance, Phi(-d'/2) = 0.1587 for d' = 2.
    rng = np.random.default_rng(0)
    assert eer(rng.normal(2, 1, 40_000), rng.normal(0, 1, 40_000)) == pytest.approx(0.1587, abs=0.004)


def test_split_scores__keeps_order() -> None:
    genuine, impostor = split_scores(np.array([3, 1, 2, 0]), np.array([True, False, True, False]))
    assert genuine.tolist() == [3, 2]
    assert impostor.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("genuine", "impostor", "message"),
    [
        ([np.nan], [0.1], "genuine: score 0 is nan"),
        ([0.1], [0.2, np.inf], "impostor: score 1 is inf"),
        ([], [0.1], "genuine: expected at least one"),
        ([0.1], [], "impostor: expected at least one"),
        ([[0.1]], [0.1], "genuine: expected shape"),
        (["a"], [0.1], "genuine: expected numbers"),
    ],
)
@pytest.mark.parametrize("metric", [auc, eer, roc_curve])
def test_bad_scores(metric: object, genuine: list[float], impostor: list[float], message: str) -> None:
    assert callable(metric)
    with pytest.raises(InputError, match=message):
        metric(genuine, impostor)


@pytest.mark.parametrize("fpr", [0.0, -0.1, 1.5, math.nan])
def test_bad_rate(fpr: float) -> None:
    with pytest.raises(InputError, match="fraction in"):
        tpr_at_fpr([0.1], [0.2], fpr)


def test_bad_threshold_and_flags() -> None:
    with pytest.raises(InputError, match="threshold"):
        fmr_fnmr([0.1], [0.2], math.nan)
    with pytest.raises(InputError, match="bool"):
        split_scores([0.1, 0.2], [1, 0])
    with pytest.raises(InputError, match="both classes"):
        split_scores([0.1, 0.2], [True, True])
    with pytest.raises(InputError, match="same"):
        split_scores([0.1, 0.2], [True])
