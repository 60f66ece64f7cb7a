"""Prints, stripes and folds on the masks of training, so that no mask's own texture is learnt by heart."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator

from maskfix.base import FloatArray, UInt8Array

# Largest change of a pixel, on 0 to 255.
_STRENGTH = (10.0, 70.0)
_STRIPE_PERIOD = (3.0, 30.0)
_PRINT_CELLS = (4, 40)
_FOLDS = (1, 6)


def add_pattern(picture: UInt8Array, alpha: UInt8Array, generator: Generator) -> UInt8Array:
    """Draw one random pattern on the mask of a picture: stripes, a blotchy print, or folds.

    Args:
        picture: `(S, S, 3)` uint8 RGB with the mask on.
        alpha: `(S, S)` uint8, opacity of the mask times 255; nothing else changes.
        generator: Source of every draw.

    Returns:
        `(S, S, 3)` uint8.
    """
    side = picture.shape[0]
    draw = (_stripes, _print, _folds)[generator.integers(3)]
    pattern = draw(side, generator)[..., None]
    colour = generator.uniform(-1, 1, 3) if generator.random() < 0.5 else np.full(3, generator.choice([-1.0, 1.0]))
    change = generator.uniform(*_STRENGTH) * pattern * colour * (alpha[..., None] / np.float32(255))
    return np.asarray(np.clip(picture + np.rint(change), 0, 255), np.uint8)


def _stripes(side: int, generator: Generator) -> FloatArray:
    """Sines or bars of one direction, in [-1, 1]."""
    angle, phase = generator.uniform(0, np.pi), generator.uniform(0, 2 * np.pi)
    y, x = np.mgrid[:side, :side].astype(np.float32)
    wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) * (2 * np.pi / generator.uniform(*_STRIPE_PERIOD)) + phase)
    return np.asarray(np.sign(wave) if generator.random() < 0.5 else wave, np.float32)


def _print(side: int, generator: Generator) -> FloatArray:
    """Smooth or hard-edged blotches, in [-1, 1]."""
    cells = int(generator.integers(*_PRINT_CELLS))
    field = cv2.resize(generator.uniform(-1, 1, (cells, cells)).astype(np.float32), (side, side))
    return np.asarray(np.sign(field) if generator.random() < 0.5 else field, np.float32)


def _folds(side: int, generator: Generator) -> FloatArray:
    """A few bent lines across the picture, slightly blurred, in [0, 1]."""
    canvas = np.zeros((side, side), np.float32)
    for _ in range(generator.integers(*_FOLDS)):
        ends = generator.uniform(0, side, (3, 2))
        ends[0, 0], ends[2, 0] = 0, side
        cv2.polylines(canvas, [np.rint(ends).astype(np.int32)], False, 1.0, int(generator.integers(1, 4)), cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), generator.uniform(0.4, 1.2)), np.float32)
