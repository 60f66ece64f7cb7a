"""The building block."""

from __future__ import annotations

import pytest
import torch

from maskfix.restore.layers import ConvBlock, Refinement


@pytest.mark.parametrize(("kernel", "stride", "side"), [(3, 1, 8), (3, 2, 4), (5, 2, 4), (7, 2, 4)])
def test_conv_block__size(kernel: int, stride: int, side: int) -> None:
    assert ConvBlock(3, 5, kernel, stride)(torch.rand(2, 3, 8, 8)).shape == (2, 5, side, side)


def test_conv_block__slope() -> None:
    block = ConvBlock(1, 1, kernel=1, norm=False, slope=0.2)
    with torch.no_grad():
        block.conv.weight.fill_(1.0)
        block.conv.bias.zero_()  # type: ignore[union-attr]
        out = block(torch.tensor([-1.0, 2.0]).reshape(1, 1, 1, 2))
        torch.testing.assert_close(out.flatten(), torch.tensor([-0.2, 2.0]))
        block = ConvBlock(1, 1, kernel=1, norm=False)
        assert float(block(torch.rand(1, 1, 4, 4) - 0.5).min()) >= 0


def test_conv_block__one_pixel_of_a_batch_of_one() -> None:
    """Batch norm has nothing to average over there: without it the block works in training mode."""
    assert ConvBlock(2, 3, stride=2, norm=False).train()(torch.rand(1, 2, 2, 2)).shape == (1, 3, 1, 1)
    with pytest.raises(ValueError, match="more than 1 value"):
        ConvBlock(2, 3, stride=2).train()(torch.rand(1, 2, 2, 2))


def test_refinement__starts_as_the_identity_and_learns() -> None:
    block = Refinement(4).train()
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.SGD(block.parameters(), 0.1)
    out = block(x)
    torch.testing.assert_close(out, x)
    for _ in range(2):
        optimiser.zero_grad()
        (block(x) - 2 * x).square().mean().backward()
        optimiser.step()
    assert block.block.conv.weight.grad is not None
    assert block.block.conv.weight.grad.any()
    assert (block(x) - 2 * x).square().mean() < x.square().mean()
