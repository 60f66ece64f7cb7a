"""Precision of the losses: reductions run in float32 at least, also inside a bf16 or fp16 autocast region."""

from __future__ import annotations

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


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """Mean of `values` under `weight` of the same shape (at least 0); 0 where all weights are 0, with zero gradient."""
    # Any positive floor does: where the sum of the weights is 0, the numerator and its gradient are 0 as well.
    return (values * weight).sum() / weight.sum().clamp_min(1e-12)
