"""What every seam shares: modes, the completing network behind them, what is told of a face, embeddings mixed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from maskfix.align import LandmarkReader
from maskfix.base import (
    BoolArray,
    Completion,
    CropLayout,
    FloatArray,
    InputError,
    UInt8Array,
    check_choice,
    check_range,
    resolve_device,
)
from maskfix.deocclude import Deoccluder, Recut
from maskfix.plugin.outputs import embedding_of, mix_embeddings, rebuild, without_graph

MODES = ("gate", "always", "observe", "fuse")
"""What a seam does with a face, see `SeamSettings.mode`."""

GATE_THRESHOLD = 0.04
"""Coverage of the canonical crop above which a face counts as occluded."""

_WEIGHTS = "cadf_small_128"


@dataclass(frozen=True)
class SeamSettings:
    """How a seam treats faces.

    Attributes:
        mode: `gate`: a face whose coverage exceeds the threshold is completed, any other passes untouched, to the bit;
            one that the network's early look takes for surely clean costs a fraction of the network.
            `always`: every face is completed. `observe`: the recogniser is given what it was given before; the
            embedding of the completed face is computed besides, and both are kept. `fuse`: as `gate`, but an occluded
            face gets a mixture of the embeddings of the completed and the original face.
        threshold: Coverage in [0, 1] (occluded share of the canonical crop) above which a face counts as occluded.
        share: Share of the completed face in `fuse`, in [0, 1].
        refine: Whether the landmarks of occluded faces, which a detector can only guess, are read anew
            (`Deoccluder.reader`), and the faces completed, and where the seam cuts them out also cut, by these.

    Raises:
        InputError: If the mode is unknown or a number is out of range.

    Example:
        >>> SeamSettings("always").threshold == GATE_THRESHOLD
        True
    """

    mode: str = "gate"
    threshold: float = GATE_THRESHOLD
    share: float = 0.75
    refine: bool = True

    def __post_init__(self) -> None:
        """Refuse unknown modes and numbers out of range."""
        check_choice("mode", self.mode, MODES)
        check_range("threshold", self.threshold, 0, 1)
        check_range("share", self.share, 0, 1)
        check_choice("refine", self.refine, (True, False))


class SeamResult(NamedTuple):
    """What a seam made of N canonical crops.

    Attributes:
        images: `(N, S, S, 3)` uint8 RGB: the completed crop where `used`, elsewhere the very input.
        completion: What the network made of every crop, used or not.
        used: Which faces are completed, `(N,)` bool; none in `observe`.
        early: Of which faces the early look alone decided that they are clean, `(N,)` bool; none when None. Their
            completion is the one that `Deoccluder.complete_unless_clean` describes.
    """

    images: UInt8Array
    completion: Completion
    used: BoolArray
    early: BoolArray | None = None


@dataclass(frozen=True, eq=False)
class FaceCompletion:
    """What is told of one face; insightface's faces carry it as `face.completion`.

    Attributes:
        occlusion: Probability that a pixel of the canonical crop was occluded, `(S, S)` float32 in [0, 1]; where
            `early`, the early look's estimate, one for every 16 pixels.
        coverage: Occluded share of the canonical crop, in [0, 1]; where `early`, the mean of that estimate.
        occluded: Whether the coverage exceeds the threshold.
        used: Whether the recogniser was given the completed face.
        crop: The completed canonical crop, `(S, S, 3)` uint8 RGB; where `early`, the crop as it was.
        mode: Mode of the seam.
        original: Embedding of the face as it was, without gradients; in `observe` and `fuse` only, elsewhere None.
        completed: Embedding of the completed face; likewise.
        early: Whether the early look alone decided that the face is clean: nothing was decoded. In `gate` only.
        landmarks: The five points that the completed face was cut out by, `(5, 2)` in pixels of the photograph, where
            they were found again after completion; None where the detector's own were kept.
    """

    # Printed, a face should tell in a line what was done with it, not its pixels.
    occlusion: FloatArray = field(repr=False)
    coverage: float
    occluded: bool
    used: bool
    crop: UInt8Array = field(repr=False)
    mode: str
    original: Any = field(default=None, repr=False)
    completed: Any = field(default=None, repr=False)
    early: bool = False
    landmarks: FloatArray | None = field(default=None, repr=False)

    @property
    def crop_bgr(self) -> UInt8Array:
        """The completed crop in OpenCV's order, `(S, S, 3)` uint8."""
        return np.ascontiguousarray(self.crop[..., ::-1])


class Completer:
    """A completing network with the settings of a seam.

    The network is loaded on first use, once a device. Several threads may share one Completer. Pickled, it takes the
    weights' name or path along and loads them where it is unpickled (a Deoccluder handed over by the caller travels
    whole). After a fork it goes on working in the child, with one thread of torch, as PyTorch's own data loaders do:
    the threads of the parent are not copied. CUDA survives no fork; start processes with `spawn` there.

    Args:
        deoccluder: Name or path of the weights, or a Deoccluder, which stays on its device; `cadf_small_128` when None.
        settings: How faces are treated; `SeamSettings()` when None.
        device: `cpu`, `cuda`, `cuda:N`, or `auto`, which follows the wrapped recogniser.

    Raises:
        InputError: If the device is not there.

    Attributes:
        settings: How faces are treated.

    Example:
        >>> from maskfix.restore import create_network
        >>> completer = Completer(Deoccluder(create_network("cadf_small_128"), device="cpu"), SeamSettings("always"))
        >>> completer.complete(np.zeros((2, 128, 128, 3), np.uint8)).used.tolist()
        [True, True]
    """

    def __init__(
        self,
        deoccluder: Deoccluder | str | Path | None = None,
        settings: SeamSettings | None = None,
        device: str = "auto",
    ) -> None:
        if device != "auto":
            resolve_device(device)
        self.settings = settings or SeamSettings()
        self._source = _WEIGHTS if deoccluder is None else deoccluder
        self._device = device
        self._start()

    def _start(self) -> None:
        """What belongs to this process alone."""
        self._loaded: dict[str, Deoccluder] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: no network, no lock."""
        return {"settings": self.settings, "source": self._source, "device": self._device}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over what was pickled; the network is loaded on first use."""
        self.settings, self._source, self._device = state["settings"], state["source"], state["device"]
        self._start()

    def deoccluder(self, device: str | None = None) -> Deoccluder:
        """The network, loaded now if it is not yet.

        Args:
            device: Where the wrapped recogniser runs; counts where the Completer was made with `auto`.

        Raises:
            WeightsError: If the weights are missing or damaged.
            InputError: If the device is not there.
        """
        if os.getpid() != self._process:
            self._after_fork()
        if isinstance(self._source, Deoccluder):
            return self._source
        place = resolve_device(device or "auto" if self._device == "auto" else self._device)
        with self._lock:
            if place not in self._loaded:
                self._loaded[place] = Deoccluder.from_pretrained(self._source, device=place)
            return self._loaded[place]

    def _after_fork(self) -> None:
        """Make the copy in a forked process usable: no thread of the parent lives here, its locks may be held."""
        torch.set_num_threads(1)
        self._lock = threading.Lock()
        self._process = os.getpid()

    @property
    def layout(self) -> CropLayout:
        """The canonical crop of the network; loads it."""
        return self.deoccluder().layout

    def complete(self, crops: UInt8Array, device: str | None = None, recut: Recut | None = None) -> SeamResult:
        """Complete canonical crops, in one call of the network for up to the Deoccluder's batch size.

        In `gate`, faces that the network's early look takes for surely clean pass without being decoded: where the
        network has an early look, and the threshold is no lower than the coverage that it calls clean. Elsewhere the
        whole network decides, as it does in the other modes.

        Args:
            crops: `(N, S, S, 3)` uint8 RGB in the network's canonical layout; N may be 0.
            device: As `deoccluder`.
            recut: Cuts the crops of faces that may be occluded anew before they are completed: all faces, save those
                that are surely clean.

        Raises:
            InputError: If type, shape or size differ.
            WeightsError: If the weights are missing or damaged.
        """
        blind = self.deoccluder(device)
        early: BoolArray | None = None
        if self.may_look_early(blind):
            completion, early = blind.complete_unless_clean(crops, recut)
        else:
            every = np.ones(len(crops), np.bool_)
            completion = blind.complete(recut(every) if recut is not None and len(crops) else crops)
        used = self.used(completion.coverage)
        images = np.where(used[:, None, None, None], completion.images, crops) if used.any() else crops
        return SeamResult(images, completion, used, early)

    def reader(self, device: str | None = None) -> LandmarkReader | None:
        """What reads the landmarks of occluded faces anew; None where the settings or the Deoccluder do without.

        Args:
            device: As `deoccluder`.

        Raises:
            WeightsError: If weights are missing or damaged.
        """
        return self.deoccluder(device).reader if self.settings.refine else None

    def may_look_early(self, blind: Deoccluder) -> bool:
        """Whether a face that the early look calls clean would surely pass the gate by the whole network as well."""
        clean = blind.clean_coverage
        return self.settings.mode == "gate" and clean is not None and clean <= self.settings.threshold

    def occluded(self, coverage: NDArray[Any]) -> BoolArray:
        """Which faces of these coverages count as occluded."""
        return np.asarray(coverage) > self.settings.threshold

    def used(self, coverage: NDArray[Any]) -> BoolArray:
        """Which faces of these coverages are completed, by the mode."""
        fixed = {"always": True, "observe": False}.get(self.settings.mode)
        return self.occluded(coverage) if fixed is None else np.full(len(coverage), fixed)

    def describe(self, result: SeamResult, original: Any = None, completed: Any = None) -> list[FaceCompletion]:
        """What is told of each of N faces.

        Args:
            result: What `complete` returned.
            original: Embeddings of the faces as they were, N rows, or None.
            completed: Embeddings of the completed faces, N rows, or None.
        """
        completion, mode = result.completion, self.settings.mode
        occluded = self.occluded(completion.coverage)
        return [
            FaceCompletion(
                occlusion=completion.occlusion[i].copy(),
                coverage=float(completion.coverage[i]),
                occluded=bool(occluded[i]),
                used=bool(result.used[i]),
                crop=completion.images[i].copy(),
                mode=mode,
                original=None if original is None else without_graph(original[i]),
                completed=None if completed is None else without_graph(completed[i]),
                early=False if result.early is None else bool(result.early[i]),
            )
            for i in range(len(result.used))
        ]


Embed = Callable[[BoolArray], Any]
"""Embeds a batch with the faces of a mask `(N,)` completed; a mask without any must be the library's own path."""


def embed_by_mode(completer: Completer, result: SeamResult, embed: Embed) -> tuple[Any, list[FaceCompletion]]:
    """Embed a batch as the mode says.

    Args:
        completer: Holds the settings.
        result: What it made of the batch.
        embed: Embeds the batch with the faces of a mask completed. It returns N rows (an array or tensor), or a tuple
            of several outputs, the last of which is the embedding.

    Returns:
        What the recogniser's caller gets, and what is told of each face.
    """
    mode, used = completer.settings.mode, result.used
    if mode in ("gate", "always"):
        return embed(used), completer.describe(result)
    nothing, count = np.zeros_like(used), len(used)
    original = embed(nothing)
    before = embedding_of(original, count)
    if mode == "observe":
        return original, completer.describe(result, before, embedding_of(embed(~nothing), count))
    if not used.any():
        return original, completer.describe(result, before)
    completed = embed(used)
    after = embedding_of(completed, count)
    mixed = mix_embeddings(before, after, completer.settings.share, used)
    faces = completer.describe(result, before, after)
    return rebuild(completed, [*completed[:-1], mixed]) if isinstance(completed, (tuple, list)) else mixed, faces


def refuse_bypass(name: str, instead: str) -> Callable[..., Any]:
    """What stands for a method of a wrapped recogniser that embeds and that no completion comes before.

    Args:
        name: The method.
        instead: The one that completes.

    Returns:
        Takes anything and raises `InputError`: an embedding without completion, and without a word, would be worse.
    """

    def refused(*_: Any, **__: Any) -> Any:
        raise InputError(f"{name}: nothing is completed before it; call {instead}, or inner.{name} to do without")

    return refused
