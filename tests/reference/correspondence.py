"""Slow twins of maskfix.data.correspondence: one pixel and one triangle at a time."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def barycentric(corners: Array, x: float, y: float) -> Array | None:
    """Weights of a triangle's three corners at a place; None where the triangle has no area."""
    system = np.vstack([corners[:, :2].T, np.ones(3)])
    if abs(np.linalg.det(system)) < 1e-12:
        return None
    return np.asarray(np.linalg.solve(system, [x, y, 1.0]))


def rasterise(
    points: Array, values: Array, triangles: NDArray[np.int64], size: int
) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Values of the nearest triangle over each pixel; the pixels covered; the pixels too close to an edge to argue."""
    picture = np.zeros((size, size, values.shape[1]))
    covered, close = np.zeros((size, size), np.bool_), np.zeros((size, size), np.bool_)
    for y in range(size):
        for x in range(size):
            nearest = math.inf
            for triangle in triangles:
                weights = barycentric(points[triangle], x, y)
                if weights is None:
                    continue
                close[y, x] |= bool(abs(weights.min()) < 1e-6)
                depth = float(weights @ points[triangle, 2])
                if weights.min() >= 0 and depth < nearest:
                    nearest = depth
                    covered[y, x] = True
                    picture[y, x] = weights @ values[triangle]
    return picture, covered, close


def unwrap(vertices: Array) -> Array:
    """Angle around a vertical axis a quarter of an eye distance behind the deepest vertex, and height."""
    behind = max(z for _, _, z in vertices) + 0.25
    raw = [(math.atan2(x, behind - z), y) for x, y, z in vertices]
    (u0, u1), (v0, v1) = ((min(axis), max(axis)) for axis in zip(*raw, strict=True))
    return np.array([((u - u0) / (u1 - u0), (v - v0) / (v1 - v0)) for u, v in raw])
