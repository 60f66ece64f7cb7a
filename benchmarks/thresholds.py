"""`python -m benchmarks.thresholds`: what `maskfix verify` decides by, out of the committed reports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.schema import validate_report
from maskfix.base import InputError, replacing
from maskfix.cli.shared import one_line_errors

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TABLE = ROOT / "maskfix" / "cli" / "thresholds.json"


def threshold_table(reports: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The thresholds of some reports.

    Thresholds are those of the clean pairs: nobody knows beforehand whether a face is masked, and a clean face must not
    pay for masked ones. What the same threshold does to completed probes stands beside it.

    Args:
        reports: Whole LFW reports; of two about the same recogniser the later one counts.

    Returns:
        What goes into `thresholds.json`: a row a recogniser, sorted by name and hash.

    Raises:
        InputError: If a report is not over the official list of pairs, or has no threshold at a rate.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for report in sorted(reports, key=lambda report: str(report["created"])):
        row = _row(report)
        rows[row["embedder"], row["sha256"]] = row
    return {"made_by": "python -m benchmarks.thresholds", "thresholds": [rows[key] for key in sorted(rows)]}


def _row(report: Mapping[str, Any]) -> dict[str, Any]:
    """The row of one report."""
    embedder, methods = report["embedder"], report["methods"]
    protocol, clean = report["protocol"], methods["clean"]
    if not report["data"]["official"] or protocol["folds"] != 10 or protocol["drop_failed"]:
        raise InputError(f"report of {embedder['name']}: thresholds want all of the official pairs, nothing dropped")
    points = {}
    for rate, point in clean["tpr_at_fpr"].items():
        if point["threshold"] is None or not point["resolvable"]:
            raise InputError(f"report of {embedder['name']}: no threshold at FMR {rate}")
        points[rate] = {
            "threshold": point["threshold"],
            "fmr": point["fpr"],
            "fnmr": clean["fmr_fnmr_at_clean_threshold"][rate]["fnmr"],
            "completed": {
                figure: methods["completed"]["fmr_fnmr_at_clean_threshold"][rate][figure] for figure in ("fmr", "fnmr")
            },
        }
    return {
        "embedder": embedder["name"],
        "sha256": embedder["sha256"],
        "layout": embedder["layout"],
        "data": f"{protocol['name'].partition(',')[0]}, clean pairs",
        "genuine": clean["n_genuine"],
        "impostors": clean["n_impostor"],
        "detector": f"{report['detector']['name']} {report['detector']['version']}",
        "completed_by": report["weights"]["name"],
        "points": points,
    }


def read_reports(folder: Path) -> list[dict[str, Any]]:
    """The committed LFW reports of a folder, checked.

    Raises:
        InputError: If there is none, or one is damaged.
    """
    paths = sorted(folder.glob("lfw--*.json"))
    if not paths:
        raise InputError(f"{folder}: no lfw--*.json reports")
    reports = []
    for path in paths:
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path}: damaged report ({error})") from error
        validate_report(report)
        reports.append(report)
    return reports


def table_text(folder: Path = RESULTS) -> str:
    """The text of `thresholds.json` for the reports of a folder."""
    return json.dumps(threshold_table(read_reports(folder)), indent=2) + "\n"


def main(
    results: Annotated[Path, typer.Option(help="Folder of committed LFW reports.")] = RESULTS,
    out: Annotated[Path, typer.Option(help="Table to write.")] = TABLE,
) -> None:
    """Write the thresholds that `maskfix verify` decides by."""
    with one_line_errors():
        text = table_text(results)
        with replacing(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print(f"written: {out}")


if __name__ == "__main__":
    typer.run(main)
