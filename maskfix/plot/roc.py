"""ROC curves with a logarithmic false match rate, several methods and recognisers in one figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import ArrayLike

from maskfix.metrics import OperatingPoint, RocCurve, auc
from maskfix.plot.grouped import ComputedCurves, CurveName, CurvesDisplay, curve_styles, mark_points
from maskfix.plot.style import FAINT, INK, percent, power_of_ten
from maskfix.plot.thinning import POINTS_PER_DECADE, thin

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LOWEST_FPR", "POINTS_PER_DECADE", "RocDisplay", "thin"]

LOWEST_FPR = 1e-6
"""Where the axis begins at the lowest, however many impostor pairs there are."""


class RocDisplay(CurvesDisplay):
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

    kind = "ROC"

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
        super().__init__(curves, floors, points, rates, names)
        self.areas = dict(areas)

    @staticmethod
    def _figure(genuine: ArrayLike, impostor: ArrayLike) -> float:
        return auc(genuine, impostor)

    @classmethod
    def _from_computed(cls, made: ComputedCurves, rates: Sequence[float]) -> Self:
        return cls(
            curves=made.curves,
            areas=made.figures,
            floors=made.floors,
            points=made.points,
            rates=rates,
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
        ax = self._begin(ax, 4.8)
        floor = max(min(self.floors.values()), LOWEST_FPR)
        lowest, self.lines_ = 1.0, {}
        for name, style in curve_styles(self.names).items():
            fpr, tpr = thin(self.curves[name], max(self.floors[name], LOWEST_FPR), self.rates)
            look = {"color": style["color"], "linestyle": style["linestyle"]}
            (line,) = ax.plot(fpr, tpr, drawstyle="steps-post", linewidth=1.8, zorder=3, **look)
            self.lines_[name] = line
            lowest = min(lowest, float(tpr[0]))
            # Points without a false match have no place on a logarithmic axis; those below its end stand on it.
            marks = [(max(point.fpr, LOWEST_FPR), point.tpr) for point in self.points.get(name, ()) if point.fpr > 0]
            mark_points(ax, marks, style, clip_on=False)
        for rate in self.rates:
            if rate >= floor:
                ax.axvline(rate, color=FAINT, linewidth=1.0, zorder=1)
        _label_axes(ax, floor, lowest)
        self._name(title, self.areas, heading="AUC", corner="lower right")
        return self


def _label_axes(ax: Axes, floor: float, lowest: float) -> None:
    """Scales, ticks and labels."""
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
