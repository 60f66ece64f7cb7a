"""Momentum update and queue against slow twins; what flows where in the Siamese network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maskfix.base import InputError
from maskfix.restore import NetworkConfig, SiameseNetwork, momentum_update
from tests.reference import siamese as reference

TINY = NetworkConfig(size=64, widths=(8,) * 6, kernels=(3,) * 6, projection=16)


def siamese(queue: int = 10, momentum: float = 0.9) -> SiameseNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SiameseNetwork(TINY, queue, momentum, generator=torch.Generator().manual_seed(0))


def keys(count: int, seed: int) -> torch.Tensor:
    drawn = torch.randn(count, TINY.projection, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(drawn, dim=1)


def oldest_first(network: SiameseNetwork) -> torch.Tensor:
    """The queue from its oldest key to its newest."""
    return torch.roll(network.queue, -int(network.cursor), 0)


def test_momentum_update__numpy_twin() -> None:
    key, query = torch.nn.Linear(4, 3).double(), torch.nn.Linear(4, 3).double()
    before = [p.detach().numpy().copy() for p in key.parameters()]
    kept = [p.detach().clone() for p in query.parameters()]
    momentum_update(key, query, 0.9)
    expected = reference.momentum_update(before, [p.numpy() for p in kept], 0.9)
    for got, want in zip(key.parameters(), expected, strict=True):
        np.testing.assert_allclose(got.detach().numpy(), want, rtol=1e-12)
    for got, want in zip(query.parameters(), kept, strict=True):
        assert torch.equal(got, want)


def test_momentum_update__ends() -> None:
    key, query = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    momentum_update(key, query, 0.0)
    torch.testing.assert_close(key.weight, query.weight)


def test_momentum_update__leaves_statistics_of_batch_norm() -> None:
    key, query = torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(2)
    query.running_mean += 1  # type: ignore[operator]
    momentum_update(key, query, 0.5)
    assert not key.running_mean.any()  # type: ignore[union-attr]


@pytest.mark.parametrize("batches", [[3, 3, 3, 3, 3], [10], [4, 10, 1], [23], [7, 25, 2, 9], [11, 1]])
def test_enqueue__twin(batches: list[int]) -> None:
    """Batches that do not divide the length of 10, that fill it, and that are larger than it."""
    network = siamese(queue=10)
    twin = reference.Queue(network.queue.double().numpy())
    for seed, count in enumerate(batches):
        new = keys(count, seed)
        places = network.enqueue(new)
        torch.testing.assert_close(network.queue[places], new[-10:], rtol=0, atol=0)
        twin.enqueue(new.double().numpy())
        np.testing.assert_array_equal(oldest_first(network).double().numpy(), np.stack(twin.keys))
    assert 0 <= int(network.cursor) < 10


def test_queue__starts_at_unit_length_and_is_saved() -> None:
    network = siamese(queue=7)
    torch.testing.assert_close(network.queue.norm(dim=1), torch.ones(7))
    network.enqueue(keys(5, 0))
    state = network.state_dict()
    assert {"queue", "cursor"} <= state.keys()
    other = siamese(queue=7)
    other.load_state_dict(state)
    assert torch.equal(other.queue, network.queue)
    assert int(other.cursor) == 5
    network.enqueue(keys(4, 1))
    other.enqueue(keys(4, 1))
    assert torch.equal(other.queue, network.queue)


def test_queue__comes_from_its_generator() -> None:
    first = SiameseNetwork(TINY, 5, generator=torch.Generator().manual_seed(1)).queue
    again = SiameseNetwork(TINY, 5, generator=torch.Generator().manual_seed(1)).queue
    other = SiameseNetwork(TINY, 5, generator=torch.Generator().manual_seed(2)).queue
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_forward__keys_come_back_in_the_order_of_the_faces() -> None:
    network = siamese().eval()
    views = torch.rand(9, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    query, key = network(views, views)
    # Both branches are equal at first: the representation of one view is the same by either.
    torch.testing.assert_close(key, query.detach(), atol=1e-5, rtol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(network(views, views.flip(0))[1], network.key(views.flip(0)), atol=1e-5, rtol=1e-4)


def test_forward__no_gradient_to_the_keys() -> None:
    network = siamese().train()
    views = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    query, key = network(views[0], views[1])
    assert query.requires_grad
    assert not key.requires_grad
    (query * key).sum().backward()
    assert all(p.grad is None for p in network.key.parameters())
    assert not any(p.requires_grad for p in network.key.parameters())
    assert all(p.grad is not None for p in network.query.parameters())


def test_forward__batch_of_one_in_training_mode() -> None:
    query, key = siamese().train()(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64))
    assert query.shape == key.shape == (1, TINY.projection)
    torch.testing.assert_close(query.norm(dim=1), torch.ones(1))


def test_update_key_branch__uses_the_networks_momentum() -> None:
    network = siamese(momentum=0.75)
    with torch.no_grad():
        for p in network.query.parameters():
            p.add_(1.0)
    before = [p.detach().clone() for p in network.key.parameters()]
    network.update_key_branch()
    for old, new in zip(before, network.key.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.25)


def test_init__bad_numbers() -> None:
    generator = torch.Generator()
    with pytest.raises(InputError, match="queue length: expected at least 1, got 0"):
        SiameseNetwork(TINY, 0, generator=generator)
    with pytest.raises(InputError, match="momentum: expected a number in"):
        SiameseNetwork(TINY, 4, 1.0, generator=generator)
