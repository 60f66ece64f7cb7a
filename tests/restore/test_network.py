"""The whole completion network: shapes, sizes, costs, gradients."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from maskfix.base import InputError
from maskfix.restore import SCALES, CompletionNetwork, Decoded, create_network, list_networks
from maskfix.restore.layers import ConvBlock, Expansion


@pytest.fixture(scope="module")
def small() -> CompletionNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return create_network("cadf_small_128").eval()


def picture(count: int, size: int = 128) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(count))


def check_shapes(decoded: Decoded, count: int, size: int) -> None:
    sides = [size >> scale for scale in range(SCALES)]
    assert [tuple(x.shape) for x in decoded.images] == [(count, 3, side, side) for side in sides]
    assert [tuple(x.shape) for x in decoded.alphas] == [(count, 3, side, side) for side in sides]
    assert [tuple(x.shape) for x in decoded.uvs] == [(count, 2, side, side) for side in sides]
    assert tuple(decoded.occlusion.shape) == (count, 1, size, size)
    for alpha, uv in zip(decoded.alphas, decoded.uvs, strict=True):
        assert 0 <= float(alpha.min()) <= float(alpha.max()) <= 1
        assert 0 <= float(uv.min()) <= float(uv.max()) <= 1


@pytest.mark.parametrize("name", list_networks())
def test_network__batch_of_one_in_training_mode(name: str) -> None:
    network = create_network(name).train()
    size = network.config.size
    with torch.no_grad():
        check_shapes(network(picture(1, size)), 1, size)


def test_network__only_the_picture_goes_in(small: CompletionNetwork) -> None:
    """Blind: no argument for a hole mask, and no fourth channel."""
    assert list(inspect.signature(small.forward).parameters) == ["picture", "every_scale"]
    with torch.no_grad(), pytest.raises(RuntimeError, match="channels"):
        small(torch.rand(1, 4, 128, 128))


def test_network__parameters_and_macs(small: CompletionNetwork) -> None:
    sizes = {name: sum(p.numel() for p in create_network(name).parameters()) for name in list_networks()}
    assert 4e6 <= sizes["cadf_small_128"] <= 8.8e6
    assert sizes["cadf_small_128"] < sizes["cadf_base_128"] < sizes["cadf_base_256"]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        small(picture(1))
    assert 1.5e9 <= counter.get_total_flops() / 2 <= 1.9e9


def test_network__finest_scale_alone_is_the_same(small: CompletionNetwork) -> None:
    with torch.no_grad():
        every, finest = small(picture(2)), small(picture(2), every_scale=False)
    assert len(finest.images) == len(finest.alphas) == len(finest.uvs) == 1
    for name in ("images", "alphas", "uvs"):
        torch.testing.assert_close(getattr(finest, name)[0], getattr(every, name)[0])
    torch.testing.assert_close(finest.occlusion, every.occlusion)


def test_network__each_scale_fuses_the_input_of_its_size(small: CompletionNetwork) -> None:
    """With alpha at 0 every scale shows the input averaged down to it, finest first."""
    network = create_network("cadf_small_128").eval()
    network.load_state_dict(small.state_dict())
    with torch.no_grad():
        for fusion in network.decoder.fusions:
            fusion.transform[2].weight.zero_()
            fusion.transform[2].bias.fill_(-60.0)
        images = network(picture(2)).images
    for scale, image in enumerate(images):
        torch.testing.assert_close(image, functional.avg_pool2d(picture(2), 2**scale))


def test_network__pictures_of_a_batch_do_not_mix(small: CompletionNetwork) -> None:
    x = picture(3)
    with torch.no_grad():
        together, alone = small(x), small(x[1:2])
    torch.testing.assert_close(together.images[0][1:2], alone.images[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together.occlusion[1:2], alone.occlusion, atol=1e-5, rtol=1e-4)


def test_network__gradients_reach_every_parameter() -> None:
    network = create_network("cadf_small_128").train()
    for refinement in network.decoder.refinements.values():
        torch.nn.init.ones_(refinement.block.norm.weight)  # type: ignore[union-attr, arg-type]
    for attention in network.decoder.attentions.values():
        for last in (attention.layer.self_attn.out_proj, attention.layer.linear2):  # type: ignore[union-attr]
            torch.nn.init.ones_(last.weight)  # type: ignore[union-attr, arg-type]
    for part in network.modules():
        if isinstance(part, Expansion):
            torch.nn.init.ones_(part.norm.weight)
    decoded = network(picture(2))
    generator = torch.Generator().manual_seed(0)
    maps = [*decoded.images, *decoded.uvs, decoded.occlusion]
    total = sum((torch.randn(m.shape, generator=generator) * m).mean() for m in maps)
    assert isinstance(total, torch.Tensor)
    total.backward()
    silent = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert silent == []
    unused = [n for n, p in network.named_parameters() if p.grad is not None and not p.grad.any()]
    assert unused == []


def test_network__no_blocks_where_skip_connections_are_silent(small: CompletionNetwork) -> None:
    """What only the deepest maps know comes up smooth: neighbours differ inside the old pixels too."""
    network = create_network("cadf_small_128").eval()
    network.load_state_dict(small.state_dict())
    finest = []
    network.decoder.blocks[0].register_forward_pre_hook(lambda _, inputs: finest.append(inputs[0]))
    with torch.no_grad():
        network(picture(1))
    steps = finest[0][:, :32].diff(dim=3).abs().mean((0, 1, 2))
    assert 0 < steps[1::2].mean() < 3 * steps[0::2].mean()


def test_network__refined_levels(small: CompletionNetwork) -> None:
    assert list(small.decoder.refinements) == ["2", "3", "4"]
    assert not create_network("cadf_base_128").decoder.refinements


def test_network__correspondence_head_feeds_no_picture(small: CompletionNetwork) -> None:
    """(u, v) is read from the same features as the picture, at every scale by a head of its own."""
    network = create_network("cadf_small_128").eval()
    network.load_state_dict(small.state_dict())
    with torch.no_grad():
        before = network(picture(1))
        for head in network.decoder.correspondences:
            head.conv.weight.zero_()
            head.conv.bias.copy_(torch.tensor([0.0, 60.0]))
        after = network(picture(1))
    for old, new, uv in zip(before.images, after.images, after.uvs, strict=True):
        torch.testing.assert_close(old, new)
        torch.testing.assert_close(uv.mean((0, 2, 3)), torch.tensor([0.5, 1.0]))


def test_create_network__unknown_lists_the_known() -> None:
    with pytest.raises(InputError, match="'cadf_huge' is unknown; known: cadf_small_128, cadf_base_128, cadf_base_256"):
        create_network("cadf_huge")


def test_create_network__draws_from_the_current_random_state() -> None:
    states = []
    for seed in (1, 1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            states.append(create_network("cadf_small_128").decoder.occlusion.weight)
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_create_network__without_fusion() -> None:
    """At every scale the features become the picture by themselves; all else is the same network."""
    network = create_network("cadf_small_128", fusion=False).eval()
    heads = {key for key in network.state_dict() if ".fusions." in key}
    assert heads == {
        f"decoder.fusions.{scale}.to_image.{part}" for scale in range(SCALES) for part in ("weight", "bias")
    }
    full = create_network("cadf_small_128").state_dict()
    shapes = {key: value.shape for key, value in network.state_dict().items()}
    assert {key for key in full if ".fusions." not in key} == shapes.keys() - heads
    assert all(full[key].shape == shape for key, shape in shapes.items())
    with torch.no_grad():
        for fusion in network.decoder.fusions:
            fusion.to_image.weight.zero_()
            fusion.to_image.bias.fill_(0.25)
        decoded = network(picture(2))
    check_shapes(decoded, 2, 128)
    for image, alpha in zip(decoded.images, decoded.alphas, strict=True):
        assert (image == 0.25).all()
        assert (alpha == 1).all()
    assert not network.config.fusion
    assert create_network("cadf_small_128").config.fusion


def test_decoder__blocks_let_a_fifth_below_zero_through(small: CompletionNetwork) -> None:
    for block in small.decoder.blocks:
        assert isinstance(block, ConvBlock)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(1, block.conv.in_channels, 4, 4, generator=generator)
        with torch.no_grad():
            before = block.norm(block.conv(x))
            torch.testing.assert_close(block(x), torch.where(before < 0, before / 5, before))
        assert (before < 0).any()
