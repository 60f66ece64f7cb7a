"""Outputs, targets and a small texture network for the tests of the objective."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskfix.losses import Outputs, Targets

SIZE = 32
SCALES = 6


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outputs(count: int = 3) -> Outputs:
    sizes = [SIZE >> level for level in range(SCALES)]
    images = [draw(count, 3, size, size, seed=size) for size in sizes]
    return Outputs(
        images,
        [draw(count, 2, size, size, seed=100 + size) for size in sizes],
        4 * draw(count, 1, SIZE, SIZE, seed=9) - 2,
    )


def targets(count: int = 3) -> Targets:
    uv, visible = draw(count, 2, SIZE, SIZE, seed=2), draw(count, 1, SIZE, SIZE, seed=3) > 0.4
    return Targets(draw(count, 3, SIZE, SIZE, seed=1), uv, visible, (draw(count, 1, SIZE, SIZE, seed=4) > 0.5).double())


class Texture(nn.Module):
    """A small frozen network that counts the pictures it sees."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.first = nn.Parameter(
            torch.randn(4, 3, 3, 3, generator=generator, dtype=torch.float64), requires_grad=False
        )
        self.second = nn.Parameter(
            torch.randn(5, 4, 3, 3, generator=generator, dtype=torch.float64), requires_grad=False
        )
        self.calls: list[int] = []

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        self.calls.append(len(images))
        first = functional.conv2d(images, self.first.to(images.dtype), stride=2).tanh()
        second = functional.conv2d(first, self.second.to(images.dtype), stride=2).tanh()
        return functional.normalize(second.mean(dim=(2, 3))), [first, second]


def upscaled(images: Tensor, factor: int) -> Tensor:
    return functional.interpolate(images, scale_factor=factor, mode="bilinear") if factor > 1 else images
