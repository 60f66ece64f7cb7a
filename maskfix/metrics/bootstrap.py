"""Subject bootstrap: 95% intervals that know that pairs share people, paired over methods.

Subjects are drawn with replacement, the same draw for every method; a pair counts as often as its people were drawn
(protocols.md 3.2). Two methods are compared by the interval of their difference, never by whether their own intervals
overlap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskfix.base import BoolArray, DoubleArray, InputError, check_shape
from maskfix.metrics.bootstrap_levels import level_statistics
from maskfix.metrics.guards import Scores, allowed_accepts, check_rate, check_same, check_scores
from maskfix.metrics.ranking import SortedScores

Integers = NDArray[np.integer[Any]]
_BLOCK = 64
"""Replicates worked on at a time: a few MB for 6,000 pairs."""

_WHOLE = 1 << 14
"""Longer lists go through `bootstrap_levels`."""

_TABLE_IDS = 1 << 20


class Interval(NamedTuple):
    """A value with its percentile interval.

    Attributes:
        value: The figure on all pairs, each counted once.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    value: float
    low: float
    high: float


class MethodIntervals(NamedTuple):
    """Intervals of one method, or of the difference of two.

    Attributes:
        auc: Area under the ROC curve.
        tpr_at_fpr: True positive rate (conservative rule) for each false positive rate asked for.
    """

    auc: Interval
    tpr_at_fpr: dict[float, Interval]


class BootstrapResult(NamedTuple):
    """What the subject bootstrap found.

    Attributes:
        methods: Intervals of each method.
        differences: Intervals of a minus b under the key (a, b), for every ordered pair of methods.
        subjects: Number of people drawn from (and drawn, in each replicate).
        replicates: Replicates used: those that hold pairs of both classes; on small data fewer than asked for.
    """

    methods: dict[str, MethodIntervals]
    differences: dict[tuple[str, str], MethodIntervals]
    subjects: int
    replicates: int


class _Ranked(NamedTuple):
    """One method's scores, sorted once for all replicates.

    Attributes:
        genuine: Pairs of the genuine class in rising score, `(G,)` indices.
        impostor: Pairs of the impostor class in rising score, `(I,)` indices.
        below: For each genuine pair, how many impostor scores are smaller, `(G,)`.
        upto: For each genuine pair, how many impostor scores are smaller or equal, `(G,)`.
        rejected: For each impostor score taken as threshold, how many genuine pairs it rejects, `(I,)`.
        failed: How many genuine scores are -inf: rejected at any threshold.
    """

    genuine: Integers
    impostor: Integers
    below: Integers
    upto: Integers
    rejected: Integers
    failed: int


def subject_bootstrap(
    scores: Mapping[str, ArrayLike],
    same: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    *,
    rng: np.random.Generator,
    fprs: Sequence[float] = (0.01, 0.001),
    replicates: int = 1000,
    level: float = 0.95,
) -> BootstrapResult:
    """Percentile intervals of AUC and TPR@FPR for each method and for each paired difference.

    As many subjects as there are get drawn with replacement. With w_i the number of times subject i was drawn, a
    genuine pair of i counts w_i times and an impostor pair of i and j counts w_i * w_j times (protocols.md 3.2). Each
    method is sorted once. Up to 16,384 pairs every replicate weights every pair. Longer lists, such as IJB-C's 15.66
    million, are cut into levels by score (`maskfix.metrics.bootstrap_levels`): the intervals of TPR@FPR are the same to
    the bit, those of the AUC to far below their own noise; 1,000 replicates of three methods of that size take some
    15 s on two busy cores, and 0.9 GB.

    The intervals err on the wide side where most people appear in few pairs: on simulated lists of LFW's size, without
    any effect of the person, they were 1.2 to 1.7 times as wide as the true spread and held the truth in 97% of the
    lists or more. So a difference whose interval excludes 0 can be trusted; one that does not may still be real.

    Args:
        scores: Score of each pair under each method, `(P,)`, the pairs in one order; -inf marks a failed pair.
        same: True for genuine pairs, `(P,)` bool.
        first: Subject of the first picture (or template) of each pair, `(P,)` integers from 0; for templates of unknown
            subject see `own_subjects`.
        second: Subject of the second picture, `(P,)`; the same as `first` exactly for the genuine pairs.
        rng: Source of the draws.
        fprs: False positive rates, each in (0, 1].
        replicates: Number of draws, at least 1.
        level: Coverage of the intervals, in (0, 1).

    Returns:
        Intervals of methods and differences. Where the interval of a difference excludes 0, one method is better.

    Raises:
        InputError: If shapes or subjects contradict each other, a number is out of range, or the people are so few that
            no replicate holds both classes.
    """
    flags, people = _check_pairs(same, first, second)
    methods = {name: _check_method(name, values, flags) for name, values in scores.items()}
    if not methods or replicates < 1 or not 0 < level < 1:
        raise InputError(
            f"bootstrap: expected at least one method, replicates >= 1 and level in (0, 1), "
            f"got {len(methods)}, {replicates} and {level}"
        )
    for fpr in fprs:
        check_rate("fprs", fpr)
    subjects = int(people.max()) + 1
    counts = np.empty((replicates, subjects), dtype=np.int32)
    for at in range(0, replicates, _BLOCK):
        counts[at : at + _BLOCK] = _draw(rng, min(_BLOCK, replicates - at), subjects)
    tables = level_statistics if len(flags) > _WHOLE else _whole_tables
    drawn = tables(methods, flags, people, counts, fprs)
    usable = np.isfinite(next(iter(drawn.values()))[:, 0])
    if not usable.any():
        raise InputError(f"bootstrap: no replicate of {subjects} subjects holds both classes; use more subjects")
    drawn = {name: table[usable] for name, table in drawn.items()}
    values = {name: _values(method, flags, fprs) for name, method in methods.items()}
    return BootstrapResult(
        methods={name: _intervals(values[name], drawn[name], fprs, level) for name in methods},
        differences={
            (a, b): _intervals(values[a] - values[b], drawn[a] - drawn[b], fprs, level)
            for a, b in permutations(methods, 2)
        },
        subjects=subjects,
        replicates=int(usable.sum()),
    )


def own_subjects(subject: ArrayLike) -> Integers:
    """Subjects of templates with an id of its own for every unknown one (-1), so that each is drawn by itself.

    Args:
        subject: Subject of each template, `(T,)` integers; -1 where unknown.

    Returns:
        `(T,)`: known subjects as they were, unknown ones numbered after the last of them.

    Raises:
        InputError: If the ids are no integers or one is below -1.

    Example:
        >>> own_subjects([4, -1, 0, -1]).tolist()
        [4, 5, 0, 6]
    """
    numbers = np.asarray(subject)
    check_shape("subject", numbers, (None,))
    if not np.issubdtype(numbers.dtype, np.integer) or (numbers < -1).any():
        raise InputError(f"subject: expected integer ids from 0, or -1 for unknown, got dtype {numbers.dtype}")
    unknown = numbers == -1
    numbers = numbers.astype(np.int64)
    numbers[unknown] = numbers.max(initial=-1) + 1 + np.arange(np.count_nonzero(unknown))
    return numbers


def weighted_statistics(
    scores: ArrayLike, same: ArrayLike, weights: Integers, fprs: Sequence[float]
) -> tuple[DoubleArray, DoubleArray]:
    """AUC and TPR@FPR of pairs that count several times, for B sets of weights at once.

    The same, to the rounding of the last division, as repeating each pair as often as its weight says and calling `auc`
    and `tpr_at_fpr`.

    Args:
        scores: Score of each pair, `(P,)`; -inf marks a failed pair.
        same: True for genuine pairs, `(P,)` bool.
        weights: How often each pair counts, `(B, P)` integers of at least 0.
        fprs: F false positive rates, each in (0, 1].

    Returns:
        AUC `(B,)` and TPR `(B, F)`; nan where a class has no weight.

    Raises:
        InputError: If shapes differ, a weight is negative or no integer, or a score is nan or +inf.

    Example:
        >>> weighted_statistics([0.9, 0.4, 0.6, 0.1], [True, True, False, False], np.array([[1, 2, 3, 1]]), [0.25])
        (array([0.5]), array([[0.33333333]]))
    """
    flags = check_same(same)
    ranked = _rank(_check_method("scores", scores, flags), flags)
    weights = np.asarray(weights)
    check_shape("weights", weights, (None, len(flags)))
    if not np.issubdtype(weights.dtype, np.integer) or (weights < 0).any():
        raise InputError(f"weights: expected integers of at least 0, got dtype {weights.dtype}")
    table = _statistics(ranked, weights, fprs)
    return table[:, 0], table[:, 1:]


def _check_pairs(same: ArrayLike, first: ArrayLike, second: ArrayLike) -> tuple[BoolArray, Integers]:
    """Check the subjects of the pairs and number them from 0; gives the flags `(P,)` and the subjects `(2, P)`."""
    flags = check_same(same)
    sides = [np.asarray(first), np.asarray(second)]
    for name, side in zip(("first", "second"), sides, strict=True):
        check_shape(name, side, flags.shape)
        if not np.issubdtype(side.dtype, np.integer):
            raise InputError(f"{name}: expected integer subject ids, got dtype {side.dtype}")
        if len(side) and side.min() < 0:
            raise InputError(
                f"{name}: pair {int(side.argmin())} has the subject {int(side.min())}; "
                "give templates of unknown subject ids of their own (own_subjects)"
            )
    wrong = (sides[0] == sides[1]) != flags
    if wrong.any():
        pair = int(wrong.argmax())
        raise InputError(
            f"subjects: pair {pair} is {'genuine' if flags[pair] else 'impostor'}, but its subject ids are "
            f"{sides[0][pair]} and {sides[1][pair]}; genuine pairs have one subject, impostor pairs two"
        )
    return flags, _number(sides)


def _number(sides: Sequence[Integers]) -> Integers:
    """Number subjects from 0 without gaps in the order of their ids; gives those of both sides, `(2, P)`."""
    largest = max(int(side.max()) for side in sides)
    if largest > 2 * _TABLE_IDS + len(sides[0]):
        _, numbered = np.unique(np.stack(sides), return_inverse=True)
        return numbered.reshape(2, -1)
    # A table takes a second for 15 million pairs, a sort ten.
    table = np.zeros(largest + 1, dtype=np.int32)
    for side in sides:
        table[side] = 1
    table = np.cumsum(table, dtype=np.int32) - 1
    numbered = np.empty((2, len(sides[0])), dtype=np.int32)
    for row, side in zip(numbered, sides, strict=True):
        np.take(table, side, out=row, mode="clip")  # the other modes copy the output
    return numbered


def _check_method(name: str, scores: ArrayLike, same: BoolArray) -> Scores:
    """Check the scores of one method against the flags."""
    values = np.asarray(scores)
    if values.shape != same.shape:
        raise InputError(f"scores of {name!r}: expected one score a pair, shape {same.shape}, got {values.shape}")
    check_scores(f"scores of {name!r}", values)
    if same.all() or not same.any():
        raise InputError(f"same: expected pairs of both classes, got {int(same.sum())} genuine of {len(same)}")
    return values


def _whole_tables(
    scores: Mapping[str, Scores], same: BoolArray, people: Integers, counts: Integers, fprs: Sequence[float]
) -> dict[str, DoubleArray]:
    """AUC and TPRs of each method in each replicate, `(R, 1 + F)`, all pairs weighted."""
    ranked = {name: _rank(values, same) for name, values in scores.items()}
    blocks: dict[str, list[DoubleArray]] = {name: [] for name in scores}
    for start in range(0, len(counts), _BLOCK):
        weights = _pair_weights(counts[start : start + _BLOCK], people, same)
        for name, method in ranked.items():
            blocks[name].append(_statistics(method, weights, fprs))
    return {name: np.concatenate(parts) for name, parts in blocks.items()}


def _rank(scores: Scores, same: BoolArray) -> _Ranked:
    """Sort one method's scores and note where each class falls among the other."""
    pairs = np.argsort(scores, kind="stable")
    genuine, impostor = pairs[same[pairs]], pairs[~same[pairs]]
    positive, negative = scores[genuine], scores[impostor]
    return _Ranked(
        genuine=genuine,
        impostor=impostor,
        below=np.searchsorted(negative, positive, side="left"),
        upto=np.searchsorted(negative, positive, side="right"),
        rejected=np.searchsorted(positive, negative, side="right"),
        failed=int(np.count_nonzero(positive == -np.inf)),
    )


def _draw(rng: np.random.Generator, replicates: int, subjects: int) -> Integers:
    """Draw as many subjects as there are, with replacement; gives how often each was drawn, `(B, S)`."""
    picks = rng.integers(subjects, size=(replicates, subjects))
    picks += np.arange(replicates)[:, None] * subjects
    return np.bincount(picks.ravel(), minlength=replicates * subjects).reshape(replicates, subjects)


def _pair_weights(counts: Integers, people: Integers, same: BoolArray) -> Integers:
    """Weights of the pairs `(B, P)`: w_i for a genuine pair, w_i * w_j for an impostor pair."""
    left = counts[:, people[0]]
    return np.where(same, left, left * counts[:, people[1]])


def _statistics(ranked: _Ranked, weights: Integers, fprs: Sequence[float]) -> DoubleArray:
    """Weighted AUC and TPR at each rate, `(B, 1 + F)`; nan where a class has no weight. All sums are exact integers."""
    genuine = weights[:, ranked.genuine].astype(np.int64)
    # Column i: weight of the i lowest scores.
    rejected = _cumulated(genuine)
    alarms = _cumulated(weights[:, ranked.impostor].astype(np.int64))
    hits_total, alarms_total = rejected[:, -1], alarms[:, -1]
    wins = (genuine * (alarms[:, ranked.below] + alarms[:, ranked.upto])).sum(axis=1)
    table = np.empty((len(weights), 1 + len(fprs)))
    with np.errstate(divide="ignore", invalid="ignore"):
        table[:, 0] = wins / (2 * hits_total * alarms_total)
        for column, fpr in enumerate(fprs, start=1):
            budget = np.array([allowed_accepts(fpr, int(total)) for total in alarms_total])
            # The threshold is the highest impostor score that still leaves more than the budget from it on upwards.
            cut = np.count_nonzero(alarms_total[:, None] - alarms[:, :-1] > budget[:, None], axis=1) - 1
            position = np.where(cut < 0, ranked.failed, ranked.rejected[cut])
            misses = np.take_along_axis(rejected, position[:, None], axis=1)[:, 0]
            table[:, column] = (hits_total - misses) / hits_total
    table[(hits_total == 0) | (alarms_total == 0)] = np.nan
    return table


def _cumulated(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cumulated sums along the rows with a leading 0, `(B, n + 1)`."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1), dtype=np.int64)
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _values(scores: ArrayLike, same: BoolArray, fprs: Sequence[float]) -> DoubleArray:
    """AUC and TPR at each rate on all pairs, `(1 + F,)`."""
    ranked = SortedScores.from_pairs(scores, same)
    return np.array([ranked.auc(), *(point.tpr for point in ranked.operating_points(fprs))])


def _intervals(values: DoubleArray, drawn: DoubleArray, fprs: Sequence[float], level: float) -> MethodIntervals:
    """Percentile intervals of the columns of `drawn`, `(R, 1 + F)`, around `values`, `(1 + F,)`."""
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    intervals = [Interval(*map(float, ends)) for ends in zip(values, low, high, strict=True)]
    return MethodIntervals(intervals[0], dict(zip(map(float, fprs), intervals[1:], strict=True)))
