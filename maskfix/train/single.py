"""The loop of what is taught in one process: one network, its moving average, one optimiser, one loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from maskfix.base import InputError
from maskfix.train.averaging import average_of, update_average
from maskfix.train.batches import batches
from maskfix.train.checkpoint import append_log, load_checkpoint, restore, run_folder, run_state, save_checkpoint
from maskfix.train.config import AveragedConfig
from maskfix.train.loop import Progress, Saver, check_finite, launched_processes, learning_rate, set_learning_rate

Loss = Callable[[Any, Any], tuple[Tensor, dict[str, float]]]
"""Called with the network and a batch; gives what to minimise, and the figures of the log."""


class SingleRun(NamedTuple):
    """A run, apart from what it teaches.

    Attributes:
        config: How long, how fast.
        record: The configuration as its checkpoint holds it, plain.
        sources: What the run is made from, see `train.sources.run_sources`.
        checkpoint: File of the state.
        log: File of the figures, a row of JSON a step.
        fabric: Lightning Fabric.
        workers: Processes that make batches.
    """

    config: AveragedConfig
    record: Mapping[str, Any]
    sources: Mapping[str, Any]
    checkpoint: Path
    log: Path
    fabric: Any
    workers: int = 1


def refuse_torchrun(what: str, command: str) -> None:
    """Refuse to run as one of several processes.

    Args:
        what: What is trained, with its verb.
        command: The command that trains it.

    Raises:
        InputError: If torchrun started several processes.
    """
    if launched_processes()[0] > 1:
        raise InputError(f"torchrun: {what} in one process; start {command} without it")


def run_steps(
    run: SingleRun,
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    lessons: Dataset[Any],
    loss: Loss,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Take all steps of a run that are not taken yet.

    Args:
        run: The run.
        network: What learns, on its device already: the state that a checkpoint gives the optimiser follows it there.
        optimiser: Its optimiser.
        lessons: Batches by step number.
        loss: What a step minimises.
        validate: Figures of the averaged network, which it leaves in training mode; none where None.
        progress: Called after each step.

    Returns:
        Path of the checkpoint; its `average` entry is what is released.

    Raises:
        CheckpointError: If a checkpoint is damaged or of another configuration, other sources or another network, or
            another process writes to it.
        MaskfixError: If a loss is not finite.
    """
    config, fabric = run.config, run.fabric
    average = average_of(network, config.average)
    record, sources = dict(run.record), dict(run.sources)
    state = load_checkpoint(run.checkpoint, record, sources)
    first = restore(state, run.checkpoint, {"network": network, "average": average, "optimiser": optimiser})
    model, optimiser = fabric.setup(network, optimiser)

    def save(step: int) -> None:
        parts = {"network": network, "optimiser": optimiser, "average": average}
        save_checkpoint(run.checkpoint, run_state(record, sources, step, **parts))

    saver = Saver(save, config.checkpoint_seconds)
    with run_folder(run.checkpoint, run.log, first):
        for step, lesson in enumerate(batches(lessons, first, config.steps, run.workers, fabric.device), first):
            set_learning_rate(optimiser, learning_rate(config, step))
            total, figures = loss(model, lesson)
            optimiser.zero_grad(set_to_none=True)
            fabric.backward(total)
            bound = config.clip or math.inf
            norm = fabric.clip_gradients(model, optimiser, max_norm=bound, error_if_nonfinite=False)
            check_finite(step + 1, run.checkpoint, float(norm))
            optimiser.step()
            update_average(average, network, config.average, step)
            if validate and config.validates(step):
                figures |= validate(average.module)
            append_log(run.log, {"step": step + 1, **figures})
            saver.maybe(step + 1, step + 1 == config.steps)
            if progress:
                progress(step + 1, figures)
        return run.checkpoint
