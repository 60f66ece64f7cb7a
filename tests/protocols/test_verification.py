"""Figures of LFW's pairs that the tiny worlds of test_runner.py do not tell apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from protocols import FPRS, evaluate
from protocols.base import Trials
from protocols.verification import find_failures

COUNT = 2000
METHODS = {"clean": (4.0, 0.0), "masked": (1.5, 0.75), "completed": (2.5, 0.25)}


def figures(seed: int = 0, replicates: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray, dict[str, Any]]:
    """Scores of masked pairs are worse and, strangers' too, higher."""
    rng = np.random.default_rng(3)
    same = np.arange(COUNT) % 2 == 0
    noise = rng.normal(size=COUNT)
    scores = {name: (same * gap + noise + up).astype(np.float32) for name, (gap, up) in METHODS.items()}
    picture, person = np.arange(COUNT), np.arange(COUNT) // 4
    trials = Trials(picture, picture + COUNT, same, person % 10, person, np.where(same, person, person + 1))
    valid = {name: np.ones(2 * COUNT, np.bool_) for name in METHODS}
    failures = find_failures(valid, np.zeros(2 * COUNT, np.bool_), trials)
    return scores, same, evaluate(scores, trials, failures, rng=np.random.default_rng(seed), replicates=replicates)


@pytest.mark.parametrize("rate", FPRS)
def test_evaluate__thresholds_are_fixed_on_clean_pairs(rate: float) -> None:
    scores, same, report = figures()
    clean = report["methods"]["clean"]
    cut = clean["tpr_at_fpr"][str(rate)]["threshold"]
    assert cut < report["methods"]["masked"]["tpr_at_fpr"][str(rate)]["threshold"]
    for name, method in report["methods"].items():
        accepted = scores[name] > cut
        assert method["fmr_fnmr_at_clean_threshold"][str(rate)] == {
            "threshold": cut,
            "fmr": accepted[~same].mean(),
            "fnmr": pytest.approx(1 - accepted[same].mean()),
        }
    assert clean["fmr_fnmr_at_clean_threshold"][str(rate)]["fmr"] == clean["tpr_at_fpr"][str(rate)]["fpr"]
    assert report["methods"]["masked"]["fmr_fnmr_at_clean_threshold"]["0.01"]["fmr"] > 0.03


def test_evaluate__draws_are_those_of_the_generator() -> None:
    one, again, other = (figures(seed, 50)[2]["methods"]["masked"] for seed in (0, 0, 1))
    assert one == again
    assert one["auc"] == other["auc"]
    assert one["auc_ci95"] != other["auc_ci95"]
