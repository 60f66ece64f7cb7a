"""The encoder's maps and the representation of stage 1."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from maskfix.restore import CONFIGS
from maskfix.restore.encoder import Encoder, ProjectionHead


@pytest.mark.parametrize("name", list(CONFIGS))
def test_encoder__shapes(name: str) -> None:
    config = CONFIGS[name]
    with torch.no_grad():
        features = Encoder(config).eval()(torch.zeros(1, 3, config.size, config.size))
    assert [tuple(f.shape) for f in features] == [
        (1, width, config.size >> (level + 1), config.size >> (level + 1)) for level, width in enumerate(config.widths)
    ]


def test_encoder__each_level_and_its_expansions_feed_the_next() -> None:
    config = replace(CONFIGS["cadf_small_128"], encoder_expansions=(0, 0, 2))
    encoder = Encoder(config).eval()
    for expansion in encoder.expansions["2"]:
        torch.nn.init.ones_(expansion.norm.weight)
    picture = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = encoder(picture)
        torch.testing.assert_close(encoder.levels[0](picture * 2 - 1), features[0])
        for level in range(1, len(features)):
            expected = encoder.levels[level](features[level - 1])
            if level == 2:
                assert not torch.equal(expected, features[level])
                for expansion in encoder.expansions["2"]:
                    expected = expansion(expected)
            torch.testing.assert_close(expected, features[level])


def test_projection__unit_length_of_the_two_deepest_maps() -> None:
    config = CONFIGS["cadf_small_128"]
    head = ProjectionHead(config).eval()
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(3, w, 4, 4, generator=generator) for w in config.widths]
    with torch.no_grad():
        out = head(maps)
        pooled = torch.cat([maps[-2].mean((2, 3)), maps[-1].mean((2, 3))], 1)
        expected = head.layers(pooled)
    assert out.shape == (3, config.projection)
    torch.testing.assert_close(out, expected / expected.norm(dim=1, keepdim=True))
