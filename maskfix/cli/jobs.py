"""What `maskfix complete` has to do: which pictures its words mean, and where the counterpart of each goes."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from maskfix.base import DatasetError, ImageError, InputError
from maskfix.data.faces import PICTURE_SUFFIXES, list_pictures

NOTE = ".maskfix-complete.json"
"""Kept in a folder that is written: how its pictures were made."""


class Job(NamedTuple):
    """One picture: where it lies and where its counterpart goes."""

    source: Path
    target: Path


def plan(inputs: Sequence[str], out: str | Path) -> tuple[list[Job], Path | None]:
    """What has to be done: a job a picture, and the folder that is written (None for one picture into one file).

    Args:
        inputs: The words of the command line.
        out: The picture to write for one picture; a folder where it is one, ends in a slash or has no suffix.

    Raises:
        InputError: If a counterpart would be one of the inputs, or two pictures would share one.
        DatasetError: If there is no picture.
        ImageError: If a picture is missing.
    """
    # A Path has no slash at its end.
    meant_as_folder, out = str(out).endswith(("/", os.sep)), Path(out)
    pictures, root = _pictures(inputs, out)
    single = len(inputs) == 1 and Path(inputs[0]).is_file()
    if single and not out.is_dir() and not meant_as_folder and out.suffix:
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
    return _one_each(jobs), folder


def _one_each(jobs: Sequence[Job]) -> list[Job]:
    """The jobs without a picture named twice, or a refusal of two pictures that would share a counterpart."""
    made: dict[Path, Path] = {}
    for source, target in jobs:
        other = made.setdefault(target, source)
        if other != source and not other.samefile(source):
            raise InputError(f"{target}: would be made of both {other} and {source}; complete them into two folders")
    return [Job(source, target) for target, source in made.items()]


def _pictures(inputs: Sequence[str], out: Path) -> tuple[list[Path], Path]:
    """The pictures meant, sorted, and the folder that their tree hangs from."""
    if len(inputs) == 1 and Path(inputs[0]).is_dir():
        root = Path(inputs[0])
        # A folder for the output inside the input must not be completed in turn.
        inside = out.resolve()
        if root.resolve().is_relative_to(inside):
            raise InputError(f"{out}: holds the pictures to complete; write somewhere else")
        # Nor what an earlier command has written into a folder of another name there.
        written = {inside, *(note.parent.resolve() for note in root.rglob(NOTE))} - {root.resolve()}
        found = [path for path in list_pictures(root) if written.isdisjoint(path.resolve().parents)]
        if not found:
            raise DatasetError(f"{root}: no pictures outside {out}")
        return found, root
    names: list[Path] = []
    for text in inputs:
        names += _match(text, out)
    pictures = sorted(dict.fromkeys(names))
    if len(inputs) == 1 and glob.has_magic(inputs[0]) and not Path(inputs[0]).exists():
        return pictures, _fixed_part(inputs[0])
    return pictures, Path(os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in pictures]))


def _match(text: str, out: Path) -> list[Path]:
    """The pictures of one word of the command line: a file, or a glob, which leaves out what was written to `out`."""
    path = Path(text)
    if path.is_file():
        return [path]
    if path.is_dir():
        raise InputError(f"{path}: give one folder by itself, or only pictures")
    if not glob.has_magic(text):
        raise ImageError(f"{path}: no such picture")
    found = (Path(name) for name in glob.iglob(text, recursive=True))
    pictures = [path for path in found if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file()]
    inside = out.resolve()
    # A glob that begins inside the output means pictures of its own there.
    if not _fixed_part(text).resolve().is_relative_to(inside):
        pictures = [path for path in pictures if not path.resolve().is_relative_to(inside)]
    if not pictures:
        raise DatasetError(f"{text}: matches no picture ({', '.join(PICTURE_SUFFIXES)})")
    return pictures


def _fixed_part(pattern: str) -> Path:
    """The folders of a glob before its first wildcard."""
    parts = Path(pattern).parts
    free = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:free]) if free else Path()
