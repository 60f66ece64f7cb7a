"""The discriminator that stage 2 trains against: a patch network, for training alone."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from maskfix.losses import adversarial_loss, discriminator_loss, perceptual_loss
from maskfix.train.parallel import Processes

_WIDTHS = (32, 64, 128, 256)
# Levels that are scored: patches of 38 pixels for texture, of 78 for nose and mouth.
_SCORED = 2
# Weight of feature matching (Wang et al., pix2pixHD, CVPR 2018) beside the adversarial loss itself.
_FEATURE_WEIGHT = 2.0


class Scores(NamedTuple):
    """What the discriminator makes of pictures.

    Attributes:
        scores: `(N, 1, S / 8, S / 8)` and `(N, 1, S / 16, S / 16)`, high for real.
        features: Its maps at 1/2, 1/4, 1/8 and 1/16 of the pictures' size.
    """

    scores: list[Tensor]
    features: list[Tensor]


class PatchDiscriminator(nn.Module):
    """Scores patches of two sizes; spectral norms bound how steep it gets (Miyato, 2018).

    It sees where the occlusion was and where in the aligned crop it looks, so that it can ask for a mouth where a mouth
    belongs, of real and completed pictures alike.

    Example:
        >>> found = PatchDiscriminator()(torch.rand(2, 3, 128, 128), torch.ones(2, 1, 128, 128))
        >>> [tuple(score.shape) for score in found.scores]
        [(2, 1, 16, 16), (2, 1, 8, 8)]
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (3 + 1 + 2, *_WIDTHS)
        self.levels = nn.ModuleList(
            nn.Sequential(spectral_norm(nn.Conv2d(inputs, width, 4, 2, 1)), nn.LeakyReLU(0.2))
            for inputs, width in pairwise(widths)
        )
        self.heads = nn.ModuleList(spectral_norm(nn.Conv2d(width, 1, 3, 1, 1)) for width in _WIDTHS[-_SCORED:])

    def forward(self, images: Tensor, occlusion: Tensor) -> Scores:
        """Score `(N, 3, S, S)` pictures in [0, 1], occluded where `occlusion` `(N, 1, S, S)` is 1."""
        side = torch.linspace(-1, 1, images.shape[2], device=images.device, dtype=images.dtype)
        places = torch.stack(torch.meshgrid(side, side, indexing="ij")).expand(len(images), -1, -1, -1)
        x = torch.cat([images * 2 - 1, occlusion, places], 1)
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        pairs = zip(self.heads, features[-_SCORED:], strict=True)
        return Scores([head(feature) for head, feature in pairs], features)


class Adversary:
    """Discriminator and optimiser.

    With several processes each gives its own pictures, perhaps none; the losses are scaled so that their mean over
    processes is the loss of all pictures together, and the discriminators stay equal.

    Args:
        learning_rate: Of its optimiser, Adam with momentum 0.5.
        seed: Of its first weights.
        device: Where it lives.
        processes: Those that train together; this one alone when None.
    """

    def __init__(
        self, learning_rate: float, seed: int, device: torch.device, processes: Processes | None = None
    ) -> None:
        self._processes = processes or Processes()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = PatchDiscriminator()
        self.network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(self.network.parameters(), learning_rate, betas=(0.5, 0.99))

    def term(self, completed: Tensor, real: Tensor, occlusion: Tensor) -> Tensor:
        """The completion network's loss: it fools the discriminator, and matches its feature maps of the real picture.

        The discriminator itself learns nothing from it.

        Args:
            completed: `(N, 3, S, S)` composed pictures in [0, 1].
            real: `(N, 3, S, S)` clean pictures.
            occlusion: `(N, 1, S, S)` in [0, 1].
        """
        self.network.requires_grad_(False)
        with torch.no_grad():
            wanted = self.network(real, occlusion).features
        found = self.network(completed, occlusion)
        self.network.requires_grad_(True)
        fooled = [adversarial_loss(score, _coverage(occlusion, score)) for score in found.scores]
        covered, rows = self._processes.share(torch.stack([occlusion.float().sum(), occlusion.new_tensor(len(real))]))
        verdict: Tensor = torch.stack(fooled).mean() * covered
        if not len(real):
            return verdict
        matched: Tensor = _FEATURE_WEIGHT * rows * perceptual_loss(found.features, wanted)
        return verdict + matched

    def learn(self, real: Tensor, completed: Tensor, occlusion: Tensor, autocast: Any) -> float:
        """One step of the discriminator; returns its loss.

        Args:
            real: `(N, 3, S, S)` clean pictures.
            completed: `(N, 3, S, S)` composed pictures; no gradient runs into them.
            occlusion: `(N, 1, S, S)` in [0, 1].
            autocast: Context of the forward pass.
        """
        with autocast:
            found = self.network(torch.cat([real, completed.detach()]), torch.cat([occlusion, occlusion]))
            losses = []
            for score in found.scores:
                first, second = score.chunk(2)
                losses.append(discriminator_loss(first, second, _coverage(occlusion, first)))
            loss = torch.stack(losses).mean() * self._processes.share(occlusion.float().sum())
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._processes.average_gradients(self.network.parameters())
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
