"""The encoder: strided convolutions, one feature map a level (paper section 3.1; sizes after DFNet)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maskfix.restore.config import NetworkConfig
from maskfix.restore.layers import ConvBlock, expansions_of


class Encoder(nn.Module):
    """Pictures to feature maps at 1/2, 1/4, ... of their size.

    Args:
        config: Sizes of the network.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        inputs = (3, *config.widths[:-1])
        self.levels = nn.ModuleList()
        for level, (before, width, kernel) in enumerate(zip(inputs, config.widths, config.kernels, strict=True)):
            norm = config.size >> (level + 1) > 1
            blocks = [ConvBlock(before, width, kernel, stride=2, norm=norm)]
            if config.refine:
                blocks.append(ConvBlock(width, width, norm=norm))
            self.levels.append(nn.Sequential(*blocks))
        self.expansions = expansions_of(config.encoder_expansions, config.widths)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Encode pictures.

        Args:
            x: `(N, 3, S, S)` in [0, 1].

        Returns:
            One map a level, finest first: `(N, widths[i], S / 2**(i+1), S / 2**(i+1))`.
        """
        # Centred input: batch norm would centre it too, but only after the first levels have learnt to.
        x = x * 2 - 1
        features = []
        for number, level in enumerate(self.levels):
            x = level(x)
            if str(number) in self.expansions:
                x = self.expansions[str(number)](x)
            features.append(x)
        return features


class ProjectionHead(nn.Module):
    """Representation of a picture for contrastive learning: pooled deepest maps, two linear layers, unit length.

    Args:
        config: Sizes of the network.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        pooled = config.widths[-1] + config.widths[-2]
        self.layers = nn.Sequential(nn.Linear(pooled, pooled), nn.ReLU(), nn.Linear(pooled, config.projection))

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map the encoder's features to `(N, projection)` of unit length."""
        pooled = torch.cat([feature.float().mean((2, 3)) for feature in features[-2:]], 1)
        return nn.functional.normalize(self.layers(pooled), dim=1)
