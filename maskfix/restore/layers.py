"""Building blocks of encoder and decoder: convolutions with norm and activation, shortcuts, self-attention."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvBlock(nn.Module):
    """Convolution, batch norm and activation; the padding keeps `size / stride`.

    Args:
        inputs: Channels in.
        outputs: Channels out.
        kernel: Side of the kernel, odd.
        stride: 1, or 2 to halve the size.
        norm: Whether batch norm follows. Left out where one pixel is all there is: the norm of a batch of one has
            nothing to average over there (DFNet fails so in training).
        slope: Slope of the activation below zero; 0 is ReLU.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, norm: bool = True, slope: float = 0.0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=not norm)
        self.norm = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.act = nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, inputs, H, W)` to `(N, outputs, H / stride, W / stride)`."""
        out: Tensor = self.act(self.norm(self.conv(x)))
        return out


class Refinement(nn.Module):
    """A convolution whose result is added to its input; it starts as the identity.

    Args:
        width: Channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.block = ConvBlock(width, width, slope=0.2)
        nn.init.zeros_(self.block.norm.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, width, H, W)` to the same shape."""
        out: Tensor = x + self.block(x)
        return out


class Expansion(nn.Module):
    """Two convolutions, wider in between, whose result is added to their input; it starts as the identity.

    A residual block (He et al., 2016) whose last norm starts at nought: put into a trained network, it changes nothing
    until it has learnt to.

    Args:
        width: Channels in and out.
        factor: How many times as many channels lie between.
    """

    def __init__(self, width: int, factor: int = 2) -> None:
        super().__init__()
        self.widen = ConvBlock(width, factor * width, slope=0.2)
        self.narrow = nn.Conv2d(factor * width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, width, H, W)` to the same shape."""
        out: Tensor = x + self.norm(self.narrow(self.widen(x)))
        return out


def expansions_of(counts: tuple[int, ...], widths: tuple[int, ...]) -> nn.ModuleDict:
    """Rows of expansions, by number of the level in words.

    Args:
        counts: How many stand at each level; levels without any have no entry.
        widths: Channels of each level's map.
    """
    chosen = [(level, count) for level, count in enumerate(counts) if count]
    return nn.ModuleDict(
        {str(level): nn.Sequential(*(Expansion(widths[level]) for _ in range(count))) for level, count in chosen}
    )


class SelfAttention(nn.Module):
    """Self-attention over the pixels of a feature map (Vaswani et al., 2017); it starts as the identity.

    Args:
        width: Channels in and out, a multiple of `HEAD`.
        side: Height and width of the map; positions are learnt.
    """

    HEAD = 32

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, side * side, width))
        nn.init.normal_(self.position, std=0.02)
        self.layer = nn.TransformerEncoderLayer(
            width, width // self.HEAD, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        for last in (self.layer.self_attn.out_proj, self.layer.linear2):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, width, side, side)` to the same shape."""
        tokens = x.flatten(2).transpose(1, 2)
        # What positions add is taken away again, so that a layer that does nothing changes nothing.
        mixed: Tensor = self.layer(tokens + self.position) - self.position
        return mixed.transpose(1, 2).reshape(x.shape)
