"""The networks that benchmarks measure: releases, and training runs that are still going."""

from __future__ import annotations

from pathlib import Path

from maskfix.base import CheckpointError
from maskfix.deocclude import Deoccluder
from maskfix.restore import create_network, load_narrower
from maskfix.train.averaging import averaged_weights
from maskfix.train.checkpoint import read_checkpoint
from maskfix.weights import WeightsRow, file_sha256


def load_restorer(weights: str | Path, device: str = "auto", batch_size: int = 32) -> Deoccluder:
    """Load a network to measure.

    Args:
        weights: Name of a release, a `.safetensors` file, or a training checkpoint `completion.pt`, whose averaged
            weights are taken.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        batch_size: Crops that go through the network at once.

    Raises:
        WeightsError: If a release cannot be loaded.
        CheckpointError: If a checkpoint is damaged, is none of stage 2, or changes while it is read.
    """
    if not str(weights).endswith(".pt"):
        return Deoccluder.from_pretrained(weights, device=device, batch_size=batch_size)
    path = Path(weights)
    digest = file_sha256(path)
    state = read_checkpoint(path)
    # A run that is still going replaces its checkpoint: the hash must be that of what was loaded.
    if file_sha256(path) != digest:
        raise CheckpointError(f"{path}: replaced by its training run meanwhile; run the command again")
    try:
        config, step, arch = state["config"], int(state["step"]), state["config"]["network"]
        network = create_network(arch, config.get("fusion", True))
        load_narrower(network, averaged_weights(state["average"]))
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: no checkpoint of stage 2, or of a network that has changed since") from error
    name = f"{path.absolute().parent.name}@{step}"
    row = WeightsRow(name, arch, path.name, digest, path.stat().st_size, training={"config": config, "step": step})
    return Deoccluder(network, row, device, batch_size)
