"""The dual attention fusion module against the slow twin of equations 3 to 8."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from maskfix.restore import ChannelAttention, DualAttentionFusion
from maskfix.restore.fusion import PlainHead
from tests.reference import fusion as reference


def random_fusion(channels: int, width: int, seed: int) -> DualAttentionFusion:
    """A module in evaluation mode in which no weight or statistic has the value it starts from."""
    generator = torch.Generator().manual_seed(seed)
    module = DualAttentionFusion(channels, width, reduction=2).double().eval()
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            drawn = torch.randn(value.shape, generator=generator, dtype=value.dtype)
            value.copy_(drawn.abs() + 0.5 if "running_var" in name else drawn * 0.5)
    return module


@pytest.mark.parametrize(("channels", "size", "times"), [(12, 5, 1), (8, 4, 2), (16, 3, 4)])
def test_fusion__numpy_twin(channels: int, size: int, times: int) -> None:
    module = random_fusion(channels, 6, seed=channels)
    generator = torch.Generator().manual_seed(times)
    features = torch.randn(2, channels, size, size, generator=generator, dtype=torch.float64)
    picture = torch.rand(2, 3, size * times, size * times, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        fused = module(features, functional.avg_pool2d(picture, times))
    weights = {name: value.numpy() for name, value in module.state_dict().items()}
    for n in range(2):
        expected = reference.dual_attention_fusion(features[n].numpy(), picture[n].numpy(), weights)
        for name, got, want in zip(fused._fields, fused, expected, strict=True):
            np.testing.assert_allclose(got[n].numpy(), want, rtol=1e-9, atol=1e-10, err_msg=name)


def test_channel_attention__numpy_twin() -> None:
    module = ChannelAttention(8, reduction=2).double()
    features = torch.randn(3, 8, 4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        out = module(features).numpy()
    down, up = ((layer.weight.detach().numpy()[..., 0, 0], layer.bias.detach().numpy()) for layer in module.children())
    for n in range(3):
        np.testing.assert_allclose(out[n], reference.channel_attention(features[n].numpy(), down, up), rtol=1e-12)


def test_channel_attention__squeezes_by_the_reduction() -> None:
    assert ChannelAttention(128, reduction=16).down.out_channels == 8
    assert ChannelAttention(24, reduction=16).down.out_channels == 4


def test_fusion__alpha_balances_input_and_restored() -> None:
    module = random_fusion(8, 6, seed=3)
    generator = torch.Generator().manual_seed(5)
    features = torch.randn(2, 8, 6, 6, generator=generator, dtype=torch.float64) * 4
    picture = torch.rand(2, 3, 6, 6, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        fused = module(features, picture)
        known = module.from_input(picture)
    assert fused.alpha.min() >= 0
    assert fused.alpha.max() <= 1
    torch.testing.assert_close(fused.image, fused.alpha * fused.restored + (1 - fused.alpha) * known)
    for bias, expected in ((-60.0, known), (60.0, fused.restored)):
        with torch.no_grad():
            module.transform[2].weight.zero_()
            module.transform[2].bias.fill_(bias)
            torch.testing.assert_close(module(features, picture).image, expected)


def test_fusion__starts_from_the_input_as_it_is() -> None:
    """Equation 6 starts as the identity: with alpha at 0 the input comes out."""
    module = DualAttentionFusion(8).eval()
    picture = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module.from_input(picture), picture)


def test_fusion__transform_is_three_3x3_convolutions() -> None:
    sides = [m.kernel_size for m in DualAttentionFusion(8).transform.modules() if isinstance(m, torch.nn.Conv2d)]
    assert sides == [(3, 3)] * 3


def test_plain_head__is_a_1x1_convolution_of_the_features_alone() -> None:
    head = PlainHead(5).double()
    assert list(head.state_dict()) == ["to_image.weight", "to_image.bias"]
    torch.testing.assert_close(head.to_image.bias, torch.full((3,), 0.5, dtype=torch.float64))
    generator = torch.Generator().manual_seed(2)
    features = torch.randn(2, 5, 4, 6, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        fused = head(features, torch.rand(2, 3, 4, 6, generator=generator, dtype=torch.float64))
    expected = torch.einsum("nchw,oc->nohw", features, head.to_image.weight[:, :, 0, 0]) + 0.5
    torch.testing.assert_close(fused.image, expected)
    torch.testing.assert_close(fused.restored, expected)
    assert fused.alpha.shape == expected.shape
    assert (fused.alpha == 1).all()


def test_channel_attention__starts_with_every_unit_open() -> None:
    """Features that say nothing yet: every unit of the gate is at 1, where a ReLU learns."""
    attention = ChannelAttention(64)
    with torch.no_grad():
        hidden = attention.down(torch.zeros(1, 64, 1, 1))
    torch.testing.assert_close(hidden.flatten(), torch.ones(4))
