"""Reports into the manifest and onto the card."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from maskfix.base import InputError
from maskfix.train.scores import record_scores, summarise, summarise_heldout
from maskfix.weights import WeightsRow, add_to_manifest, read_manifest

SHA = hashlib.sha256(b"x").hexdigest()
RATES = ("0.01", "0.001")


def method(auc: float, points: dict[str, Any], fmr: float, accuracy: dict[str, Any]) -> dict[str, Any]:
    moved = {"0.01": {"fmr": fmr, "fnmr": 0.5}, "0.001": {"fmr": 0.7, "fnmr": 0.5}}
    return {"auc": auc, "tpr_at_fpr": points, "fmr_fnmr_at_clean_threshold": moved, "accuracy": accuracy}


def lfw_report(sha: str = SHA) -> dict[str, Any]:
    points = {rate: {"tpr": tpr} for rate, tpr in zip(RATES, (0.9, 0.8), strict=True)}
    difference = {"auc": {"value": 0.01, "ci95": [0.005, 0.02]}, "0.01": {"value": -0.1, "ci95": None}}
    return {
        "weights": {"sha256": sha},
        "embedder": {"name": "dlib", "sha256": "d" * 64},
        "methods": {
            "clean": method(0.99, points, 0.01, {"mean": 0.9612, "se": 0.004}),
            "masked": method(0.97, points, 0.005, {"mean": None, "se": None}),
            "fused": method(0.98, points, 0.03, {"mean": None, "se": None}),
        },
        "recovered": {"auc": 0.5, "0.01": None},
        "difference": {"completed_minus_masked": difference, "fused_minus_masked": {"auc": difference["0.01"]}},
        "data": {"official": True},
        "protocol": {"folds": 10, "drop_failed": False},
        "settings": {"probes": {"seed": 0}},
        "command": "python -m benchmarks.lfw",
    }


def row(value: float | None, **where: str) -> dict[str, Any]:
    return {"value": value, "ci95": None if value is None else [value - 0.1, value + 0.1], "faces": 40, **where}


def summary(faces: int, value: float, **where: str) -> dict[str, Any]:
    names = ("psnr", "psnr_masked", "ssim", "sharpness", "psnr_before")
    figures = {name: row(value + place, **where) for place, name in enumerate(names)}
    return {"faces": faces, "figures": figures, "embedders": {"dlib": {"recovered": row(value / 10, **where)}}}


def heldout_report() -> dict[str, Any]:
    worst = summary(0, 1.0, attribute="age", group="0-12")
    worst["figures"]["ssim"] = None
    return {
        "benchmark": "heldout",
        "weights": {"sha256": SHA},
        "overall": summary(90, 5.0),
        "groups": {"sex": {"male": summary(50, 4.0), "female": summary(40, 6.0), "unlabelled": summary(0, 0.0)}},
        "worst": worst,
        "command": "python -m benchmarks.heldout",
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "net.tag.safetensors").write_bytes(b"x")
    add_to_manifest(WeightsRow("net.tag", "net", "net.tag.safetensors", SHA, 1, notes="soft"), tmp_path)
    return tmp_path


def written(folder: Path, report: dict[str, Any], name: str = "report.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(report), encoding="utf-8")
    return path


def test_summarise__headline_figures() -> None:
    found = summarise(lfw_report())
    rates = {"0.01": 0.9, "0.001": 0.8}
    assert found["clean"] == {
        "auc": 0.99, **rates, "fmr_at_clean_threshold": 0.01, "accuracy": "0.9612 (standard error 0.0040)"
    }  # fmt: skip
    assert found["masked"] == {"auc": 0.97, **rates, "fmr_at_clean_threshold": 0.005, "accuracy": "not measured"}
    assert found["fused"]["fmr_at_clean_threshold"] == 0.03
    assert found["fused_minus_masked"] == {"auc": "-0.1000"}
    assert found["recovered"] == {"auc": 0.5, "0.01": None}
    assert found["completed_minus_masked"] == {"auc": "+0.0100 (+0.0050 to +0.0200)", "0.01": "-0.1000"}
    assert "clean_completed" not in found


def test_summarise__what_rounds_to_zero_is_not_below_it() -> None:
    report = lfw_report()
    report["harmlessness"] = {"auc": {"value": -0.00004, "ci95": [-0.00006, -0.0]}}
    assert summarise(report)["clean_completed_minus_clean"] == {"auc": "+0.0000 (-0.0001 to +0.0000)"}


def test_summarise_heldout__overall_groups_and_worst() -> None:
    found = summarise_heldout(heldout_report())
    [(title, rows)] = found.items()
    assert title == "Held-out faces (90)"
    assert list(rows) == ["all", "worst group", "sex male", "sex female", "command"]
    overall, worst = rows["all"], rows["worst group"]
    assert overall["faces"] == 90
    assert "faces" not in worst
    assert overall["PSNR inside, dB"] == "6.000 (5.900 to 6.100)"
    assert overall["recovered similarity, dlib"] == "0.500 (0.400 to 0.600)"
    assert rows["command"] == "python -m benchmarks.heldout"
    assert worst["PSNR, dB"] == "1.000 (0.900 to 1.100), age 0-12"
    # No group is large enough for this figure.
    assert "SSIM" not in worst
    assert rows["sex female"]["faces"] == 40
    assert rows["sex male"]["PSNR, dB"].startswith("4.000")


def test_record_scores__both_kinds_of_reports(folder: Path) -> None:
    reports = [written(folder, lfw_report()), written(folder, heldout_report(), "heldout.json")]
    scores = record_scores("net.tag", reports, folder)
    assert read_manifest(folder)[0].scores == json.loads(json.dumps(scores))
    assert next(iter(scores)) == "LFW, dlib"
    card = (folder / "net.tag.md").read_text(encoding="utf-8")
    assert "### Held-out faces (90)\n\n|  | faces | PSNR, dB |" in card
    assert "| worst group |  | 1.000 (0.900 to 1.100), age 0-12 |" in card
    assert "soft" in card
    record_scores("net.tag", [], folder, notes="sharp")
    assert read_manifest(folder)[0].notes == "sharp"


def test_record_scores__does_not_make_weights_the_newest(folder: Path) -> None:
    (folder / "net.later.safetensors").write_bytes(b"x")
    add_to_manifest(WeightsRow("net.later", "net", "net.later.safetensors", SHA, 1), folder)
    record_scores("net.tag", [written(folder, lfw_report())], folder)
    assert [row.name for row in read_manifest(folder)] == ["net.tag", "net.later"]


def test_record_scores__refuses_what_is_no_report_of_these_weights(folder: Path) -> None:
    with pytest.raises(InputError, match=r"not in .*known: net\.tag"):
        record_scores("net.other", [], folder)
    with pytest.raises(InputError, match=f"made with weights bbbbbbbbbbbb, not {SHA[:12]}; run the benchmark again"):
        record_scores("net.tag", [written(folder, lfw_report("b" * 64))], folder)
    broken = heldout_report()
    del broken["worst"]
    for report in (broken, {"weights": {"sha256": SHA}}):
        with pytest.raises(InputError, match=r"no report of benchmarks\.lfw or benchmarks\.heldout"):
            record_scores("net.tag", [written(folder, report)], folder)
    assert read_manifest(folder)[0].scores == {}


@pytest.mark.parametrize(
    ("part", "changed", "reason"),
    [
        ("data", {"official": False}, "not over the official list of pairs"),
        ("protocol", {"folds": 2, "drop_failed": False}, "over 2 folds, not 10"),
        ("protocol", {"folds": 10, "drop_failed": True}, r"without the pairs that failed \(--drop-failed\)"),
        ("settings", {"probes": {"align": "masked"}}, r"aligned by the masked picture \(--align masked\)"),
    ],
)
def test_record_scores__refuses_another_protocol(folder: Path, part: str, changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(InputError, match=f"odd\\.json: {reason}; a card's LFW rows are of all official pairs"):
        record_scores("net.tag", [written(folder, lfw_report() | {part: changed}, "odd.json")], folder)
    assert read_manifest(folder)[0].scores == {}
    aligned_as_ever = lfw_report() | {"settings": {"probes": {"align": "clean"}}}
    assert list(record_scores("net.tag", [written(folder, aligned_as_ever)], folder)) == ["LFW, dlib"]


def test_record_scores__a_recogniser_is_known_as_the_embedder(tmp_path: Path) -> None:
    (tmp_path / "lightcnn9.tag.safetensors").write_bytes(b"x")
    add_to_manifest(WeightsRow("lightcnn9.tag", "lightcnn9", "lightcnn9.tag.safetensors", SHA, 1), tmp_path)
    with pytest.raises(InputError, match=f"made with weights dddddddddddd, not {SHA[:12]}"):
        record_scores("lightcnn9.tag", [written(tmp_path, lfw_report())], tmp_path)
    report = lfw_report("b" * 64) | {"embedder": {"name": "lightcnn:lightcnn9.tag", "sha256": SHA}}
    scores = record_scores("lightcnn9.tag", [written(tmp_path, report)], tmp_path)
    assert list(scores) == ["LFW, lightcnn:lightcnn9.tag"]
