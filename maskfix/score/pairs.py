"""Cosine scores of pairs of pictures, in bounded memory, with an explicit score for pictures that failed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskfix.base import FloatArray, InputError, check_dtype, check_shape

_CHUNK_BYTES = 32 * 2**20
"""Bytes of gathered embeddings held at a time (both sides together)."""

_UNIT_TOLERANCE = 1e-3
"""Allowed distance of an embedding's length from 1; float16 storage stays well inside it."""


def cosine_scores(
    embeddings: FloatArray, first: NDArray[np.integer[Any]], second: NDArray[np.integer[Any]]
) -> FloatArray:
    """Cosine similarity of each pair of pictures; higher means more alike.

    A picture that failed (no face, no embedding) has the index -1, and every pair with it scores -inf: a failed
    comparison is a non-match at every threshold, and it is counted, never dropped (protocols.md 3.3).

    Args:
        embeddings: One unit-length embedding a picture, `(M, D)` float32; M may be 0 when every picture failed.
        first: Row of the first picture of each pair, `(P,)` integers in [-1, M).
        second: Row of the second picture of each pair, `(P,)` integers in [-1, M).

    Returns:
        `(P,)` float32 in [-1, 1], or -inf where a picture failed. Values are clipped: rounding can carry the product of
        two unit vectors past 1, where an arccos further on would give nan.

    Raises:
        InputError: On wrong shapes or types, an index outside [-1, M), or an embedding that is not of unit length.

    Example:
        >>> embeddings = np.array([[1, 0], [0.6, 0.8]], dtype=np.float32)
        >>> cosine_scores(embeddings, np.array([0, 0, 0]), np.array([0, 1, -1]))
        array([ 1. ,  0.6, -inf], dtype=float32)
    """
    check_dtype("embeddings", embeddings, np.float32)
    check_shape("embeddings", embeddings, (None, None))
    count = embeddings.shape[0]
    first = _check_rows("first", first, count)
    second = _check_rows("second", second, count)
    if first.shape != second.shape:
        raise InputError(f"first and second: expected one index a pair in each, got {len(first)} and {len(second)}")
    _check_unit(embeddings)

    scores = np.full(len(first), -np.inf, dtype=np.float32)
    whole = np.flatnonzero((first >= 0) & (second >= 0))
    step = max(1, _CHUNK_BYTES // (8 * max(1, embeddings.shape[1])))
    for start in range(0, len(whole), step):
        rows = whole[start : start + step]
        products = np.einsum("pd,pd->p", embeddings[first[rows]], embeddings[second[rows]])
        scores[rows] = products.clip(-1.0, 1.0)
    return scores


def _check_rows(name: str, rows: NDArray[np.integer[Any]], count: int) -> NDArray[np.integer[Any]]:
    """Check that `rows` are indices of `count` embeddings, -1 standing for a failed picture."""
    rows = np.asarray(rows)
    check_shape(name, rows, (None,))
    if not np.issubdtype(rows.dtype, np.integer):
        raise InputError(f"{name}: expected integer rows of embeddings, got dtype {rows.dtype}")
    wrong = (rows < -1) | (rows >= count)
    if wrong.any():
        pair = int(wrong.argmax())
        raise InputError(
            f"{name}: row {int(rows[pair])} of pair {pair} is outside [0, {count}); use -1 for a picture that failed"
        )
    return rows


def _check_unit(embeddings: FloatArray) -> None:
    """Check that all embeddings have unit length; a nan or a zero vector has not."""
    lengths = np.sqrt(np.einsum("md,md->m", embeddings, embeddings))
    wrong = ~(np.abs(lengths - 1.0) <= _UNIT_TOLERANCE)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"embeddings: row {row} has length {lengths[row]:.4g}, expected 1; "
            "divide each row by its length, and give a failed picture the index -1 instead of a zero vector"
        )
