"""Equation 10 against the loop, with and without weights."""

from __future__ import annotations

import pytest
import torch

from maskfix.base import InputError
from maskfix.losses import reconstruction_loss
from tests.reference import losses as reference


def pictures(count: int, size: int, seed: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(
        count, channels, size, size + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_reconstruction_loss__twin(count: int, size: int, weighted: bool) -> None:
    ours, theirs = pictures(count, size, 1), pictures(count, size, 2)
    weight = 5 * pictures(count, size, 3, 1) if weighted else None
    expected = reference.reconstruction(ours.numpy(), theirs.numpy(), None if weight is None else weight.numpy())
    assert reconstruction_loss(ours, theirs, weight).item() == pytest.approx(expected, abs=1e-12)


def test_reconstruction_loss__weights() -> None:
    ours, theirs = pictures(2, 4, 1), pictures(2, 4, 2)
    plain = reconstruction_loss(ours, theirs)
    for constant in (1.0, 7.0):
        weighted = reconstruction_loss(ours, theirs, torch.full((2, 1, 4, 5), constant))
        assert weighted.item() == pytest.approx(plain.item(), abs=1e-12)
    only = torch.zeros(2, 1, 4, 5)
    only[1, 0, 2, 3] = 0.3
    expected = (ours - theirs)[1, :, 2, 3].abs().mean().item()
    assert reconstruction_loss(ours, theirs, only).item() == pytest.approx(expected, abs=1e-12)


def test_reconstruction_loss__no_weight_at_all() -> None:
    ours = pictures(1, 3, 1).requires_grad_()
    loss = reconstruction_loss(ours, pictures(1, 3, 2), torch.zeros(1, 1, 3, 4))
    loss.backward()
    assert loss.item() == 0
    assert ours.grad is not None
    assert torch.equal(ours.grad, torch.zeros_like(ours))


def test_reconstruction_loss__closed_forms() -> None:
    ours = pictures(2, 3, 1)
    assert reconstruction_loss(ours, ours).item() == 0
    assert reconstruction_loss(ours, ours + 0.25).item() == pytest.approx(0.25, abs=1e-12)


def test_reconstruction_loss__gradcheck() -> None:
    weight = pictures(2, 3, 3, 1).requires_grad_()
    tensors = [pictures(2, 3, 1).requires_grad_(), pictures(2, 3, 2).requires_grad_()]
    assert torch.autograd.gradcheck(reconstruction_loss, tensors)
    assert torch.autograd.gradcheck(reconstruction_loss, [*tensors, weight])


def test_reconstruction_loss__half() -> None:
    ours, theirs = pictures(2, 8, 1), pictures(2, 8, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = reconstruction_loss(ours.bfloat16(), theirs.bfloat16(), torch.ones(2, 1, 8, 9, dtype=torch.bool))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(reconstruction_loss(ours, theirs).item(), abs=5e-3)


def test_reconstruction_loss__refuses_broadcasts() -> None:
    with pytest.raises(InputError, match="one shape"):
        reconstruction_loss(pictures(2, 3, 1), pictures(1, 3, 1))
    with pytest.raises(InputError, match="weight"):
        reconstruction_loss(pictures(2, 3, 1), pictures(2, 3, 1), torch.ones(2, 3, 3, 4))
