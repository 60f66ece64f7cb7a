"""The run over LFW: landmarks, probes, embeddings, scores and figures, for one or more recognisers at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maskfix.align import LandmarkDetector, mask_points_from_five
from maskfix.base import BoolArray, FloatArray, Landmarks, check_range
from maskfix.embed.base import Embedder
from maskfix.occlude import Occluder, generator_for
from protocols.base import Integers, Progress, Restorer, Trials, orient, same_face, silent
from protocols.landmark_cache import FoundLandmarks, LandmarkCache, find_landmarks
from protocols.lfw import LfwDataset
from protocols.pictures import Clock, EmbeddedPictures, Pictures, ProbeSettings
from protocols.probes import embed_pictures
from protocols.verification import any_failure, evaluate, find_failures, score_trials

EXAMPLES = 12
"""Probes on the panel."""

ESTIMATED = "masked by the points of an average face"
"""Count of probes on which the detector that places masks means another face than the one that is cut out."""


@dataclass(frozen=True)
class LfwSettings:
    """How LFW is run.

    Attributes:
        probes: How the probes are made.
        side: Which side of a pair is the probe: `second`, `first` or `both`.
        drop_failed: Leave out pairs in which anything failed, as published tables seem to do, instead of counting them
            as non-matches.
        replicates: Draws of the subject bootstrap; 0 for no intervals.
    """

    probes: ProbeSettings = field(default_factory=ProbeSettings)
    side: str = "second"
    drop_failed: bool = False
    replicates: int = 1000

    def __post_init__(self) -> None:
        """Refuse a number of replicates out of range.

        Raises:
            InputError: If it is.
        """
        check_range("replicates", self.replicates, 0, 1_000_000)


@dataclass
class LfwResult:
    """What a run over LFW gave.

    Attributes:
        trials: The comparisons that the figures are about.
        dropped: Comparisons left out by `drop_failed`.
        scores: For each embedder, the scores of the comparisons under each method.
        figures: For each embedder, what `protocols.verification.evaluate` gives.
        pictures: What the pass over the pictures gave.
        no_face: Pictures without a face, with the detector's reason.
        detected: Pictures that the detector looked at; the landmarks of the others came from the cache.
        seconds: Wall time of each stage.
    """

    trials: Trials
    dropped: int
    scores: list[dict[str, FloatArray]]
    figures: list[dict[str, Any]]
    pictures: EmbeddedPictures
    no_face: dict[str, str]
    detected: int
    seconds: dict[str, float]


def run_lfw(
    dataset: LfwDataset,
    *,
    detector: LandmarkDetector,
    occluder: Occluder,
    restorer: Restorer,
    embedders: Sequence[Embedder],
    cache: str | Path,
    settings: LfwSettings | None = None,
    aligner: LandmarkDetector | None = None,
    progress: Progress = silent,
) -> LfwResult:
    """Run View 2: clean gallery against clean, masked and completed probes.

    Args:
        dataset: The pictures and pairs.
        detector: Finds the landmarks of the clean pictures, which place the masks.
        occluder: Puts the masks on.
        restorer: Completes photographs.
        embedders: Recognisers; they share landmarks, masks and completions.
        cache: Folder for the landmarks.
        settings: How to run; the defaults when None.
        aligner: Finds the five points by which pictures are cut out, of clean ones too; the detector when None. Where
            it means another face than the detector does, the mask is placed on its face, by points of an average
            face, and the probe is counted as `masked by the points of an average face`.
        progress: Told about the stages `landmarks`, `pictures` and `bootstrap`.

    Returns:
        Scores and figures of each embedder.

    Raises:
        MaskfixError: If a picture cannot be read, settings are out of range, the occluder lacks a kind of mask, or no
            pair of a class is left.
    """
    settings = settings or LfwSettings()
    occluder.check_kinds(settings.probes.kinds)
    trials = orient(dataset.pairs, settings.side)
    seconds: dict[str, float] = {}
    other = np.zeros(len(dataset.paths), dtype=np.bool_)
    with Clock(seconds, "landmarks"):
        found = find_landmarks(dataset.paths, detector, LandmarkCache(cache, detector), progress)
        if aligner is not None:
            faces = find_landmarks(dataset.paths, aligner, LandmarkCache(cache, aligner), progress)
            found, other = _aligned_by(found, faces)
    probe = np.zeros(len(dataset.paths), dtype=np.bool_)
    probe[trials.probe] = True
    shown = choose_examples(trials.probe, [item.ok for item in found.landmarks], settings.probes.seed)
    pictures = embed_pictures(
        Pictures(dataset.pairs.pictures, dataset.paths, found.landmarks, probe),
        occluder=occluder,
        restorer=restorer,
        embedders=embedders,
        settings=settings.probes,
        aligner=aligner or detector,
        examples=shown,
        progress=progress,
    )
    if other[probe].any():
        pictures.counts[ESTIMATED] = int(other[probe].sum())
    no_face = {
        picture: landmarks.reason
        for picture, landmarks in zip(dataset.pairs.pictures, found.landmarks, strict=True)
        if not landmarks.ok
    }
    result = LfwResult(trials, 0, [], [], pictures, no_face, found.detected, seconds | pictures.seconds)
    with Clock(result.seconds, "scores and bootstrap"):
        _evaluate(result, settings, progress)
    return result


def _aligned_by(masks: FoundLandmarks, faces: FoundLandmarks) -> tuple[FoundLandmarks, BoolArray]:
    """Mask points of one detector with the five points of another; no face where either found none.

    Where both mean different faces of a picture, the mask goes onto the one that is cut out, by points of an average
    face; those pictures are the second thing given, `(M,)` bool.
    """
    landmarks: list[Landmarks] = []
    other = np.zeros(len(masks.landmarks), dtype=np.bool_)
    for row, (mask, five) in enumerate(zip(masks.landmarks, faces.landmarks, strict=True)):
        if mask.five is None or five.five is None:
            landmarks.append(five if mask.ok else mask)
            continue
        other[row] = not same_face(mask.five, five.five)
        landmarks.append(five._replace(mask=mask_points_from_five(five.five) if other[row] else mask.mask))
    return FoundLandmarks(landmarks, masks.detected + faces.detected), other


def choose_examples(probes: Integers, ok: Sequence[bool], seed: int, count: int = EXAMPLES) -> list[int]:
    """Draw probes for the panel: by the seed alone, before any result is known.

    Args:
        probes: Probe picture of each comparison, `(T,)`.
        ok: Whether a face was found on each picture; probes without a face cannot be shown.
        seed: Seed of the run.
        count: How many to draw; fewer where there are not so many.

    Returns:
        Distinct rows of pictures.
    """
    candidates = np.unique(probes)
    candidates = candidates[np.asarray(ok, dtype=np.bool_)[candidates]]
    drawn = generator_for("panel", "examples", seed).permutation(candidates)[:count]
    return [int(row) for row in drawn]


def _evaluate(result: LfwResult, settings: LfwSettings, progress: Progress) -> None:
    """Fill in scores and figures."""
    every = result.trials
    failures = [find_failures(valid, result.pictures.unmasked, every) for valid in result.pictures.valid]
    kept = np.ones(len(every.same), dtype=np.bool_)
    if settings.drop_failed:
        # The same pairs for all recognisers, so that their figures can be compared.
        kept = ~np.logical_or.reduce([any_failure(flags) for flags in failures])
    result.trials, result.dropped = every.take(kept), int((~kept).sum())
    for place, (vectors, valid) in enumerate(zip(result.pictures.vectors, result.pictures.valid, strict=True)):
        progress("bootstrap", place, len(result.pictures.vectors))
        scores = score_trials(vectors, valid, result.trials)
        # The same draws for every recogniser.
        rng = generator_for("bootstrap", "subjects", settings.probes.seed)
        remaining = find_failures(valid, result.pictures.unmasked, result.trials)
        result.scores.append(scores)
        result.figures.append(evaluate(scores, result.trials, remaining, rng=rng, replicates=settings.replicates))
        progress("bootstrap", place + 1, len(result.pictures.vectors))
