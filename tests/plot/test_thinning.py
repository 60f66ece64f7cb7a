"""Thinned curves: points of the exact curve and no others, enough of them, at a cost that 15 million pairs can bear."""

from __future__ import annotations

import numpy as np
import pytest

from maskfix.base import InputError
from maskfix.metrics import roc_curve, tpr_at_fpr
from maskfix.plot.thinning import EXACT_PAIRS, POINTS_PER_DECADE, figure_curve, thin, thin_det, thinned_curve


def classes(seed: int, genuine: int, impostor: int, decimals: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    sides = rng.normal(size=genuine) + 2, rng.normal(size=impostor)
    one, other = (side.astype(np.float32) if decimals is None else side.round(decimals) for side in sides)
    return one, other


@pytest.mark.parametrize("decimals", [None, 3, 1])
@pytest.mark.parametrize(("genuine", "impostor"), [(1, 1), (5, 3), (900, 20_000), (30_000, 400)])
def test_thinned__every_point_is_one_of_the_exact_curve(genuine: int, impostor: int, decimals: int | None) -> None:
    sides = classes(0, genuine, impostor, decimals)
    exact, few = roc_curve(*sides), thinned_curve(*sides)
    known = {threshold: place for place, threshold in enumerate(exact.thresholds)}
    rows = [known[threshold] for threshold in few.thresholds]
    assert (np.diff(rows) > 0).all()
    np.testing.assert_array_equal(few.fpr, exact.fpr[rows])
    np.testing.assert_array_equal(few.tpr, exact.tpr[rows])
    assert (few.fpr[0], few.tpr[0], few.fpr[-1], few.tpr[-1]) == (0, 0, 1, 1)


@pytest.mark.parametrize("decimals", [None, 2])
def test_thinned__drawn_as_the_exact_curve(decimals: int | None) -> None:
    sides = classes(1, 3_000, 90_000, decimals)
    exact, few = roc_curve(*sides), thinned_curve(*sides, (0.01, 0.0123))
    for one, other in zip(thin(exact, 1 / 90_000), thin(few, 1 / 90_000), strict=True):
        np.testing.assert_array_equal(one, other)
    # The largest part of a decade has 200 points; both tails count.
    assert len(few.fpr) < POINTS_PER_DECADE * (np.log10(90_000) + np.log10(3_000)) + 10
    for fpr in (0.01, 0.0123):
        point = tpr_at_fpr(*sides, fpr)
        assert (point.fpr, point.tpr) in set(zip(few.fpr, few.tpr, strict=True))
    assert len(thinned_curve(*sides, points_per_decade=10).fpr) < len(few.fpr) / 5


def test_thinned__failed_pairs_are_accepted_at_no_threshold() -> None:
    genuine, impostor = np.array([0.9, 0.5, -np.inf]), np.array([0.4, -np.inf])
    for one, other in zip(thinned_curve(genuine, impostor), roc_curve(genuine, impostor), strict=True):
        np.testing.assert_array_equal(one, other)


def test_thin_det__both_tails() -> None:
    sides = classes(2, 20_000, 40_000)
    exact = roc_curve(*sides)
    fmr, fnmr = thin_det(thinned_curve(*sides), 1 / 40_000)
    assert fmr[0] == 1 / 40_000
    assert (fmr[-1], fnmr[-1]) == (1, 0)
    assert (np.diff(fmr) >= 0).all()
    assert (np.diff(fnmr) <= 0).all()
    # Every point is the exact curve's, those of the ROC figure among them, and so is each of the smallest FNMRs.
    places = np.searchsorted(exact.fpr, fmr * (1 + 1e-12), side="right") - 1
    known = set(zip(exact.fpr.tolist(), (1 - exact.tpr).tolist(), strict=True))
    drawn = set(zip(fmr.tolist(), fnmr.tolist(), strict=True))
    assert drawn <= known
    assert {(x, 1 - y) for x, y in zip(*(part.tolist() for part in thin(exact, 1 / 40_000)), strict=True)} <= drawn
    last = np.append(np.diff(fmr) > 0, True)
    assert (fnmr - (1 - exact.tpr[places]) < 0.012 * fnmr + 1e-12)[last].all()
    assert {1, 2, 3, 4, 5} <= set((fnmr * 20_000).round().astype(int).tolist())
    ticks = thin_det(exact, 1e-3)
    assert ticks[0][0] == 1e-3
    assert ticks[1][0] == 1 - exact.tpr[exact.fpr <= 1e-3 * (1 + 1e-12)].max()


def test_thin_det__perfect_and_useless() -> None:
    fmr, fnmr = thin_det(roc_curve([0.9, 0.8], [0.2, 0.1]), 0.5)
    assert fmr.tolist() == [0.5, 0.5, 1.0][-len(fmr) :]
    assert set(fnmr.tolist()) == {0.0}
    fmr, fnmr = thin_det(roc_curve([0.1], [0.9]), 1.0)
    assert fnmr[-1] == 0


def test_thin__keeps_rates_asked_for() -> None:
    curve = roc_curve(*classes(3, 500, 100_000))
    rate = 0.01237
    assert not np.isclose(thin(curve, 1e-5)[0], rate, rtol=1e-9).any()
    fpr, tpr = thin(curve, 1e-5, (rate, 1e-7))
    assert tpr[np.isclose(fpr, rate, rtol=1e-9)].tolist() == [curve.tpr[curve.fpr <= rate * (1 + 1e-12)].max()]
    assert fpr[0] == 1e-5


def test_figure_curve__exact_for_few_pairs() -> None:
    sides = classes(4, 100, EXACT_PAIRS - 100)
    assert len(figure_curve(*sides).fpr) == len(roc_curve(*sides).fpr)
    sides = classes(4, 101, EXACT_PAIRS - 100)
    assert len(figure_curve(*sides).fpr) < POINTS_PER_DECADE * 8


def test_thinning__bad_input() -> None:
    with pytest.raises(InputError, match="genuine: expected at least one"):
        thinned_curve([], [0.1])
    with pytest.raises(InputError, match="impostor: score 1 is nan"):
        thinned_curve([0.1], [0.1, np.nan])
    with pytest.raises(InputError, match="fpr: expected a fraction"):
        thinned_curve([0.1], [0.2], (0.0,))
    with pytest.raises(InputError, match="points_per_decade"):
        thinned_curve([0.1], [0.2], points_per_decade=0)
    with pytest.raises(InputError, match="floor"):
        thin_det(roc_curve([0.1], [0.2]), 1.5)
