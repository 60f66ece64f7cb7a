"""Ablations of several seeds pooled, against SciPy's own interval."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from benchmarks.ablation_seeds import app, format_seeds, pool
from maskfix.base import InputError

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def reports(*shifts: float) -> list[dict[str, Any]]:
    """The committed report as several seeds, each with all differences moved."""
    first = json.loads((RESULTS / "ablation.json").read_text(encoding="utf-8"))
    found = []
    for seed, shift in enumerate(shifts):
        report = deepcopy(first)
        report["seed"] = report["config"]["seed"] = seed
        for row in report["rows"]:
            for figure in row["minus_full"].values():
                figure["value"] += shift
        found.append(report)
    return found


def test_pool__against_scipy() -> None:
    given = reports(0.0, 0.3, -0.1)
    found = pool(given)
    assert set(found) == {row["name"] for row in given[0]["rows"]} - {"full"}
    for row in given[0]["rows"]:
        for name, figure in row["minus_full"].items() if row["name"] != "full" else ():
            values = figure["value"] + np.array([0.0, 0.3, -0.1])
            pooled = found[row["name"]][name]
            assert pooled.values == pytest.approx(values)
            assert pooled.mean == pytest.approx(values.mean())
            assert pooled.ci95 == pytest.approx(tuple(stats.ttest_1samp(values, 0).confidence_interval(0.95)))


def test_one_seed__no_interval() -> None:
    assert {pooled.ci95 for row in pool(reports(0.0)).values() for pooled in row.values()} == {None}


def test_variants_that_a_report_lacks__left_out() -> None:
    one, two = reports(0.0, 0.0)
    two["rows"] = [row for row in two["rows"] if row["name"] in ("full", "daf-uv")]
    assert set(pool([one, two])) == {"daf-uv"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 0}, "each seed once, got 0, 0"),
        ({"steps": 600}, "seeds 0 and 1 are of another steps"),
        ({"encoder": {"sha256": "f" * 64, "steps": 140}}, "seeds 0 and 1 are of another encoder"),
        ({"config": {"seed": 1, "batch_size": 8}}, "seeds 0 and 1 are of another config"),
    ],
)
def test_reports_of_another_kind__refused(change: dict[str, Any], message: str) -> None:
    one, two = reports(0.0, 0.0)
    with pytest.raises(InputError, match=message):
        pool([one, two | change])


def test_command(tmp_path: Path) -> None:
    paths = [tmp_path / f"{seed}.json" for seed in range(2)]
    for path, report in zip(paths, reports(0.0, 0.1), strict=True):
        path.write_text(json.dumps(report), encoding="utf-8")
    told = CliRunner().invoke(app, [*map(str, paths), "--out", str(tmp_path / "seeds.md")])
    assert told.exit_code == 0
    text = (tmp_path / "seeds.md").read_text(encoding="utf-8")
    assert told.output == text == format_seeds(reports(0.0, 0.1)) + "\n"
    assert "2 runs each (seeds 0, 1) of 300 steps of 16 faces," in text
    # The committed report says +0.30 dB of a fresh encoder.
    [line] = [line for line in text.splitlines() if line.startswith("| Siamese pre-training |")]
    assert line.split(" | ")[2].endswith(": +0.30, +0.40")
    assert [line.split(" |")[0] for line in text.splitlines()[6:]] == [
        "| Siamese pre-training, dual attention fusion, correspondence",
        "| dual attention fusion, correspondence",
        "| Siamese pre-training, correspondence",
        "| Siamese pre-training, dual attention fusion",
        "| correspondence",
        "| dual attention fusion",
        "| Siamese pre-training",
        "| the occlusion head",
        "| compositing",
    ]


def test_no_report__one_line(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"benchmark": "lfw"}')
    for name, message in (("other.json", "no report of benchmarks.ablation"), ("absent.json", "cannot be read")):
        told = CliRunner().invoke(app, [str(tmp_path / name)])
        assert told.exit_code == 2
        assert message in " ".join(told.stderr.split())
