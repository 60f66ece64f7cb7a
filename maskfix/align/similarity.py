"""The map between five landmarks and a crop layout, the warp it defines, and the way back."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskfix.base import (
    LONGEST_SIDE,
    CropLayout,
    DoubleArray,
    FloatArray,
    InputError,
    UInt8Array,
    arcface_layout,
    canonical_layout,
    check_crops,
    check_photo,
    check_shape,
)

_BORDERS = {"constant": cv2.BORDER_CONSTANT, "reflect": cv2.BORDER_REFLECT_101, "replicate": cv2.BORDER_REPLICATE}
# Rows take the middle of the eyes and the middle of the mouth from the five points.
_MIDDLES = np.array([[0.5, 0.5, 0, 0, 0], [0, 0, 0, 0.5, 0.5]])
# A detector's box stays with the head when the nose turns away from the middle of eyes and mouth: its centre moves
# against the nose by this factor. Least squares over facenet-pytorch's MTCNN on 198 UTKFace pictures, correlation 0.97.
_TURN = 1.43
_ASIDE = np.array([-0.25, -0.25, 1, -0.25, -0.25])


def estimate_similarity(source: NDArray[Any], target: NDArray[Any]) -> DoubleArray:
    """Similarity (rotation, uniform scale, shift; no mirror) that maps `source` onto `target` with least squares.

    Points are read as complex numbers, which turns rotation and scale into one complex factor and the fit into one
    division for all faces at once. The result equals Umeyama's (1991) wherever his needs no mirror.

    Args:
        source: `(P, 2)` or `(N, P, 2)` points, P at least 2, in pixels.
        target: `(P, 2)` points, or as many sets as `source`.

    Returns:
        `(2, 3)` or `(N, 2, 3)` float64 matrices M with `M @ (x, y, 1)` near the target point.

    Raises:
        InputError: If shapes differ, a number is not finite, or the points of one face coincide.

    Example:
        >>> estimate_similarity(np.array([[0, 0], [1, 0]]), np.array([[1, 1], [1, 3]])).round(6)
        array([[ 0., -2.,  1.],
               [ 2.,  0.,  1.]])
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    paired = target.shape == source.shape or target.shape == source.shape[-2:]
    if source.ndim not in (2, 3) or not paired or source.shape[-1] != 2:
        raise InputError(f"landmarks: expected (P, 2) or (N, P, 2) like the target {target.shape}, got {source.shape}")
    if not np.isfinite(target).all():
        raise InputError("target: a number is not finite")
    start, end = source[..., 0] + 1j * source[..., 1], target[..., 0] + 1j * target[..., 1]
    start_mean, end_mean = start.mean(-1, keepdims=True), end.mean(-1, keepdims=True)
    spread = (np.abs(start - start_mean) ** 2).sum(-1)
    if not np.isfinite(spread).all() or (spread < 1e-12).any():
        raise InputError("landmarks: the points of a face coincide or are not finite; detect them again")
    factor = ((start - start_mean).conj() * (end - end_mean)).sum(-1) / spread
    shift = end_mean[..., 0] - factor * start_mean[..., 0]
    rows = [np.stack([factor.real, -factor.imag, shift.real], -1), np.stack([factor.imag, factor.real, shift.imag], -1)]
    return np.stack(rows, -2)


def fit_layout(five: NDArray[Any], layout: CropLayout) -> DoubleArray:
    """Affine map that brings five landmarks to where a layout has them, in the layout's own way (`CropLayout.fit`).

    A similarity for `points` and `midpoints`. For `box`: the box is the layout's square on the ArcFace face, its centre
    and size carried over to the photo by the least-squares similarity, its sides kept along the axes of the photo; when
    the nose points aside, its centre moves the other way, as that of a detector's box does.

    Args:
        five: `(5, 2)` or `(N, 5, 2)` ArcFace points in pixels of the photo.
        layout: Where the points go, and how.

    Returns:
        `(2, 3)` or `(N, 2, 3)` float64 maps from photo to crop.

    Raises:
        InputError: If the shape differs, a number is not finite, or points coincide.

    Example:
        >>> layout = CropLayout("double", 224, arcface_layout(224).points, fit="midpoints")
        >>> fit_layout(arcface_layout(112).array + 3, layout).round(6) + 0.0
        array([[ 2.,  0., -6.],
               [ 0.,  2., -6.]])
    """
    five = np.asarray(five, np.float64)
    if five.shape[-2:] != (5, 2) or five.ndim > 3:
        raise InputError(f"landmarks: expected shape (5, 2) or (N, 5, 2), got {five.shape}")
    if layout.fit == "midpoints":
        return estimate_similarity(_MIDDLES @ five, _MIDDLES @ layout.array)
    if layout.fit == "box":
        return _fit_box(five, layout)
    return estimate_similarity(five, layout.array)


def _fit_box(five: DoubleArray, layout: CropLayout) -> DoubleArray:
    """The stretch without rotation that brings a detector's box around the face to the layout's square."""
    face = arcface_layout(112).array
    stretch = layout.array.std(0) / face.std(0)
    middle = (layout.size - 1) / 2
    upright = estimate_similarity(five, face)
    linear, shift = upright[..., :2], upright[..., 2]
    moved = five @ np.swapaxes(linear, -1, -2) + shift[..., None, :]
    aside = _ASIDE @ (moved - face)
    centre = face.mean(0) + (middle - layout.array.mean(0)) / stretch - _TURN * aside * [1, 0]
    back = invert_affine(upright)
    centre = (back[..., :2] @ centre[..., None])[..., 0] + back[..., 2]
    factor = stretch * np.sqrt(np.linalg.det(linear))[..., None]
    matrix = np.zeros((*five.shape[:-2], 2, 3))
    matrix[..., [0, 1], [0, 1]] = factor
    matrix[..., 2] = middle - factor * centre
    return matrix


def invert_affine(matrix: NDArray[Any]) -> DoubleArray:
    """Inverse of affine matrices: what maps a crop back to the photograph.

    Args:
        matrix: `(..., 2, 3)` affine matrices.

    Returns:
        `(..., 2, 3)` float64.

    Raises:
        InputError: If a matrix has another shape, no inverse, or a number that is not finite.
    """
    matrix = np.asarray(matrix, np.float64)
    if matrix.shape[-2:] != (2, 3):
        raise InputError(f"matrix: expected shape (..., 2, 3), got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise InputError("matrix: a number is not finite")
    try:
        linear = np.linalg.inv(matrix[..., :2])
    except np.linalg.LinAlgError as error:
        raise InputError("matrix: the affine map has no inverse") from error
    inverse: DoubleArray = np.concatenate([linear, -linear @ matrix[..., 2:]], axis=-1)
    return inverse


def transform_points(matrix: NDArray[Any], points: NDArray[Any]) -> DoubleArray:
    """Apply one affine map `(2, 3)` to points `(..., 2)`.

    Example:
        >>> transform_points(np.array([[2, 0, 1], [0, 2, 0]]), np.array([[1, 1]]))
        array([[3., 2.]])
    """
    matrix = np.asarray(matrix, np.float64)
    moved: DoubleArray = np.asarray(points, np.float64) @ matrix[:, :2].T + matrix[:, 2]
    return moved


def warp(photo: UInt8Array, matrix: NDArray[Any], size: int, border: str = "constant") -> UInt8Array:
    """Cut a square crop out of a photograph by an affine map, bilinear.

    Args:
        photo: `(H, W, 3)` uint8 RGB.
        matrix: `(2, 3)` map from photo pixels to crop pixels.
        size: Side S of the crop in pixels.
        border: What stands outside the photo: `constant` (black, insightface's convention), `reflect` or `replicate`.

    Returns:
        `(S, S, 3)` uint8 RGB.

    Raises:
        InputError: On a wrong photo, matrix or border name, or a photo of more than 32,766 pixels a side.
    """
    check_photo("photo", photo)
    check_shape("matrix", matrix, (2, 3))
    if max(photo.shape[:2]) > LONGEST_SIDE:
        raise InputError(
            f"photo: {photo.shape[1]}x{photo.shape[0]} has a side of more than {LONGEST_SIDE} pixels; cut it"
        )
    if border not in _BORDERS:
        raise InputError(f"border: {border!r} is unknown; known: {', '.join(_BORDERS)}")
    crop = cv2.warpAffine(photo, np.asarray(matrix, np.float64), (size, size), borderMode=_BORDERS[border])
    return np.asarray(crop, np.uint8)


def align(photo: UInt8Array, five: NDArray[Any], layout: CropLayout) -> tuple[UInt8Array, DoubleArray]:
    """Warp a photograph so that its five points come to lie where the layout wants them.

    Args:
        photo: `(H, W, 3)` uint8 RGB.
        five: `(5, 2)` ArcFace points in pixels of the photo.
        layout: Where the points go, and the size of the crop.

    Returns:
        The crop `(S, S, 3)` uint8 and the matrix `(2, 3)` from photo to crop, for `paste`.

    Raises:
        InputError: As `fit_layout` and `warp`.
    """
    check_shape("landmarks", five, (5, 2))
    matrix = fit_layout(five, layout)
    return warp(photo, matrix, layout.size), matrix


def recrop(crops: UInt8Array, layout: CropLayout) -> UInt8Array:
    """Bring canonical crops to another layout, as its recogniser sees the faces.

    What the layout shows beyond the canonical crop is its reflection, as beyond the photograph in prepared faces.

    Args:
        crops: `(N, S, S, 3)` uint8 RGB in the canonical layout; N may be 0.
        layout: Where to bring them.

    Returns:
        `(N, T, T, 3)` uint8, T the layout's size.

    Raises:
        InputError: On wrong shapes or types.

    Example:
        >>> recrop(np.full((2, 128, 128, 3), 7, np.uint8), arcface_layout(112)).shape
        (2, 112, 112, 3)
    """
    check_crops("crops", crops)
    matrix = fit_layout(canonical_layout(crops.shape[1]).array, layout)
    moved = np.empty((len(crops), layout.size, layout.size, 3), np.uint8)
    for row, crop in enumerate(crops):
        moved[row] = warp(crop, matrix, layout.size, border="reflect")
    return moved


def paste(photo: UInt8Array, crop: UInt8Array, matrix: NDArray[Any], weight: FloatArray) -> UInt8Array:
    """Put a crop back into the photograph it was cut from, where `weight` says so.

    Args:
        photo: `(H, W, 3)` uint8 RGB; it is not changed.
        crop: `(S, S, 3)` uint8 RGB, what replaces it.
        matrix: `(2, 3)` map from photo to crop, as `align` returned it.
        weight: `(S, S)` float32 in [0, 1]: 1 takes the crop, 0 keeps the photo.

    Returns:
        A new `(H, W, 3)` uint8 picture; pixels whose warped weight is 0 are those of `photo`, to the bit.

    Raises:
        InputError: On wrong shapes or types.
    """
    check_photo("photo", photo)
    check_photo("crop", crop)
    check_shape("weight", weight, (crop.shape[0], crop.shape[1]))
    back = invert_affine(matrix)
    height, width = photo.shape[:2]
    corners = transform_points(back, np.array([[-1, -1], [crop.shape[1], -1], [-1, crop.shape[0]], crop.shape[1::-1]]))
    x0, y0 = np.clip(np.floor(corners.min(0)).astype(int), 0, [width, height])
    x1, y1 = np.clip(np.ceil(corners.max(0)).astype(int) + 1, 0, [width, height])
    result = photo.copy()
    if x1 <= x0 or y1 <= y0:
        return result
    # Only the box around the face is touched: photographs are large, faces are small.
    back = back - [[0, 0, x0], [0, 0, y0]]
    box = (int(x1 - x0), int(y1 - y0))
    patch = cv2.warpAffine(crop, back, box, borderMode=cv2.BORDER_REPLICATE).astype(np.float32)
    blend = cv2.warpAffine(np.asarray(weight, np.float32), back, box)[..., None]
    part = result[y0:y1, x0:x1].astype(np.float32)
    result[y0:y1, x0:x1] = np.rint(part + blend * (patch - part)).clip(0, 255).astype(np.uint8)
    return result
