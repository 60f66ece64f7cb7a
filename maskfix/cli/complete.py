"""`maskfix complete`: occluded faces of a picture, a folder or a glob, completed in place; a killed run goes on."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import typer

from maskfix.base import (
    ImageError,
    InputError,
    check_choice,
    drop_leftovers,
    replacing,
    resolve_device,
)
from maskfix.base.processes import in_processes
from maskfix.cli.faces import FaceFinder
from maskfix.cli.jobs import NOTE, Job, plan
from maskfix.cli.saving import read_single, write_counterpart
from maskfix.cli.shared import printable, track
from maskfix.deocclude import Deoccluder
from maskfix.plugin.base import GATE_THRESHOLD, Completer, SeamSettings
from maskfix.plugin.photograph import CompletedPhoto

MODES = ("gate", "always")
"""Modes that mean something for pictures; `observe` and `fuse` are about embeddings."""

FAILURES = "failures.csv"
"""Written into that folder where pictures failed: picture and reason."""

DONE, FAILED = 0, 1
"""Exit codes: every picture has its counterpart, or some have none."""


@dataclass(frozen=True)
class CompleteSettings:
    """How pictures are completed.

    Attributes:
        mode: `gate`: faces whose coverage lies above `coverage`; `always`: every face.
        coverage: Occluded share of the canonical crop above which a face counts as occluded.
        weights: Released weights, or a `.safetensors` file.
        detector: `auto`, `mesh` or `mtcnn`.
        device: `auto`, `cpu` or `cuda`.
    """

    mode: str = "gate"
    coverage: float = GATE_THRESHOLD
    weights: str = "cadf_small_128"
    detector: str = "auto"
    device: str = "auto"

    def __post_init__(self) -> None:
        """Refuse modes that mean nothing for pictures.

        Raises:
            InputError: If the mode is none of `MODES`.
        """
        check_choice("mode", self.mode, MODES)


class Outcome(NamedTuple):
    """What became of a picture.

    Attributes:
        source: The picture.
        status: `completed`, `unchanged` (faces, none of them occluded), `no face`, `unreadable`, or `unusable`
            (several pictures in one, or one too long for the networks).
        faces: Faces found.
        completed: Faces completed.
        reason: Why it failed; empty where it did not.
    """

    source: Path
    status: str
    faces: int = 0
    completed: int = 0
    reason: str = ""


class Networks:
    """The networks of one process.

    Args:
        settings: How pictures are completed.

    Raises:
        MaskfixError: If a network cannot be loaded.
    """

    def __init__(self, settings: CompleteSettings) -> None:
        self.settings = settings
        blind = Deoccluder.from_pretrained(settings.weights, settings.device)
        self.weights = blind.weights
        self.reader = blind.reader.weights.sha256 if blind.reader and blind.reader.weights else "none"
        self.completer = Completer(blind, SeamSettings(settings.mode, settings.coverage))
        self.finder = FaceFinder(settings.detector, resolve_device(settings.device))

    def work(self, job: Job) -> Outcome:
        """Complete one picture and write its counterpart, whole or not at all.

        Raises:
            ImageError: If the counterpart cannot be written.
        """
        try:
            photo = read_single(job.source)
            points = self.finder.find_hidden(photo, self.completer.deoccluder())
            if not len(points):
                return Outcome(job.source, "no face", reason=f"{job.source}: no face found")
            completed = CompletedPhoto(self.completer, photo, points).refined(self.finder.find)
        except ImageError as error:
            return Outcome(job.source, "unreadable", reason=str(error))
        except InputError as error:
            return Outcome(job.source, "unusable", reason=f"{job.source}: {error}")
        count = int(completed.result.used.sum())
        write_counterpart(job.target, job.source, photo, completed.picture() if count else None)
        return Outcome(job.source, "completed" if count else "unchanged", len(points), count)


def run_complete(
    inputs: Sequence[str], out: str | Path, settings: CompleteSettings, workers: int = 1, overwrite: bool = False
) -> int:
    """Complete the faces of pictures, print what became of them, and say which failed.

    A counterpart is written to a temporary name and renamed, so it is whole or not there, whenever the run is killed;
    one that is not older than its picture is not made again, and what a killed run left unfinished is removed. A folder
    that holds other pictures of these names, or pictures made with other settings, is refused; so is a file that is
    there, where one is to be written.

    Args:
        inputs: A picture, a folder, a glob, or several pictures as a shell makes them of a glob.
        out: The picture to write where there is one picture and no such folder; else the folder, where the tree of the
            inputs is mirrored. What ends in a slash is a folder.
        settings: How pictures are completed.
        workers: Processes, at least 1; each loads the networks.
        overwrite: Make every counterpart again, whatever is there; a killed run of this kind goes on without it.

    Returns:
        The exit code: 0 where every picture has its counterpart, 1 where some failed.

    Raises:
        InputError: If the output is among the inputs, is there and not ours, or was made with other settings.
        DatasetError: If there is nothing to complete.
        ImageError: If the one picture given is missing, or a counterpart cannot be written.
        WeightsError: If the weights are unknown or damaged.
    """
    if workers < 1:
        raise InputError(f"workers: expected at least 1, got {workers}")
    jobs, folder = plan(inputs, out)
    if folder is None and jobs[0].target.exists() and not overwrite:
        raise InputError(f"{jobs[0].target}: is there already; choose another name or --overwrite")
    networks = Networks(settings)
    since = 0 if folder is None else _claim(folder, jobs, settings, networks, overwrite)
    todo = [job for job in jobs if folder is None or not _is_done(job, since)]
    lists = [] if folder is None else [folder / NOTE, folder / FAILURES]
    drop_leftovers([*(job.target for job in todo), *lists])
    skipped = len(jobs) - len(todo)
    stream = map(networks.work, todo) if workers == 1 or len(todo) < 2 else _in_processes(settings, todo, workers)
    outcomes = list(track(stream, len(todo), "pictures"))
    failures = sorted((o for o in outcomes if o.reason), key=lambda outcome: outcome.source)
    if folder is None:
        _tell_one(jobs[0], outcomes[0])
    else:
        _write_failures(folder, failures)
        for line in summary(outcomes, skipped, folder):
            typer.echo(line)
    return FAILED if failures else DONE


def _is_done(job: Job, since: int) -> bool:
    """Whether the counterpart is there and older neither than its picture nor than the folder's settings.

    It was renamed into place, so what is there is whole.
    """
    try:
        return job.target.stat().st_mtime_ns >= max(job.source.stat().st_mtime_ns, since)
    except OSError:
        return False


def _claim(folder: Path, jobs: Sequence[Job], settings: CompleteSettings, networks: Networks, overwrite: bool) -> int:
    """Note how a folder's pictures are made, or refuse a folder whose pictures were made in another way.

    Returns:
        When the note was written, in nanoseconds: what is older was made otherwise.
    """
    row, chosen = networks.weights, asdict(settings)
    # The hash says what the name may not, and no picture depends on where the network ran.
    # Pictures from before landmarks were refined, or with another reader of them, are others, too.
    chosen.update(weights=row.sha256 if row else "unnamed", detector=networks.finder.name, refined=networks.reader)
    del chosen["device"]
    note, text = folder / NOTE, json.dumps(chosen, sort_keys=True) + "\n"
    known = note.read_text(encoding="utf-8") if note.is_file() else None
    if not overwrite and known is not None and known != text:
        raise InputError(f"{folder}: holds pictures made with other settings; choose another folder or --overwrite")
    strange = next((job.target for job in jobs if job.target.exists()), None)
    if not overwrite and known is None and strange is not None:
        raise InputError(f"{strange}: is there and not from maskfix complete; choose another folder or --overwrite")
    try:
        if overwrite or known is None:
            with replacing(note) as temporary:
                temporary.write_text(text, encoding="utf-8")
        return note.stat().st_mtime_ns
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from error


_NETWORKS: Networks | None = None
"""The networks of a worker process."""


def _start(settings: CompleteSettings, threads: int) -> None:
    """Load the networks of a worker process."""
    global _NETWORKS
    import torch

    torch.set_num_threads(threads)
    _NETWORKS = Networks(settings)


def _work(job: Job) -> Outcome:
    """One picture in a worker process."""
    if _NETWORKS is None:
        raise RuntimeError("the worker process was not started by _start")
    return _NETWORKS.work(job)


def _in_processes(settings: CompleteSettings, jobs: Iterable[Job], workers: int) -> Iterator[Outcome]:
    """Outcomes as they come, from processes that share the cores."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    return in_processes(_work, jobs, workers, _start, (settings, threads))


def _write_failures(folder: Path, failures: Sequence[Outcome]) -> None:
    """Write the list of failures; no failures, no list."""
    path = folder / FAILURES
    if not failures:
        path.unlink(missing_ok=True)
        return
    with (
        replacing(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(("picture", "status", "reason"))
        writer.writerows((outcome.source, outcome.status, outcome.reason) for outcome in failures)


def summary(outcomes: Sequence[Outcome], skipped: int, folder: Path) -> list[str]:
    """What became of the pictures of a folder, in lines for people."""
    counts = Counter(outcome.status for outcome in outcomes)
    faces, completed = sum(o.faces for o in outcomes), sum(o.completed for o in outcomes)
    parts = [f"{_count(counts['completed'], 'picture')} completed"]
    parts += [f"{counts['unchanged']} copied (no occluded face)"] if counts["unchanged"] else []
    parts += [f"{skipped} done before"] if skipped else []
    lines = [", ".join(parts) + (f"; {completed} of {_count(faces, 'face')} completed" if faces else "")]
    failed = [f"no face on {_count(counts['no face'], 'picture')}"] if counts["no face"] else []
    failed += [f"{counts[status]} {status}" for status in ("unreadable", "unusable") if counts[status]]
    if failed:
        lines.append(f"{', '.join(failed)}: nothing written for them, see {printable(folder / FAILURES)}")
    return lines


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _tell_one(job: Job, outcome: Outcome) -> None:
    """Print what became of one picture that goes into one file; a failure goes where errors go."""
    if outcome.reason:
        typer.echo(f"error: {outcome.reason}", err=True)
    elif outcome.completed:
        faces = _count(outcome.faces, "face")
        typer.echo(f"written: {printable(job.target)}, {outcome.completed} of {faces} completed")
    else:
        typer.echo(f"written: {printable(job.target)}, a copy: no face is occluded")
