"""Random networks that take every face for occluded, or none."""

from __future__ import annotations

import torch

from maskfix.restore import CompletionNetwork, create_network


def biased_network(bias: float) -> CompletionNetwork:
    """A random network whose occlusion map is that of the bias everywhere: all for 20, nothing for -20."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = create_network("cadf_small_128")
    with torch.no_grad():
        network.decoder.occlusion.weight.zero_()
        network.decoder.occlusion.bias.fill_(bias)  # type: ignore[union-attr]
    return network
