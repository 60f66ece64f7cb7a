"""Faces and templates made up for the tests of this room."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from maskfix.base import FloatArray, UInt8Array
from maskfix.occlude import Template, View

SHARED_TEMPLATES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "masktheface"
NO_SHARED = f"no MaskTheFace templates at {SHARED_TEMPLATES}"

FRONT = np.array([[30, 60], [64, 42], [98, 60], [36, 82], [64, 104], [92, 82]], dtype=np.float32)
"""a..f of an upright frontal face in a 128x128 crop."""


class OneTemplate:
    """A source that always gives the same picture and points."""

    name = "one"
    templates = ("N95", "scarf")

    def __init__(self, image: UInt8Array, points: FloatArray) -> None:
        self._template = Template(image, points)

    def get(self, template: str, view: View) -> Template:
        return self._template


def coordinates_template() -> OneTemplate:
    """Opaque; red is x, green is y, so a rendered colour says which template pixel it shows."""
    y, x = np.mgrid[0:120, 0:160]
    image = np.dstack([x, y, np.zeros_like(x), np.full_like(x, 255)]).astype(np.uint8)
    points = np.array([[20, 30], [80, 10], [140, 30], [30, 75], [80, 110], [130, 75]], dtype=np.float32)
    return OneTemplate(image, points)


def soft_template(rgb: tuple[int, int, int]) -> OneTemplate:
    """One colour with a wide soft edge around an ellipse."""
    y, x = np.mgrid[0:200, 0:240].astype(np.float32)
    radius = np.hypot((x - 120) / 110, (y - 100) / 90)
    image = np.zeros((200, 240, 4), dtype=np.uint8)
    image[..., :3] = rgb
    image[..., 3] = np.clip(255 * (1.0 - radius) / 0.15, 0, 255)
    points = np.array([[20, 70], [120, 15], [220, 70], [40, 140], [120, 185], [200, 140]], dtype=np.float32)
    return OneTemplate(image, points)


def grey(value: int, size: int = 128) -> UInt8Array:
    """A picture of one grey."""
    return np.full((size, size, 3), value, dtype=np.uint8)


@st.composite
def face_points(draw: st.DrawFn) -> FloatArray:
    """Six points of a face at any place, size, roll and moderate turn, with some noise; partly outside at times."""
    scale = draw(st.floats(0.4, 1.6))
    roll = np.deg2rad(draw(st.floats(-40, 40)))
    turn = draw(st.floats(-0.6, 0.6))
    shift = np.array([draw(st.floats(-70, 70)), draw(st.floats(-70, 70))])
    noise = np.array(draw(st.lists(st.floats(-1.5, 1.5), min_size=12, max_size=12))).reshape(6, 2)
    points = FRONT.astype(np.float64) - 64.0 + noise
    points[[1, 4], 0] += turn * 30.0
    rotation = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    return np.asarray(scale * points @ rotation.T + 64.0 + shift, dtype=np.float32)
