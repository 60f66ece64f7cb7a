"""Tools for drawing mask templates: outlines, relief lit from above, stitches, ear loops, the turned view.

All coordinates are those of a frontal face: x from -1 (left cheek, point a) to 1 (right cheek, point c), y downwards
with 0 at the height of a and c; the chin (e) lies at 1.09. The proportions are averages of frontal faces.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from maskfix.base import FloatArray, UInt8Array

FACE_POINTS = ((-1.0, 0.0), (0.0, -0.5), (1.0, 0.0), (-0.82, 0.56), (0.0, 1.09), (0.82, 0.56))
"""a..f of a frontal face: means over frontal faces of the six points measured on the MediaPipe face mesh."""

OVERSAMPLING = 2
"""Drawn at twice the size and averaged down, so that edges are soft."""

UNIT = 120 * OVERSAMPLING
"""Pixels per unit while drawing."""

WIDTH, HEIGHT = 320 * OVERSAMPLING, 272 * OVERSAMPLING
ORIGIN = (160.0 * OVERSAMPLING, 92.0 * OVERSAMPLING)
"""Pixel of x = 0, y = 0 while drawing."""

YAW = float(np.deg2rad(33.0))
"""Turn of the side views."""

_LIGHT = np.array([-0.12, -0.52, 0.85], dtype=np.float32)


class Layer(NamedTuple):
    """A picture while it is drawn: colour 0 to 255 `(h, w, 3)` and opacity 0 to 1 `(h, w)`, both float32."""

    colour: FloatArray
    alpha: FloatArray


def grid() -> tuple[FloatArray, FloatArray]:
    """The x and the y of every pixel of the canvas, two `(HEIGHT, WIDTH)` float32."""
    x = (np.arange(WIDTH, dtype=np.float32) - ORIGIN[0]) / UNIT
    y = (np.arange(HEIGHT, dtype=np.float32) - ORIGIN[1]) / UNIT
    columns, rows = np.meshgrid(x, y)
    return columns.astype(np.float32), rows.astype(np.float32)


def to_pixels(points: Sequence[tuple[float, float]] | FloatArray) -> FloatArray:
    """Face coordinates `(n, 2)` to canvas pixels."""
    return np.asarray(np.asarray(points, dtype=np.float32) * UNIT + np.asarray(ORIGIN), dtype=np.float32)


def smooth_curve(points: Sequence[tuple[float, float]] | FloatArray, steps: int = 16) -> FloatArray:
    """Catmull-Rom curve through the points, `(n, 2)` float32."""
    knots = np.asarray(points, dtype=np.float32)
    padded = np.vstack([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    t = np.linspace(0.0, 1.0, steps, endpoint=False, dtype=np.float32)[None, :, None]
    p0, p1, p2, p3 = (padded[i : len(padded) - 3 + i, None, :] for i in range(4))
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    return np.vstack([curve.reshape(-1, 2), knots[-1:]]).astype(np.float32)


def _softened(area: UInt8Array, sigma: float) -> FloatArray:
    """A drawing of 0 to 255 as opacity with soft edges."""
    return np.asarray(cv2.GaussianBlur(area, (0, 0), sigma) / 255.0, dtype=np.float32)


def symmetric_area(half: Sequence[tuple[float, float]]) -> FloatArray:
    """Opacity of the area inside an outline, given its right half from the top centre to the bottom centre."""
    right = smooth_curve(half)
    outline = to_pixels(np.vstack([right, right[::-1] * np.array([-1.0, 1.0], dtype=np.float32)]))
    area = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    cv2.fillPoly(area, [np.rint(outline * 16).astype(np.int32)], 255, lineType=cv2.LINE_AA, shift=4)
    return _softened(area, 0.8)


def edge_distance(alpha: FloatArray) -> FloatArray:
    """Distance to the edge in face units, 0 outside."""
    inside = (alpha >= 0.5).astype(np.uint8)
    return np.asarray(cv2.distanceTransform(inside, cv2.DIST_L2, 5) / UNIT, dtype=np.float32)


def smoothstep(values: FloatArray, low: float, high: float) -> FloatArray:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((values - low) / (high - low), 0.0, 1.0)
    return np.asarray(t * t * (3.0 - 2.0 * t), dtype=np.float32)


def bump(values: FloatArray, width: float) -> FloatArray:
    """A smooth ridge of height 1 where `values` is 0."""
    return np.asarray(np.exp(-((values / width) ** 2)), dtype=np.float32)


def face_bulge(x: FloatArray, y: FloatArray, depth: float) -> FloatArray:
    """Height of a mask's surface over the plane: a barrel that is highest at the nose and mouth."""
    across = np.sqrt(np.clip(1.35**2 - x**2, 0.05, None))
    down = np.sqrt(np.clip(1.5**2 - (y - 0.25) ** 2, 0.05, None))
    return np.asarray(depth * (across + 0.7 * down), dtype=np.float32)


def light(height: FloatArray, ambient: float) -> FloatArray:
    """Brightness of a relief lit from above: 1 where it faces the light, `ambient` where it faces away."""
    slope_y, slope_x = np.gradient(height * UNIT)
    direction = _LIGHT / np.linalg.norm(_LIGHT)
    length = np.sqrt(slope_x**2 + slope_y**2 + 1.0)
    facing = (-slope_x * direction[0] - slope_y * direction[1] + direction[2]) / length
    return np.asarray(ambient + (1.0 - ambient) * np.clip(facing, 0.0, 1.0), dtype=np.float32)


def texture(seed: int, coarse: float, fine: float) -> FloatArray:
    """Unevenness of cloth: soft clouds of strength `coarse` and grain of strength `fine`, mean 0."""
    generator = np.random.default_rng(seed)
    grain = generator.standard_normal((HEIGHT, WIDTH), dtype=np.float32)
    small = generator.standard_normal((HEIGHT // 16, WIDTH // 16), dtype=np.float32)
    clouds = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return np.asarray(coarse * clouds + fine * cv2.GaussianBlur(grain, (0, 0), 1.1) * 3.0, dtype=np.float32)


def stroke(curve: FloatArray, width: float) -> FloatArray:
    """Opacity of a line along a curve; `width` in face units."""
    area = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    thickness = max(1, round(width * UNIT))
    pixels = np.rint(to_pixels(curve) * 16).astype(np.int32)
    cv2.polylines(area, [pixels], False, 255, thickness, lineType=cv2.LINE_AA, shift=4)
    return _softened(area, 0.8)


def dashes(curve: FloatArray, width: float, pitch: float) -> FloatArray:
    """Opacity of a stitched line: dashes of half the `pitch` along a curve, all in face units."""
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(curve, axis=0), axis=1))])
    places = np.arange(0.0, lengths[-1], pitch)
    ends = [
        np.stack([np.interp(at, lengths, curve[:, i]) for i in (0, 1)], axis=1) for at in (places, places + pitch / 2)
    ]
    area = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    segments = np.stack([to_pixels(end.astype(np.float32)) for end in ends], axis=1)
    cv2.polylines(
        area, list(np.rint(segments * 16).astype(np.int32)), False, 255, max(1, round(width * UNIT)), cv2.LINE_AA, 4
    )
    return _softened(area, 0.7)


def cord(curve: FloatArray, width: float, rgb: tuple[float, float, float]) -> Layer:
    """An ear loop or strap: a round cord, lighter along its middle."""
    alpha = stroke(curve, width)
    middle = cv2.GaussianBlur(stroke(curve, width * 0.4), (0, 0), 1.5)
    colour = np.asarray(rgb, dtype=np.float32) * (0.8 + 0.25 * middle[..., None])
    return Layer(colour.astype(np.float32), alpha)


def over(top: Layer, bottom: Layer) -> Layer:
    """Lay one layer over another (Porter and Duff's over; colours not premultiplied)."""
    share = bottom.alpha * (1.0 - top.alpha)
    alpha = top.alpha + share
    mixed = top.colour * top.alpha[..., None] + bottom.colour * share[..., None]
    colour = mixed / np.maximum(alpha, 1e-4)[..., None]
    return Layer(colour.astype(np.float32), alpha.astype(np.float32))


class _Turn(NamedTuple):
    """A row of the head after the turn: x = width * sin(phi) goes to amplitude * sin(phi + phase)."""

    width: FloatArray
    amplitude: FloatArray
    phase: FloatArray


def _turn_terms(y: FloatArray) -> _Turn:
    """The head as a stack of half ellipses: narrower from the cheeks to the chin, deepest at the tip of the nose.

    Width and depth are chosen so that the six points of a head turned by `YAW` lie where they lie on photographs of
    heads turned about as far (means over faces whose `asymmetry` is beyond 0.3).
    """
    width = 1.03 - 0.40 * np.clip(y, 0.0, None) ** 1.3
    depth = 1.03 - 0.25 * (y - 0.05) ** 2
    along, across = width * np.cos(YAW), depth * np.sin(YAW)
    return _Turn(
        width.astype(np.float32),
        np.hypot(along, across).astype(np.float32),
        np.arctan2(across, along).astype(np.float32),
    )


def turned_points(points: FloatArray) -> FloatArray:
    """Where points of the frontal face lie after a turn to the image's right by `YAW`, `(n, 2)`."""
    x, y = points[:, 0], points[:, 1]
    row = _turn_terms(y)
    inside = np.clip(x, -row.width, row.width)
    # Beyond the cheek the head goes on straight back; ear loops lie there.
    moved = row.amplitude * np.sin(np.arcsin(inside / row.width) + row.phase) + (x - inside) * 0.9
    return np.asarray(np.stack([moved, y], axis=1), dtype=np.float32)


def turn(layer: Layer) -> Layer:
    """Turn a drawn mask to the image's right by `YAW`, as if it lay on a rounded head; the far edge is hidden."""
    x, y = grid()
    row = _turn_terms(y)
    angle = np.arcsin(np.clip(x / row.amplitude, -1.0, 1.0))
    source_x = (row.width * np.sin(angle - row.phase) * UNIT + ORIGIN[0]).astype(np.float32)
    source_y = (y * UNIT + ORIGIN[1]).astype(np.float32)
    rgba = np.dstack([layer.colour * layer.alpha[..., None], layer.alpha])
    warped = cv2.remap(rgba, source_x, source_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    seen = np.clip((row.amplitude - np.abs(x)) * UNIT + 0.5, 0.0, 1.0) * (angle - row.phase > -np.pi / 2)
    shade = 0.72 + 0.28 * np.sqrt(np.clip(np.cos(angle), 0.0, 1.0))
    colour = warped[..., :3] / np.maximum(warped[..., 3:], 1e-4) * shade[..., None]
    # The near edge is stretched by the turn; its opacity is steepened again.
    alpha = smoothstep(warped[..., 3], 0.25, 0.75) * seen
    return Layer(colour.astype(np.float32), alpha.astype(np.float32))
