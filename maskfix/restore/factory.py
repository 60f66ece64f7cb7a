"""Completion networks by name."""

from __future__ import annotations

from dataclasses import replace

from maskfix.base import check_choice
from maskfix.restore.config import CONFIGS
from maskfix.restore.network import CompletionNetwork


def list_networks() -> tuple[str, ...]:
    """Names that `create_network` knows.

    Example:
        >>> list_networks()
        ('cadf_small_128', 'cadf_base_128', 'cadf_base_256')
    """
    return tuple(CONFIGS)


def create_network(name: str, fusion: bool = True) -> CompletionNetwork:
    """Make a completion network with random weights, drawn from torch's current random state.

    Args:
        name: One of `list_networks()`.
        fusion: Whether with dual attention fusion; without it each scale has a plain picture head (for ablations).

    Raises:
        InputError: If the name is unknown.
    """
    check_choice("network", name, CONFIGS)
    return CompletionNetwork(replace(CONFIGS[name], fusion=fusion))
