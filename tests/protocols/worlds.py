"""A tiny LFW whose answers are known by hand: flat colours for faces, and parts that do one plain thing each.

Two folds of three genuine and three impostor pairs; people are red, green or blue. The recogniser reads the colour in
the middle of the crop, so clean scores are 1 (one colour) or 0 (two). The mask paints the picture green but for its
first row; the restorer paints everything in the colour of the first row, which is the clean picture again.

Masked scores are therefore 1 where the gallery is green, else 0. Per fold, probe second: genuine 0, 1, 0 and impostor
0, 0, 0: AUC 6/9. Probe first: impostor 1, 0, 0: AUC 4.5/9. Both pooled: AUC 21/36.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskfix.align.base import MEAN_MASK_POINTS_112, nothing
from maskfix.base import (
    Completion,
    FloatArray,
    InputError,
    Landmarks,
    Occluded,
    UInt8Array,
    arcface_layout,
    write_image,
)
from maskfix.occlude import Occluder
from maskfix.weights import WeightsRow

SIZE = 64
COLOURS = {"Red": (200, 0, 0), "Green": (0, 200, 0), "Blue": (0, 0, 200)}
UNMASKABLE = (0, 0, 100)
ROWS = ("{0}_Red 1 2", "{0}_Green 1 2", "{0}_Blue 1 2")
IMPOSTOR_ROWS = ("{0}_Red 1 {0}_Green 2", "{0}_Red 1 {0}_Blue 2", "{0}_Blue 1 {0}_Red 2")


def pairs_text() -> str:
    """pairs.txt of the tiny data set."""
    lines = ["2\t3"]
    for fold in ("A", "B"):
        lines += [re.sub(" ", "\t", row.format(fold)) for row in ROWS + IMPOSTOR_ROWS]
    return "\n".join(lines) + "\n"


def flat(colour: tuple[int, int, int]) -> UInt8Array:
    return np.full((SIZE, SIZE, 3), colour, dtype=np.uint8)


def write_world(root: Path, place: str = "lfw", suffix: str = ".png") -> Path:
    """Write the tiny data set; returns the folder of the person folders."""
    folder = root / place
    folder.mkdir(parents=True)
    (root / "pairs.txt").write_text(pairs_text())
    for fold in ("A", "B"):
        for name, colour in COLOURS.items():
            for number in (1, 2):
                path = folder / f"{fold}_{name}" / f"{fold}_{name}_{number:04d}{suffix}"
                # The fold and the number go into one corner: no two files are the same.
                picture = flat(colour)
                picture[-1, -1] = (10 * number, ord(fold), 7)
                write_image(path, picture)
    return folder


class FlatDetector:
    """Finds the same face in every picture but black ones, and keeps count."""

    name = "flat"
    version = "1"

    def __init__(self) -> None:
        self.seen = 0

    def detect(self, photos: Sequence[UInt8Array]) -> list[Landmarks]:
        self.seen += len(photos)
        return [self._one(photo) for photo in photos]

    @staticmethod
    def _one(photo: UInt8Array) -> Landmarks:
        if not photo[SIZE // 2, SIZE // 2].any():
            return nothing("it is black")
        five = arcface_layout(SIZE).array.astype(np.float32)
        mask = (np.array(MEAN_MASK_POINTS_112) * SIZE / 112).astype(np.float32)
        return Landmarks(five, mask, None, 1.0, "")


class GreenOccluder(Occluder):
    """Paints everything green but the first row; refuses one colour."""

    def occlude(self, photo: UInt8Array, points: FloatArray, kind: str) -> Occluded:
        if tuple(photo[0, 0]) == UNMASKABLE:
            raise InputError("points: this face takes no mask")
        image = photo.copy()
        image[1:] = COLOURS["Green"]
        alpha = np.ones(photo.shape[:2], dtype=np.float32)
        alpha[0] = 0
        return Occluded(image, alpha, alpha >= 0.5)


class FirstRowRestorer:
    """Paints everything in the colour of the first row."""

    size = 16
    weights = WeightsRow("flat_16.first_row", "flat_16", "flat.safetensors", "ab" * 32, 1, "CC0", "nothing")

    def restore_batch(
        self, photos: Sequence[UInt8Array], landmarks: NDArray[np.float32], /
    ) -> tuple[list[UInt8Array], Completion]:
        assert landmarks.shape == (len(photos), 5, 2)
        restored = [np.broadcast_to(photo[0, 0], photo.shape).copy() for photo in photos]
        count, size = len(photos), self.size
        maps = np.full((count, size, size), 0.75, dtype=np.float32)
        images = np.stack([photo[:size, :size] for photo in restored])
        uv = np.zeros((count, size, size, 2), dtype=np.float32)
        return restored, Completion(images, maps, np.full(count, 0.25, dtype=np.float32), maps, uv)


class IdleRestorer(FirstRowRestorer):
    """Leaves every photograph as it is."""

    def restore_batch(
        self, photos: Sequence[UInt8Array], landmarks: NDArray[np.float32], /
    ) -> tuple[list[UInt8Array], Completion]:
        _, completion = super().restore_batch(photos, landmarks)
        return [photo.copy() for photo in photos], completion


class MiddleEmbedder:
    """The colour in the middle of the crop as a unit vector; keeps count."""

    dimension = 3

    def __init__(self, name: str = "middle", size: int = SIZE) -> None:
        self.name = name
        self.layout = arcface_layout(size)
        self.sha256 = f"{size:08x}" * 8
        self.seen = 0

    def embed(self, crops: UInt8Array) -> FloatArray:
        assert crops.shape[1:] == (self.layout.size, self.layout.size, 3)
        self.seen += len(crops)
        middle = crops[:, self.layout.size // 2, self.layout.size // 2].astype(np.float32)
        return np.asarray(middle / np.maximum(np.linalg.norm(middle, axis=1, keepdims=True), 1e-9), np.float32)
