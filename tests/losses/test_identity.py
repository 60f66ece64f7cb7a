"""Equation 12 and its cosine form against the loops, and the gradient at equality."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from maskfix.base import InputError
from maskfix.losses import IdentityLoss, identity_cosine_loss, identity_loss
from tests.reference import losses as reference

Loss = Callable[[Tensor, Tensor], Tensor]
PAIRS: list[tuple[Loss, Callable[[Any, Any], float]]] = [
    (identity_loss, reference.identity),
    (identity_cosine_loss, reference.identity_cosine),
]


def rows(count: int, dimension: int, seed: int) -> Tensor:
    return torch.randn(count, dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("loss", "twin"), PAIRS)
@pytest.mark.parametrize(("count", "dimension"), [(1, 2), (3, 16)])
def test_identity__twin(loss: Loss, twin: Callable[[Any, Any], float], count: int, dimension: int) -> None:
    ours, theirs = rows(count, dimension, 1), rows(count, dimension, 2)
    assert loss(ours, theirs).item() == pytest.approx(twin(ours.numpy(), theirs.numpy()), abs=1e-10)


@pytest.mark.parametrize("loss", [identity_loss, identity_cosine_loss])
def test_identity__equal_rows(loss: Loss) -> None:
    ours = rows(3, 8, 1).requires_grad_()
    value = loss(ours, ours.detach().clone())
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, torch.zeros_like(ours))


@pytest.mark.parametrize("loss", [identity_loss, identity_cosine_loss])
def test_identity__symmetry_and_order(loss: Loss) -> None:
    ours, theirs, order = rows(5, 8, 1), rows(5, 8, 2), torch.tensor([3, 1, 4, 0, 2])
    expected = pytest.approx(loss(ours, theirs).item(), abs=1e-12)
    assert loss(theirs, ours).item() == expected
    assert loss(ours[order], theirs[order]).item() == expected


def test_identity__opposite_unit_vectors() -> None:
    ours = torch.nn.functional.normalize(rows(2, 8, 1))
    assert identity_loss(ours, -ours).item() == pytest.approx(2)
    assert identity_cosine_loss(ours, -3 * ours).item() == pytest.approx(2)


@pytest.mark.parametrize("loss", [identity_loss, identity_cosine_loss])
def test_identity__gradcheck(loss: Loss) -> None:
    assert torch.autograd.gradcheck(loss, [rows(3, 6, 1).requires_grad_(), rows(3, 6, 2).requires_grad_()])


@pytest.mark.parametrize("loss", [identity_loss, identity_cosine_loss])
def test_identity__half(loss: Loss) -> None:
    ours, theirs = rows(3, 64, 1), rows(3, 64, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(ours.bfloat16(), theirs.float())
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(ours, theirs).item(), rel=1e-2)


def test_identity__module() -> None:
    ours, theirs = rows(3, 8, 1), rows(3, 8, 2)
    assert IdentityLoss()(ours, theirs).item() == identity_loss(ours, theirs).item()
    assert IdentityLoss("cosine")(ours, theirs).item() == identity_cosine_loss(ours, theirs).item()
    with pytest.raises(InputError, match="'angle' is unknown; known: l2, cosine"):
        IdentityLoss(cast(Any, "angle"))
    with pytest.raises(InputError, match="one shape"):
        identity_loss(ours, theirs[:1])
