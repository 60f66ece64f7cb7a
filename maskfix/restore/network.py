"""The completion network: occluded pictures in, completed pictures, (u, v) and an occlusion map out. Blind."""

from __future__ import annotations

from collections.abc import Mapping

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


def load_narrower(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights of a network that lacks some of this one's expansions, or none: a trained network is widened so.

    Expansions that the weights know nothing of stay as they are; fresh ones change nothing until they learn.

    Args:
        module: A `CompletionNetwork`, or its encoder or decoder.
        weights: What the narrower one's `state_dict` gave.

    Raises:
        RuntimeError: If anything else is missing, of another shape or too much; an expansion in parts is damaged too.

    Example:
        >>> from dataclasses import replace
        >>> from maskfix.restore import CONFIGS
        >>> wide = CompletionNetwork(CONFIGS["cadf_small_128"])
        >>> narrow = CompletionNetwork(replace(wide.config, encoder_expansions=(), decoder_expansions=()))
        >>> load_narrower(wide, narrow.state_dict())
    """
    known = {_expansion_of(name) for name in weights}
    kept = {name: value for name, value in module.state_dict().items() if _expansion_of(name) not in known}
    module.load_state_dict(kept | dict(weights))


def _expansion_of(name: str) -> str:
    """The expansion that a tensor is of, as `expansions.2.0`; empty for tensors of anything else."""
    before, found, after = name.partition("expansions.")
    return f"{before}{found}{'.'.join(after.split('.')[:2])}" if found else ""
