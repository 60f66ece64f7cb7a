"""ROC curves with a logarithmic false match rate, several methods and recognisers in one figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from maskfix.base import InputError
from maskfix.metrics import OperatingPoint, RocCurve, auc
from maskfix.plot.grouped import CurveName, Pairs, compute_curves, curve_styles, draw_legend, figure_width, mark_points
from maskfix.plot.style import FAINT, INK, Display, new_figure, percent, plain_axes, power_of_ten
from maskfix.plot.thinning import POINTS_PER_DECADE, thin

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

__all__ = ["LOWEST_FPR", "POINTS_PER_DECADE", "RocDisplay", "thin"]

LOWEST_FPR = 1e-6
"""Where the axis begins at the lowest, however many impostor pairs there are."""


class RocDisplay(Display):
    """ROC curves of several methods: true match rate over false match rate, the latter on a logarithmic axis.

    The curves are steps, as the data are: at each FPR the largest TPR that some threshold reaches without passing it,
    so a marked operating point lies on its curve. They begin at 1 / number of impostor pairs, the smallest rate that
    the data can resolve, or at 1e-6, and are thinned to 200 points a decade, which the eye cannot tell from all of
    them. Of more than 50,000 pairs only these points are ever computed.

    Args:
        curves: Exact curve of each method, in the order of the legend, or points of it (`thinning.thinned_curve`).
        areas: AUC of each method, in [0, 1].
        floors: Smallest resolvable FPR of each method: 1 / number of impostor pairs.
        points: Operating points to mark, for each method; none where empty.
        rates: The false positive rates asked for, drawn as thin upright lines.
        names: Recogniser and method of each curve; None where the curves' names are methods of one recogniser.

    Attributes:
        ax_: The matplotlib axes, after `plot`.
        figure_: The matplotlib figure, after `plot`.
        lines_: The curve of each method, after `plot`.
        line_: The curve of the first method, after `plot`.

    Example:
        >>> import numpy as np
        >>> scores, same = np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, True, False, False])
        >>> display = RocDisplay.from_scores({"clean": (scores, same)})
        >>> display.areas, display.floors
        ({'clean': 1.0}, {'clean': 0.5})
    """

    ax_: Axes
    lines_: dict[str, Line2D]
    line_: Line2D

    def __init__(
        self,
        *,
        curves: Mapping[str, RocCurve],
        areas: Mapping[str, float],
        floors: Mapping[str, float],
        points: Mapping[str, Sequence[OperatingPoint]] | None = None,
        rates: Sequence[float] = (),
        names: Mapping[str, CurveName] | None = None,
    ) -> None:
        if not curves:
            raise InputError("ROC: expected at least one method, got none")
        self.curves = dict(curves)
        self.areas = dict(areas)
        self.floors = dict(floors)
        self.points = {name: tuple(marks) for name, marks in (points or {}).items()}
        self.rates = tuple(rates)
        self.names = dict(names) if names else {name: CurveName("", name) for name in self.curves}

    @classmethod
    def from_scores(cls, methods: Mapping[str, Pairs], *, fprs: Sequence[float] = (0.01, 0.001)) -> Self:
        """Compute curves, areas and operating points of one recogniser.

        Args:
            methods: Scores `(P,)` and flags of genuine pairs `(P,)` bool of each method. "clean", "masked" and
                "completed" have colours of their own.
            fprs: False positive rates to mark, each in (0, 1]; none for no marks.

        Raises:
            InputError: If there is no method, or scores and flags are not as `metrics.split_scores` wants them.
        """
        return cls.from_recognisers({"": methods}, fprs=fprs)

    @classmethod
    def from_recognisers(
        cls, recognisers: Mapping[str, Mapping[str, Pairs]], *, fprs: Sequence[float] = (0.01, 0.001)
    ) -> Self:
        """Compute curves, areas and operating points of several recognisers, to lie over each other.

        The colour of a curve is its method's, its line its recogniser's. Curves are named "recogniser: method".

        Args:
            recognisers: For each recogniser what `from_scores` takes; methods may be missing from some.
            fprs: False positive rates to mark, each in (0, 1]; none for no marks.

        Raises:
            InputError: If there is no method, or scores and flags are not as `metrics.split_scores` wants them.

        Example:
            >>> pairs = ([0.9, 0.1], [True, False])
            >>> list(RocDisplay.from_recognisers({"a": {"clean": pairs}, "b": {"clean": pairs}}).curves)
            ['a: clean', 'b: clean']
        """
        made = compute_curves(recognisers, fprs, auc)
        return cls(
            curves=made.curves,
            areas=made.figures,
            floors=made.floors,
            points=made.points,
            rates=fprs,
            names=made.names,
        )

    def plot(self, ax: Any = None, *, title: str = "Face verification ROC") -> Self:
        """Draw the curves.

        Args:
            ax: Matplotlib axes to draw on; a new figure when None.
            title: Title of the axes.

        Returns:
            Self.
        """
        if ax is None:
            ax = new_figure(figure_width(6.4, self.names), 4.8).subplots()
        self.ax_, self.figure_ = ax, ax.figure
        floor = max(min(self.floors.values()), LOWEST_FPR)
        plain_axes(ax)
        lowest, self.lines_ = 1.0, {}
        for name, style in curve_styles(self.names).items():
            fpr, tpr = thin(self.curves[name], max(self.floors[name], LOWEST_FPR), self.rates)
            look = {"color": style["color"], "linestyle": style["linestyle"]}
            (line,) = ax.plot(fpr, tpr, drawstyle="steps-post", linewidth=1.8, zorder=3, **look)
            self.lines_[name] = line
            lowest = min(lowest, float(tpr[0]))
            # Points without a false match have no place on a logarithmic axis.
            marks = [(point.fpr, point.tpr) for point in self.points.get(name, ()) if point.fpr > 0]
            mark_points(ax, marks, style, clip_on=False)
        self.line_ = next(iter(self.lines_.values()))
        for rate in self.rates:
            if rate >= floor:
                ax.axvline(rate, color=FAINT, linewidth=1.0, zorder=1)
        self._label_axes(ax, floor, lowest, title)
        return self

    def _label_axes(self, ax: Axes, floor: float, lowest: float, title: str) -> None:
        """Scales, ticks, labels and legend."""
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        ax.set_xscale("log")
        ax.set_xlim(min(floor, 0.1), 1.0)
        ax.set_ylim(max(0.0, math.floor(lowest * 10 - 0.5) / 10), 1.005)
        ax.xaxis.set_major_locator(LogLocator(base=10, numticks=12))
        # Zeros cannot be counted at a glance below 0.01%.
        ax.xaxis.set_major_formatter(FuncFormatter(percent if floor >= 1e-5 else power_of_ten))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_formatter(FuncFormatter(percent))
        ax.grid(visible=True, axis="y", color="#E8E8E8", linewidth=0.8)
        ax.set_xlabel("False match rate (FPR)", color=INK)
        ax.set_ylabel("True match rate (TPR)", color=INK)
        ax.set_title(title, color=INK, fontsize=12, loc="left", pad=10)
        areas = {name: f"{area * 100:.2f}%" for name, area in self.areas.items()}
        draw_legend(ax, self.names, self.lines_, areas, heading="AUC", corner="lower right")
