"""Crops cut askew: a face moved out of its place, as a detector's bad guess does, with nothing to tell by how much."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from maskfix.base import DoubleArray, UInt8Array

#: Share of the crops that lose a random strip on each side first, and the widest strip as a share of the side.
_STRIPPED, _STRIP = 0.7, 0.11
#: What stands beyond the picture: its reflection, the nearest pixel, one colour, another picture.
_BEYOND = (0.2, 0.25, 0.2, 0.35)
#: Share of the crops that show what a recogniser's crop of 112 pixels does, and the nearest pixel beyond.
_NARROW = 0.25


def draw_move(generator: Generator, size: int, shift: float, turn: float, scale: float) -> DoubleArray:
    """A similarity that moves a face within its crop; small moves are drawn as often as large ones.

    Args:
        generator: Source of every draw.
        size: Side of the crop in pixels.
        shift: Largest shift along each axis, in pixels.
        turn: Largest rotation about the middle, in degrees.
        scale: Largest logarithm of the scale.

    Returns:
        `(2, 3)` float64 affine map of pixels.

    Example:
        >>> draw_move(np.random.default_rng(0), 128, 0, 0, 0) + 0.0
        array([[1., 0., 0.],
               [0., 1., 0.]])
    """
    # One draw for how far: a detector that misses, misses in all respects.
    far, middle = generator.uniform(), (size - 1) / 2
    angle, factor = far * generator.uniform(-turn, turn), float(np.exp(far * generator.uniform(-scale, scale)))
    matrix = np.asarray(cv2.getRotationMatrix2D((middle, middle), angle, factor), np.float64)
    matrix[:, 2] += far * generator.uniform(-shift, shift, 2)
    return matrix


def move(crop: UInt8Array, matrix: NDArray[np.float64], other: UInt8Array, generator: Generator) -> UInt8Array:
    """Move a crop, and put something else where it ends.

    Edges tell: a crop of the store ends where its face would have it end, so that a network could find the face by the
    edge alone. Hence the random strips cut off first, and what stands beyond.

    Args:
        crop: `(S, S, 3)` uint8.
        matrix: `(2, 3)` map of pixels, from `draw_move`.
        other: `(S, S, 3)` uint8, another picture to stand beyond the edge.
        generator: Source of every draw.

    Returns:
        `(S, S, 3)` uint8.
    """
    size = len(crop)
    left, top, right, bottom = (
        generator.integers(0, round(_STRIP * size) + 1, 4) if generator.random() < _STRIPPED else (0, 0, 0, 0)
    )
    part = crop[top : size - bottom, left : size - right]
    matrix = matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ [left, top]
    moved = _warp(part, matrix, other, generator)
    if generator.random() < _NARROW:
        # The ArcFace crop within the canonical one, see `base.layouts`.
        beside, below = size // 16, size // 8
        inner = moved[: size - below, beside : size - beside]
        moved = cv2.copyMakeBorder(inner, 0, below, beside, beside, cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def _warp(part: UInt8Array, matrix: NDArray[np.float64], other: UInt8Array, generator: Generator) -> UInt8Array:
    """Warp a picture into a square of the other's size, with one of four things beyond its edge."""
    size = len(other)
    kind = generator.choice(4, p=_BEYOND)
    if kind < 2:
        border = (cv2.BORDER_REFLECT_101, cv2.BORDER_REPLICATE)[kind]
        return np.asarray(cv2.warpAffine(part, matrix, (size, size), borderMode=border), np.uint8)
    if kind == 2:
        colour = generator.integers(0, 256, 3) if generator.random() < 0.5 else np.zeros(3)
        return np.asarray(cv2.warpAffine(part, matrix, (size, size), borderValue=tuple(map(float, colour))), np.uint8)
    beyond = np.ascontiguousarray(np.roll(other, generator.integers(0, size, 2), (0, 1)))
    if generator.random() < 0.5:
        beyond = cv2.GaussianBlur(beyond, (0, 0), float(generator.uniform(1, size / 16)))
    drawn = cv2.warpAffine(part, matrix, (size, size), dst=beyond, borderMode=cv2.BORDER_TRANSPARENT)
    return np.asarray(drawn, np.uint8)
