"""Dense correspondence loss on (u, v) maps (paper eq. 9)."""

from __future__ import annotations

import torch
from torch import Tensor

from maskfix.base import check_shape
from maskfix.losses.precision import check_alike, full_precision, weighted_mean, widen


def correspondence_loss(predicted: Tensor, target: Tensor, visible: Tensor) -> Tensor:
    """Mean over face pixels of the Euclidean distance in (u, v) (paper eq. 9, there the norm without a mean).

    Args:
        predicted: `(N, 2, h, w)`, u and v in [0, 1].
        target: `(N, 2, h, w)`, u and v in [0, 1]; what stands outside the face is ignored, NaN too.
        visible: `(N, 1, h, w)` bool, or float in [0, 1] as the share of the pixel that is face. The mean runs over the
            batch, so a picture without a face counts nothing.

    Returns:
        Scalar, at least 0, lower is better; 0 with zero gradient where no pixel is face.

    Raises:
        InputError: If the shapes do not fit.
    """
    check_shape("predicted", predicted, (None, 2, None, None))
    check_alike("predicted", predicted, "target", target)
    check_shape("visible", visible, (predicted.shape[0], 1, predicted.shape[2], predicted.shape[3]))
    with full_precision(predicted):
        weight = widen(visible)
        difference = widen(predicted) - widen(target)
        difference = torch.where(weight > 0, difference, torch.zeros_like(difference))
        # vector_norm takes 0 for the gradient at 0, where sqrt(sum(square)) would give NaN.
        return weighted_mean(torch.linalg.vector_norm(difference, dim=1, keepdim=True), weight)
