"""Element-wise reconstruction loss (paper eq. 10)."""

from __future__ import annotations

from torch import Tensor

from maskfix.base import check_shape
from maskfix.losses.precision import check_alike, full_precision, weighted_mean, widen


def reconstruction_loss(prediction: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean absolute error per pixel and colour (paper eq. 10, the L1 norm divided by the number of elements).

    Args:
        prediction: `(N, 3, h, w)`, range [0, 1].
        target: `(N, 3, h, w)`, range [0, 1].
        weight: `(N, 1, h, w)`, at least 0; the weighted mean divides by the sum of the weights, so ones give the plain
            mean. All zeros give 0.

    Returns:
        Scalar, at least 0, lower is better.

    Raises:
        InputError: If the shapes do not fit.
    """
    check_shape("prediction", prediction, (None, None, None, None))
    check_alike("prediction", prediction, "target", target)
    with full_precision(prediction):
        error = (widen(prediction) - widen(target)).abs()
        if weight is None:
            return error.mean()
        check_shape("weight", weight, (error.shape[0], 1, error.shape[2], error.shape[3]))
        return weighted_mean(error.mean(dim=1, keepdim=True), widen(weight))
