"""What `wrap` takes, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import maskfix
from maskfix.base import InputError
from maskfix.plugin import stage
from tests.plugin.worlds import Thirds


def test_crops_by_the_name_that_the_recogniser_gives_them(heads: Tensor) -> None:
    seam = Thirds().wrapped()
    expected = seam(heads, 3.0)
    assert torch.equal(seam(img=heads, gain=3.0), expected)
    assert torch.equal(seam(gain=3.0, img=heads), expected)
    with pytest.raises(InputError, match="crops: none are given; pass them first, or as img="):
        seam(gain=3.0)


@pytest.mark.parametrize(
    ("thing", "settings", "said"),
    [
        (Thirds, {}, "recogniser: this is the class Thirds; wrap the recogniser itself"),
        (lambda x: x, {"layout": 112}, "crop layout: 112 is unknown"),
        (lambda x: x, {"device": None}, "device: None is unknown"),
        (lambda x: x, {"refine": "no"}, "refine: 'no' is unknown; known: True, False"),
        (lambda x: x, {"threshold": np.array([0.1, 0.2])}, "threshold: expected a number in"),
    ],
)
def test_settings_that_mean_nothing(thing: Any, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        maskfix.wrap(thing, **{"layout": "arcface_112", "value_range": "symmetric"} | settings)


def test_a_stage_is_no_recogniser() -> None:
    with pytest.raises(InputError, match="recogniser: this is a stage of maskfix; wrap the recogniser itself"):
        maskfix.wrap(stage("arcface_112", "symmetric"), layout="arcface_112", value_range="symmetric")
