"""Slow NumPy twins of maskfix.losses, written from the paper's equations with plain loops."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def info_nce(query: Array, key: Array, queue: Array, temperature: float, own: Sequence[int] | None = None) -> float:
    """Equation 1, one query at a time; the sum of the denominator runs from the positive (0) to K, past its own key."""
    losses = []
    for n, (q, k) in enumerate(zip(query, key, strict=True)):
        positive = math.exp(sum(a * b for a, b in zip(q, k, strict=True)) / temperature)
        denominator = positive
        for place, negative in enumerate(queue):
            if own is not None and place == own[n]:
                continue
            denominator += math.exp(sum(a * b for a, b in zip(q, negative, strict=True)) / temperature)
        losses.append(-math.log(positive / denominator))
    return sum(losses) / len(losses)


def reconstruction(prediction: Array, target: Array, weight: Array | None) -> float:
    """Equation 10 as a weighted mean over pixels of the mean over colours."""
    count, colours, height, width = prediction.shape
    total = weights = 0.0
    for n in range(count):
        for y in range(height):
            for x in range(width):
                w = 1.0 if weight is None else float(weight[n, 0, y, x])
                for c in range(colours):
                    total += w * abs(float(prediction[n, c, y, x] - target[n, c, y, x])) / colours
                weights += w
    return total / weights if weights else 0.0


def gram(features: Array) -> Array:
    """Products of channels, averaged over positions."""
    count, channels, height, width = features.shape
    result = np.zeros((count, channels, channels))
    for n in range(count):
        for i in range(channels):
            for j in range(channels):
                for y in range(height):
                    for x in range(width):
                        result[n, i, j] += features[n, i, y, x] * features[n, j, y, x] / (height * width)
    return result


def perceptual(predicted: Sequence[Array], target: Sequence[Array]) -> float:
    """Johnson's feature reconstruction in L1, each picture's maps of a layer as a share of their true magnitude."""
    shares = []
    for ours, theirs in zip(predicted, target, strict=True):
        for mine, true in zip(ours, theirs, strict=True):
            distance = sum(abs(one - other) for one, other in zip(mine.flat, true.flat, strict=True))
            shares.append((distance / sum(abs(value) for value in true.flat), len(ours)))
    return float(sum(share / pictures for share, pictures in shares)) / len(predicted)


def style(predicted: Sequence[Array], target: Sequence[Array]) -> float:
    """Equation 11, mean over the batch."""
    total = 0.0
    for ours, theirs in zip(predicted, target, strict=True):
        channels = ours.shape[1]
        ours_gram, theirs_gram = gram(ours), gram(theirs)
        for n in range(ours.shape[0]):
            norm = 0.0
            for i in range(channels):
                for j in range(channels):
                    norm += abs(ours_gram[n, i, j] - theirs_gram[n, i, j])
            total += norm / (channels * channels) / ours.shape[0]
    return total / len(predicted)


def identity(predicted: Array, target: Array) -> float:
    """Equation 12, mean over the batch."""
    return sum(
        math.sqrt(sum((a - b) ** 2 for a, b in zip(p, t, strict=True))) for p, t in zip(predicted, target, strict=True)
    ) / len(predicted)


def identity_cosine(predicted: Array, target: Array) -> float:
    """One minus the cosine, mean over the batch."""
    total = 0.0
    for p, t in zip(predicted, target, strict=True):
        product = sum(a * b for a, b in zip(p, t, strict=True))
        total += 1 - product / math.sqrt(sum(a * a for a in p)) / math.sqrt(sum(b * b for b in t))
    return total / len(predicted)


def correspondence(predicted: Array, target: Array, visible: Array) -> float:
    """Equation 9, weighted mean over the pixels of the face."""
    total = weights = 0.0
    count, _, height, width = predicted.shape
    for n in range(count):
        for y in range(height):
            for x in range(width):
                w = float(visible[n, 0, y, x])
                if w > 0:
                    du, dv = predicted[n, :, y, x] - target[n, :, y, x]
                    total += w * math.hypot(du, dv)
                    weights += w
    return total / weights if weights else 0.0


def occlusion(logits: Array, mask: Array, dice: float) -> float:
    """Binary cross-entropy and V-Net's Dice with one pixel of smoothing."""
    probability = 1 / (1 + np.exp(-logits))
    entropy = 0.0
    for p, m in zip(probability.ravel(), mask.ravel(), strict=True):
        entropy -= (m * math.log(p) + (1 - m) * math.log(1 - p)) / mask.size
    extra = 0.0
    for ours, theirs in zip(probability, mask, strict=True):
        overlap = ours_square = theirs_square = 0.0
        for p, m in zip(ours.ravel(), theirs.ravel(), strict=True):
            overlap += p * m
            ours_square += p * p
            theirs_square += m * m
        extra += (1 - (2 * overlap + 1) / (ours_square + theirs_square + 1)) / len(mask)
    return entropy + dice * extra


def area(images: Array, factor: int, weight: Array | None = None) -> tuple[Array, Array]:
    """Mean over blocks of factor x factor, weighted where asked for; and the mean weight of each block."""
    count, channels, height, width = images.shape
    means = np.zeros((count, channels, height // factor, width // factor))
    shares = np.zeros((count, 1, height // factor, width // factor))
    for n in range(count):
        for y in range(height // factor):
            for x in range(width // factor):
                rows, columns = slice(y * factor, (y + 1) * factor), slice(x * factor, (x + 1) * factor)
                w = np.ones((factor, factor)) if weight is None else weight[n, 0, rows, columns]
                shares[n, 0, y, x] = w.mean()
                for c in range(channels):
                    if w.sum() > 0:
                        means[n, c, y, x] = (images[n, c, rows, columns] * w).sum() / w.sum()
    return means, shares


def relational(embedding: Array, target: Array) -> float:
    """Squared differences of cosines, one pair of different faces at a time."""

    def cosine(rows: Array, i: int, j: int) -> float:
        dot = sum(a * b for a, b in zip(rows[i], rows[j], strict=True))
        return float(dot / math.sqrt(sum(a * a for a in rows[i]) * sum(b * b for b in rows[j])))

    pairs = [(i, j) for i in range(len(embedding)) for j in range(len(embedding)) if i != j]
    return sum((cosine(embedding, i, j) - cosine(target, i, j)) ** 2 for i, j in pairs) / len(pairs)
