"""The dual attention fusion module (DAF; paper section 3.2, equations 3 to 8), and the plain head without it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from maskfix.restore.layers import ConvBlock


class Fused(NamedTuple):
    """What the fusion module returns.

    Attributes:
        image: Fused picture, `(N, 3, h, w)` (eq. 8).
        alpha: Spatial attention map, `(N, 3, h, w)` in [0, 1] (eq. 7): 1 takes the restored picture, 0 the input.
        restored: The picture restored from features alone, `(N, 3, h, w)`.
    """

    image: Tensor
    alpha: Tensor
    restored: Tensor


class ChannelAttention(nn.Module):
    """Channel attention: global pooling, squeeze to C / r, gate each channel (eqs. 3 to 5).

    Args:
        channels: C.
        reduction: r; at least four channels are kept.
    """

    def __init__(self, channels: int, reduction: int = 16) -> None:
        super().__init__()
        squeezed = max(channels // reduction, 4)
        self.down = nn.Conv2d(channels, squeezed, 1)
        self.up = nn.Conv2d(squeezed, channels, 1)
        # With four units a module in sixteen would start with all of them shut, and a shut ReLU never learns.
        nn.init.ones_(self.down.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Rescale `(N, C, h, w)` features channel by channel."""
        statistics = features.mean((2, 3), keepdim=True)
        gates = torch.sigmoid(self.up(torch.relu(self.down(statistics))))
        return features * gates


class PlainHead(nn.Module):
    """The picture straight from the features: what is left of the fusion module without its two attentions and blend.

    Args:
        channels: Channels of the decoder's feature map at this scale.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_image = nn.Conv2d(channels, 3, 1)
        nn.init.constant_(self.to_image.bias, 0.5)  # type: ignore[arg-type]

    def forward(self, features: Tensor, _picture: Tensor) -> Fused:
        """Restore one scale from `(N, C, h, w)` features; the input is not looked at, and alpha is 1 everywhere."""
        restored = self.to_image(features)
        return Fused(restored, torch.ones_like(restored), restored)


class DualAttentionFusion(nn.Module):
    """Blend what the decoder restored with what the input shows, after attending to channels and places.

    Args:
        channels: Channels of the decoder's feature map at this scale.
        width: Channels inside the transformation A.
        reduction: r of the channel attention.
    """

    def __init__(self, channels: int, width: int = 32, reduction: int = 16) -> None:
        super().__init__()
        self.channel_attention = ChannelAttention(channels, reduction)
        self.to_image = nn.Conv2d(channels, 3, 1)
        self.from_input = nn.Conv2d(3, 3, 1)
        self.transform = nn.Sequential(
            ConvBlock(6, width, slope=0.2), ConvBlock(width, width, slope=0.2), nn.Conv2d(width, 3, 3, padding=1)
        )
        # The input passes unchanged at first: eq. 6 learns a colour map, and identity is where it has to start.
        nn.init.dirac_(self.from_input.weight)
        nn.init.zeros_(self.from_input.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.to_image.bias, 0.5)  # type: ignore[arg-type]

    def forward(self, features: Tensor, picture: Tensor) -> Fused:
        """Fuse one scale.

        Args:
            features: Decoder features, `(N, C, h, w)`.
            picture: The network's input averaged down to this scale, `(N, 3, h, w)` in [0, 1]. Averaging and the 1x1
                convolution of eq. 6 commute, so the input is scaled once for all and convolved where it is small.
        """
        restored = self.to_image(self.channel_attention(features))
        known = self.from_input(picture)
        alpha = torch.sigmoid(self.transform(torch.cat([restored, known], 1)))
        return Fused(torch.lerp(known, restored, alpha), alpha, restored)
