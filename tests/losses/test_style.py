"""Gram matrices and eq. 11 against the loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from maskfix.base import InputError
from maskfix.losses import gram, style_loss
from tests.reference import losses as reference


def maps(count: int, seed: int, sizes: tuple[tuple[int, int, int], ...] = ((3, 4, 5), (2, 2, 2))) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, *size, generator=generator, dtype=torch.float64) for size in sizes]


@pytest.mark.parametrize("count", [1, 3])
def test_gram__twin(count: int) -> None:
    features = maps(count, 1)[0]
    expected = torch.from_numpy(reference.gram(features.numpy()))
    torch.testing.assert_close(gram(features), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(gram(features.float()), expected.float(), rtol=1e-5, atol=1e-6)


def test_gram__blind_to_size_and_places() -> None:
    features = maps(2, 1)[0]
    twice = features.repeat_interleave(2, dim=2).repeat_interleave(3, dim=3)
    torch.testing.assert_close(gram(twice), gram(features))
    torch.testing.assert_close(gram(features.flip(3)), gram(features))


@pytest.mark.parametrize("count", [1, 3])
def test_style_loss__twin(count: int) -> None:
    ours, theirs = maps(count, 1), maps(count, 2)
    expected = reference.style([item.numpy() for item in ours], [item.numpy() for item in theirs])
    assert style_loss(ours, theirs).item() == pytest.approx(expected, abs=1e-12)


def test_style_loss__closed_forms() -> None:
    ours = maps(2, 1)
    assert style_loss(ours, ours).item() == 0
    rows = torch.tensor([1, 0])
    theirs = maps(2, 2)
    swapped = style_loss([item[rows] for item in ours], [item[rows] for item in theirs])
    assert swapped.item() == pytest.approx(style_loss(ours, theirs).item(), abs=1e-12)
    # Constant maps a and b: every entry of the Gram matrices is a^2 and b^2.
    constant = style_loss([torch.full((1, 4, 3, 3), 3.0)], [torch.full((1, 4, 5, 5), 2.0)])
    assert constant.item() == pytest.approx(5.0, abs=1e-5)


def test_style_loss__gradcheck() -> None:
    tensors = [item.requires_grad_() for item in [*maps(2, 1), *maps(2, 2)]]
    assert torch.autograd.gradcheck(lambda a, b, c, d: style_loss([a, b], [c, d]), tensors)


def test_style_loss__autocast_keeps_float32() -> None:
    ours, theirs = ([item.float() for item in maps(2, seed, ((16, 9, 9),))] for seed in (1, 2))
    plain = style_loss(ours, theirs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert style_loss(ours, theirs).item() == plain.item()
        half = style_loss([item.bfloat16() for item in ours], theirs)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(plain.item(), rel=2e-2)


def test_gram__float16_range() -> None:
    # A sum over positions would pass float16's 65504 long before the mean does.
    assert gram(torch.full((1, 2, 64, 64), 100.0, dtype=torch.float16)).max().item() == pytest.approx(1e4, rel=1e-3)


def test_style_loss__refuses() -> None:
    with pytest.raises(InputError, match="got 2 and 1"):
        style_loss(maps(1, 1), maps(1, 1)[:1])
    with pytest.raises(InputError, match="at least 1"):
        style_loss([], [])
    with pytest.raises(InputError, match="Gram"):
        style_loss(maps(1, 1, ((3, 2, 2),)), maps(1, 1, ((4, 2, 2),)))
    with pytest.raises(InputError, match="features"):
        gram(torch.zeros(2, 3))
