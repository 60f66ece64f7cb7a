"""The completion network: occluded pictures in, completed pictures, (u, v) and an occlusion map out. Blind."""

from __future__ import annotations

from torch import Tensor, nn

from maskfix.restore.config import NetworkConfig
from maskfix.restore.decoder import Decoded, MultiScaleDecoder
from maskfix.restore.encoder import Encoder


class CompletionNetwork(nn.Module):
    """Encoder and multi-scale decoder with dual attention fusion and dense correspondence (paper figure 1).

    Args:
        config: Sizes of the network.

    Attributes:
        config: Sizes of the network.
        encoder: The encoder that stage 1 trains.
        decoder: The decoder of stage 2.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = MultiScaleDecoder(config)

    def forward(self, picture: Tensor, every_scale: bool = True) -> Decoded:
        """Complete pictures; no hole mask goes in.

        Args:
            picture: `(N, 3, S, S)` in [0, 1]; N may be 1 in training mode too.
            every_scale: Whether the five coarser scales are wanted as well.
        """
        decoded: Decoded = self.decoder(picture, self.encoder(picture), every_scale)
        return decoded
