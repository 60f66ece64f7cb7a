"""Training in several processes at once: which rows are this process's own, and all that passes between processes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import all_gather, all_reduce

from maskfix.base import CheckpointError, InputError


class Processes:
    """The processes that train one network together, each on its own rows of every batch.

    DDP averages gradients over the processes. A loss that is a mean over equally many things in each of them thereby
    becomes the whole batch's; one that is a mean over anything else is multiplied by `share` of its denominator first.

    Args:
        fabric: A launched fabric, or None for one process by itself.

    Attributes:
        count: How many there are.
        rank: Which one this is, from 0.

    Example:
        >>> Processes().rows(16), Processes().share(torch.tensor([3.0, 0.0]))
        (slice(0, 16, None), tensor([1., 1.]))
    """

    def __init__(self, fabric: Any = None) -> None:
        self._fabric = fabric
        self.count: int = 1 if fabric is None else fabric.world_size
        self.rank: int = 0 if fabric is None else fabric.global_rank

    @property
    def first(self) -> bool:
        """Whether this process writes checkpoint and log, validates and shows progress."""
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """This process's rows of each batch: equally many in every process, in the order of ranks.

        Raises:
            InputError: If the batch cannot be shared equally.
        """
        if batch_size % self.count:
            raise InputError(
                f"batch_size: {batch_size} faces cannot be shared equally by {self.count} processes; "
                f"choose a multiple of {self.count}"
            )
        each = batch_size // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def share(self, amounts: Tensor) -> Tensor:
        """This process's amounts over the mean of every process's, of the same shape; 1 where it trains alone.

        `sum(x) / amount * share(amount)`, averaged over processes, is the sum of all sums over the sum of all amounts.

        Args:
            amounts: Denominators, at least 0, float.
        """
        if self.count == 1:
            return torch.ones_like(amounts)
        mean = amounts.detach().clone()
        all_reduce(mean)
        return amounts.detach() / (mean / self.count).clamp_min(1e-12)

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, `(n, D)` each, as `(count * n, D)` in the order of the batch; no gradient."""
        if self.count == 1:
            return rows
        own = rows.detach().contiguous()
        gathered = [torch.empty_like(own) for _ in range(self.count)]
        all_gather(gathered, own)
        return torch.cat(gathered)

    def average(self, figures: dict[str, float]) -> dict[str, float]:
        """The mean of each figure over processes; the same names in each of them."""
        if self.count == 1:
            return figures
        values = torch.tensor(list(figures.values()), dtype=torch.float64, device=self._fabric.device)
        all_reduce(values)
        return dict(zip(figures, (values / self.count).tolist(), strict=True))

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients in place, for a small network outside of DDP; all processes have the same ones set."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        joined = torch.cat([gradient.flatten() for gradient in gradients])
        all_reduce(joined)
        joined /= self.count
        parts = torch.split(joined, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def check_step(self, step: int, checkpoint: Path) -> None:
        """Make sure that all processes go on from the same step.

        Raises:
            CheckpointError: If they do not, as where `--out` is another folder on each machine.
        """
        if self.count == 1:
            return
        steps = sorted(set(self.gather(torch.tensor([step], device=self._fabric.device)).tolist()))
        if len(steps) > 1:
            raise CheckpointError(
                f"{checkpoint}: the processes found different checkpoints (steps {steps}); "
                "--out must be one folder that all machines share"
            )

    def wait(self) -> None:
        """Wait until every process is here, so that what the first one wrote is there for all."""
        if self.count > 1:
            self._fabric.barrier()
