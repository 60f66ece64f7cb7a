"""What modes hand on of a recogniser's outputs, whatever they are."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import maskfix
from maskfix.align import align
from maskfix.base import InputError, UInt8Array, arcface_layout
from maskfix.plugin import stage
from tests.plugin.worlds import green_deoccluder


class Out(NamedTuple):
    logits: Tensor
    embedding: Tensor


class Thirds(nn.Module):
    """Embeds a crop as the mean colours of its thirds; gives that as it is told."""

    def __init__(self, give: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.give = give
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, img: Tensor, gain: float = 1.0) -> Any:
        return self.give(gain * self.scale * nn.functional.adaptive_avg_pool2d(img, (3, 1)).flatten(1))


@pytest.fixture
def crops(face: UInt8Array, masked: UInt8Array, five: NDArray[Any]) -> Tensor:
    """The clean and the masked head, `(2, 3, 112, 112)` in [-1, 1]."""
    both = np.stack([align(photo, five, arcface_layout(112))[0] for photo in (face, masked)])
    return torch.from_numpy(both).permute(0, 3, 1, 2).float().div(127.5) - 1


def wrapped(give: Callable[[Tensor], Any], mode: str) -> Any:
    look: dict[str, Any] = {"layout": "arcface_112", "value_range": "symmetric", "deoccluder": green_deoccluder()}
    return maskfix.wrap(Thirds(give), mode=mode, **look)


@pytest.mark.parametrize("give", [lambda x: Out(x, x), lambda x: [x, x], lambda x: (x, x)])
def test_fuse_keeps_the_type_of_several_outputs(crops: Tensor, give: Callable[[Tensor], Any]) -> None:
    seam = wrapped(give, "fuse")
    clean, masked = seam(crops[:1]), seam(crops[1:])
    assert type(clean) is type(masked) is type(give(crops))
    assert (masked[1] != masked[0]).any(), "the embedding is mixed, the other output is of the completed face"


@pytest.mark.parametrize("mode", ["observe", "fuse"])
@pytest.mark.parametrize("give", [lambda x: {"embedding": x}, lambda x: list(x), lambda x: x[:1], lambda x: x.mean()])
def test_outputs_that_hold_no_row_a_face(crops: Tensor, give: Callable[[Tensor], Any], mode: str) -> None:
    with pytest.raises(InputError, match=r"recogniser: its only or last output should be .* \(N, D\) for 2 faces, got"):
        wrapped(give, mode)(crops)


@pytest.mark.parametrize("mode", ["observe", "fuse"])
def test_what_is_told_holds_no_gradients(crops: Tensor, mode: str) -> None:
    """They would keep the activations of the whole batch; what is returned has them."""
    seam = wrapped(lambda x: x, mode)
    assert seam(crops).requires_grad
    for told in copy.deepcopy(seam.last):
        assert not told.original.requires_grad
        assert told.completed is None or not told.completed.requires_grad


def test_crops_by_the_name_that_the_recogniser_gives_them(crops: Tensor) -> None:
    seam = wrapped(lambda x: x, "gate")
    expected = seam(crops, 3.0)
    assert torch.equal(seam(img=crops, gain=3.0), expected)
    assert torch.equal(seam(gain=3.0, img=crops), expected)
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
