"""Both classes of scores sorted once, and every verification figure read off by binary search.

Nothing is built that is as long as the ROC curve: the 15.66 million float32 scores of IJB-C cost one sort in place and
63 MB beside the input. A higher score means more alike, and a pair is accepted iff its score is greater than the
threshold. A failed comparison has the score -inf and is accepted at no threshold.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskfix.base import BoolArray, DoubleArray, InputError, check_shape
from maskfix.metrics.guards import Scores, allowed_accepts, check_classes, split_scores

Counts = NDArray[np.int64]

_BLOCK = 1 << 12
_LARGEST_BLOCK = 1 << 18
"""Impostor scores looked at together in the search for a corner of the curve: few first, then more."""


class OperatingPoint(NamedTuple):
    """The true positive rate at a false positive rate, with what was really achieved.

    Attributes:
        tpr: Accepted share of the genuine pairs, in [0, 1].
        fpr: False positive rate achieved: at most the rate asked for; less where impostor scores are tied.
        threshold: Accept iff score > threshold.
        accepted: Number of impostor pairs accepted.
        resolvable: False where the rate asked for is below 1 / number of impostor pairs, so that `tpr` is the rate at
            no false accept at all.
        nearest: TPR by insightface's rule (the ROC point nearest to the rate asked for, which may lie above it), for
            comparison with published numbers only.
    """

    tpr: float
    fpr: float
    threshold: float
    accepted: int
    resolvable: bool
    nearest: float


class RocCurve(NamedTuple):
    """Points of an empirical ROC curve, from the strictest threshold to the loosest.

    Attributes:
        fpr: Accepted share of the impostor pairs at each threshold, `(T,)` float64, rising from 0 to 1.
        tpr: Accepted share of the genuine pairs, `(T,)` float64, rising from 0 to 1.
        thresholds: `(T,)`, falling: every distinct score (of a thinned curve, some), then -inf. The last point accepts
            everything, failed pairs too; it is there so that the area under the points is the AUC.
    """

    fpr: DoubleArray
    tpr: DoubleArray
    thresholds: DoubleArray


class DetCurve(NamedTuple):
    """Comparison errors at T thresholds.

    Attributes:
        fmr: False match rate: accepted share of the impostor pairs, `(T,)` float64.
        fnmr: False non-match rate: rejected share of the genuine pairs, `(T,)` float64.
        thresholds: Accept iff score > threshold, `(T,)` float64.
    """

    fmr: DoubleArray
    fnmr: DoubleArray
    thresholds: DoubleArray


class SortedScores(NamedTuple):
    """Scores of both classes in rising order; make it by `from_classes` or `from_pairs`, which check and sort.

    Attributes:
        genuine: Scores of genuine pairs, `(G,)`, rising.
        impostor: Scores of impostor pairs, `(I,)`, rising, of the same floating type.

    Example:
        >>> scores = SortedScores.from_pairs([0.9, 0.4, 0.4, 0.1], [True, False, True, False])
        >>> scores.auc(), scores.eer(), scores.operating_points([0.5])[0].tpr
        (0.875, 0.25, 1.0)
    """

    genuine: Scores
    impostor: Scores

    @classmethod
    def from_classes(cls, genuine: ArrayLike, impostor: ArrayLike) -> Self:
        """Sort scores that are split already; the arrays given are left alone.

        Args:
            genuine: Scores of genuine pairs, `(G,)`; -inf marks a failed pair.
            impostor: Scores of impostor pairs, `(I,)`.

        Raises:
            InputError: If a class is empty or a score is nan or +inf.
        """
        positive, negative = check_classes(genuine, impostor)
        return cls(np.sort(positive), np.sort(negative))

    @classmethod
    def from_pairs(cls, scores: ArrayLike, same: ArrayLike) -> Self:
        """Sort scores in pair order; one copy of them is made, and sorted in place.

        Args:
            scores: Score of each pair, `(P,)`; -inf marks a failed pair.
            same: True for genuine pairs, `(P,)` bool.

        Raises:
            InputError: As `split_scores`.
        """
        positive, negative = split_scores(scores, same)
        positive.sort()
        negative.sort()
        return cls(positive, negative)

    def auc(self) -> float:
        """Area under the ROC curve; see `maskfix.metrics.auc`."""
        positive, negative = self
        below = int(np.searchsorted(negative, positive, side="left").sum(dtype=np.int64))
        upto = int(np.searchsorted(negative, positive, side="right").sum(dtype=np.int64))
        return (below + upto) / (2 * len(positive) * len(negative))

    def operating_points(self, fprs: Sequence[float]) -> tuple[OperatingPoint, ...]:
        """One operating point for each false positive rate; see `maskfix.metrics.operating_points`.

        Raises:
            InputError: If a rate is outside (0, 1].
        """
        positive, negative = self
        points = []
        for fpr in fprs:
            budget = allowed_accepts(fpr, len(negative))
            # Kept in the type of the scores: for a Python float, searchsorted would make a float64 copy of them.
            threshold = negative[-1 - budget] if budget < len(negative) else negative.dtype.type(-np.inf)
            accepted = len(negative) - int(np.searchsorted(negative, threshold, side="right"))
            matched = len(positive) - int(np.searchsorted(positive, threshold, side="right"))
            points.append(
                OperatingPoint(
                    tpr=matched / len(positive),
                    fpr=accepted / len(negative),
                    threshold=float(threshold),
                    accepted=accepted,
                    resolvable=budget > 0,
                    nearest=self._nearest(fpr),
                )
            )
        return tuple(points)

    def eer(self) -> float:
        """Equal error rate; see `maskfix.metrics.eer`."""
        positive, negative = self
        # FMR - FNMR rises strictly as the threshold falls from one distinct score to the next: the best of them is the
        # first where it is not negative, or the one before.
        first = max(self._first_crossing(positive), self._first_crossing(negative))
        points = [(0, len(positive)), self._errors_from(first)]
        above = [side[np.searchsorted(side, first, side="right") :][:1] for side in self]
        stricter = np.concatenate(above)
        if len(stricter):
            points[0] = self._errors_from(stricter.min())
        alarms, misses = min(points, key=lambda point: abs(point[0] * len(positive) - point[1] * len(negative)))
        return (alarms / len(negative) + misses / len(positive)) / 2

    def rates_at(self, thresholds: ArrayLike) -> DetCurve:
        """Both error rates at thresholds fixed elsewhere, many at once (threshold transfer, protocols.md 3.3).

        Args:
            thresholds: `(T,)`, in any order.

        Returns:
            FMR and FNMR at each threshold, in the order given. A failed pair (-inf) is a false non-match if genuine,
            and never a false match.

        Raises:
            InputError: If there is not exactly one axis, or a threshold is nan.

        Example:
            >>> SortedScores.from_classes([0.9, 0.4], [0.5, 0.1, 0.1, 0.0]).rates_at([0.4, 0.0]).fmr
            array([0.25, 0.75])
        """
        cuts = np.asarray(thresholds, dtype=np.float64)
        check_shape("thresholds", cuts, (None,))
        if np.isnan(cuts).any():
            raise InputError("threshold: expected a number, got nan")
        positive, negative = self
        keys = round_down(cuts, negative.dtype)
        rejected = np.searchsorted(negative, keys, side="right")
        missed = np.searchsorted(positive, keys, side="right")
        return DetCurve((len(negative) - rejected) / len(negative), missed / len(positive), cuts)

    def thinned_curve(self, fprs: Sequence[float] = (), *, points_per_decade: int = 200) -> RocCurve:
        """Points of the exact ROC curve, picked evenly over the decades of FMR and of FNMR: enough for any figure.

        For every rate of a logarithmic grid from 1 / number of pairs to 1, the point with the least error of the other
        kind among all whose rate is at most that. No other point of the curve is ever built.

        Args:
            fprs: Rates in (0, 1] at which the curve must hold its exact point, by `metrics.tpr_at_fpr`'s rule.
            points_per_decade: Points for each factor of ten of either rate, at least 1.

        Returns:
            The curve, from (0, 0) to (1, 1); FMR is its FPR, FNMR is 1 - TPR. All points are `roc_curve`'s.

        Raises:
            InputError: If a rate is outside (0, 1] or `points_per_decade` is below 1.

        Example:
            >>> curve = SortedScores.from_classes([0.9, 0.4], [0.4, 0.1]).thinned_curve()
            >>> curve.fpr, curve.tpr, curve.thresholds
            (array([0. , 0. , 0.5, 1. ]), array([0. , 0.5, 1. , 1. ]), array([ 0.9,  0.4,  0.1, -inf]))
        """
        if points_per_decade < 1:
            raise InputError(f"points_per_decade: expected at least 1, got {points_per_decade}")
        positive, negative = self
        asked = [allowed_accepts(fpr, len(negative)) for fpr in fprs]
        accepts = np.append(_counts(len(negative), points_per_decade), np.array(asked, dtype=np.int64))
        misses = _counts(len(positive), points_per_decade)
        # The (k + 1)-th largest impostor score accepts at most k; the largest score below the (m + 1)-th smallest
        # genuine one rejects at most m.
        wanted = positive[misses[misses < len(positive)]]
        picked = [negative[-1 - accepts[accepts < len(negative)]], np.maximum(positive[-1:], negative[-1:])]
        for side in self:
            below = np.searchsorted(side, wanted, side="left")
            picked.append(side[below[below > 0] - 1])
        thresholds = np.unique(np.concatenate(picked))[::-1]
        hits, alarms = (len(side) - np.searchsorted(side, thresholds, side="right") for side in self)
        return RocCurve(
            np.append(alarms, len(negative)) / len(negative),
            np.append(hits, len(positive)) / len(positive),
            np.append(thresholds, -np.inf).astype(np.float64),
        )

    def _errors_from(self, score: Any) -> tuple[int, int]:
        """Impostor pairs accepted and genuine pairs rejected if exactly the pairs from `score` on are accepted."""
        positive, negative = self
        return len(negative) - int(np.searchsorted(negative, score)), int(np.searchsorted(positive, score))

    def _first_crossing(self, scores: Scores) -> Any:
        """The highest of `scores` from which on FMR >= FNMR."""
        positive, negative = self

        def excess(place: int) -> int:
            alarms, misses = self._errors_from(scores[-1 - place])
            return alarms * len(positive) - misses * len(negative)

        return scores[-1 - bisect_left(range(len(scores)), 0, key=excess)]

    def _nearest(self, fpr: float) -> float:
        """TPR by insightface's rule, from the corners of the curve on both sides of `fpr`.

        Of all points with an FPR of at most `fpr` the last corner counts, of those beyond it the first FPR, and there
        again the last corner; so only a neighbourhood of the curve is ever built.
        """
        positive, negative = self
        total = len(negative)
        within = bisect_left(range(1, total + 1), True, key=lambda alarms: alarms / total > fpr)
        start = total - within
        if start:
            start = int(np.searchsorted(negative, negative[start - 1], side="right"))
        hits, alarms = self._corner_within(start)
        if start:
            beyond = self._corner_beyond(start)
            if abs(beyond[1] / total - fpr) <= abs(alarms / total - fpr):
                hits = beyond[0]
        return hits / len(positive)

    def _corner_within(self, start: int) -> tuple[int, int]:
        """The last corner whose score is above the impostor at `start - 1`: genuine and impostor pairs accepted."""
        low, size = start, _BLOCK
        while True:
            high = min(low + size, len(self.impostor))
            if high > low:
                high = int(np.searchsorted(self.impostor, self.impostor[high - 1], side="right"))
            hits, alarms = self._corners(low, high, is_top=high == len(self.impostor))
            if len(hits):
                return int(hits[-1]), int(alarms[-1])
            low, size = high, min(4 * size, _LARGEST_BLOCK)

    def _corner_beyond(self, start: int) -> tuple[int, int]:
        """Of the corners from the impostor at `start - 1` down: the last of those that accept the fewest impostors."""
        high, size = start, _BLOCK
        while True:
            low = int(np.searchsorted(self.impostor, self.impostor[max(high - size, 0)], side="left"))
            hits, alarms = self._corners(low, high, is_top=False)
            if len(hits):
                return int(hits[alarms == alarms[0]][-1]), int(alarms[0])
            high, size = low, min(4 * size, _LARGEST_BLOCK)

    def _corners(self, low: int, high: int, *, is_top: bool) -> tuple[Counts, Counts]:
        """Genuine and impostor pairs accepted at the corners of a stretch of the ROC curve, loosening.

        A stretch belongs to the impostors from `low` to before `high`, which begin and end with a distinct score: it
        has their scores and the genuine ones between them and above the next lower impostor. The topmost stretch also
        has all genuine scores above the last impostor, and the point (0, 0).

        Corners are the points that scikit-learn's `roc_curve` keeps by default: all but those amid equal steps on a
        straight line, where the first point, (0, 0), takes no part.
        """
        positive, negative = self
        first = int(np.searchsorted(positive, negative[low - 1], side="right")) if low else 0
        last = len(positive) if is_top else int(np.searchsorted(positive, negative[high - 1], side="right"))
        inside = np.unique(np.concatenate([negative[low:high], positive[first:last]]))[::-1]
        above = np.concatenate([negative[high : high + 1], positive[last : last + 1]])
        below = negative[low - 1 : low] if low else negative[:0]
        points = np.concatenate([above.min(keepdims=True) if len(above) else above, inside, below])
        hits = len(positive) - np.searchsorted(positive, points, side="left")
        alarms = len(negative) - np.searchsorted(negative, points, side="left")
        kept = _bends(hits) | _bends(alarms)
        # Where nothing lies beyond, the end of the stretch is the end of the curve, and that is kept.
        if not len(above):
            kept[:1] = True
        if not low:
            kept[-1:] = True
        chosen = np.flatnonzero(kept)
        chosen = chosen[(chosen >= min(len(above), 1)) & (chosen < len(points) - len(below))]
        hits, alarms = hits[chosen], alarms[chosen]
        if is_top:
            hits, alarms = np.append(0, hits), np.append(0, alarms)
        return hits.astype(np.int64), alarms.astype(np.int64)


def round_down(values: DoubleArray, dtype: np.dtype[Any]) -> Scores:
    """The largest number of a floating type that is not above each value.

    A score of that type is greater than the value exactly if it is greater than this; so thresholds in float64 can be
    looked up among float32 scores without a float64 copy of them.

    Example:
        >>> round_down(np.array([0.1]), np.dtype(np.float32)) < 0.1
        array([ True])
    """
    with np.errstate(over="ignore"):
        rounded = values.astype(dtype)
    return np.where(rounded > values, np.nextafter(rounded, dtype.type(-np.inf)), rounded)


def _bends(counts: NDArray[np.integer[Any]]) -> BoolArray:
    """Where the step to a point differs from the step that follows; False at both ends."""
    bends = np.zeros(len(counts), dtype=np.bool_)
    if len(counts) > 2:
        bends[1:-1] = np.diff(counts, 2) != 0
    return bends


def _counts(total: int, points_per_decade: int) -> Counts:
    """Whole numbers from 0 to `total`, evenly spread over the decades."""
    rates = np.geomspace(1 / total, 1, 1 + math.ceil(math.log10(total) * points_per_decade))
    counts: Counts = np.unique(np.append(0, np.floor(rates * total * (1 + 1e-9)))).astype(np.int64)
    return np.minimum(counts, total)
