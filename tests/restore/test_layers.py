"""The building block."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from maskfix.restore.layers import ConvBlock, Expansion, Refinement, SelfAttention, expansions_of


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


@pytest.mark.parametrize("kind", [Refinement, Expansion])
def test_residuals__start_as_the_identity_and_learn(kind: type[Refinement | Expansion]) -> None:
    block = kind(4).train()
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.SGD(block.parameters(), 0.1)
    out = block(x)
    torch.testing.assert_close(out, x)
    for _ in range(2):
        optimiser.zero_grad()
        (block(x) - 2 * x).square().mean().backward()
        optimiser.step()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in block.parameters())
    assert (block(x) - 2 * x).square().mean() < x.square().mean()


def test_expansion__both_convolutions_around_a_shortcut() -> None:
    """Against the sum written out: norm and activation after the wider convolution, a norm after the narrower."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        block = Expansion(3, factor=4).eval()
        torch.nn.init.ones_(block.norm.weight)  # type: ignore[arg-type]
    assert block.widen.conv.weight.shape == (12, 3, 3, 3)
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    wide = functional.leaky_relu(block.widen.norm(functional.conv2d(x, block.widen.conv.weight, padding=1)), 0.2)
    with torch.no_grad():
        torch.testing.assert_close(block(x), x + block.norm(functional.conv2d(wide, block.narrow.weight, padding=1)))


def test_expansions_of__as_many_as_counted_where_counted() -> None:
    found = expansions_of((0, 2, 0, 1), (4, 8, 16, 32))
    assert {level: len(row) for level, row in found.items()} == {"1": 2, "3": 1}
    assert found["3"][0].narrow.weight.shape == (32, 64, 3, 3)


def woken() -> SelfAttention:
    """A layer that has left the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = SelfAttention(64, 4).eval()
        for last in (layer.layer.self_attn.out_proj, layer.layer.linear2):
            torch.nn.init.normal_(last.weight, std=0.2)
    return layer


def test_self_attention__starts_as_the_identity_and_learns() -> None:
    layer = SelfAttention(32, 6).train()
    x = torch.randn(2, 32, 6, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(x), x)
    optimiser = torch.optim.Adam(layer.parameters(), 0.01)
    for _ in range(5):
        optimiser.zero_grad()
        (layer(x) - 2 * x).square().mean().backward()
        optimiser.step()
    assert all(p.grad is not None and p.grad.any() for p in layer.parameters())
    assert (layer(x) - 2 * x).square().mean() < x.square().mean()


def test_self_attention__every_pixel_sees_every_other() -> None:
    x = torch.randn(1, 64, 4, 4).requires_grad_()
    woken()(x)[0, :, 0, 0].sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum(1) > 0).all()


def test_self_attention__knows_places() -> None:
    """Without positions, a layer would give turned pixels for turned pixels."""
    layer, x = woken(), torch.randn(1, 64, 4, 4)
    with torch.no_grad():
        torch.nn.init.zeros_(layer.position)
        torch.testing.assert_close(layer(x.flip(2)), layer(x).flip(2))
        torch.nn.init.normal_(layer.position)
        assert (layer(x.flip(2)) - layer(x).flip(2)).abs().max() > 0.1


@pytest.mark.parametrize("training", [True, False])
def test_self_attention__faces_do_not_see_each_other(*, training: bool) -> None:
    layer, x = woken().train(training), torch.randn(3, 64, 4, 4)
    torch.testing.assert_close(layer(x)[1:2], layer(x[1:2]), rtol=1e-4, atol=1e-5)
