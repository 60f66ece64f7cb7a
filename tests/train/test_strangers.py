"""The queues of strangers: whose turn it is, who leaves, and what a checkpoint keeps."""

from __future__ import annotations

import torch
from torch.nn import functional

from maskfix.train.strangers import Strangers

CPU = torch.device("cpu")


def faces(count: int, dimension: int, seed: int) -> torch.Tensor:
    return 3 * torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed))


def test_strangers__the_oldest_leave_the_queue_whose_turn_it_is() -> None:
    strangers = Strangers((4, 6), 0, CPU, length=5)
    first, other = strangers.of(0), strangers.of(1)
    assert (first.shape, other.shape) == ((5, 4), (5, 6))
    torch.testing.assert_close(first.norm(dim=1), torch.ones(5))
    added = faces(2, 4, 1)
    strangers.add(2, added, 3)
    torch.testing.assert_close(strangers.of(4), torch.cat([first[2:], functional.normalize(added, dim=1)]))
    assert torch.equal(strangers.of(3), other)
    assert torch.equal(strangers.of(0)[:3], first[2:])


def test_strangers__more_than_the_queue_holds_and_none() -> None:
    strangers = Strangers((4,), 0, CPU, length=3)
    added = faces(5, 4, 2)
    strangers.add(7, added, 5)
    torch.testing.assert_close(strangers.of(0), functional.normalize(added, dim=1)[2:])
    kept = strangers.of(0)
    strangers.add(8, None, 5)
    assert torch.equal(strangers.of(0), kept)


def test_strangers__seeded_and_kept() -> None:
    one, same, other = (Strangers((4,), seed, CPU, length=3) for seed in (1, 1, 2))
    assert torch.equal(one.of(0), same.of(0))
    assert not torch.equal(one.of(0), other.of(0))
    one.add(0, faces(2, 4, 3), 2)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.of(0), one.of(0))
