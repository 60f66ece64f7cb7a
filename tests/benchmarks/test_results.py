"""Committed results are whole reports, made with released weights, and the README shows their figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.schema import validate_report
from benchmarks.table import format_recognisers, read_reports
from maskfix.weights import read_manifest

ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "benchmarks" / "results").glob("lfw--*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_results__valid_and_of_released_weights(path: Path) -> None:
    report = json.loads(path.read_text(encoding="utf-8"))
    validate_report(report)
    hashes = {row.name: row.sha256 for row in read_manifest(ROOT / "weights")}
    assert hashes[report["weights"]["name"]] == report["weights"]["sha256"]


def test_results__readme_shows_them() -> None:
    """What `python -m benchmarks.table benchmarks/results/lfw--*.json` prints."""
    table = format_recognisers(read_reports(RESULTS))
    assert table.count("Completed") >= 2 * len(RESULTS)
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")
