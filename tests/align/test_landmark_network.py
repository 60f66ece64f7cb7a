"""The network that reads landmarks off a crop."""

from __future__ import annotations

import pytest
import torch

from maskfix.align.landmark_network import LandmarkNetwork, create_landmark_network
from maskfix.base import InputError, canonical_layout


def trained() -> LandmarkNetwork:
    """A network whose last layer no longer starts from nought."""
    generator = torch.Generator().manual_seed(0)
    network = create_landmark_network().eval()
    torch.nn.init.normal_(network.offsets.weight, std=0.01, generator=generator)
    torch.nn.init.normal_(network.body[2].norm.weight, generator=generator)
    return network


def test_untrained_it_leaves_the_points_where_the_layout_has_them() -> None:
    pictures = torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    points = create_landmark_network().eval()(pictures)
    expected = torch.tensor(canonical_layout(128).array, dtype=torch.float32)
    torch.testing.assert_close(points, expected.expand(3, 5, 2))


def test_offsets_are_in_shares_of_the_side() -> None:
    network = create_landmark_network().eval()
    with torch.no_grad():
        network.offsets.bias.copy_(torch.arange(10) / 128)
    moved = network(torch.zeros(1, 3, 128, 128))[0] - network.layout
    torch.testing.assert_close(moved, torch.arange(10.0).view(5, 2), atol=1e-4, rtol=0)


def test_each_picture_counts_for_itself_whatever_its_order_in_memory() -> None:
    network, pictures = trained(), torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        together = network(pictures)
        alone = torch.cat([network(picture[None]) for picture in pictures])
        last = network.to(memory_format=torch.channels_last)(pictures.contiguous(memory_format=torch.channels_last))
    assert (together[0] - together[1]).abs().max() > 0.01
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=0)
    torch.testing.assert_close(together, last, atol=1e-3, rtol=0)


def test_size_as_its_docstring_says() -> None:
    network = create_landmark_network()
    assert sum(parameter.numel() for parameter in network.parameters()) == pytest.approx(2.2e6, rel=0.03)
    assert "layout" not in network.state_dict()


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"expected \(N, 3, 128, 128\), got \(1, 3, 64, 64\)"):
        LandmarkNetwork()(torch.zeros(1, 3, 64, 64))
    with pytest.raises(InputError, match="network"):
        create_landmark_network("landmarks_64")
