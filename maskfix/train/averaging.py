"""Moving averages of weights, which are what is released."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def averaging(decay: float) -> Any:
    """Torch's exponential moving average with a given decay."""
    return get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]


def average_of(network: torch.nn.Module, decay: float) -> AveragedModel:
    """A moving average that starts at the network's weights; buffers are averaged as well."""
    return AveragedModel(network, multi_avg_fn=averaging(decay), use_buffers=True)


def update_average(average: AveragedModel, network: torch.nn.Module, decay: float, step: int) -> None:
    """Take a step's weights into the average.

    Early averages would remember the first, random weights for long: a short memory grows into the full one.

    Args:
        average: The average.
        network: What it is an average of.
        decay: Its decay in the end.
        step: Steps done before this one.
    """
    average.multi_avg_fn = averaging(min(decay, (1 + step) / (10 + step)))
    average.update_parameters(network)


def averaged_weights(average: dict[str, Tensor]) -> dict[str, Tensor]:
    """A moving average's weights under the network's own names."""
    prefix = "module."
    return {key[len(prefix) :]: value for key, value in average.items() if key.startswith(prefix)}
