"""Equation 9 on face pixels against the loop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from maskfix.base import InputError
from maskfix.losses import correspondence_loss
from tests.reference import losses as reference


def fields(count: int, seed: int, channels: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, channels, 4, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("count", [1, 3])
def test_correspondence_loss__twin(count: int) -> None:
    ours, theirs, share = fields(count, 1), fields(count, 2), fields(count, 3, 1)
    for visible in (share, share > 0.5):
        expected = reference.correspondence(ours.numpy(), theirs.numpy(), visible.double().numpy())
        assert correspondence_loss(ours, theirs, visible).item() == pytest.approx(expected, abs=1e-12)


def test_correspondence_loss__closed_forms() -> None:
    theirs, visible = fields(2, 1), fields(2, 2, 1) > 0.5
    offset = torch.tensor([0.3, 0.4], dtype=torch.float64)[:, None, None]
    assert correspondence_loss(theirs + offset, theirs, visible).item() == pytest.approx(0.5, abs=1e-12)
    assert correspondence_loss(theirs, theirs, visible).item() == 0
    swapped = correspondence_loss((theirs + offset).flip(0), theirs.flip(0), visible.flip(0))
    assert swapped.item() == pytest.approx(0.5, abs=1e-12)


@pytest.mark.parametrize("case", ["no face", "equal", "nan outside"])
def test_correspondence_loss__gradient_is_finite(case: str) -> None:
    ours, theirs, visible = fields(2, 1).requires_grad_(), fields(2, 2), fields(2, 3, 1) > 0.5
    if case == "no face":
        visible = torch.zeros_like(visible)
    elif case == "equal":
        theirs = ours.detach().clone()
    else:
        theirs = torch.where(visible, theirs, torch.nan)
    loss = correspondence_loss(ours, theirs, visible)
    loss.backward()
    assert ours.grad is not None
    assert torch.isfinite(ours.grad).all()
    assert torch.equal(ours.grad * ~visible, torch.zeros_like(ours))
    if case == "nan outside":
        assert loss.item() > 0
        assert (ours.grad[visible.expand_as(ours)] != 0).all()
    else:
        assert loss.item() == 0
        assert not ours.grad.any()


def test_correspondence_loss__picture_without_face_counts_nothing() -> None:
    ours, theirs, visible = fields(2, 1), fields(2, 2), fields(2, 3, 1) > 0.5
    visible[1] = False
    alone = correspondence_loss(ours[:1], theirs[:1], visible[:1])
    assert correspondence_loss(ours, theirs, visible).item() == pytest.approx(alone.item(), abs=1e-12)


def test_correspondence_loss__gradcheck() -> None:
    visible = fields(2, 3, 1)
    tensors = [fields(2, 1).requires_grad_(), fields(2, 2).requires_grad_()]
    assert torch.autograd.gradcheck(lambda a, b: correspondence_loss(a, b, visible), tensors)
    assert torch.autograd.gradcheck(lambda a, b: correspondence_loss(a, b, visible > 0.5), tensors)


def test_correspondence_loss__half() -> None:
    ours, theirs, visible = fields(2, 1), fields(2, 2), fields(2, 3, 1) > 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = correspondence_loss(ours.bfloat16(), theirs.float(), visible)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(correspondence_loss(ours, theirs, visible).item(), rel=1e-2)


def test_correspondence_loss__refuses() -> None:
    with pytest.raises(InputError, match="predicted"):
        correspondence_loss(fields(1, 1, 3), fields(1, 1, 3), fields(1, 1, 1))
    with pytest.raises(InputError, match="visible"):
        correspondence_loss(fields(1, 1), fields(1, 1), fields(1, 1, 2))
