"""The seam of recognisers that take arrays: callables, onnxruntime sessions, and maskfix's own embedders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskfix.base import BoolArray, CropLayout, FloatArray, InputError, UInt8Array, check_crops
from maskfix.embed import Embedder, unit_rows
from maskfix.embed.sessions import session_device, session_gpu
from maskfix.plugin.base import Completer, FaceCompletion, embed_by_mode, refuse_bypass
from maskfix.plugin.crops import CropFormat
from maskfix.plugin.last import LastResult

_CHUNK = 64

#: Ways besides `run` to run a session.
_RUNS = ("io_binding", "run_async", "run_with_iobinding", "run_with_ort_values", "run_with_ortvaluevector")


def completion_device(session: Any) -> str:
    """Where a session of onnxruntime runs, as torch calls it; the completion follows it there where torch can.

    onnxruntime-gpu is often installed beside a torch without CUDA.

    Args:
        session: An `InferenceSession`, or what has its `get_providers`.

    Returns:
        `cpu`, `cuda` (the first GPU) or `cuda:N`.
    """
    import torch

    number = session_gpu(session)
    return "cpu" if number is None or number >= torch.cuda.device_count() else session_device(session)


class _ArraySeam:
    """Arrays of crops in, completed for the recogniser behind.

    Args:
        completer: The network and its settings.
        form: How the crops are held.
    """

    def __init__(self, completer: Completer, form: CropFormat) -> None:
        self.completer = completer
        self.form = form
        self._last = LastResult()

    @property
    def last(self) -> tuple[FaceCompletion, ...]:
        """What is told of the faces of this thread's last call, a `FaceCompletion` each."""
        return self._last.faces

    def _run(
        self, batch: Any, landmarks: NDArray[Any] | None, call: Callable[[NDArray[Any]], Any], device: str | None
    ) -> Any:
        if not isinstance(batch, np.ndarray):
            raise InputError(f"crops: expected an array (N, 3, S, S), got {type(batch).__name__}")
        pictures = self.form.decode(batch)
        completed, result = self.form.complete(self.completer, pictures, landmarks, device)

        def embed(rows: BoolArray) -> Any:
            chosen = np.where(rows[:, None, None, None], completed, pictures)
            if self.form.colour == "grey":
                grey = self.form.encode_grey(chosen)
                # Whole numbers hold what a network takes only where that is bytes.
                fits = np.issubdtype(batch.dtype, np.floating) or self.form.network_range == "byte"
                return call(grey.astype(batch.dtype, copy=False) if fits else grey)
            return call(self.form.convert(self.form.encode(batch, pictures, chosen) if rows.any() else batch))

        output, faces = embed_by_mode(self.completer, result, embed)
        self._last.faces = tuple(faces)
        return output


class CompletedCallable(_ArraySeam):
    """A function from crops to embeddings with the completion before it.

    Args:
        function: Takes an array `(N, 3, S, S)` or `(N, S, S, 3)` as declared, gives `(N, D)`, or several outputs with
            the embedding last.
        completer: The network and its settings.
        form: How the crops are held.

    Attributes:
        inner: The function.
    """

    def __init__(self, function: Callable[..., Any], completer: Completer, form: CropFormat) -> None:
        super().__init__(completer, form)
        self.inner = function

    def __call__(self, crops: NDArray[Any], *args: Any, landmarks: NDArray[Any] | None = None, **kwargs: Any) -> Any:
        """Embed crops; other arguments are passed on.

        Args:
            crops: `(N, 3, S, S)` or `(N, S, S, 3)` as declared.
            args: Passed on.
            landmarks: `(N, 5, 2)` in pixels of the crops, where they are known.
            kwargs: Passed on.

        Raises:
            InputError: If shape or values are not as declared.
        """
        return self._run(crops, landmarks, lambda batch: self.inner(batch, *args, **kwargs), None)


class CompletedSession(_ArraySeam):
    """An onnxruntime session with the completion before its `run`; whatever runs it otherwise is refused.

    What does not run the network is passed through.

    Args:
        session: An `InferenceSession` with one input, the crops.
        completer: The network and its settings.
        form: How the crops are held.

    Attributes:
        inner: The session.
    """

    def __init__(self, session: Any, completer: Completer, form: CropFormat) -> None:
        super().__init__(completer, form)
        self.inner = session

    def __getattr__(self, name: str) -> Any:
        """Whatever the session has."""
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        if name in _RUNS:
            return refuse_bypass(name, "run")
        return getattr(self.inner, name)

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, NDArray[Any]], run_options: Any = None
    ) -> list[Any]:
        """Run the network on completed crops, as `InferenceSession.run`; in `fuse` the last output is the embedding.

        Raises:
            InputError: If there is more than one input, or shape or values are not as declared.
        """
        if len(input_feed) != 1:
            raise InputError(f"input_feed: expected the crops alone, got {', '.join(input_feed) or 'nothing'}")
        [(name, batch)] = input_feed.items()
        output = self._run(
            batch,
            None,
            lambda crops: self.inner.run(output_names, {name: crops}, run_options),
            completion_device(self.inner),
        )
        return list(output)


class CompletedEmbedder:
    """A recogniser of `maskfix.embed` with the completion before it; itself an `Embedder`.

    Args:
        embedder: The recogniser.
        completer: The network and its settings.

    Attributes:
        inner: The recogniser.
        name: Its name, and the mode.
        layout: Its layout.
        dimension: Length of its embedding.
        sha256: Hash of its weights.
    """

    def __init__(self, embedder: Embedder, completer: Completer) -> None:
        self.inner, self.completer = embedder, completer
        self.form = CropFormat(embedder.layout, "byte", "byte")
        self.name = f"{embedder.name}+maskfix-{completer.settings.mode}"
        self.layout: CropLayout = embedder.layout
        self.dimension: int = embedder.dimension
        self.sha256: str = embedder.sha256
        self._last = LastResult()

    @property
    def last(self) -> tuple[FaceCompletion, ...]:
        """What is told of the faces of this thread's last call, a `FaceCompletion` each."""
        return self._last.faces

    def embed(self, crops: UInt8Array) -> FloatArray:
        """Embed N crops.

        Args:
            crops: `(N, S, S, 3)` uint8 RGB in `layout`; N may be 0.

        Returns:
            `(N, dimension)` float32 of unit length.

        Raises:
            InputError: If the crops have another shape or type.
        """
        check_crops("crops", crops, self.layout.size)
        # The network's maps are several times the crops: held for all at once, they would take the memory.
        parts = [self._embed(crops[at : at + _CHUNK]) for at in range(0, max(len(crops), 1), _CHUNK)]
        self._last.faces = tuple(face for _, faces in parts for face in faces)
        output = np.concatenate([vectors for vectors, _ in parts])
        return unit_rows(output) if self.completer.settings.mode == "fuse" else output

    def _embed(self, crops: UInt8Array) -> tuple[FloatArray, list[FaceCompletion]]:
        """The vectors of some crops, and what is told of each."""
        completed, result = self.form.complete(self.completer, crops)

        def embed(rows: BoolArray) -> FloatArray:
            return self.inner.embed(np.where(rows[:, None, None, None], completed, crops) if rows.any() else crops)

        return embed_by_mode(self.completer, result, embed)
