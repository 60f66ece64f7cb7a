"""ROC curves with a logarithmic false match rate, several methods in one figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskfix.base import InputError
from maskfix.metrics import OperatingPoint, RocCurve, auc, operating_points, roc_curve, split_scores
from maskfix.plot.style import FAINT, INK, Display, method_styles, new_figure, percent, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

POINTS_PER_DECADE = 200


class RocDisplay(Display):
    """ROC curves of several methods: true match rate over false match rate, the latter on a logarithmic axis.

    The curves are steps, as the data are: at each FPR the largest TPR that some threshold reaches without passing it,
    so a marked operating point lies on its curve. They begin at 1 / number of impostor pairs, the smallest rate that
    the data can resolve, and are thinned to 200 points a decade, which the eye cannot tell from all of them.

    Args:
        curves: Exact curve of each method, in the order of the legend.
        areas: AUC of each method, in [0, 1].
        floors: Smallest resolvable FPR of each method: 1 / number of impostor pairs.
        points: Operating points to mark, for each method; none where empty.
        rates: The false positive rates asked for, drawn as thin upright lines.

    Attributes:
        ax_: The matplotlib axes, after `plot`.
        figure_: The matplotlib figure, after `plot`.
        lines_: The curve of each method, after `plot`.
        line_: The curve of the first method, after `plot`.

    Example:
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
    ) -> None:
        if not curves:
            raise InputError("ROC: expected at least one method, got none")
        self.curves = dict(curves)
        self.areas = dict(areas)
        self.floors = dict(floors)
        self.points = {name: tuple(marks) for name, marks in (points or {}).items()}
        self.rates = tuple(rates)

    @classmethod
    def from_scores(
        cls, methods: Mapping[str, tuple[ArrayLike, ArrayLike]], *, fprs: Sequence[float] = (0.01, 0.001)
    ) -> Self:
        """Compute curves, areas and operating points.

        Args:
            methods: Scores `(P,)` and flags of genuine pairs `(P,)` bool of each method. "clean", "masked" and
                "completed" have colours of their own.
            fprs: False positive rates to mark, each in (0, 1]; none for no marks.

        Raises:
            InputError: If there is no method, or scores and flags are not as `metrics.split_scores` wants them.
        """
        classes = {name: split_scores(scores, same) for name, (scores, same) in methods.items()}
        return cls(
            curves={name: roc_curve(*sides) for name, sides in classes.items()},
            areas={name: auc(*sides) for name, sides in classes.items()},
            floors={name: 1 / len(impostor) for name, (_, impostor) in classes.items()},
            points={name: operating_points(*sides, fprs) for name, sides in classes.items()} if fprs else None,
            rates=fprs,
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
            ax = new_figure(6.4, 4.8).subplots()
        self.ax_, self.figure_ = ax, ax.figure
        floor = min(self.floors.values())
        plain_axes(ax)
        lowest, self.lines_ = 1.0, {}
        for name, style in method_styles(self.curves).items():
            fpr, tpr = thin(self.curves[name], self.floors[name])
            label = f"{name}  (AUC {self.areas[name] * 100:.2f}%)"
            (line,) = ax.plot(fpr, tpr, drawstyle="steps-post", linewidth=1.8, label=label, zorder=3, **style)
            self.lines_[name] = line
            lowest = min(lowest, float(tpr[0]))
            self._mark(ax, name, style["color"])
        self.line_ = next(iter(self.lines_.values()))
        for rate in self.rates:
            if rate >= floor:
                ax.axvline(rate, color=FAINT, linewidth=1.0, zorder=1)
        self._label_axes(ax, floor, lowest, title)
        return self

    def _mark(self, ax: Axes, name: str, colour: str) -> None:
        """Mark the operating points of one method; those without a false match have no place on a log axis."""
        marks = [(point.fpr, point.tpr) for point in self.points.get(name, ()) if point.fpr > 0]
        if marks:
            fpr, tpr = zip(*marks, strict=True)
            ax.plot(
                fpr,
                tpr,
                linestyle="none",
                marker="o",
                markersize=6.5,
                markerfacecolor=colour,
                markeredgecolor="white",
                markeredgewidth=1.2,
                label="_nolegend_",
                clip_on=False,
                zorder=4,
            )

    def _label_axes(self, ax: Axes, floor: float, lowest: float, title: str) -> None:
        """Scales, ticks, labels and legend."""
        from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

        ax.set_xscale("log")
        ax.set_xlim(min(floor, 0.1), 1.0)
        ax.set_ylim(max(0.0, math.floor(lowest * 10 - 0.5) / 10), 1.005)
        ax.xaxis.set_major_locator(LogLocator(base=10, numticks=12))
        ax.xaxis.set_major_formatter(FuncFormatter(percent))
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_formatter(FuncFormatter(percent))
        ax.grid(visible=True, axis="y", color="#E8E8E8", linewidth=0.8)
        ax.set_xlabel("False match rate (FPR)", color=INK)
        ax.set_ylabel("True match rate (TPR)", color=INK)
        ax.set_title(title, color=INK, fontsize=12, loc="left", pad=10)
        ax.legend(loc="lower right", frameon=True, framealpha=0.9, edgecolor="none", fontsize=9.5, handlelength=3.2)


def thin(curve: RocCurve, floor: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Thin a curve to at most 200 points a decade, from `floor` to 1.

    Args:
        curve: Exact curve.
        floor: Smallest FPR to keep, above 0.

    Returns:
        FPR and TPR: for each FPR of a logarithmic grid the point of the curve with the largest TPR at no larger FPR.
        The first FPR is `floor` itself and the last point is (1, 1).

    Raises:
        InputError: If `floor` is not in (0, 1].
    """
    if not 0 < floor <= 1:
        raise InputError(f"floor: expected a rate in (0, 1], got {floor}")
    decades = -math.log10(floor)
    grid = np.geomspace(floor, 1.0, 1 + math.ceil(decades * POINTS_PER_DECADE))
    # A hair's breadth up: the grid's ends are rounded, and must not fall below the curve's own 1/N.
    rows = np.unique(np.searchsorted(curve.fpr, grid * (1 + 1e-9), side="right") - 1)
    return np.maximum(curve.fpr[rows], floor), curve.tpr[rows]
