"""Checkpoints that survive a killed process: written whole, read without executing anything."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pickle
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from maskfix.base import UNREADABLE_ARRAYS, CheckpointError, drop_leftovers, replacing
from maskfix.train.config import ViewConfig
from maskfix.train.sources import check_sources

#: How long a run waits for the one before it, whose loader processes outlive it by seconds when it is killed.
_PATIENCE = 15.0

# Ways of varying pictures that a checkpoint does not name were not there yet: unused, as they are by default.
_UNUSED = {item.name: item.default for item in dataclasses.fields(ViewConfig)}


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; a process killed meanwhile leaves the one before.

    Args:
        path: File to write.
        state: Tensors, numbers, strings, and dictionaries and lists of them.

    Raises:
        CheckpointError: If torch cannot write it, as on a full disk.
    """
    with replacing(path) as temporary:
        try:
            torch.save(state, temporary)
        except RuntimeError as error:
            # torch's own writer says so of a full disk.
            raise CheckpointError(f"{path}: cannot be written ({_first_line(error)}); is the disk full?") from error


def run_state(config: Mapping[str, Any], sources: Mapping[str, Any], step: int, **parts: Any) -> dict[str, Any]:
    """What a run's checkpoint holds, as `load_checkpoint` and `restore` read it.

    Args:
        config: The configuration, plain.
        sources: What the run is made from, see `train.sources.run_sources`.
        step: Steps done.
        parts: What has a state of its own, by its entry's name.
    """
    states = {name: part.state_dict() for name, part in parts.items()}
    return {"config": dict(config), "sources": dict(sources), "step": step, **states}


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint, whatever configuration made it; tensors come to the CPU.

    Args:
        path: File to read.

    Raises:
        CheckpointError: If the file is missing, damaged or holds no dictionary.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; make it with maskfix train")
    try:
        # torch looks at no checksum: an altered number would be read as it is.
        with zipfile.ZipFile(path) as archive:
            altered = archive.testzip()
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (*UNREADABLE_ARRAYS, pickle.UnpicklingError, IndexError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint ({_first_line(error)}); remove it to start anew") from error
    if altered is not None:
        raise CheckpointError(f"{path}: damaged checkpoint ({altered} was altered); remove it to start anew")
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: no checkpoint of maskfix; remove it to start anew")
    return state


def load_checkpoint(
    path: str | Path, config: dict[str, Any], sources: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Read a checkpoint of the same configuration, made from the same files.

    Args:
        path: File to read.
        config: The running configuration, plain; `steps` and `checkpoint_seconds` may differ from the stored one, and
            a way of varying pictures (`views`) that only one of them knows may be there unused, at its default.
        sources: What the run is made from, see `train.sources.run_sources`.

    Returns:
        The state, or None where there is no file.

    Raises:
        CheckpointError: If the file is damaged, or another configuration or other files made it.
    """
    path = Path(path)
    if not path.exists():
        return None
    state = read_checkpoint(path)
    free = {"steps", "checkpoint_seconds"}
    stored = state.get("config", {})
    other = sorted(key for key in stored.keys() | config.keys() if key not in free and _differ(stored, config, key))
    if other:
        raise CheckpointError(f"{path}: made with another {', '.join(other)}; restore that or choose another --out")
    check_sources(path, state.get("sources", {}), sources or {})
    return state


def _differ(stored: dict[str, Any], running: dict[str, Any], key: str) -> bool:
    """Whether two configurations differ in one key."""
    one, two = stored.get(key), running.get(key)
    if key != "views" or not (isinstance(one, dict) and isinstance(two, dict)):
        return bool(one != two)
    return any(
        one.get(name, _UNUSED.get(name, 0)) != two.get(name, _UNUSED.get(name, 0)) for name in one.keys() | two.keys()
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


@contextlib.contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Keep other processes from training into a folder meanwhile; the lock ends with the process, however it ends.

    Args:
        folder: The run's `--out`; it must exist.

    Raises:
        CheckpointError: If another process trains there.
    """
    try:
        import fcntl
    except ImportError:  # Windows has no such locks.
        yield
        return
    place, until = os.open(folder, os.O_RDONLY), time.monotonic() + _PATIENCE
    try:
        while True:
            try:
                fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise CheckpointError(
                        f"{folder}: another process trains there; wait for it, or choose another --out"
                    ) from None
                time.sleep(0.1)
            except OSError:  # Nor do some network file systems.
                break
        yield
    finally:
        os.close(place)


@contextlib.contextmanager
def run_folder(checkpoint: Path, log: Path, step: int, writes: bool = True) -> Iterator[None]:
    """A run's folder: made, kept from other processes, and cleared of what killed ones and later steps left there.

    Args:
        checkpoint: The run's checkpoint.
        log: Its log, in the same folder.
        step: Steps done.
        writes: Whether this process writes there; of several that share a run one does.

    Raises:
        CheckpointError: If another process trains there.
    """
    if not writes:
        yield
        return
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    with only_run(checkpoint.parent):
        trim_log(log, step)
        drop_leftovers([checkpoint, log])
        yield


def append_log(path: str | Path, row: dict[str, Any]) -> None:
    """Append one row of JSON to a log."""
    with Path(path).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


def trim_log(path: str | Path, step: int) -> None:
    """Drop the rows of steps after `step`: a resumed run writes them again. Half a last row is dropped too."""
    path = Path(path)
    if not path.exists():
        return
    kept = [line + "\n" for line, row in _rows(path) if row["step"] <= step]
    with replacing(path) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a log, whole ones alone: a killed process may have left half a row."""
    return [row for _, row in _rows(Path(path))]


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each whole row of a log, as written and as read."""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            yield line, row


def restore(state: dict[str, Any] | None, path: str | Path, parts: Mapping[str, Any]) -> int:
    """Load a checkpoint into what it holds.

    Args:
        state: What `load_checkpoint` gave; None where there is no checkpoint.
        path: Its file.
        parts: What takes over each of its entries, by the entry's name.

    Returns:
        Steps done; 0 where there is no checkpoint.

    Raises:
        CheckpointError: If an entry is missing or of another network.
    """
    if state is None:
        return 0
    try:
        for name, part in parts.items():
            part.load_state_dict(state[name])
        return int(state["step"])
    except KeyError as error:
        raise CheckpointError(
            f"{path}: has no {error.args[0]}, so that no run goes on from it; start from it with --start, or remove it"
        ) from error
    except (RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: of another network; remove it to start anew") from error
