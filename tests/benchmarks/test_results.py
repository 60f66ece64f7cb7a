"""Committed results are whole reports, made with released weights, and the README shows their figures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.ablation_seeds import format_seeds, read_ablations
from benchmarks.ablation_table import format_ablation
from benchmarks.schema import validate_report
from benchmarks.table import format_recognisers, format_summary, read_reports
from maskfix.weights import read_manifest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks" / "results"
RESULTS = sorted(FOLDER.glob("lfw--*.json"))
DETECTED = sorted(FOLDER.glob("lfw-detected--*.json"))
"""Probes cut out by what a detector finds on the masked picture."""
UNSEEN = [sorted(FOLDER.glob(f"lfw-{masks}--*.json")) for masks in ("photos", "print")]
"""Probes under masks of other makers."""


@pytest.mark.parametrize("path", [*RESULTS, *DETECTED, *UNSEEN[0], *UNSEEN[1]], ids=lambda path: path.stem)
def test_results__valid_and_of_released_weights(path: Path) -> None:
    report = json.loads(path.read_text(encoding="utf-8"))
    validate_report(report)
    hashes = {row.name: row.sha256 for row in read_manifest(ROOT / "weights")}
    assert hashes[report["weights"]["name"]] == report["weights"]["sha256"]


@pytest.mark.parametrize(
    ("paths", "page"),
    [(RESULTS, "lfw--cadf_small_128.utkface.md"), (DETECTED, "lfw-detected--cadf_small_128.utkface.md")],
)
def test_results__pages_show_them(paths: list[Path], page: str) -> None:
    """What `python -m benchmarks.table` prints: all of it beside the reports, a row a recogniser in the README."""
    reports = read_reports(paths)
    table, short = format_recognisers(reports), format_summary(reports)
    assert table.count("Completed") >= 2 * len(paths) > 0
    assert table in (FOLDER / page).read_text(encoding="utf-8")
    assert short in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("paths", [paths for paths in UNSEEN if paths])
def test_results__page_of_masks_of_other_makers(paths: list[Path]) -> None:
    assert format_recognisers(read_reports(paths)) in (FOLDER / "lfw-unseen.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("ablation*.json")), ids=lambda path: path.stem)
def test_results__pages_of_the_ablations(path: Path) -> None:
    report = json.loads(path.read_text(encoding="utf-8"))
    assert path.with_suffix(".md").read_text(encoding="utf-8") == format_ablation(report) + "\n"
    assert report["missing"] == []


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.md")), ids=lambda path: path.stem)
def test_results__zero_has_no_sign(path: Path) -> None:
    assert re.findall(r"[-+]0\.0+\b", path.read_text(encoding="utf-8")) == []


def test_results__page_of_all_seeds() -> None:
    reports = read_ablations([FOLDER / "ablation.json", *sorted(FOLDER.glob("ablation-seed?.json"))])
    assert len(reports) == 3
    assert (FOLDER / "ablation-seeds.md").read_text(encoding="utf-8") == format_seeds(reports) + "\n"
    longer = read_ablations(sorted(FOLDER.glob("ablation-long-seed?.json")))
    assert len(longer) == 3
    assert (FOLDER / "ablation-long-seeds.md").read_text(encoding="utf-8") == format_seeds(longer) + "\n"
