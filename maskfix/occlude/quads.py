"""Geometry of the six mask points: the two halves, their areas, their perspective maps and the view."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from maskfix.base import BoolArray, DoubleArray, FloatArray, InputError, check_shape

LEFT_HALF = (0, 1, 4, 3)
"""Indices of a, b, e, d: the left half of the mask, clockwise in picture coordinates."""
RIGHT_HALF = (1, 2, 5, 4)
"""Indices of b, c, f, e: the right half of the mask, clockwise in picture coordinates."""
OUTLINE = (0, 1, 2, 5, 4, 3)
"""Indices of a, b, c, f, e, d: the outline of the mask, clockwise in picture coordinates."""

SIDE_ASYMMETRY = 0.3
"""From this asymmetry on a face is drawn with a side template; see `choose_view`."""

MIN_AREA = 4.0
"""Six points that enclose fewer square pixels than this are refused."""


MAX_DEPTH_RATIO = 3.0
"""A half whose perspective map is steeper than this is warped affinely: beyond its four points it would grow a tail."""


def shoelace(polygon: FloatArray | DoubleArray) -> float:
    """Signed area of a polygon `(n, 2)`; positive where it runs clockwise in picture coordinates (y down).

    Example:
        >>> shoelace(np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0], [0.0, 1.0]]))
        2.0
    """
    x, y = polygon[:, 0].astype(np.float64), polygon[:, 1].astype(np.float64)
    return float(0.5 * np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def halves_are_sound(points: FloatArray | DoubleArray) -> BoolArray:
    """Whether the left and the right half are convex, clockwise and not thin: a perspective map needs that.

    Args:
        points: a..f, `(6, 2)`.

    Returns:
        Two booleans: left half, right half.
    """
    quads = np.asarray(points, dtype=np.float64)[np.array([LEFT_HALF, RIGHT_HALF])]
    edges = np.roll(quads, -1, axis=1) - quads
    following = np.roll(edges, -1, axis=1)
    cross = edges[..., 0] * following[..., 1] - edges[..., 1] * following[..., 0]
    lengths = np.linalg.norm(edges, axis=2) * np.linalg.norm(following, axis=2)
    # Corners of nearly 180 degrees put the horizon of the map close to the half; they count as unsound.
    return np.asarray((cross > 0.02 * np.maximum(lengths, 1e-9)).all(axis=1), dtype=np.bool_)


def in_order(points: FloatArray | DoubleArray) -> bool:
    """Whether a..f are where their letters say: each cheek on its side of the middle line, both halves clockwise.

    Args:
        points: a..f, `(6, 2)`.
    """
    array = np.asarray(points, dtype=np.float64)
    along = array[4] - array[1]
    aside = (array[[0, 3, 2, 5]] - array[1]) @ np.array([along[1], -along[0]])
    areas = [shoelace(array[list(half)]) for half in (LEFT_HALF, RIGHT_HALF)]
    return bool((aside[:2] < 0).all() and (aside[2:] > 0).all() and min(areas) > 0)


def check_points(points: FloatArray) -> DoubleArray:
    """Check six mask points on a photo.

    Returns:
        The points as `(6, 2)` float64.

    Raises:
        InputError: If the shape is wrong, a number is not finite, or the points enclose no area or a mirrored one.
    """
    given = np.asarray(points)
    check_shape("points", given, (6, 2))
    if given.dtype.kind not in "fiu":
        raise InputError(f"points: expected numbers, got dtype {given.dtype}")
    array: DoubleArray = given.astype(np.float64)
    if not np.isfinite(array).all():
        raise InputError("points: expected six finite (x, y) pairs a..f, got NaN or infinity; detect the face again")
    if np.abs(array).max() > 1e6:
        raise InputError(f"points: expected pixels of the photo, got {np.abs(array).max():.3g}; detect the face again")
    area = shoelace(array[list(OUTLINE)])
    if area < MIN_AREA:
        raise InputError(
            f"points: a..f enclose {area:.3g} square pixels, expected at least {MIN_AREA:g} "
            "(a, b, c along the top from image left to right, d, e, f along the bottom)"
        )
    return array


def asymmetry(points: DoubleArray) -> float:
    """How far the middle line b-e lies off centre between the cheeks: -1 on the left cheek, 0 centre, 1 on the right.

    Args:
        points: a..f, `(6, 2)`.

    Returns:
        Mean over the upper (a, b, c) and the lower (d, e, f) line, clipped to [-1, 1]. Each is the foot of the middle
        point on the line between the cheeks, so the measure does not change with roll, scale or shift.

    Example:
        >>> asymmetry(np.array([[0, 0], [1, 0], [4, 0], [0, 3], [1, 4], [4, 3.0]]))
        -0.5
    """
    starts, middles, ends = points[[0, 3]], points[[1, 4]], points[[2, 5]]
    across = ends - starts
    squared = np.maximum(np.sum(across**2, axis=1), 1e-9)
    place = np.sum((middles - starts) * across, axis=1) / squared
    return float(np.clip(np.mean(2.0 * place - 1.0), -1.0, 1.0))


def choose_view(points: DoubleArray) -> Literal["front", "left", "right"]:
    """Choose the template's view: front unless the head is clearly turned.

    The side templates of MaskTheFace have an asymmetry of about 0.6 to 0.7 and the front ones of about 0, so from 0.3
    on the side template is the one that needs the smaller warp. The bridge of the nose stands out by about half the
    width of the face, so this is a yaw of about 17 degrees (MaskTheFace switches at 13 degrees of its own angle).
    """
    value = asymmetry(points)
    if value <= -SIDE_ASYMMETRY:
        return "left"
    return "right" if value >= SIDE_ASYMMETRY else "front"


def half_maps(target: DoubleArray, source: DoubleArray) -> tuple[DoubleArray, DoubleArray]:
    """Maps from photo pixels to template pixels for the left and the right half.

    Each half has its own perspective map of four point pairs. A half whose four points are not convex on the photo or
    on the template, or whose map would be too steep (`MAX_DEPTH_RATIO`), takes the affine map that keeps b and e and
    fits its two cheek points best. A half that is folded away on the photo (turned heads) takes the map of the other
    one; where both are folded, both take the least-squares affine map of all six points.

    Args:
        target: a..f on the photo, `(6, 2)`.
        source: a..f on the template, `(6, 2)`.

    Returns:
        Two `(3, 3)` float64 matrices, scaled so that the third homogeneous coordinate is positive on the face.
    """
    sound = halves_are_sound(target) & halves_are_sound(source)
    left = _half_map(target, source, LEFT_HALF, bool(sound[0]))
    right = _half_map(target, source, RIGHT_HALF, bool(sound[1]))
    if left is None and right is None:
        design = np.column_stack([target, np.ones(6)])
        solution = np.linalg.lstsq(design, source, rcond=None)[0]
        whole = np.vstack([solution.T, [0.0, 0.0, 1.0]])
        return whole, whole
    if left is None:
        left = right
    if right is None:
        right = left
    return np.asarray(left), np.asarray(right)


def _half_map(
    target: DoubleArray, source: DoubleArray, half: tuple[int, int, int, int], sound: bool
) -> DoubleArray | None:
    """The map of one half from photo to template; None where the half is folded away on the photo."""
    rows = list(half)
    if sound:
        matrix = cv2.getPerspectiveTransform(target[rows].astype(np.float32), source[rows].astype(np.float32))
        matrix = matrix / (matrix[2] @ np.append(target[rows].mean(axis=0), 1.0))
        depths = np.column_stack([target[rows], np.ones(4)]) @ matrix[2]
        if depths.min() > 0.0 and depths.max() <= MAX_DEPTH_RATIO * depths.min():
            return np.asarray(matrix, dtype=np.float64)
    cheek = [half[0], half[3]] if half[0] == 0 else [half[1], half[2]]
    along = target[4] - target[1]
    normal = np.array([along[1], -along[0]]) * (-1.0 if half[0] == 0 else 1.0)
    squared = max(float(along @ along), 1e-9)
    relative = target[cheek] - target[1]
    out = relative @ normal / squared
    if out.min() < 0.05:
        return None
    # In the frame (b, e - b, normal) the map is b' + t (e' - b') + n v with one unknown vector v: two cheek points.
    rest = source[cheek] - source[1] - (relative @ along / squared)[:, None] * (source[4] - source[1])
    outward = (out @ rest) / float(out @ out)
    linear = np.outer(source[4] - source[1], along / squared) + np.outer(outward, normal / squared)
    return np.vstack([np.column_stack([linear, source[1] - linear @ target[1]]), [0.0, 0.0, 1.0]])
