"""Relational loss of distillation: similarities between faces, not the faces' own embeddings, are what must agree."""

from __future__ import annotations

import torch
from torch import Tensor

from maskfix.base import InputError, check_shape
from maskfix.losses.precision import check_alike, full_precision, widen


def relational_loss(embedding: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of the cosines of all pairs of a batch (after Tung and Mori, ICCV 2019).

    Verification compares faces by their cosine, so this is the student's whole task; the diagonal, 1 on both sides, is
    left out.

    Args:
        embedding: `(N, D)` of the student, any length, N at least 2.
        target: `(N, E)` of the teacher for the same faces, any length.

    Returns:
        Scalar in [0, 4], lower is better.

    Raises:
        InputError: If the shapes do not fit or there is no pair.

    Example:
        >>> same, apart = torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 3.0]])
        >>> relational_loss(same, apart).item()
        1.0
    """
    check_shape("embedding", embedding, (None, None))
    check_shape("target", target, (None, None))
    check_alike("embedding", embedding[:, 0], "target", target[:, 0])
    count = len(embedding)
    if count < 2:
        raise InputError(f"relational loss: expected two or more faces, got {count}")
    with full_precision(embedding):
        ours, theirs = (torch.nn.functional.normalize(widen(rows), dim=1) for rows in (embedding, target))
        return (ours @ ours.T - theirs @ theirs.T).square().fill_diagonal_(0).sum() / (count * (count - 1))
