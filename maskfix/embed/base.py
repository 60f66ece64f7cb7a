"""What every recogniser gives: crops in its own layout in, unit vectors out."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from maskfix.base import CropLayout, FloatArray, UInt8Array


@runtime_checkable
class Embedder(Protocol):
    """A face recogniser.

    Attributes:
        name: Short name, for reports and cache keys.
        layout: The crop that it wants.
        dimension: D, the length of its vectors.
        sha256: Hash of the weights file, 64 hexadecimal digits.
    """

    name: str
    layout: CropLayout
    dimension: int
    sha256: str

    def embed(self, crops: UInt8Array) -> FloatArray:
        """Embed N crops.

        Args:
            crops: `(N, S, S, 3)` uint8 RGB in `layout`; N may be 0.

        Returns:
            `(N, D)` float32, each row of unit length; compare two rows by their dot product.

        Raises:
            InputError: If the crops have another shape or type.
        """
        ...


def unit_rows(vectors: NDArray[Any]) -> FloatArray:
    """Scale each row to unit length; a row of zeros stays as it is.

    Args:
        vectors: `(N, D)` of any float type.

    Returns:
        `(N, D)` float32.

    Example:
        >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).round(2).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    wide = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    scaled: FloatArray = (wide / np.maximum(lengths, 1e-12)).astype(np.float32)
    return scaled
