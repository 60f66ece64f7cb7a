"""Faces made up for the tests of this room."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from maskfix.base import DoubleArray
from maskfix.data import canonical_face


def placed_face(size: int, turn: float = 0.0, roll: float = 0.0) -> DoubleArray:
    """The canonical face in a crop of `size` pixels, turned about a vertical axis and rolled, both in degrees."""
    vertices = canonical_face().vertices - [0, 0.45, 0]
    yaw, tilt = np.deg2rad(turn), np.deg2rad(roll)
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_z = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    turned = vertices @ about_y.T @ about_z.T * (0.32 * size)
    return np.asarray(turned + np.array([(size - 1) / 2, (size - 1) / 2, 0]))


@functools.cache
def twins() -> NDArray[np.int64]:
    """For each vertex of the canonical face, the vertex at its mirror image."""
    vertices = canonical_face().vertices
    mirrored = vertices * [-1, 1, 1]
    return np.linalg.norm(vertices[:, None] - mirrored[None], axis=2).argmin(1)
