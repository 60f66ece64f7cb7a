"""Stage 1: contrastive pre-training of the encoder (paper section 3.1)."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch

from maskfix.base import InputError
from maskfix.losses import info_nce
from maskfix.losses.info_nce import negative_similarity
from maskfix.restore import CONFIGS, SiameseNetwork
from maskfix.train.batch_norm import synchronise_norms
from maskfix.train.batches import BatchDataset, as_pictures, batches
from maskfix.train.checkpoint import append_log, load_checkpoint, restore, run_folder, run_state, save_checkpoint
from maskfix.train.config import SiameseConfig, as_plain
from maskfix.train.loop import (
    Progress,
    Saver,
    check_finite,
    learning_rate,
    make_fabric,
    open_views,
    set_learning_rate,
)
from maskfix.train.muon import MuonAndAdam
from maskfix.train.parallel import Processes
from maskfix.train.sources import run_sources

CHECKPOINT = "siamese.pt"
LOG = "siamese.jsonl"


def train_siamese(
    config: SiameseConfig,
    faces: str | Path,
    out: str | Path,
    templates: str | Path | None = None,
    device: str = "auto",
    workers: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Train the encoder so that one face under two masks is represented alike; continues from its checkpoint.

    Under torchrun each process takes an equal share of every batch. Gradients are averaged, batch norm sees the whole
    batch, and every process enqueues the keys of all, so that the run is that of one process but for rounding.

    Args:
        config: Stage 1's configuration.
        faces: Folder that `maskfix prepare` wrote.
        out: Folder for `siamese.pt` (checkpoint) and `siamese.jsonl` (log).
        templates: Folder in MaskTheFace's layout, or None for this project's own templates.
        device: `auto`, `cpu` or `cuda`.
        workers: Processes that make batches.
        progress: Called after each step.

    Returns:
        Path of the checkpoint; its `encoder` entry is what stage 2 starts from.

    Raises:
        InputError: If the processes that torchrun started cannot share a batch equally, or the queue is shorter than a
            batch whose keys shall be negatives.
        DatasetError: If the faces or templates cannot be used.
        CheckpointError: If `out` holds a damaged checkpoint or one of another configuration or other faces, or another
            process trains there.
        MaskfixError: If a loss is not finite.
    """
    out = Path(out)
    fabric = make_fabric(config.precision, device)
    processes = Processes(fabric)
    rows = processes.rows(config.batch_size)
    views, training, _ = open_views(faces, templates, config)
    config = replace(config, queue=max(1, min(config.queue, len(training) // 2)))
    if config.batch_negatives and config.queue < config.batch_size:
        raise InputError(
            f"queue: {config.queue} keys, fewer than a batch of {config.batch_size}; at most half as many as there are "
            "faces are kept, so prepare more faces or choose a smaller batch_size"
        )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = SiameseNetwork(
            CONFIGS[config.network],
            config.queue,
            config.key_momentum,
            generator=torch.Generator().manual_seed(config.seed),
        )
    # Before its optimiser is made: the state that a checkpoint gives follows the parameters as they are then.
    network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    synchronise_norms(network, fabric)
    optimiser = _make_optimiser(config, network)
    sources = run_sources(faces, templates=templates)
    state = load_checkpoint(out / CHECKPOINT, as_plain(config), sources)
    start = restore(state, out / CHECKPOINT, {"network": network, "optimiser": optimiser})
    processes.check_step(start, out / CHECKPOINT)
    model, optimiser = fabric.setup(network, optimiser)

    def save(step: int) -> None:
        parts = {"network": network, "optimiser": optimiser, "encoder": network.query.encoder}
        save_checkpoint(out / CHECKPOINT, run_state(as_plain(config), sources, step, **parts))

    saver = Saver(save, config.checkpoint_seconds)
    dataset = BatchDataset(views, training, config.batch_size, config.seed, pairs=True, rows=rows, apart=config.apart)
    with run_folder(out / CHECKPOINT, out / LOG, start, processes.first):
        for step, pair in enumerate(batches(dataset, start, config.steps, workers, fabric.device), start):
            set_learning_rate(optimiser, learning_rate(config, step))
            query, key = model(*(as_pictures(view.occluded, fabric.device) for view in pair))
            loss, found = _match(config, network, processes, query, key)
            optimiser.zero_grad(set_to_none=True)
            fabric.backward(loss)
            norm = torch.nn.utils.clip_grad_norm_(network.query.parameters(), math.inf)
            check_finite(step + 1, out / CHECKPOINT, float(norm))
            optimiser.step()
            network.update_key_branch()
            figures = processes.average({"loss": float(loss.detach()), "found": float(found)})
            if processes.first:
                append_log(out / LOG, {"step": step + 1, **figures})
                saver.maybe(step + 1, last=step + 1 == config.steps)
                if progress:
                    progress(step + 1, figures)
    processes.wait()
    return out / CHECKPOINT


def _make_optimiser(config: SiameseConfig, network: SiameseNetwork) -> torch.optim.Optimizer:
    """The optimiser of the query branch; the key branch follows it without gradients (eq. 2)."""
    if config.optimiser == "muon":
        return MuonAndAdam(network.query, config.learning_rate)
    parameters = network.query.parameters()
    if config.optimiser == "adamw":
        return torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    return torch.optim.SGD(
        parameters, lr=config.learning_rate, momentum=config.sgd_momentum, weight_decay=config.weight_decay
    )


def _match(
    config: SiameseConfig, network: SiameseNetwork, processes: Processes, query: torch.Tensor, key: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The contrastive loss, and the share of queries that find their own key first; the keys join the queue."""
    own = None
    if config.batch_negatives:
        own = network.enqueue(processes.gather(key))[processes.rows(config.batch_size)]
    queue = network.queue.clone()
    loss = info_nce(query, key, queue, config.temperature, own)
    with torch.no_grad():
        best_negative = negative_similarity(query.float(), queue.float(), own).amax(1)
        found = ((query * key).sum(1).float() > best_negative).float().mean()
    if not config.batch_negatives:
        network.enqueue(processes.gather(key))
    return loss, found
