"""Picture metrics on batches: PSNR, also inside a mask, SSIM with a Gaussian window, and variance of the Laplacian."""

from __future__ import annotations

import cv2
import numpy as np

from maskfix.base import BoolArray, DoubleArray, InputError, UInt8Array, check_dtype, check_shape

_SIGMA = 1.5
_RADIUS = 5
_CHUNK_PIXELS = 4_000_000
"""Pixels filtered at a time; float64 in three channels and nine planes stay below 1 GB."""


def psnr(images: UInt8Array, references: UInt8Array, mask: BoolArray | None = None) -> DoubleArray:
    """Peak signal-to-noise ratio in dB, 10 log10(255^2 / MSE); higher is better.

    Args:
        images: Pictures to judge, `(N, H, W, C)` uint8.
        references: True pictures, the same shape.
        mask: Where to look, `(N, H, W)` bool; everywhere when None.

    Returns:
        `(N,)` float64; inf where a picture equals its reference, nan where its mask is empty.

    Raises:
        InputError: If shapes or types differ from these.

    Example:
        >>> black = np.zeros((1, 2, 2, 3), dtype=np.uint8)
        >>> psnr(black, black + np.uint8(255)), psnr(black, black)
        (array([0.]), array([inf]))
    """
    _check_batches(images, references)
    squares = np.square(images.astype(np.int32) - references.astype(np.int32)).sum(axis=3)
    if mask is None:
        mask = np.ones(squares.shape, dtype=np.bool_)
    check_dtype("mask", mask, np.bool_)
    check_shape("mask", mask, squares.shape)
    total = np.where(mask, squares, 0).sum(axis=(1, 2), dtype=np.int64)
    count = np.count_nonzero(mask, axis=(1, 2)) * images.shape[3]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(count == 0, np.nan, 10 * np.log10(255.0**2 * count / total))


def ssim(images: UInt8Array, references: UInt8Array) -> DoubleArray:
    """Structural similarity, mean over pixels and channels, in [-1, 1]; higher is better, 1 means equal.

    Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE TIP 2004: an 11x11
    Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, dynamic range 255, population (co)variances; the border of 5
    pixels, where the window leaves the picture, does not count.

    Args:
        images: Pictures to judge, `(N, H, W, C)` uint8, at least 11 pixels a side, at most 4 channels.
        references: True pictures, the same shape.

    Returns:
        `(N,)` float64.

    Raises:
        InputError: If shapes or types differ from these.

    Example:
        >>> picture = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
        >>> ssim(picture, picture)
        array([1.])
    """
    _check_batches(images, references)
    count, height, width, channels = images.shape
    if min(height, width) < 2 * _RADIUS + 1 or not 1 <= channels <= 4:
        raise InputError(
            f"images: SSIM needs at least 11x11 pixels and 1 to 4 channels, got {height}x{width} with {channels}"
        )
    step = max(1, _CHUNK_PIXELS // (height * width))
    parts = [_ssim(images[i : i + step], references[i : i + step]) for i in range(0, count, step)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _ssim(images: UInt8Array, references: UInt8Array) -> DoubleArray:
    """SSIM of a batch that fits into memory."""
    x, y = images.astype(np.float64), references.astype(np.float64)
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x = _blur(x * x) - mean_x * mean_x
    variance_y = _blur(y * y) - mean_y * mean_y
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    bottom = (mean_x * mean_x + mean_y * mean_y + c1) * (variance_x + variance_y + c2)
    inside = slice(_RADIUS, -_RADIUS)
    return np.asarray((top / bottom)[:, inside, inside].mean(axis=(1, 2, 3)), dtype=np.float64)


def _blur(pictures: DoubleArray) -> DoubleArray:
    """Gaussian blur of `(N, H, W, C)` in one call.

    The pictures are stacked into one tall picture. The window then reaches from one into the next, but only within the
    border that does not count.
    """
    count, height, width, channels = pictures.shape
    side = 2 * _RADIUS + 1
    tall = cv2.GaussianBlur(pictures.reshape(count * height, width, channels), (side, side), _SIGMA, sigmaY=_SIGMA)
    return np.asarray(tall, dtype=np.float64).reshape(pictures.shape)


def laplacian_variance(images: UInt8Array, mask: BoolArray | None = None) -> DoubleArray:
    """Variance of the Laplacian of the luma: how much fine detail a picture holds; higher is sharper.

    Luma is Rec. 601, 0 to 255, not rounded; the Laplacian is OpenCV's (four neighbours), with the picture mirrored at
    its border. It is taken of the whole picture before the mask selects, so a seam along the mask's outline counts.
    Noise and grids count as detail too: of a completed face, the ratio to the true one should be near 1, not large.

    Args:
        images: Pictures, `(N, H, W, 3)` uint8 RGB, at least 2 pixels a side.
        mask: Where to look, `(N, H, W)` bool; everywhere when None.

    Returns:
        `(N,)` float64 of at least 0; nan where the mask is empty.

    Raises:
        InputError: If shapes or types differ from these.

    Example:
        >>> flat = np.full((1, 4, 4, 3), 90, dtype=np.uint8)
        >>> dotted = flat.copy()
        >>> dotted[:, 1, 1] = 0
        >>> laplacian_variance(flat).round(6), bool(laplacian_variance(dotted)[0] > 1000)
        (array([0.]), True)
    """
    check_dtype("images", images, np.uint8)
    check_shape("images", images, (None, None, None, 3))
    count, height, width, _ = images.shape
    if min(height, width) < 2:
        raise InputError(f"images: the Laplacian needs at least 2x2 pixels, got {height}x{width}")
    if mask is None:
        mask = np.ones(images.shape[:3], dtype=np.bool_)
    check_dtype("mask", mask, np.bool_)
    check_shape("mask", mask, images.shape[:3])
    step = max(1, _CHUNK_PIXELS // (height * width))
    parts = [_laplacian_variance(images[i : i + step], mask[i : i + step]) for i in range(0, count, step)]
    return np.concatenate(parts) if parts else np.zeros(0)


def _laplacian_variance(images: UInt8Array, mask: BoolArray) -> DoubleArray:
    """Variance of the Laplacian of a batch that fits into memory.

    As in `_blur`, the pictures are stacked into one tall picture; each brings its own mirrored border of one pixel.
    """
    count, height, width, _ = images.shape
    framed = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect").astype(np.float32)
    luma = cv2.cvtColor(framed.reshape(count * (height + 2), width + 2, 3), cv2.COLOR_RGB2GRAY)
    tall = cv2.Laplacian(luma, cv2.CV_32F).astype(np.float64)
    laplacian = tall.reshape(count, height + 2, width + 2)[:, 1:-1, 1:-1]
    pixels = np.count_nonzero(mask, axis=(1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(mask, laplacian, 0).sum(axis=(1, 2)) / pixels
        squares = np.square(laplacian - mean[:, None, None])
        return np.asarray(np.where(mask, squares, 0).sum(axis=(1, 2)) / pixels, dtype=np.float64)


def _check_batches(images: UInt8Array, references: UInt8Array) -> None:
    """Check that both are uint8 batches of one shape."""
    for name, batch in (("images", images), ("references", references)):
        check_dtype(name, batch, np.uint8)
        check_shape(name, batch, (None, None, None, None))
    check_shape("references", references, images.shape)
