"""The score histogram: shares, failures, labels."""

from __future__ import annotations

import numpy as np
import pytest

from maskfix.base import InputError
from maskfix.plot import ScoreHistogramDisplay


@pytest.fixture
def methods() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    same = np.arange(500) < 200
    clean, masked = rng.uniform(-0.5, 0.5, 500) + 0.4 * same, rng.uniform(-0.5, 0.5, 500) + 0.2 * same
    masked[[0, 1, 400]] = -np.inf
    return {"clean": (clean, same), "masked": (masked, same)}


def test_from_scores__shares(methods: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    display = ScoreHistogramDisplay.from_scores(methods, bins=20)
    assert display.failures == {"clean": 0, "masked": 3}
    assert display.genuine["clean"].sum() == pytest.approx(1)
    assert display.impostor["clean"].sum() == pytest.approx(1)
    assert display.genuine["masked"].sum() == pytest.approx(198 / 200)
    assert display.impostor["masked"].sum() == pytest.approx(299 / 300)
    scores, same = methods["clean"]
    for low, high, share in zip(display.edges[:-2], display.edges[1:-1], display.genuine["clean"][:-1], strict=True):
        assert share == pytest.approx(np.mean((scores[same] >= low) & (scores[same] < high)))
    finite = np.concatenate([s[np.isfinite(s)] for s, _ in methods.values()])
    assert (display.edges[0], display.edges[-1]) == (finite.min(), finite.max())


def test_plot__labels(methods: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    display = ScoreHistogramDisplay.from_scores(methods, threshold=0.25)
    assert display.plot() is display
    assert len(display.axes_) == 2
    assert display.ax_ is display.axes_[0]
    assert [ax.texts[0].get_text() for ax in display.axes_] == ["clean", "masked\n3 failed pairs"]
    assert display.axes_[-1].get_xlabel() == "Score (cosine similarity)"
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == ["impostor", "genuine", "threshold 0.250"]
    assert display.ax_.lines[0].get_xdata()[0] == 0.25
    outlines = [patch for patch in display.axes_[1].patches if patch.get_label() == "genuine"]
    np.testing.assert_array_equal(outlines[0].get_data().values, display.genuine["masked"])


def test_plot__on_given_axes(methods: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    ax = figure.subplots()
    one = ScoreHistogramDisplay.from_scores({"clean": methods["clean"]}).plot(ax)
    assert one.ax_ is ax
    assert one.figure_ is figure
    with pytest.raises(InputError, match="expected 2 axes"):
        ScoreHistogramDisplay.from_scores(methods).plot(ax)


def test_scores__bad_input(methods: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    with pytest.raises(InputError, match="got 0 scores"):
        ScoreHistogramDisplay.from_scores({})
    with pytest.raises(InputError, match="0 bins"):
        ScoreHistogramDisplay.from_scores(methods, bins=0)
    with pytest.raises(InputError, match="got 0 scores"):
        ScoreHistogramDisplay.from_scores({"a": (np.array([-np.inf, -np.inf]), np.array([True, False]))})
