"""InfoNCE, the contrastive loss of the Siamese inference network (paper eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maskfix.base import InputError, check_shape
from maskfix.losses.precision import check_alike, full_precision, widen


def info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float = 0.07, own: Tensor | None = None) -> Tensor:
    """InfoNCE: pick each query's own key out of that key and the K keys of the queue (paper eq. 1).

    Queries and keys are two views of the same pictures; the queue holds keys of earlier batches, or of this one as
    well (`own`). The function changes nothing. Gradients reach every argument that asks for them; MoCo detaches key and
    queue.

    Args:
        query: `(N, D)` unit length.
        key: `(N, D)` unit length; row i is the positive of query i.
        queue: `(K, D)` unit length, the negatives of every query. The positive counts in the denominator beside them.
        temperature: Above 0; 0.07 in the paper.
        own: `(N,)` int64, where in the queue each query's own key stands, or `(N, K)` bool, which keys of the queue are
            of each query's own picture: these are no negatives of that query. None where the queue holds none of them.

    Returns:
        Scalar, mean over the N queries; at least 0, lower is better; log(K + 1) where all keys are alike (log(K) with
        one `own`).

    Raises:
        InputError: If the shapes do not fit or the temperature is not positive.

    Example:
        >>> one = torch.tensor([[1.0, 0.0]])
        >>> info_nce(one, one, one.repeat(3, 1)).item() == torch.log(torch.tensor(4.0)).item()
        True
    """
    check_shape("query", query, (None, None))
    check_alike("query", query, "key", key)
    check_shape("queue", queue, (None, query.shape[1]))
    if not temperature > 0:
        raise InputError(f"temperature: expected a number above 0, got {temperature}")
    with full_precision(query):
        query, key, queue = widen(query), widen(key), widen(queue)
        positive = (query * key).sum(dim=1, keepdim=True)
        logits = torch.cat([positive, negative_similarity(query, queue, own)], dim=1) / temperature
        return (logits.logsumexp(dim=1) - logits[:, 0]).mean()


def negative_similarity(query: Tensor, queue: Tensor, own: Tensor | None = None) -> Tensor:
    """Cosines `(N, K)` of queries to the queue's keys; minus infinity at each query's own keys, see `info_nce`.

    Raises:
        InputError: If `own` has another shape than `(N,)`, or `(N, K)` where it is bool.
    """
    similarity = query @ queue.T
    if own is None:
        return similarity
    if own.dtype == torch.bool:
        check_shape("own", own, tuple(similarity.shape))
        return similarity.masked_fill(own, -torch.inf)
    check_shape("own", own, (len(query),))
    return similarity.scatter(1, own[:, None], -torch.inf)


class InfoNCELoss(nn.Module):
    """`info_nce` with a fixed temperature.

    Args:
        temperature: Above 0; 0.07 in the paper.
    """

    def __init__(self, temperature: float = 0.07) -> None:
        super().__init__()
        if not temperature > 0:
            raise InputError(f"temperature: expected a number above 0, got {temperature}")
        self.temperature = temperature

    def forward(self, query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        """Scalar loss of queries `(N, D)`, keys `(N, D)` and queue `(K, D)`; see `info_nce`."""
        return info_nce(query, key, queue, self.temperature)
