from __future__ import annotations

import pytest
import torch

from maskfix.base import InputError
from maskfix.losses import adversarial_loss, discriminator_loss

SCORES = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(0)) * 2
OTHERS = torch.randn(2, 1, 3, 3, generator=torch.Generator().manual_seed(1)) * 2
COVERAGE = torch.rand(2, 1, 3, 3, generator=torch.Generator().manual_seed(2))


def test_patch_by_patch() -> None:
    """The hinge as it is written, one patch at a time."""
    generator, discriminator, weight = 0.0, 0.0, 0.0
    for real, completed, covered in zip(*(t.flatten().tolist() for t in (SCORES, OTHERS, COVERAGE)), strict=True):
        generator -= covered * completed
        discriminator += covered * (max(0, 1 - real) + max(0, 1 + completed))
        weight += covered
    assert adversarial_loss(OTHERS, COVERAGE).item() == pytest.approx(generator / weight, rel=1e-5)
    assert discriminator_loss(SCORES, OTHERS, COVERAGE).item() == pytest.approx(discriminator / weight, rel=1e-5)


def test_visible_patches_do_not_count() -> None:
    coverage = COVERAGE.clone()
    coverage[:, :, 0] = 0
    scores = SCORES.clone().requires_grad_()
    adversarial_loss(scores, coverage).backward()
    assert scores.grad is not None
    assert not scores.grad[:, :, 0].any()
    assert (scores.grad[:, :, 1:] < 0).all()


def test_nothing_occluded() -> None:
    scores = SCORES.clone().requires_grad_()
    loss = adversarial_loss(scores, torch.zeros_like(COVERAGE))
    loss.backward()
    assert loss.item() == 0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_shapes() -> None:
    with pytest.raises(InputError, match="coverage"):
        adversarial_loss(SCORES, COVERAGE[:1])
    with pytest.raises(InputError, match="real and completed"):
        discriminator_loss(SCORES[:1], OTHERS, COVERAGE)
