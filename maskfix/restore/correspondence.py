"""The dense-correspondence head (paper section 3.3): (u, v) of every pixel at one scale."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class CorrespondenceHead(nn.Module):
    """A 3x3 convolution from decoder features to (u, v).

    Args:
        channels: Channels of the decoder's feature map at this scale.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map `(N, C, h, w)` to (u, v), `(N, 2, h, w)` in [0, 1]; without meaning where no face is."""
        return torch.sigmoid(self.conv(features))
