"""Muon on the network's matrices: an orthogonal step by an independent reference, and Adam for the rest."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from maskfix.base import DependencyError
from maskfix.restore import create_network
from maskfix.train.muon import MuonAndAdam

LAYOUTS = (torch.contiguous_format, torch.channels_last)


def small(layout: torch.memory_format) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 24, 3), nn.BatchNorm2d(24), nn.Conv2d(24, 3, 1))
    return layers.to(memory_format=layout)  # type: ignore[call-overload]


def stepped(network: nn.Module, optimiser: torch.optim.Optimizer, steps: int = 1, first: int = 1) -> None:
    for seed in range(first, first + steps):
        picture = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(seed))
        optimiser.zero_grad()
        network(picture).square().mean().backward()
        optimiser.step()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_step__matrix_moves_along_the_orthogonal_factor(layout: torch.memory_format) -> None:
    """Against the singular value decomposition; a step on a copy of the weights would leave them where they were."""
    network = small(layout)
    before = network[1].weight.detach().clone()
    stepped(network, MuonAndAdam(network, 1e-3))
    moved = (before - network[1].weight.detach()).permute(0, 2, 3, 1).reshape(24, -1)
    left, _, right = torch.linalg.svd(network[1].weight.grad.permute(0, 2, 3, 1).reshape(24, -1), full_matrices=False)
    polar = left @ right
    # Newton and Schulz's five steps in bfloat16 bring singular values near 1, no nearer than this.
    assert nn.functional.cosine_similarity(moved.flatten(), polar.flatten(), dim=0) > 0.95
    assert torch.linalg.svdvals(moved).min() > 0.4 * torch.linalg.svdvals(moved).max()


def test_step__as_large_as_adams() -> None:
    """`match_rms_adamw`: 0.2 of the learning rate a weight, whatever the matrix's shape."""
    network = small(torch.channels_last)
    before = network[1].weight.detach().clone()
    stepped(network, MuonAndAdam(network, 1e-3))
    size = (network[1].weight.detach() - before).square().mean().sqrt()
    assert 0.1e-3 < size < 0.3e-3


def test_step__the_rest_is_adams() -> None:
    network = small(torch.channels_last)
    twin = copy.deepcopy(network)
    stepped(network, MuonAndAdam(network, 1e-3))
    stepped(twin, torch.optim.Adam(twin.parameters(), lr=1e-3))
    for place in (0, 2, 3):
        assert torch.equal(network[place].weight, twin[place].weight)
    assert torch.equal(network[1].bias, twin[1].bias)
    assert not torch.equal(network[1].weight, twin[1].weight)


def test_step__learning_rate_of_the_first_group() -> None:
    network = small(torch.channels_last)
    optimiser = MuonAndAdam(network, 1e-3)
    optimiser.param_groups[0]["lr"] = 0.0
    before = network[1].weight.detach().clone()
    stepped(network, optimiser)
    assert torch.equal(network[1].weight, before)


def test_load_state_dict__goes_on_as_if_unbroken() -> None:
    """Momentum of both kinds is in the state; without Muon's, the fourth step would differ."""
    network = small(torch.channels_last)
    optimiser = MuonAndAdam(network, 1e-3)
    stepped(network, optimiser, 3)
    again = copy.deepcopy(network)
    resumed = MuonAndAdam(again, 1e-3)
    resumed.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    stepped(network, optimiser, first=4)
    stepped(again, resumed, first=4)
    for ours, theirs in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_matrices__of_the_completion_network() -> None:
    """Nearly all weights are Muon's; what reads or writes a picture is not, nor are positions."""
    network = create_network("cadf_small_128").to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = MuonAndAdam(network, 1e-3)
    counted = sum(matrix.numel() for matrix in optimiser.matrices)
    assert 0.95 < counted / sum(parameter.numel() for parameter in network.parameters()) < 1
    rest = {id(parameter) for parameter in optimiser.param_groups[0]["params"]}
    assert id(network.encoder.levels[0][0].conv.weight) in rest
    assert all(id(fusion.to_image.weight) in rest for fusion in network.decoder.fusions)
    assert all(id(attention.position) in rest for attention in network.decoder.attentions.values())


def test_init__torch_without_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(DependencyError, match=r"torch 2\.9"):
        MuonAndAdam(small(torch.channels_last), 1e-3)
