"""Scores of a finished run for its web page, of pictures or of templates, and the decisions that were worst."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.html_pictures import PictureFile
from benchmarks.ijbc.saved import load_pictures, load_run
from maskfix.base import UNREADABLE_ARRAYS, BoolArray, DatasetError, FloatArray

_SCORE = "score_"
_WRONG = 6
_FIRST = ("clean", "masked", "completed")


class WrongPair(NamedTuple):
    """A comparison decided wrongly at the clean threshold.

    Attributes:
        gallery: Name of the gallery picture, or what its template is called.
        probe: Name of the probe picture, or what its template is called.
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


Side = list[tuple[str, PictureFile | None]]
"""What one side of some pairs is called, and the picture that stands for it."""


class RunScores(Mapping[str, tuple[FloatArray, BoolArray]]):
    """Scores and flags of genuine pairs by method, read when they are asked for.

    Attributes:
        source: File or folder, for messages.
        methods: The methods; clean, masked and completed first.
        same: True for genuine pairs, `(P,)` bool.
        folder: Folder of the pictures, as far as the run says; None where it does not.
    """

    source: Path
    methods: list[str]
    same: BoolArray
    folder: Path | None = None

    @abstractmethod
    def read(self, method: str) -> FloatArray:
        """Scores of one method, `(P,)`."""

    @abstractmethod
    def sides(self, rows: NDArray[np.int64]) -> tuple[Side, Side] | None:
        """Gallery and probe of some pairs; None where the run does not name them."""

    def __getitem__(self, method: str) -> tuple[FloatArray, BoolArray]:
        if method not in self.methods:
            raise KeyError(method)
        return self.read(method), self.same

    def __iter__(self) -> Iterator[str]:
        return iter(self.methods)

    def __len__(self) -> int:
        return len(self.methods)


class PictureScores(RunScores):
    """Pairs of pictures: the `scores.npz` of `benchmarks.lfw`; one method's scores are in memory at a time.

    Args:
        path: The file.

    Raises:
        DatasetError: If it is damaged or holds no scores.
    """

    def __init__(self, path: Path) -> None:
        self.source = path
        try:
            with np.load(path, allow_pickle=False) as file:
                self._fields = frozenset(file.files)
        except UNREADABLE_ARRAYS as error:
            raise DatasetError(f"{path}: damaged or no scores.npz; run the benchmark again") from error
        self.methods = [name.removeprefix(_SCORE) for name in sorted(self._fields) if name.startswith(_SCORE)]
        if not self.methods or "same" not in self._fields:
            raise DatasetError(f"{path}: holds no scores; give a scores.npz that a benchmark wrote")
        self.methods.sort(key=lambda name: _FIRST.index(name) if name in _FIRST else len(_FIRST))
        self.same = np.asarray(self._field("same"))

    def read(self, method: str) -> FloatArray:
        """Scores of one method."""
        return self._field(_SCORE + method)

    def sides(self, rows: NDArray[np.int64]) -> tuple[Side, Side] | None:
        """Names of the pictures, where the file has them."""
        if not {"gallery", "probe"} <= self._fields:
            return None
        return self._side("gallery", rows), self._side("probe", rows)

    def _side(self, side: str, rows: NDArray[np.int64]) -> Side:
        return [(str(name), PictureFile(str(name))) for name in self._field(side)[rows]]

    def _field(self, name: str) -> NDArray[Any]:
        """One array of the file."""
        try:
            with np.load(self.source, allow_pickle=False) as file:
                array: NDArray[Any] = file[name]
        except UNREADABLE_ARRAYS as error:
            raise DatasetError(f"{self.source}: {name} is damaged; run the benchmark again") from error
        return array


class TemplateScores(RunScores):
    """Pairs of templates: the folder of `benchmarks.ijbc run`; scores stay in their files, mapped into memory.

    Args:
        folder: Folder of one recogniser.

    Raises:
        DatasetError: If a file is missing or damaged, or files do not belong together.
    """

    def __init__(self, folder: Path) -> None:
        self.source = folder
        self._run = load_run(folder)
        self._pictures = load_pictures(folder, len(self._run.templates))
        self.methods = list(self._run.scores)
        self.same = self._run.pairs.same
        self.folder = self._pictures.folder if self._pictures else None

    def read(self, method: str) -> FloatArray:
        """Scores of one method, mapped."""
        return self._run.scores[method]

    def sides(self, rows: NDArray[np.int64]) -> tuple[Side, Side] | None:
        """Numbers of templates and subjects, and the first picture of each template where the run says which."""
        pairs = self._run.pairs
        return self._side(pairs.gallery[rows].tolist()), self._side(pairs.probe[rows].tolist())

    def _side(self, places: list[int]) -> Side:
        run, pictures = self._run, self._pictures
        found: Side = []
        for place in places:
            subject = int(run.subject[place])
            name = f"template {run.templates[place]}" + (f", subject {subject}" if subject >= 0 else "")
            file = PictureFile(str(pictures.image[place]), tuple(pictures.box[place].tolist())) if pictures else None
            found.append((name, file))
        return found


def open_scores(folder: Path) -> RunScores | None:
    """The scores of a run, whichever benchmark wrote them; None where there are none.

    Args:
        folder: Folder with a report.json.

    Raises:
        DatasetError: If they are damaged.
    """
    if (folder / "scores.npz").is_file():
        return PictureScores(folder / "scores.npz")
    return TemplateScores(folder) if (folder / "scores").is_dir() else None


def find_wrong(
    report: Mapping[str, Any], scores: RunScores, rate: str
) -> tuple[WrongPairs | None, dict[str, PictureFile]]:
    """The worst decisions at the clean threshold of a rate.

    Millions of pairs are compared with the threshold where they lie; only the worst are ever put in order.

    Args:
        report: The run's report.
        scores: Its scores.
        rate: False match rate, as the report's key.

    Returns:
        The decisions, None where the run does not name its pairs or has no such threshold; and the pictures that stand
        for their sides, by the sides' names.
    """
    method = "completed" if "completed" in scores else scores.methods[-1]
    moved = report["methods"].get(method, {}).get("fmr_fnmr_at_clean_threshold", {}).get(rate)
    if not moved or moved["threshold"] is None:
        return None, {}
    threshold, decided = float(moved["threshold"]), scores.read(method)
    # A float64 scalar: float32 scores are widened block by block, never as a whole.
    accepted = decided > np.float64(threshold)
    missed = np.flatnonzero(scores.same & ~accepted)
    matched = np.flatnonzero(~scores.same & accepted)
    rows = np.concatenate([missed[_smallest(decided[missed], _WRONG)], matched[_smallest(-decided[matched], _WRONG)]])
    sides = scores.sides(rows)
    if sides is None:
        return None, {}
    columns = {name: scores.read(name)[rows].astype(np.float64).tolist() for name in scores}
    pairs = tuple(
        WrongPair(gallery[0], probe[0], bool(same), {name: values[place] for name, values in columns.items()})
        for place, (gallery, probe, same) in enumerate(zip(*sides, scores.same[rows].tolist(), strict=True))
    )
    pictures = {name: file for side in sides for name, file in side if file is not None}
    return WrongPairs(method, rate, threshold, len(missed), len(matched), pairs), pictures


def _smallest(values: FloatArray, count: int) -> NDArray[np.int64]:
    """Places of the smallest values, smallest first and the earlier one where two are equal, without sorting all."""
    if len(values) > count:
        last = np.partition(values, count - 1)[count - 1]
        below, equal = np.flatnonzero(values < last), np.flatnonzero(values == last)
        places = np.sort(np.append(below, equal[: count - len(below)]))
    else:
        places = np.arange(len(values))
    return places[np.argsort(values[places], kind="stable")]
