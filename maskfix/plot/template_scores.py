"""Scores of a finished run over templates (`python -m benchmarks.ijbc run`), mapped from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.base import UNREADABLE_ARRAYS, BoolArray, DatasetError, FloatArray

REPORT = "report.json"
_BENCHMARK = "ijbc"
_ROWS = {"bool": "flags", "float32": "scores", "int32": "places"}


class TemplateScores(NamedTuple):
    """Scores of P pairs of templates under each method.

    Attributes:
        scores: `(P,)` float32 for each method, mapped into memory; higher means more alike, -inf marks a failed pair.
        same: True for genuine pairs, `(P,)` bool, mapped as well.
    """

    scores: dict[str, FloatArray]
    same: BoolArray


def holds_template_run(folder: Path) -> bool:
    """Whether a folder's report is that of a run over templates."""
    try:
        return bool(_read_report(folder)["benchmark"] == _BENCHMARK)
    except DatasetError:
        return False


def load_template_scores(folder: str | Path) -> TemplateScores:
    """Read `scores/METHOD.npy` of the methods that `report.json` names, and `pairs/same.npy`.

    Args:
        folder: Folder of one recogniser's run. Nothing in it is ever unpickled.

    Raises:
        DatasetError: If a file is missing or damaged, or files do not belong together; the message names it.
    """
    folder = Path(folder)
    methods = list(_read_report(folder)["methods"])
    same = map_row(folder / "pairs" / "same.npy", "bool")
    scores = {method: map_row(folder / "scores" / f"{method}.npy", "float32", same.size) for method in methods}
    for method, values in scores.items():
        if not (values < np.inf).all():
            raise DatasetError(f"{folder / 'scores' / method}.npy: holds nan or +inf; run the benchmark again")
    return TemplateScores(scores, same)


def _read_report(folder: Path) -> dict[str, Any]:
    """The report of a run: `benchmark` and `methods` are in it, and the names of methods are names of files."""
    path = folder / REPORT
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        good = isinstance(report["benchmark"], str) and all(Path(name).name == name for name in report["methods"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: missing or damaged ({error}); give a folder that a benchmark wrote") from error
    if not good:
        raise DatasetError(f"{path}: damaged; give a folder that a benchmark wrote")
    return report


def map_row(path: Path, dtype: Literal["bool", "float32", "int32"], pairs: int | None = None) -> NDArray[Any]:
    """One array of one axis, mapped into memory.

    Args:
        path: A .npy file; it is never unpickled.
        dtype: What it should hold: flags, scores or places.
        pairs: How many; any number when None.

    Raises:
        DatasetError: If it is missing, damaged or holds anything else.
    """
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except UNREADABLE_ARRAYS as error:
        raise DatasetError(f"{path}: missing or damaged ({error}); run the benchmark again") from error
    if not isinstance(values, np.ndarray) or values.ndim != 1 or values.dtype != dtype:
        raise DatasetError(f"{path}: is not one row of {_ROWS[dtype]}; run the benchmark again")
    if pairs is not None and values.size != pairs:
        raise DatasetError(f"{path}: {values.size} {_ROWS[dtype]} for {pairs} pairs; run the benchmark again")
    return values
