"""Occlusion head's loss: the one addition to the paper's objective, which never says where the mask is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maskfix.base import check_range, check_shape
from maskfix.losses.precision import check_alike, full_precision, widen


def occlusion_loss(logits: Tensor, mask: Tensor, dice: float = 0.0) -> Tensor:
    """Binary cross-entropy of occlusion logits, plus an optional soft Dice term. Not in the paper.

    Args:
        logits: `(N, 1, h, w)`, any range.
        mask: `(N, 1, h, w)` bool or float in [0, 1]: the occluder's opacity.
        dice: Weight of `dice_loss`, at least 0; it counters that most pixels are visible.

    Returns:
        Scalar, at least 0, lower is better.

    Raises:
        InputError: If the shapes do not fit or `dice` is negative.
    """
    check_range("dice", dice, 0.0, float("inf"))
    check_shape("logits", logits, (None, 1, None, None))
    check_alike("logits", logits, "mask", mask)
    with full_precision(logits):
        logits = widen(logits)
        mask = widen(mask).to(logits.dtype)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, mask)
        return loss + dice * dice_loss(logits.sigmoid(), mask) if dice > 0 else loss


def dice_loss(probability: Tensor, mask: Tensor, smooth: float = 1.0) -> Tensor:
    """Soft Dice loss with squared sums, which is 0 at equality also for masks between 0 and 1. Not in the paper.

    Args:
        probability: `(N, 1, h, w)` in [0, 1].
        mask: `(N, 1, h, w)` in [0, 1].
        smooth: Pixels added to both sides of the fraction: a picture without an occluder then gives no division by 0.

    Returns:
        Scalar in [0, 1], mean over the batch, lower is better. Milletari et al., V-Net, 2016.

    Raises:
        InputError: If the shapes differ.
    """
    check_alike("probability", probability, "mask", mask)
    with full_precision(probability):
        ours, theirs = widen(probability).flatten(start_dim=1), widen(mask).flatten(start_dim=1)
        overlap = 2 * (ours * theirs).sum(dim=1) + smooth
        total = ours.square().sum(dim=1) + theirs.square().sum(dim=1) + smooth
        return (1 - overlap / total).mean()


class OcclusionLoss(nn.Module):
    """`occlusion_loss` with a fixed weight of the Dice term.

    Args:
        dice: Weight of the soft Dice term, at least 0.

    Raises:
        InputError: If `dice` is negative.
    """

    def __init__(self, dice: float = 0.0) -> None:
        super().__init__()
        check_range("dice", dice, 0.0, float("inf"))
        self.dice = dice

    def forward(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Scalar loss of logits `(N, 1, h, w)` and mask `(N, 1, h, w)`."""
        return occlusion_loss(logits, mask, self.dice)
