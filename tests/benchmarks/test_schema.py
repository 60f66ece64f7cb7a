"""The schema of reports accepts real ones and refuses what a slip would write."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from benchmarks.report import Parts, build_report
from benchmarks.schema import REPORT_SCHEMA, validate_report
from maskfix.base import InputError
from protocols import LfwDataset, LfwSettings, ProbeSettings, run_lfw
from tests.protocols.worlds import FirstRowRestorer, FlatDetector, GreenOccluder, MiddleEmbedder, write_world


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("world")
    write_world(root)
    dataset, settings = LfwDataset(root), LfwSettings(ProbeSettings(), replicates=20)
    detector, occluder, restorer, embedder = FlatDetector(), GreenOccluder(), FirstRowRestorer(), MiddleEmbedder()
    result = run_lfw(
        dataset,
        detector=detector,
        occluder=occluder,
        restorer=restorer,
        embedders=[embedder],
        cache=root / "cache",
        settings=settings,
    )
    parts = Parts(dataset, detector, occluder, restorer.weights, settings, "cpu")
    return build_report(parts, result, 0, embedder, "middle")


def test_schema__is_a_schema() -> None:
    Draft202012Validator.check_schema(REPORT_SCHEMA)


def test_validate__real_report(report: dict[str, Any]) -> None:
    validate_report(report)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    # Room for the controls of later issues.
    more = copy.deepcopy(report)
    more["methods"]["flat_fill"] = more["methods"]["masked"]
    more["difference"]["completed_minus_flat_fill"] = more["difference"]["completed_minus_masked"]
    del more["harmlessness"]
    validate_report(more)


def put(*keys: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(report: dict[str, Any]) -> None:
        for key in keys[:-1]:
            report = report[key]
        report[keys[-1]] = value

    return change


def drop(*keys: str) -> Callable[[dict[str, Any]], None]:
    def change(report: dict[str, Any]) -> None:
        for key in keys[:-1]:
            report = report[key]
        del report[keys[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (put("methods", "clean", "auc", value=99.2), "methods/clean/auc"),
        (put("methods", "masked", "tpr_at_fpr", "0.01", "tpr", value=-0.1), "methods/masked/tpr_at_fpr/0.01/tpr"),
        (put("methods", "masked", "tpr_at_fpr", "0.01", "ci95", value=[0.5]), "methods/masked/tpr_at_fpr/0.01/ci95"),
        (put("methods", "masked", "n_genuine", value=0), "methods/masked/n_genuine"),
        (put("methods", "extra", value={}), "methods/extra"),
        (put("difference", "completed_minus_masked", "auc", "value", value=2), "difference/completed_minus_masked/auc"),
        (put("weights", "sha256", value="short"), "weights/sha256"),
        (put("protocol", "probe", value="third"), "protocol/probe"),
        (put("format", value=2), "format"),
        (put("surprise", value=1), "the report"),
        (drop("methods", "completed"), "methods"),
        (drop("methods", "clean", "fmr_fnmr_at_clean_threshold", "0.001"), "methods/clean/fmr_fnmr_at_clean_threshold"),
        (drop("recovered"), "the report"),
        (drop("versions", "numpy"), "versions"),
        (drop("seed"), "the report"),
    ],
)
def test_validate__slips(report: dict[str, Any], change: Callable[[dict[str, Any]], None], place: str) -> None:
    spoilt = copy.deepcopy(report)
    change(spoilt)
    with pytest.raises(InputError, match=f"report: {place}"):
        validate_report(spoilt)
