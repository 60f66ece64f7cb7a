"""How a completion is laid over its input: visible pixels stay, and the rim of a mask goes with the mask."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from maskfix.base import check_shape

# A completed pixel fades in between these occlusion probabilities; below the first the input stays, to the bit.
_FADE = (0.25, 0.6)
# Pixels by which the occlusion map grows before it blends: the rim of a mask is half mask, half skin.
_RIM = 2


def blend_weight(occlusion: Tensor) -> Tensor:
    """How much of the completion each pixel takes.

    Args:
        occlusion: `(N, 1, H, W)` in [0, 1]: the occluder's probability, or its true opacity.

    Returns:
        `(N, 1, H, W)` in [0, 1], to lerp from the input to the completed picture: 0 where nothing within two pixels
        exceeds 0.25, 1 where something within two pixels reaches 0.6.

    Raises:
        InputError: If `occlusion` has not four axes and one channel.
    """
    check_shape("occlusion", occlusion, (None, 1, None, None))
    grown = functional.max_pool2d(occlusion, 2 * _RIM + 1, stride=1, padding=_RIM)
    return ((grown - _FADE[0]) / (_FADE[1] - _FADE[0])).clamp(0, 1)
