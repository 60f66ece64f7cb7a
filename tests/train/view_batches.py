"""Batches of a store's faces, and an occluder that tells what it was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from maskfix.base import FloatArray, Occluded, UInt8Array
from maskfix.data import FaceStore
from maskfix.occlude import Occluder
from maskfix.train.batches import BatchDataset
from maskfix.train.config import ViewConfig
from maskfix.train.views import OccludedViews


class Recorder:
    """Stands for an occluder: notes kinds and points, paints nothing."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.points: list[FloatArray] = []

    def occlude(self, photo: UInt8Array, points: FloatArray, kind: str) -> Occluded:
        self.kinds.append(kind)
        self.points.append(points)
        alpha = np.full(photo.shape[:2], 0.5, np.float32)
        return Occluded(photo, alpha, alpha > 0)


def dataset(faces: FaceStore, seed: int = 0, size: int = 3, pairs: bool = False, **views: Any) -> BatchDataset:
    made = OccludedViews(faces, ViewConfig(**views), [Occluder()])
    return BatchDataset(made, np.arange(len(faces)), size, seed, pairs)
