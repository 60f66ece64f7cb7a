"""A head on the encoder that names the person: it predicts, from the masked face, the embedding of the clean one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskfix.losses import identity_cosine_loss
from maskfix.restore import CompletionNetwork
from maskfix.train.parallel import Processes

_HIDDEN = 512
_LEVELS = 3


class IdentityHead:
    """Predicts identity embeddings from the encoder's deepest maps; for training alone.

    The identity term reaches the encoder through the whole decoder and a recogniser. The head's way is short: what of
    the person the visible half of a face tells has to be in the encoder's features before a decoder can paint it.

    Args:
        network: The completion network whose encoder is taught; its features are read as it runs.
        dimensions: Length of each identity network's embedding.
        learning_rate: Of the head's own optimiser, Adam.
        seed: Of its first weights.
        device: Where it lives.
        processes: Those that train it together.

    Attributes:
        count: How many identity networks it answers for.
    """

    def __init__(
        self,
        network: CompletionNetwork,
        dimensions: Sequence[int],
        learning_rate: float,
        seed: int,
        device: torch.device,
        processes: Processes | None = None,
    ) -> None:
        inputs = sum(network.config.widths[-_LEVELS:])
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layers = [nn.Sequential(nn.Linear(inputs, _HIDDEN), nn.ReLU(), nn.Linear(_HIDDEN, d)) for d in dimensions]
        self.network = nn.ModuleList(layers).to(device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), learning_rate)
        self.count = len(dimensions)
        self._processes = processes or Processes()
        self._features: list[Tensor] = []
        network.encoder.register_forward_hook(self._keep)

    def _keep(self, _encoder: nn.Module, _given: Any, features: list[Tensor]) -> None:
        self._features = features[-_LEVELS:]

    def term(self, wanted: Tensor | None, chosen: Sequence[int]) -> Tensor:
        """1 - cosine of the prediction for the pictures that the network saw last.

        Args:
            wanted: `(M, D)` embeddings of the first M clean pictures: the chosen networks', each of unit length, side
                by side and divided by the square root of their number. None, in a process that has none of the
                pictures, gives a 0 that hangs on the head, so that all processes have the same gradients to average.
            chosen: Identity networks by number.
        """
        maps, self._features = self._features, []
        if wanted is None:
            own = [parameter.sum() for number in chosen for parameter in self.network[number].parameters()]
            return torch.stack(own).sum() * 0
        pooled = torch.cat([one[: len(wanted)].float().mean((2, 3)) for one in maps], 1)
        found = [functional.normalize(self.network[number](pooled).float(), dim=1) for number in chosen]
        return identity_cosine_loss(torch.cat(found, 1) / len(found) ** 0.5, wanted)

    def learn(self) -> None:
        """One step of the head's own weights, after `backward` of the objective that holds its term."""
        self._processes.average_gradients(self.network.parameters())
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
