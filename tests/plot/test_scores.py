"""The score histogram: shares, failures, labels."""

from __future__ import annotations

from pathlib import Path

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


def test_from_scores__float32_counts_as_numpy_counts() -> None:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=3_000_000).astype(np.float32)
    same = np.arange(len(scores)) % 100 == 0
    display = ScoreHistogramDisplay.from_scores({"clean": (scores, same)}, bins=50)
    counts, edges = np.histogram(scores[~same].astype(np.float64), display.edges)
    np.testing.assert_array_equal(display.edges, np.linspace(scores.min(), scores.max(), 51, dtype=np.float64))
    np.testing.assert_array_equal(edges, display.edges)
    # Values on an edge may fall to either side of it where the edges are given as numbers.
    np.testing.assert_allclose(display.impostor["clean"] * (~same).sum(), counts, atol=1)


def test_thresholds__of_the_first_method(methods: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    display = ScoreHistogramDisplay.from_scores(methods, fprs=(0.1, 0.01), threshold=0.0)
    scores, same = methods["clean"]
    impostor = np.sort(scores[~same])[::-1]
    assert display.thresholds == {"clean FMR 10%": impostor[30], "clean FMR 1%": impostor[3]}
    display.plot(log=True)
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend[2:] == [
        "threshold 0.000",
        f"threshold {impostor[30]:.3f} (clean FMR 10%)",
        f"threshold {impostor[3]:.3f} (clean FMR 1%)",
    ]
    for ax in display.axes_:
        assert [line.get_xdata()[0] for line in ax.lines] == [0.0, impostor[30], impostor[3]]
        assert len({str(line.get_linestyle()) for line in ax.lines}) == 3
        assert ax.get_yscale() == "log"


def test_thresholds__none_for_a_rate_that_accepts_all() -> None:
    scores, same = np.array([0.9, 0.1]), np.array([True, False])
    assert ScoreHistogramDisplay.from_scores({"a": (scores, same)}, fprs=(1.0,)).thresholds == {}


@pytest.mark.parametrize("name", ["a$_{$", "_raw"])
def test_plot__names_as_they_are_written(name: str, tmp_path: Path) -> None:
    scores = (np.array([0.1, 0.9]), np.array([False, True]))
    drawn = ScoreHistogramDisplay.from_scores({name: scores}).plot(title=name)
    assert drawn.axes_[0].texts[0].get_text() == name
    drawn.save(tmp_path / "scores.png")
