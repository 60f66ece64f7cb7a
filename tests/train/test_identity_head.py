"""The head that teaches the encoder who the person is."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

from maskfix.restore import CompletionNetwork, create_network
from maskfix.train.identity_head import IdentityHead


@pytest.fixture
def network() -> CompletionNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return create_network("cadf_small_128").eval()


def head_of(network: CompletionNetwork) -> IdentityHead:
    return IdentityHead(network, (8, 5), 1e-2, 0, torch.device("cpu"))


PICTURES = torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(1))
WANTED = functional.normalize(torch.randn(4, 8, generator=torch.Generator().manual_seed(2)), dim=1)


def test_term__is_one_minus_cosine_of_the_pooled_features(network: CompletionNetwork) -> None:
    head = head_of(network)
    features = network.encoder(PICTURES)
    pooled = torch.cat([feature.mean((2, 3)) for feature in features[-3:]], 1)
    expected = 1 - functional.cosine_similarity(head.network[0](pooled), WANTED).mean()
    network(PICTURES)
    assert head.term(WANTED, [0]).item() == pytest.approx(expected.item(), abs=1e-6)


def test_term__several_networks_weigh_the_same(network: CompletionNetwork) -> None:
    head = head_of(network)
    other = functional.normalize(torch.randn(4, 5, generator=torch.Generator().manual_seed(3)), dim=1)
    alone = []
    for wanted, number in ((WANTED, 0), (other, 1)):
        network(PICTURES)
        alone.append(head.term(wanted, [number]).item())
    network(PICTURES)
    both = head.term(torch.cat([WANTED, other], 1) / 2**0.5, [0, 1]).item()
    assert both == pytest.approx(sum(alone) / 2, abs=1e-6)


def test_term__takes_the_first_pictures_where_fewer_are_wanted(network: CompletionNetwork) -> None:
    head = head_of(network)
    network(PICTURES)
    part = head.term(WANTED[:2], [0]).item()
    network(PICTURES[:2])
    assert part == pytest.approx(head.term(WANTED[:2], [0]).item(), abs=1e-5)


def test_teaches_head_and_encoder(network: CompletionNetwork) -> None:
    head = head_of(network)
    optimiser = torch.optim.SGD(network.encoder.parameters(), 1e-2)
    losses = []
    for _ in range(8):
        network(PICTURES, every_scale=False)
        loss = head.term(WANTED, [0])
        optimiser.zero_grad()
        loss.backward()
        deepest = network.encoder.levels[-1][0].conv.weight.grad
        assert deepest is not None
        assert deepest.abs().max() > 0
        optimiser.step()
        head.learn()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.1


def test_state__goes_on_where_it_stopped(network: CompletionNetwork) -> None:
    head = head_of(network)
    network(PICTURES)
    head.term(WANTED, [0]).backward()
    head.learn()
    again = IdentityHead(network, (8, 5), 1e-2, 7, torch.device("cpu"))
    again.load_state_dict(copy.deepcopy(head.state_dict()))  # an optimiser keeps the tensors that it is given
    for one in (head, again):
        network(PICTURES)
        one.term(WANTED, [0]).backward()
        one.learn()
    for first, second in zip(head.network.parameters(), again.network.parameters(), strict=True):
        torch.testing.assert_close(first, second)
