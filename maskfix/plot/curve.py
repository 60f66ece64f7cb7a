"""Figures of trained networks over the weight of one loss term, as in the paper's figure 9."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from maskfix.base import InputError
from maskfix.metrics import Interval
from maskfix.plot.style import FAINT, INK, METHOD_COLOURS, OTHER_COLOURS, Display, new_figure, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Panel = Mapping[str, Sequence[Interval]]
_COLOURS = (METHOD_COLOURS["completed"], METHOD_COLOURS["masked"], *OTHER_COLOURS)
_MARKERS = "osD^v"


class WeightCurveDisplay(Display):
    """Figures over a loss weight, a panel each, with their intervals; weights stand evenly spaced, 0 among them.

    Args:
        weights: W different weights; drawn in rising order.
        panels: For each panel, by its label: curves by name, W intervals each in the order of `weights`.
        marked: Weight to mark with an upright line: the one in use.

    Attributes:
        axes_: The matplotlib axes, one a panel, after `plot`.
        ax_: The first of them, after `plot`.
        figure_: The matplotlib figure, after `plot`.

    Example:
        >>> display = WeightCurveDisplay(weights=[0.1, 0], panels={"PSNR (dB)": {"": [Interval(25, 24, 26)] * 2}})
        >>> display.weights
        (0, 0.1)
    """

    axes_: tuple[Axes, ...]
    ax_: Axes

    def __init__(self, *, weights: Sequence[float], panels: Mapping[str, Panel], marked: float | None = None) -> None:
        if not weights or len(set(weights)) < len(weights) or not panels:
            raise InputError(f"weight curve: expected panels and different weights, got {len(panels)} and {weights}")
        if wrong := [label for label, panel in panels.items() if {len(c) for c in panel.values()} != {len(weights)}]:
            raise InputError(f"weight curve: expected {len(weights)} values a curve, {wrong[0]!r} has others")
        order = np.argsort(weights)
        self.weights = tuple(weights[place] for place in order)
        self.panels = {
            label: {name: [curve[place] for place in order] for name, curve in panel.items()}
            for label, panel in panels.items()
        }
        self.marked = marked

    def plot(self, ax: Any = None, *, title: str = "", xlabel: str = "Weight of the correspondence loss") -> Self:
        """Draw the panels side by side.

        Args:
            ax: Matplotlib axes to draw on, as many as there are panels (or one alone for one panel); a new figure when
                None.
            title: Title above the first axes.
            xlabel: What the weights are weights of.

        Returns:
            Self.

        Raises:
            InputError: If there are not as many axes as panels.
        """
        count = len(self.panels)
        if ax is None:
            ax = new_figure(4.2 * count, 3.4).subplots(1, count, squeeze=False)[0]
        axes = tuple(np.atleast_1d(np.asarray(ax, dtype=object)))
        if len(axes) != count:
            raise InputError(f"ax: expected {count} axes, one a panel, got {len(axes)}")
        self.axes_, self.ax_, self.figure_ = axes, axes[0], axes[0].figure
        for current, (label, panel) in zip(axes, self.panels.items(), strict=True):
            self._draw(current, label, panel)
            current.set_xlabel(xlabel, color=INK)
        axes[0].set_title(title, color=INK, fontsize=12, loc="left", pad=10).set_parse_math(False)
        return self

    def _draw(self, ax: Axes, label: str, panel: Panel) -> None:
        """Draw one panel."""
        plain_axes(ax)
        ax.grid(visible=True, axis="y", color="#E8E8E8", linewidth=0.8)
        places = np.arange(len(self.weights))
        if self.marked in self.weights:
            ax.axvline(self.weights.index(self.marked), color=FAINT, linewidth=1.0, zorder=1)
        for turn, (name, curve) in enumerate(panel.items()):
            value, low, high = np.array(curve, np.float64).T
            # Curves of one panel stand a little apart, so that their intervals do not hide each other.
            ax.errorbar(
                places + 0.08 * (turn - (len(panel) - 1) / 2),
                value,
                yerr=[value - low, high - value],
                color=_COLOURS[turn % len(_COLOURS)],
                marker=_MARKERS[turn % len(_MARKERS)],
                markersize=5,
                linewidth=1.6,
                elinewidth=1.0,
                capsize=2.5,
                label=name or "_nolegend_",
                zorder=3,
            )
        ax.set_xticks(places, [f"{weight:g}" for weight in self.weights])
        ax.set_ylabel(label, color=INK)
        if any(panel):
            ax.legend(frameon=False, fontsize=9)
