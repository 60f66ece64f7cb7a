"""What all Display classes share: colours that colour-blind readers can tell apart, plain axes, saving to a file."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from maskfix.base import DependencyError, check_choice, replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours of Okabe and Ito, "Color Universal Design" (2008); their sky blue and orange are darkened, so that every line
#: stands out from white paper by 3 to 1 at least (WCAG 2.1, 1.4.11).
METHOD_COLOURS = {
    "clean": "#6E6E6E",
    "masked": "#D55E00",
    "completed": "#0072B2",
    "refined": "#4A97D6",
    "fused": "#CC79A7",
    "clean_completed": "#009E73",
}
#: Of methods by other names; none of the colours above, and of one contrast with paper.
OTHER_COLOURS = ("#7A4B00", "#000000", "#5B3A9B", "#8A7A00", "#A0153E")
GENUINE_COLOUR, IMPOSTOR_COLOUR = "#0072B2", "#C08300"
INK, FAINT = "#262626", "#C8C8C8"

#: Line styles differ as well as colours, so that a figure printed in grey can be read.
#: Completed clean faces give the clean curve again where all is well: sparse dots leave it to be seen.
METHOD_LINES = {
    "clean": (0, (5, 1.6)),
    "masked": (0, (1.4, 1.2)),
    "completed": "-",
    "refined": (0, (8, 1.2)),
    "fused": (0, (3, 1, 1, 1)),
    "clean_completed": (0, (0.8, 4)),
}

FORMATS = ("png", "pdf", "svg")


class Display(ABC):
    """Base of the Display classes.

    Attributes:
        figure_: The matplotlib figure, after `plot`.
    """

    figure_: Figure

    @abstractmethod
    def plot(self, ax: Any = None) -> Self:
        """Draw and return self."""

    def save(self, path: str | Path, *, dpi: int = 200) -> Path:
        """Write the figure; draws it first where `plot` was not called. The file appears whole or not at all.

        Text in PDF stays text; the same figure gives the same bytes again (no date, no random ids). The paper is cut to
        what is drawn, so a long label is never cut off.

        Args:
            path: File ending in .png, .pdf or .svg; its folder is made if it is missing.
            dpi: Pixels per inch of PNG files and of pictures inside PDF and SVG files.

        Returns:
            The path written.

        Raises:
            InputError: If the suffix is none of these.
            DependencyError: If matplotlib is not installed.
        """
        path = Path(path)
        suffix = path.suffix.lower().removeprefix(".")
        check_choice(f"{path}: figure format", suffix, FORMATS)
        matplotlib = load_matplotlib()
        if not hasattr(self, "figure_"):
            self.plot()
        undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(suffix)
        options = {"pdf.fonttype": 42, "svg.hashsalt": "maskfix"}
        with replacing(path) as temporary, matplotlib.rc_context(options):
            self.figure_.savefig(
                temporary, dpi=dpi, format=suffix, metadata=undated, bbox_inches="tight", pad_inches=0.1
            )
        return path


def load_matplotlib() -> Any:
    """Import matplotlib.

    Raises:
        DependencyError: If it is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise DependencyError("matplotlib is needed for figures; install it with: pip install matplotlib") from error
    return matplotlib


def new_figure(width: float, height: float) -> Figure:
    """A figure of its own, outside pyplot's list of figures: no window, no global state, freed when dropped.

    Args:
        width: Width in inches.
        height: Height in inches.
    """
    load_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def plain_axes(ax: Axes) -> None:
    """Give axes the look of all figures: no box, faint grid behind the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#808080")
    ax.tick_params(colors=INK, labelsize=9)
    ax.set_axisbelow(True)


def method_styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Colour and line of each method: fixed for clean, masked and completed, in turn for others.

    Example:
        >>> method_styles(["completed", "blur"])
        {'completed': {'color': '#0072B2', 'linestyle': '-'}, 'blur': {'color': '#7A4B00', 'linestyle': '-'}}
    """
    styles: dict[str, dict[str, Any]] = {}
    others = 0
    for name in names:
        if name in METHOD_COLOURS:
            styles[name] = {"color": METHOD_COLOURS[name], "linestyle": METHOD_LINES[name]}
            continue
        turn, colour = divmod(others, len(OTHER_COLOURS))
        styles[name] = {"color": OTHER_COLOURS[colour], "linestyle": ("-", "--", "-.", ":")[turn % 4]}
        others += 1
    return styles


def percent(value: float, _position: int | None = None) -> str:
    """A fraction as a percentage without trailing zeros, for tick labels.

    Example:
        >>> percent(0.001), percent(1.0), percent(0.000001)
        ('0.1%', '100%', '0.0001%')
    """
    digits = f"{value * 100:.8f}".rstrip("0").rstrip(".")
    return f"{digits}%"


def power_of_ten(value: float, _position: int | None = None) -> str:
    """A power of ten as mathematical text, for tick labels of very small rates.

    Example:
        >>> power_of_ten(1e-6), power_of_ten(1.0)
        ('$10^{-6}$', '1')
    """
    exponent = round(math.log10(value))
    return f"$10^{{{exponent}}}$" if exponent else "1"


def as_written(legend: Any) -> None:
    """Show a legend's names as they are: they are no formulas, whatever dollars they hold."""
    for text in legend.get_texts():
        text.set_parse_math(False)
