"""Small stores of made-up faces, written without any detector."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from maskfix.base import FloatArray, UInt8Array, canonical_layout
from maskfix.data import write_layout

FACES = 24

POINTS_128 = np.array([[30, 60], [64, 42], [98, 60], [36, 82], [64, 104], [92, 82]], dtype=np.float32)
"""a..f of an upright frontal face in a crop of 128 pixels."""


def smooth_pictures(count: int, size: int, seed: int = 0) -> UInt8Array:
    """Random smooth pictures, `(count, size, size, 3)`: a few blobs of colour each."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(30, 226, (count, 6, 6, 3)).astype(np.uint8)
    return np.stack([cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC) for picture in coarse])


def coded_ellipse(size: int) -> UInt8Array:
    """Correspondence of an elliptic face, `(size, size, 2)` uint8: 1 + 254 u and 1 + 254 v, 0 outside."""
    y, x = np.mgrid[0:size, 0:size] / (size - 1)
    # Not in the middle, so that its mirror image lies elsewhere.
    inside = np.hypot((x - 0.46) / 0.38, (y - 0.55) / 0.45) < 1
    coded = np.stack([1 + 254 * x, 1 + 254 * y], axis=2).round()
    return np.where(inside[..., None], coded, 0).astype(np.uint8)


def frame(size: int) -> FloatArray:
    """Corners of a photograph that ends inside the crop, a little turned, `(4, 2)`."""
    corners = np.array([[0.15, 0.2], [0.87, 0.18], [0.88, 0.93], [0.16, 0.95]]) * size
    return corners.astype(np.float32)


def write_store(folder: Path, size: int, count: int = FACES) -> Path:
    """Write a store as `maskfix prepare` does, with one failed picture in its records."""
    folder.mkdir(parents=True, exist_ok=True)
    jitter = np.random.default_rng(1).normal(0, 1, (count, 6, 2))
    points: FloatArray = ((POINTS_128 + jitter) * size / 128).astype(np.float32)
    np.save(folder / "crops.npy", smooth_pictures(count, size))
    np.save(folder / "points.npy", points)
    np.save(folder / "correspondence.npy", np.repeat(coded_ellipse(size)[None], count, axis=0))
    np.save(folder / "frames.npy", np.repeat(frame(size)[None], count, axis=0))
    names = [f"face{number:02d}.png" for number in range(count)]
    records = pd.DataFrame(
        {"image": [*names, "empty.png"], "ok": [True] * count + [False], "reason": [""] * count + ["-"]}
    )
    records.to_csv(folder / "records.csv", index=False)
    write_layout(folder, canonical_layout(size))
    return folder
