"""`maskfix complete`: occluded faces of a picture, a folder or a glob, completed in place; a killed run goes on."""

from __future__ import annotations

import csv
import glob
import json
import multiprocessing
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import typer

from maskfix.base import (
    DatasetError,
    ImageError,
    InputError,
    MaskfixError,
    UInt8Array,
    check_choice,
    read_image,
    replacing,
    resolve_device,
)
from maskfix.cli.faces import FaceFinder
from maskfix.cli.shared import track
from maskfix.data.faces import PICTURE_SUFFIXES, list_pictures
from maskfix.deocclude import Deoccluder
from maskfix.plugin.base import GATE_THRESHOLD, Completer, SeamSettings
from maskfix.plugin.photograph import CompletedPhoto

MODES = ("gate", "always")
"""Modes that mean something for pictures; `observe` and `fuse` are about embeddings."""

NOTE = ".maskfix-complete.json"
"""Kept in the folder that is written: how its pictures were made."""

FAILURES = "failures.csv"
"""Written into that folder where pictures failed: picture and reason."""

DONE, FAILED = 0, 1
"""Exit codes: every picture has its counterpart, or some have none."""

_JPEG = {"quality": 95, "subsampling": 0}
_OPTIONS: dict[str, dict[str, Any]] = {
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": {"quality": 95},
    ".tif": {"compression": "tiff_deflate"},
}
_OPTIONS[".tiff"] = _OPTIONS[".tif"]


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


class Job(NamedTuple):
    """One picture: where it lies and where its counterpart goes."""

    source: Path
    target: Path


class Outcome(NamedTuple):
    """What became of a picture.

    Attributes:
        source: The picture.
        status: `completed`, `unchanged` (faces, none of them occluded), `no face` or `unreadable`.
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
            photo = read_image(job.source)
        except ImageError as error:
            return Outcome(job.source, "unreadable", reason=str(error))
        points = self.finder.find_hidden(photo, self.completer.deoccluder())
        if not len(points):
            return Outcome(job.source, "no face", reason=f"{job.source}: no face found")
        completed = CompletedPhoto(self.completer, photo, points).refined(self.finder.find)
        count = int(completed.result.used.sum())
        try:
            with replacing(job.target) as temporary:
                if count:
                    _save(temporary, completed.picture(), job.source)
                else:
                    shutil.copyfile(job.source, temporary)
        except OSError as error:
            raise ImageError(f"{job.target}: cannot be written ({error.strerror or error})") from error
        return Outcome(job.source, "completed" if count else "unchanged", len(points), count)


def _save(path: Path, picture: UInt8Array, source: Path) -> None:
    """Write a picture in the format of its suffix, with the colour profile of the picture that it was made of."""
    from PIL import Image

    with Image.open(source) as original:
        # Profiles of grey and CMYK pictures do not describe the RGB values that they were converted to.
        profile = original.info.get("icc_profile") if original.mode in ("RGB", "RGBA", "P") else None
    options = dict(_OPTIONS.get(path.suffix.lower(), {}))
    if profile:
        options["icc_profile"] = profile
    Image.fromarray(picture).save(path, **options)


def run_complete(
    inputs: Sequence[str], out: Path, settings: CompleteSettings, workers: int = 1, overwrite: bool = False
) -> int:
    """Complete the faces of pictures, print what became of them, and say which failed.

    A counterpart is written to a temporary name and renamed, so it is whole or not there, whenever the run is killed;
    one that is not older than its picture is not made again. A folder that holds other pictures of these names, or
    pictures made with other settings, is refused.

    Args:
        inputs: A picture, a folder, a glob, or several pictures as a shell makes them of a glob.
        out: The picture to write where there is one picture and no such folder; else the folder, where the tree of the
            inputs is mirrored.
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
    networks = Networks(settings)
    since = 0 if folder is None else _claim(folder, jobs, settings, networks, overwrite)
    todo = [job for job in jobs if folder is None or not _is_done(job, since)]
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


def plan(inputs: Sequence[str], out: Path) -> tuple[list[Job], Path | None]:
    """What has to be done: a job a picture, and the folder that is written (None for one picture into one file).

    Raises:
        InputError: If a counterpart would be one of the inputs, or two pictures would share one.
        DatasetError: If there is no picture.
        ImageError: If a picture is missing.
    """
    pictures, root = _pictures(inputs, out)
    single = len(inputs) == 1 and Path(inputs[0]).is_file()
    if single and not out.is_dir() and not str(out).endswith(os.sep) and out.suffix:
        if out.suffix.lower() not in PICTURE_SUFFIXES:
            raise InputError(f"{out}: cannot write this format; known: {', '.join(PICTURE_SUFFIXES)}")
        jobs, folder = [Job(pictures[0], out)], None
    else:
        if out.is_file():
            raise InputError(f"{out}: is a file; give a folder for {len(pictures)} pictures")
        # By absolute paths: the words of a command line may be of either kind.
        names = [os.path.relpath(os.path.abspath(picture), os.path.abspath(root)) for picture in pictures]
        jobs, folder = [Job(picture, out / name) for picture, name in zip(pictures, names, strict=True)], out
    own = {picture.resolve() for picture in pictures}
    for job in jobs:
        if job.target.resolve() in own or (job.target.exists() and job.target.samefile(job.source)):
            raise InputError(f"{job.target}: is a picture to complete; write somewhere else")
    return jobs, folder


def _pictures(inputs: Sequence[str], out: Path) -> tuple[list[Path], Path]:
    """The pictures meant, sorted, and the folder that their tree hangs from."""
    if len(inputs) == 1 and Path(inputs[0]).is_dir():
        root = Path(inputs[0])
        # A folder for the output inside the input must not be completed in turn.
        inside = out.resolve()
        if root.resolve().is_relative_to(inside):
            raise InputError(f"{out}: holds the pictures to complete; write somewhere else")
        found = [path for path in list_pictures(root) if not path.resolve().is_relative_to(inside)]
        if not found:
            raise DatasetError(f"{root}: no pictures outside {out}")
        return found, root
    names: list[Path] = []
    for text in inputs:
        names += _match(text)
    pictures = sorted(dict.fromkeys(names))
    if len(inputs) == 1 and glob.has_magic(inputs[0]) and not Path(inputs[0]).exists():
        return pictures, _fixed_part(inputs[0])
    return pictures, Path(os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in pictures]))


def _match(text: str) -> list[Path]:
    """The pictures of one word of the command line: a file, or a glob."""
    path = Path(text)
    if path.is_file():
        return [path]
    if path.is_dir():
        raise InputError(f"{path}: give one folder by itself, or only pictures")
    if not glob.has_magic(text):
        raise ImageError(f"{path}: no such picture")
    found = (Path(name) for name in glob.iglob(text, recursive=True))
    pictures = [path for path in found if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()]
    if not pictures:
        raise DatasetError(f"{text}: matches no picture ({', '.join(PICTURE_SUFFIXES)})")
    return pictures


def _fixed_part(pattern: str) -> Path:
    """The folders of a glob before its first wildcard."""
    parts = Path(pattern).parts
    free = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:free]) if free else Path()


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
    """Outcomes as they come, from processes that are started afresh: neither torch nor MediaPipe survive a fork."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start, initargs=(settings, threads))
    try:
        for future in as_completed([pool.submit(_work, job) for job in jobs]):
            yield future.result()
    except BrokenProcessPool as error:
        raise MaskfixError("a worker process died, perhaps for want of memory; go on with fewer --workers") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _write_failures(folder: Path, failures: Sequence[Outcome]) -> None:
    """Write the list of failures; no failures, no list."""
    path = folder / FAILURES
    if not failures:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
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
    failed += [f"{counts['unreadable']} unreadable"] if counts["unreadable"] else []
    if failed:
        lines.append(f"{', '.join(failed)}: nothing written for them, see {folder / FAILURES}")
    return lines


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _tell_one(job: Job, outcome: Outcome) -> None:
    """Print what became of one picture that goes into one file; a failure goes where errors go."""
    if outcome.reason:
        typer.echo(f"error: {outcome.reason}", err=True)
    elif outcome.completed:
        faces = _count(outcome.faces, "face")
        typer.echo(f"written: {job.target}, {outcome.completed} of {faces} completed")
    else:
        typer.echo(f"written: {job.target}, a copy: no face is occluded")
