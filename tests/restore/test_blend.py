"""The weight of the completion, against SciPy's maximum filter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from maskfix.base import InputError
from maskfix.restore import blend_weight


def test_blend_weight__against_scipy() -> None:
    occlusion = np.random.default_rng(0).random((2, 1, 17, 23)) ** 6
    grown = np.stack([ndimage.maximum_filter(one[0], size=5, mode="constant", cval=0) for one in occlusion])
    expected = np.clip((grown - 0.25) / 0.35, 0, 1)
    assert ((expected > 0) & (expected < 1)).any()
    found = blend_weight(torch.from_numpy(occlusion))
    np.testing.assert_allclose(found[:, 0].numpy(), expected, atol=1e-12)


def test_blend_weight__keeps_the_input_away_from_a_mask() -> None:
    occlusion = torch.zeros(1, 1, 9, 9)
    occlusion[..., 4, 4] = 1
    inside = torch.zeros(9, 9)
    inside[2:7, 2:7] = 1
    assert torch.equal(blend_weight(occlusion)[0, 0], inside)
    assert not blend_weight(torch.full((1, 1, 5, 5), 0.25)).any()


@pytest.mark.parametrize("shape", [(1, 3, 4, 4), (1, 4, 4), (4, 4)])
def test_blend_weight__wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="occlusion"):
        blend_weight(torch.zeros(shape))
