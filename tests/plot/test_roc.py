"""The ROC figure: numbers of the curves, thinning, marks, labels."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from maskfix.base import InputError
from maskfix.metrics import RocCurve, auc, roc_curve, tpr_at_fpr
from maskfix.plot import RocDisplay
from maskfix.plot.style import METHOD_COLOURS
from maskfix.plot.thinning import POINTS_PER_DECADE, thin


def method(seed: int, distance: float, pairs: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    same = np.arange(2 * pairs) < pairs
    return rng.normal(size=2 * pairs) + distance * same, same


@pytest.fixture
def methods() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {"clean": method(0, 5), "masked": method(1, 2.5), "completed": method(2, 3.5)}


def test_from_scores__numbers(methods: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    display = RocDisplay.from_scores(methods, fprs=[0.01])
    for name, (scores, same) in methods.items():
        fpr, tpr, _ = reference.roc_curve(same, scores, drop_intermediate=False)
        np.testing.assert_array_equal(display.curves[name].fpr, fpr)
        np.testing.assert_array_equal(display.curves[name].tpr, tpr)
        assert display.areas[name] == pytest.approx(reference.roc_auc_score(same, scores), abs=1e-12)
        assert display.floors[name] == 1 / 3000
        assert display.points[name] == (tpr_at_fpr(scores[same], scores[~same], 0.01),)


def test_plot__labels_and_limits(methods: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    display = RocDisplay.from_scores(methods)
    assert display.plot(title="LFW") is display
    ax = display.ax_
    assert ax.get_xscale() == "log"
    assert ax.get_xlim() == (1 / 3000, 1.0)
    assert ax.get_xlabel() == "False match rate (FPR)"
    assert ax.get_ylabel() == "True match rate (TPR)"
    assert ax.get_title(loc="left") == "LFW"
    assert ax.figure is display.figure_
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == [f"{name}  (AUC {auc(s[f], s[~f]) * 100:.2f}%)" for name, (s, f) in methods.items()]
    assert {name: line.get_color() for name, line in display.lines_.items()} == {
        name: METHOD_COLOURS[name] for name in ("clean", "masked", "completed")
    }
    assert display.line_ is display.lines_["clean"]
    for line in display.lines_.values():
        assert ax.get_ylim()[0] <= line.get_ydata().min()
        assert line.get_drawstyle() == "steps-post"


def test_plot__on_given_axes(methods: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots(1, 2)
    display = RocDisplay.from_scores(methods).plot(axes[1])
    assert display.ax_ is axes[1]
    assert not axes[0].lines


def test_plot__marks_lie_on_the_drawn_steps(methods: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    display = RocDisplay.from_scores(methods, fprs=(0.01, 0.001, 0.0001)).plot()
    marks = {line.get_markerfacecolor(): line for line in display.ax_.lines if line.get_marker() == "o"}
    for name, line in display.lines_.items():
        x, y = marks[METHOD_COLOURS[name]].get_data()
        np.testing.assert_allclose(x, [0.01, 0.001])  # 0.0001 of 3,000 pairs cannot be resolved.
        at = np.searchsorted(line.get_xdata(), np.asarray(x) * (1 + 1e-9), side="right") - 1
        np.testing.assert_array_equal(line.get_ydata()[at], y)
    upright = [line.get_xdata()[0] for line in display.ax_.lines if len(set(line.get_xdata())) == 1]
    assert upright == [0.01, 0.001]


def test_plot__marks_below_the_axis_stand_at_its_end() -> None:
    scores = np.linspace(-1, 0, 4_000_002, dtype=np.float32)
    scores[-41:] = [0.6, *[0.5] * 38, 0.7, 0.2]
    same = np.arange(len(scores)) >= len(scores) - 2
    display = RocDisplay.from_scores({"clean": (scores, same)}, fprs=(1e-6, 1e-4)).plot()
    point = display.points["clean"][0]
    assert 0 < point.fpr < 1e-6
    (marks,) = (line for line in display.ax_.lines if line.get_marker() == "o")
    assert min(marks.get_xdata()) == display.ax_.get_xlim()[0] == 1e-6


def test_plot__no_marks(methods: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    display = RocDisplay.from_scores(methods, fprs=()).plot()
    assert len(display.ax_.lines) == 3


@pytest.mark.parametrize("ties", [False, True])
def test_thin__conservative_and_small(ties: bool) -> None:
    scores, same = method(3, 2, 50_000)
    curve = roc_curve(*(part.round(2) if ties else part for part in (scores[same], scores[~same])))
    fpr, tpr = thin(curve, 1 / 50_000)
    assert len(fpr) <= POINTS_PER_DECADE * np.log10(50_000) + 2
    for low in (1e-4, 1e-3, 1e-2, 1e-1):
        assert ((fpr > low * (1 + 1e-9)) & (fpr <= low * 10)).sum() <= POINTS_PER_DECADE + 1
    assert (np.diff(fpr) > 0).all()
    assert (np.diff(tpr) >= 0).all()
    assert (fpr[-1], tpr[-1]) == (1.0, 1.0)
    for x, y in zip(fpr, tpr, strict=True):
        assert y == curve.tpr[curve.fpr <= x * (1 + 1e-12)].max()


def test_thin__keeps_every_step_of_a_small_set() -> None:
    curve = roc_curve([0.9, 0.7, 0.4, 0.2], [0.8, 0.5, 0.3, 0.1])
    fpr, tpr = thin(curve, 0.25)
    assert fpr.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert tpr.tolist() == [0.5, 0.75, 1.0, 1.0]


def test_roc__single_impostor_and_failures() -> None:
    display = RocDisplay.from_scores({"a": (np.array([0.9, -np.inf, 0.1]), np.array([True, True, False]))})
    display.plot()
    assert display.areas["a"] == 0.5


def test_roc__bad_input() -> None:
    with pytest.raises(InputError, match="at least one method"):
        RocDisplay.from_scores({})
    with pytest.raises(InputError, match="both classes"):
        RocDisplay.from_scores({"a": (np.array([0.9]), np.array([True]))})
    with pytest.raises(InputError, match="floor"):
        thin(roc_curve([0.1], [0.2]), 0.0)


def test_from_scores__many_pairs_are_thinned_but_exact() -> None:
    scores, same = method(4, 3, 60_000)
    display = RocDisplay.from_scores({"clean": (scores, same)}, fprs=(1e-3, 1e-6)).plot()
    fpr, tpr, _ = reference.roc_curve(same, scores, drop_intermediate=False)
    curve = display.curves["clean"]
    assert len(curve.fpr) < 2 * POINTS_PER_DECADE * np.log10(60_000) + 10
    exact = set(zip(fpr.tolist(), tpr.tolist(), strict=True))
    assert set(zip(curve.fpr.tolist(), curve.tpr.tolist(), strict=True)) <= exact
    x, y = display.line_.get_data()
    point = display.points["clean"][0]
    assert y[np.isclose(x, point.fpr, rtol=1e-9)].tolist() == [point.tpr]
    assert not display.points["clean"][1].resolvable


def test_plot__begins_at_one_in_a_million() -> None:
    # As many impostor pairs as IJB-C has, as counts: no list of scores that long is needed to draw.
    pairs = 15_638_932
    fpr = np.append(np.arange(40), np.geomspace(40, pairs, 2000).astype(int)) / pairs
    curve = RocCurve(fpr, np.linspace(0.5, 1, len(fpr)), -np.linspace(0, 1, len(fpr)))
    display = RocDisplay(curves={"clean": curve}, areas={"clean": 1}, floors={"clean": 1 / pairs}, rates=(1e-6, 1e-7))
    ax = display.plot().ax_
    assert ax.get_xlim() == (1e-6, 1.0)
    assert display.line_.get_xdata()[0] == 1e-6
    assert display.line_.get_ydata()[0] == curve.tpr[15]  # 15 of 15,638,932 pairs are just below 1e-6
    assert len(display.line_.get_xdata()) <= 6 * POINTS_PER_DECADE + 3
    display.figure_.draw_without_rendering()
    labels = [text.get_text() for text in ax.get_xticklabels()]
    assert "$10^{-6}$" in labels
    upright = [line.get_xdata()[0] for line in ax.lines if len(set(line.get_xdata())) == 1]
    assert upright == [1e-6]
