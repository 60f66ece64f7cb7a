"""`maskfix verify`: are the faces on two pictures those of one person? Occluded faces are completed first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray

from maskfix.align import align
from maskfix.base import (
    BoolArray,
    Completion,
    DoubleArray,
    FloatArray,
    ImageError,
    InputError,
    MaskfixError,
    UInt8Array,
    check_choice,
    check_range,
    read_image,
    resolve_device,
)
from maskfix.cli.faces import FaceFinder
from maskfix.cli.shared import printable
from maskfix.cli.thresholds import Threshold, find_threshold
from maskfix.deocclude import Deoccluder
from maskfix.embed import Embedder, default_embedder, load
from maskfix.plot.style import FORMATS
from maskfix.plugin.base import GATE_THRESHOLD, Completer, SeamResult, SeamSettings, embed_by_mode
from maskfix.plugin.photograph import Looked, complete_photos

SAME, DIFFERENT, UNDECIDED = 0, 1, 2
"""Exit codes; 2 is that of every error as well: no decision came of it."""


@dataclass(frozen=True)
class VerifySettings:
    """How two pictures are compared.

    Attributes:
        embedder: Recogniser, see `maskfix.embed.load`; `maskfix.embed.default_embedder` when None.
        mode: `gate`: only faces that are occluded count as completed; `always`: all of them; `observe`: none, both
            similarities are shown; `fuse`: like `gate`, with both embeddings mixed.
        threshold: Similarity above which two faces are one person's; the shipped one when None.
        fmr: False match rate of the shipped threshold, 0.01 or 0.001.
        coverage: Occluded share of the canonical crop above which a face counts as occluded.
        weights: Released weights, or a `.safetensors` file.
        detector: `auto`, `mesh` or `mtcnn`.
        device: `auto`, `cpu` or `cuda`.
        numbers: Which face of each picture is compared, counted from the left and from 1; the largest near the centre
            where None.
    """

    embedder: str | None = None
    mode: str = "gate"
    threshold: float | None = None
    fmr: float = 0.001
    coverage: float = GATE_THRESHOLD
    weights: str = "cadf_small_128"
    detector: str = "auto"
    device: str = "auto"
    numbers: tuple[int | None, int | None] = (None, None)

    def __post_init__(self) -> None:
        """Refuse what no comparison could be made with.

        Raises:
            InputError: If the mode is unknown or a number out of range.
        """
        if self.threshold is not None:
            check_range("threshold", self.threshold, -1, 1)
        for side, number in zip("ab", self.numbers, strict=True):
            if number is not None and number < 1:
                raise InputError(f"face-{side}: expected 1 or more (faces are counted from the left), got {number}")
        _ = self.seam

    @property
    def seam(self) -> SeamSettings:
        """The same as the seams of `maskfix.plugin` take it."""
        return SeamSettings(self.mode, self.coverage)


class Face(NamedTuple):
    """One of the two faces.

    Attributes:
        picture: Its file.
        found: Faces on the picture.
        number: Which of them is compared, counted from the left and from 1.
        coverage: Occluded share of its canonical crop, in [0, 1].
        completed: Whether the recogniser saw it completed.
    """

    picture: str
    found: int
    number: int
    coverage: float
    completed: bool


class Verification(NamedTuple):
    """What came of a comparison.

    Attributes:
        similarity: Cosine similarity that decides, in [-1, 1].
        original: The similarity without completion.
        completed: The similarity with every face completed.
        threshold: What it was decided by; None where no threshold is known for the recogniser.
        faces: The two faces.
        embedder: Name and sha256 of the recogniser.
        weights: Name of the completing network's weights.
        mode: How completion was used.
    """

    similarity: float
    original: float
    completed: float
    threshold: Threshold | None
    faces: tuple[Face, Face]
    embedder: tuple[str, str]
    weights: str
    mode: str

    @property
    def same(self) -> bool | None:
        """Whether the two are one person; None where there is no threshold to decide by."""
        return None if self.threshold is None else self.similarity > self.threshold.value

    @property
    def exit_code(self) -> int:
        """0 same, 1 different, 2 undecided."""
        return {True: SAME, False: DIFFERENT, None: UNDECIDED}[self.same]

    def as_json(self) -> dict[str, Any]:
        """The same as plain values, for `--json`."""
        known = None
        if self.threshold is not None:
            known = self.threshold._asdict()
            if self.threshold.completed is not None:
                known["completed"] = dict(zip(("fmr", "fnmr"), self.threshold.completed, strict=True))
        return {
            "same": self.same,
            "similarity": self.similarity,
            "similarity_original": self.original,
            "similarity_completed": self.completed,
            "threshold": known,
            "mode": self.mode,
            "faces": [face._asdict() for face in self.faces],
            "embedder": dict(zip(("name", "sha256"), self.embedder, strict=True)),
            "weights": self.weights,
        }


class _Pair(NamedTuple):
    """Two pictures and what was found on them.

    Attributes:
        photos: The pictures, RGB.
        five: The five points of each face, `(2, 5, 2)`.
        refined: The same for the completed faces: found again after completion where a face is occluded.
        counts: How many faces each picture shows.
        numbers: Which of them is compared, counted from the left and from 1.
    """

    photos: tuple[UInt8Array, UInt8Array]
    five: FloatArray
    refined: FloatArray
    counts: tuple[int, int]
    numbers: tuple[int, int]


def run_verify(
    first: Path,
    second: Path,
    settings: VerifySettings,
    panel: Path | None = None,
    as_json: bool = False,
    *,
    panel_needed: bool = True,
) -> int:
    """Compare two pictures, print what came of it, and write a panel.

    Args:
        first: A picture with a face.
        second: Another one.
        settings: How they are compared.
        panel: Where a panel goes (.png, .pdf or .svg); none when None.
        as_json: Print one JSON object instead of lines.
        panel_needed: Whether a panel that cannot be written is an error; otherwise one line on stderr says so.

    Returns:
        The exit code: 0 one person, 1 two people, 2 where no threshold is known for the recogniser.

    Raises:
        ImageError: If a picture cannot be read, or shows no face or none of the number asked for.
        EmbedderError: If the recogniser is unknown or cannot be loaded.
        WeightsError: If the weights are unknown or damaged.
        InputError: If a setting is out of range, the panel is one of the pictures or, after what came of the comparison
            was printed, the panel cannot be written.
    """
    if panel is not None:
        check_choice(f"{panel}: figure format", panel.suffix.lower().removeprefix("."), FORMATS)
        if panel.resolve() in (first.resolve(), second.resolve()):
            raise InputError(f"{panel}: is a picture to compare; write the panel somewhere else")
    photos = (read_image(first), read_image(second))
    recogniser = load(settings.embedder or default_embedder(), settings.device)
    threshold = (
        find_threshold(recogniser.name, recogniser.sha256, settings.fmr)
        if settings.threshold is None
        else Threshold(settings.threshold)
    )
    blind = Deoccluder.from_pretrained(settings.weights, settings.device)
    finder = FaceFinder(settings.detector, resolve_device(settings.device))
    one, two = (
        _choose(finder, photo, path, blind, number)
        for photo, path, number in zip(photos, (first, second), settings.numbers, strict=True)
    )
    five = np.stack([one.five, two.five])
    refined = blind.refine(photos, five, finder.find, settings.coverage)
    pair = _Pair(photos, five, refined, (one.found, two.found), (one.number, two.number))
    completer = Completer(blind, settings.seam)
    restored, result = complete_photos(completer, pair.photos, Looked(pair.refined))
    similarities = _similarities(recogniser, pair, restored, result, completer)
    faces = tuple(
        Face(str(path), count, number, round(float(covered), 4), bool(seen))
        for path, count, number, covered, seen in zip(
            (first, second), pair.counts, pair.numbers, result.completion.coverage, result.used, strict=True
        )
    )
    outcome = Verification(
        *similarities,
        threshold=threshold,
        faces=(faces[0], faces[1]),
        embedder=(recogniser.name, recogniser.sha256),
        weights=blind.weights.name if blind.weights else "unnamed",
        mode=settings.mode,
    )
    for line in () if as_json else describe(outcome):
        typer.echo(line)
    failure = None if panel is None else _try_panel(panel, pair, blind, result.completion, outcome)
    written = panel if failure is None else None
    if as_json:
        typer.echo(json.dumps({**outcome.as_json(), "panel": str(written) if written else None}))
    elif written:
        typer.echo(f"panel       {printable(written)}")
    if failure is not None:
        if panel_needed:
            raise failure
        typer.echo(f"no panel written: {' '.join(str(failure).split())}", err=True)
    return outcome.exit_code


class _Chosen(NamedTuple):
    """The face of a picture that is compared: its five points, its number from the left, and how many there are."""

    five: FloatArray
    number: int
    found: int


def _choose(finder: FaceFinder, photo: UInt8Array, path: Path, blind: Deoccluder, number: int | None) -> _Chosen:
    """Find the faces of a picture, and of them the one asked for.

    Raises:
        ImageError: If there is no face, or none of that number.
    """
    # Who counts faces counts those that no detector sees as well, so that a number means the same face always.
    points = finder.find_hidden(photo, blind)
    from_left = np.argsort(points[:, :, 0].mean(axis=1), kind="stable")
    if number is None:
        if not len(points):
            raise ImageError(f"{path}: no face found; choose a picture with a face that is larger or less covered")
        return _Chosen(points[0], int(np.flatnonzero(from_left == 0)[0]) + 1, len(points))
    if number > len(points):
        faces = f"{len(points)} face" if len(points) == 1 else f"{len(points) or 'no'} faces"
        raise ImageError(f"{path}: {faces} found, so there is no face {number} from the left")
    return _Chosen(points[from_left[number - 1]], number, len(points))


def _similarities(
    recogniser: Embedder, pair: _Pair, restored: list[UInt8Array], result: SeamResult, completer: Completer
) -> tuple[float, float, float]:
    """The similarity that decides, that of the pictures as they came, and that of both faces completed."""
    five = np.concatenate([pair.five, pair.refined])
    photos = (*pair.photos, *restored)
    crops = [align(photo, points, recogniser.layout)[0] for photo, points in zip(photos, five, strict=True)]
    vectors = recogniser.embed(np.stack(crops)).astype(np.float64)
    original, completed = vectors[:2], vectors[2:]

    def embed(faces: BoolArray) -> DoubleArray:
        return np.where(faces[:, None], completed, original)

    decisive, _ = embed_by_mode(completer, result, embed)
    return _cosine(decisive), _cosine(original), _cosine(completed)


def _cosine(two: DoubleArray) -> float:
    """Cosine similarity of two rows."""
    return float(np.clip(two[0] @ two[1] / np.linalg.norm(two, axis=1).prod(), -1, 1))


def describe(result: Verification) -> list[str]:
    """What came of a comparison, in lines for people."""
    lines = [f"similarity  {result.similarity:.4f}"]
    if result.mode == "observe":
        lines[0] += f"  (completed: {result.completed:.4f}; observed only)"
    elif any(face.completed for face in result.faces):
        lines[0] += f"  (without completion: {result.original:.4f})"
    lines.append(f"decision    {_decision(result)}")
    known = result.threshold
    if known is not None and known.completed is not None and _is_as_measured(result):
        fmr, fnmr = known.completed
        lines.append(
            f"            on masked and completed LFW probes, cut out by the bare face's landmarks, this threshold let "
            f"{fmr:.2%} of impostors in and turned {fnmr:.1%} of genuine pairs away"
        )
    lines += [
        f"face {side}      {_face_line(face, result.mode, side)}" for side, face in zip("AB", result.faces, strict=True)
    ]
    name, sha256 = result.embedder
    return [*lines, f"recogniser  {name} (sha256 {sha256[:12]}), faces completed by {result.weights}"]


def _is_as_measured(result: Verification) -> bool:
    """Whether this is a pair as the benchmark has them for completed probes: one face completed, not fused."""
    return result.mode != "fuse" and sum(face.completed for face in result.faces) == 1


def _decision(result: Verification) -> str:
    known = result.threshold
    if known is None:
        return (
            f"none: no threshold is known for {result.embedder[0]} with sha256 {result.embedder[1][:12]}; "
            "give one with --threshold"
        )
    verdict = "same person" if result.same else "different people"
    side = "above" if result.same else "not above"
    source = known.data
    if known.fmr is not None:
        source = f"set for a false match rate of {known.fmr:.1%} on {known.data}, {known.impostors:,} impostors"
    return f"{verdict}: {side} {known.value:.4f} ({source})"


def _face_line(face: Face, mode: str, side: str) -> str:
    treated = "completed" if face.completed else "as it came"
    if mode == "fuse" and face.completed:
        treated = "completed and fused with the face as it came"
    line = f"{printable(face.picture)}: {face.coverage:.1%} covered, {treated}"
    if face.found == 1:
        return line
    return f"{line}; face {face.number} of {face.found} from the left (--face-{side.lower()} chooses another)"


def _try_panel(
    path: Path, pair: _Pair, blind: Deoccluder, completion: Completion, result: Verification
) -> MaskfixError | None:
    """Write a panel; what it failed with, if it did."""
    try:
        _write_panel(path, pair, blind, completion, result)
    except OSError as error:
        return InputError(f"{path}: cannot be written ({error.strerror or error})")
    except MaskfixError as error:
        return error
    return None


def _write_panel(path: Path, pair: _Pair, blind: Deoccluder, completion: Completion, result: Verification) -> None:
    """Write a panel: a row a face; as it came, completed, occlusion."""
    from maskfix.plot import CompletionPanelDisplay

    crops = np.stack(
        [align(photo, five, blind.layout)[0] for photo, five in zip(pair.photos, pair.refined, strict=True)]
    )
    columns: dict[str, NDArray[Any]] = {
        "as it came": crops,
        "completed": completion.images,
        "occlusion": completion.occlusion,
    }
    labels = [
        "\n".join(
            (
                printable(Path(face.picture).name),
                f"{face.coverage:.1%} covered",
                "completed" if face.completed else "left alone",
            )
        )
        for face in result.faces
    ]
    display = CompletionPanelDisplay(columns=columns, labels=labels)
    verdict = {True: "same person", False: "different people", None: "undecided"}[result.same]
    limit = "" if result.threshold is None else f", threshold {result.threshold.value:.3f}"
    display.plot(title=f"{verdict}\nsimilarity {result.similarity:.3f}{limit}").save(path)
