"""Style loss on Gram matrices of feature maps (paper eq. 11)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from maskfix.base import check_shape
from maskfix.losses.precision import check_alike, check_layers, full_precision, widen


def gram(features: Tensor) -> Tensor:
    """Gram matrix of feature maps: channel products averaged over positions.

    Equation 11 writes the plain product, a sum over positions. Dividing by h * w keeps the value independent of the
    size of the map, as partial convolution and DFNet do, whose weights the paper took over.

    Args:
        features: `(N, C, h, w)`.

    Returns:
        `(N, C, C)` symmetric, float32 or float64.

    Raises:
        InputError: If `features` has not four axes.

    Example:
        >>> gram(torch.full((1, 2, 4, 4), 3.0)).tolist()
        [[[9.0, 9.0], [9.0, 9.0]]]
    """
    check_shape("features", features, (None, None, None, None))
    with full_precision(features):
        flat = widen(features).flatten(start_dim=2)  # (N, C, h * w)
        # Divided before the product: large maps of large features stay in range.
        return (flat / flat.shape[2]) @ flat.transpose(1, 2)


def style_loss(features_pred: Sequence[Tensor], features_target: Sequence[Tensor]) -> Tensor:
    """Mean over layers and batch of the L1 distance of Gram matrices, divided by C * C (paper eq. 11).

    Args:
        features_pred: One `(N, C, h, w)` per layer; C, h and w may differ between layers.
        features_target: As many layers with the same N and C each; h and w may differ from the prediction's.

    Returns:
        Scalar, at least 0, lower is better.

    Raises:
        InputError: If there is no layer, or numbers of layers or shapes differ.
    """
    check_layers("style", features_pred, features_target)
    distances = []
    for predicted, target in zip(features_pred, features_target, strict=True):
        ours, theirs = gram(predicted), gram(target)
        check_alike("predicted Gram matrix", ours, "target Gram matrix", theirs)
        distances.append((ours - theirs).abs().mean())  # mean over C * C is 1 / (C * C) times the L1 norm
    return torch.stack(distances).mean()
