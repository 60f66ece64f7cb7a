"""The multi-scale decoder (paper section 3.2 and figure 1): at its last six scales a fused picture and (u, v)."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, cat, nn
from torch.nn import functional

from maskfix.restore.config import SCALES, NetworkConfig
from maskfix.restore.correspondence import CorrespondenceHead
from maskfix.restore.fusion import DualAttentionFusion, PlainHead
from maskfix.restore.layers import ConvBlock, Refinement, SelfAttention, expansions_of


class Decoded(NamedTuple):
    """What the decoder returns; lists run from the finest scale (the paper's layer 1) to the coarsest.

    Attributes:
        images: Fused pictures, `(N, 3, S / 2**k, S / 2**k)`.
        alphas: Spatial attention maps of the same shapes, in [0, 1].
        uvs: (u, v), `(N, 2, S / 2**k, S / 2**k)` in [0, 1].
        occlusion: Logits of the occlusion map, `(N, 1, S, S)`.
    """

    images: list[Tensor]
    alphas: list[Tensor]
    uvs: list[Tensor]
    occlusion: Tensor


class MultiScaleDecoder(nn.Module):
    """Features to pictures, coarse to fine, with skip connections from the encoder.

    Args:
        config: Sizes of the network.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        skips = (3, *config.widths[:-1])
        outputs = (config.full_width, *config.widths[:-1])
        deeper = (*outputs[1:], config.widths[-1])
        widths = list(zip(deeper, skips, outputs, strict=True))
        self.blocks = nn.ModuleList(ConvBlock(below + skip, out, slope=0.2) for below, skip, out in widths)
        self.fusions = nn.ModuleList(
            DualAttentionFusion(out, config.fusion_width, config.reduction) if config.fusion else PlainHead(out)
            for out in outputs[:SCALES]
        )
        self.attentions = nn.ModuleDict(
            {str(level): SelfAttention(outputs[level], config.size >> level) for level in config.attended}
        )
        self.refinements = nn.ModuleDict({str(level): Refinement(outputs[level]) for level in config.refined})
        self.expansions = expansions_of(config.decoder_expansions, outputs)
        self.correspondences = nn.ModuleList(CorrespondenceHead(out) for out in outputs[:SCALES])
        self.occlusion = nn.Conv2d(config.full_width, 1, 3, padding=1)

    def forward(self, picture: Tensor, features: list[Tensor], every_scale: bool = True) -> Decoded:
        """Decode.

        Args:
            picture: The network's input, `(N, 3, S, S)` in [0, 1].
            features: The encoder's maps, finest first.
            every_scale: Whether the coarser pictures and (u, v) are wanted; at inference the finest is enough.
        """
        pyramid = [picture]
        for _ in range(SCALES - 1 if every_scale else 0):
            pyramid.append(functional.avg_pool2d(pyramid[-1], 2))
        skips = [picture * 2 - 1, *features[:-1]]
        fused, uvs = [], []
        x = features[-1]
        for level in reversed(range(len(self.blocks))):
            # Bilinear: under a mask the skip connections know nothing, and the edges of repeated pixels stay as blocks.
            x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = self.blocks[level](cat([x, skips[level].to(x.dtype)], 1))
            if str(level) in self.attentions:
                x = self.attentions[str(level)](x)
            if str(level) in self.refinements:
                x = self.refinements[str(level)](x)
            if str(level) in self.expansions:
                x = self.expansions[str(level)](x)
            if level < len(pyramid):
                fused.append(self.fusions[level](x, pyramid[level]))
                uvs.append(self.correspondences[level](x))
        fused.reverse()
        uvs.reverse()
        return Decoded([f.image for f in fused], [f.alpha for f in fused], uvs, self.occlusion(x))
