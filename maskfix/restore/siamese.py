"""The Siamese inference network of stage 1 (paper section 3.1): query encoder, momentum encoder, queue of keys."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maskfix.base import InputError, check_range
from maskfix.restore.config import NetworkConfig
from maskfix.restore.encoder import Encoder, ProjectionHead


class Branch(nn.Module):
    """One of the two branches: encoder and projection head.

    Args:
        config: Sizes of the network.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.head = ProjectionHead(config)

    def forward(self, picture: Tensor) -> Tensor:
        """Map `(N, 3, S, S)` pictures to `(N, projection)` representations of unit length."""
        representation: Tensor = self.head(self.encoder(picture))
        return representation


@torch.no_grad()
def momentum_update(key: nn.Module, query: nn.Module, momentum: float) -> None:
    """Move the key branch towards the query branch: key <- m * key + (1 - m) * query (eq. 2).

    Statistics of batch norm are no parameters and stay those of the key branch's own batches.

    Args:
        key: The branch that is moved.
        query: The branch that is trained.
        momentum: m in [0, 1).
    """
    for slow, fast in zip(key.parameters(), query.parameters(), strict=True):
        slow.lerp_(fast, 1 - momentum)


class SiameseNetwork(nn.Module):
    """Two encoders and a queue; the key encoder follows the query encoder (MoCo, paper section 3.1).

    Args:
        config: Sizes of the network.
        queue_length: Number of keys kept as negatives.
        momentum: m of eq. 2.
        generator: Source of the queue's first, random keys.

    Attributes:
        queue: `(K, projection)` keys of unit length; saved with the weights, so a resumed run keeps its negatives.
        cursor: Where the next keys go.

    Raises:
        InputError: If the queue is empty or the momentum lies outside [0, 1).
    """

    queue: Tensor
    cursor: Tensor

    def __init__(
        self, config: NetworkConfig, queue_length: int = 65536, momentum: float = 0.9, *, generator: torch.Generator
    ) -> None:
        super().__init__()
        check_range("momentum", momentum, 0, 1 - 1e-9)
        if queue_length < 1:
            raise InputError(f"queue length: expected at least 1, got {queue_length}")
        self.momentum = momentum
        self.query = Branch(config)
        self.key = Branch(config)
        self.key.load_state_dict(self.query.state_dict())
        self.key.requires_grad_(False)
        keys = torch.randn(queue_length, config.projection, generator=generator)
        self.register_buffer("queue", nn.functional.normalize(keys, dim=1))
        self.register_buffer("cursor", torch.zeros((), dtype=torch.long))

    def forward(self, query_view: Tensor, key_view: Tensor) -> tuple[Tensor, Tensor]:
        """Represent two views of the same faces.

        Args:
            query_view: `(N, 3, S, S)` faces, each with one mask.
            key_view: `(N, 3, S, S)` the same faces with other masks.

        Returns:
            Query and key representations `(N, projection)`; no gradient flows to the keys.

        MoCo shuffles the keys' batch between devices, against a leak through batch norm; on one device the batch would
        be the same in another order, so nothing is shuffled here.
        """
        query = self.query(query_view)
        with torch.no_grad():
            key = self.key(key_view)
        return query, key

    def update_key_branch(self) -> None:
        """Apply eq. 2 once; call it after each optimiser step."""
        momentum_update(self.key, self.query, self.momentum)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> Tensor:
        """Put the newest keys in the place of the oldest, round the end of the queue where needed.

        Args:
            keys: `(N, projection)` of unit length; of more than the queue holds, the last ones stay.

        Returns:
            `(N,)` int64, where in the queue they stand now; of those that stay.
        """
        length = len(self.queue)
        keys = keys.detach()[-length:].to(self.queue.dtype)
        places = (self.cursor + torch.arange(len(keys), device=keys.device)) % length
        self.queue[places] = keys
        self.cursor.copy_((self.cursor + len(keys)) % length)
        return places
