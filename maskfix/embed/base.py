"""What every recogniser gives: crops in its own layout in, unit vectors out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from maskfix.base import CropLayout, EmbedderError, FloatArray, InputError, UInt8Array, check_crops


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


@runtime_checkable
class RawEmbedder(Embedder, Protocol):
    """A recogniser that also gives vectors of the length that its network gives them.

    Networks trained with a margin on the angle, such as ArcFace, give good pictures long vectors; IJB's `keep_norm`
    weights pictures by that. A network that brings its output to unit length itself has nothing to give.
    """

    def embed_raw(self, crops: UInt8Array) -> FloatArray:
        """Embed N crops without scaling to unit length.

        Args:
            crops: `(N, S, S, 3)` uint8 RGB in `layout`; N may be 0.

        Returns:
            `(N, D)` float32; brought to unit length, the rows are those of `embed`.

        Raises:
            InputError: If the crops have another shape or type.
        """
        ...


def grey_crops(crops: UInt8Array) -> UInt8Array:
    """Grey versions of colour crops, with the weights and the rounding of OpenCV (0.299, 0.587, 0.114).

    This is `cv2.cvtColor`. `cv2.imread` with IMREAD_GRAYSCALE leaves the greying to the file's decoder, which differs a
    little: by one level for PNG, and on LFW's JPEGs, which keep a grey picture of their own, by less than 0.1 of 255
    levels in the mean, more at single pixels where colours are clipped.

    Args:
        crops: `(N, S, S, 3)` uint8 RGB; N may be 0.

    Returns:
        `(N, S, S)` uint8.

    Raises:
        InputError: If type or shape differ.
    """
    check_crops("crops", crops)
    if len(crops) == 0:
        return np.zeros(crops.shape[:3], np.uint8)
    # One tall picture: OpenCV takes no stacks.
    tall = np.ascontiguousarray(crops).reshape(-1, crops.shape[2], 3)
    return np.asarray(cv2.cvtColor(tall, cv2.COLOR_RGB2GRAY), np.uint8).reshape(crops.shape[:3])


def describe_embedder(embedder: Embedder) -> str:
    """What a recogniser's vectors depend on, for a killed run to know it by: name, weights, crop and what was declared.

    Args:
        embedder: The recogniser. Its `declared`, where it has one, says how crops become the network's input.
    """
    raw = " raw" if isinstance(embedder, RawEmbedder) else ""
    declared = getattr(embedder, "declared", "")
    return f"{embedder.name} {embedder.sha256} {embedder.layout.name}{raw}{' ' * bool(declared)}{declared}"


class BatchEmbedder:
    """What recognisers have around their networks: crops are checked, run batch by batch and scaled to unit length.

    A recogniser sets `layout` and `dimension` and gives `_run`, from `(B, S, S, 3)` uint8 to B vectors of length D as
    an array, a CPU tensor or a list.

    Args:
        batch_size: Crops a call of `_run`, at least 1.

    Raises:
        InputError: If the batch size is below 1.
    """

    layout: CropLayout
    dimension: int

    def __init__(self, batch_size: int) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size: expected at least 1, got {batch_size}")
        self._batch_size = batch_size

    def embed(self, crops: UInt8Array) -> FloatArray:
        """Embed N crops.

        Args:
            crops: `(N, S, S, 3)` uint8 RGB in `layout`; N may be 0.

        Returns:
            `(N, D)` float32 of unit length.

        Raises:
            InputError: If the crops have another shape or type.
            EmbedderError: If the network fails on them.
        """
        return unit_rows(self._vectors(crops, self._run))

    def _run(self, crops: UInt8Array) -> Any:
        """One batch through the network."""
        raise NotImplementedError

    def _vectors(self, crops: UInt8Array, run: Callable[[UInt8Array], Any]) -> NDArray[Any]:
        """The vectors of all crops as `run` gives them, batch by batch."""
        check_crops("crops", crops, self.layout.size)
        if len(crops) == 0:
            return np.zeros((0, self.dimension), dtype=np.float32)
        starts = range(0, len(crops), self._batch_size)
        return np.concatenate([np.asarray(run(crops[at : at + self._batch_size])) for at in starts])


class RawBatchEmbedder(BatchEmbedder):
    """A recogniser whose network gives vectors of a length of their own; a `RawEmbedder`."""

    _fixed: int | None = None
    """The only batch size that the network takes, for `fill_batch`; None takes any."""

    def _ask_network(self, fixed: Any) -> None:
        """Find by grey crops what a file may leave open: the length of the vectors, and whether it takes more than one.

        Args:
            fixed: Length of its batch axis as the file has it; what is no number above zero is open.
        """
        self._fixed = fixed if isinstance(fixed, int) and fixed > 0 else None
        self._batch_size = self._fixed or self._batch_size
        grey = np.full((2, self.layout.size, self.layout.size, 3), 128, dtype=np.uint8)
        self.dimension = int(self._run(grey[:1]).shape[1])
        if self._batch_size > 1 and not self._fixed:
            try:
                self._run(grey)
            except EmbedderError:  # some files leave the batch open, yet have a length in a layer
                self._fixed = self._batch_size = 1

    def embed_raw(self, crops: UInt8Array) -> FloatArray:
        """As `embed`, without scaling to unit length.

        Args:
            crops: `(N, S, S, 3)` uint8 RGB in `layout`; N may be 0.

        Returns:
            `(N, D)` float32, as long as the network makes them.

        Raises:
            InputError: If the crops have another shape or type.
            EmbedderError: If the network fails on them.
        """
        return self._vectors(crops, self._run_raw).astype(np.float32)

    def _run_raw(self, crops: UInt8Array) -> Any:
        """One batch through the network, without any scaling that it does itself."""
        return self._run(crops)


def fill_batch(crops: UInt8Array, size: int | None) -> UInt8Array:
    """Crops filled up with copies of the last one to the only batch size that a network takes; None takes any."""
    missing = 0 if size is None else size - len(crops)
    return np.concatenate([crops, np.repeat(crops[-1:], missing, axis=0)]) if missing else crops


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
