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
    strangers.add(2, added, torch.arange(3), 3)
    torch.testing.assert_close(strangers.of(4), torch.cat([first[2:], functional.normalize(added, dim=1)]))
    assert torch.equal(strangers.of(3), other)
    assert torch.equal(strangers.of(0)[:3], first[2:])


def test_strangers__more_than_the_queue_holds_and_none() -> None:
    strangers = Strangers((4,), 0, CPU, length=3)
    added = faces(5, 4, 2)
    strangers.add(7, added, torch.arange(5), 5)
    torch.testing.assert_close(strangers.of(0), functional.normalize(added, dim=1)[2:])
    kept = strangers.of(0)
    strangers.add(8, None, torch.arange(0), 5)
    assert torch.equal(strangers.of(0), kept)


def test_strangers__seeded_and_kept() -> None:
    one, same, other = (Strangers((4,), seed, CPU, length=3) for seed in (1, 1, 2))
    assert torch.equal(one.of(0), same.of(0))
    assert not torch.equal(one.of(0), other.of(0))
    one.add(0, faces(2, 4, 3), torch.tensor([7, 8]), 2)
    other.load_state_dict(one.state_dict())
    assert torch.equal(other.of(0), one.of(0))
    assert other.own(0, torch.tensor([8])).tolist() == [[False, False, True]]


def test_strangers__a_face_is_no_stranger_to_itself() -> None:
    """Wherever in the queue whose turn it is its embedding stands, and until it leaves."""
    strangers = Strangers((4, 6), 0, CPU, length=5)
    assert not strangers.own(0, torch.tensor([-1, 0, 3]))[1:].any()
    strangers.add(0, faces(3, 4, 1), torch.tensor([9, 2, 9]), 3)
    asked = torch.tensor([2, 9, 4])
    expected = [[False, False, False, True, False], [False, False, True, False, True], [False] * 5]
    assert strangers.own(2, asked).tolist() == expected
    assert not strangers.own(1, asked).any()
    strangers.add(0, faces(2, 4, 2), torch.tensor([4, 4, 2]), 3)
    assert strangers.own(0, asked).tolist() == [
        [False, True, False, False, False],
        [True, False, True, False, False],
        [False, False, False, True, True],
    ]
    # Numbers of faces of large stores are kept to the last digit.
    strangers.add(0, faces(1, 4, 3), torch.tensor([2**40 + 1]), 1)
    assert strangers.own(0, torch.tensor([2**40 + 1, 2**40])).sum(1).tolist() == [1, 0]


def test_strangers__of_a_checkpoint_that_does_not_say_whose() -> None:
    strangers, old = (Strangers((4,), 0, CPU, length=3) for _ in range(2))
    strangers.add(0, faces(2, 4, 1), torch.tensor([5, 6]), 2)
    state = strangers.state_dict()
    del state["faces"]
    old.load_state_dict(state)
    assert torch.equal(old.of(0), strangers.of(0))
    assert not old.own(0, torch.tensor([5, 6])).any()
