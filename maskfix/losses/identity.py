"""Identity preserving loss on face embeddings (paper eq. 12)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from maskfix.base import check_choice, check_shape
from maskfix.losses.precision import check_alike, full_precision, widen

IdentityForm = Literal["l2", "cosine"]

IDENTITY_FORMS: tuple[str, ...] = ("l2", "cosine")
"""Forms of the identity term: the paper's Euclidean norm, or one minus the cosine."""


def identity_loss(embedding_pred: Tensor, embedding_target: Tensor) -> Tensor:
    """Mean over the batch of the Euclidean distance of embeddings (paper eq. 12).

    Args:
        embedding_pred: `(N, D)`.
        embedding_target: `(N, D)`.

    Returns:
        Scalar, at least 0, at most 2 for unit vectors; lower is better. The gradient of equal rows is 0, not NaN.

    Raises:
        InputError: If the shapes do not fit.

    Example:
        >>> identity_loss(torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 4.0], [1.0, 1.0]])).item()
        2.5
    """
    check_shape("embedding_pred", embedding_pred, (None, None))
    check_alike("embedding_pred", embedding_pred, "embedding_target", embedding_target)
    with full_precision(embedding_pred):
        # vector_norm takes 0 for the gradient at 0, where sqrt(sum(square)) would give NaN.
        distances: Tensor = torch.linalg.vector_norm(widen(embedding_pred) - widen(embedding_target), dim=1)
        return distances.mean()


def identity_cosine_loss(embedding_pred: Tensor, embedding_target: Tensor) -> Tensor:
    """Mean over the batch of one minus the cosine of embeddings; a smooth alternative to paper eq. 12.

    Args:
        embedding_pred: `(N, D)`, any length.
        embedding_target: `(N, D)`, any length.

    Returns:
        Scalar in [0, 2], lower is better.

    Raises:
        InputError: If the shapes do not fit.
    """
    check_shape("embedding_pred", embedding_pred, (None, None))
    check_alike("embedding_pred", embedding_pred, "embedding_target", embedding_target)
    with full_precision(embedding_pred):
        cosine = torch.nn.functional.cosine_similarity(widen(embedding_pred), widen(embedding_target), dim=1)
        return (1 - cosine).mean()


class IdentityLoss(nn.Module):
    """`identity_loss` or `identity_cosine_loss`, chosen by name.

    Args:
        form: "l2" (the paper) or "cosine".

    Raises:
        InputError: If the form is unknown.
    """

    def __init__(self, form: IdentityForm = "l2") -> None:
        super().__init__()
        check_choice("identity form", form, IDENTITY_FORMS)
        self.form = form

    def forward(self, embedding_pred: Tensor, embedding_target: Tensor) -> Tensor:
        """Scalar loss of embeddings `(N, D)` and `(N, D)`."""
        loss = identity_loss if self.form == "l2" else identity_cosine_loss
        return loss(embedding_pred, embedding_target)
