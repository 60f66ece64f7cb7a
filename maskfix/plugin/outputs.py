"""What recognisers give: the embedding among several outputs, and the mixture of two of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from maskfix.base import BoolArray, InputError


def rebuild(output: Any, entries: list[Any]) -> Any:
    """Several outputs as the recogniser gave them: a list, a tuple, or a named one, whose entries go in one by one.

    Args:
        output: What the recogniser gave, a tuple or list.
        entries: What stands in their places.

    Example:
        >>> rebuild([1, 2], [3, 4]), rebuild((1, 2), [3, 4])
        ([3, 4], (3, 4))
    """
    return getattr(output, "_make", type(output))(entries)


def embedding_of(output: Any, faces: int) -> Any:
    """The embedding among a recogniser's outputs: the only one, or the last of several (LightCNN's order).

    Args:
        output: What the recogniser gave for a batch.
        faces: Faces in the batch.

    Raises:
        InputError: If that is not a row a face.
    """
    embedding = output[-1] if isinstance(output, (tuple, list)) else output
    if getattr(embedding, "ndim", 0) < 2 or len(embedding) != faces:
        raise InputError(
            f"recogniser: its only or last output should be an array or tensor (N, D) for {faces} faces, got "
            f"{type(embedding).__name__} {tuple(getattr(embedding, 'shape', ()))}"
        )
    return embedding


def without_graph(row: Any) -> Any:
    """A row of an array, or of a tensor without what made it: that would keep a whole batch's activations alive."""
    return row.detach() if isinstance(row, torch.Tensor) else row


def mix_embeddings(original: Any, completed: Any, share: float, used: BoolArray | None = None) -> Any:
    """Mix embeddings of original and completed faces by direction; lengths are averaged with the same weights.

    Recognisers that normalise give unit vectors again; where the length tells something (insightface), it lies between
    the two.

    Args:
        original: `(N, D)` array or tensor of floats.
        completed: Likewise.
        share: Share of the completed face, in [0, 1].
        used: Rows to mix, `(N,)`; the others are those of `original`, to the bit. All when None.

    Returns:
        `(N, D)`, of the kind, type and device of `original`.

    Raises:
        InputError: If shapes differ or are not `(N, D)`.

    Example:
        >>> mix_embeddings(np.array([[3.0, 0.0]]), np.array([[0.0, 1.0]]), 0.5).round(3)
        array([[1.414, 1.414]])
    """
    if original.ndim != 2 or original.shape != completed.shape:
        raise InputError(f"embeddings: expected two of one shape (N, D), got {original.shape} and {completed.shape}")
    rows = np.ones(len(original), np.bool_) if used is None else np.asarray(used)
    if isinstance(original, torch.Tensor):
        mixed, keep = _mix(original, completed, share, torch), torch.from_numpy(~rows).to(original.device)
        return torch.where(keep[:, None], original, mixed.to(original.dtype))
    mixed = _mix(original, completed, share, np)
    return np.where(rows[:, None], mixed, original).astype(original.dtype, copy=False)


def _mix(original: Any, completed: Any, share: float, library: Any) -> Any:
    """The mixture by NumPy or torch, whichever holds the rows; a row of zeros stays one."""
    # In half precision the squares of a long vector sum up to infinity.
    wide = [_at_least_single(rows) for rows in (original, completed)]
    lengths = [library.sqrt((rows * rows).sum(1))[:, None] for rows in wide]
    first, second = (
        rows / library.where(length > 0, length, library.ones_like(length))
        for rows, length in zip(wide, lengths, strict=True)
    )
    direction = (1 - share) * first + share * second
    length = library.sqrt((direction * direction).sum(1))[:, None]
    wanted = (1 - share) * lengths[0] + share * lengths[1]
    return direction / library.where(length > 0, length, library.ones_like(length)) * wanted


def _at_least_single(rows: Any) -> Any:
    """Rows of half precision in single; others as they are."""
    if isinstance(rows, torch.Tensor):
        return rows.to(torch.promote_types(rows.dtype, torch.float32))
    return rows.astype(np.promote_types(rows.dtype, np.float32), copy=False)
