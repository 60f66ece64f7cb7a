"""This project's own mask templates, drawn by code: surgical, N95, KN95 and cloth masks, front and turned."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from maskfix.base import DatasetError, FloatArray, UInt8Array
from maskfix.occlude import drawing as d
from maskfix.occlude.sources import Template, View, mirrored

_Colour = tuple[float, float, float]

MEAN_COLOURS: dict[str, _Colour] = {
    "surgical": (185.0, 185.0, 185.0),
    "surgical_blue": (116.0, 190.0, 225.0),
    "surgical_green": (116.0, 169.0, 171.0),
    "N95": (186.0, 183.0, 173.0),
    "KN95": (234.0, 234.0, 234.0),
    "cloth": (38.0, 36.0, 35.0),
}
"""Mean RGB of each front template's body: those of the test masks (../shared/reference/ecosystem.md, section 5)."""


class _Loops(NamedTuple):
    """Ear loops or straps of the right side, as knots in face coordinates; the left side mirrors them."""

    knots: tuple[tuple[tuple[float, float], ...], ...]
    width: float
    rgb: _Colour


class _Recipe(NamedTuple):
    """How one template is drawn.

    Attributes:
        body: Gives opacity and relative brightness, both `(HEIGHT, WIDTH)`.
        loops: What holds the mask.
    """

    body: Callable[[], tuple[FloatArray, FloatArray]]
    loops: _Loops


class DrawnTemplates:
    """Templates drawn by code; each is drawn at first use and kept."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, View], Template] = {}

    @property
    def name(self) -> str:
        """`drawn`."""
        return "drawn"

    @property
    def templates(self) -> tuple[str, ...]:
        """`maskfix.occlude.TEMPLATES`."""
        return tuple(_RECIPES)

    def get(self, template: str, view: View) -> Template:
        """Give one template.

        Raises:
            DatasetError: If there is no such template.
        """
        if template not in _RECIPES:
            raise DatasetError(f"drawn templates: no template {template!r}; there are: {', '.join(_RECIPES)}")
        key = (template, view)
        if key not in self._kept:
            self._kept[key] = _draw(template, view)
        return self._kept[key]


def _draw(template: str, view: View) -> Template:
    """Draw one view of one template."""
    recipe = _RECIPES[template]
    alpha, shade = recipe.body()
    solid = alpha > 0.5
    colour = np.asarray(MEAN_COLOURS[template], dtype=np.float32) * (shade / shade[solid].mean())[..., None]
    layer = d.Layer(colour.astype(np.float32), alpha)
    points = np.asarray(d.FACE_POINTS, dtype=np.float32)
    if view == "left":
        # Turned to the right as a mirror image and mirrored back at the end: so that print stays legible.
        layer = d.Layer(layer.colour[:, ::-1], layer.alpha[:, ::-1])
    if view != "front":
        layer, points = d.turn(layer), d.turned_points(points)
    for knots in recipe.loops.knots:
        left = np.asarray(knots, dtype=np.float32) * np.array([-1.0, 1.0], dtype=np.float32)
        # On a turned head the far ear is hidden.
        sides = [left, np.asarray(knots, dtype=np.float32)] if view == "front" else [d.turned_points(left)]
        for side in sides:
            layer = d.over(layer, d.cord(d.smooth_curve(side), recipe.loops.width, recipe.loops.rgb))
    rgba = np.dstack([np.clip(layer.colour, 0.0, 255.0), 255.0 * np.clip(layer.alpha, 0.0, 1.0)])
    drawn = Template(_halve(rgba), ((d.to_pixels(points) + 0.5) / d.OVERSAMPLING - 0.5).astype(np.float32))
    return mirrored(drawn) if view == "left" else drawn


def _halve(rgba: FloatArray) -> UInt8Array:
    """Average down to the final size, weighting colours by their opacity."""
    rgba = rgba.copy()
    rgba[..., :3] *= rgba[..., 3:] / 255.0
    small = cv2.resize(rgba, (d.WIDTH // d.OVERSAMPLING, d.HEIGHT // d.OVERSAMPLING), interpolation=cv2.INTER_AREA)
    small[..., :3] /= np.maximum(small[..., 3:] / 255.0, 1e-3)
    return np.asarray(np.clip(np.rint(small), 0, 255), dtype=np.uint8)


def _finish(alpha: FloatArray, shade: FloatArray, rim: float) -> tuple[FloatArray, FloatArray]:
    """Darken the rim a little, where the mask curves towards the skin."""
    distance = d.edge_distance(alpha)
    return alpha, (shade * (1.0 - rim * (1.0 - d.smoothstep(distance, 0.0, 0.07)))).astype(np.float32)


def _surgical() -> tuple[FloatArray, FloatArray]:
    """Three pleats that open towards the middle, a nose wire under the upper hem, welded sides, stitched hems."""
    x, y = d.grid()
    alpha = d.symmetric_area(
        [
            (0.0, -0.49),
            (0.12, -0.465),
            (0.4, -0.27),
            (0.86, -0.03),
            (0.88, 0.0),
            (0.86, 0.27),
            (0.815, 0.53),
            (0.79, 0.57),
            (0.55, 0.92),
            (0.3, 1.1),
            (0.0, 1.16),
        ]
    )
    centre = np.clip(1.0 - (x / 0.88) ** 2, 0.0, 1.0)
    height = d.face_bulge(x, y, 0.8)
    # The nose pushes a ridge into the upper half that fades out over the mouth.
    height += 0.16 * d.bump(x, 0.2) * (1.0 - d.smoothstep(y, -0.3, 0.45))
    creases = np.zeros_like(x)
    for middle, side, depth in ((0.0, 0.13, 0.03), (0.3, 0.27, 0.04), (0.64, 0.42, 0.04)):
        line = y - (side + (middle - side) * centre)
        # A pleat: the cloth steps back below the fold, and the fold throws a shadow that widens towards the middle.
        height += depth * (0.25 + 0.75 * centre) * (1.0 - d.smoothstep(line, -0.05, 0.05))
        shadow = d.smoothstep(line, -0.012, 0.008) * np.exp(-np.clip(line, 0.0, None) / (0.015 + 0.07 * centre))
        creases += 0.17 * shadow * (0.3 + 0.7 * centre)
    top = d.smooth_curve(
        [(-0.86, -0.03), (-0.4, -0.27), (-0.12, -0.455), (0.0, -0.49), (0.12, -0.455), (0.4, -0.27), (0.86, -0.03)]
    )
    wire = d.stroke(top + np.array([0.0, 0.1], dtype=np.float32), 0.05)
    height += 0.012 * cv2.GaussianBlur(wire, (0, 0), 2.5)
    shade = d.light(height, 0.35) * (1.0 - creases)
    for offset in (0.045, 0.155):
        shade *= 1.0 - 0.12 * d.dashes(top + np.array([0.0, offset], dtype=np.float32), 0.01, 0.03)
    weld = d.smooth_curve([(0.83, 0.03), (0.815, 0.27), (0.765, 0.53)])
    for mirror in (-1.0, 1.0):
        shade *= 1.0 - 0.13 * d.dashes(weld * np.array([mirror, 1.0], dtype=np.float32), 0.03, 0.045)
    shade *= 1.0 + d.texture(11, 0.012, 0.008)
    return _finish(alpha, shade, 0.14)


def _n95() -> tuple[FloatArray, FloatArray]:
    """A moulded cup with a nose clip, a pressed rim and a little print."""
    x, y = d.grid()
    alpha = d.symmetric_area(
        [
            (0.0, -0.5),
            (0.16, -0.44),
            (0.34, -0.25),
            (0.62, 0.0),
            (0.78, 0.3),
            (0.76, 0.62),
            (0.58, 0.95),
            (0.3, 1.12),
            (0.0, 1.17),
        ]
    )
    distance = d.edge_distance(alpha)
    dome = np.sqrt(np.clip(1.0 - (1.0 - np.clip(distance / 0.75, 0.0, 1.0)) ** 2, 0.0, 1.0))
    height = 0.5 * cv2.GaussianBlur(dome.astype(np.float32), (0, 0), 12.0) + d.face_bulge(x, y, 0.35)
    height += 0.09 * d.bump(x, 0.17) * (1.0 - d.smoothstep(y, -0.25, 0.2))
    rim = d.bump(distance - 0.05, 0.02)
    height -= 0.012 * rim
    # Two pressed ribs across the cup.
    for level in (0.1, 0.58):
        height += 0.012 * d.bump(y - level - 0.12 * x**2, 0.025) * d.smoothstep(distance, 0.08, 0.16)
    shade = d.light(height, 0.42) * (1.0 - 0.1 * rim)
    clip = d.stroke(d.smooth_curve([(-0.26, -0.2), (-0.1, -0.34), (0.0, -0.375), (0.1, -0.34), (0.26, -0.2)]), 0.055)
    shade *= 1.0 - 0.22 * clip
    shade *= 1.0 - _print((("NIOSH", 0.42, 0.62), ("N95", 0.62, 0.78), ("TC-84A", 0.3, 0.9))) * 0.7
    shade *= 1.0 + d.texture(12, 0.012, 0.012)
    return _finish(alpha, shade, 0.18)


def _kn95() -> tuple[FloatArray, FloatArray]:
    """Two panels folded along a sharp middle ridge, welded dotted seams, embossed letters."""
    x, y = d.grid()
    alpha = d.symmetric_area(
        [
            (0.0, -0.5),
            (0.14, -0.46),
            (0.45, -0.3),
            (0.86, -0.06),
            (0.95, 0.08),
            (0.93, 0.32),
            (0.8, 0.56),
            (0.5, 0.88),
            (0.2, 1.1),
            (0.0, 1.17),
        ]
    )
    distance = d.edge_distance(alpha)
    # The fold: both panels fall away from the middle line like a roof whose ridge is a little rounded.
    roof = -np.sqrt(x**2 + 0.0025)
    height = 0.3 * roof * (0.55 + 0.45 * d.smoothstep(y, -0.4, 0.4)) + d.face_bulge(x, y, 0.4)
    flap = y - (0.02 + 0.12 * np.abs(x))
    height += 0.012 * (1.0 - d.smoothstep(flap, -0.01, 0.015))
    shade = d.light(height, 0.62)
    shade *= 1.0 - 0.07 * d.smoothstep(flap, -0.006, 0.006) * np.exp(-np.clip(flap, 0.0, None) / 0.035)
    shade *= 1.0 - 0.06 * d.bump(x, 0.012) * (y > -0.4)
    weld = d.bump(distance - 0.06, 0.016) * (0.55 + 0.45 * np.sin(150.0 * (x + y)) * np.sign(x))
    shade *= 1.0 - 0.08 * np.clip(weld, 0.0, 1.0)
    for mirror in (-1.0, 1.0):
        seam = d.smooth_curve([(mirror * 0.07, 0.42), (mirror * 0.4, 0.33), (mirror * 0.75, 0.22)])
        shade *= 1.0 - 0.18 * d.dashes(seam, 0.014, 0.035)
    shade *= 1.0 - 0.4 * _print((("KN95", 0.46, 0.56), ("GB2626", 0.44, 0.68)))
    shade *= 1.0 + d.texture(13, 0.006, 0.006)
    return _finish(alpha, shade, 0.1)


def _cloth() -> tuple[FloatArray, FloatArray]:
    """Two woven panels sewn along the middle, with broad hems and soft wrinkles at the corners."""
    x, y = d.grid()
    alpha = d.symmetric_area(
        [
            (0.0, -0.5),
            (0.12, -0.47),
            (0.42, -0.29),
            (0.7, -0.12),
            (0.96, -0.02),
            (0.96, 0.05),
            (0.9, 0.34),
            (0.8, 0.58),
            (0.52, 0.9),
            (0.25, 1.1),
            (0.0, 1.17),
        ]
    )
    distance = d.edge_distance(alpha)
    height = d.face_bulge(x, y, 0.95) + 0.1 * d.bump(x, 0.1)
    wrinkle = np.sin(26.0 * (y - 0.35 * np.abs(x)) + 2.0 * x) * d.smoothstep(np.abs(x), 0.45, 0.95)
    height += 0.006 * wrinkle - 0.008 * d.bump(distance - 0.085, 0.012)
    shade = d.light(height, 0.12)
    shade *= 1.0 - 0.3 * d.bump(x, 0.01) + 0.12 * d.bump(np.abs(x) - 0.028, 0.012)
    shade *= 1.0 - 0.22 * d.bump(distance - 0.085, 0.01)
    weave = 0.035 * np.sin(x * UNIT_WEAVE) * np.sin(y * UNIT_WEAVE)
    shade *= 1.0 + weave + d.texture(14, 0.03, 0.025)
    return _finish(alpha, shade, 0.12)


UNIT_WEAVE = 2.0 * np.pi * 45.0
"""Threads of the cloth mask: 45 to the unit."""


def _print(lines: tuple[tuple[str, float, float], ...]) -> FloatArray:
    """Opacity of printed text: (text, size, y of its middle); drawn slightly faded."""
    area = np.zeros((d.HEIGHT, d.WIDTH), dtype=np.uint8)
    for text, size, y in lines:
        scale = size * d.OVERSAMPLING
        (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, d.OVERSAMPLING)
        left = round(d.ORIGIN[0] - width / 2 + 0.22 * d.UNIT)
        base = round(y * d.UNIT + d.ORIGIN[1] + height / 2)
        cv2.putText(area, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, d.OVERSAMPLING, cv2.LINE_AA)
    return np.asarray(cv2.GaussianBlur(area, (0, 0), 1.0).astype(np.float32) / 255.0 * 0.7, dtype=np.float32)


_WHITE_LOOPS = _Loops(
    (
        ((0.84, 0.02), (0.98, -0.04), (1.12, -0.12), (1.2, -0.1)),
        ((0.79, 0.54), (0.95, 0.38), (1.1, 0.22), (1.2, 0.14)),
    ),
    0.035,
    (236.0, 236.0, 236.0),
)
_DARK_LOOPS = _Loops(
    (
        ((0.94, 0.0), (1.02, -0.05), (1.12, -0.1), (1.2, -0.1)),
        ((0.79, 0.54), (0.95, 0.38), (1.1, 0.22), (1.2, 0.14)),
    ),
    0.04,
    (44.0, 42.0, 41.0),
)
_YELLOW_STRAPS = _Loops(
    (
        ((0.66, 0.16), (0.82, 0.06), (1.0, -0.1), (1.2, -0.26)),
        ((0.72, 0.66), (0.85, 0.6), (1.0, 0.52), (1.2, 0.42)),
    ),
    0.05,
    (222.0, 196.0, 74.0),
)

_RECIPES: dict[str, _Recipe] = {
    "surgical": _Recipe(_surgical, _WHITE_LOOPS),
    "surgical_blue": _Recipe(_surgical, _WHITE_LOOPS),
    "surgical_green": _Recipe(_surgical, _WHITE_LOOPS),
    "N95": _Recipe(_n95, _YELLOW_STRAPS),
    "KN95": _Recipe(_kn95, _WHITE_LOOPS),
    "cloth": _Recipe(_cloth, _DARK_LOOPS),
}
