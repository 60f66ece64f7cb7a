"""Figures over a loss weight: order, places, intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskfix.base import InputError, read_image
from maskfix.metrics import Interval
from maskfix.plot.curve import WeightCurveDisplay

PANELS = {
    "PSNR (dB)": {"": [Interval(25, 24, 27), Interval(20, 19, 21), Interval(22, 21, 23)]},
    "Recovered (%)": {
        "dlib": [Interval(50, 40, 60), Interval(30, 20, 40), Interval(45, 40, 55)],
        "other": [Interval(51, 41, 61), Interval(31, 21, 41), Interval(46, 41, 56)],
    },
}


def display() -> WeightCurveDisplay:
    return WeightCurveDisplay(weights=[0.1, 0, 5], panels=PANELS, marked=0.1)


def test_init__rising_weights() -> None:
    drawn = display()
    assert drawn.weights == (0, 0.1, 5)
    assert [point.value for point in drawn.panels["PSNR (dB)"][""]] == [20, 25, 22]
    assert [point.low for point in drawn.panels["Recovered (%)"]["other"]] == [21, 41, 41]


def test_plot__numbers_and_labels() -> None:
    drawn = display()
    assert drawn.plot() is drawn
    assert [ax.get_ylabel() for ax in drawn.axes_] == list(PANELS)
    psnr = drawn.ax_.containers[0]
    np.testing.assert_allclose(psnr.lines[0].get_xydata(), [[0, 20], [1, 25], [2, 22]])
    ends = [segment[:, 1].tolist() for segment in psnr.lines[2][0].get_segments()]
    assert ends == [[19, 21], [24, 27], [21, 23]]
    assert [tick.get_text() for tick in drawn.ax_.get_xticklabels()] == ["0", "0.1", "5"]
    assert drawn.ax_.get_legend() is None
    assert [text.get_text() for text in drawn.axes_[1].get_legend().get_texts()] == ["dlib", "other"]
    # The weight in use is the second.
    marks = [line for line in drawn.ax_.lines if list(line.get_xdata()) == [1, 1]]
    assert len(marks) == 1


def test_save(tmp_path: Path) -> None:
    assert read_image(display().save(tmp_path / "curve.png")).shape[1] > 1000


def test_init__refused() -> None:
    one = [Interval(1, 1, 1)]
    with pytest.raises(InputError, match="different weights"):
        WeightCurveDisplay(weights=[0.1, 0.1], panels={"a": {"": one * 2}})
    with pytest.raises(InputError, match="got 0 and"):
        WeightCurveDisplay(weights=[0.1], panels={})
    with pytest.raises(InputError, match="expected 2 values a curve, 'b' has others"):
        WeightCurveDisplay(weights=[0.1, 1], panels={"a": {"": one * 2}, "b": {"": one}})
    with pytest.raises(InputError, match="expected 2 axes, one a panel, got 1"):
        display().plot(display().plot().ax_)
