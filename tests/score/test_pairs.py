"""Pair scores: values, failures, clipping, chunks, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from maskfix.base import InputError
from maskfix.score import cosine_scores, pairs


def unit(count: int, dimension: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_cosine_scores__equals_dot_products(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = unit(20, 7)
    rng = np.random.default_rng(1)
    first, second = rng.integers(20, size=(2, 101))
    expected = (embeddings.astype(np.float64) @ embeddings.astype(np.float64).T)[first, second]
    whole = cosine_scores(embeddings, first, second)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole, expected, atol=1e-6)
    monkeypatch.setattr(pairs, "_CHUNK_BYTES", 3 * 8 * 7)
    np.testing.assert_array_equal(cosine_scores(embeddings, first, second), whole)


def test_cosine_scores__symmetric_and_order_kept() -> None:
    embeddings = unit(6, 4)
    first, second = np.array([0, 5, 2]), np.array([3, 1, 2])
    scores = cosine_scores(embeddings, first, second)
    np.testing.assert_array_equal(scores, cosine_scores(embeddings, second, first))
    np.testing.assert_array_equal(scores[::-1], cosine_scores(embeddings, first[::-1], second[::-1]))
    assert scores[2] == pytest.approx(1.0, abs=1e-6)


def test_cosine_scores__clipped() -> None:
    # Longer than 1 within the tolerance: the product is 1.0008 before it is clipped.
    embeddings = np.array([[1.0004, 0.0], [-1.0004, 0.0]], dtype=np.float32)
    np.testing.assert_array_equal(
        cosine_scores(embeddings, np.array([0, 0]), np.array([0, 1])), np.array([1, -1], dtype=np.float32)
    )


def test_cosine_scores__failed_picture_is_minus_inf() -> None:
    embeddings = unit(2, 3)
    scores = cosine_scores(embeddings, np.array([-1, 0, -1, 0]), np.array([0, -1, -1, 1]))
    assert np.isneginf(scores[:3]).all()
    assert np.isfinite(scores[3])
    none = cosine_scores(np.zeros((0, 3), dtype=np.float32), np.array([-1]), np.array([-1]))
    assert np.isneginf(none).all()


def test_cosine_scores__no_pairs() -> None:
    empty = np.zeros(0, dtype=np.int64)
    assert cosine_scores(unit(2, 3), empty, empty).shape == (0,)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([0, 2], [0, 0], "first: row 2 of pair 1 is outside"),
        ([0], [-2], "second: row -2 of pair 0"),
        ([0, 1], [0], "one index a pair"),
        ([0.0], [0.0], "integer rows"),
        ([[0]], [[0]], "expected shape"),
    ],
)
def test_cosine_scores__bad_rows(first: list[int], second: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cosine_scores(unit(2, 3), np.array(first), np.array(second))


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (np.ones((2, 3), dtype=np.float32), "row 0 has length 1.732"),
        (np.array([[1, 0], [0, 0]], dtype=np.float32), "row 1 has length 0"),
        (np.array([[1, 0], [np.nan, 0]], dtype=np.float32), "row 1 has length nan"),
        (np.eye(2), "expected dtype float32"),
        (np.ones(2, dtype=np.float32), "expected shape"),
    ],
)
def test_cosine_scores__bad_embeddings(embeddings: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cosine_scores(embeddings, np.array([0]), np.array([1]))
