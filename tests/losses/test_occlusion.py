"""The occlusion head's loss against the loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from maskfix.base import InputError
from maskfix.losses import OcclusionLoss, dice_loss, occlusion_loss
from tests.reference import losses as reference


def logits_and_mask(count: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(count)
    logits = 3 * torch.randn(count, 1, 4, 5, generator=generator, dtype=torch.float64)
    return logits, torch.rand(count, 1, 4, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dice", [0.0, 0.5])
def test_occlusion_loss__twin(count: int, dice: float) -> None:
    logits, mask = logits_and_mask(count)
    for truth in (mask, mask > 0.5):
        expected = reference.occlusion(logits.numpy(), truth.double().numpy(), dice)
        assert occlusion_loss(logits, truth, dice).item() == pytest.approx(expected, abs=1e-10)
        assert OcclusionLoss(dice)(logits, truth).item() == pytest.approx(expected, abs=1e-10)


def test_occlusion_loss__closed_forms() -> None:
    _, mask = logits_and_mask(2)
    assert occlusion_loss(torch.zeros_like(mask), mask).item() == pytest.approx(math.log(2), abs=1e-12)
    sure = torch.where(mask > 0.5, 40.0, -40.0)
    assert occlusion_loss(sure, mask > 0.5, 1.0).item() == pytest.approx(0, abs=1e-6)


def test_dice_loss__equality_and_empty() -> None:
    _, mask = logits_and_mask(3)
    empty = torch.zeros_like(mask)
    assert dice_loss(mask, mask).item() == pytest.approx(0, abs=1e-12)
    assert dice_loss(empty, empty).item() == 0
    assert dice_loss(torch.ones_like(mask), empty).item() == pytest.approx(20 / 21, abs=1e-12)


@pytest.mark.parametrize("fill", [0.0, 1.0])
def test_occlusion_loss__extreme_logits_and_one_sided_masks(fill: float) -> None:
    logits = torch.tensor([-1e4, -30.0, 0.0, 30.0, 1e4]).reshape(1, 1, 1, 5).requires_grad_()
    loss = occlusion_loss(logits, torch.full((1, 1, 1, 5), fill), 1.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("dice", [0.0, 0.5])
def test_occlusion_loss__gradcheck(dice: float) -> None:
    logits, mask = logits_and_mask(2)
    assert torch.autograd.gradcheck(lambda x: occlusion_loss(x, mask, dice), [logits.requires_grad_()])


def test_occlusion_loss__half() -> None:
    logits, mask = logits_and_mask(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = occlusion_loss(logits.bfloat16(), mask.float(), 0.5)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(occlusion_loss(logits, mask, 0.5).item(), rel=1e-2)


def test_occlusion_loss__refuses() -> None:
    logits, mask = logits_and_mask(2)
    with pytest.raises(InputError, match="one shape"):
        occlusion_loss(logits, mask[:1])
    with pytest.raises(InputError, match="dice"):
        occlusion_loss(logits, mask, -1.0)
    with pytest.raises(InputError, match="dice"):
        OcclusionLoss(math.nan)
