"""The landmark network taught: where has the face gone in a crop that was cut askew, whatever hides it?"""

from __future__ import annotations

from functools import partial
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
from maskfix.base import FloatArray, UInt8Array, canonical_layout
from maskfix.train.batches import as_pictures
from maskfix.train.config import as_plain
from maskfix.train.landmark_config import LandmarkConfig
from maskfix.train.loop import Progress, make_fabric, open_views
from maskfix.train.moves import draw_move, move
from maskfix.train.obstacles import put_behind, slip_mask
from maskfix.train.single import SingleRun, refuse_torchrun, run_steps
from maskfix.train.sources import run_sources
from maskfix.train.views import OccludedViews, coarsen

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
            # Seen by the same camera as the face, whose sharpness may still be due.
            return coarsen(put_behind(face.trimmed, beside, generator), face.coarseness), face.five
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
    refuse_torchrun("a landmark network is trained", "maskfix train landmarks")
    fabric = make_fabric(config.precision, device)
    views, training, validation = open_views(faces, templates, config)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = create_landmark_network(config.network)
    # Before its optimiser is made: the state that a checkpoint gives follows the parameters as they are then.
    network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    sources = run_sources(faces, templates=templates)
    held_out = MovedCropDataset(views, validation, config, config.seed + 1) if len(validation) else None
    return run_steps(
        SingleRun(config, as_plain(config), sources, out / CHECKPOINT, out / LOG, fabric, workers),
        network,
        optimiser,
        MovedCropDataset(views, training, config, config.seed),
        partial(_loss, fabric),
        None if held_out is None else partial(validate_landmarks, lessons=held_out),
        progress,
    )


def _loss(fabric: Any, model: Any, lesson: MovedCrops) -> tuple[Tensor, dict[str, float]]:
    """The loss of one batch, and the mean error in pixels."""
    wanted = lesson.five.to(fabric.device)
    with fabric.autocast():
        found = model(as_pictures(lesson.pictures, fabric.device))
    side = lesson.pictures.shape[1]
    loss = functional.smooth_l1_loss(found / side, wanted / side, beta=_BETA)
    error = (found.detach() - wanted).norm(dim=2).mean()
    return loss, {"loss": float(loss.detach()), "error": float(error)}


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
