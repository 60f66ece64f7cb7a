"""Prints and valves on the masks of training: strong colours, pieces of other pictures, discs that stand out."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from maskfix.base import FloatArray, UInt8Array

_SHAPES = (1, 13)
_OPACITY = (0.6, 1.0)
# How bright a print is where the mask is, relative to the mask's mean.
_SHADE = (0.4, 1.5)
# Size of a printed picture and of the part of the mask that it fills, relative to the crop.
_SCALE = (0.4, 1.6)
_PATCH = (0.12, 0.5)
_VALVE = (0.05, 0.15)


def add_print(picture: UInt8Array, alpha: UInt8Array, other: UInt8Array, generator: Generator) -> UInt8Array:
    """Print on the mask of a picture: shapes of strong colour, or a piece of another picture, lit as the mask is.

    Args:
        picture: `(S, S, 3)` uint8 RGB with the mask on.
        alpha: `(S, S)` uint8, opacity of the mask times 255; nothing else changes.
        other: `(S, S, 3)` uint8 RGB, a picture that may be printed.
        generator: Source of every draw.

    Returns:
        `(S, S, 3)` uint8.
    """
    below = picture.astype(np.float32)
    printed, where = _shapes(len(other), generator) if generator.random() < 0.5 else _piece(other, generator)
    share = where * (alpha / np.float32(255)) * np.float32(generator.uniform(*_OPACITY))
    return _laid_over(below, printed * _shade(below, alpha)[..., None], share)


def add_valves(
    picture: UInt8Array, alpha: UInt8Array, points: FloatArray, generator: Generator
) -> tuple[UInt8Array, UInt8Array]:
    """Put a valve on the middle of a mask, or a filter on each side of it; they may reach past its edge.

    Args:
        picture: `(S, S, 3)` uint8 RGB with the mask on.
        alpha: `(S, S)` uint8, opacity of the mask times 255.
        points: `(6, 2)` mask points a..f in pixels.
        generator: Source of every draw.

    Returns:
        The picture and the opacity, both with the discs.
    """
    size = len(picture)
    left, _, right, _, chin, _ = points
    middle, across, down = (left + right) / 2, (right - left) / 2, chin - (left + right) / 2
    aside, low = generator.uniform(0.35, 0.8), generator.uniform(0.3, 0.75)
    sides = (-1, 1) if generator.random() < 0.6 else (generator.choice([-aside, 0.0, aside]) / aside,)
    radius = generator.uniform(*_VALVE) * size
    tall = generator.uniform(0.7, 1.3)
    colour = _colour(generator) if generator.random() < 0.5 else np.full(3, generator.uniform(20, 235), np.float32)
    relief, share = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    for side in sides:
        centre = middle + side * aside * across + low * down
        angle = generator.uniform(0, 180)
        _ellipse(share, centre, (2 * radius, 2 * radius * tall), angle)
        for ring in np.linspace(1, 0.2, int(generator.integers(1, 5))):
            _ellipse(relief, centre, (2 * radius * ring, 2 * radius * tall * ring), angle, generator.uniform(-0.5, 0.5))
    # Lit from above: brighter where it rises towards the light.
    smooth = cv2.GaussianBlur(relief, (0, 0), 1.0)
    shade = np.clip(1 + smooth + 2 * (np.roll(smooth, -1, 0) - smooth), 0.2, 1.8)[..., None]
    share = np.asarray(cv2.GaussianBlur(share, (3, 3), 0), np.float32)
    worn = np.maximum(alpha, np.rint(share * 255).astype(np.uint8))
    return _laid_over(picture.astype(np.float32), colour * shade, share), worn


def _shapes(size: int, generator: Generator) -> tuple[FloatArray, FloatArray]:
    """Ellipses and polygons of strong colour; on cloth of one colour or on the mask as it is."""
    content = np.zeros((size, size, 3), np.float32)
    where = np.zeros((size, size), np.float32)
    if generator.random() < 0.5:
        content[:], where[:] = _colour(generator), 1.0
    palette = [_colour(generator) for _ in range(int(generator.integers(1, 4)))]
    reach = generator.uniform(0.03, 0.25) * size
    for _ in range(int(generator.integers(*_SHAPES))):
        corners = generator.uniform(0, size, 2) + generator.normal(0, reach, (int(generator.integers(3, 7)), 2))
        shape = np.zeros((size, size), np.float32)
        if generator.random() < 0.5:
            spread = np.maximum(np.ptp(corners, axis=0), 2)
            _ellipse(shape, corners[0], spread, generator.uniform(0, 180))
        else:
            cv2.fillPoly(shape, [np.rint(cv2.convexHull(corners.astype(np.float32))).astype(np.int32)], 1.0)
        if generator.random() < 0.3:
            shape -= cv2.erode(shape, np.ones((3, 3), np.uint8), iterations=int(generator.integers(1, 3)))
        content += shape[..., None] * (palette[generator.integers(len(palette))] - content)
        where = np.maximum(where, shape)
    return content, where


def _piece(other: UInt8Array, generator: Generator) -> tuple[FloatArray, FloatArray]:
    """A piece of another picture, its colours as they are, stronger or moved around the circle of hues."""
    size = len(other)
    middle = (size - 1) / 2
    if generator.random() < 0.3:
        # A printed face where the face itself is.
        turn, scale, move = generator.uniform(-8, 8), generator.uniform(0.8, 1.2), generator.normal(0, 0.05 * size, 2)
    else:
        turn = generator.uniform(-180, 180)
        scale, move = generator.uniform(*_SCALE), generator.uniform(-0.4, 0.4, 2) * size
    matrix = np.asarray(cv2.getRotationMatrix2D((middle, middle), turn, scale), np.float64)
    matrix[:, 2] += move
    drawn = cv2.warpAffine(other, matrix, (size, size), borderMode=cv2.BORDER_REFLECT_101)
    hls = cv2.cvtColor(drawn, cv2.COLOR_RGB2HLS).astype(np.float32)
    if generator.random() < 0.6:
        hls[..., 0] = (hls[..., 0] + generator.uniform(0, 180)) % 180
        hls[..., 2] = np.clip(hls[..., 2] * generator.uniform(1, 3), 0, 255)
    content = cv2.cvtColor(np.floor(hls).astype(np.uint8), cv2.COLOR_HLS2RGB).astype(np.float32)
    if generator.random() < 0.5:
        return content, np.ones((size, size), np.float32)
    where = np.zeros((size, size), np.float32)
    centre = (generator.uniform(0.3, 0.7) * size, generator.uniform(0.5, 0.85) * size)
    _ellipse(where, centre, 2 * generator.uniform(*_PATCH, 2) * size, generator.uniform(0, 180))
    return content, where


def _ellipse(canvas: FloatArray, centre: ArrayLike, sides: ArrayLike, angle: float, value: float = 1.0) -> None:
    """Fill an ellipse: `centre` and the `sides` of its box in pixels, `angle` in degrees."""
    (x, y), (width, height) = np.asarray(centre, float), np.asarray(sides, float)
    cv2.ellipse(canvas, ((x, y), (width, height), angle), value, cv2.FILLED, cv2.LINE_AA)


def _colour(generator: Generator) -> FloatArray:
    """A colour of any hue, mostly a strong one, `(3,)` in [0, 255]."""
    hue, lightness = generator.uniform(0, 180), generator.uniform(30, 220)
    saturation = generator.uniform(130, 255) if generator.random() < 0.8 else generator.uniform(0, 80)
    hls = np.array([[[hue, lightness, saturation]]]).astype(np.uint8)
    return np.asarray(cv2.cvtColor(hls, cv2.COLOR_HLS2RGB)[0, 0], np.float32)


def _shade(below: FloatArray, alpha: UInt8Array) -> FloatArray:
    """Brightness of the mask relative to its mean, `(S, S)`: folds and light stay under a print."""
    grey = np.asarray(cv2.cvtColor(below, cv2.COLOR_RGB2GRAY), np.float32)
    weights = alpha.astype(np.float32)
    mean = (grey * weights).sum() / max(float(weights.sum()), 1.0)
    return np.asarray(np.clip(grey / max(float(mean), 1.0), *_SHADE), np.float32)


def _laid_over(below: FloatArray, content: FloatArray, share: FloatArray) -> UInt8Array:
    return np.asarray(np.clip(np.rint(below + share[..., None] * (content - below)), 0, 255), np.uint8)
