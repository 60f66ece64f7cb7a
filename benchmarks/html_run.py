"""A run's folder read back for its web page: report, thinned curves, score histograms, panel, wrong comparisons."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.html_pictures import PictureFile
from benchmarks.html_scores import RunScores, WrongPairs, find_wrong, open_scores
from benchmarks.report import REPORT
from maskfix.base import DatasetError, InputError, UInt8Array, read_image
from maskfix.metrics import RocCurve, split_scores
from maskfix.plot import ScoreHistogramDisplay
from maskfix.plot.thinning import thinned_curve

CURVE_POINTS = 100
"""Points a decade: a screen is about a thousand pixels wide and a curve has up to seven decades."""


class RunFiles(NamedTuple):
    """What `from_run` found.

    Attributes:
        report: The report.
        curves: Thinned ROC curve of each method; empty without scores.
        histogram: Score histograms; None without scores.
        panel: Example panel, `(H, W, 3)` uint8 RGB; None without panel.png.
        wrong: Wrong decisions; None where the run does not name its pairs or the report has no clean threshold.
        pictures: What thumbnails can be made of, by the names that stand beside them.
        folder: Folder of the pictures, as far as the run says.
    """

    report: dict[str, Any]
    curves: dict[str, RocCurve]
    histogram: ScoreHistogramDisplay | None
    panel: UInt8Array | None
    wrong: WrongPairs | None
    pictures: dict[str, PictureFile]
    folder: Path | None


def find_runs(folder: Path) -> list[Path]:
    """The folder itself if it holds a report, or else the folders in it that do, by name.

    Args:
        folder: What a benchmark's `--out` named.

    Raises:
        DatasetError: If there is none.
    """
    if folder.is_file():
        raise DatasetError(f"{folder}: is a file; give the folder that a benchmark wrote, such as {folder.parent}")
    if (folder / REPORT).is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob(f"*/{REPORT}"))
    if not found:
        raise DatasetError(f"{folder}: holds no {REPORT}; give a folder that a benchmark wrote")
    return found


def headline_rate(report: Mapping[str, Any]) -> str:
    """The false positive rate that a benchmark is known by, as the report's key: 1% for LFW, 1e-4 for IJB-C.

    A set with too few impostor pairs for it is known by the nearest rate that it can resolve.

    Example:
        >>> point, coarse = {"resolvable": True}, {"resolvable": False}
        >>> headline_rate({"benchmark": "lfw", "methods": {"clean": {"tpr_at_fpr": {"0.01": point, "0.001": point}}}})
        '0.01'
        >>> headline_rate({"benchmark": "ijbc", "methods": {"clean": {"tpr_at_fpr": {"0.0001": coarse, "0.1": point}}}})
        '0.1'
    """
    points: dict[str, Any] = next(iter(report["methods"].values()))["tpr_at_fpr"]
    keys = sorted(points, key=float, reverse=True)
    resolved = [key for key in keys if points[key].get("resolvable", True)]
    wanted = 1e-2 if report["benchmark"] == "lfw" else 1e-4
    return min(resolved or keys, key=lambda key: abs(math.log(float(key) / wanted)))


def from_run(folder: str | Path) -> RunFiles:
    """Read what `benchmarks.lfw` or `benchmarks.ijbc run` wrote; one method's scores are in memory at a time.

    Args:
        folder: Folder of one recogniser with report.json; scores (scores.npz of pictures, or scores and pairs of
            templates) and panel.png beside it may be missing.

    Raises:
        DatasetError: If the report is missing or a file is damaged.
        ImageError: If the panel is damaged.
    """
    folder = Path(folder)
    report = _read_report(folder / REPORT)
    panel = folder / "panel.png"
    names = [name for group in report.get("failures", {}).values() for name in group]
    pictures = {name: PictureFile(name) for name in names}
    curves: dict[str, RocCurve] = {}
    histogram, wrong, place = None, None, None
    scores = open_scores(folder)
    if scores is not None:
        curves = {name: _curve(scores, name) for name in scores}
        histogram = ScoreHistogramDisplay.from_scores(scores)
        wrong, beside = find_wrong(report, scores, headline_rate(report))
        pictures |= beside
        place = scores.folder
    example = read_image(panel) if panel.is_file() else None
    return RunFiles(report, curves, histogram, example, wrong, pictures, place)


def _read_report(path: Path) -> dict[str, Any]:
    """Read a report and check that it is one; other versions' additions do no harm."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DatasetError(f"{path}: no such file; give a folder that a benchmark wrote") from error
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: damaged or no report ({error}); run the benchmark again") from error
    check_report(str(path), report)
    plain: dict[str, Any] = report
    return plain


def check_report(name: str, report: Any) -> None:
    """Check that a report has what a page cannot do without.

    Raises:
        DatasetError: If it has not; the message names what is missing.
    """
    parts = ("benchmark", "protocol", "methods", "embedder")
    missing = [part for part in parts if not isinstance(report, dict) or part not in report]
    if missing or not report["methods"]:
        raise DatasetError(f"{name}: no verification report, it has no {(missing or ['methods'])[0]}")


def _curve(scores: RunScores, method: str) -> RocCurve:
    try:
        return thinned_curve(*split_scores(*scores[method]), points_per_decade=CURVE_POINTS)
    except InputError as error:
        raise DatasetError(f"{scores.source}: {method}: {error}; run the benchmark again") from error
