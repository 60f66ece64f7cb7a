"""The DET figure: rates, normal-deviate axes far below 0.1%, names of ISO/IEC 19795-1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm
from sklearn import metrics as reference

from maskfix.base import InputError
from maskfix.metrics import eer, operating_points
from maskfix.plot import DetDisplay
from maskfix.plot.style import METHOD_COLOURS
from maskfix.plot.thinning import thinned_curve

Methods = dict[str, tuple[np.ndarray, np.ndarray]]


def method(seed: int, distance: float, pairs: int = 3000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    same = np.arange(2 * pairs) < pairs
    return rng.normal(size=2 * pairs) + distance * same, same


@pytest.fixture
def methods() -> Methods:
    return {"clean": method(0, 4), "masked": method(1, 2), "completed": method(2, 3)}


def test_from_scores__numbers(methods: Methods) -> None:
    display = DetDisplay.from_scores(methods, fprs=[0.01])
    for name, (scores, same) in methods.items():
        fmr, fnmr, _ = reference.det_curve(same, scores)
        curve = display.curves[name]
        ours = set(zip(curve.fpr.round(9), (1 - curve.tpr).round(9), strict=True))
        assert set(zip(fmr.round(9), fnmr.round(9), strict=True)) <= ours
        assert display.eers[name] == eer(scores[same], scores[~same])
        assert display.floors[name] == 1 / 3000
        assert display.points[name] == operating_points(scores[same], scores[~same], [0.01])


def test_plot__axes(methods: Methods) -> None:
    display = DetDisplay.from_scores(methods)
    assert display.plot(title="LFW") is display
    ax = display.ax_
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("False match rate (FMR)", "False non-match rate (FNMR)")
    assert ax.get_title(loc="left") == "LFW"
    assert ax.get_xlim() == (pytest.approx(1 / 3000), 0.5)
    rates = np.array([0.001, 0.01, 0.2])
    for transform in (ax.xaxis.get_transform(), ax.yaxis.get_transform()):
        np.testing.assert_allclose(transform.transform(rates), norm.ppf(rates))
    ticks = [text.get_text() for text in ax.get_xticklabels()]
    assert ticks == ["0.1%", "1%", "5%", "20%", "50%"]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == [f"{name}  (EER {display.eers[name] * 100:.2f}%)" for name in methods]
    colours = {name: line.get_color() for name, line in display.lines_.items()}
    assert colours == {name: METHOD_COLOURS[name] for name in methods}
    assert display.line_ is display.lines_["clean"]


def test_plot__marks_lie_on_the_drawn_steps(methods: Methods) -> None:
    display = DetDisplay.from_scores(methods).plot()
    for name, line in display.lines_.items():
        assert line.get_drawstyle() == "steps-post"
        marks = [
            other
            for other in display.ax_.lines
            if other.get_marker() == "o" and other.get_markerfacecolor() == METHOD_COLOURS[name]
        ]
        x, y = marks[0].get_data()
        at = np.searchsorted(line.get_xdata(), np.asarray(x) * (1 + 1e-9), side="right") - 1
        np.testing.assert_allclose(line.get_ydata()[at], y, atol=1e-12)


def test_plot__down_to_one_in_a_million() -> None:
    # Curves of 20 million impostors, without 20 million scores: the quantiles of a normal distribution.
    fpr = np.append(0, np.geomspace(5e-8, 1, 400))
    curve = thinned_curve([0.5], [0.1])._replace(fpr=fpr, tpr=norm.sf(norm.isf(fpr) - 6), thresholds=norm.isf(fpr))
    display = DetDisplay(curves={"clean": curve}, eers={"clean": 0.001}, floors={"clean": 5e-8}).plot()
    assert display.ax_.get_xlim() == (1e-6, 0.5)
    assert display.ax_.get_ylim()[0] == 1e-6
    ticks = [text.get_text() for text in display.ax_.get_xticklabels()]
    assert ticks[:5] == ["0.0001%", "0.001%", "0.01%", "0.1%", "1%"]
    # Normal scores give a straight line: the sum of both deviates is constant.
    x, y = display.line_.get_data()
    inside = (x > 1.1e-6) & (x < 0.4) & (y > 1e-6)
    deviates = norm.ppf(x[inside]) + norm.ppf(y[inside])
    assert deviates.std() < 0.02


def test_plot__a_mark_below_the_axes_stands_at_their_end() -> None:
    # 15 of 15.6 million accepted is 9.6e-7, the point nearest to one in a million on all of IJB-C.
    fpr = np.append(0, np.geomspace(9.6e-7, 1, 400))
    curve = thinned_curve([0.5], [0.1])._replace(fpr=fpr, tpr=norm.sf(norm.isf(fpr) - 6), thresholds=norm.isf(fpr))
    point = operating_points([0.9, 0.8], [0.1, 0.2], [0.5])[0]._replace(fpr=9.6e-7, tpr=0.9)
    display = DetDisplay(
        curves={"clean": curve}, eers={"clean": 0.001}, floors={"clean": 6.4e-8}, points={"clean": [point]}
    ).plot()
    marks = [line.get_data() for line in display.ax_.lines if line.get_marker() == "o"]
    assert [(float(x[0]), float(y[0])) for x, y in marks] == [(1e-6, pytest.approx(0.1))]


def test_plot__no_errors_and_all_errors(tmp_path: Path) -> None:
    same = np.arange(400) < 200
    perfect = DetDisplay.from_scores({"clean": (same.astype(float), same)})
    perfect.save(tmp_path / "perfect.png", dpi=40)
    low = perfect.ax_.get_ylim()[0]
    assert (perfect.line_.get_ydata() < low).all()
    assert np.isfinite(perfect.line_.get_ydata()).all()
    wrong = DetDisplay.from_scores({"clean": (-same.astype(float), same)})
    wrong.save(tmp_path / "wrong.svg")
    tiny = DetDisplay.from_scores({"a": (np.array([0.9, -np.inf, 0.1]), np.array([True, True, False]))})
    tiny.save(tmp_path / "tiny.pdf")
    assert len(list(tmp_path.iterdir())) == 3


def test_recognisers__names_and_given_axes(methods: Methods) -> None:
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    display = DetDisplay.from_recognisers({"a": methods, "b": {"masked": method(5, 1)}}).plot(ax)
    assert display.ax_ is ax
    assert list(display.lines_) == ["a: clean", "a: masked", "a: completed", "b: masked"]
    assert display.lines_["a: masked"].get_color() == display.lines_["b: masked"].get_color()
    assert display.lines_["a: masked"].get_linestyle() != display.lines_["b: masked"].get_linestyle()


def test_det__bad_input() -> None:
    with pytest.raises(InputError, match="DET: expected at least one method"):
        DetDisplay.from_scores({})
    with pytest.raises(InputError, match="both classes"):
        DetDisplay.from_scores({"a": (np.array([0.9]), np.array([True]))})
