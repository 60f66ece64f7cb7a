"""The frozen networks behind the texture terms: one for identity, one for style."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskfix.embed.mobilefacenet import INPUT_SIZE, MobileFaceNet

_VGG_FILE = "vgg16-397923af.pth"
# Outputs of the first three pooling layers, as in DFNet and partial convolution.
_VGG_STAGES = ((0, 5), (5, 10), (10, 17))


def vgg_weights() -> Path | None:
    """Torchvision's VGG-16 weights, if they lie where torchvision keeps them; nothing is downloaded."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / _VGG_FILE
    return path if path.is_file() else None


class Texture(nn.Module):
    """Identity embedding and style maps of pictures in the canonical crop; a `losses.TextureNetwork`.

    Args:
        identity: A network with `forward_features(x) -> (embedding, maps)` on 112x112 pictures.
        vgg: VGG-16's features, or None to take the identity network's early maps for style.
    """

    def __init__(self, identity: MobileFaceNet, vgg: nn.Module | None = None) -> None:
        super().__init__()
        self.identity = identity
        self.vgg = vgg
        self.eval().requires_grad_(False)

    @property
    def style_network(self) -> str:
        """Which network the style term uses, for the run's record."""
        return "torchvision VGG-16" if self.vgg is not None else "identity network's early feature maps"

    def forward(self, images: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Embed `(N, 3, H, W)` pictures in [0, 1]; returns `(N, D)` and the style maps."""
        small = functional.interpolate(images, size=(INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
        embedding, maps = self.identity.forward_features(small)
        if self.vgg is None:
            return embedding, maps
        return embedding, self._vgg_maps(images)

    def _vgg_maps(self, images: Tensor) -> list[Tensor]:
        mean, deviation = images.new_tensor([0.485, 0.456, 0.406]), images.new_tensor([0.229, 0.224, 0.225])
        x = (images - mean[:, None, None]) / deviation[:, None, None]
        maps = []
        layers: Any = self.vgg
        for first, last in _VGG_STAGES:
            x = layers[first:last](x)
            maps.append(x)
        return maps


def load_texture(identity: str | Path) -> Texture:
    """Load the identity network from ONNX, and VGG-16 where its weights are on this machine.

    Args:
        identity: MobileFaceNet as ONNX.

    Raises:
        EmbedderError: If the file is no MobileFaceNet.
        DependencyError: If onnx is not installed.
    """
    path = vgg_weights()
    vgg = None
    if path is not None:
        from torchvision.models import vgg16

        whole = vgg16()
        whole.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        vgg = whole.features
    return Texture(MobileFaceNet.from_onnx(identity), vgg)
