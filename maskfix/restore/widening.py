"""Weights of narrower networks in wider ones: where expansions are lacking, ones that add nothing stand."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def load_narrower(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights of this network, or of one that lacks some of its expansions and gives the same pictures.

    Args:
        module: A `CompletionNetwork`, or its encoder or decoder. One on the meta device takes over the tensors
            themselves, with nought for all that is lacking: enough to run, not to train.
        weights: What the narrower one's `state_dict` gave.

    Raises:
        RuntimeError: If anything else is missing, of another shape or too much; an expansion in parts is damaged too.

    Example:
        >>> from dataclasses import replace
        >>> from maskfix.restore import CONFIGS, CompletionNetwork
        >>> wide = CompletionNetwork(CONFIGS["cadf_small_128"])
        >>> narrow = CompletionNetwork(replace(wide.config, encoder_expansions=(), decoder_expansions=()))
        >>> load_narrower(wide, narrow.state_dict())
    """
    like = module.state_dict()
    module.load_state_dict(widen(weights, like), assign=any(value.is_meta for value in like.values()))


def widen(weights: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a network as those of a wider one that gives the same pictures.

    Args:
        weights: By name; names may have a prefix, the same as those of `like`.
        like: Weights of the wider network. Expansions that `weights` know nothing of are taken from it, with the last
            norm at nought, so that they add nothing until they learn.
    """
    # Only whole expansions are lent: what is of none (the empty name) must be there.
    known = {""} | {_expansion_of(name) for name in weights}
    added = {name: value for name, value in like.items() if _expansion_of(name) not in known}
    for name, value in added.items():
        if value.is_meta or name.removeprefix(_expansion_of(name)) in (".norm.weight", ".norm.bias"):
            added[name] = torch.zeros_like(value, device="cpu" if value.is_meta else value.device)
    return added | dict(weights)


def _expansion_of(name: str) -> str:
    """The expansion that a tensor is of, as `expansions.2.0`; empty for tensors of anything else."""
    before, found, after = name.partition("expansions.")
    return f"{before}{found}{'.'.join(after.split('.')[:2])}" if found else ""
