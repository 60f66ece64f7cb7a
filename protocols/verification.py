"""From embeddings to scores, and from scores to the figures of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from maskfix.base import BoolArray, FloatArray, InputError
from maskfix.metrics import (
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
from protocols.figures import compare_methods, describe_points, ends, finite, rate_key

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
    thresholds = {
        rate_key(fpr): point.threshold for fpr, point in zip(FPRS, operating_points(*clean, FPRS), strict=True)
    }
    methods = {
        name: _method(values, trials, thresholds, boot.methods[name] if boot else None)
        | {"failures": failures[name].counts(trials.same)}
        for name, values in scores.items()
    }
    return {"methods": methods, **compare_methods(methods, boot)}


def _compact(valid: BoolArray) -> Integers:
    """Row of each picture once invalid rows are left out, -1 for those, `(M,)`."""
    return np.where(valid, np.cumsum(valid) - 1, -1).astype(np.int64)


def _method(
    scores: FloatArray, trials: Trials, thresholds: Mapping[str, float], intervals: MethodIntervals | None
) -> dict[str, Any]:
    """All figures of one method."""
    genuine, impostor = split_scores(scores, trials.same)
    transferred = {
        key: {"threshold": finite(cut), **fmr_fnmr(genuine, impostor, cut)._asdict()} for key, cut in thresholds.items()
    }
    return {
        "auc": auc(genuine, impostor),
        "auc_ci95": ends(intervals.auc if intervals else None),
        "eer": eer(genuine, impostor),
        "tpr_at_fpr": describe_points(operating_points(genuine, impostor, FPRS), FPRS, intervals),
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
