"""Slow twins of maskfix.align, written from the definitions: one face, one pixel at a time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def umeyama(source: Array, target: Array) -> Array:
    """Umeyama (1991), equations 40 to 43: rotation from the singular vectors of the covariance, no mirror."""
    count = len(source)
    source_mean, target_mean = source.mean(0), target.mean(0)
    covariance = np.zeros((2, 2))
    variance = 0.0
    for s, t in zip(source, target, strict=True):
        covariance += np.outer(t - target_mean, s - source_mean) / count
        variance += float((s - source_mean) @ (s - source_mean)) / count
    left, values, right = np.linalg.svd(covariance)
    sign = np.diag([1.0, 1.0 if np.linalg.det(left) * np.linalg.det(right) > 0 else -1.0])
    rotation = left @ sign @ right
    scale = float(np.trace(np.diag(values) @ sign)) / variance
    return np.column_stack([scale * rotation, target_mean - scale * rotation @ source_mean])


def squared_error(matrix: Array, source: Array, target: Array) -> float:
    """What a least-squares fit minimises."""
    return sum(float(((matrix[:, :2] @ s + matrix[:, 2] - t) ** 2).sum()) for s, t in zip(source, target, strict=True))


def _index(i: int, length: int, border: str) -> int | None:
    """Where pixel `i` of a line of pixels lies; None stands for black."""
    if 0 <= i < length:
        return i
    if border == "constant":
        return None
    if border == "replicate":
        return min(max(i, 0), length - 1)
    # Mirrored about the middle of the outermost pixel: -1 is 1.
    period = max(2 * (length - 1), 1)
    i = i % period
    return min(i, period - i) if i >= length else i


def sample(picture: Array, x: float, y: float, border: str) -> Array:
    """Bilinear value of `(H, W, C)` at a place."""
    left, top = math.floor(x), math.floor(y)
    value = np.zeros(picture.shape[2])
    for row, row_weight in ((top, top + 1 - y), (top + 1, y - top)):
        for column, column_weight in ((left, left + 1 - x), (left + 1, x - left)):
            i, j = _index(row, picture.shape[0], border), _index(column, picture.shape[1], border)
            if i is not None and j is not None:
                value += row_weight * column_weight * picture[i, j]
    return value


def warp(photo: Array, matrix: Array, size: int, border: str) -> Array:
    """Crop of a photo: each pixel of the crop asks where in the photo it came from."""
    square = np.vstack([matrix, [0, 0, 1]])
    crop = np.zeros((size, size, photo.shape[2]))
    for v in range(size):
        for u in range(size):
            x, y, _ = np.linalg.solve(square, [u, v, 1])
            crop[v, u] = sample(photo, float(x), float(y), border)
    return crop


def paste(photo: Array, crop: Array, matrix: Array, weight: Array) -> Array:
    """Photo with a crop in it: each pixel of the photo asks where in the crop it lies, and how much it takes."""
    result = photo.copy()
    for y in range(photo.shape[0]):
        for x in range(photo.shape[1]):
            u, v = matrix @ [x, y, 1]
            blend = sample(weight[..., None], float(u), float(v), "constant")[0]
            if blend > 0:
                result[y, x] += blend * (sample(crop, float(u), float(v), "replicate") - photo[y, x])
    return result


def main_face(boxes: Array, width: int, height: int) -> int:
    """The face with most area after a fine of twice the squared distance from the centre."""
    values = []
    for x1, y1, x2, y2 in boxes:
        away = ((x1 + x2) / 2 - width / 2) ** 2 + ((y1 + y2) / 2 - height / 2) ** 2
        values.append((x2 - x1) * (y2 - y1) - 2 * away)
    return values.index(max(values))
