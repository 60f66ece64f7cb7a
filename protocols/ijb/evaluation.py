"""From scores of template pairs to the figures of a report, at IJB-C's size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.base import BoolArray, DoubleArray, FloatArray, InputError
from maskfix.metrics import (
    MethodIntervals,
    SortedScores,
    calibrate,
    cllr,
    min_cllr,
    own_subjects,
    subject_bootstrap,
)
from protocols.base import Progress, silent
from protocols.figures import compare_methods, describe_points, ends, finite, rate_key
from protocols.ijb.templates import TemplatePairs
from protocols.verification import Failures

FPRS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""False positive rates of the report."""

FOLDS = 10
"""Folds of subjects for the calibration."""


class TemplateFailures(NamedTuple):
    """What is wrong with templates, as flags over T templates.

    Attributes:
        empty_gallery: Has no feature, as a gallery template, `(T,)` bool.
        empty: Has no feature under a method, `(T,)` bool.
        bare: A row of it goes without the mask that it should wear, `(T,)` bool.
    """

    empty_gallery: BoolArray
    empty: dict[str, BoolArray]
    bare: BoolArray

    def of_pairs(self, pairs: TemplatePairs, method: str) -> Failures:
        """What failed in each pair under a method; `masking` if any row of the probe template goes without its mask."""
        bare = self.bare[pairs.probe]
        unmasked = method in ("clean", "clean_completed")
        return Failures(
            gallery=self.empty_gallery[pairs.gallery],
            probe=self.empty[method][pairs.probe],
            masking=np.zeros_like(bare) if unmasked else bare,
        )

    def any_of_pairs(self, pairs: TemplatePairs) -> BoolArray:
        """Pairs in which anything failed under any method, `(P,)` bool: what `drop failed` leaves out."""
        probe = np.logical_or.reduce([self.bare, *self.empty.values()])
        return np.asarray(self.empty_gallery[pairs.gallery] | probe[pairs.probe], dtype=np.bool_)


def evaluate_templates(
    scores: Mapping[str, FloatArray],
    pairs: TemplatePairs,
    subject: NDArray[np.int32],
    *,
    rng: np.random.Generator,
    replicates: int = 1000,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The figures of a report; every rate is a fraction in [0, 1].

    Args:
        scores: Scores of P pairs under each method, `(P,)`; `clean`, `masked` and `completed` must be there.
        pairs: The pairs.
        subject: Subject of each template, `(T,)`; -1 where unknown: such a template is drawn by itself.
        rng: Source of the bootstrap's draws.
        replicates: Draws of the subject bootstrap; with 0 all intervals are None.
        progress: Told about the stage `figures`.

    Returns:
        `methods`: for each method `auc`, `auc_ci95`, `eer`, `tpr_at_fpr`, `fmr_fnmr_at_clean_threshold` (thresholds
        fixed where the clean scores have the FMR), `cllr`, `min_cllr`, `n_genuine`, `n_impostor`; and what
        `protocols.figures.compare_methods` gives. `cllr` is that of each method's own logistic calibration on folds of
        gallery subjects, in bits; None where there are too few of them.

    Raises:
        InputError: If one class has no pair, or the subjects are too few for the bootstrap.
    """
    same = pairs.same
    if not same.any() or same.all():
        raise InputError("IJB: no genuine or no impostor pair is left; use more subjects, or keep failed pairs")
    people = own_subjects(subject)
    steps = len(scores) + bool(replicates)
    progress("figures", 0, steps)
    boot = None
    if replicates:
        sides = people[pairs.gallery].astype(np.int32), people[pairs.probe].astype(np.int32)
        boot = subject_bootstrap(scores, same, *sides, rng=rng, fprs=FPRS, replicates=replicates)
        del sides
        progress("figures", 1, steps)
    folds = subject_folds(people[pairs.gallery], same)
    thresholds = np.array(
        [point.threshold for point in SortedScores.from_pairs(scores["clean"], same).operating_points(FPRS)]
    )
    methods = {}
    for place, (name, values) in enumerate(scores.items(), start=1):
        intervals = boot.methods[name] if boot else None
        methods[name] = _method(values, same, folds, thresholds, intervals)
        progress("figures", place + bool(replicates), steps)
    return {"methods": methods, **compare_methods(methods, boot)}


def subject_folds(person: NDArray[np.integer[Any]], same: BoolArray) -> NDArray[np.int8] | None:
    """Fold of each pair by its gallery subject, so that no subject's genuine pairs are in two folds.

    Args:
        person: Gallery subject of each pair, `(P,)` from 0.
        same: True for genuine pairs, `(P,)` bool.

    Returns:
        `(P,)` in [0, 10), fewer folds where there are fewer subjects; None where some fold's others would lack a class.

    Example:
        >>> subject_folds(np.array([4, 4, 7, 7]), np.array([True, False, True, False])).tolist()
        [0, 0, 1, 1]
    """
    count = int(person.max()) + 1
    mated = np.bincount(person[same], minlength=count) > 0
    number = min(FOLDS, int(mated.sum()))
    if number < 2:
        return None
    # Subjects with genuine pairs are dealt out first, so that each fold has some.
    deal = np.empty(count, dtype=np.int8)
    deal[np.argsort(~mated, kind="stable")] = np.arange(count) % number
    fold = deal[person]
    impostors = np.bincount(fold[~same], minlength=number)
    return fold if (impostors.sum() > impostors).all() else None


def _method(
    scores: FloatArray,
    same: BoolArray,
    folds: NDArray[np.int8] | None,
    thresholds: DoubleArray,
    intervals: MethodIntervals | None,
) -> dict[str, Any]:
    """All figures of one method."""
    ranked = SortedScores.from_pairs(scores, same)
    moved = ranked.rates_at(thresholds)
    transferred = {
        rate_key(fpr): {"threshold": finite(cut), "fmr": fmr, "fnmr": fnmr}
        for fpr, cut, fmr, fnmr in zip(FPRS, thresholds.tolist(), moved.fmr.tolist(), moved.fnmr.tolist(), strict=True)
    }
    figures = {
        "auc": ranked.auc(),
        "auc_ci95": ends(intervals.auc if intervals else None),
        "eer": ranked.eer(),
        "tpr_at_fpr": describe_points(ranked.operating_points(FPRS), FPRS, intervals),
        "fmr_fnmr_at_clean_threshold": transferred,
        "min_cllr": min_cllr(*ranked),
        "n_genuine": len(ranked.genuine),
        "n_impostor": len(ranked.impostor),
    }
    del ranked
    return {**figures, "cllr": _cllr(scores, same, folds)}


def _cllr(scores: FloatArray, same: BoolArray, folds: NDArray[np.int8] | None) -> float | None:
    """Cllr after calibration on folds; None where it cannot be fitted."""
    if folds is None:
        return None
    whole = np.isfinite(scores)
    number = int(folds.max()) + 1
    for kind in (same, ~same):
        counts = np.bincount(folds[whole & kind], minlength=number)
        if not (counts.sum() > counts).all():
            return None
    ratios = calibrate(scores, same, folds)
    return finite(cllr(ratios[same], ratios[~same]))
