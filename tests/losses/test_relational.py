"""The relational loss against the loop."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from maskfix.base import InputError
from maskfix.losses import relational_loss
from tests.reference import losses as reference


def rows(count: int, dimension: int, seed: int) -> Tensor:
    return torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("count", [2, 5])
def test_twin(count: int) -> None:
    ours, theirs = rows(count, 7, 1), rows(count, 3, 2)
    expected = reference.relational(ours.numpy(), theirs.numpy())
    assert relational_loss(ours, theirs).item() == pytest.approx(expected, abs=1e-12)


def test_lengths_and_rotations_do_not_matter() -> None:
    ours, theirs = rows(6, 4, 1), rows(6, 4, 2)
    turn = torch.linalg.qr(rows(4, 4, 3)).Q
    moved = relational_loss(3 * ours @ turn, theirs * torch.arange(1, 7)[:, None])
    torch.testing.assert_close(moved, relational_loss(ours, theirs))
    assert relational_loss(ours @ turn, 5 * ours).item() == pytest.approx(0, abs=1e-12)


def test_gradcheck() -> None:
    assert torch.autograd.gradcheck(relational_loss, [rows(3, 4, 1).requires_grad_(), rows(3, 2, 2)])


def test_half_precision_is_widened() -> None:
    assert relational_loss(rows(3, 4, 1).bfloat16(), rows(3, 4, 2).bfloat16()).dtype == torch.float32


def test_bad_shapes() -> None:
    with pytest.raises(InputError, match="expected two or more faces, got 1"):
        relational_loss(rows(1, 4, 1), rows(1, 4, 2))
    with pytest.raises(InputError, match="target"):
        relational_loss(rows(3, 4, 1), rows(2, 4, 2))
