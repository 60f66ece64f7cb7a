"""From embeddings to scores, and from scores to the figures of a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from maskfix.base import BoolArray, FloatArray, InputError
from maskfix.metrics import (
    BootstrapResult,
    Interval,
    MethodIntervals,
    auc,
    eer,
    fmr_fnmr,
    kfold_accuracy,
    operating_points,
    split_scores,
    subject_bootstrap,
)
from maskfix.score import cosine_scores
from protocols.base import Integers, Trials

FPRS = (0.01, 0.001)
"""False positive rates of the report; below 0.1% LFW's 3,000 impostor pairs say nothing."""


class Failures(NamedTuple):
    """What went wrong under one method, as flags over T comparisons.

    Attributes:
        gallery: The gallery picture has no embedding, `(T,)` bool.
        probe: The probe has none, `(T,)` bool.
        masking: The probe goes without its mask, though it should wear one, `(T,)` bool.
    """

    gallery: BoolArray
    probe: BoolArray
    masking: BoolArray

    def counts(self, same: BoolArray) -> dict[str, dict[str, int]]:
        """Comparisons that failed, by side and class."""
        return {
            side: {"genuine": int((flags & same).sum()), "impostor": int((flags & ~same).sum())}
            for side, flags in self._asdict().items()
        }


def score_trials(
    vectors: Mapping[str, FloatArray], valid: Mapping[str, BoolArray], trials: Trials
) -> dict[str, FloatArray]:
    """Cosine of the clean gallery picture and the probe picture under each method.

    Args:
        vectors: Embedding of each picture under each method, `(M, D)` float32; the gallery side comes from `clean`.
        valid: Which rows hold an embedding, `(M,)` bool.
        trials: The comparisons, T of them.

    Returns:
        `(T,)` float32 in [-1, 1] for each method; -inf where either side has no embedding: a non-match at every
        threshold.
    """
    scores = {}
    for method in vectors:
        gallery, probe = _compact(valid["clean"]), _compact(valid[method])
        stacked = np.concatenate([vectors["clean"][valid["clean"]], vectors[method][valid[method]]])
        second = probe[trials.probe]
        second = np.where(second >= 0, second + int(valid["clean"].sum()), -1)
        scores[method] = cosine_scores(stacked, gallery[trials.gallery], second)
    return scores


def find_failures(valid: Mapping[str, BoolArray], unmasked: BoolArray, trials: Trials) -> dict[str, Failures]:
    """What failed under each method.

    Args:
        valid: Which pictures have an embedding under each method, `(M,)` bool.
        unmasked: Probes with a face on which the mask could not be put, `(M,)` bool.
        trials: The comparisons.
    """
    bare = unmasked[trials.probe]
    never = np.zeros_like(bare)
    return {
        method: Failures(
            gallery=~valid["clean"][trials.gallery],
            probe=~flags[trials.probe],
            masking=never if method in ("clean", "clean_completed") else bare,
        )
        for method, flags in valid.items()
    }


def any_failure(failures: Mapping[str, Failures]) -> BoolArray:
    """Comparisons in which anything failed under any method, `(T,)` bool: what `drop failed` leaves out."""
    flags = [flags for method in failures.values() for flags in method]
    return np.asarray(np.any(flags, axis=0), dtype=np.bool_)


def evaluate(
    scores: Mapping[str, FloatArray],
    trials: Trials,
    failures: Mapping[str, Failures],
    *,
    rng: np.random.Generator,
    replicates: int = 1000,
) -> dict[str, Any]:
    """The figures of a report; every rate is a fraction in [0, 1].

    Args:
        scores: Scores of the comparisons under each method, `(T,)`; `clean`, `masked` and `completed` must be there,
            others may.
        trials: The comparisons.
        failures: What failed under each method.
        rng: Source of the bootstrap's draws.
        replicates: Draws of the subject bootstrap; with 0 all intervals are None.

    Returns:
        `methods`: for each method `auc`, `auc_ci95`, `eer`, `tpr_at_fpr`, `fmr_fnmr_at_clean_threshold` (thresholds
        fixed where the clean scores have the FMR), `accuracy`, `n_genuine`, `n_impostor`, `failures`;
        `recovered`: (completed - masked) / (clean - masked), None where masks cost nothing;
        `difference`: `completed_minus_masked` with intervals paired over methods;
        where there is a fused method, `recovered_fused` and two differences of it as well;
        `harmlessness`: `clean_completed` minus `clean`, where that was measured;
        `bootstrap`: subjects, replicates.

    Raises:
        InputError: If one class has no comparison, or the people are too few for the bootstrap.
    """
    if not trials.same.any() or trials.same.all():
        raise InputError("LFW: no genuine or no impostor pair is left; use more folds, or keep failed pairs")
    boot = None
    if replicates:
        people = (trials.gallery_person, trials.probe_person)
        boot = subject_bootstrap(scores, trials.same, *people, rng=rng, fprs=FPRS, replicates=replicates)
    clean = split_scores(scores["clean"], trials.same)
    thresholds = {_key(fpr): point.threshold for fpr, point in zip(FPRS, operating_points(*clean, FPRS), strict=True)}
    methods = {
        name: _method(values, trials, thresholds, boot.methods[name] if boot else None)
        | {"failures": failures[name].counts(trials.same)}
        for name, values in scores.items()
    }
    report: dict[str, Any] = {
        "methods": methods,
        "recovered": _recovered(methods, "completed"),
        "difference": {"completed_minus_masked": _difference(methods, boot, "completed", "masked")},
        "bootstrap": {"subjects": boot.subjects, "replicates": boot.replicates} if boot else None,
    }
    if "fused" in methods:
        report["recovered_fused"] = _recovered(methods, "fused")
        for other in ("masked", "completed"):
            report["difference"][f"fused_minus_{other}"] = _difference(methods, boot, "fused", other)
    if "clean_completed" in methods:
        report["harmlessness"] = _difference(methods, boot, "clean_completed", "clean")
    return report


def _compact(valid: BoolArray) -> Integers:
    """Row of each picture once invalid rows are left out, -1 for those, `(M,)`."""
    return np.where(valid, np.cumsum(valid) - 1, -1).astype(np.int64)


def _key(fpr: float) -> str:
    """Name of a rate in the report.

    Example:
        >>> _key(0.001)
        '0.001'
    """
    return f"{fpr:g}"


def _method(
    scores: FloatArray, trials: Trials, thresholds: Mapping[str, float], intervals: MethodIntervals | None
) -> dict[str, Any]:
    """All figures of one method."""
    genuine, impostor = split_scores(scores, trials.same)
    points = {}
    for fpr, point in zip(FPRS, operating_points(genuine, impostor, FPRS), strict=True):
        points[_key(fpr)] = {
            "tpr": point.tpr,
            "fpr": point.fpr,
            "threshold": _finite(point.threshold),
            "accepted": point.accepted,
            "resolvable": point.resolvable,
            "nearest": point.nearest,
            "ci95": _ends(intervals.tpr_at_fpr[fpr] if intervals else None),
        }
    transferred = {
        key: {"threshold": _finite(cut), **fmr_fnmr(genuine, impostor, cut)._asdict()}
        for key, cut in thresholds.items()
    }
    return {
        "auc": auc(genuine, impostor),
        "auc_ci95": _ends(intervals.auc if intervals else None),
        "eer": eer(genuine, impostor),
        "tpr_at_fpr": points,
        "fmr_fnmr_at_clean_threshold": transferred,
        "accuracy": _accuracy(scores, trials),
        "n_genuine": len(genuine),
        "n_impostor": len(impostor),
    }


def _accuracy(scores: FloatArray, trials: Trials) -> dict[str, float | None]:
    """Accuracy over the official folds; None where there is one fold only, which leaves none for the threshold."""
    if len(np.unique(trials.fold)) < 2:
        return {"mean": None, "se": None}
    result = kfold_accuracy(scores, trials.same, trials.fold)
    return {"mean": result.mean, "se": result.se}


def _recovered(methods: Mapping[str, Mapping[str, Any]], method: str) -> dict[str, float | None]:
    """(method - masked) / (clean - masked) for the AUC and each TPR."""
    clean, masked, completed = (_headline(methods[name]) for name in ("clean", "masked", method))
    return {
        key: (completed[key] - masked[key]) / (clean[key] - masked[key]) if clean[key] > masked[key] else None
        for key in clean
    }


def _difference(
    methods: Mapping[str, Mapping[str, Any]], boot: BootstrapResult | None, first: str, second: str
) -> dict[str, dict[str, Any]]:
    """First minus second for the AUC and each TPR, with paired intervals."""
    one, other = _headline(methods[first]), _headline(methods[second])
    intervals: dict[str, Interval | None] = dict.fromkeys(one)
    if boot:
        pair = boot.differences[first, second]
        intervals = {"auc": pair.auc, **{_key(fpr): interval for fpr, interval in pair.tpr_at_fpr.items()}}
    return {key: {"value": one[key] - other[key], "ci95": _ends(intervals[key])} for key in one}


def _headline(method: Mapping[str, Any]) -> dict[str, float]:
    """AUC and the TPRs of one method."""
    return {"auc": method["auc"], **{key: point["tpr"] for key, point in method["tpr_at_fpr"].items()}}


def _ends(interval: Interval | None) -> Sequence[float] | None:
    return None if interval is None else [interval.low, interval.high]


def _finite(threshold: float) -> float | None:
    """A threshold for JSON, which knows no infinity."""
    return threshold if math.isfinite(threshold) else None
