"""The configuration of the landmark network's training; read by `train.config.load_config` like the others."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from maskfix.align.landmark_network import NETWORKS
from maskfix.base import check_range
from maskfix.train.config import AveragedConfig, ViewConfig


@dataclass(frozen=True)
class LandmarkConfig(AveragedConfig):
    """The landmark network, which finds a hidden face in a crop cut askew.

    Attributes:
        shift: Farthest that a crop is moved along each axis, in pixels.
        turn: Farthest that it is turned, in degrees.
        scale: Largest logarithm of the factor that it is enlarged by.
        moves: How often each hidden face is moved.
        behind: Share of the faces that are hidden by something else than a mask.
        weight_decay: Of AdamW.
        views: How a face is varied besides; its own shift, turn and scale come on top.
    """

    network: str = NETWORKS[0]
    steps: int = 4000
    batch_size: int = 128
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    warmup: int = 100
    precision: str = "auto"
    shift: float = 18.0
    turn: float = 18.0
    scale: float = 0.32
    moves: int = 4
    behind: float = 0.12
    weight_decay: float = 0.02
    average: float = 0.995
    validate_every: int = 200
    views: ViewConfig = field(default_factory=lambda: ViewConfig(clean=0.13, shift=0.0, turn=0.0, scale=0.0))

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            InputError: As `AveragedConfig`; or if one of the numbers above is out of range.
        """
        super().__post_init__()
        check_range("behind", self.behind, 0, 1)
        check_range("scale", self.scale, 0, 2)
        check_range("moves", self.moves, 1, sys.maxsize)
        for name in ("shift", "turn", "weight_decay"):
            check_range(name, getattr(self, name), 0, sys.maxsize)

    @classmethod
    def networks(cls) -> tuple[str, ...]:
        """Names that `network` may have."""
        return NETWORKS

    @property
    def size(self) -> int:
        """Side of the canonical crops in pixels."""
        return 128
