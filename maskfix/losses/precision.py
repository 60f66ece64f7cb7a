"""Precision and guards of the losses: reductions run in float32 at least, inside a bf16 or fp16 autocast too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from maskfix.base import InputError


def full_precision(tensor: Tensor) -> torch.autocast:
    """A context in which autocast is off on the device of `tensor`, so that matrix products keep their inputs' type."""
    return torch.autocast(device_type=tensor.device.type, enabled=False)


def widen(tensor: Tensor) -> Tensor:
    """`tensor` as a float of at least 32 bits: half types, integers and bool become float32, float64 stays.

    Example:
        >>> widen(torch.ones(1, dtype=torch.bfloat16)).dtype, widen(torch.ones(1, dtype=torch.float64)).dtype
        (torch.float32, torch.float64)
    """
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def check_alike(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Check that two tensors have one shape, since a silent broadcast would change what a loss means.

    Raises:
        InputError: If the shapes differ.
    """
    if tensor.shape != other.shape:
        raise InputError(
            f"{name} and {other_name}: expected one shape, got {tuple(tensor.shape)} and {tuple(other.shape)}"
        )


def check_layers(name: str, predicted: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    """Check that two lists of feature maps hold as many layers, at least one.

    Raises:
        InputError: If they do not; the message begins with `name`.
    """
    if not predicted or len(predicted) != len(target):
        raise InputError(
            f"{name} features: expected as many layers of each, at least 1, got {len(predicted)} and {len(target)}"
        )


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of `values` under `weight` of the same shape (at least 0); 0 where all weights are 0, with zero gradient."""
    # Any positive floor does: where the sum of the weights is 0, the numerator and its gradient are 0 as well.
    return (values * weight).sum() / weight.sum().clamp_min(1e-12)
