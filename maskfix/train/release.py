"""From a checkpoint to released weights: fp16 safetensors, a manifest row, a model card."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
from pathlib import Path

from maskfix.base import CheckpointError, InputError
from maskfix.model_card import write_cards
from maskfix.train.averaging import averaged_weights
from maskfix.train.checkpoint import read_checkpoint
from maskfix.train.completion import CHECKPOINT
from maskfix.weights import add_to_manifest, save_weights


def release_checkpoint(checkpoint: str | Path, name: str, data: str, licence: str, folder: str | Path) -> Path:
    """Write the averaged weights of a checkpoint, of stage 2 or of a distillation, as a release.

    Args:
        checkpoint: `completion.pt`, the folder that holds it, or `distillation.pt`.
        name: `arch.tag`; also the stem of the file.
        data: What it was trained on.
        licence: What the training data allow.
        folder: Weights folder with `manifest.json`; made if it is missing.

    Returns:
        Path of the safetensors file.

    Raises:
        CheckpointError: If the checkpoint is missing, damaged, or of another stage.
        InputError: If the name does not start with the network's.
    """
    path, folder = Path(checkpoint), Path(folder)
    path = path / CHECKPOINT if path.is_dir() else path
    state = read_checkpoint(path)
    if not {"average", "network", "config", "step"} <= state.keys():
        raise CheckpointError(f"{path}: no checkpoint of stage 2 or of a distillation")
    config = state["config"]
    if not re.fullmatch(re.escape(config["network"]) + r"\.[\w.-]+", name):
        raise InputError(f"name: expected {config['network']}.TAG, got {name!r}")
    network = averaged_weights(state["average"]) if config["average"] else state["network"]
    target = folder / f"{name}.safetensors"
    row = save_weights(target, network, config["network"], {"step": str(state["step"])})
    training = {"config": config, "steps": state["step"], "samples": state["step"] * config["batch_size"]}
    training["last_validation"] = _last_validation(path.with_suffix(".jsonl"))
    row = dataclasses.replace(row, name=name, data=data, licence=licence, commit=_commit(), training=training)
    add_to_manifest(row, folder)
    write_cards(folder)
    return target


def _last_validation(log: Path) -> dict[str, float]:
    """The latest validation figures of a training log."""
    if not log.is_file():
        return {}
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines() if '"val_' in line]
    return {key: value for key, value in rows[-1].items() if key.startswith("val_")} if rows else {}


def _commit() -> str:
    """The commit that this was trained with, or `unknown` outside a checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()
