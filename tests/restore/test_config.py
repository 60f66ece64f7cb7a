"""Sizes of the networks."""

from __future__ import annotations

import pytest

from maskfix.base import InputError
from maskfix.restore import CONFIGS, SCALES, NetworkConfig


def test_config__too_few_levels() -> None:
    with pytest.raises(InputError, match="expected 6 or more widths"):
        NetworkConfig(size=128, widths=(8,) * 5, kernels=(3,) * 5)


def test_config__kernels_and_widths_differ() -> None:
    with pytest.raises(InputError, match="as many kernels"):
        NetworkConfig(size=128, widths=(8,) * 6, kernels=(3,) * 7)


def test_config__size_that_cannot_be_halved() -> None:
    with pytest.raises(InputError, match="size 96 is no multiple of 64"):
        NetworkConfig(size=96, widths=(8,) * 6, kernels=(3,) * 6)


@pytest.mark.parametrize("levels", [(6,), (-1,), (2, 2)])
@pytest.mark.parametrize("name", ["refined", "attended"])
def test_config__levels_that_are_none(name: str, levels: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=f"{name}: expected distinct levels from 0 to 5"):
        NetworkConfig(size=64, widths=(8,) * 6, kernels=(3,) * 6, **{name: levels})  # type: ignore[arg-type]


@pytest.mark.parametrize("counts", [(0,) * 7, (0, -1)])
@pytest.mark.parametrize("name", ["encoder_expansions", "decoder_expansions"])
def test_config__expansions_that_cannot_be(name: str, counts: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=f"{name}: expected counts from 0 on for 6 levels at most"):
        NetworkConfig(size=64, widths=(8,) * 6, kernels=(3,) * 6, **{name: counts})  # type: ignore[arg-type]


def test_config__smallest_that_fits() -> None:
    assert NetworkConfig(size=64, widths=(8,) * 6, kernels=(3,) * 6).projection == 128


def test_configs__dfnet_widths() -> None:
    """The base networks take DFNet's widths and kernels (shared/reference/ecosystem.md, section 6)."""
    base = CONFIGS["cadf_base_256"]
    assert base.widths == (64, 128, 256, 512, 512, 512, 512, 512)
    assert base.kernels == (7, 5, 5, 3, 3, 3, 3, 3)
    assert CONFIGS["cadf_base_128"].widths == base.widths[:-1]
    assert SCALES == 6
