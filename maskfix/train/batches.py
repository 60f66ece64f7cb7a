"""Training batches: augmented faces with masks on, each batch a function of (seed, step) alone.

Because no generator lives from one batch to the next, a resumed run draws what the unbroken run would have drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from maskfix.base import DoubleArray, MaskfixError, check_range
from maskfix.train.views import Face, Masked, OccludedViews


class Batch(NamedTuple):
    """One batch of stage 2, or one view of stage 1; tensors as they come from the workers.

    Attributes:
        clean: `(N, S, S, 3)` uint8.
        occluded: `(N, S, S, 3)` uint8.
        alpha: `(N, S, S)` uint8, opacity of the mask times 255.
        correspondence: `(N, S, S, 2)` uint8.
        face: `(N,)` int64, which face of the store each picture is of.
    """

    clean: torch.Tensor
    occluded: torch.Tensor
    alpha: torch.Tensor
    correspondence: torch.Tensor
    face: torch.Tensor


class BatchDataset(Dataset[Any]):
    """Whole batches by step number.

    Args:
        views: Where faces and masks come from.
        faces: Indices of the faces to draw from.
        batch_size: Faces a batch.
        seed: Seed of every draw.
        pairs: Whether a batch is two views of the same faces with different masks, otherwise the same pictures.
        apart: Whether the views of a pair are moved, mirrored and relit apart as well.
        rows: Only these rows of each batch are made (all when None), as they would be in the whole batch.
        often: `(len(faces),)` how often each face is drawn relative to the others, positive; all alike when None.
    """

    def __init__(
        self,
        views: OccludedViews,
        faces: NDArray[np.int64],
        batch_size: int,
        seed: int,
        pairs: bool = False,
        rows: slice | None = None,
        often: DoubleArray | None = None,
        apart: bool = False,
    ) -> None:
        self.views = views
        self.faces = faces
        self.batch_size = batch_size
        self.seed = seed
        self.pairs, self.apart = pairs, apart
        weights = np.ones(len(faces)) if often is None else often
        # Right end of each face's share of an epoch, in places.
        self._ends = np.cumsum(weights) * (len(faces) / weights.sum())
        self.own = range(batch_size)[rows or slice(None)]

    def indices(self, step: int) -> NDArray[np.int64]:
        """Faces of one step: every face once an epoch, or in proportion, in an order of its own each epoch."""
        places = step * self.batch_size + np.arange(self.batch_size)
        epochs = places // len(self.faces)
        orders = {int(epoch): self._order(int(epoch)) for epoch in np.unique(epochs)}
        return np.array([orders[int(e)][p] for e, p in zip(epochs, places % len(self.faces), strict=True)], np.int64)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """The faces of one epoch, as many as there are.

        Systematic sampling: a face whose share is `k` places fills `k` of them, rounded down or up as the epoch's
        offset falls, so that equal shares give every face one place.
        """
        order = np.random.default_rng([self.seed, 1, epoch]).permutation(len(self.faces))
        offset = np.random.default_rng([self.seed, 3, epoch]).random()
        found = np.searchsorted(self._ends, np.arange(len(self.faces)) + offset, side="right")
        drawn: NDArray[np.int64] = self.faces[np.minimum(found, len(self.faces) - 1)[order]]
        return drawn

    def __getitem__(self, step: int) -> Batch | tuple[Batch, Batch]:
        """The batch of one step, or two views of the same pictures."""
        generator = np.random.default_rng([self.seed, 2, step])
        indices = self.indices(step)
        drawn = self._faces(indices, generator)
        first = self._view(drawn, indices, generator)
        if not self.pairs:
            return first
        return first, self._view(self._faces(indices, generator) if self.apart else drawn, indices, generator)

    def _faces(self, indices: NDArray[np.int64], generator: Generator) -> list[Face | None]:
        # What is drawn for other rows is drawn here too and left unused: drawing costs nothing beside making pictures.
        return [self._face(int(index), generator, i in self.own) for i, index in enumerate(indices)]

    def _view(self, drawn: Sequence[Face | None], indices: NDArray[np.int64], generator: Generator) -> Batch:
        worn = [self._masked(face, generator) for face in drawn]
        faces = [face for face in drawn if face is not None]
        masked = [one for one in worn if one is not None]
        arrays = (
            [one.clean for one in masked],
            [one.picture for one in masked],
            [one.alpha for one in masked],
            [face.correspondence for face in faces],
        )
        stacked = (np.stack(array) for array in arrays)
        return Batch(*(torch.from_numpy(array) for array in (*stacked, indices[list(self.own)])))

    def _face(self, index: int, generator: Generator, own: bool) -> Face | None:
        """A face, or what it would have drawn."""
        if own:
            return self.views.face(index, generator)
        self.views.draw_face(generator)
        return None

    def _masked(self, face: Face | None, generator: Generator) -> Masked | None:
        """A mask on a face, or what it would have drawn."""
        if face is not None:
            return self.views.occlude(face, generator)
        self.views.draw_mask(generator)
        return None


def batches(
    dataset: Dataset[Any], start: int, stop: int, workers: int = 1, device: torch.device | None = None
) -> Iterator[Any]:
    """Batches of steps start to stop, made ahead by worker processes.

    Args:
        dataset: Where batches come from.
        start: First step.
        stop: Step after the last.
        workers: Processes; 0 makes batches in this process.
        device: Where they are used: for a GPU they come in memory that it can read while other work goes on.

    Raises:
        InputError: If there are fewer processes than none.
        MaskfixError: What making a batch raises, from a worker process too as it was.
    """
    check_range("workers", workers, 0, 1024)
    loader = DataLoader(
        _Told(dataset),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=device is not None and device.type == "cuda",
    )
    return _raising(iter(loader))


class _Told(Dataset[Any]):
    """A dataset that gives what went wrong in place of a batch: torch would flatten a worker's traceback into a line.

    Args:
        dataset: What makes the batches.
    """

    def __init__(self, dataset: Dataset[Any]) -> None:
        self.dataset = dataset

    def __getitem__(self, step: int) -> Any:
        try:
            return self.dataset[step]
        except MaskfixError as error:
            return error


def _raising(made: Iterator[Any]) -> Iterator[Any]:
    """Batches as they come, until one is an error."""
    for batch in made:
        if isinstance(batch, MaskfixError):
            raise batch
        yield batch


def as_pictures(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`(N, S, S, 3)` uint8 to `(N, 3, S, S)` float32 in [0, 1], channels last in memory as convolutions want them."""
    return images.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
