"""Averages to coarser scales against block loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from maskfix.base import InputError
from maskfix.losses.scales import area_average, average_visible, enlarge
from tests.reference import losses as reference


def fields(channels: int, seed: int) -> Tensor:
    return torch.rand(2, channels, 8, 12, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_area_average__twin(factor: int) -> None:
    images = fields(3, 1)
    expected = torch.from_numpy(reference.area(images.numpy(), factor)[0])
    torch.testing.assert_close(area_average(images, (8 // factor, 12 // factor)), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("factor", [1, 2, 4])
@pytest.mark.parametrize("hard", [True, False])
def test_average_visible__twin(factor: int, hard: bool) -> None:
    uv, visible = fields(2, 1), fields(1, 2)
    visible[:, :, :4, :4] = 0
    if hard:
        visible = (visible > 0.5).double()
    mean, share = average_visible(uv, visible, (8 // factor, 12 // factor))
    expected, expected_share = reference.area(uv.numpy(), factor, visible.numpy())
    torch.testing.assert_close(share, torch.from_numpy(expected_share), rtol=0, atol=1e-12)
    wanted = torch.from_numpy(expected)
    torch.testing.assert_close(mean * (share > 0), wanted * (share > 0), rtol=0, atol=1e-12)


def test_average_visible__ignores_nan_outside_the_face() -> None:
    uv, visible = fields(2, 1), fields(1, 2) > 0.7
    expected = average_visible(uv, visible, (2, 3))
    found = average_visible(torch.where(visible, uv, torch.nan), visible, (2, 3))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_average_visible__constant_face_keeps_its_value() -> None:
    visible = fields(1, 2) > 0.7
    uv = torch.where(visible, 0.4, 0.9).expand(-1, 2, -1, -1)
    mean, share = average_visible(uv, visible, (4, 6))
    inside = mean[(share > 0).expand_as(mean)]
    assert len(inside) > 10
    torch.testing.assert_close(inside, torch.full_like(inside, 0.4), rtol=0, atol=1e-6)


def test_scales__own_size_is_untouched() -> None:
    images = fields(3, 1)
    assert area_average(images, (8, 12)) is images
    assert enlarge(images, (8, 12)) is images
    assert enlarge(images, (16, 24)).shape == (2, 3, 16, 24)


def test_area_average__refuses_to_enlarge() -> None:
    with pytest.raises(InputError, match=r"\(16, 12\).*\(8, 12\)"):
        area_average(fields(3, 1), (16, 12))
