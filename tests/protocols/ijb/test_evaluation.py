"""Figures of template pairs: against scikit-learn and by hand; failures by side and class."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from maskfix.base import InputError
from maskfix.metrics import calibrate, cllr
from protocols.ijb import FPRS, TemplateFailures, TemplatePairs, evaluate_templates
from protocols.ijb.evaluation import subject_folds


def world(
    subjects: int = 30, probes: int = 4, seed: int = 0
) -> tuple[TemplatePairs, np.ndarray, dict[str, np.ndarray]]:
    """One gallery template and some probes a subject, all compared; masked scores are worse, and all of them higher."""
    rng = np.random.default_rng(seed)
    subject = np.concatenate([np.arange(subjects), np.repeat(np.arange(subjects), probes)]).astype(np.int32)
    gallery, probe = np.divmod(np.arange(subjects * subjects * probes), subjects * probes)
    pairs = TemplatePairs(
        gallery.astype(np.int32),
        (subjects + probe).astype(np.int32),
        subject[gallery] == subject[subjects + probe],
    )
    noise = rng.normal(size=len(gallery)).astype(np.float32)
    means = {"clean": (4.0, 0.0), "masked": (1.5, 0.75), "completed": (2.5, 0.25)}
    return (
        pairs,
        subject,
        {name: (pairs.same * gap + noise + shift).astype(np.float32) for name, (gap, shift) in means.items()},
    )


def test_evaluate__figures(tmp_path: object) -> None:
    pairs, subject, scores = world()
    report = evaluate_templates(scores, pairs, subject, rng=np.random.default_rng(0), replicates=100)
    assert list(report["methods"]) == ["clean", "masked", "completed"]
    impostors = int((~pairs.same).sum())
    for name, method in report["methods"].items():
        assert method["auc"] == pytest.approx(roc_auc_score(pairs.same, scores[name]), abs=1e-12)
        assert (method["n_genuine"], method["n_impostor"]) == (120, impostors)
        assert [float(key) for key in method["tpr_at_fpr"]] == list(FPRS)
        assert not method["tpr_at_fpr"]["1e-06"]["resolvable"]
        point = method["tpr_at_fpr"]["0.01"]
        genuine, impostor = scores[name][pairs.same], np.sort(scores[name][~pairs.same])
        cut = impostor[-1 - int(0.01 * impostors)]
        assert point["accepted"] == int(0.01 * impostors)
        assert point["tpr"] == (genuine > cut).mean()
        assert point["ci95"][0] <= point["tpr"] <= point["ci95"][1]
        assert 0 <= method["min_cllr"] <= method["cllr"]
    clean, masked = report["methods"]["clean"], report["methods"]["masked"]
    threshold = clean["tpr_at_fpr"]["0.001"]["threshold"]
    moved = masked["fmr_fnmr_at_clean_threshold"]["0.001"]
    assert moved["threshold"] == threshold < masked["tpr_at_fpr"]["0.001"]["threshold"]
    assert clean["fmr_fnmr_at_clean_threshold"]["0.001"]["fmr"] == clean["tpr_at_fpr"]["0.001"]["fpr"] < moved["fmr"]
    assert moved["fmr"] == (scores["masked"][~pairs.same] > threshold).mean()
    assert moved["fnmr"] == (scores["masked"][pairs.same] <= threshold).mean()
    gap = [report["methods"][name]["auc"] for name in ("clean", "masked", "completed")]
    assert report["recovered"]["auc"] == pytest.approx((gap[2] - gap[1]) / (gap[0] - gap[1]))
    gained = report["difference"]["completed_minus_masked"]["auc"]
    assert gained["value"] == pytest.approx(gap[2] - gap[1])
    assert gained["ci95"][0] > 0
    assert report["bootstrap"] == {"subjects": 30, "replicates": 100}
    folds = pairs.gallery % 10
    ratios = calibrate(scores["clean"], pairs.same, folds)
    assert clean["cllr"] == pytest.approx(cllr(ratios[pairs.same], ratios[~pairs.same]))


def test_evaluate__unknown_subjects_are_drawn_by_themselves() -> None:
    pairs, subject, scores = world(5, 2)
    strangers = subject.copy()
    strangers[-2:] = -1
    kept = ~(pairs.same & (strangers[pairs.probe] == -1))
    fewer = TemplatePairs(*(column[kept] for column in pairs))
    report = evaluate_templates(
        {name: values[kept] for name, values in scores.items()}, fewer, strangers, rng=np.random.default_rng(0),
        replicates=20,
    )  # fmt: skip
    assert report["bootstrap"]["subjects"] == 7


def test_evaluate__nothing_left_and_no_intervals() -> None:
    pairs, subject, scores = world(4, 2)
    report = evaluate_templates(scores, pairs, subject, rng=np.random.default_rng(0), replicates=0)
    assert report["bootstrap"] is None
    assert report["methods"]["clean"]["auc_ci95"] is None
    genuine = TemplatePairs(*(column[pairs.same] for column in pairs))
    with pytest.raises(InputError, match="no genuine or no impostor pair is left"):
        evaluate_templates(
            {name: values[pairs.same] for name, values in scores.items()}, genuine, subject,
            rng=np.random.default_rng(0),
        )  # fmt: skip


def test_evaluate__failed_scores_have_no_cost_that_is_not_finite() -> None:
    pairs, subject, scores = world(6, 2)
    scores["masked"] = np.full_like(scores["masked"], -np.inf)
    methods = evaluate_templates(scores, pairs, subject, rng=np.random.default_rng(0), replicates=0)["methods"]
    assert methods["masked"]["cllr"] is None
    assert methods["masked"]["min_cllr"] == pytest.approx(1)
    assert methods["masked"]["auc"] == 0.5
    assert methods["masked"]["tpr_at_fpr"]["0.1"]["tpr"] == 0


def test_folds__by_gallery_subject() -> None:
    person = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    same = np.array([True, False, True, False, False, False, True, False])
    folds = subject_folds(person, same)
    assert folds is not None
    assert [len(set(folds[person == one].tolist())) for one in range(4)] == [1] * 4
    assert len(set(folds[same].tolist())) == 3
    assert subject_folds(person, person == 0) is None
    assert subject_folds(np.array([0, 0, 1]), np.array([True, False, True])) is None


def test_failures__by_side_and_class() -> None:
    pairs = TemplatePairs(
        np.array([0, 0, 1, 1], np.int32), np.array([2, 3, 2, 3], np.int32), np.array([True, False, False, True])
    )

    def flags(*templates: int) -> np.ndarray:
        made = np.zeros(4, np.bool_)
        made[list(templates)] = True
        return made

    failures = TemplateFailures(flags(1), {"clean": flags(), "masked": flags(3), "clean_completed": flags()}, flags(2))
    assert failures.of_pairs(pairs, "masked").counts(pairs.same) == {
        "gallery": {"genuine": 1, "impostor": 1},
        "probe": {"genuine": 1, "impostor": 1},
        "masking": {"genuine": 1, "impostor": 1},
    }
    # Neither wears a mask, so none can be missing.
    for method in ("clean", "clean_completed"):
        bare = failures.of_pairs(pairs, method).counts(pairs.same)
        assert bare["probe"] == bare["masking"] == {"genuine": 0, "impostor": 0}
    assert failures.any_of_pairs(pairs).all()
    assert TemplateFailures(flags(1), {"clean": flags()}, flags()).any_of_pairs(pairs).tolist() == [
        False, False, True, True,
    ]  # fmt: skip
