"""Training batches: augmented faces with masks on, each batch a function of (seed, step) alone.

Because no generator lives from one batch to the next, a resumed run draws what the unbroken run would have drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from maskfix.base import FloatArray, UInt8Array
from maskfix.data import FaceStore
from maskfix.occlude import PAPER_KINDS, Occluder
from maskfix.train.config import ViewConfig

# Mirroring a face swaps a with c and d with f.
_MIRRORED = [2, 1, 0, 5, 4, 3]


class Face(NamedTuple):
    """One augmented face.

    Attributes:
        crop: `(S, S, 3)` uint8 RGB.
        points: `(6, 2)` float32 mask points in pixels.
        correspondence: `(S, S, 2)` uint8, see `data.correspondence_target`.
    """

    crop: UInt8Array
    points: FloatArray
    correspondence: UInt8Array


class Batch(NamedTuple):
    """One batch of stage 2, or one view of stage 1; tensors as they come from the workers.

    Attributes:
        clean: `(N, S, S, 3)` uint8.
        occluded: `(N, S, S, 3)` uint8.
        alpha: `(N, S, S)` uint8, opacity of the mask times 255.
        correspondence: `(N, S, S, 2)` uint8.
    """

    clean: torch.Tensor
    occluded: torch.Tensor
    alpha: torch.Tensor
    correspondence: torch.Tensor


class OccludedViews:
    """Draws augmented faces and masks for them.

    Args:
        store: Prepared faces.
        config: How to vary them.
        sources: Occluders to draw from: the first is this project's own templates, the second, if any, a folder's.
    """

    def __init__(self, store: FaceStore, config: ViewConfig, occluders: Sequence[Occluder]) -> None:
        self.store = store
        self.config = config
        self.occluders = tuple(occluders)
        self.kinds = config.kinds or PAPER_KINDS

    def face(self, index: int, generator: Generator) -> Face:
        """One face, moved, mirrored, relit and coarsened at random."""
        config, size = self.config, self.store.size
        crop, points = np.asarray(self.store.crops[index]), np.asarray(self.store.points[index])
        coded = np.asarray(self.store.correspondence[index])
        matrix = self._jitter(generator)
        crop = cv2.warpAffine(crop, matrix, (size, size), borderMode=cv2.BORDER_REFLECT_101)
        coded = cv2.warpAffine(coded, matrix, (size, size), flags=cv2.INTER_NEAREST)
        points = points @ matrix[:, :2].T + matrix[:, 2]
        if generator.random() < 0.5:
            crop, coded = crop[:, ::-1], coded[:, ::-1].copy()
            coded[..., 0] = np.where(coded[..., 0] > 0, 256 - coded[..., 0].astype(np.int16), 0)
            points = (points * [-1, 1] + [size - 1, 0])[_MIRRORED]
        crop = self._relight(np.ascontiguousarray(crop), generator)
        if generator.random() < 0.5:
            crop = _coarsen(crop, generator.uniform(config.coarsest, 1.0))
        return Face(crop, points.astype(np.float32), coded)

    def occlude(self, face: Face, generator: Generator) -> tuple[UInt8Array, UInt8Array]:
        """Put a random mask on a face, or none in a share of cases.

        Returns:
            The picture `(S, S, 3)` uint8 and the mask's opacity `(S, S)` uint8.
        """
        config = self.config
        if generator.random() < config.clean:
            return face.crop, np.zeros(face.crop.shape[:2], np.uint8)
        kind = str(generator.choice(list(self.kinds)))
        if generator.random() < config.random_cloth:
            kind = "cloth#{:02x}{:02x}{:02x}".format(*generator.integers(0, 256, 3))
        own = len(self.occluders) == 1 or generator.random() < config.drawn
        points = face.points + generator.normal(0, config.point_noise, (6, 2))
        occluded = self.occluders[0 if own else 1].occlude(face.crop, points.astype(np.float32), kind)
        return occluded.image, np.rint(occluded.alpha * 255).astype(np.uint8)

    def _jitter(self, generator: Generator) -> NDArray[np.float64]:
        """A random small similarity about the middle of the crop."""
        config, middle = self.config, (self.store.size - 1) / 2
        turn, scale = generator.uniform(-config.turn, config.turn), generator.uniform(-config.scale, config.scale)
        matrix = np.asarray(cv2.getRotationMatrix2D((middle, middle), turn, 1 + scale), np.float64)
        matrix[:, 2] += generator.uniform(-config.shift, config.shift, 2)
        return matrix

    def _relight(self, crop: UInt8Array, generator: Generator) -> UInt8Array:
        """Change gain and gamma; make one picture in twenty grey."""
        light = self.config.light
        gain, gamma = 1 + generator.uniform(-light, light), np.exp(generator.uniform(-light, light))
        table = np.clip(np.rint(255 * gain * (np.arange(256) / 255) ** gamma), 0, 255).astype(np.uint8)
        crop = cv2.LUT(crop, table)
        if generator.random() < 0.05:
            crop = np.repeat(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
        return np.asarray(crop, np.uint8)


def _coarsen(crop: UInt8Array, factor: float) -> UInt8Array:
    """Scale a crop down by area averaging and up again bilinearly."""
    size = crop.shape[0]
    small = max(8, round(size * factor))
    return np.asarray(
        cv2.resize(cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA), (size, size)), np.uint8
    )


class BatchDataset(Dataset[Any]):
    """Whole batches by step number.

    Args:
        views: Where faces and masks come from.
        faces: Indices of the faces to draw from.
        batch_size: Faces a batch.
        seed: Seed of every draw.
        pairs: Whether a batch is two views of the same faces with different masks (stage 1).
    """

    def __init__(
        self, views: OccludedViews, faces: NDArray[np.int64], batch_size: int, seed: int, pairs: bool = False
    ) -> None:
        self.views = views
        self.faces = faces
        self.batch_size = batch_size
        self.seed = seed
        self.pairs = pairs

    def indices(self, step: int) -> NDArray[np.int64]:
        """Faces of one step: every face once an epoch, in an order of its own each epoch."""
        places = step * self.batch_size + np.arange(self.batch_size)
        epochs = places // len(self.faces)
        orders = {
            int(epoch): np.random.default_rng([self.seed, 1, int(epoch)]).permutation(self.faces)
            for epoch in np.unique(epochs)
        }
        return np.array([orders[int(e)][p] for e, p in zip(epochs, places % len(self.faces), strict=True)], np.int64)

    def __getitem__(self, step: int) -> Batch | tuple[Batch, Batch]:
        """The batch of one step, or two views of it."""
        generator = np.random.default_rng([self.seed, 2, step])
        indices = self.indices(step)
        if self.pairs:
            return self._view(indices, generator), self._view(indices, generator)
        return self._view(indices, generator)

    def _view(self, indices: NDArray[np.int64], generator: Generator) -> Batch:
        faces = [self.views.face(int(index), generator) for index in indices]
        masked = [self.views.occlude(face, generator) for face in faces]
        arrays = (
            [face.crop for face in faces],
            [image for image, _ in masked],
            [alpha for _, alpha in masked],
            [face.correspondence for face in faces],
        )
        return Batch(*(torch.from_numpy(np.stack(array)) for array in arrays))


def batches(dataset: BatchDataset, start: int, stop: int, workers: int = 1) -> Iterator[Any]:
    """Batches of steps start to stop, made ahead by worker processes.

    Args:
        dataset: Where batches come from.
        start: First step.
        stop: Step after the last.
        workers: Processes; 0 makes batches in this process.
    """
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
    )
    return iter(loader)


def as_pictures(images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`(N, S, S, 3)` uint8 to `(N, 3, S, S)` float32 in [0, 1], channels last in memory as convolutions want them."""
    return images.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
