"""Slow twins of maskfix.metrics.calibration, from the definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def slow_cllr(genuine: Sequence[float], impostor: Sequence[float]) -> float:
    """Cost in bits at equal priors, pair by pair."""
    kept = sum(math.log2(1 + math.exp(-ratio)) for ratio in genuine) / len(genuine)
    false = sum(math.log2(1 + math.exp(ratio)) for ratio in impostor) / len(impostor)
    return (kept + false) / 2


def slow_min_cllr(genuine: Sequence[float], impostor: Sequence[float]) -> float:
    """Cost of the best rising map: isotonic regression by its max-min formula, in whole fractions."""
    values = sorted({*genuine, *impostor} - {-math.inf})
    hits = [Fraction(sum(1 for s in genuine if s == value), len(genuine)) for value in values]
    alarms = [Fraction(sum(1 for s in impostor if s == value), len(impostor)) for value in values]

    def mean(low: int, high: int) -> Fraction:
        matched, other = sum(hits[low : high + 1]), sum(alarms[low : high + 1])
        return Fraction(matched) / (matched + other)

    cost = 0.0
    lost = [Fraction(sum(1 for s in kind if s == -math.inf), len(kind)) for kind in (genuine, impostor)]
    for part in lost:
        if part:
            cost -= float(part) * math.log2(part / sum(lost))
    for place in range(len(values)):
        share = max(min(mean(low, high) for high in range(place, len(values))) for low in range(place + 1))
        if hits[place]:
            cost -= float(hits[place]) * math.log2(share)
        if alarms[place]:
            cost -= float(alarms[place]) * math.log2(1 - share)
    return cost / 2
