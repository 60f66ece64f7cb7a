"""A small network that reads the five landmarks off a canonical crop, whatever hides the face in it.

Detectors are trained on bare faces and guess nose and mouth under a mask. This network has seen masks: its training
moves masked crops at random and asks where the face has gone (`maskfix.train.landmarks`). Coordinates are regressed
directly, as in the last stages of cascaded regressors (Zhang et al. 2016, MTCNN, section 3).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskfix.base import InputError, canonical_layout, check_choice

NETWORKS = ("landmarks_128",)
"""Names that `create_landmark_network` knows."""

_SIZE = 128
_WIDTHS = (16, 32, 64, 128, 192)
_HIDDEN = 256


class LandmarkNetwork(nn.Module):
    """Five points of the face in a crop.

    Five halvings by strided convolutions, a residual block after each but the first, and two linear layers on the
    4 x 4 map that is left: 2.2 million parameters, 0.09 GMAC a crop. What comes out is added to where the canonical
    layout has the points, so that an untrained network leaves every crop as it is.

    Attributes:
        size: Side S of the crop in pixels.

    Example:
        >>> points = LandmarkNetwork().eval()(torch.zeros(2, 3, 128, 128))
        >>> points.shape, bool(torch.allclose(points[0], torch.tensor(canonical_layout(128).array).float()))
        (torch.Size([2, 5, 2]), True)
    """

    layout: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.size = _SIZE
        # Of no weights file: it is there even where the network is built on the meta device, to be loaded.
        layout = torch.tensor(canonical_layout(_SIZE).array, dtype=torch.float32, device="cpu")
        self.register_buffer("layout", layout, False)
        blocks: list[nn.Module] = [_Convolution(3, _WIDTHS[0], 5, 2)]
        for before, width in pairwise(_WIDTHS):
            blocks += [_Convolution(before, width, 3, 2), _Residual(width)]
        self.body = nn.Sequential(*blocks)
        side = _SIZE // 2 ** len(_WIDTHS)
        self.hidden = nn.Linear(side * side * _WIDTHS[-1], _HIDDEN)
        self.offsets = nn.Linear(_HIDDEN, 10)
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.offsets.bias)

    def forward(self, pictures: Tensor) -> Tensor:
        """Read the landmarks.

        Args:
            pictures: `(N, 3, S, S)` float in [0, 1], RGB.

        Returns:
            `(N, 5, 2)` float32 ArcFace points in pixels of the crop; they may lie outside of it.

        Raises:
            InputError: If the crops are of another size.
        """
        if pictures.shape[1:] != (3, self.size, self.size):
            raise InputError(f"pictures: expected (N, 3, {self.size}, {self.size}), got {tuple(pictures.shape)}")
        # By rows, whichever way the map lies in memory: channels_last would mix up the weights of the linear layer.
        flat = self.body(pictures - 0.5).contiguous().flatten(1)
        offsets = self.offsets(functional.relu(self.hidden(flat))).float()
        points: Tensor = self.layout + self.size * offsets.view(-1, 5, 2)
        return points


class _Convolution(nn.Sequential):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        )


class _Residual(nn.Module):
    """Two 3 x 3 convolutions and what went in; starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _Convolution(width, width, 3)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        nn.init.zeros_(self.norm.weight)

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu(maps + self.norm(self.second(self.first(maps))))


def create_landmark_network(name: str = NETWORKS[0]) -> LandmarkNetwork:
    """Make an untrained landmark network.

    Args:
        name: One of `NETWORKS`.

    Raises:
        InputError: If the name is unknown.
    """
    check_choice("network", name, NETWORKS)
    return LandmarkNetwork()
