"""Histograms of genuine and impostor scores, one row a method on a common axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from maskfix.base import DoubleArray, InputError
from maskfix.metrics import split_scores
from maskfix.plot.style import GENUINE_COLOUR, IMPOSTOR_COLOUR, INK, Display, new_figure, percent, plain_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class ScoreHistogramDisplay(Display):
    """Where genuine and impostor scores lie under each method.

    Both classes are shares of their own pairs, so a class with more pairs does not look larger; failed pairs (-inf)
    have no place on the axis and are written beside the method's name instead.

    Args:
        edges: Edges of the bins, `(B + 1,)`, common to all methods.
        genuine: Share of the genuine pairs in each bin, `(B,)`, for each method. The rest of the sum to 1 failed.
        impostor: Share of the impostor pairs in each bin, `(B,)`, for each method.
        failures: Failed pairs of each method.
        threshold: Score at which pairs are accepted, drawn as an upright line; none when None.

    Attributes:
        axes_: The matplotlib axes, one a method, after `plot`.
        ax_: The first of them, after `plot`.
        figure_: The matplotlib figure, after `plot`.

    Example:
        >>> scores, same = np.array([0.9, 0.8, 0.1, -np.inf]), np.array([True, True, False, False])
        >>> display = ScoreHistogramDisplay.from_scores({"masked": (scores, same)}, bins=2)
        >>> display.genuine, display.impostor, display.failures
        ({'masked': array([0., 1.])}, {'masked': array([0.5, 0. ])}, {'masked': 1})
    """

    axes_: tuple[Axes, ...]
    ax_: Axes

    def __init__(
        self,
        *,
        edges: DoubleArray,
        genuine: Mapping[str, DoubleArray],
        impostor: Mapping[str, DoubleArray],
        failures: Mapping[str, int],
        threshold: float | None = None,
    ) -> None:
        if not genuine:
            raise InputError("score histogram: expected at least one method, got none")
        self.edges = edges
        self.genuine = dict(genuine)
        self.impostor = dict(impostor)
        self.failures = dict(failures)
        self.threshold = threshold

    @classmethod
    def from_scores(
        cls,
        methods: Mapping[str, tuple[ArrayLike, ArrayLike]],
        *,
        bins: int = 80,
        threshold: float | None = None,
    ) -> Self:
        """Count scores into bins that span the finite scores of all methods.

        Args:
            methods: Scores `(P,)` and flags of genuine pairs `(P,)` bool of each method.
            bins: Number of bins, at least 1.
            threshold: Score to draw as an upright line.

        Raises:
            InputError: If there is no method, no finite score, or scores and flags are not as `metrics.split_scores`
                wants them.
        """
        classes = {name: split_scores(scores, same) for name, (scores, same) in methods.items()}
        pooled = [side[np.isfinite(side)] for sides in classes.values() for side in sides]
        finite = np.concatenate(pooled) if pooled else np.zeros(0)
        if not len(finite) or bins < 1:
            raise InputError(
                f"score histogram: expected finite scores and bins >= 1, got {len(finite)} scores, {bins} bins"
            )
        edges = np.histogram_bin_edges(finite.astype(np.float64), bins=bins)
        shares = {
            name: [np.histogram(side[np.isfinite(side)], edges)[0] / len(side) for side in sides]
            for name, sides in classes.items()
        }
        return cls(
            edges=edges,
            genuine={name: sides[0] for name, sides in shares.items()},
            impostor={name: sides[1] for name, sides in shares.items()},
            failures={name: int(sum(np.isneginf(side).sum() for side in sides)) for name, sides in classes.items()},
            threshold=threshold,
        )

    def plot(
        self, ax: Axes | Sequence[Axes] | None = None, *, title: str = "Scores of genuine and impostor pairs"
    ) -> Self:
        """Draw one histogram a method, below each other.

        Args:
            ax: Matplotlib axes to draw on, as many as there are methods (or one alone for one method); a new figure
                when None.
            title: Title above the first axes.

        Returns:
            Self.

        Raises:
            InputError: If there are not as many axes as methods.
        """
        count = len(self.genuine)
        if ax is None:
            figure = new_figure(6.4, 1.4 + 1.5 * count)
            ax = list(figure.subplots(count, 1, sharex=True, sharey=True, squeeze=False)[:, 0])
        axes = tuple(np.atleast_1d(np.asarray(ax, dtype=object)))
        if len(axes) != count:
            raise InputError(f"ax: expected {count} axes, one a method, got {len(axes)}")
        self.axes_, self.ax_, self.figure_ = axes, axes[0], axes[0].figure
        for current, name in zip(axes, self.genuine, strict=True):
            self._draw(current, name)
        # The legend lies between title and axes, where it covers no bar; placed in points, it fits axes of any size.
        axes[0].set_title(title, color=INK, fontsize=12, loc="left", pad=28)
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "ncols": 3}
        axes[0].legend(frameon=False, fontsize=9.5, **place)
        axes[-1].set_xlabel("Score (cosine similarity)", color=INK)
        return self

    def _draw(self, ax: Any, name: str) -> None:
        """Draw one method."""
        from matplotlib.ticker import FuncFormatter

        plain_axes(ax)
        ax.set_ylabel("Share of pairs", color=INK)
        ax.yaxis.set_major_formatter(FuncFormatter(percent))
        ax.grid(visible=True, axis="y", color="#E8E8E8", linewidth=0.8)
        for label, shares, colour, hatch in (
            ("impostor", self.impostor[name], IMPOSTOR_COLOUR, "////"),
            ("genuine", self.genuine[name], GENUINE_COLOUR, None),
        ):
            ax.stairs(shares, self.edges, fill=True, facecolor=colour, alpha=0.35, hatch=hatch, edgecolor=colour, lw=0)
            ax.stairs(shares, self.edges, color=colour, linewidth=1.5, label=label)
        if self.threshold is not None:
            ax.axvline(
                self.threshold, color=INK, linewidth=1.2, linestyle="--", label=f"threshold {self.threshold:.3f}"
            )
        failed = self.failures[name]
        note = f"{name}\n{failed} failed pair{'s' if failed != 1 else ''}" if failed else name
        ax.text(0.012, 0.95, note, transform=ax.transAxes, va="top", fontsize=10, color=INK, linespacing=1.4)
