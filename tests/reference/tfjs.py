"""A slow twin of the TensorFlow.js graph reader: rows, columns, channels, one output pixel at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def convolve(x: Array, kernel: Array, stride: int, same: bool, depthwise: bool) -> Array:
    """Convolve `(H, W, C)` with `(k, k, C, O)`, or each channel with its own of `(k, k, C, 1)`.

    SAME padding as TensorFlow documents it: ceil(size / stride) outputs, the odd pixel at the end.
    """
    side, size = kernel.shape[0], x.shape[0]
    if same:
        outputs = -(-size // stride)
        total = max((outputs - 1) * stride + side - size, 0)
        x = np.pad(x, ((total // 2, total - total // 2), (total // 2, total - total // 2), (0, 0)))
    outputs = (x.shape[0] - side) // stride + 1
    channels = x.shape[2] if depthwise else kernel.shape[3]
    result = np.zeros((outputs, outputs, channels))
    for i in range(outputs):
        for j in range(outputs):
            window = x[i * stride : i * stride + side, j * stride : j * stride + side]
            if depthwise:
                result[i, j] = (window * kernel[..., 0]).sum((0, 1))
            else:
                result[i, j] = np.einsum("abc,abco->o", window, kernel)
    return result
