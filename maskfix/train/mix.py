"""The average of two runs' weights: one trained for pictures, one for identity, give both a better network than either.

Wortsman et al., "Robust fine-tuning of zero-shot models" (CVPR 2022): weights of runs that share their start can be
averaged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from maskfix.base import CheckpointError, check_range
from maskfix.restore import widen
from maskfix.train.checkpoint import read_checkpoint, save_checkpoint


def mix_checkpoints(first: str | Path, second: str | Path, share: float, out: str | Path) -> Path:
    """Average the moving averages of two stage 2 checkpoints.

    Args:
        first: `completion.pt` of a run.
        second: `completion.pt` of a run that started from the first, or from where the first started. Where the network
            was widened in between, the first counts as a network whose expansions add nothing (`restore.widen`); other
            layers that it lacks are the second's.
        share: The second's share, in [0, 1].
        out: File to write: a checkpoint to start another run from, or to release; it takes its configuration and step
            from the second, and no optimiser: no run continues in it. Its `mixed` entry says of both what they were
            made from, and so does the release of it.

    Raises:
        CheckpointError: If a checkpoint is damaged, is none of stage 2, or the networks differ.
        InputError: If the share is out of range.
    """
    check_range("share", share, 0, 1)
    one, two = read_checkpoint(first), read_checkpoint(second)
    for path, state in ((first, one), (second, two)):
        if not {"average", "config", "step"} <= state.keys():
            raise CheckpointError(f"{path}: no checkpoint of stage 2")
    ours, theirs = widen(one["average"], two["average"]), two["average"]
    if any(key not in theirs or value.shape != theirs[key].shape for key, value in ours.items()):
        raise CheckpointError(f"{second}: its network is not that of {first}")
    # Counters are no weights: the second's stand.
    mixed = {
        key: torch.lerp(ours[key], value, share) if key in ours and value.is_floating_point() else value
        for key, value in theirs.items()
    }
    network = {key.removeprefix("module."): value for key, value in mixed.items() if key.startswith("module.")}
    state = {"config": two["config"], "step": two["step"], "average": mixed, "network": network}
    origins = [_origin(path, state) for path, state in ((first, one), (second, two))]
    save_checkpoint(out, state | {"mixed": {"of": origins, "share": share}})
    return Path(out)


def _origin(path: str | Path, state: dict[str, Any]) -> dict[str, Any]:
    """What a mixture says of one of its two: how far it was trained and from what, or what it was mixed of itself."""
    return {"file": str(path), "step": state["step"]} | {
        key: state[key] for key in ("sources", "mixed") if key in state
    }
