"""Dense-correspondence targets: the (u, v) of every face pixel, a mesh rasterised over its cylindrical unwrapping."""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.base import DoubleArray, FloatArray, InputError, UInt8Array, check_shape


class CanonicalFace(NamedTuple):
    """An average face in a neutral pose.

    Attributes:
        vertices: `(468, 3)` float64; x to the right, y down, z away from the viewer; unit: one eye distance.
        triangles: `(T, 3)` int64 vertex indices.
    """

    vertices: DoubleArray
    triangles: NDArray[np.int64]


@functools.cache
def canonical_face() -> CanonicalFace:
    """The average face that ships with the library: mean of frontal UTKFace meshes, made symmetric.

    Example:
        >>> canonical_face().vertices.shape
        (468, 3)
    """
    with resources.files("maskfix.data").joinpath("canonical_face.npz").open("rb") as stream, np.load(stream) as stored:
        return CanonicalFace(stored["vertices"].astype(np.float64), stored["triangles"].astype(np.int64))


def mean_face(meshes: NDArray[Any]) -> DoubleArray:
    """Average of the frontal half of many meshes, centred, scaled to one eye distance and made symmetric.

    Args:
        meshes: `(N, 468, 3)` MediaPipe meshes that were warped to one crop layout (so that they lie on each other).

    Returns:
        `(468, 3)` vertices as in `CanonicalFace`.
    """
    check_shape("meshes", meshes, (None, 468, 3))
    points = np.asarray(meshes, np.float64)
    eye_left, eye_right = points[:, [33, 133]].mean(1), points[:, [362, 263]].mean(1)
    # A frontal face has its nose tip half-way between the eyes and both eyes at one depth.
    turned = np.abs(points[:, 1, 0] - (eye_left + eye_right)[:, 0] / 2) + np.abs(eye_left - eye_right)[:, 2] / 2
    frontal = turned <= np.median(turned)
    points, eye_left, eye_right = points[frontal], eye_left[frontal], eye_right[frontal]
    distance = np.linalg.norm(eye_right - eye_left, axis=1)[:, None, None]
    mean = ((points - ((eye_left + eye_right) / 2)[:, None]) / distance).mean(0)
    mirrored = mean * [-1, 1, 1]
    twin = np.linalg.norm(mean[:, None] - mirrored[None], axis=2).argmin(1)
    symmetric: DoubleArray = (mean + mirrored[twin]) / 2
    return symmetric


def cylindrical_unwrap(vertices: NDArray[Any]) -> DoubleArray:
    """(u, v) of vertices: angle around a vertical axis inside the head, and height (paper section 3.3).

    Args:
        vertices: `(V, 3)` as in `CanonicalFace.vertices`.

    Returns:
        `(V, 2)` in [0, 1]; u grows to the right of the image, v downwards.

    Example:
        >>> uv = cylindrical_unwrap(canonical_face().vertices)
        >>> bool(uv.min() == 0 and uv.max() == 1)
        True
    """
    check_shape("vertices", vertices, (None, 3))
    x, y, z = np.asarray(vertices, np.float64).T
    angle = np.arctan2(x, z.max() + 0.25 - z)
    uv = np.stack([angle, y], axis=1)
    normal: DoubleArray = (uv - uv.min(0)) / (uv.max(0) - uv.min(0))
    return normal


def triangles_from_edges(edges: frozenset[tuple[int, int]]) -> NDArray[np.int64]:
    """Triangles of a mesh given by its edges: all sets of three vertices that are joined pair by pair.

    Args:
        edges: Vertex pairs, in either direction, as in MediaPipe's `FACEMESH_TESSELATION`.

    Returns:
        `(T, 3)` vertex indices, sorted.

    Example:
        >>> triangles_from_edges(frozenset({(0, 1), (2, 1), (2, 0), (2, 3)})).tolist()
        [[0, 1, 2]]
    """
    neighbours: dict[int, set[int]] = {}
    for start, end in edges:
        neighbours.setdefault(start, set()).add(end)
        neighbours.setdefault(end, set()).add(start)
    found = {tuple(sorted((a, b, c))) for a, b in edges for c in neighbours[a] & neighbours[b]}
    return np.array(sorted(found), np.int64).reshape(-1, 3)


def rasterise(
    points: NDArray[Any], values: NDArray[Any], triangles: NDArray[np.int64], size: int
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Interpolate values given at mesh vertices over the pixels of a square picture; the nearest surface wins.

    All triangles are sampled at once over a window as large as the largest of them: 854 triangles on 128 pixels cost
    about 10 ms and no Python loop.

    Args:
        points: `(V, 3)` vertices: x, y in pixels (a pixel's centre has whole numbers), z smaller is nearer.
        values: `(V, C)` values.
        triangles: `(T, 3)` vertex indices.
        size: Side S of the picture in pixels.

    Returns:
        `(S, S, C)` float32, 0 where no triangle is, and `(S, S)` bool, True where one is.

    Raises:
        InputError: If points or values have a wrong shape or a coordinate is not finite.

    References:
        Perspective is ignored: MediaPipe's z is a weak-perspective depth in the unit of x.
    """
    check_shape("points", points, (None, 3))
    check_shape("values", values, (len(points), None))
    corners = np.asarray(points, np.float64)[triangles]
    if not np.isfinite(corners).all():
        raise InputError("points: a coordinate is not finite")
    low = np.clip(np.ceil(corners[..., :2].min(1)), 0, size - 1).astype(np.int64)
    high = np.clip(np.floor(corners[..., :2].max(1)), -1, size - 1).astype(np.int64)
    window = int(max(1, (high - low).max() + 1))
    step = np.arange(window)
    x, y = low[:, 0, None, None] + step[None, None, :], low[:, 1, None, None] + step[None, :, None]
    (ax, ay), (bx, by), (cx, cy) = (corners[:, i, :2].T[..., None, None] for i in range(3))
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    with np.errstate(divide="ignore", invalid="ignore"):
        second = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
        third = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
        # Triangles without an area give numbers that are not finite, which count as outside.
        first = 1 - second - third
    inside = (first >= -1e-9) & (second >= -1e-9) & (third >= -1e-9) & (x < size) & (y < size)
    which, row, column = np.nonzero(inside)
    weights = np.stack([first[inside], second[inside], third[inside]], 1)
    depth = (weights * corners[which, :, 2]).sum(1)
    # Far to near: of several writes to one pixel NumPy keeps the last.
    order = np.argsort(-depth, kind="stable")
    which, weights = which[order], weights[order]
    flat = (low[which, 1] + row[order]) * size + low[which, 0] + column[order]
    picture = np.zeros((size * size, values.shape[1]), np.float32)
    covered = np.zeros(size * size, np.bool_)
    picture[flat] = (weights[..., None] * np.asarray(values, np.float64)[triangles[which]]).sum(1)
    covered[flat] = True
    return picture.reshape(size, size, -1), covered.reshape(size, size)


def correspondence_target(mesh: NDArray[Any], size: int) -> UInt8Array:
    """(u, v) of every pixel of a crop, as bytes.

    Args:
        mesh: `(468, 3)` in pixels of the crop.
        size: Side S of the crop in pixels.

    Returns:
        `(S, S, 2)` uint8: 0 where no face is, otherwise 1 + 254 * (u or v), rounded.
    """
    face = canonical_face()
    uv, covered = rasterise(mesh, cylindrical_unwrap(face.vertices), face.triangles, size)
    coded = 1 + np.rint(uv.clip(0, 1) * 254)
    return np.where(covered[..., None], coded, 0).astype(np.uint8)


def decode_correspondence(coded: UInt8Array) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Bytes of `correspondence_target` as (u, v) in [0, 1] and the face's pixels.

    Args:
        coded: `(..., 2)` uint8.

    Returns:
        `(..., 2)` float32 in [0, 1] and `(...)` bool.
    """
    visible = coded[..., 0] > 0
    uv = np.maximum(coded.astype(np.float32) - 1, 0) / 254
    return uv.astype(np.float32), visible
