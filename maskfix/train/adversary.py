"""The discriminator that stage 2 trains against: a patch network, for training alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from maskfix.losses import adversarial_loss, discriminator_loss

_WIDTHS = (32, 64, 128)


class PatchDiscriminator(nn.Module):
    """Scores patches of 38 pixels, one for each 8 x 8 pixels; spectral norms bound how steep it gets (Miyato, 2018).

    Example:
        >>> PatchDiscriminator()(torch.rand(2, 3, 128, 128)).shape
        torch.Size([2, 1, 16, 16])
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for width in _WIDTHS:
            layers += [spectral_norm(nn.Conv2d(inputs, width, 4, 2, 1)), nn.LeakyReLU(0.2)]
            inputs = width
        layers.append(spectral_norm(nn.Conv2d(inputs, 1, 3, 1, 1)))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Score `(N, 3, H, W)` pictures in [0, 1]; returns `(N, 1, H / 8, W / 8)`, high for real."""
        scores: Tensor = self.layers(images * 2 - 1)
        return scores


class Adversary:
    """Discriminator and optimiser.

    Args:
        learning_rate: Of its optimiser, Adam with momentum 0.5.
        seed: Of its first weights.
        device: Where it lives.
    """

    def __init__(self, learning_rate: float, seed: int, device: torch.device) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = PatchDiscriminator()
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(self.network.parameters(), learning_rate, betas=(0.5, 0.99))

    def term(self, completed: Tensor, occlusion: Tensor) -> Tensor:
        """The completion network's loss on composed pictures; the discriminator itself learns nothing from it."""
        self.network.requires_grad_(False)
        scores = self.network(completed)
        self.network.requires_grad_(True)
        return adversarial_loss(scores, _coverage(occlusion, scores))

    def learn(self, real: Tensor, completed: Tensor, occlusion: Tensor, autocast: Any) -> float:
        """One step of the discriminator; returns its loss.

        Args:
            real: `(N, 3, H, W)` clean pictures.
            completed: `(N, 3, H, W)` composed pictures; no gradient runs into them.
            occlusion: `(N, 1, H, W)` in [0, 1].
            autocast: Context of the forward pass.
        """
        with autocast:
            scores = self.network(torch.cat([real, completed.detach()]))
            first, second = scores.chunk(2)
            loss = discriminator_loss(first, second, _coverage(occlusion, first))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return float(loss.detach())

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])


def _coverage(occlusion: Tensor, scores: Tensor) -> Tensor:
    """Share of each patch's own pixels that is occluded."""
    return functional.adaptive_avg_pool2d(occlusion, (scores.shape[2], scores.shape[3]))
