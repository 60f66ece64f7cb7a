"""DET curves: false non-match rate over false match rate on normal-deviate axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from maskfix.base import DoubleArray
from maskfix.metrics import OperatingPoint, RocCurve, eer
from maskfix.plot.grouped import ComputedCurves, CurveName, CurvesDisplay, curve_styles, mark_points
from maskfix.plot.style import FAINT, INK, percent
from maskfix.plot.thinning import thin_det

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOWEST_RATE = 1e-6
TICKS = (1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999)
_HALF, _HIGHEST, _HIGHEST_LOW = 0.5, 0.9995, 0.02
_ALMOST_ONE = 1 - 1e-9

Window = tuple[tuple[float, float], tuple[float, float]]
"""Smallest and largest rate on the axis of FMR and on that of FNMR."""


class DetDisplay(CurvesDisplay):
    """DET curves of several methods: comparison errors after ISO/IEC 19795-1, both on normal-deviate (probit) axes.

    Scores that are normal in both classes give straight lines; lower is better. scikit-learn's `DetCurveDisplay` ends
    at three standard deviations (FMR 0.135%); these axes go down to 1e-6 or 1 / number of pairs. The curves are steps,
    as the data are: at each FMR the smallest FNMR that some threshold reaches without passing it.

    Args:
        curves: Exact ROC curve of each method, in the order of the legend, or points of it
            (`thinning.thinned_curve`); FMR is its FPR, FNMR is 1 - TPR.
        eers: Equal error rate of each method, in [0, 1].
        floors: Smallest resolvable FMR of each method: 1 / number of impostor pairs.
        points: Operating points to mark, for each method; none where empty.
        rates: The false match rates asked for, drawn as thin upright lines.
        names: Recogniser and method of each curve; None where the curves' names are methods of one recogniser.

    Attributes:
        ax_: The matplotlib axes, after `plot`. Its data are rates, the axes' scale makes them normal deviates.
        figure_: The matplotlib figure, after `plot`.
        lines_: The curve of each method, after `plot`.
        line_: The curve of the first method, after `plot`.

    Example:
        >>> scores, same = np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, True, False, False])
        >>> display = DetDisplay.from_scores({"clean": (scores, same)})
        >>> display.eers, display.floors
        ({'clean': 0.0}, {'clean': 0.5})
    """

    kind = "DET"

    def __init__(
        self,
        *,
        curves: Mapping[str, RocCurve],
        eers: Mapping[str, float],
        floors: Mapping[str, float],
        points: Mapping[str, Sequence[OperatingPoint]] | None = None,
        rates: Sequence[float] = (),
        names: Mapping[str, CurveName] | None = None,
    ) -> None:
        super().__init__(curves, floors, points, rates, names)
        self.eers = dict(eers)

    @staticmethod
    def _figure(genuine: ArrayLike, impostor: ArrayLike) -> float:
        return eer(genuine, impostor)

    @classmethod
    def _from_computed(cls, made: ComputedCurves, rates: Sequence[float]) -> Self:
        return cls(
            curves=made.curves,
            eers=made.figures,
            floors=made.floors,
            points=made.points,
            rates=rates,
            names=made.names,
        )

    def plot(self, ax: Any = None, *, title: str = "Face verification DET") -> Self:
        """Draw the curves.

        Args:
            ax: Matplotlib axes to draw on; a new figure when None.
            title: Title of the axes.

        Returns:
            Self.
        """
        ax = self._begin(ax, 5.6)
        data = {
            name: thin_det(curve, max(self.floors[name], LOWEST_RATE), self.rates)
            for name, curve in self.curves.items()
        }
        window = _window(list(data.values()))
        (left, right), (low, high) = window
        _probit_axes(ax, window)
        self.lines_ = {}
        for name, style in curve_styles(self.names).items():
            fmr, fnmr = data[name]
            # No error at all has no place on the axes: the line leaves them downwards.
            shown = np.where(fnmr > 0, fnmr, low / 10).clip(max=_ALMOST_ONE)
            look = {"color": style["color"], "linestyle": style["linestyle"]}
            (line,) = ax.plot(fmr.clip(max=_ALMOST_ONE), shown, drawstyle="steps-post", linewidth=1.8, zorder=3, **look)
            self.lines_[name] = line
            # As the line has it: below the axes' end stands what is on it.
            marks = [
                (max(point.fpr, LOWEST_RATE) if point.fpr > 0 else point.fpr, 1 - point.tpr)
                for point in self.points.get(name, ())
            ]
            mark_points(ax, [(x, y) for x, y in marks if left <= x <= right and low <= y <= high], style)
        for rate in self.rates:
            if left <= rate <= right:
                ax.axvline(rate, color=FAINT, linewidth=1.0, zorder=1)
        equal = np.geomspace(max(left, low), min(right, high), 200)
        ax.plot(equal, equal, color=FAINT, linewidth=1.0, zorder=1, label="_nolegend_")
        ax.set_xlabel("False match rate (FMR)", color=INK)
        ax.set_ylabel("False non-match rate (FNMR)", color=INK)
        self._name(title, self.eers, heading="EER", corner="upper right")
        return self


def _window(curves: Sequence[tuple[DoubleArray, DoubleArray]]) -> Window:
    """The part of both axes that holds all curves: down to the smallest rate above 0, FMR and FNMR up to one half.

    FNMR is shown higher where a curve begins higher, at its smallest FMR.
    """
    left = min(float(fmr[0]) for fmr, _ in curves)
    seen = [fnmr[(fmr <= _HALF) & (fnmr > 0)] for fmr, fnmr in curves]
    low = min((float(fnmr.min()) for fnmr in seen if len(fnmr)), default=_HIGHEST_LOW)
    high = max((float(fnmr.max()) for fnmr in seen if len(fnmr)), default=_HALF)
    bottom = max(min(low, _HIGHEST_LOW), LOWEST_RATE)
    return (min(left, _HIGHEST_LOW), _HALF), (bottom, min(max(high, _HALF), _HIGHEST))


def _probit_axes(ax: Axes, window: Window) -> None:
    """Give both axes the scale of normal deviates, with ticks at round rates."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator
    from scipy.special import ndtr, ndtri

    # Limits first: the scale of normal deviates has no place for 0 and 1, where fresh axes begin and end.
    ax.set_xlim(window[0])
    ax.set_ylim(window[1])
    ax.set_xscale("function", functions=(ndtri, ndtr))
    ax.set_yscale("function", functions=(ndtri, ndtr))
    for axis, (low, high) in zip((ax.xaxis, ax.yaxis), window, strict=True):
        ticks = [tick for tick in TICKS if low <= tick * (1 + 1e-9) and tick <= high * (1 + 1e-9)]
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(FixedFormatter([percent(tick) for tick in ticks]))
        axis.set_minor_locator(NullLocator())
    ax.grid(visible=True, color="#E8E8E8", linewidth=0.8)
