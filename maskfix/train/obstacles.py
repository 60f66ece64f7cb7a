"""What hides a face besides a mask in its place: slipped masks, the photograph's edge, things before the face."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from maskfix.base import UInt8Array
from maskfix.train.views import Face


def slip_mask(face: Face, generator: Generator) -> Face:
    """The face with its mask points slipped towards the chin, in half of the cases.

    Args:
        face: A face without a mask.
        generator: Where the draws come from.
    """
    points = face.points.copy()
    if generator.random() < 0.5:
        points[:3] += generator.uniform(0, 0.75) * (points[3:] - points[:3])
    return face._replace(points=points)


def cut_off(crop: UInt8Array, generator: Generator) -> UInt8Array:
    """A face whose photograph ends within the crop: black or the last row beyond.

    Args:
        crop: `(S, S, 3)` uint8.
        generator: Where the draws come from.

    Returns:
        `(S, S, 3)` uint8.
    """
    depth, turns = int(generator.uniform(0.03, 0.3) * len(crop)), int(generator.integers(4))
    turned = np.rot90(crop, turns).copy()
    turned[:depth] = 0 if generator.random() < 0.5 else turned[depth]
    return np.ascontiguousarray(np.rot90(turned, -turns))


def put_behind(crop: UInt8Array, other: UInt8Array, generator: Generator) -> UInt8Array:
    """A face behind one to four ellipses: of one colour, of the face's own colour, or cut out of another picture.

    Args:
        crop: `(S, S, 3)` uint8, the face.
        other: `(S, S, 3)` uint8, another picture.
        generator: Where the draws come from.

    Returns:
        `(S, S, 3)` uint8.
    """
    size = len(crop)
    weight = np.zeros((size, size), np.float32)
    centre = generator.uniform(0, size, 2)
    for _ in range(int(generator.integers(1, 5))):
        near = centre + generator.normal(0, 0.12 * size, 2)
        axes = generator.uniform(0.03, 0.28, 2) * size
        box = (tuple(map(float, near)), tuple(map(float, 2 * axes)), float(generator.uniform(0, 180)))
        cv2.ellipse(weight, box, 1.0, cv2.FILLED)
    weight = cv2.GaussianBlur(weight, (5, 5), 0)[..., None]
    content: NDArray[Any] = np.roll(other, generator.integers(0, size, 2), (0, 1)).astype(np.float32)
    kind = generator.random()
    if kind < 0.7:
        middle = slice(size // 3, 2 * size // 3)
        own = crop[middle, middle].mean((0, 1)) * generator.uniform(0.7, 1.2)
        colour = own if kind < 0.35 else generator.uniform(0, 255, 3)
        # Shaded, since nothing in a photograph has one colour.
        content = colour + 0.15 * (content - content.mean())
    return np.asarray(np.rint(crop + weight * (content.clip(0, 255) - crop)), np.uint8)
