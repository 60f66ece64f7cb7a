"""A run's folder read back for its web page: report, thinned curves, score histograms, panel, wrong comparisons."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import REPORT
from maskfix.base import BoolArray, DatasetError, FloatArray, InputError, UInt8Array, read_image
from maskfix.metrics import RocCurve, split_scores
from maskfix.plot import ScoreHistogramDisplay
from maskfix.plot.thinning import thinned_curve

CURVE_POINTS = 100
"""Points a decade: a screen is about a thousand pixels wide and a curve has up to seven decades."""

_SCORE = "score_"
_WRONG = 6
_UNREADABLE = (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile)


class WrongPair(NamedTuple):
    """A comparison decided wrongly at the clean threshold.

    Attributes:
        gallery: Name of the gallery picture.
        probe: Name of the probe picture.
        same: True for a genuine pair, which is a false non-match.
        scores: Score under each method; -inf marks a failed comparison.
    """

    gallery: str
    probe: str
    same: bool
    scores: dict[str, float]


class WrongPairs(NamedTuple):
    """The worst wrong decisions of one method.

    Attributes:
        method: Whose decisions, "completed" where there is one.
        rate: False match rate at which the threshold was fixed on clean probes, as the report's key.
        threshold: That threshold.
        non_matches: All genuine pairs rejected.
        matches: All impostor pairs accepted.
        pairs: The worst of both, genuine pairs first.
    """

    method: str
    rate: str
    threshold: float
    non_matches: int
    matches: int
    pairs: tuple[WrongPair, ...]


class RunFiles(NamedTuple):
    """What `from_run` found.

    Attributes:
        report: The report.
        curves: Thinned ROC curve of each method; empty without scores.npz.
        histogram: Score histograms; None without scores.npz.
        panel: Example panel, `(H, W, 3)` uint8 RGB; None without panel.png.
        wrong: Wrong decisions; None where scores.npz has no names of pictures or the report no clean threshold.
    """

    report: dict[str, Any]
    curves: dict[str, RocCurve]
    histogram: ScoreHistogramDisplay | None
    panel: UInt8Array | None
    wrong: WrongPairs | None


def find_runs(folder: Path) -> list[Path]:
    """The folder itself if it holds a report, or else the folders in it that do, by name.

    Args:
        folder: What a benchmark's `--out` named.

    Raises:
        DatasetError: If there is none.
    """
    if (folder / REPORT).is_file():
        return [folder]
    found = sorted(path.parent for path in folder.glob(f"*/{REPORT}"))
    if not found:
        raise DatasetError(f"{folder}: holds no {REPORT}; give a folder that a benchmark wrote")
    return found


def headline_rate(report: Mapping[str, Any]) -> str:
    """The false positive rate that a benchmark is known by, as the report's key: 1% for LFW, 1e-4 for IJB-C.

    Example:
        >>> headline_rate({"benchmark": "lfw", "methods": {"clean": {"tpr_at_fpr": {"0.01": {}, "0.001": {}}}}})
        '0.01'
    """
    keys: list[str] = sorted(next(iter(report["methods"].values()))["tpr_at_fpr"], key=float, reverse=True)
    wanted = 1e-2 if report["benchmark"] == "lfw" else 1e-4
    return min(keys, key=lambda key: abs(math.log(float(key) / wanted)))


def from_run(folder: str | Path) -> RunFiles:
    """Read what `benchmarks.report.write_run` wrote; one method's scores are in memory at a time.

    Args:
        folder: Folder with report.json; scores.npz and panel.png beside it may be missing.

    Raises:
        DatasetError: If the report is missing or a file is damaged.
        ImageError: If the panel is damaged.
    """
    folder = Path(folder)
    report = _read_report(folder / REPORT)
    panel = folder / "panel.png"
    curves: dict[str, RocCurve] = {}
    histogram, wrong = None, None
    if (folder / "scores.npz").is_file():
        scores = _Scores(folder / "scores.npz")
        curves = {name: _curve(scores, name) for name in scores}
        histogram = ScoreHistogramDisplay.from_scores(scores)
        wrong = _wrong_pairs(report, scores)
    return RunFiles(report, curves, histogram, read_image(panel) if panel.is_file() else None, wrong)


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


class _Scores(Mapping[str, tuple[FloatArray, BoolArray]]):
    """Scores and flags by method, read from an .npz when they are asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with np.load(path, allow_pickle=False) as file:
                self.fields = frozenset(file.files)
        except _UNREADABLE as error:
            raise DatasetError(f"{path}: damaged or no scores.npz; run the benchmark again") from error
        self.methods = [name.removeprefix(_SCORE) for name in sorted(self.fields) if name.startswith(_SCORE)]
        if not self.methods or "same" not in self.fields:
            raise DatasetError(f"{path}: holds no scores; give a scores.npz that a benchmark wrote")
        known = ("clean", "masked", "completed")
        self.methods.sort(key=lambda name: known.index(name) if name in known else len(known))
        self.same = np.asarray(self.read("same"))

    def read(self, field: str) -> NDArray[Any]:
        """One array of the file."""
        try:
            with np.load(self.path, allow_pickle=False) as file:
                array: NDArray[Any] = file[field]
        except _UNREADABLE as error:
            raise DatasetError(f"{self.path}: {field} is damaged; run the benchmark again") from error
        return array

    def __getitem__(self, method: str) -> tuple[FloatArray, BoolArray]:
        if method not in self.methods:
            raise KeyError(method)
        return self.read(_SCORE + method), self.same

    def __iter__(self) -> Iterator[str]:
        return iter(self.methods)

    def __len__(self) -> int:
        return len(self.methods)


def _curve(scores: _Scores, method: str) -> RocCurve:
    try:
        return thinned_curve(*split_scores(*scores[method]), points_per_decade=CURVE_POINTS)
    except InputError as error:
        raise DatasetError(f"{scores.path}: {method}: {error}; run the benchmark again") from error


def _wrong_pairs(report: Mapping[str, Any], scores: _Scores) -> WrongPairs | None:
    """The worst decisions at the clean threshold, where the file names its pictures."""
    method = "completed" if "completed" in scores else scores.methods[-1]
    rate = headline_rate(report)
    moved = report["methods"].get(method, {}).get("fmr_fnmr_at_clean_threshold", {}).get(rate)
    if not {"gallery", "probe"} <= scores.fields or not moved or moved["threshold"] is None:
        return None
    threshold, same = float(moved["threshold"]), scores.same
    decided = scores[method][0].astype(np.float64)
    missed = np.flatnonzero(same & ~(decided > threshold))
    matched = np.flatnonzero(~same & (decided > threshold))
    worst = [
        *missed[np.argsort(decided[missed], kind="stable")[:_WRONG]],
        *matched[np.argsort(-decided[matched], kind="stable")[:_WRONG]],
    ]
    names = [scores.read(side)[worst] for side in ("gallery", "probe")]
    columns = {name: scores[name][0][worst].astype(np.float64) for name in scores}
    pairs = tuple(
        WrongPair(
            str(names[0][place]),
            str(names[1][place]),
            bool(same[row]),
            {name: float(values[place]) for name, values in columns.items()},
        )
        for place, row in enumerate(worst)
    )
    return WrongPairs(method, rate, threshold, len(missed), len(matched), pairs)


def picture_names(runs: Sequence[RunFiles]) -> list[str]:
    """Names of all pictures whose thumbnails a page of these runs can show."""
    names: dict[str, None] = {}
    for run in runs:
        for group in run.report.get("failures", {}).values():
            names.update(dict.fromkeys(group))
        for pair in run.wrong.pairs if run.wrong else ():
            names.update({pair.gallery: None, pair.probe: None})
    return list(names)
