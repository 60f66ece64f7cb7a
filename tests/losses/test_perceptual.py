"""The perceptual loss against the loop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from maskfix.base import InputError
from maskfix.losses import perceptual_loss
from tests.reference import losses as reference


def maps(seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = ((3, 4, 5), (2, 2, 2))
    return [torch.randn(2, *size, generator=generator, dtype=torch.float64) * 10**i for i, size in enumerate(sizes)]


def test_twin() -> None:
    expected = reference.perceptual([item.numpy() for item in maps(1)], [item.numpy() for item in maps(2)])
    assert perceptual_loss(maps(1), maps(2)).item() == pytest.approx(expected, abs=1e-12)


def test_layers_of_any_range_count_alike() -> None:
    ours, theirs = maps(1), maps(2)
    scaled = perceptual_loss([ours[0], 100 * ours[1]], [theirs[0], 100 * theirs[1]])
    torch.testing.assert_close(scaled, perceptual_loss(ours, theirs))


def test_batch_is_the_mean_of_its_pictures() -> None:
    ours, theirs = ([picture * torch.tensor([1.0, 50.0])[:, None, None, None] for picture in maps(i)] for i in (1, 2))
    alone = [perceptual_loss([x[i : i + 1] for x in ours], [x[i : i + 1] for x in theirs]) for i in (0, 1)]
    torch.testing.assert_close(perceptual_loss(ours, theirs), (alone[0] + alone[1]) / 2)


def test_equal_and_silent() -> None:
    assert perceptual_loss(maps(1), maps(1)).item() == 0
    silent = [torch.zeros(1, 2, 3, 3)]
    assert perceptual_loss(silent, silent).item() == 0


def test_half_precision_is_widened() -> None:
    found = perceptual_loss([m.bfloat16() for m in maps(1)], [m.bfloat16() for m in maps(2)])
    assert found.dtype == torch.float32


def test_bad_layers() -> None:
    with pytest.raises(InputError, match="at least 1, got 0 and 0"):
        perceptual_loss([], [])
    with pytest.raises(InputError, match="got 2 and 1"):
        perceptual_loss(maps(1), maps(1)[:1])
    with pytest.raises(InputError, match="target features"):
        perceptual_loss(maps(1)[:1], maps(1)[1:])
