"""Parts of a report that all protocols share: operating points, differences between methods, recovered fractions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from maskfix.metrics import BootstrapResult, Interval, MethodIntervals, OperatingPoint

Methods = Mapping[str, Mapping[str, Any]]
"""Figures of each method, as they stand under `methods` in a report."""


def rate_key(fpr: float) -> str:
    """Name of a rate in a report.

    Example:
        >>> rate_key(0.001), rate_key(1e-6)
        ('0.001', '1e-06')
    """
    return f"{fpr:g}"


def finite(threshold: float) -> float | None:
    """A threshold for JSON, which knows no infinity."""
    return threshold if math.isfinite(threshold) else None


def ends(interval: Interval | None) -> list[float] | None:
    """Both ends of an interval."""
    return None if interval is None else [interval.low, interval.high]


def describe_points(
    points: Sequence[OperatingPoint], fprs: Sequence[float], intervals: MethodIntervals | None
) -> dict[str, dict[str, Any]]:
    """Operating points of one method by the rate asked for.

    Args:
        points: One for each rate.
        fprs: The rates.
        intervals: Intervals of the method; None where none were drawn.
    """
    return {
        rate_key(fpr): {
            "tpr": point.tpr,
            "fpr": point.fpr,
            "threshold": finite(point.threshold),
            "accepted": point.accepted,
            "resolvable": point.resolvable,
            "nearest": point.nearest,
            "ci95": ends(intervals.tpr_at_fpr[fpr] if intervals else None),
        }
        for fpr, point in zip(fprs, points, strict=True)
    }


def compare_methods(methods: Methods, boot: BootstrapResult | None) -> dict[str, Any]:
    """What a report says of methods against each other.

    Args:
        methods: Figures of each method; `clean`, `masked` and `completed` must be there, others may.
        boot: Intervals; None where none were drawn.

    Returns:
        `recovered`: (completed - masked) / (clean - masked) for AUC and TPRs, None where masks cost nothing;
        `difference`: `completed_minus_masked` with intervals paired over methods;
        where there is a fused or a refined method, `recovered_fused`, `recovered_refined` and two differences of each
        as well;
        `harmlessness`: `clean_completed` minus `clean`, where that was measured;
        `bootstrap`: subjects, replicates.
    """
    report: dict[str, Any] = {
        "recovered": _recovered(methods, "completed"),
        "difference": {"completed_minus_masked": _difference(methods, boot, "completed", "masked")},
        "bootstrap": {"subjects": boot.subjects, "replicates": boot.replicates} if boot else None,
    }
    for method in ("refined", "fused"):
        if method not in methods:
            continue
        report[f"recovered_{method}"] = _recovered(methods, method)
        for other in ("masked", "completed"):
            report["difference"][f"{method}_minus_{other}"] = _difference(methods, boot, method, other)
    if "clean_completed" in methods:
        report["harmlessness"] = _difference(methods, boot, "clean_completed", "clean")
    return report


def _recovered(methods: Methods, method: str) -> dict[str, float | None]:
    """(method - masked) / (clean - masked) for the AUC and each TPR."""
    clean, masked, completed = (_headline(methods[name]) for name in ("clean", "masked", method))
    return {
        key: (completed[key] - masked[key]) / (clean[key] - masked[key]) if clean[key] > masked[key] else None
        for key in clean
    }


def _difference(methods: Methods, boot: BootstrapResult | None, first: str, second: str) -> dict[str, dict[str, Any]]:
    """First minus second for the AUC and each TPR, with paired intervals."""
    one, other = _headline(methods[first]), _headline(methods[second])
    intervals: dict[str, Interval | None] = dict.fromkeys(one)
    if boot:
        pair = boot.differences[first, second]
        intervals = {"auc": pair.auc, **{rate_key(fpr): interval for fpr, interval in pair.tpr_at_fpr.items()}}
    return {key: {"value": one[key] - other[key], "ci95": ends(intervals[key])} for key in one}


def _headline(method: Mapping[str, Any]) -> dict[str, float]:
    """AUC and the TPRs of one method."""
    return {"auc": method["auc"], **{key: point["tpr"] for key, point in method["tpr_at_fpr"].items()}}
