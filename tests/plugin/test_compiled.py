"""torch.compile around a seam and inside one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import maskfix
from maskfix.align import align
from maskfix.base import UInt8Array, arcface_layout
from tests.plugin.worlds import green_deoccluder

facenet_pytorch = pytest.importorskip("facenet_pytorch")


class Thirds(nn.Module):
    """Embeds a crop as the mean colours of its upper, middle and lower third, scaled."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * nn.functional.adaptive_avg_pool2d(x, (3, 1)).flatten(1)


@pytest.fixture
def crops(face: UInt8Array, masked: UInt8Array, five: NDArray[Any]) -> Tensor:
    """The clean and the masked head, `(2, 3, 112, 112)` in [-1, 1]."""
    both = np.stack([align(photo, five, arcface_layout(112))[0] for photo in (face, masked)])
    return torch.from_numpy(both).permute(0, 3, 1, 2).float().div(127.5) - 1


def test_a_compiled_seam_gives_the_same(crops: Tensor) -> None:
    """What is done in NumPy and in inference mode is stepped around."""
    seam = maskfix.wrap(Thirds(), layout="arcface_112", value_range="symmetric", deoccluder=green_deoccluder())
    with torch.no_grad():
        expected = seam(crops)
        compiled = torch.compile(seam, backend="eager")
        for _ in range(2):
            torch.testing.assert_close(compiled(crops), expected)
    assert [told.used for told in seam.last] == [False, True]
    assert (seam(crops)[1] != seam.inner(crops)[1]).any()


def test_a_compiled_facenet_is_known_as_one() -> None:
    resnet = facenet_pytorch.InceptionResnetV1().eval()
    seam = maskfix.wrap(torch.compile(resnet, backend="eager"), deoccluder=green_deoccluder())
    assert (seam.form.layout.name, seam.form.network_range) == ("facenet_160", "fixed_standard")
