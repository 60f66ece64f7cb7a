"""Points and pictures made up for the tests of this room."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import strategies as st

from maskfix.base import DoubleArray, UInt8Array, arcface_layout

Place = tuple[int, int, int]
"""Side of a square in pixels, and its middle x, y."""


def similarity(scale: float, degrees: float, shift: tuple[float, float]) -> DoubleArray:
    """Scale, then rotation, then shift as a `(2, 3)` matrix."""
    turn = np.deg2rad(degrees)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.column_stack([scale * rotation, shift])


@st.composite
def similarities(draw: st.DrawFn, low: float = 0.3, high: float = 3.0, reach: float = 60.0) -> DoubleArray:
    """Any rotation, scale from low to high, shift up to reach pixels."""
    shift = (draw(st.floats(-reach, reach)), draw(st.floats(-reach, reach)))
    return similarity(draw(st.floats(low, high)), draw(st.floats(-180, 180)), shift)


@st.composite
def five_points(draw: st.DrawFn) -> DoubleArray:
    """A face's five points at any place and turn, each a few pixels off the average face."""
    matrix = draw(similarities(0.3, 3.0, 100.0))
    noise = np.array(draw(st.lists(st.floats(-6, 6), min_size=10, max_size=10))).reshape(5, 2)
    return np.asarray((arcface_layout(112).array + noise) @ matrix[:, :2].T + matrix[:, 2])


def smooth(height: int, width: int) -> UInt8Array:
    """A picture of slow waves: neighbours differ by 5 at most, no two regions are alike."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 31 + 0.3) * np.cos(y / 43), np.cos(x / 37 - y / 59), np.sin((x + 2 * y) / 61)]
    return (128 + 110 * np.dstack(waves)).round().astype(np.uint8)


def noise(height: int, width: int, seed: int = 0) -> UInt8Array:
    """A picture without two equal neighbours."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def crowd(photo: UInt8Array, *places: Place, height: int = 480, width: int = 640) -> UInt8Array:
    """The astronaut's head, at several sizes and places on a grey ground."""
    head = photo[30:230, 125:325]
    scene = np.full((height, width, 3), 90, np.uint8)
    for side, x, y in places:
        left, top = x - side // 2, y - side // 2
        scene[top : top + side, left : left + side] = cv2.resize(head, (side, side), interpolation=cv2.INTER_AREA)
    return scene
