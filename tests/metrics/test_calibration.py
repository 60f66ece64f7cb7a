"""Cllr and min Cllr against slow twins and known cases; calibration on folds against scikit-learn and known ratios."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskfix.base import InputError
from maskfix.metrics import calibrate, calibration, cllr, min_cllr
from tests.reference.calibration import slow_cllr, slow_min_cllr

score = st.one_of(st.integers(-4, 4).map(lambda n: n / 4), st.just(-math.inf))
scores = st.lists(score, min_size=1, max_size=12)
ratios = st.lists(st.floats(-20, 20), min_size=1, max_size=12)


def gaussians(seed: int, count: int, distance: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores whose log-likelihood ratio is distance * (s - distance / 2), flags and folds, mixed."""
    rng = np.random.default_rng(seed)
    same = rng.permutation(np.arange(count) % 3 == 0)
    return rng.normal(size=count) + distance * same, same, np.arange(count) % 5


class TestCllr:
    @given(ratios, ratios)
    @settings(max_examples=100, deadline=None)
    def test_equals_slow_twin(self, genuine: list[float], impostor: list[float]) -> None:
        assert cllr(genuine, impostor) == pytest.approx(slow_cllr(genuine, impostor))

    def test_known_values(self) -> None:
        assert cllr([0, 0, 0], [0]) == pytest.approx(1)
        assert cllr([math.log(3)], [-math.log(3)]) == pytest.approx(math.log2(4 / 3))
        assert cllr([1000], [-1000]) == pytest.approx(0)
        assert cllr([-1000], [1000]) == pytest.approx(1000 / math.log(2))
        assert cllr([-np.inf], [0]) == np.inf
        assert cllr([np.inf], [-np.inf]) == 0

    def test_classes_count_alike(self) -> None:
        assert cllr([1.0] * 7, [-2.0]) == pytest.approx(cllr([1.0], [-2.0] * 9))

    def test_bad_input(self) -> None:
        for bad in ([], [np.nan]):
            with pytest.raises(InputError, match="genuine: expected log-likelihood ratios"):
                cllr(bad, [0.0])
            with pytest.raises(InputError, match="impostor: expected log-likelihood ratios"):
                cllr([0.0], bad)


class TestMinCllr:
    @given(scores, scores)
    @settings(max_examples=150, deadline=None)
    def test_equals_slow_twin(self, genuine: list[float], impostor: list[float]) -> None:
        assert min_cllr(genuine, impostor) == pytest.approx(slow_min_cllr(genuine, impostor), abs=1e-12)

    def test_known_values(self) -> None:
        assert min_cllr([0.9, 0.8], [0.2, 0.1, 0.1]) == 0
        assert min_cllr([0.1, 0.2], [0.8, 0.9]) == 1
        assert min_cllr([0.5, 0.5], [0.5]) == 1
        assert min_cllr([-np.inf], [-np.inf]) == 1
        # 0.5 is shared by half of either class: ratio 1 there, certainty elsewhere.
        assert min_cllr([0.9, 0.5], [0.5, 0.1]) == pytest.approx(0.5)
        # Failed pairs are half of one class and a quarter of the other: 2/3 and 1/3 of what failed.
        found = min_cllr([0.9, -np.inf], [0.5, 0.1, 0.2, -np.inf])
        assert found == pytest.approx((0.5 * math.log2(3 / 2) + 0.25 * math.log2(3)) / 2)

    def test_never_above_one(self) -> None:
        """Reports hold it as a fraction; these thirteen steps of weight 1/13 add up to more."""
        assert min_cllr(-np.arange(13) - 1.0, [0.0]) == 1

    @pytest.mark.parametrize("rates", [(0.05, 0.05), (0.1, 0.0), (0.5, 0.1), (0.1, 0.5)])
    def test_no_more_than_what_calibration_costs(self, rates: tuple[float, float]) -> None:
        values, same, folds = gaussians(8, 6000)
        failed = np.random.default_rng(0).random(len(values)) < np.where(same, *rates)
        ratios = calibrate(np.where(failed, -np.inf, values), same, folds)
        values = np.where(failed, -np.inf, values)
        least = min_cllr(values[same], values[~same])
        assert least < cllr(ratios[same], ratios[~same]) < least + 0.02

    def test_least_of_rising_maps(self) -> None:
        values, same, _ = gaussians(0, 3000)
        genuine, impostor = values[same], values[~same]
        least = min_cllr(genuine, impostor)
        assert least < cllr(2 * genuine - 2, 2 * impostor - 2) < least + 0.02
        for slope, offset in ((1, -1), (3, -3), (2, -1)):
            assert least < cllr(slope * genuine + offset, slope * impostor + offset)
        assert min_cllr(np.exp(genuine), np.exp(impostor)) == pytest.approx(least, abs=1e-12)
        assert min_cllr(genuine.round(1), impostor.round(1)) > least

    def test_long_lists(self) -> None:
        rng = np.random.default_rng(1)
        genuine, impostor = rng.normal(2, 1, 2000).astype(np.float32), rng.normal(size=1_000_000).astype(np.float32)
        assert 0.4 < min_cllr(genuine, impostor) < 0.6

    def test_bad_input(self) -> None:
        with pytest.raises(InputError, match="genuine: score 0 is nan"):
            min_cllr([np.nan], [0.1])


class TestCalibrate:
    def test_recovers_known_ratios(self) -> None:
        values, same, folds = gaussians(2, 20_000)
        found = calibrate(values, same, folds)
        np.testing.assert_allclose(found, 2 * (values - 1), atol=0.35)
        least = min_cllr(values[same], values[~same])
        assert least < cllr(found[same], found[~same]) < least + 0.01

    def test_whole_pairs_have_not_failed(self) -> None:
        values, same, folds = gaussians(9, 20_000)
        rng = np.random.default_rng(1)
        values = np.where(rng.random(len(values)) < np.where(same, 0.5, 0.1), -np.inf, values)
        found = calibrate(values, same, folds)
        whole = np.isfinite(values)
        expected = 2 * (values[whole] - 1) + math.log(0.5 / 0.9)
        np.testing.assert_allclose(found[whole], expected, atol=0.35)
        assert abs(np.mean(found[whole] - expected)) < 0.1
        np.testing.assert_allclose(found[~whole], math.log(0.5 / 0.1), atol=0.1)

    def test_fits_on_the_other_folds(self) -> None:
        values, same, folds = gaussians(3, 1000)
        base = calibrate(values, same, folds)
        shifted = np.where(folds == 2, values + 5, values)
        moved = calibrate(shifted, same, folds)
        # The line of fold 2 is that of the others and stays; theirs have seen the shift.
        slope = (base[folds == 2][0] - base[folds == 2][1]) / (values[folds == 2][0] - values[folds == 2][1])
        np.testing.assert_allclose(moved[folds == 2] - base[folds == 2], 5 * slope)
        assert np.median(abs(moved[folds != 2] - base[folds != 2])) > 0.1

    def test_equals_sklearn(self) -> None:
        from sklearn.linear_model import LogisticRegression

        values, same, folds = gaussians(4, 2000)
        found = calibrate(values.astype(np.float32), same, folds)
        for fold in range(5):
            own = folds == fold
            model = LogisticRegression(class_weight="balanced", C=1e6, tol=1e-10, max_iter=1000)
            model.fit(values[~own, None], same[~own])
            np.testing.assert_allclose(found[own], model.decision_function(values[own, None]), atol=2e-3)

    def test_bins_change_little(self, monkeypatch: pytest.MonkeyPatch) -> None:
        values, same, folds = gaussians(5, 5000)
        values[::50] = -np.inf
        folds = folds * 3 - 7
        exact = calibrate(values, same, folds)
        monkeypatch.setattr(calibration, "_EXACT_PAIRS", 10)
        monkeypatch.setattr(calibration, "_PIECE", 777)
        np.testing.assert_allclose(calibrate(values, same, folds), exact, atol=1e-3)

    def test_classes_apart(self) -> None:
        values, same, folds = gaussians(6, 500)
        found = calibrate(values + 100 * same, same, folds)
        assert np.isfinite(found).all()
        assert cllr(found[same], found[~same]) < 0.01

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("limit", [10, 1000])
    def test_one_score_only(self, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(calibration, "_EXACT_PAIRS", limit)
        _, same, folds = gaussians(7, 100)
        np.testing.assert_allclose(calibrate(np.full(100, 0.3), same, folds), 0, atol=1e-9)
        np.testing.assert_allclose(
            calibrate(np.zeros(8), [True, False, False, False] * 2, [0] * 4 + [1] * 4), 0, atol=1e-9
        )

    @pytest.mark.parametrize("limit", [5, 1000])
    def test_failed_pairs_by_hand(self, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(calibration, "_EXACT_PAIRS", limit)
        fold = [0.9, 0.8, -np.inf, 0.3, 0.2, 0.1, 0.15]
        same = np.tile([True, True, True, False, False, False, False], 2)
        found = calibrate(fold * 2, same, np.repeat([0, 1], 7))
        # In the other fold 1 of 3 genuine and 0 of 4 impostor pairs failed.
        assert found[[2, 9]] == pytest.approx(math.log((1.5 / 4) / (0.5 / 5)))
        assert np.isfinite(found).all()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"folds": [0, 0, 0, 0]}, "at least 2 folds, got 1"),
            ({"folds": [0, 0, 1]}, "folds: expected shape"),
            ({"same": [True, False, False, False]}, "the folds other than 0 have no whole pair of one class"),
            ({"scores": [0.9, 0.1, -np.inf, 0.2]}, "the folds other than 0 have no whole pair of one class"),
            ({"scores": [0.9, 0.1, np.nan, 0.2]}, "score 2 is nan"),
            ({"same": [1, 0, 1, 0]}, "expected bool flags"),
        ],
    )
    @pytest.mark.parametrize("limit", [1, 1000])
    def test_bad_input(self, change: dict[str, Any], message: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(calibration, "_EXACT_PAIRS", limit)
        arguments = {"scores": [0.9, 0.1, 0.8, 0.2], "same": [True, False, True, False], "folds": [0, 0, 1, 1]}
        with pytest.raises(InputError, match=message):
            calibrate(**(arguments | change))
