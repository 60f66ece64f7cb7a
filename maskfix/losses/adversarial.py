"""Adversarial loss of picture patches, in the hinge form of Lim and Ye (2017).

The paper's section 3.4 names an adversarial loss without giving it.
"""

from __future__ import annotations

from torch import Tensor

from maskfix.base import check_shape
from maskfix.losses.precision import check_alike, full_precision, weighted_mean, widen


def adversarial_loss(completed: Tensor, coverage: Tensor) -> Tensor:
    """What the completion network minimises: less the mean score of its patches, occluded ones alone.

    Args:
        completed: `(N, 1, h, w)`, the discriminator's scores of completed pictures, any range; high means real.
        coverage: `(N, 1, h, w)` in [0, 1]: how much of each patch was occluded.

    Returns:
        Scalar; 0 where nothing was occluded.

    Raises:
        InputError: If the shapes do not fit.
    """
    return -_mean_over(completed, coverage)


def discriminator_loss(real: Tensor, completed: Tensor, coverage: Tensor) -> Tensor:
    """What the discriminator minimises: real patches above 1, completed ones below -1, both at the same places.

    Args:
        real: `(N, 1, h, w)`, scores of clean pictures, any range.
        completed: `(N, 1, h, w)`, scores of the same pictures, completed.
        coverage: `(N, 1, h, w)` in [0, 1]: how much of each patch was occluded in the input.

    Returns:
        Scalar, at least 0, lower is better.

    Raises:
        InputError: If the shapes do not fit.
    """
    check_alike("real", real, "completed", completed)
    with full_precision(real):
        return _mean_over((1 - widen(real)).relu(), coverage) + _mean_over((1 + widen(completed)).relu(), coverage)


def _mean_over(values: Tensor, coverage: Tensor) -> Tensor:
    """Mean of values weighted by coverage."""
    check_shape("scores", values, (None, 1, None, None))
    check_alike("scores", values, "coverage", coverage)
    with full_precision(values):
        return weighted_mean(widen(values), widen(coverage))
