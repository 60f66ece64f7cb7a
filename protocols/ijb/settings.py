"""How IJB-B and IJB-C are run, with the community's defaults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from maskfix.align import LandmarkDetector
from maskfix.base import InputError, check_choice, check_range
from maskfix.embed.base import Embedder, describe_embedder
from maskfix.occlude import PAPER_KINDS, Occluder, source_sha256
from maskfix.plugin.base import GATE_THRESHOLD
from maskfix.weights import WeightsRow
from protocols.base import Restorer
from protocols.pictures import methods_of

MODES = ("always", "gate")
"""What is done with a masked probe, see `FeatureSettings.mode`."""


@dataclass(frozen=True)
class FeatureSettings:
    """How the features of templates are made; a run can only be gone on with under the same.

    Attributes:
        detector_score: Weight rows by the detector's score ("D1"): for all methods that of the file, which is that of
            the clean picture, so that only pixels differ.
        flip: Add the embedding of the mirrored crop ("F1").
        keep_norm: Keep the length of each row's embedding ("N" of eval_ijbc.py) instead of bringing it to 1. ArcFace,
            ONNX, LightCNN and dlib recognisers give it (`embed.RawEmbedder`); FaceNet's and Human's networks give unit
            vectors, which leaves nothing of it but the length of the sum of both crops.
        kinds: Mask kinds to draw from, of those that the occluder has templates for.
        seed: Seed of the masks' kinds.
        mode: `always`: every probe is completed, also one that needs it not. `gate`: a probe of which the network takes
            no more than `threshold` for occluded stays as it is.
        threshold: Coverage of the canonical crop in [0, 1], for `gate`.
        fuse: Share of the completed face in the fused embedding, in [0, 1]; None leaves the fused method out.
        clean_completed: Whether clean probes go through the completion as well.
        batch_size: Units in a block, from 1 to 4096: what the networks are given at a time, and the step in which a run
            goes on.

    Raises:
        InputError: If something is out of range or unknown.
    """

    detector_score: bool = True
    flip: bool = True
    keep_norm: bool = True
    kinds: tuple[str, ...] = PAPER_KINDS
    seed: int = 0
    mode: str = "always"
    threshold: float = GATE_THRESHOLD
    fuse: float | None = None
    clean_completed: bool = False
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Refuse what is out of range or unknown."""
        check_choice("mode", self.mode, MODES)
        check_range("threshold", self.threshold, 0, 1)
        check_range("batch size", self.batch_size, 1, 4096)
        if self.fuse is not None:
            check_range("fuse", self.fuse, 0, 1)
        if not self.kinds:
            raise InputError("kinds: expected at least one mask kind to draw from, got none")

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that are measured: those of `protocols.METHODS` that are asked for."""
        return methods_of(self.fuse, self.clean_completed)


@dataclass(frozen=True)
class IjbSettings:
    """How IJB-B or IJB-C is run.

    Attributes:
        features: How the features of templates are made.
        drop_failed: Leave out pairs in which anything failed, as published tables seem to do, instead of counting them
            as non-matches.
        replicates: Draws of the subject bootstrap; 0 for no intervals.
        save_seconds: Seconds between two savings of what is done.
        workers: Threads that read and mask pictures.

    Raises:
        InputError: If a number is out of range.
    """

    features: FeatureSettings = field(default_factory=FeatureSettings)
    drop_failed: bool = False
    replicates: int = 1000
    save_seconds: float = 60.0
    workers: int = 2

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        check_range("replicates", self.replicates, 0, 1_000_000)
        check_range("save seconds", self.save_seconds, 0, 86_400)
        check_range("workers", self.workers, 1, 256)


@dataclass(frozen=True)
class IjbParts:
    """What a run is made of.

    Attributes:
        detector: Finds mask points, and all points where a layout has none.
        occluder: Puts the masks on.
        restorer: Completes photographs.
        weights: Where the restorer's weights come from; their hash is part of what a run is known by.
        embedders: Recognisers; they share masks and completions.
    """

    detector: LandmarkDetector
    occluder: Occluder
    restorer: Restorer
    weights: WeightsRow
    embedders: Sequence[Embedder]


def describe_run(parts: IjbParts, settings: FeatureSettings) -> dict[str, Any]:
    """All that features depend on but the data, for a run to be known by: plain values for JSON."""
    return {
        **{f"setting {name}": _plain(value) for name, value in asdict(settings).items()},
        "weights": parts.weights.sha256,
        "recognisers": [describe_embedder(embedder) for embedder in parts.embedders],
        "detector": f"{parts.detector.name} {parts.detector.version}",
        "masks": parts.occluder.source.name,
        "mask templates": source_sha256(parts.occluder.source),
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
