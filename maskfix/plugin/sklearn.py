"""Completion and recognition as scikit-learn transformers, for pipelines over stacks of crops.

A `Deoccluder` is a step of a pipeline as it stands. `DeoccluderTransformer` is an estimator by the book: it has
parameters to search over, modes, and is cloned by its weights' name. `EmbedderTransformer` makes the rows of numbers
that scikit-learn's own estimators want.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from maskfix.align import fit_layout, warp
from maskfix.base import BoolArray, CropLayout, FloatArray, InputError, UInt8Array, canonical_layout, check_crops
from maskfix.deocclude import Deoccluder
from maskfix.embed import Embedder, load
from maskfix.plugin.base import GATE_THRESHOLD, Completer, FaceCompletion, SeamResult, SeamSettings, embed_by_mode

__all__ = ["DeoccluderTransformer", "EmbedderTransformer"]

_CHUNK = 64


class _CropTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What both transformers share: their input is a stack of pictures, not a table."""

    _preserves: tuple[str, ...] = ()

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that the input is no table, and which types come out as they went in."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.transformer_tags.preserves_dtype = list(self._preserves)
        return tags


class DeoccluderTransformer(_CropTransformer):
    """Completes occluded faces: canonical crops in, canonical crops out.

    Args:
        weights: Name or path of the weights, or a Deoccluder.
        mode: `gate`: only faces whose coverage exceeds the threshold; `always`: every face; `observe`: none.
            `fuse` mixes embeddings: see `EmbedderTransformer`.
        threshold: Coverage in [0, 1] above which a face counts as occluded.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Attributes:
        completer_: The network and its settings, after `fit`.

    Example:
        >>> from maskfix.restore import create_network
        >>> blind = Deoccluder(create_network("cadf_small_128"), device="cpu")
        >>> crops = np.zeros((2, 128, 128, 3), np.uint8)
        >>> DeoccluderTransformer(blind).fit_transform(crops).shape
        (2, 128, 128, 3)
    """

    _preserves = ("uint8",)
    completer_: Completer

    def __init__(
        self,
        weights: str | Path | Deoccluder = "cadf_small_128",
        mode: str = "gate",
        threshold: float = GATE_THRESHOLD,
        device: str = "auto",
    ) -> None:
        self.weights = weights
        self.mode = mode
        self.threshold = threshold
        self.device = device

    def fit(self, X: UInt8Array, y: Any = None) -> Self:  # noqa: N803 - scikit-learn's name
        """Check the settings and load the network; nothing is learned.

        Args:
            X: `(N, S, S, 3)` uint8 RGB in the canonical layout.
            y: Ignored.

        Raises:
            InputError: If the crops or a setting are wrong.
            WeightsError: If the weights are missing or damaged.
        """
        if self.mode == "fuse":
            raise InputError("mode: 'fuse' mixes embeddings; use EmbedderTransformer(weights=..., mode='fuse')")
        completer = Completer(self.weights, SeamSettings(self.mode, self.threshold), self.device)
        check_crops("X", X, completer.deoccluder().size)
        self.completer_ = completer
        return self

    def transform(self, X: UInt8Array) -> UInt8Array:  # noqa: N803
        """Complete crops, some at a time: their maps of a whole data set would take eight times its memory.

        Args:
            X: `(N, S, S, 3)` uint8 RGB in the canonical layout.

        Returns:
            `(N, S, S, 3)` uint8 RGB, always a new array; faces that are not completed are those of the input, to the
            bit.

        Raises:
            NotFittedError: Before `fit`.
            InputError: If the crops are wrong.
        """
        check_is_fitted(self)
        check_crops("X", X, self.completer_.layout.size)
        images = X.copy()
        for start in range(0, len(X), _CHUNK):
            images[start : start + _CHUNK] = self.complete(X[start : start + _CHUNK]).images
        return images

    def complete(self, X: UInt8Array) -> SeamResult:  # noqa: N803
        """As `transform`, with occlusion maps and coverage; also of faces that the mode leaves alone.

        Raises:
            NotFittedError: Before `fit`.
            InputError: If the crops are wrong.
        """
        check_is_fitted(self)
        return self.completer_.complete(X)


class EmbedderTransformer(ClassNamePrefixFeaturesOutMixin, _CropTransformer):  # type: ignore[misc]
    """Embeds faces: canonical crops in, a row of unit length a face out. Completes them first where weights are given.

    Args:
        embedder: Recogniser: a spec, see `maskfix.embed.load`, or an Embedder.
        weights: Completing network: name or path of weights, or a Deoccluder; none when None (after a
            `DeoccluderTransformer`, for one).
        mode: `gate`, `always`, `observe` or `fuse`, see `maskfix.plugin.base.SeamSettings`.
        threshold: Coverage in [0, 1] above which a face counts as occluded.
        share: Share of the completed face in `fuse`, in [0, 1].
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Attributes:
        embedder_: The recogniser, after `fit`.
        completer_: The completing network and its settings, or None, after `fit`.
    """

    embedder_: Embedder
    completer_: Completer | None

    def __init__(
        self,
        embedder: str | Embedder = "dlib",
        weights: str | Path | Deoccluder | None = None,
        mode: str = "gate",
        threshold: float = GATE_THRESHOLD,
        share: float = 0.75,
        device: str = "auto",
    ) -> None:
        self.embedder = embedder
        self.weights = weights
        self.mode = mode
        self.threshold = threshold
        self.share = share
        self.device = device

    def fit(self, X: UInt8Array, y: Any = None) -> Self:  # noqa: N803
        """Check the settings and load the networks; nothing is learned.

        Args:
            X: `(N, S, S, 3)` uint8 RGB in the canonical layout, of any size where no weights are given.
            y: Ignored.

        Raises:
            InputError: If the crops or a setting are wrong.
            EmbedderError: If the recogniser is unknown or cannot be loaded.
            WeightsError: If the weights are missing or damaged.
        """
        settings = SeamSettings(self.mode, self.threshold, self.share)
        completer = None if self.weights is None else Completer(self.weights, settings, self.device)
        check_crops("X", X, completer.deoccluder().size if completer else None)
        embedder = load(self.embedder, self.device) if isinstance(self.embedder, str) else self.embedder
        if not isinstance(embedder, Embedder):
            raise InputError(f"embedder: expected a spec or an Embedder, got {type(embedder).__name__}")
        self.embedder_ = embedder
        self.completer_ = completer
        return self

    def transform(self, X: UInt8Array) -> FloatArray:  # noqa: N803
        """Embed crops, some at a time, as `DeoccluderTransformer.transform` completes them.

        Args:
            X: `(N, S, S, 3)` uint8 RGB in the canonical layout.

        Returns:
            `(N, D)` float32 of unit length.

        Raises:
            NotFittedError: Before `fit`.
            InputError: If the crops are wrong.
        """
        check_is_fitted(self)
        check_crops("X", X)
        parts = [self.embed(X[start : start + _CHUNK])[0] for start in range(0, max(len(X), 1), _CHUNK)]
        return np.concatenate(parts)

    @property
    def _n_features_out(self) -> int:
        """Length of a row, for the names of columns (`set_output`)."""
        return self.embedder_.dimension

    def embed(self, X: UInt8Array) -> tuple[FloatArray, list[FaceCompletion]]:  # noqa: N803
        """As `transform`, with what was made of each face (nothing where no weights are given).

        Raises:
            NotFittedError: Before `fit`.
            InputError: If the crops are wrong.
        """
        check_is_fitted(self)
        check_crops("X", X)
        if self.completer_ is None:
            return self._embed(X), []
        result = self.completer_.complete(X)

        def embed(faces: BoolArray) -> FloatArray:
            return self._embed(np.where(faces[:, None, None, None], result.completion.images, X))

        vectors, told = embed_by_mode(self.completer_, result, embed)
        return np.asarray(vectors, np.float32), told

    def _embed(self, crops: UInt8Array) -> FloatArray:
        return self.embedder_.embed(recogniser_crops(crops, self.embedder_.layout))


def recogniser_crops(crops: UInt8Array, layout: CropLayout) -> UInt8Array:
    """Canonical crops as a recogniser wants them.

    Args:
        crops: `(N, S, S, 3)` uint8 RGB in the canonical layout.
        layout: The recogniser's crop, T pixels a side.

    Returns:
        `(N, T, T, 3)` uint8 RGB; what the canonical crop does not show is black.

    Raises:
        InputError: If type or shape differ.
    """
    check_crops("crops", crops)
    size = layout.size
    if len(crops) == 0:
        return np.zeros((0, size, size, 3), np.uint8)
    matrix: NDArray[np.float64] = fit_layout(canonical_layout(crops.shape[1]).array, layout)
    return np.stack([warp(crop, matrix, size) for crop in crops])
