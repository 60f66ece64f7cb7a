"""Moving averages of weights: what is averaged, how fast, and under which names it is kept."""

from __future__ import annotations

import torch
from torch import nn

from maskfix.train.averaging import average_of, averaged_weights, update_average


def normed(value: float) -> nn.Sequential:
    """A layer and a batch norm whose parameters and statistics all have one value."""
    network = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    for part in [*network.parameters(), *network.buffers()]:
        part.data.fill_(value)
    return network


def test_average__parameters_and_running_statistics() -> None:
    """A mean of weights by another mean's statistics would be a network that nobody trained."""
    average = average_of(normed(0.0), 0.9)
    update_average(average, normed(0.0), 0.9, step=1000)
    update_average(average, normed(10.0), 0.9, step=1001)
    state = averaged_weights(average.state_dict())
    assert state.keys() == normed(0.0).state_dict().keys()
    for name, value in state.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, torch.full_like(value, 1.0), msg=name)


def test_average__short_memory_at_first() -> None:
    """At step s the decay is (1 + s) / (10 + s) until it reaches the full one."""
    average = average_of(normed(0.0), 0.9)
    update_average(average, normed(0.0), 0.9, step=0)
    update_average(average, normed(11.0), 0.9, step=1)
    assert average.module[0].weight.item() == 11 * (1 - 2 / 11)
