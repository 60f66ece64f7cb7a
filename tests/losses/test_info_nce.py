"""InfoNCE against the loop over eq. 1, closed forms, symmetry and precision."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from maskfix.base import InputError
from maskfix.losses import InfoNCELoss, info_nce
from tests.reference import losses as reference


def units(rows: int, columns: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(rows, columns, generator=generator, dtype=torch.float64), dim=1).to(dtype)


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize(("dimension", "negatives"), [(1, 3), (2, 0), (16, 5), (64, 33)])
@pytest.mark.parametrize("temperature", [0.07, 0.5, 1.0])
def test_info_nce__twin(count: int, dimension: int, negatives: int, temperature: float) -> None:
    query, key, queue = units(count, dimension, 1), units(count, dimension, 2), units(negatives, dimension, 3)
    expected = reference.info_nce(query.numpy(), key.numpy(), queue.numpy(), temperature)
    assert info_nce(query, key, queue, temperature).item() == pytest.approx(expected, abs=1e-10)
    single = info_nce(query.float(), key.float(), queue.float(), temperature)
    assert single.dtype == torch.float32
    assert single.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_info_nce__own_key_in_the_queue() -> None:
    """Each query passes over its own key, and over no other's; with no other key there is nothing to lose."""
    query, key, queue = units(3, 16, 1), units(3, 16, 2), units(6, 16, 3)
    own = [4, 0, 5]
    queue[own] = key
    expected = reference.info_nce(query.numpy(), key.numpy(), queue.numpy(), 0.5, own)
    assert info_nce(query, key, queue, 0.5, torch.tensor(own)).item() == pytest.approx(expected, abs=1e-10)
    assert expected < info_nce(query, key, queue, 0.5).item() - 0.01
    assert info_nce(query[:1], key[:1], key[:1], own=torch.tensor([0])).item() == pytest.approx(0, abs=1e-12)
    places = torch.nn.functional.one_hot(torch.tensor(own), 6).bool()
    assert info_nce(query, key, queue, 0.5, places).item() == pytest.approx(expected, abs=1e-10)
    inputs = [query.requires_grad_(), key, queue]
    assert torch.autograd.gradcheck(lambda *given: info_nce(*given, 0.5, torch.tensor(own)), inputs)


def test_info_nce__any_number_of_own_keys() -> None:
    """None, several or all of the queue: each query's loss is that of the keys that are left to it."""
    query, key, queue = units(3, 16, 1), units(3, 16, 2), units(6, 16, 3)
    own = torch.tensor([[False] * 6, [True, False, True, True, False, False], [True] * 6])
    each = [
        reference.info_nce(query[i : i + 1].numpy(), key[i : i + 1].numpy(), queue[~own[i]].numpy(), 0.5)
        for i in range(3)
    ]
    assert each[2] == 0
    assert info_nce(query, key, queue, 0.5, own).item() == pytest.approx(sum(each) / 3, abs=1e-10)
    inputs = [query.requires_grad_(), key, queue]
    assert torch.autograd.gradcheck(lambda *given: info_nce(*given, 0.5, own), inputs)


@pytest.mark.parametrize("negatives", [0, 1, 7, 255])
def test_info_nce__collinear(negatives: int) -> None:
    one = units(1, 8, 0)
    loss = info_nce(one.repeat(3, 1), one.repeat(3, 1), one.repeat(negatives, 1))
    assert loss.item() == pytest.approx(math.log(negatives + 1), abs=1e-12)


def test_info_nce__permutations() -> None:
    query, key, queue = units(6, 16, 1), units(6, 16, 2), units(9, 16, 3)
    rows, others = torch.randperm(6, generator=torch.Generator().manual_seed(0)), torch.arange(9).flip(0)
    expected = info_nce(query, key, queue).item()
    assert info_nce(query[rows], key[rows], queue[others]).item() == pytest.approx(expected, abs=1e-12)
    assert info_nce(query, key[rows], queue).item() != pytest.approx(expected, abs=1e-3)


def test_info_nce__default_is_the_papers_temperature() -> None:
    arguments = units(2, 4, 1), units(2, 4, 2), units(5, 4, 3)
    assert info_nce(*arguments).item() == info_nce(*arguments, temperature=0.07).item()
    assert InfoNCELoss()(*arguments).item() == info_nce(*arguments).item()
    assert InfoNCELoss(0.2)(*arguments).item() == info_nce(*arguments, 0.2).item()


def test_info_nce__changes_nothing() -> None:
    tensors = (units(2, 4, 1), units(2, 4, 2), units(5, 4, 3))
    before = [tensor.clone() for tensor in tensors]
    info_nce(*tensors)
    assert all(torch.equal(a, b) for a, b in zip(tensors, before, strict=True))


def test_info_nce__gradcheck() -> None:
    tensors = [units(3, 5, seed).requires_grad_() for seed in (1, 2)] + [units(4, 5, 3).requires_grad_()]
    assert torch.autograd.gradcheck(info_nce, tensors)


def test_info_nce__autocast_keeps_float32() -> None:
    query, key, queue = (units(n, 64, n, torch.float32) for n in (4, 5, 128))
    query.requires_grad_()
    plain = info_nce(query, key[:4], queue)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = info_nce(query, key[:4], queue)
        half = info_nce(query.bfloat16(), key[:4].bfloat16(), queue)
    # Divided by 0.07, a product rounded to bf16 would be off by some 0.05.
    assert inside.item() == plain.item()
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(plain.item(), abs=0.2)
    half.backward()
    assert query.grad is not None
    assert torch.isfinite(query.grad).all()


def test_info_nce__extreme_logits_stay_finite() -> None:
    query = units(2, 8, 1, torch.float32).requires_grad_()
    loss = info_nce(query, -query.detach(), query.detach(), temperature=1e-4)
    loss.backward()
    assert loss.item() == pytest.approx(2e4, rel=1e-3)
    assert query.grad is not None
    assert torch.isfinite(query.grad).all()


def test_info_nce__refuses() -> None:
    one = units(2, 4, 0)
    with pytest.raises(InputError, match=r"key.*\(2, 4\).*\(3, 4\)"):
        info_nce(one, units(3, 4, 0), one)
    with pytest.raises(InputError, match="queue"):
        info_nce(one, one, units(3, 5, 0))
    with pytest.raises(InputError, match=r"temperature.*0\.0"):
        info_nce(one, one, one, 0.0)
    with pytest.raises(InputError, match="own"):
        info_nce(one, one, one, own=torch.tensor([[0], [1]]))
    with pytest.raises(InputError, match="own"):
        info_nce(one, one, one, own=torch.tensor([True, False]))
    with pytest.raises(InputError, match="temperature"):
        InfoNCELoss(-1.0)
