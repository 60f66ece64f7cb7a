"""The early look: whether a face is surely clean, from the encoder's deep maps alone, before anything is decoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from maskfix.base import Completion, UInt8Array
from maskfix.restore.config import NetworkConfig

FIRST_LEVEL = 3
"""First encoder level that is looked at; its map is a sixteenth of the picture wide."""

CLEAN_COVERAGE = 0.04
"""A face is clean, to the early look, if the whole network finds at most this share of the crop occluded: what a gate
passes by default. A gate with a lower threshold does not go by the early look."""


class EarlySight(NamedTuple):
    """What the early look saw of N pictures.

    Attributes:
        occlusion: Estimated occluded share of each cell, `(N, 1, S / 16, S / 16)` in [0, 1].
        coverage: Estimated occluded share of the picture, `(N,)` in [0, 1]: the cells' mean.
        clean: Whether the picture is surely clean, `(N,)` bool.
    """

    occlusion: Tensor
    coverage: Tensor
    clean: Tensor


def unchanged(crops: UInt8Array, sight: EarlySight) -> Completion:
    """The completion of crops that pass as they are, as `Deoccluder.complete_unless_clean` describes it.

    Args:
        crops: `(N, S, S, 3)` uint8 RGB.
        sight: What the early look saw of them.
    """
    size = crops.shape[1]
    shape = (len(crops), size, size)
    enlarged = functional.interpolate(sight.occlusion, size=size, mode="nearest")[:, 0]
    return Completion(
        images=crops.copy(),
        occlusion=np.ascontiguousarray(enlarged.cpu().numpy()),
        coverage=np.ascontiguousarray(sight.coverage.cpu().numpy()),
        alpha=np.zeros(shape, np.float32),
        uv=np.full((*shape, 2), np.nan, np.float32),
    )


class EarlyLook(nn.Module):
    """A logistic probe on each place of the encoder's deep maps; it tells clean faces from those that may be occluded.

    It is fitted to what the whole network sees (`maskfix.train.early`) and is asked for one answer only: surely clean.
    Any other face goes on through the decoder, with the very features that the probe looked at.

    Args:
        config: Sizes of the network that it belongs to.

    Attributes:
        weight: `(C,)`, C channels of the levels from `FIRST_LEVEL` on, in their order.
        bias: `()`.
        limit: `()`; estimated coverage below which a picture is surely clean. 0, as it starts, calls nothing clean.

    Example:
        >>> from maskfix.restore import CONFIGS, create_network
        >>> network = create_network("cadf_small_128").eval()
        >>> sight = EarlyLook(network.config)(network.encoder(torch.zeros(2, 3, 128, 128)))
        >>> tuple(sight.occlusion.shape), sight.clean.tolist()
        ((2, 1, 8, 8), [False, False])
    """

    weight: Tensor
    bias: Tensor
    limit: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.widths = config.widths[FIRST_LEVEL:]
        self.register_buffer("weight", torch.zeros(sum(self.widths), dtype=torch.float32))
        self.register_buffer("bias", torch.zeros((), dtype=torch.float32))
        self.register_buffer("limit", torch.zeros((), dtype=torch.float32))

    def forward(self, features: list[Tensor]) -> EarlySight:
        """Look at the encoder's maps, finest first, as `Encoder` gives them."""
        logits = self.bias
        for level, weight in zip(features[FIRST_LEVEL:], torch.split(self.weight, list(self.widths)), strict=True):
            # Weighing and enlarging commute, and one channel is enlarged faster than hundreds.
            weighed = torch.einsum("nchw,c->nhw", level.float(), weight)[:, None]
            logits = logits + enlarge(weighed, features[FIRST_LEVEL])
        occlusion = torch.sigmoid(logits)
        coverage = occlusion.mean((1, 2, 3))
        return EarlySight(occlusion, coverage, coverage < self.limit)


PREFIX = "early_look."
"""What the early look's tensors are called in a weights file, before their own names."""


def split_early_look(state: Mapping[str, Tensor], config: NetworkConfig) -> tuple[dict[str, Tensor], EarlyLook | None]:
    """Take the state of a weights file apart into the network's and its early look.

    Args:
        state: Tensors by name.
        config: Sizes of the network.

    Returns:
        The network's own state, and the early look, or None where the file has none.

    Raises:
        RuntimeError: If the early look does not fit the network, as PyTorch's `load_state_dict` says it.
    """
    own = {name: tensor for name, tensor in state.items() if not name.startswith(PREFIX)}
    if len(own) == len(state):
        return own, None
    early = EarlyLook(config)
    early.load_state_dict({name.removeprefix(PREFIX): state[name] for name in state.keys() - own.keys()})
    return own, early


def deep_maps(features: list[Tensor]) -> Tensor:
    """The maps that an early look weighs, all at the size of the first, `(N, C, S / 16, S / 16)`."""
    first = features[FIRST_LEVEL]
    return torch.cat([enlarge(level.float(), first) for level in features[FIRST_LEVEL:]], 1)


def enlarge(level: Tensor, like: Tensor) -> Tensor:
    """A map at the height and width of another, bilinear."""
    if level.shape[-2:] == like.shape[-2:]:
        return level
    return functional.interpolate(level, size=like.shape[-2:], mode="bilinear", align_corners=False)
