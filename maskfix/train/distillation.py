"""A recogniser of our own: LightCNN taught by recognisers that exist, on faces without names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from maskfix.align import fit_layout
from maskfix.base import FloatArray, UInt8Array, canonical_layout
from maskfix.embed import grey_crops, load, load_layout
from maskfix.embed.lightcnn import DIMENSION, create_lightcnn
from maskfix.losses import identity_cosine_loss, relational_loss
from maskfix.train.batches import Batch, BatchDataset
from maskfix.train.config import DistillationConfig, as_plain
from maskfix.train.loop import Progress, make_fabric, open_views
from maskfix.train.single import SingleRun, refuse_torchrun, run_steps
from maskfix.train.sources import run_sources
from maskfix.train.teachers import joint_target, teacher_embeddings
from maskfix.train.views import OccludedViews

CHECKPOINT = "distillation.pt"
LOG = "distillation.jsonl"

_LAYOUT = "lightcnn_128"


class Lesson(NamedTuple):
    """What one step teaches.

    Attributes:
        faces: `(2B, 128, 128)` uint8 grey: B faces, then the same faces in another view.
        rows: `(2B,)` rows of the targets.
    """

    faces: Tensor
    rows: Tensor


class LessonDataset(Dataset[Any]):
    """Lessons by step number: two views of each face, moved, relit and coarsened apart, some of them masked.

    Args:
        views: Where faces and masks come from; its configuration's `clean` is the share of views without a mask.
        faces: Indices of the faces to draw from.
        batch_size: B, faces a step.
        seed: Seed of every draw.
    """

    def __init__(self, views: OccludedViews, faces: NDArray[np.int64], batch_size: int, seed: int) -> None:
        self._data = BatchDataset(views, faces, batch_size, seed, pairs=True, apart=True)

    def __getitem__(self, step: int) -> Lesson:
        """The lesson of one step."""
        pair: Any = self._data[step]
        crops = torch.cat([view.occluded for view in pair]).numpy()
        rows = torch.from_numpy(np.tile(self._data.indices(step), 2))
        return Lesson(torch.from_numpy(student_crops(crops)), rows)


def student_crops(crops: UInt8Array) -> UInt8Array:
    """Canonical crops `(N, S, S, 3)` uint8 as the student sees them, `(N, 128, 128)` uint8 grey."""
    layout = load_layout(_LAYOUT)
    matrix = fit_layout(canonical_layout(crops.shape[1]).array, layout)
    side = (layout.size, layout.size)
    return np.stack([cv2.warpAffine(grey, matrix, side, borderMode=cv2.BORDER_REPLICATE) for grey in grey_crops(crops)])


def train_recogniser(
    config: DistillationConfig,
    faces: str | Path,
    out: str | Path,
    teachers: Sequence[str],
    templates: str | Path | None = None,
    device: str = "auto",
    workers: int = 1,
    progress: Progress | None = None,
) -> Path:
    """Distil recognisers into a LightCNN; continues from its checkpoint.

    The student's embedding is regressed on the teachers' joint target (cosine), and its cosines between faces on theirs
    (relational). No name of a person is used, so any faces will do.

    Args:
        config: The distillation's configuration.
        faces: Folder that `maskfix prepare` wrote.
        out: Folder for `distillation.pt`, `distillation.jsonl` and the teachers' embeddings.
        teachers: Specs of recognisers, see `maskfix.embed.list_embedders`.
        templates: Folder in MaskTheFace's layout, or None for this project's own templates.
        device: `auto`, `cpu` or `cuda`.
        workers: Processes that make batches.
        progress: Called after each step.

    Returns:
        Path of the checkpoint; its `average` entry is what is released.

    Raises:
        DatasetError: If the faces or templates cannot be used.
        CheckpointError: If a checkpoint is damaged or of another configuration, other faces or other teachers.
        InputError: If no teacher is given, or torchrun started several processes.
        EmbedderError: If a teacher cannot be loaded.
    """
    out = Path(out)
    # The relational term compares all pairs of a batch.
    refuse_torchrun("a recogniser is distilled", "maskfix train recogniser")
    fabric = make_fabric(config.precision, device)
    views, training, validation = open_views(faces, templates, config)
    embedders = [load(spec, device) for spec in teachers]
    target = joint_target([teacher_embeddings(views.store, one, out) for one in embedders], DIMENSION)
    record = as_plain(config) | {"teachers": [one.name for one in embedders]}
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = create_lightcnn(config.network)
        _initialise(network)
    # Before its optimiser is made: the state that a checkpoint gives follows the parameters as they are then.
    network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    sources = run_sources(faces, teachers={one.name: one.sha256 for one in embedders}, templates=templates)
    targets = torch.from_numpy(target).to(fabric.device)

    def validate(average: nn.Module) -> dict[str, float]:
        return _validate(average, views, validation, target, config, fabric)

    return run_steps(
        SingleRun(config, record, sources, out / CHECKPOINT, out / LOG, fabric, workers),
        network,
        optimiser,
        LessonDataset(views, training, config.batch_size, config.seed),
        partial(_loss, config, targets, fabric),
        validate if len(validation) > 1 else None,
        progress,
    )


def _initialise(network: nn.Module) -> None:
    """Start where signals keep their size: of two channels the larger goes on, which ReLU's rule fits well enough."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def _loss(
    config: DistillationConfig, targets: Tensor, fabric: Any, model: Any, lesson: Lesson
) -> tuple[Tensor, dict[str, float]]:
    """The loss of one batch, and its terms."""
    wanted = targets[lesson.rows]
    with fabric.autocast():
        found = model(as_grey(lesson.faces, fabric.device)).float()
    cosine, relational = identity_cosine_loss(found, wanted), relational_loss(found, wanted)
    total = cosine + config.relational * relational
    terms = {"cosine": cosine, "relational": relational, "total": total}
    return total, {name: float(value.detach()) for name, value in terms.items()}


@torch.no_grad()
def _validate(
    network: nn.Module,
    views: OccludedViews,
    faces: NDArray[np.int64],
    target: FloatArray,
    config: DistillationConfig,
    fabric: Any,
) -> dict[str, float]:
    """Held-out faces as they are: agreement with the teachers, and how many masked views find their own face first."""
    network.eval()
    faces = faces[:256]
    worn_by_all = OccludedViews(views.store, replace(views.config, clean=0.0), views.occluders, views.others)
    drawn = BatchDataset(worn_by_all, faces, len(faces), config.seed + 1)
    order, masked = drawn.indices(0), cast(Batch, drawn[0])
    with fabric.autocast():
        clean, worn = (
            torch.nn.functional.normalize(
                network(as_grey(torch.from_numpy(student_crops(crops)), fabric.device)).float()
            )
            for crops in (np.asarray(views.store.crops[order]), masked.occluded.numpy())
        )
    wanted = torch.from_numpy(target[order]).to(fabric.device)
    network.train()
    found = (worn @ clean.T).argmax(1).cpu() == torch.arange(len(order))
    return {
        "val_cosine": float((clean * wanted).sum(1).mean()),
        "val_relational": float(relational_loss(clean, wanted)),
        "val_found": float(found.float().mean()),
    }


def as_grey(faces: Tensor, device: torch.device) -> Tensor:
    """`(N, 128, 128)` uint8 to `(N, 1, 128, 128)` float32 in [0, 1]."""
    return faces.to(device, non_blocking=True)[:, None].float() / 255
