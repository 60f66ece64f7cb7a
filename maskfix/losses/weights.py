"""Weights and options of the objective; the defaults are the paper's."""

from __future__ import annotations

import math
from dataclasses import dataclass

from maskfix.base import InputError, check_choice
from maskfix.losses.identity import IDENTITY_FORMS, IdentityForm


@dataclass(frozen=True)
class ObjectiveWeights:
    """Weights and options of the objective; the defaults are the paper's (section 3.4).

    A term of weight 0 is not computed.

    Attributes:
        reconstruction: Weight of eq. 10.
        correspondence: Weight of eq. 9.
        style: Weight of eq. 11.
        identity: Weight of eq. 12.
        occlusion: Weight of the occlusion head's loss, which the paper does not have.
        structure_scales: The set P of eq. 15; 1 is the outermost, finest layer.
        texture_scales: The set Q of eq. 15.
        occluded_weight: How much more a fully occluded pixel weighs than a visible one in eq. 10; 1 is the paper.
        occlusion_dice: Weight of the soft Dice term inside the occlusion loss.
        identity_form: "l2" (eq. 12) or "cosine".
        texture_samples: Only the first so many rows of a batch get texture terms; all when None.
        perceptual: Weight of the perceptual loss, which section 3.4 names without a weight; on the style term's maps.
        contrast: Weight of InfoNCE (eq. 1) on identity embeddings, which the paper does not have: a completed face has
            to find its own clean one among strangers. The cosine counts what all faces share as well.
        contrast_temperature: Of that term.
    """

    reconstruction: float = 6.0
    correspondence: float = 0.1
    style: float = 240.0
    identity: float = 0.1
    occlusion: float = 1.0
    structure_scales: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    texture_scales: tuple[int, ...] = (1, 2, 3)
    occluded_weight: float = 1.0
    occlusion_dice: float = 0.0
    identity_form: IdentityForm = "l2"
    texture_samples: int | None = None
    perceptual: float = 0.0
    contrast: float = 0.0
    contrast_temperature: float = 0.07

    def __post_init__(self) -> None:
        """Refuse weights and scales that mean nothing.

        Raises:
            InputError: On a negative or infinite weight, an empty, repeated or non-positive scale, an unknown identity
                form, a temperature that is not positive, or fewer than 1 texture sample.
        """
        for name in (
            "reconstruction",
            "correspondence",
            "style",
            "perceptual",
            "identity",
            "contrast",
            "occlusion",
            "occluded_weight",
            "occlusion_dice",
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"objective weight {name!r}: expected a finite number of at least 0, got {value}")
        for name in ("structure_scales", "texture_scales"):
            scales = getattr(self, name)
            if not scales or min(scales) < 1 or len(set(scales)) != len(scales):
                raise InputError(f"{name}: expected distinct scales from 1 (finest) on, got {scales}")
        check_choice("identity form", self.identity_form, IDENTITY_FORMS)
        if not (math.isfinite(self.contrast_temperature) and self.contrast_temperature > 0):
            raise InputError(f"contrast_temperature: expected a finite number above 0, got {self.contrast_temperature}")
        if self.texture_samples is not None and self.texture_samples < 1:
            raise InputError(f"texture_samples: expected at least 1, or None for all, got {self.texture_samples}")


PAPER_WEIGHTS = ObjectiveWeights()
"""The paper's weights and scales, with the occlusion head's loss at 1."""
