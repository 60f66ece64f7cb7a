"""Clean embeddings of the faces of earlier batches: the strangers of the contrast term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from maskfix.train.parallel import Processes

LENGTH = 4096


class Strangers:
    """A queue of clean embeddings for each question that is asked of the identity networks.

    Args:
        dimensions: Length of the embeddings of each queue.
        seed: Of the random unit vectors that stand in the queues at first, as in MoCo.
        device: Where they live.
        processes: Those that train together; every one of them enqueues the embeddings of all.
        length: Embeddings in each queue.
    """

    def __init__(
        self,
        dimensions: Sequence[int],
        seed: int,
        device: torch.device,
        processes: Processes | None = None,
        length: int = LENGTH,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        drawn = [torch.randn(length, dimension, generator=generator) for dimension in dimensions]
        self._queues = [functional.normalize(queue, dim=1).to(device) for queue in drawn]
        self._processes = processes or Processes()

    def of(self, step: int) -> Tensor:
        """`(K, D)` of unit length, oldest first: the queue whose turn it is."""
        return self._queues[step % len(self._queues)]

    @torch.no_grad()
    def add(self, step: int, embedding: Tensor | None, rows: int) -> None:
        """Put a batch's clean embeddings into the queue whose turn it is; the oldest leave.

        Args:
            step: The optimiser's.
            embedding: `(M, D)` of this process's pictures, or None where it has none.
            rows: The most pictures that any process has, which is how many places each gets to hand over its own.
        """
        queue = self.of(step)
        # What all processes hand over must have one shape: the last column tells embeddings from empty places.
        places = queue.new_zeros(rows, queue.shape[1] + 1)
        if embedding is not None:
            places[: len(embedding), :-1] = functional.normalize(embedding.float(), dim=1)
            places[: len(embedding), -1] = 1
        gathered = self._processes.gather(places)
        joined = torch.cat([queue, gathered[gathered[:, -1] > 0, :-1]])
        self._queues[step % len(self._queues)] = joined[-len(queue) :]

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"queues": list(self._queues)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self._queues = [stored.to(queue) for stored, queue in zip(state["queues"], self._queues, strict=True)]
