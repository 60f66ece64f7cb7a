"""Histograms of genuine and impostor scores, one row a method on a common axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskfix.base import DoubleArray, InputError
from maskfix.metrics import operating_points, split_scores
from maskfix.metrics.verification import Scores
from maskfix.plot.style import (
    GENUINE_COLOUR,
    IMPOSTOR_COLOUR,
    INK,
    Display,
    as_written,
    new_figure,
    percent,
    plain_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLOCK = 2**20
"""Scores binned at a time, so that float32 scores are never copied to float64 as a whole."""

_THRESHOLD_LINES = ("--", ":", "-.", (0, (6, 1, 1, 1, 1, 1)))


class ScoreHistogramDisplay(Display):
    """Where genuine and impostor scores lie under each method.

    Both classes are shares of their own pairs, so a class with more pairs does not look larger; failed pairs (-inf)
    have no place on the axis and are written beside the method's name instead. Only counts are kept, so 15 million
    scores draw as fast as a thousand.

    Args:
        edges: Edges of the bins, `(B + 1,)`, common to all methods.
        genuine: Share of the genuine pairs in each bin, `(B,)`, for each method. The rest of the sum to 1 failed.
        impostor: Share of the impostor pairs in each bin, `(B,)`, for each method.
        failures: Failed pairs of each method.
        threshold: Score at which pairs are accepted, drawn as an upright line; none when None.
        thresholds: More of them, by what each stands for, such as "clean FMR 1%".

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
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        if not genuine:
            raise InputError("score histogram: expected at least one method, got none")
        self.edges = edges
        self.genuine = dict(genuine)
        self.impostor = dict(impostor)
        self.failures = dict(failures)
        self.threshold = threshold
        self.thresholds = dict(thresholds or {})

    @classmethod
    def from_scores(
        cls,
        methods: Mapping[str, tuple[ArrayLike, ArrayLike]],
        *,
        bins: int = 80,
        threshold: float | None = None,
        fprs: Sequence[float] = (),
    ) -> Self:
        """Count scores into bins that span the finite scores of all methods.

        Args:
            methods: Scores `(P,)` and flags of genuine pairs `(P,)` bool of each method.
            bins: Number of bins, at least 1.
            threshold: Score to draw as an upright line.
            fprs: False match rates, each in (0, 1]; the first method's thresholds at them are drawn in all rows, since
                a threshold is fixed on clean faces and then kept.

        Raises:
            InputError: If there is no method, no finite score, or scores and flags are not as `metrics.split_scores`
                wants them.
        """
        ends = [_finite_ends(scores) for scores, _ in methods.values()]
        low, high = min((end[0] for end in ends), default=np.inf), max((end[1] for end in ends), default=-np.inf)
        if low > high or bins < 1:
            count = sum(int(np.isfinite(scores).sum()) for scores, _ in methods.values())
            raise InputError(f"score histogram: expected finite scores and bins >= 1, got {count} scores, {bins} bins")
        edges = np.histogram_bin_edges(np.array([low, high]), bins=bins)
        shares: dict[str, list[DoubleArray]] = {}
        failures: dict[str, int] = {}
        thresholds: dict[str, float] = {}
        for name, (scores, same) in methods.items():
            sides = split_scores(scores, same)
            if fprs and not shares:
                points = zip(fprs, operating_points(*sides, fprs), strict=True)
                thresholds = {f"{name} FMR {percent(fpr)}": point.threshold for fpr, point in points}
            shares[name] = [_counts(side, edges) / len(side) for side in sides]
            failures[name] = sum(int(np.isneginf(side).sum()) for side in sides)
        return cls(
            edges=edges,
            genuine={name: sides[0] for name, sides in shares.items()},
            impostor={name: sides[1] for name, sides in shares.items()},
            failures=failures,
            threshold=threshold,
            thresholds={name: value for name, value in thresholds.items() if np.isfinite(value)},
        )

    def plot(
        self,
        ax: Axes | Sequence[Axes] | None = None,
        *,
        title: str = "Scores of genuine and impostor pairs",
        log: bool = False,
    ) -> Self:
        """Draw one histogram a method, below each other.

        Args:
            ax: Matplotlib axes to draw on, as many as there are methods (or one alone for one method); a new figure
                when None.
            title: Title above the first axes.
            log: Draw shares on a logarithmic axis, where the tail of millions of impostor pairs can be seen.

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
            if log:
                current.set_yscale("log")
        # The legend lies between title and axes, where it covers no bar; placed in points, it fits axes of any size.
        # Named thresholds are long: two columns, the classes in the first.
        columns = 2 if self.thresholds else 3
        rows = -(-self._entries // columns)
        axes[0].set_title(title, color=INK, fontsize=12, loc="left", pad=10 + 18 * rows).set_parse_math(False)
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "ncols": columns}
        as_written(axes[0].legend(frameon=False, fontsize=9.5, **place))
        axes[-1].set_xlabel("Score (cosine similarity)", color=INK)
        return self

    @property
    def _entries(self) -> int:
        """Entries of the legend."""
        return 2 + (self.threshold is not None) + len(self.thresholds)

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
        lines = {"": self.threshold} if self.threshold is not None else {}
        for turn, (label, score) in enumerate({**lines, **self.thresholds}.items()):
            style = _THRESHOLD_LINES[turn % len(_THRESHOLD_LINES)]
            text = f"threshold {score:.3f}" + (f" ({label})" if label else "")
            ax.axvline(score, color=INK, linewidth=1.2, linestyle=style, label=text)
        failed = self.failures[name]
        note = f"{name}\n{failed} failed pair{'s' if failed != 1 else ''}" if failed else name
        look = {"va": "top", "fontsize": 10, "color": INK, "linespacing": 1.4}
        ax.text(0.012, 0.95, note, transform=ax.transAxes, parse_math=False, **look)


def _finite_ends(scores: ArrayLike) -> tuple[float, float]:
    """Smallest and largest finite score; (inf, -inf) where there is none."""
    values = np.asarray(scores)
    finite = np.isfinite(values)
    low = float(np.min(values, where=finite, initial=np.inf))
    return low, float(np.max(values, where=finite, initial=-np.inf))


def _counts(scores: Scores, edges: DoubleArray) -> NDArray[np.int64]:
    """Scores in each bin of equal width; -inf and +inf are in none."""
    counts = np.zeros(len(edges) - 1, dtype=np.int64)
    ends = (float(edges[0]), float(edges[-1]))
    for start in range(0, len(scores), _BLOCK):
        block = scores[start : start + _BLOCK].astype(np.float64)
        counts += np.histogram(block, bins=len(counts), range=ends)[0]
    return counts
