"""What a run of stage 2 starts from: stage 1's encoder, another run or released weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from maskfix.base import CheckpointError
from maskfix.restore import CompletionNetwork, load_narrower, split_early_look
from maskfix.train.averaging import averaged_weights
from maskfix.train.checkpoint import read_checkpoint
from maskfix.weights import SUFFIX, file_sha256, load_weights


def start_from(
    encoder: str | Path | None, start: str | Path | None, network: CompletionNetwork, average: AveragedModel
) -> None:
    """Take the whole network of another run or of a release, or the encoder that stage 1 trained.

    Args:
        encoder: Stage 1's checkpoint; None for the encoder as it is. Not read where `start` is given.
        start: Another run's stage 2 checkpoint, or released weights, by name or as a file; None for none.
        network: Takes them over; it may have expansions that they lack.
        average: Its moving average, which starts there as well.

    Raises:
        CheckpointError: If a file is missing, damaged, or holds other weights.
        WeightsError: If the released weights are unknown or damaged.
    """
    if start is not None and _is_release(start):
        _take(start, network, lambda path: split_early_look(load_weights(path)[0], network.config)[0])
    elif start is not None:
        _take(start, network, lambda path: averaged_weights(read_checkpoint(path)["average"]))
    elif encoder is not None:
        _take(encoder, network.encoder, lambda path: read_checkpoint(path)["encoder"])
    average.module.load_state_dict(network.state_dict())


def describe_start(encoder: str | Path | None, start: str | Path | None) -> dict[str, Any]:
    """What a run's sources say of what it starts from.

    Args:
        encoder: As `start_from`.
        start: As `start_from`.

    Returns:
        `start`: the `sha256` of its file, and its `releases`, the licence of each that it or what it was made from
        started from, by name. Empty for a run that starts from nothing.

    Raises:
        CheckpointError: If a file is missing or damaged.
        WeightsError: If the released weights are unknown or damaged.
    """
    if start is not None and _is_release(start):
        _, row = load_weights(str(start))
        return {"start": {"sha256": row.sha256, "releases": {row.name: row.licence or "not stated"}}}
    path = encoder if start is None else start
    if path is None:
        return {}
    return {"start": {"releases": _releases(read_checkpoint(path)), "sha256": file_sha256(path)}}


def _releases(state: Any) -> dict[str, str]:
    """The licences of the releases that a checkpoint goes back to, through all that were mixed into it."""
    if not isinstance(state, Mapping):
        return {}
    found: dict[str, str] = {}
    for key in ("sources", "start", "mixed"):
        found |= _releases(state.get(key))
    for one in state.get("of") or ():
        found |= _releases(one)
    known = state.get("releases")
    return found | (dict(known) if isinstance(known, Mapping) else {})


def _is_release(start: str | Path) -> bool:
    """Whether a start is a weights file or the name of one, rather than a checkpoint."""
    path = Path(start)
    return path.suffix == SUFFIX or (path.name == str(start) and path.suffix != ".pt" and not path.is_file())


def _take(path: str | Path, module: torch.nn.Module, read: Callable[[str], dict[str, Tensor]]) -> None:
    """Load weights that are read from somewhere into a module, which may have expansions that they lack."""
    try:
        load_narrower(module, read(str(path)))
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: does not hold the weights that this run starts from") from error
