"""torch.compile around a seam and inside one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import maskfix
from tests.plugin.worlds import Thirds, green_deoccluder

facenet_pytorch = pytest.importorskip("facenet_pytorch")


def test_a_compiled_seam_gives_the_same(heads: Tensor) -> None:
    """What is done in NumPy and in inference mode is stepped around."""
    seam = Thirds().wrapped()
    with torch.no_grad():
        expected = seam(heads)
        compiled = torch.compile(seam, backend="eager")
        for _ in range(2):
            torch.testing.assert_close(compiled(heads), expected)
    assert [told.used for told in seam.last] == [False, True]
    assert (seam(heads)[1] != seam.inner(heads)[1]).any()


def test_a_compiled_facenet_is_known_as_one() -> None:
    resnet = facenet_pytorch.InceptionResnetV1().eval()
    seam = maskfix.wrap(torch.compile(resnet, backend="eager"), deoccluder=green_deoccluder())
    assert (seam.form.layout.name, seam.form.network_range) == ("facenet_160", "fixed_standard")
