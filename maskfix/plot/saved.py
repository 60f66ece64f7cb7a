"""Scores of a finished run on disk, and the ROC curves of several such runs in one figure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.base import UNREADABLE_ARRAYS, BoolArray, DatasetError, FloatArray, InputError, replacing
from maskfix.plot.roc import RocDisplay
from maskfix.plot.template_scores import REPORT, TemplateScores, holds_template_run, load_template_scores

OVERLAID = ("clean", "masked", "completed", "refined")
"""Methods that `overlay` draws unless it is told otherwise."""

_FILE = "scores.npz"
_PREFIX = "score_"
_FIELDS = ("same", "fold", "gallery", "probe", "gallery_subject", "probe_subject")
_MAX_BYTES = 2 * 2**30


class SavedScores(NamedTuple):
    """Scores of T comparisons under each method, with what is needed to compute every figure again.

    Attributes:
        scores: `(T,)` float32 for each method; higher means more alike, -inf marks a failed comparison.
        same: True for genuine comparisons, `(T,)` bool.
        fold: Fold of each comparison, `(T,)` integers.
        gallery: Name of the gallery picture, `(T,)` text.
        probe: Name of the probe picture, `(T,)` text.
        gallery_subject: Number of the person on the gallery picture, `(T,)` integers.
        probe_subject: Number of the person on the probe picture, `(T,)` integers.
    """

    scores: dict[str, FloatArray]
    same: BoolArray
    fold: NDArray[np.integer[Any]]
    gallery: NDArray[np.str_]
    probe: NDArray[np.str_]
    gallery_subject: NDArray[np.integer[Any]]
    probe_subject: NDArray[np.integer[Any]]


def save_scores(path: str | Path, saved: SavedScores) -> None:
    """Write scores as .npz that `numpy.load(allow_pickle=False)` reads: `score_<method>` and the other attributes.

    Args:
        path: A file ending in .npz; it appears whole or not at all.
        saved: The scores.

    Raises:
        InputError: If the suffix is another.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise InputError(f"{path}: scores are kept in a .npz file")
    columns = {name: getattr(saved, name) for name in _FIELDS}
    with replacing(path) as temporary:
        np.savez_compressed(temporary, **columns, **{_PREFIX + name: values for name, values in saved.scores.items()})


def load_scores(path: str | Path) -> SavedScores:
    """Read what `save_scores` wrote, as `benchmarks.lfw` does into `scores.npz`.

    Args:
        path: The file. Nothing in it is ever unpickled.

    Raises:
        DatasetError: If the file is missing, damaged, or holds no scores; the message names what is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"{path}: no such file; give a scores.npz that a benchmark wrote")
    if path.stat().st_size > _MAX_BYTES:
        raise DatasetError(f"{path}: larger than {_MAX_BYTES} bytes, these are no scores")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except UNREADABLE_ARRAYS as error:
        raise DatasetError(f"{path}: damaged or no scores.npz; run the benchmark again") from error
    scores = {name.removeprefix(_PREFIX): array for name, array in arrays.items() if name.startswith(_PREFIX)}
    missing = [name for name in _FIELDS if name not in arrays]
    if missing or not scores:
        raise DatasetError(
            f"{path}: holds no {', '.join(missing) or 'scores'}; give a scores.npz that a benchmark wrote"
        )
    _check(path, arrays)
    return SavedScores(scores, *(arrays[name] for name in _FIELDS))


def overlay(paths: Sequence[str | Path], out: str | Path, methods: Sequence[str] = OVERLAID) -> Path:
    """Draw the ROC curves of saved runs into one figure.

    The colour of a curve is its method's, its line its run's. A curve that two runs share to the last bit (the clean
    pictures of one recogniser under two completions) is drawn once. With one run the curves are named by their methods,
    with several by run and method.

    Args:
        paths: One or more scores.npz, or folders of runs: of `benchmarks.lfw`, or of `benchmarks.ijbc`, whose scores
            are mapped from files.
        out: Figure ending in .png, .pdf or .svg; it appears whole or not at all.
        methods: Methods to draw, those of them that a run has.

    Returns:
        The path written.

    Raises:
        DatasetError: If a file is missing or holds no scores.
        InputError: If there is no file, no run has any of the methods, or the suffix of `out` is none of these.
    """
    if not paths:
        raise InputError("ROC: expected at least one scores.npz, got none")
    files = [_scores_file(Path(path)) for path in paths]
    runs = {name: _load(path) for name, path in zip(_run_names(files), files, strict=True)}
    return RocDisplay.from_recognisers(_curves(runs, methods)).save(out)


def _load(path: Path) -> SavedScores | TemplateScores:
    """Scores of a run: a scores.npz, or the report that lies beside the arrays of a run over templates."""
    return load_template_scores(path.parent) if path.name == REPORT else load_scores(path)


def _curves(
    runs: Mapping[str, SavedScores | TemplateScores], methods: Sequence[str]
) -> dict[str, dict[str, tuple[FloatArray, BoolArray]]]:
    """Scores and flags of each run's methods; equal curves once."""
    curves: dict[str, dict[str, tuple[FloatArray, BoolArray]]] = {name: {} for name in runs}
    seen: set[tuple[str, bytes, bytes]] = set()
    for name, run in runs.items():
        for method in methods:
            if method not in run.scores:
                continue
            key = (method, _digest(run.scores[method]), _digest(run.same))
            if key not in seen:
                seen.add(key)
                curves[name][method] = (run.scores[method], run.same)
    if not any(curves.values()):
        known = sorted({method for run in runs.values() for method in run.scores})
        raise InputError(f"ROC: no run has a method of {', '.join(methods) or 'none'}; they have: {', '.join(known)}")
    return curves


def _digest(values: NDArray[Any]) -> bytes:
    """Hash of an array's values; no copy of what may be mapped from disk."""
    return hashlib.sha256(np.ascontiguousarray(values).data).digest()


def _scores_file(path: Path) -> Path:
    """The scores of a run, where its folder is given; a file as it is. Of a run over templates it is the report.

    Raises:
        DatasetError: If the folder holds none or the runs of several recognisers.
    """
    if not path.is_dir():
        return path
    # The report decides: a run of benchmarks.lfw may have left its scores in a folder that was used again.
    if holds_template_run(path):
        return path / REPORT
    if (path / _FILE).is_file():
        return path / _FILE
    found = sorted(path.glob(f"*/{_FILE}"))
    found += [report for report in sorted(path.glob(f"*/{REPORT}")) if holds_template_run(report.parent)]
    if len(found) != 1:
        choice = f"choose from {', '.join(map(str, found))}" if found else "give a folder that a benchmark wrote"
        raise DatasetError(f"{path}: holds no {_FILE}; {choice}")
    return found[0]


def _run_names(paths: Sequence[Path]) -> list[str]:
    """Short names for runs: the end of each file's folder, as many parts as tell all runs apart."""
    folders = [path.resolve().parent.parts[1:] or (path.stem,) for path in paths]
    longest = max(map(len, folders))
    for count in range(1, longest + 1):
        names = ["/".join(parts[-count:]) for parts in folders]
        if len(set(names)) == len(names):
            return names
    # Several files of one folder, or one file twice: numbers tell them apart.
    return [f"{path.resolve().parent.name}/{path.stem} ({place})" for place, path in enumerate(paths, start=1)]


def _check(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Check types and lengths of all arrays of a file."""
    count = arrays["same"].shape
    kinds = {"same": "b", "gallery": "U", "probe": "U"}
    for name, array in arrays.items():
        if name not in _FIELDS and not name.startswith(_PREFIX):
            continue
        wanted = "f" if name.startswith(_PREFIX) else kinds.get(name, "iu")
        if array.ndim != 1 or array.shape != count or array.dtype.kind not in wanted:
            raise DatasetError(
                f"{path}: {name} has shape {array.shape} and type {array.dtype}, expected one value for each of the "
                f"{arrays['same'].size} comparisons; run the benchmark again"
            )
        if wanted == "f" and not (array < np.inf).all():
            raise DatasetError(f"{path}: {name} holds nan or +inf; run the benchmark again")
