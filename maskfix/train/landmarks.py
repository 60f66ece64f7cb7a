"""The landmark network taught: where has the face gone in a crop that was cut askew, whatever hides it?"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from maskfix.align.landmark_network import create_landmark_network
from maskfix.base import FloatArray, InputError, UInt8Array, canonical_layout, drop_leftovers
from maskfix.train.averaging import average_of, averaging
from maskfix.train.batches import as_pictures, batches
from maskfix.train.checkpoint import append_log, resume, save_checkpoint
from maskfix.train.config import as_plain
from maskfix.train.landmark_config import LandmarkConfig
from maskfix.train.loop import (
    Progress,
    Saver,
    launched_processes,
    learning_rate,
    make_fabric,
    open_views,
    set_learning_rate,
)
from maskfix.train.moves import draw_move, move
from maskfix.train.obstacles import put_behind, slip_mask
from maskfix.train.sources import run_sources
from maskfix.train.views import OccludedViews

CHECKPOINT = "landmarks.pt"
LOG = "landmarks.jsonl"

#: Share of the masked faces whose mask may have slipped.
_SLIPPED = 0.3
#: Where the loss turns from square to linear, as a share of the crop's side: a few pixels.
_BETA = 0.02
_VALIDATION = 1024


class MovedCrops(NamedTuple):
    """One batch.

    Attributes:
        pictures: `(N, S, S, 3)` uint8.
        five: `(N, 5, 2)` float32 points in pixels.
    """

    pictures: Tensor
    five: Tensor


class MovedCropDataset(Dataset[Any]):
    """Batches by step number: faces hidden at random, each moved several times, since hiding costs more than moving.

    Args:
        views: Where faces and masks come from.
        faces: Indices of the faces to draw from.
        config: How far crops are moved, how often each, how many a batch.
        seed: Seed of every draw.
    """

    def __init__(self, views: OccludedViews, faces: NDArray[np.int64], config: LandmarkConfig, seed: int) -> None:
        self.views, self.faces, self.config, self.seed = views, faces, config, seed

    def __getitem__(self, step: int) -> MovedCrops:
        """The batch of one step, a function of (seed, step) alone."""
        generator, config = np.random.default_rng([self.seed, 2, step]), self.config
        pairs = generator.choice(self.faces, (-(-config.batch_size // config.moves), 2))
        moved = [one for face, other in pairs for one in self._moved(int(face), int(other), generator)]
        pictures, five = zip(*moved[: config.batch_size], strict=True)
        return MovedCrops(torch.from_numpy(np.stack(pictures)), torch.from_numpy(np.stack(five)))

    def _moved(self, index: int, other: int, generator: Generator) -> list[tuple[UInt8Array, FloatArray]]:
        """One hidden face in several places, with its points."""
        config = self.config
        beside = np.asarray(self.views.store.crops[other])
        picture, five = self._hidden(index, beside, generator)
        moves = [
            draw_move(generator, len(picture), config.shift, config.turn, config.scale) for _ in range(config.moves)
        ]
        return [
            (move(picture, matrix, beside, generator), (five @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32))
            for matrix in moves
        ]

    def _hidden(self, index: int, beside: UInt8Array, generator: Generator) -> tuple[UInt8Array, FloatArray]:
        """A face behind a mask, behind something else, or as it is, and its points."""
        face, draw = self.views.face(index, generator), generator.random()
        if draw < self.config.behind:
            return put_behind(face.trimmed, beside, generator), face.five
        worn = slip_mask(face, generator) if generator.random() < _SLIPPED else face
        return self.views.occlude(worn, generator).picture, face.five


def train_landmarks(
    config: LandmarkConfig,
    faces: str | Path,
    out: str | Path,
    templates: str | Path | None = None,
    device: str = "auto",
    workers: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Train a landmark network; continues from its checkpoint.

    What it learns are the points by which `maskfix prepare` cut the crops, taken from faces that nothing hid.

    Args:
        config: The configuration.
        faces: Folder that `maskfix prepare` wrote.
        out: Folder for `landmarks.pt` and `landmarks.jsonl`.
        templates: Folder in MaskTheFace's layout, or None for this project's own templates.
        device: `auto`, `cpu` or `cuda`.
        workers: Processes that make batches.
        progress: Called after each step.

    Returns:
        Path of the checkpoint; its `average` entry is what is released.

    Raises:
        DatasetError: If the faces or templates cannot be used.
        CheckpointError: If a checkpoint is damaged or of another configuration or other faces.
        InputError: If torchrun started several processes.
    """
    out = Path(out)
    if launched_processes()[0] > 1:
        raise InputError("torchrun: a landmark network is trained in one process; start maskfix train landmarks itself")
    fabric = make_fabric(config.precision, device)
    views, training, validation = open_views(faces, templates, config)
    record = as_plain(config)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = create_landmark_network(config.network)
    # Before its optimiser is made: the state that a checkpoint gives follows the parameters as they are then.
    network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = average_of(network, config.average)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    sources = run_sources(faces)
    first = resume(out / CHECKPOINT, out / LOG, record, network, average, optimiser, sources)
    model, optimiser = fabric.setup(network, optimiser)
    out.mkdir(parents=True, exist_ok=True)
    drop_leftovers([out / CHECKPOINT])

    def save(step: int) -> None:
        stored = {"config": record, "step": step, "network": network.state_dict(), "optimiser": optimiser.state_dict()}
        save_checkpoint(out / CHECKPOINT, stored | {"average": average.state_dict(), "sources": sources})

    saver = Saver(save, config.checkpoint_seconds)
    lessons: Any = MovedCropDataset(views, training, config, config.seed)
    for step, lesson in enumerate(batches(lessons, first, config.steps, workers, fabric.device), first):
        set_learning_rate(optimiser, learning_rate(config, step))
        figures = _step(config, lesson, fabric, model, optimiser)
        average.multi_avg_fn = averaging(min(config.average, (1 + step) / (10 + step)))
        average.update_parameters(network)
        last = step + 1 == config.steps
        if config.validate_every and (last or (step + 1) % config.validate_every == 0) and len(validation):
            figures |= validate_landmarks(average.module, MovedCropDataset(views, validation, config, config.seed + 1))
        append_log(out / LOG, {"step": step + 1, **figures})
        saver.maybe(step + 1, last)
        if progress:
            progress(step + 1, figures)
    return out / CHECKPOINT


def _step(config: LandmarkConfig, lesson: MovedCrops, fabric: Any, model: Any, optimiser: Any) -> dict[str, float]:
    """One optimiser step; returns the loss and the mean error in pixels."""
    wanted = lesson.five.to(fabric.device)
    with fabric.autocast():
        found = model(as_pictures(lesson.pictures, fabric.device))
    side = lesson.pictures.shape[1]
    loss = functional.smooth_l1_loss(found / side, wanted / side, beta=_BETA)
    optimiser.zero_grad(set_to_none=True)
    fabric.backward(loss)
    if config.clip:
        fabric.clip_gradients(model, optimiser, max_norm=config.clip)
    optimiser.step()
    return {"loss": float(loss.detach()), "error": float((found.detach() - wanted).norm(dim=2).mean())}


@torch.no_grad()
def validate_landmarks(network: nn.Module, lessons: MovedCropDataset) -> dict[str, float]:
    """Errors on held-out faces, hidden and moved as in training, in pixels of the crop.

    Args:
        network: A `LandmarkNetwork`; it is left in training mode.
        lessons: Batches of held-out faces; the first ones count, the same each time.

    Returns:
        `val_moved`, the mean distance of the points from where the layout has them; `val_error`, from where the network
        finds them; and of these errors `val_eyes` and `val_mouth`, nose and mouth.
    """
    network.eval()
    device = next(network.parameters()).device
    layout = torch.tensor(canonical_layout(lessons.config.size).array, dtype=torch.float32)
    errors, moved = [], []
    for step in range(max(1, _VALIDATION // lessons.config.batch_size)):
        lesson = lessons[step]
        found, wanted = network(as_pictures(lesson.pictures, device)).cpu(), lesson.five
        errors.append((found - wanted).norm(dim=2))
        moved.append((layout - wanted).norm(dim=2))
    network.train()
    error = torch.cat(errors)
    return {
        "val_moved": float(torch.cat(moved).mean()),
        "val_error": float(error.mean()),
        "val_eyes": float(error[:, :2].mean()),
        "val_mouth": float(error[:, 2:].mean()),
    }
