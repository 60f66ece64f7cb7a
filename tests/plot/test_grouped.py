"""Names, styles and the legend of several recognisers."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest

from maskfix.base import InputError
from maskfix.plot import RocDisplay
from maskfix.plot.grouped import CurveName, curve_styles, name_curves
from maskfix.plot.style import METHOD_COLOURS, method_styles

METHODS = ("clean", "masked", "completed")


def pairs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    same = np.arange(200) < 100
    return np.random.default_rng(seed).normal(size=200) + 2 * same, same


def display(count: int) -> RocDisplay:
    return RocDisplay.from_recognisers(
        {f"net {place}": {name: pairs(7 * place + turn) for turn, name in enumerate(METHODS)} for place in range(count)}
    )


def test_styles__one_recogniser_keeps_the_methods_lines() -> None:
    names = {name: CurveName("", name) for name in METHODS}
    plain = method_styles(METHODS)
    for name, style in curve_styles(names).items():
        assert {key: style[key] for key in ("color", "linestyle")} == plain[name]
        assert style["marker"] == "o"


def test_styles__colour_is_the_method_line_the_recogniser() -> None:
    names = {f"{r}{m}": CurveName(f"net {r}", m) for r, m in product(range(12), METHODS)}
    styles = curve_styles(names)
    assert len({(s["color"], str(s["linestyle"]), s["marker"]) for s in styles.values()}) == len(names)
    for key, name in names.items():
        assert styles[key]["color"] == METHOD_COLOURS[name.method]
    for recogniser in range(12):
        assert len({str(styles[f"{recogniser}{m}"]["linestyle"]) for m in METHODS}) == 1


def test_legend__grouped_by_recogniser() -> None:
    drawn = display(2).plot()
    legend = drawn.ax_.get_legend()
    assert legend.get_title().get_text() == "Recogniser, method and AUC"
    texts = [text.get_text() for text in legend.get_texts()]
    wanted = []
    for net in ("net 0", "net 1"):
        wanted += [net, *(f"{name}  {drawn.areas[f'{net}: {name}'] * 100:.2f}%" for name in METHODS)]
    assert texts == wanted
    bold = [text.get_text() for text in legend.get_texts() if text.get_fontweight() == "bold"]
    assert bold == ["net 0", "net 1"]
    for handle, text in zip(legend.legend_handles, texts, strict=True):
        assert (handle.get_linestyle() == "None") == (text in bold)
    assert drawn.lines_["net 1: masked"].get_color() == METHOD_COLOURS["masked"]
    assert drawn.figure_.get_size_inches()[0] > display(1).plot().figure_.get_size_inches()[0]


def test_legend__many_recognisers_in_whole_columns() -> None:
    recognisers = {f"net {place}": {name: pairs(place) for name in METHODS[: 1 + place % 3]} for place in range(5)}
    legend = RocDisplay.from_recognisers(recognisers).plot().ax_.get_legend()
    texts = [text.get_text() for text in legend.get_texts()]
    # Two columns of three groups with a heading and three methods each; what is missing is left blank.
    assert len(texts) == 24
    assert [texts[place] for place in (0, 4, 8, 12, 16)] == [f"net {place}" for place in range(5)]
    assert texts[20:] == [""] * 4


def test_legend__no_two_recognisers_look_alike() -> None:
    drawn = RocDisplay.from_recognisers({f"net {place}": {"masked": pairs(place)} for place in range(12)}).plot()
    handles = [line for line in drawn.ax_.get_legend().legend_handles if line.get_linestyle() != "None"]
    assert len({(line.get_marker(), str(line._unscaled_dash_pattern)) for line in handles}) == 12


def test_names__clash() -> None:
    with pytest.raises(InputError, match="two curves are named 'a: b: c'"):
        name_curves({"a": {"b: c": pairs(0)}, "a: b": {"c": pairs(1)}})


def test_names__one_recogniser() -> None:
    assert list(name_curves({"net": {"clean": pairs(0)}})[0]) == ["clean"]


@pytest.mark.parametrize("name", ["a$_{$", "c$1 vs $2", "_raw"])
def test_legend__names_as_they_are_written(name: str, tmp_path: Path) -> None:
    """No formulas, and none left out for its first letter."""
    for recognisers in ({"net": {name: pairs(0)}}, {name: {name: pairs(0)}, "other": {name: pairs(1)}}):
        drawn = RocDisplay.from_recognisers(recognisers).plot(title=name)
        texts = drawn.ax_.get_legend().get_texts()
        assert name in " ".join(text.get_text() for text in texts)
        assert not any(text.get_parse_math() for text in texts)
        drawn.save(tmp_path / "roc.png")
