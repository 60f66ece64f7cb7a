"""The panel of pictures: every cell in its place, labels, bad input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskfix.base import Completion, InputError
from maskfix.plot import CompletionPanelDisplay


def completion(rows: int, size: int) -> tuple[np.ndarray, np.ndarray, Completion]:
    rng = np.random.default_rng(0)
    clean, masked, images = rng.integers(0, 256, size=(3, rows, size, size, 3)).astype(np.uint8)
    maps = rng.random((rows, size, size)).astype(np.float32)
    uv = rng.random((rows, size, size, 2)).astype(np.float32)
    return clean, masked, Completion(images, maps, maps.mean(axis=(1, 2)), maps, uv)


def test_from_completion__cells_in_place() -> None:
    clean, masked, result = completion(3, 40)
    display = CompletionPanelDisplay.from_completion(clean, masked, result, labels=["a", "b", "c"])
    assert display.titles == ("clean", "masked", "completed", "occlusion", "u", "v")
    step = 40 + 2
    assert display.canvas.shape == (3 * step - 2, 6 * step - 2, 3)
    for row in range(3):
        for column, pictures in enumerate((clean, masked, result.images)):
            cell = display.canvas[row * step : row * step + 40, column * step : column * step + 40]
            np.testing.assert_array_equal(cell, pictures[row])
    assert (display.canvas[40:42] == 255).all()
    assert (display.canvas[:, 40:42] == 255).all()


def test_maps__dark_to_bright() -> None:
    ramp = np.linspace(-0.2, 1.2, 64).reshape(1, 8, 8)
    ramp[0, 0, 0] = np.nan
    for title in ("occlusion", "u", "v", "coverage"):
        canvas = CompletionPanelDisplay(columns={title: ramp}).canvas.astype(np.float64)
        brightness = canvas.reshape(-1, 3) @ [0.2126, 0.7152, 0.0722]
        assert (np.diff(brightness) >= -1.0).all()
        assert brightness[-1] > brightness[0] + 150


def test_plot__labels() -> None:
    clean, masked, result = completion(2, 32)
    display = CompletionPanelDisplay.from_completion(clean, masked, result, labels=["first\n0.31", "second\n0.62"])
    assert display.plot(title="LFW") is display
    ax = display.ax_
    assert [text.get_text() for text in ax.get_xticklabels()] == list(display.titles)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["first\n0.31", "second\n0.62"]
    assert ax.get_title(loc="left") == "LFW"
    np.testing.assert_array_equal(display.image_.get_array(), display.canvas)
    # The ticks lie in the middle of the cells.
    np.testing.assert_allclose(ax.get_xticks()[:2], [15.5, 15.5 + 34])
    assert "maps" in ax.get_xlabel()


def test_plot__a_dollar_in_a_file_name_is_no_formula(tmp_path: Path) -> None:
    clean, masked, result = completion(1, 40)
    CompletionPanelDisplay.from_completion(clean, masked, result, labels=["$_$.jpg"]).plot().save(tmp_path / "a.png")
    CompletionPanelDisplay(columns={"$^$": clean}, labels=[""]).plot().save(tmp_path / "b.png")
    assert len(list(tmp_path.iterdir())) == 2


def test_plot__pictures_only_and_no_labels(tmp_path: object) -> None:
    crops = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    display = CompletionPanelDisplay(columns={"clean": crops}).plot()
    assert len(display.ax_.get_yticks()) == 0
    assert display.ax_.get_xlabel() == ""
    display.figure_.canvas.draw()


def test_columns_of_different_sizes() -> None:
    small = np.full((2, 8, 8, 3), 77, dtype=np.uint8)
    large = np.zeros((2, 16, 16, 3), dtype=np.uint8)
    display = CompletionPanelDisplay(columns={"small": small, "large": large})
    assert display.cell == 16
    assert (display.canvas[:16, :16] == 77).all()


@pytest.mark.parametrize(
    ("columns", "labels", "message"),
    [
        ({}, (), "at least one column"),
        ({"a": np.zeros((0, 8, 8, 3), dtype=np.uint8)}, (), "at least one row"),
        ({"a": np.zeros((2, 8, 8, 3), dtype=np.uint8)}, ("x",), "one label a row"),
        ({"a": np.zeros((2, 8, 8, 3))}, (), "a: expected dtype uint8"),
        ({"a": np.zeros((2, 8, 9))}, (), "a: expected shape"),
        ({"a": np.zeros((2, 8, 8), dtype=np.uint8)}, (), "a: expected maps as float"),
        ({"a": np.zeros((2, 8, 8)), "b": np.zeros((1, 8, 8))}, (), "b: expected shape"),
        ({"a": np.zeros((2, 8, 8)), "b": np.zeros((1, 8, 8, 3), dtype=np.uint8)}, (), "b: expected shape"),
    ],
)
def test_panel__bad_input(columns: dict[str, np.ndarray], labels: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CompletionPanelDisplay(columns=columns, labels=labels)


def test_from_completion__wrong_uv() -> None:
    clean, masked, result = completion(2, 16)
    with pytest.raises(InputError, match=r"completion\.uv"):
        CompletionPanelDisplay.from_completion(clean, masked, result._replace(uv=result.uv[..., :1]))
