"""A mask detector that others trained: does it still see a mask once the face is completed?

mask-recognition 0.0.1 (MIT) classifies faces into masked and bare: torchvision's MobileNetV2, whose ImageNet weights it
keeps, under two linear layers. It is part of no loss and no choice of ours, and it was taught what a mask looks like by
other pictures. Its file comes from PyPI, and nothing of the package is run:

    pip download --no-deps mask-recognition==0.0.1
    unzip -j mask_recognition-0.0.1-*.whl mask_recognition/model/model.pth
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from maskfix.base import BoolArray, UInt8Array, check_crops, resolve_device
from maskfix.embed.checkpoints import build_loaded, read_state

NAME = "mask-recognition 0.0.1"

FACE = (24 / 128, 8 / 128, 104 / 128, 116 / 128)
"""What it is shown of a canonical crop: left, upper, right and lower end, as shares of its side.

It expects faces cut out by MTCNN's boxes; this is their median on 80 held-out faces.
"""

_SIDE = 128
"""Side of the pictures that it takes, in pixels."""


class _Network(nn.Module):
    """The package's network, with its names of the weights."""

    def __init__(self) -> None:
        from torchvision.models import mobilenet_v2

        super().__init__()
        self.bottom = mobilenet_v2(weights=None).features
        self.top = nn.Sequential(nn.Linear(1280 * 4 * 4, 256), nn.ReLU(), nn.Linear(256, 2), nn.LogSoftmax(dim=1))

    def forward(self, pictures: Tensor) -> Tensor:
        """Logarithms of the probabilities of masked and bare, `(N, 2)`, from `(N, 3, 128, 128)` in [-1, 1]."""
        found: Tensor = self.top(self.bottom(pictures).flatten(1))
        return found


class MaskDetector:
    """Says of canonical crops whether the face wears a mask.

    Args:
        path: The package's `model.pth`.
        device: `auto`, `cpu` or `cuda`.
        batch_size: Crops at a time.

    Attributes:
        sha256: Of the file.

    Raises:
        EmbedderError: If the file is missing, damaged, or no checkpoint of this network.
        InputError: If the device is not there.
    """

    def __init__(self, path: str | Path, device: str = "auto", batch_size: int = 32) -> None:
        self._device = torch.device(resolve_device(device))
        self._batch_size = batch_size
        state, self.sha256 = read_state(path)
        self._network = build_loaded(_Network, state, path, NAME).to(self._device)

    @torch.inference_mode()
    def see(self, crops: UInt8Array) -> BoolArray:
        """Whether each face wears a mask, the likelier of the two.

        Args:
            crops: `(N, S, S, 3)` uint8 RGB in the canonical layout; N may be 0.

        Returns:
            `(N,)` bool.

        Raises:
            InputError: If type or shape differ.
        """
        check_crops("crops", crops)
        left, upper, right, lower = (round(share * crops.shape[1]) for share in FACE)
        seen = np.zeros(len(crops), np.bool_)
        for start in range(0, len(crops), self._batch_size):
            part = slice(start, start + self._batch_size)
            faces = torch.from_numpy(crops[part, upper:lower, left:right].copy()).to(self._device)
            pictures = nn.functional.interpolate(
                faces.permute(0, 3, 1, 2).float(), (_SIDE, _SIDE), mode="bilinear", antialias=True
            )
            masked, bare = self._network(pictures / 127.5 - 1).T
            seen[part] = (masked > bare).cpu().numpy()
        return seen
