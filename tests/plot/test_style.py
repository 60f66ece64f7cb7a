"""Saving figures, colours, percentages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from maskfix.base import InputError
from maskfix.plot import RocDisplay
from maskfix.plot.style import (
    GENUINE_COLOUR,
    IMPOSTOR_COLOUR,
    INK,
    METHOD_COLOURS,
    OTHER_COLOURS,
    method_styles,
    percent,
    power_of_ten,
)


@pytest.fixture
def display() -> RocDisplay:
    rng = np.random.default_rng(0)
    same = np.arange(400) < 200
    return RocDisplay.from_scores({"clean": (rng.normal(size=400) + 2 * same, same)})


@pytest.mark.parametrize(
    ("suffix", "magic"), [("png", b"\x89PNG"), ("pdf", b"%PDF"), ("svg", b"<?xml"), ("PNG", b"\x89PNG")]
)
def test_save(display: RocDisplay, tmp_path: Path, suffix: str, magic: bytes) -> None:
    path = tmp_path / "new" / f"roc.{suffix}"
    assert display.save(path, dpi=50) == path
    first = path.read_bytes()
    assert first.startswith(magic)
    display.save(path, dpi=50)
    assert path.read_bytes() == first
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_save__unknown_format(display: RocDisplay, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'gif' is unknown; known: png, pdf, svg"):
        display.save(tmp_path / "roc.gif")
    assert not list(tmp_path.iterdir())


def test_save__keeps_what_was_drawn(display: RocDisplay, tmp_path: Path) -> None:
    display.plot(title="my own title").save(tmp_path / "roc.svg")
    assert display.ax_.get_title(loc="left") == "my own title"


def test_import_and_drawing_leave_pyplot_alone() -> None:
    code = (
        "import sys, maskfix.plot, numpy as np\n"
        "assert not any(name.startswith('matplotlib') for name in sys.modules)\n"
        "same = np.array([True, False])\n"
        "maskfix.plot.RocDisplay.from_scores({'a': (np.array([1.0, 0.0]), same)}).plot()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_method_styles__never_twice_the_same() -> None:
    names = ["masked", *(f"method {i}" for i in range(12)), "clean", "completed"]
    styles = method_styles(names)
    assert list(styles) == names
    assert len({(style["color"], str(style["linestyle"])) for style in styles.values()}) == len(names)
    assert styles["masked"] == method_styles(["masked"])["masked"]


def test_colours__of_no_two_methods_are_alike() -> None:
    """Of several recognisers a method's colour is all that tells it from another."""
    colours = [*METHOD_COLOURS.values(), *OTHER_COLOURS]
    assert len(set(colours)) == len(colours)


def test_colours__three_to_one_against_white_paper() -> None:
    """Contrast after WCAG 2, as success criterion 1.4.11 asks of lines."""
    lines = (*METHOD_COLOURS.values(), *OTHER_COLOURS, GENUINE_COLOUR, IMPOSTOR_COLOUR, INK)
    channels = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in lines]) / 255
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    contrast = 1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05)
    assert {name: value for name, value in zip(lines, contrast, strict=True) if value < 3} == {}


@pytest.mark.parametrize(
    ("value", "text"), [(0.5, "50%"), (0.0, "0%"), (1e-4, "0.01%"), (0.075, "7.5%"), (1.0, "100%")]
)
def test_percent(value: float, text: str) -> None:
    assert percent(value) == text


def test_power_of_ten() -> None:
    assert [power_of_ten(10.0**-exponent) for exponent in range(3)] == ["1", "$10^{-1}$", "$10^{-2}$"]
