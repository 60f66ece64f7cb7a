"""What modes hand on of a recogniser's outputs, whatever they are, and the mixture of two embeddings."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from maskfix.base import InputError
from maskfix.plugin import mix_embeddings
from tests.plugin.worlds import Thirds


class Out(NamedTuple):
    logits: Tensor
    embedding: Tensor


class TestMix:
    def test_by_hand(self) -> None:
        """Directions (1, 0) and (0, 1), a quarter to three quarters; lengths 2 and 4 make 3.5."""
        mixed = mix_embeddings(np.array([[2.0, 0.0]]), np.array([[0.0, 4.0]]), 0.75)
        np.testing.assert_allclose(mixed, 3.5 * np.array([[0.25, 0.75]]) / np.sqrt(0.625))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
    def test_torch_like_numpy(self, dtype: torch.dtype) -> None:
        rng = np.random.default_rng(0)
        first, second = rng.normal(size=(2, 5, 16))
        rows = np.array([True, False, True, True, False])
        expected = mix_embeddings(first, second, 0.6, rows)
        mixed = mix_embeddings(torch.tensor(first, dtype=dtype), torch.tensor(second, dtype=dtype), 0.6, rows)
        assert mixed.dtype == dtype
        np.testing.assert_allclose(mixed.double().numpy(), expected, atol=1e-2 if dtype == torch.float16 else 1e-6)

    def test_other_rows_stay_to_the_bit(self) -> None:
        rng = np.random.default_rng(0)
        first, second = rng.normal(size=(2, 4, 8)).astype(np.float32)
        mixed = mix_embeddings(first, second, 0.5, np.array([False, True, False, False]))
        np.testing.assert_array_equal(mixed[[0, 2, 3]], first[[0, 2, 3]])
        assert (mixed[1] != first[1]).all()
        assert mixed.dtype == np.float32

    @pytest.mark.parametrize(("share", "which"), [(0.0, 0), (1.0, 1)])
    def test_ends(self, share: float, which: int) -> None:
        both = np.random.default_rng(0).normal(size=(2, 3, 8))
        np.testing.assert_allclose(mix_embeddings(*both, share), both[which])

    @pytest.mark.parametrize("kind", ["numpy", "torch"])
    def test_long_vectors_of_half_precision(self, kind: str) -> None:
        """The squares of one sum up to more than half precision holds."""
        rows: Any = np.full((1, 512), 15, np.float16)
        rows = torch.from_numpy(rows) if kind == "torch" else rows
        mixed = mix_embeddings(rows, rows, 0.5)
        assert mixed.dtype == rows.dtype
        assert abs(np.asarray(mixed, np.float32) - 15).max() < 0.05

    def test_zeros_stay_finite(self) -> None:
        assert mix_embeddings(np.zeros((1, 4)), np.zeros((1, 4)), 0.5).tolist() == [[0.0] * 4]

    def test_shapes(self) -> None:
        with pytest.raises(InputError, match=r"expected two of one shape \(N, D\), got \(2, 4\) and \(3, 4\)"):
            mix_embeddings(np.zeros((2, 4)), np.zeros((3, 4)), 0.5)


@pytest.mark.parametrize("give", [lambda x: Out(x, x), lambda x: [x, x], lambda x: (x, x)])
def test_fuse_keeps_the_type_of_several_outputs(heads: Tensor, give: Callable[[Tensor], Any]) -> None:
    seam = Thirds(give).wrapped(mode="fuse")
    clean, masked = seam(heads[:1]), seam(heads[1:])
    assert type(clean) is type(masked) is type(give(heads))
    assert (masked[1] != masked[0]).any(), "the embedding is mixed, the other output is of the completed face"


@pytest.mark.parametrize("mode", ["observe", "fuse"])
@pytest.mark.parametrize("give", [lambda x: {"embedding": x}, lambda x: list(x), lambda x: x[:1], lambda x: x.mean()])
def test_outputs_that_hold_no_row_a_face(heads: Tensor, give: Callable[[Tensor], Any], mode: str) -> None:
    with pytest.raises(InputError, match=r"recogniser: its only or last output should be .* \(N, D\) for 2 faces, got"):
        Thirds(give).wrapped(mode=mode)(heads)


@pytest.mark.parametrize("mode", ["observe", "fuse"])
def test_what_is_told_holds_no_gradients(heads: Tensor, mode: str) -> None:
    """They would keep the activations of the whole batch; what is returned has them."""
    seam = Thirds().wrapped(mode=mode)
    assert seam(heads).requires_grad
    for told in copy.deepcopy(seam.last):
        assert not told.original.requires_grad
        assert told.completed is None or not told.completed.requires_grad
