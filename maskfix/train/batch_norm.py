"""Batch norm over the whole batch of several processes, on the CPU too, where torch's SyncBatchNorm does not run.

With each process's own statistics a network would train otherwise than in one process. In stage 1 query and key could
moreover be matched by what their process's few faces have in common (MoCo shuffles against that); over the whole batch
they know as much of each other as in one process.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import all_gather, all_reduce, get_world_size
from torch.nn import functional


def synchronise_norms(network: nn.Module, fabric: Any) -> None:
    """Let every batch norm of a network take its statistics over all processes, in place; of one process nothing.

    Parameters and buffers are kept as they are, and so are their names in checkpoints.

    Args:
        network: Trained with equally many rows in each process.
        fabric: How many processes there are and where they train; on CUDA the norms are torch's own SyncBatchNorm.
    """
    if fabric.world_size == 1:
        return
    if fabric.device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(module, name, _like(child))


def _like(norm: nn.BatchNorm2d) -> WholeBatchNorm2d:
    """The same norm, sharing parameters and buffers, over all processes."""
    made = WholeBatchNorm2d(norm.num_features, norm.eps, norm.momentum, device="meta")
    made.weight, made.bias = norm.weight, norm.bias
    made.running_mean, made.running_var = norm.running_mean, norm.running_var
    made.num_batches_tracked = norm.num_batches_tracked
    return made.train(norm.training)


class WholeBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose statistics in training are those of all processes' rows, equally many in each.

    In evaluation mode no process waits for another.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, C, H, W)` to the same shape."""
        if not self.training:
            return super().forward(x)
        mean, variance = _statistics(x)
        self._remember(mean, variance, x.numel() // x.shape[1] * get_world_size())
        normalised: Tensor = _Normalise.apply(x, self.weight, self.bias, mean, variance, self.eps)
        return normalised

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics; the variance that is kept is the unbiased one."""
        for running, value in ((self.running_mean, mean), (self.running_var, variance * (count / max(1, count - 1)))):
            if running is not None:
                running.lerp_(value.to(running.dtype), self.momentum if self.momentum is not None else 0.1)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)


@torch.no_grad()
def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each channel over all processes."""
    variance, mean = torch.var_mean(_wide(x), (0, 2, 3), correction=0)
    own = torch.stack([mean, variance])
    gathered = [torch.empty_like(own) for _ in range(get_world_size())]
    all_gather(gathered, own)
    means, variances = torch.stack(gathered).unbind(1)
    mean = means.mean(0)
    # Not the mean of squares less the squared mean, which loses digits where the mean is large.
    return mean, (variances + (means - mean).square()).mean(0)


class _Normalise(torch.autograd.Function):
    """Normalisation whose gradient minds that every process's rows are in the statistics of all."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, eps: float
    ) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps))
        return functional.batch_norm(x, mean.to(weight.dtype), variance.to(weight.dtype), weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        if gradient is None:  # The output plays no part in the loss, here and in every other process.
            return (None,) * 6
        x, weight, mean, scale = ctx.saved_tensors
        gradient = _wide(gradient)
        normalised = (_wide(x) - mean[:, None, None]) * scale[:, None, None]
        sums = torch.stack([gradient.sum((0, 2, 3)), (gradient * normalised).sum((0, 2, 3))])
        means = sums.clone()
        all_reduce(means)
        means /= x.numel() // x.shape[1] * get_world_size()
        inner = gradient - means[0][:, None, None] - normalised * means[1][:, None, None]
        return (
            (inner * (_wide(weight) * scale)[:, None, None]).to(x.dtype),
            sums[1].to(weight.dtype),
            sums[0].to(weight.dtype),
            None,
            None,
            None,
        )


def _wide(values: Tensor) -> Tensor:
    """Values in 32 bits at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
