"""Slow twins of the momentum update and the queue, written from section 3.1 of the paper with plain loops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def momentum_update(key: Sequence[Array], query: Sequence[Array], momentum: float) -> list[Array]:
    """Equation 2, one number at a time."""
    updated = []
    for slow, fast in zip(key, query, strict=True):
        values = [momentum * k + (1 - momentum) * q for k, q in zip(slow.ravel(), fast.ravel(), strict=True)]
        updated.append(np.array(values).reshape(slow.shape))
    return updated


class Queue:
    """First in, first out: each new key pushes the oldest one out."""

    def __init__(self, keys: Array) -> None:
        self.keys = [key.copy() for key in keys]

    def enqueue(self, keys: Array) -> None:
        """Enqueue one key after the other."""
        for key in keys:
            self.keys.pop(0)
            self.keys.append(key.copy())
