"""Slow NumPy twin of the dual attention fusion module, written from equations 3 to 8 of the paper with plain loops."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def global_pooling(features: Array) -> Array:
    """Equation 3: one picture's features `(C, h, w)` to `(C,)` statistics."""
    channels, height, width = features.shape
    statistics = np.zeros(channels)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                statistics[c] += features[c, i, j]
        statistics[c] /= height * width
    return statistics


def channel_gates(statistics: Array, down: tuple[Array, Array], up: tuple[Array, Array]) -> Array:
    """Equation 4: sigmoid(W_U relu(W_D z)); each of `down` and `up` is a matrix and a bias."""
    hidden = [max(0.0, float(row @ statistics + b)) for row, b in zip(*down, strict=True)]
    return np.array([sigmoid(float(row @ np.array(hidden) + b)) for row, b in zip(*up, strict=True)])


def channel_attention(features: Array, down: tuple[Array, Array], up: tuple[Array, Array]) -> Array:
    """Equation 5: each channel times its gate."""
    gates = channel_gates(global_pooling(features), down, up)
    return np.stack([gate * channel for gate, channel in zip(gates, features, strict=True)])


def convolution(x: Array, weight: Array, bias: Array | None) -> Array:
    """Convolution `(C, h, w)` to `(O, h, w)`, one output value at a time; zeros stand outside."""
    outputs, _, side, _ = weight.shape
    _, height, width = x.shape
    padded = np.pad(x, ((0, 0), (side // 2, side // 2), (side // 2, side // 2)))
    y = np.zeros((outputs, height, width))
    for o in range(outputs):
        for i in range(height):
            for j in range(width):
                y[o, i, j] = (weight[o] * padded[:, i : i + side, j : j + side]).sum()
        if bias is not None:
            y[o] += bias[o]
    return y


def shrink(x: Array, times: int) -> Array:
    """The downsampling of equation 6: the mean over `times` by `times` pixels."""
    channels, height, width = x.shape
    y = np.zeros((channels, height // times, width // times))
    for i in range(height // times):
        for j in range(width // times):
            y[:, i, j] = x[:, i * times : (i + 1) * times, j * times : (j + 1) * times].mean((1, 2))
    return y


def batch_norm(x: Array, mean: Array, variance: Array, weight: Array, bias: Array, epsilon: float = 1e-5) -> Array:
    """Batch norm with known statistics, channel by channel."""
    y = np.zeros_like(x)
    for c in range(len(x)):
        y[c] = (x[c] - mean[c]) / math.sqrt(variance[c] + epsilon) * weight[c] + bias[c]
    return y


def leaky(x: Array, slope: float) -> Array:
    """Leaky ReLU."""
    return np.where(x > 0, x, slope * x)


def sigmoid(value: float) -> float:
    """The logistic function of one number."""
    return 1 / (1 + math.exp(-value))


def dual_attention_fusion(features: Array, picture: Array, weights: Mapping[str, Array]) -> tuple[Array, Array, Array]:
    """Equations 3 to 8 for one picture.

    Args:
        features: F, `(C, h, w)`.
        picture: The input x_q at full size, `(3, H, W)`.
        weights: The torch module's state dict in float64.

    Returns:
        The fused picture, alpha and the restored picture, each `(3, h, w)`.
    """
    attended = channel_attention(
        features,
        (weights["channel_attention.down.weight"][..., 0, 0], weights["channel_attention.down.bias"]),
        (weights["channel_attention.up.weight"][..., 0, 0], weights["channel_attention.up.bias"]),
    )
    restored = convolution(attended, weights["to_image.weight"], weights["to_image.bias"])
    # Equation 6 in the paper's order: the 1x1 convolution at full size, then the downsampling.
    known = convolution(picture, weights["from_input.weight"], weights["from_input.bias"])
    known = shrink(known, picture.shape[1] // features.shape[1])
    x = np.concatenate([restored, known])
    for layer in (0, 1):
        prefix = f"transform.{layer}."
        x = convolution(x, weights[prefix + "conv.weight"], None)
        statistics = (weights[prefix + "norm." + key] for key in ("running_mean", "running_var", "weight", "bias"))
        x = leaky(batch_norm(x, *statistics), 0.2)
    x = convolution(x, weights["transform.2.weight"], weights["transform.2.bias"])
    fused, alpha = np.zeros_like(restored), np.zeros_like(restored)
    for c in range(3):
        for i in range(x.shape[1]):
            for j in range(x.shape[2]):
                a = sigmoid(float(x[c, i, j]))
                alpha[c, i, j] = a
                fused[c, i, j] = a * restored[c, i, j] + (1 - a) * known[c, i, j]
    return fused, alpha, restored
