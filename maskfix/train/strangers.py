"""Clean embeddings of the faces of earlier batches: the strangers of the contrast term."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from maskfix.train.parallel import Processes

LENGTH = 4096
_NOBODY = -1


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
        self._faces = [torch.full((length,), _NOBODY, device=device) for _ in dimensions]
        self._processes = processes or Processes()

    def of(self, step: int) -> Tensor:
        """`(K, D)` of unit length, oldest first: the queue whose turn it is."""
        return self._queues[step % len(self._queues)]

    def own(self, step: int, faces: Tensor) -> Tensor:
        """Which strangers are none: made of a picture of the very face, in an earlier epoch or drawn twice in one.

        Args:
            step: The optimiser's.
            faces: `(N,)` int64, the faces of this process's pictures.

        Returns:
            `(N, K)` bool.
        """
        return faces.to(self.of(step).device)[:, None] == self._faces[step % len(self._faces)]

    @torch.no_grad()
    def add(self, step: int, embedding: Tensor | None, faces: Tensor, rows: int) -> None:
        """Put a batch's clean embeddings into the queue whose turn it is; the oldest leave.

        Args:
            step: The optimiser's.
            embedding: `(M, D)` of this process's pictures, or None where it has none.
            faces: `(M,)` int64 at least, the faces of these pictures.
            rows: The most pictures that any process has, which is how many places each gets to hand over its own.
        """
        queue = self.of(step)
        # What all processes hand over must have one shape: nobody's places are empty ones. Doubles hold every number.
        places = torch.full((rows, queue.shape[1] + 1), _NOBODY, dtype=torch.float64, device=queue.device)
        if embedding is not None:
            places[: len(embedding), :-1] = functional.normalize(embedding.float(), dim=1)
            places[: len(embedding), -1] = faces[: len(embedding)]
        gathered = self._processes.gather(places)
        gathered = gathered[gathered[:, -1] != _NOBODY]
        turn = step % len(self._queues)
        self._queues[turn] = torch.cat([queue, gathered[:, :-1].to(queue)])[-len(queue) :]
        self._faces[turn] = torch.cat([self._faces[turn], gathered[:, -1].to(self._faces[turn])])[-len(queue) :]

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint."""
        return {"queues": list(self._queues), "faces": list(self._faces)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self._queues = [stored.to(queue) for stored, queue in zip(state["queues"], self._queues, strict=True)]
        # Older checkpoints do not say whose embeddings they hold.
        known = state.get("faces", self._faces)
        self._faces = [stored.to(faces) for stored, faces in zip(known, self._faces, strict=True)]
