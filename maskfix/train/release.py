"""From a checkpoint to released weights: fp16 safetensors, a manifest row, a model card, an early look."""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from maskfix.base import CheckpointError, DatasetError, InputError
from maskfix.data import held_out, open_store
from maskfix.model_card import write_cards
from maskfix.restore import PREFIX, create_network, load_narrower, split_early_look
from maskfix.train.averaging import averaged_weights
from maskfix.train.checkpoint import read_checkpoint, read_log
from maskfix.train.completion import CHECKPOINT
from maskfix.train.config import ViewConfig
from maskfix.train.early import PICTURES, EarlyLookFigures, fit_early_look
from maskfix.train.sources import checkout_commit
from maskfix.train.views import OccludedViews, open_occluders
from maskfix.weights import (
    SUFFIX,
    WeightsRow,
    add_to_manifest,
    file_sha256,
    load_weights,
    manifest_row,
    replace_in_manifest,
    save_weights,
)

HELD_OUT = 0.02
"""Share of the faces that set an early look's limit, where the weights do not say what they were trained without."""

#: Header entry of a weights file: the hash of the file whose place it took.
_REPLACES = "replaces"

#: More of the masks are of any colour, and drawn, than in training: what was never seen must not look clean.
_VIEWS = ViewConfig(random_cloth=0.4, drawn=0.3, clean=0.0)


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
        InputError: If the name does not start with the network's, or the network was trained without fusion.
    """
    path, folder = Path(checkpoint), Path(folder)
    path = path / CHECKPOINT if path.is_dir() else path
    state = read_checkpoint(path)
    if not {"average", "network", "config", "step"} <= state.keys():
        raise CheckpointError(f"{path}: no checkpoint of stage 2 or of a distillation")
    config = state["config"]
    if not re.fullmatch(re.escape(config["network"]) + r"\.[\w.-]+", name) or name.endswith(SUFFIX):
        raise InputError(f"name: expected {config['network']}.TAG, got {name!r}")
    if not config.get("fusion", True):
        raise InputError(f"{path}: trained without fusion, for an ablation; no released network is made so")
    network = averaged_weights(state["average"]) if config["average"] else state["network"]
    validation = _last_validation(path.with_suffix(".jsonl"), state["step"])
    target = folder / f"{name}.safetensors"
    row = save_weights(target, network, config["network"], {"step": str(state["step"])})
    training = {"config": config, "steps": state["step"], "samples": state["step"] * config["batch_size"]}
    training["last_validation"] = validation
    training |= {key: state[key] for key in ("sources", "mixed") if key in state}
    row = dataclasses.replace(row, name=name, data=data, licence=licence, commit=checkout_commit(), training=training)
    add_to_manifest(row, folder)
    write_cards(folder)
    return target


def add_early_look(
    name: str,
    faces: str | Path,
    folder: str | Path,
    templates: str | Path | None = None,
    pictures: int = PICTURES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> EarlyLookFigures:
    """Give released weights an early look, or a new one; the network's own tensors stay what they are.

    The file's hash changes; manifest row and card follow, and its scores stay, since they are the network's.

    Args:
        name: `arch.tag` of a row in the manifest.
        faces: Folder that `maskfix prepare` wrote, best the one that the network was trained on.
        folder: Weights folder with `manifest.json`.
        templates: Folder in MaskTheFace's layout, or None for this project's own templates alone.
        pictures: Pictures to fit to; a third as many set the limit.
        progress: Told how many of how many pictures are done.

    Returns:
        How the early look decides on held-out faces; the manifest row keeps it, as `training.early_look`.

    Raises:
        InputError: If the row is not in the manifest, or the network finds nothing occluded.
        DatasetError: If the crops' size is not the network's, or the faces cannot be read.
        WeightsError: If the weights cannot be read.
    """
    folder = Path(folder)
    path = folder / _settled(name, folder).file
    state, row = load_weights(path)
    network = create_network(row.arch).eval().requires_grad_(False)
    own, _ = split_early_look(state, network.config)
    load_narrower(network, own)
    store = open_store(faces)
    if store.size != network.config.size:
        raise DatasetError(
            f"{faces}: crops of {store.size} pixels, the network wants {network.config.size}; "
            f"prepare them with --size {network.config.size}"
        )
    apart = held_out(store.names, row.training.get("config", {}).get("held_out", HELD_OUT))
    occluders = open_occluders(templates, _VIEWS)
    trained = np.flatnonzero(~apart)
    early, figures = fit_early_look(
        network,
        OccludedViews(store, _VIEWS, occluders, trained),
        trained,
        np.flatnonzero(apart),
        pictures,
        progress=progress,
    )
    told = {key: round(value, 5) for key, value in figures._asdict().items()}
    training = row.training | {"early_look": told}
    whole = own | {PREFIX + key: value for key, value in early.state_dict().items()}
    header = {"step": str(training.get("steps", "")), _REPLACES: row.sha256}
    written = save_weights(path, whole, row.arch, header)
    changed = dataclasses.replace(row, sha256=written.sha256, bytes=written.bytes, training=training)
    replace_in_manifest(changed, folder)
    write_cards(folder)
    return figures


def _settled(name: str, folder: Path) -> WeightsRow:
    """A manifest row, of the file as it is: a process killed between both writes leaves the row of the file before."""
    row = manifest_row(name, folder)
    path = folder / row.file
    digest = file_sha256(path)
    if digest == row.sha256:
        return row
    with contextlib.suppress(SafetensorError), safe_open(path, "pt") as opened:
        if (opened.metadata() or {}).get(_REPLACES) == row.sha256:
            replace_in_manifest(dataclasses.replace(row, sha256=digest, bytes=path.stat().st_size), folder)
    return row


def _last_validation(log: Path, step: int) -> dict[str, float]:
    """The latest validation figures of a training log that are not of a later step than the checkpoint's."""
    if not log.is_file():
        return {}
    rows = [row for row in read_log(log) if row["step"] <= step and any(key.startswith("val_") for key in row)]
    return {key: value for key, value in rows[-1].items() if key.startswith("val_")} if rows else {}
