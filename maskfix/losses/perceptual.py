"""Perceptual loss on feature maps (paper section 3.4, after Johnson et al., ECCV 2016)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from maskfix.losses.precision import check_alike, check_layers, full_precision, widen
from maskfix.losses.scales import mean_of


def perceptual_loss(features_pred: Sequence[Tensor], features_target: Sequence[Tensor]) -> Tensor:
    """Mean over layers and pictures of the L1 distance of feature maps, over the mean magnitude of the target's.

    The paper names the loss without writing it out. L1 is its own choice elsewhere; the division makes layers of any
    range count alike, and the value a share. It is done picture by picture, so that the loss of a batch is the mean of
    its pictures' losses.

    Args:
        features_pred: One `(N, C, h, w)` per layer; C, h and w may differ between layers.
        features_target: As many layers of the same shapes.

    Returns:
        Scalar, at least 0, lower is better.

    Raises:
        InputError: If there is no layer, or numbers of layers or shapes differ.
    """
    check_layers("perceptual", features_pred, features_target)
    shares = []
    for predicted, target in zip(features_pred, features_target, strict=True):
        check_alike("predicted features", predicted, "target features", target)
        with full_precision(predicted):
            distance = (widen(predicted) - widen(target)).abs().flatten(1).mean(1)
            shares.append((distance / widen(target).abs().flatten(1).mean(1).clamp_min(1e-6)).mean())
    return mean_of(shares)
