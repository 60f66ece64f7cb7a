"""The run over IJB-B or IJB-C: units through the networks, into features of templates, into scores."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from maskfix.base import BoolArray, FloatArray, UInt8Array
from maskfix.occlude import generator_for
from maskfix.score import pair_scores
from protocols.base import Progress, silent
from protocols.ijb.extract import BlockResult, Extractor
from protocols.ijb.faces import Flag, Picture, read_picture
from protocols.ijb.settings import FeatureSettings, IjbParts, IjbSettings, describe_run
from protocols.ijb.state import RunState, TemplateFeatures
from protocols.ijb.templates import TemplatePairs, TemplateSet
from protocols.ijb.units import Job, Units, find_units, make_job
from protocols.landmark_cache import LandmarkCache
from protocols.pictures import Example
from protocols.prefetch import ahead

EXAMPLES = 12
"""Probes on the panel."""

STATE = "state.npz"
"""File of an unfinished run, in its folder."""

_LANDMARKS_PAUSE = 20
"""Landmarks are written so rarely that writing takes at most one part in so many of the time."""


class Workers(Protocol):
    """What does blocks somewhere else, `protocols.ijb.ray_blocks.RayWorkers` above all."""

    def __call__(self, jobs: Iterator[Job], settings: FeatureSettings, cache: Path) -> Iterator[BlockResult]:
        """Do blocks; results come in the order of the jobs."""
        ...


@dataclass
class IjbFeatures:
    """What the pass over the pictures gave.

    Attributes:
        units: What was read, masked, completed and embedded once.
        templates: Features of the templates by each embedder.
        flags: What happened to each unit, `(U,)` uint8, values of `Flag`.
        embedded: For each embedder which units have a feature under each method, `(M, U)` bool.
        reasons: Why units failed, by unit.
        figures: `(F, U)` float32 in the order of `protocols.ijb.extract.FIGURES`.
        examples: Probes for the panel; `picture` is their unit.
        resumed: Units that an earlier run had done.
        seconds: Time that each stage took, over all runs.
        sessions: By what each session worked, and the unit that it began at, in order.
    """

    units: Units
    templates: list[TemplateFeatures]
    flags: UInt8Array
    embedded: list[BoolArray]
    reasons: dict[int, str]
    figures: FloatArray
    examples: list[Example]
    resumed: int
    seconds: dict[str, float]
    sessions: list[tuple[int, str]] = field(default_factory=list)


def extract_features(
    data: TemplateSet,
    parts: IjbParts,
    *,
    folder: Path,
    cache: Path,
    settings: IjbSettings | None = None,
    workers: Workers | None = None,
    fresh: bool = False,
    session: str = "",
    progress: Progress = silent,
) -> IjbFeatures:
    """Make the features of all templates, clean, masked and completed; a killed run goes on where it was saved.

    What a picture shows is read, masked, completed and embedded once for all its rows (`protocols.ijb.units`), and only
    what occurs in probe templates is masked and completed. Blocks of units are the same in every run, and so is what
    they give and the order in which it is summed: a run that was killed and gone on with has the features of one that
    was not, to the bit.

    Args:
        data: The templates.
        parts: The networks.
        folder: Where the state of the unfinished run lies; `finish` removes it.
        cache: Folder for hashes and landmarks.
        settings: How to run; the defaults when None.
        workers: Does the blocks elsewhere; in this process when None.
        fresh: Begin anew, whatever was saved.
        session: By what this session works, such as version and device: a run that goes on may do so by another.
        progress: Told about the stages `hashes` and `units`.

    Raises:
        InputError: If the unfinished run in `folder` had other data, networks or settings, or the occluder lacks a kind
            of mask.
        DatasetError: If its file is damaged.
        EmbedderError: If an embedder gives arrays of another shape than it says.
    """
    settings = settings or IjbSettings()
    parts.occluder.check_kinds(settings.features.kinds)
    units = find_units(data, cache, progress)
    dimensions = [embedder.dimension for embedder in parts.embedders]
    state = RunState(data, units, dimensions, settings.features, describe_run(parts, settings.features))
    path = folder / STATE
    if path.exists() and not fresh:
        state.load(path)
    resumed = state.units_done
    if session:
        state.sessions.append((resumed, session))
    landmarks = LandmarkCache(cache, parts.detector)
    extractor = Extractor(parts, settings.features, landmarks, settings.workers)
    try:
        size = settings.features.batch_size
        jobs = (make_job(units, data.pictures, number, size) for number in range(state.blocks_done, state.blocks))
        if workers is None:
            results = _here(extractor, jobs, settings.workers)
        else:
            results = workers(jobs, settings.features, cache)
        _collect(results, state, path, landmarks, settings.save_seconds, progress)
        examples = _examples(data, units, state.flags, extractor, settings.features.seed)
    finally:
        extractor.close()
    return IjbFeatures(
        units,
        state.features(),
        state.flags,
        state.embedded,
        state.reasons,
        state.figures,
        examples,
        resumed,
        state.seconds,
        state.sessions,
    )


def finish(folder: Path) -> None:
    """Remove the state of a run whose results are safe."""
    (folder / STATE).unlink(missing_ok=True)


def score_templates(features: TemplateFeatures, data: TemplateSet, pairs: TemplatePairs) -> dict[str, FloatArray]:
    """Scores of pairs under each method.

    Args:
        features: Features of the templates.
        data: The set.
        pairs: Its pairs, or some of them, P of them.

    Returns:
        `(P,)` float32 in [-1, 1] for each method; -inf where a template has no feature: a non-match at any threshold.
    """
    gallery, probe = side_places(data.is_probe)
    return {
        method: pair_scores(features.gallery, values, gallery[pairs.gallery], probe[pairs.probe])
        for method, values in features.probe.items()
    }


def side_places(is_probe: BoolArray) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Place of each template among those of its side, `(T,)` int32: first as a gallery, then as a probe template."""
    return (np.cumsum(~is_probe) - 1).astype(np.int32), (np.cumsum(is_probe) - 1).astype(np.int32)


def _here(extractor: Extractor, jobs: Iterator[Job], workers: int) -> Iterator[BlockResult]:
    """Do the blocks in this process; pictures of the next block are read meanwhile."""
    taken: list[Job] = []

    def batches() -> Iterator[list[tuple[Job, int]]]:
        for job in jobs:
            taken.append(job)
            yield [(job, place) for place in range(len(job.paths))]

    def read(item: tuple[Job, int]) -> Picture:
        return read_picture(*item)

    for pictures in ahead(batches(), read, workers):
        yield extractor.run(taken.pop(0), pictures)


def _collect(
    results: Iterator[BlockResult],
    state: RunState,
    path: Path,
    landmarks: LandmarkCache,
    save_seconds: float,
    progress: Progress,
) -> None:
    """Add results to the state and save it now and then; landmarks are saved also when this is broken off."""
    total = len(state.flags)
    progress("units", state.units_done, total)
    saved = kept = time.monotonic()
    pause, new = save_seconds, False
    try:
        for result in results:
            state.add(result)
            for key, item in result.found.items():
                landmarks.put(key, item)
                new = True
            if time.monotonic() - saved >= save_seconds or state.units_done == total:
                state.save(path)
                saved = time.monotonic()
            if new and time.monotonic() - kept >= pause:
                pause, kept, new = _keep(landmarks, save_seconds), time.monotonic(), False
            progress("units", state.units_done, total)
    finally:
        if new:
            landmarks.save()


def _keep(landmarks: LandmarkCache, least: float) -> float:
    """Write the landmarks; gives the pause until the next time."""
    start = time.monotonic()
    landmarks.save()
    return max(least, _LANDMARKS_PAUSE * (time.monotonic() - start))


def _examples(data: TemplateSet, units: Units, flags: UInt8Array, extractor: Extractor, seed: int) -> list[Example]:
    """Crops of probes drawn by the seed alone, of those that have a face."""
    good = np.flatnonzero(units.probe & ((flags & (Flag.UNREADABLE | Flag.NO_FACE)) == 0))
    drawn = generator_for("panel", "examples", seed).permutation(good)[:EXAMPLES]
    found = []
    for unit in drawn.tolist():
        job = make_job(units, data.pictures, unit, 1)
        found += [example._replace(picture=unit) for example in extractor.examples(job)]
    return found
