"""Curves of several methods and recognisers in one figure: what ROC and DET displays share, styles, the legend."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from numpy.typing import ArrayLike

from maskfix.base import InputError
from maskfix.metrics import OperatingPoint, RocCurve, operating_points, split_scores
from maskfix.plot.style import INK, Display, as_written, method_styles, new_figure, plain_axes
from maskfix.plot.thinning import figure_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

Pairs = tuple[ArrayLike, ArrayLike]
"""Scores `(P,)` and flags of genuine pairs `(P,)` bool."""

_LINES = (
    "-",
    (0, (5, 1.6)),
    (0, (1.4, 1.2)),
    (0, (4, 1.2, 1.2, 1.2)),
    (0, (9, 2.5)),
    (0, (3, 1, 1, 1, 1, 1)),
)
_MARKERS = "osD^vPX"
_STACKED = 4
"""Recognisers that stand above each other in one column of the legend."""
_COLUMN_INCHES = 2.15


class CurveName(NamedTuple):
    """What a curve shows.

    Attributes:
        recogniser: The recogniser; empty where the figure shows one only.
        method: The method, such as "clean", "masked" or "completed".
    """

    recogniser: str
    method: str


class ComputedCurves(NamedTuple):
    """What ROC and DET figures are drawn from, each by the curve's name.

    Attributes:
        curves: Curve of each method, exact or thinned.
        figures: One figure of each curve, such as its AUC.
        floors: 1 / number of impostor pairs.
        points: Operating points; empty where no rates were asked for.
        names: Recogniser and method.
    """

    curves: dict[str, RocCurve]
    figures: dict[str, float]
    floors: dict[str, float]
    points: dict[str, tuple[OperatingPoint, ...]]
    names: dict[str, CurveName]


class CurvesDisplay(Display):
    """Base of the displays that draw a curve for each method: the numbers, and how they come from scores.

    Attributes:
        curves: Curve of each method, in the order of the legend.
        floors: Smallest resolvable FMR of each method: 1 / number of impostor pairs.
        points: Operating points to mark, for each method; none where empty.
        rates: The false match rates asked for.
        names: Recogniser and method of each curve.
        ax_: The matplotlib axes, after `plot`.
        lines_: The curve of each method, after `plot`.
        line_: The curve of the first method, after `plot`.
    """

    ax_: Axes
    lines_: dict[str, Line2D]
    line_: Line2D
    kind: ClassVar[str]
    """What the curves are called in messages."""

    def __init__(
        self,
        curves: Mapping[str, RocCurve],
        floors: Mapping[str, float],
        points: Mapping[str, Sequence[OperatingPoint]] | None,
        rates: Sequence[float],
        names: Mapping[str, CurveName] | None,
    ) -> None:
        if not curves:
            raise InputError(f"{self.kind}: expected at least one method, got none")
        self.curves = dict(curves)
        self.floors = dict(floors)
        self.points = {name: tuple(marks) for name, marks in (points or {}).items()}
        self.rates = tuple(rates)
        self.names = dict(names) if names else {name: CurveName("", name) for name in self.curves}

    @classmethod
    def from_scores(cls, methods: Mapping[str, Pairs], *, fprs: Sequence[float] = (0.01, 0.001)) -> Self:
        """Compute curves, their figures and operating points of one recogniser.

        Args:
            methods: Scores `(P,)` and flags of genuine pairs `(P,)` bool of each method. "clean", "masked" and
                "completed" have colours of their own.
            fprs: False match rates to mark, each in (0, 1]; none for no marks.

        Raises:
            InputError: If there is no method, or scores and flags are not as `metrics.split_scores` wants them.
        """
        return cls.from_recognisers({"": methods}, fprs=fprs)

    @classmethod
    def from_recognisers(
        cls, recognisers: Mapping[str, Mapping[str, Pairs]], *, fprs: Sequence[float] = (0.01, 0.001)
    ) -> Self:
        """Compute curves, their figures and operating points of several recognisers, to lie over each other.

        The colour of a curve is its method's, its line its recogniser's. Curves are named "recogniser: method".

        Args:
            recognisers: For each recogniser what `from_scores` takes; methods may be missing from some.
            fprs: False match rates to mark, each in (0, 1]; none for no marks.

        Raises:
            InputError: If there is no method, or scores and flags are not as `metrics.split_scores` wants them.

        Example:
            >>> from maskfix.plot import RocDisplay
            >>> pairs = ([0.9, 0.1], [True, False])
            >>> list(RocDisplay.from_recognisers({"a": {"clean": pairs}, "b": {"clean": pairs}}).curves)
            ['a: clean', 'b: clean']
        """
        return cls._from_computed(compute_curves(recognisers, fprs, cls._figure), fprs)

    @staticmethod
    @abstractmethod
    def _figure(genuine: ArrayLike, impostor: ArrayLike) -> float:
        """The figure that stands beside a curve's name, in [0, 1]."""

    @classmethod
    @abstractmethod
    def _from_computed(cls, made: ComputedCurves, rates: Sequence[float]) -> Self:
        """The display of computed curves."""

    def _begin(self, ax: Any, height: float) -> Axes:
        """Axes to draw on, a new figure's of this height in inches where none are given."""
        if ax is None:
            ax = new_figure(figure_width(6.4, self.names), height).subplots()
        self.ax_, self.figure_ = ax, ax.figure
        plain_axes(ax)
        return self.ax_

    def _name(self, title: str, figures: Mapping[str, float], *, heading: str, corner: str) -> None:
        """Title and legend, the latter with a figure beside each curve's name."""
        self.line_ = next(iter(self.lines_.values()))
        self.ax_.set_title(title, color=INK, fontsize=12, loc="left", pad=10).set_parse_math(False)
        texts = {name: f"{figure * 100:.2f}%" for name, figure in figures.items()}
        draw_legend(self.ax_, self.names, self.lines_, texts, heading=heading, corner=corner)


def compute_curves(
    recognisers: Mapping[str, Mapping[str, Pairs]],
    fprs: Sequence[float],
    figure: Callable[[ArrayLike, ArrayLike], float],
) -> ComputedCurves:
    """Compute curves and operating points, one curve after the other: 15 million pairs are split once and dropped.

    Args:
        recognisers: Scores and flags of each method of each recogniser.
        fprs: False match rates of the operating points, each in (0, 1].
        figure: Function of genuine and impostor scores, such as `metrics.auc`.

    Raises:
        InputError: If two curves would have one name, or scores and flags are not as `metrics.split_scores` wants them.
    """
    scores, names = name_curves(recognisers)
    made = ComputedCurves({}, {}, {}, {}, names)
    for name, pairs in scores.items():
        genuine, impostor = split_scores(*pairs)
        made.curves[name] = figure_curve(genuine, impostor, fprs)
        made.figures[name] = figure(genuine, impostor)
        made.floors[name] = 1 / len(impostor)
        if fprs:
            made.points[name] = operating_points(genuine, impostor, fprs)
    return made


def name_curves(
    recognisers: Mapping[str, Mapping[str, Pairs]],
) -> tuple[dict[str, Pairs], dict[str, CurveName]]:
    """One level of names for methods by recogniser: "recogniser: method", or the method alone for one recogniser.

    Args:
        recognisers: Scores and flags of each method of each recogniser.

    Returns:
        Scores and flags, and what each of them shows, both by the curve's name.

    Raises:
        InputError: If two curves would have one name.

    Example:
        >>> pairs = ([0.9, 0.1], [True, False])
        >>> name_curves({"a": {"clean": pairs}, "b": {"clean": pairs}})[1]["b: clean"]
        CurveName(recogniser='b', method='clean')
    """
    scores: dict[str, Pairs] = {}
    names: dict[str, CurveName] = {}
    for recogniser, methods in recognisers.items():
        for method, pairs in methods.items():
            key = f"{recogniser}: {method}" if len(recognisers) > 1 else method
            if key in names:
                raise InputError(f"curves: two curves are named {key!r}; name recognisers and methods apart")
            scores[key] = pairs
            names[key] = CurveName(recogniser if len(recognisers) > 1 else "", method)
    return scores, names


def curve_styles(names: Mapping[str, CurveName]) -> dict[str, dict[str, Any]]:
    """Colour, line and marker of each curve.

    Of one recogniser, methods differ in colour and line. Of several, the colour is the method's, the line and the
    marker are the recogniser's.

    Example:
        >>> styles = curve_styles({"x": CurveName("a", "masked"), "y": CurveName("b", "masked")})
        >>> styles["x"]["color"] == styles["y"]["color"], styles["x"]["linestyle"] == styles["y"]["linestyle"]
        (True, False)
    """
    methods = method_styles(dict.fromkeys(name.method for name in names.values()))
    recognisers = list(dict.fromkeys(name.recogniser for name in names.values()))
    styles = {}
    for key, name in names.items():
        place = recognisers.index(name.recogniser)
        style = {**methods[name.method], "marker": _MARKERS[place % len(_MARKERS)]}
        if len(recognisers) > 1:
            style["linestyle"] = _LINES[place % len(_LINES)]
        styles[key] = style
    return styles


def figure_width(width: float, names: Mapping[str, CurveName]) -> float:
    """Width of a new figure in inches: of its axes, and of the legend beside them where there is one.

    Args:
        width: Width of the axes with their labels.
        names: What each curve shows.
    """
    count = len({name.recogniser for name in names.values()})
    return width if count == 1 else width + _COLUMN_INCHES * -(-count // _STACKED)


def mark_points(
    ax: Axes, marks: Sequence[tuple[float, float]], style: Mapping[str, Any], *, clip_on: bool = True
) -> None:
    """Mark operating points of one curve.

    Args:
        ax: The axes.
        marks: Place of each, in the axes' data.
        style: The curve's, of `curve_styles`.
        clip_on: Cut marks off at the axes' edge.
    """
    if not marks:
        return
    x, y = zip(*marks, strict=True)
    ax.plot(
        x,
        y,
        linestyle="none",
        marker=style["marker"],
        markersize=6.5,
        markerfacecolor=style["color"],
        markeredgecolor="white",
        markeredgewidth=1.2,
        label="_nolegend_",
        clip_on=clip_on,
        zorder=4,
    )


def draw_legend(
    ax: Axes,
    names: Mapping[str, CurveName],
    lines: Mapping[str, Line2D],
    figures: Mapping[str, str],
    *,
    heading: str,
    corner: str,
) -> None:
    """Name all curves: inside the axes for one recogniser, beside them in one group a recogniser for several.

    Args:
        ax: The axes.
        names: What each curve shows.
        lines: The drawn curves.
        figures: A figure to stand beside each curve's name, such as its AUC in percent.
        heading: What that figure is.
        corner: Corner of the axes that curves leave free, such as "lower right".
    """
    groups: dict[str, list[str]] = {}
    for key, name in names.items():
        groups.setdefault(name.recogniser, []).append(key)
    if len(groups) == 1:
        labels = [f"{names[key].method}  ({heading} {figures[key]})" for key in lines]
        look = {"frameon": True, "framealpha": 0.9, "edgecolor": "none", "fontsize": 9.5, "handlelength": 3.2}
        # Handed over, not set on the lines: matplotlib leaves out labels that begin with an underscore.
        as_written(ax.legend(list(lines.values()), labels, loc=corner, **look))
        return
    cells = _legend_cells(groups, names, figures)
    styles = curve_styles(names)
    legend = ax.legend(
        [_sample(styles[key], lines[key]) if key in lines else _nothing() for key, _ in cells],
        [text for _, text in cells],
        loc="upper left",
        bbox_to_anchor=(1.02, 1),
        borderaxespad=0,
        ncols=-(-len(groups) // _STACKED),
        frameon=False,
        fontsize=9,
        handlelength=3.2,
        columnspacing=1.6,
        title=f"Recogniser, method and {heading}",
        alignment="left",
    )
    as_written(legend)
    legend.get_title().set(fontsize=9, color="#606060")
    for (_, text), artist in zip(cells, legend.get_texts(), strict=True):
        artist.set_color(INK)
        if text in groups:
            artist.set_fontweight("bold")


def _legend_cells(
    groups: Mapping[str, Sequence[str]], names: Mapping[str, CurveName], figures: Mapping[str, str]
) -> list[tuple[str, str]]:
    """Curve and text of each cell of the legend, column by column, as matplotlib fills it."""
    methods = list(dict.fromkeys(name.method for name in names.values()))
    cells: list[tuple[str, str]] = []
    for recogniser, keys in groups.items():
        own = {names[key].method: key for key in keys}
        present = [own[method] for method in methods if method in own]
        cells.append(("", recogniser))
        cells += [(key, f"{names[key].method}  {figures[key]}") for key in present]
        # In several columns a group must not break in two, so all groups are equally long.
        if len(groups) > _STACKED:
            cells += [("", "")] * (len(methods) - len(present))
    if len(groups) > _STACKED:
        columns = -(-len(groups) // _STACKED)
        rows = -(-len(groups) // columns)
        cells += [("", "")] * ((columns * rows - len(groups)) * (len(methods) + 1))
    return cells


def _sample(style: Mapping[str, Any], line: Line2D) -> Line2D:
    """A curve's line with its marker, for the legend: lines alone repeat after six recognisers."""
    from matplotlib.lines import Line2D

    return Line2D(
        [],
        [],
        color=style["color"],
        linestyle=style["linestyle"],
        linewidth=line.get_linewidth(),
        marker=style["marker"],
        markersize=5,
        markeredgecolor="white",
        markeredgewidth=0.8,
    )


def _nothing() -> Line2D:
    """A line that draws nothing, for the empty cells of a legend."""
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="none")
