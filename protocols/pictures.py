"""What goes into the pass over the pictures and what comes out of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskfix.base import BoolArray, DoubleArray, FloatArray, Landmarks, UInt8Array, check_choice, check_range
from maskfix.occlude import PAPER_KINDS, OcclusionRecord

METHODS = ("clean", "masked", "completed", "refined", "fused", "clean_completed")
"""What a probe can have gone through; gallery pictures are always clean."""

ALIGNMENTS = ("clean", "masked")
"""Which picture of a masked probe gives the landmarks that it is cut out by, see `ProbeSettings.align`."""


def methods_of(fuse: float | None, clean_completed: bool, align: str = "clean") -> tuple[str, ...]:
    """Those of `METHODS` that a run measures.

    Args:
        fuse: Share of the completed face in the fused embedding; without it there is no fused method.
        clean_completed: Whether clean probes are completed as well.
        align: One of `ALIGNMENTS`; landmarks are refined where the masked picture gives them.

    Example:
        >>> methods_of(None, clean_completed=False)
        ('clean', 'masked', 'completed')
        >>> methods_of(None, clean_completed=False, align="masked")
        ('clean', 'masked', 'completed', 'refined')
    """
    absent = {"refined": align == "clean", "fused": fuse is None, "clean_completed": not clean_completed}
    return tuple(method for method in METHODS if not absent.get(method))


PROBE_ROLE = "probe"
"""Role in the draw of the masks: a picture wears one mask as a probe, in whatever pair it occurs."""

FIGURES = (
    "coverage",
    "true_coverage",
    "clean_coverage",
    "clean_psnr",
    "psnr",
    "psnr_inside",
    "ssim",
    "sharpness",
    "masked_psnr",
    "masked_psnr_inside",
    "masked_ssim",
)
"""Figures of each probe, see `EmbeddedPictures.figures`."""


@dataclass(frozen=True)
class ProbeSettings:
    """How the probes are made.

    Attributes:
        seed: Seed of the masks' kinds.
        batch_size: Photographs handed on at a time, from 1 to 4096.
        clean_completed: Whether clean probes go through the completion as well.
        kinds: Mask kinds to draw from, of those that the occluder has templates for.
        workers: Threads that read and mask photographs while the networks run.
        fuse: Share of the completed face in the fused embedding, in [0, 1]; the rest is the masked face's. None leaves
            the fused method out. Choose it on other data than is tested on. Where there is a refined method, its face
            is the completed one.
        align: `clean`: masked and completed probes are cut out by the landmarks of the clean photograph, so that only
            pixels differ between methods, as papers have it. `masked`: by those that a detector finds on the masked
            photograph, as it is in use; a probe on which it finds no face has no embedding. The method `refined` then
            is the completion made and cut out by landmarks found again on the completed photograph
            (`maskfix.Deoccluder.refine`), and has the probes whose face is found by its completion alone
            (`maskfix.Deoccluder.find_hidden`); these count in the fused method as they are.
    """

    seed: int = 0
    batch_size: int = 32
    clean_completed: bool = True
    kinds: tuple[str, ...] = PAPER_KINDS
    workers: int = 2
    fuse: float | None = None
    align: str = "clean"

    def __post_init__(self) -> None:
        """Refuse sizes out of range and an unknown alignment.

        Raises:
            InputError: If something is out of range.
        """
        check_range("batch size", self.batch_size, 1, 4096)
        check_range("workers", self.workers, 1, 256)
        if self.fuse is not None:
            check_range("fuse", self.fuse, 0, 1)
        check_choice("align", self.align, ALIGNMENTS)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that a run with these settings measures."""
        return methods_of(self.fuse, self.clean_completed, self.align)


class Pictures(NamedTuple):
    """M pictures to embed.

    Attributes:
        ids: Id of each picture, the key of its mask.
        paths: File of each picture.
        landmarks: Landmarks of each picture.
        probe: Whether a picture is a probe of some pair, `(M,)` bool; the others are needed clean only.
    """

    ids: Sequence[str]
    paths: Sequence[Path]
    landmarks: Sequence[Landmarks]
    probe: BoolArray


class Example(NamedTuple):
    """One probe for the panel, cut to the canonical crop of the completing network, S x S.

    Attributes:
        picture: Row of the picture.
        kind: The mask drawn for it.
        clean: `(S, S, 3)` uint8 RGB.
        masked: `(S, S, 3)` uint8 RGB.
        completed: `(S, S, 3)` uint8 RGB, what the network made of the masked crop.
        occlusion: `(S, S)` float32 in [0, 1].
        uv: `(S, S, 2)` float32 in [0, 1].
    """

    picture: int
    kind: str
    clean: UInt8Array
    masked: UInt8Array
    completed: UInt8Array
    occlusion: FloatArray
    uv: FloatArray


@dataclass
class EmbeddedPictures:
    """What the pass over M pictures gave.

    Attributes:
        vectors: For each embedder, the embedding of each picture under each method, `(M, D)` float32; rows where
            `valid` is False are zero.
        valid: For each embedder and method, which rows hold an embedding, `(M,)` bool.
        face: Whether a face was found, `(M,)` bool.
        unmasked: Probes with a face on which the mask could not be put; they go on without one. `(M,)` bool.
        figures: Figures of each probe, `(M,)` float64, nan where there is none. Of the masked crop: `true_coverage`
            (share under the mask), `coverage` (share that the network took for occluded). Of the completed crop against
            the clean one: `psnr`, `psnr_inside` (under the mask only), `ssim`; of the masked crop against the clean
            one: the same with `masked_`; `sharpness`, the variance of the Laplacian under the mask over that of the
            clean crop. Of the clean crop: `clean_coverage`, what the network took for occluded, and `clean_psnr`, after
            completion against before (inf where nothing changed).
        records: What was put on each probe, in the order of the pictures.
        examples: The probes asked for, in the order asked.
        counts: Crops that each method embedded (once for all recognisers), `faces completed`, and, where the masked
            pictures give the landmarks, `masked without a face`, and how many of these are `masked, found by
            completion`; also `masked by the points of an average face`, where two detectors mean different faces.
        seconds: Wall time of each stage.
    """

    vectors: list[dict[str, FloatArray]]
    valid: list[dict[str, BoolArray]]
    face: BoolArray
    unmasked: BoolArray
    figures: dict[str, DoubleArray]
    records: list[OcclusionRecord] = field(default_factory=list)
    examples: list[Example] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def empty(cls, face: BoolArray, methods: Sequence[str], dimensions: Sequence[int]) -> EmbeddedPictures:
        """Room for the results of M pictures.

        Args:
            face: Whether a face was found, `(M,)` bool.
            methods: Names of the methods.
            dimensions: Length of the vectors of each embedder.
        """
        count = len(face)
        return cls(
            vectors=[
                {method: np.zeros((count, length), dtype=np.float32) for method in methods} for length in dimensions
            ],
            valid=[{method: np.zeros(count, dtype=np.bool_) for method in methods} for _ in dimensions],
            face=face,
            unmasked=np.zeros(count, dtype=np.bool_),
            figures={name: np.full(count, np.nan) for name in FIGURES},
        )


class Clock:
    """Adds the wall time of a block to a table of seconds.

    Example:
        >>> seconds = {}
        >>> with Clock(seconds, "embed"):
        ...     pass
        >>> list(seconds)
        ['embed']
    """

    def __init__(self, seconds: dict[str, float], stage: str) -> None:
        self.seconds, self.stage = seconds, stage

    def __enter__(self) -> None:
        """Start."""
        self.start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        """Add the time since the start, also after an error."""
        self.seconds[self.stage] = self.seconds.get(self.stage, 0.0) + time.perf_counter() - self.start


def summarise(figures: Mapping[str, DoubleArray]) -> dict[str, float | None]:
    """Mean of each figure over the probes that have one; infinite values (a crop equal to the clean one) are left out.

    Two figures are pooled otherwise: `sharpness` is a ratio, of which the median is taken; `clean_psnr` is that of the
    mean squared error over all probes, untouched ones included, since most are untouched.

    Args:
        figures: `(M,)` each, nan where a picture has none.

    Returns:
        Means, None where no probe has the figure.

    Example:
        >>> summarise({"psnr": np.array([20.0, np.nan, np.inf, 30.0]), "ssim": np.array([np.nan])})
        {'psnr': 25.0, 'ssim': None}
        >>> summarise({"clean_psnr": np.array([np.inf, 20.0, np.nan]), "sharpness": np.array([0.5, 9.0, 1.0])})
        {'clean_psnr': 23.010299956639813, 'sharpness': 1.0}
    """
    return {name: _pool(name, values) for name, values in figures.items()}


def _pool(name: str, values: DoubleArray) -> float | None:
    """One figure of all probes."""
    finite = values[np.isfinite(values)]
    if name == "clean_psnr" and len(finite):
        # A probe that nothing changed has an infinite ratio and no error.
        known = values[~np.isnan(values)]
        return float(-10 * np.log10(np.mean(10 ** (-known / 10))))
    if name == "sharpness" and len(finite):
        return float(np.median(finite))
    return float(finite.mean()) if len(finite) else None
