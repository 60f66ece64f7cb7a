"""Measured results into the manifest, so that a card cannot say anything else than a report did."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskfix.base import InputError
from maskfix.model_card import write_cards
from maskfix.weights import manifest_row, replace_in_manifest

_HELD_OUT = {"psnr": "PSNR, dB", "psnr_masked": "PSNR inside, dB", "ssim": "SSIM", "sharpness": "sharpness inside"}
_METHODS = ("clean", "masked", "completed", "fused", "clean_completed")
_RATES = ("0.01", "0.001")


def record_scores(
    name: str, reports: Sequence[str | Path], folder: str | Path, notes: str | None = None
) -> dict[str, Any]:
    """Put the headline figures of reports into a weights' manifest row and write its card anew.

    Args:
        name: `arch.tag` of a row in the manifest.
        reports: Files of `benchmarks.lfw`, one a recogniser, or of `benchmarks.heldout`.
        folder: Weights folder with `manifest.json`.
        notes: What a user should know; the row's notes stay when None.

    Returns:
        The row's scores.

    Raises:
        InputError: If the row is not in the manifest, a report cannot be read, it was made with other weights, or by
            another protocol than the card's LFW rows are of.
    """
    folder = Path(folder)
    row = manifest_row(name, folder)
    scores: dict[str, Any] = dict(row.scores)
    for path in reports:
        report = _read(Path(path))
        # A recogniser's card takes reports in which it is the embedder; a completion network's, those with its weights.
        used = report["embedder" if row.arch.startswith("lightcnn") else "weights"]["sha256"]
        if used != row.sha256:
            raise InputError(f"{path}: made with weights {used[:12]}, not {row.sha256[:12]}; run the benchmark again")
        if report.get("benchmark") == "heldout":
            scores |= summarise_heldout(report)
        else:
            _check_protocol(path, report)
            scores[f"LFW, {report['embedder']['name']}"] = summarise(report)
    replace_in_manifest(dataclasses.replace(row, scores=scores, notes=row.notes if notes is None else notes), folder)
    write_cards(folder)
    return scores


def _check_protocol(path: str | Path, report: Mapping[str, Any]) -> None:
    """Refuse an LFW report that is not over all official pairs, aligned by the clean picture."""
    protocol = report["protocol"]
    wrong = {
        "not over the official list of pairs": not report["data"]["official"],
        f"over {protocol['folds']} folds, not 10": protocol["folds"] != 10,
        "without the pairs that failed (--drop-failed)": protocol["drop_failed"],
        # Older reports do not name the alignment; they knew only that of the clean picture.
        "aligned by the masked picture (--align masked)": report["settings"]["probes"].get("align", "clean") != "clean",
    }
    reasons = [reason for reason, found in wrong.items() if found]
    if reasons:
        raise InputError(
            f"{path}: {', '.join(reasons)}; a card's LFW rows are of all official pairs, aligned by the clean picture"
        )


def summarise(report: Mapping[str, Any]) -> dict[str, Any]:
    """Headline figures of one LFW report, as fractions; intervals are 95%.

    Args:
        report: A `report.json` of `benchmarks.lfw`.
    """
    figures: dict[str, Any] = {}
    for method in _METHODS:
        if method in report["methods"]:
            row = report["methods"][method]
            points = row["tpr_at_fpr"]
            figures[method] = {"auc": row["auc"]} | {rate: points[rate]["tpr"] for rate in _RATES}
            moved = row["fmr_fnmr_at_clean_threshold"]["0.01"]["fmr"]
            figures[method] |= {"fmr_at_clean_threshold": moved, "accuracy": _accuracy(row["accuracy"])}
    figures["recovered"] = dict(report["recovered"])
    figures["completed_minus_masked"] = _differences(report["difference"]["completed_minus_masked"])
    if "fused_minus_masked" in report["difference"]:
        figures["fused_minus_masked"] = _differences(report["difference"]["fused_minus_masked"])
    if "harmlessness" in report:
        figures["clean_completed_minus_clean"] = _differences(report["harmlessness"])
    figures["command"] = report["command"]
    return figures


def summarise_heldout(report: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of held-out faces: of all, of the worst group of each figure, and by group, with 95% intervals.

    Args:
        report: A report of `benchmarks.heldout`.
    """
    groups = {
        f"{attribute} {group}": _heldout_row(summary)
        for attribute, by_group in report["groups"].items()
        for group, summary in by_group.items()
        if summary["faces"]
    }
    # Of the worst groups each figure is of another one; they have no common number of faces.
    worst = {"worst group": _heldout_figures(report["worst"])}
    rows = {"all": _heldout_row(report["overall"]), **worst, **groups, "command": report["command"]}
    return {f"Held-out faces ({report['overall']['faces']})": rows}


def _heldout_row(summary: Mapping[str, Any]) -> dict[str, Any]:
    """How many faces a group has, and its figures."""
    return {"faces": summary["faces"], **_heldout_figures(summary)}


def _heldout_figures(summary: Mapping[str, Any]) -> dict[str, str]:
    """The figures of one group of faces as text."""
    shown = {label: _heldout_cell(summary["figures"].get(name)) for name, label in _HELD_OUT.items()}
    for embedder, figures in summary["embedders"].items():
        shown[f"recovered similarity, {embedder}"] = _heldout_cell(figures["recovered"])
    return {label: cell for label, cell in shown.items() if cell}


def _heldout_cell(row: Mapping[str, Any] | None) -> str:
    """One figure with its interval; a worst group's row says which group it is."""
    if row is None or row["value"] is None:
        return ""
    shown = f"{row['value']:.3f}"
    if row["ci95"]:
        shown += f" ({row['ci95'][0]:.3f} to {row['ci95'][1]:.3f})"
    return shown + (f", {row['attribute']} {row['group']}" if "group" in row else "")


def _accuracy(folds: Mapping[str, Any]) -> str:
    """Accuracy over ten folds as text, with its standard error."""
    return "not measured" if folds["mean"] is None else f"{folds['mean']:.4f} (standard error {folds['se']:.4f})"


def _differences(values: Mapping[str, Any]) -> dict[str, str]:
    """Differences as text with their intervals; what rounds to zero is never said to be below it."""
    shown = {}
    for key, item in values.items():
        interval = item["ci95"]
        shown[key] = f"{item['value']:+z.4f}" + (f" ({interval[0]:+z.4f} to {interval[1]:+z.4f})" if interval else "")
    return shown


def _read(path: Path) -> dict[str, Any]:
    """Read one report."""
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        report["weights"]["sha256"]
        if report.get("benchmark") == "heldout":
            summarise_heldout(report)
        else:
            summarise(report), report["embedder"]["name"], report["embedder"]["sha256"]
            report["data"]["official"], report["protocol"]["folds"], report["protocol"]["drop_failed"]
            report["settings"]["probes"].get("align")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: no report of benchmarks.lfw or benchmarks.heldout ({type(error).__name__}: {error})"
        ) from error
    return report
