"""From the finest scale to the coarser ones of the decoder and back: averages, enlargement, selection."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from maskfix.base import InputError
from maskfix.losses.precision import full_precision, widen


def area_average(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Area average of `(N, C, H, W)` to `size` (h, w) in pixels; each coarse pixel is the mean of what it covers.

    Raises:
        InputError: If `size` is larger than the pictures.
    """
    have = size_of(images)
    if have == tuple(size):
        return images
    if size[0] > have[0] or size[1] > have[1]:
        raise InputError(f"scale: the prediction's size {tuple(size)} is larger than the target's {have}")
    return functional.adaptive_avg_pool2d(images, size)


def average_visible(uv: Tensor, visible: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Area average of a correspondence map over its face pixels only.

    Args:
        uv: `(N, 2, H, W)`; what stands outside the face is ignored, NaN too.
        visible: `(N, 1, H, W)` bool or float in [0, 1].
        size: (h, w) in pixels.

    Returns:
        `(N, 2, h, w)` means over face pixels, 0 where there is none, and `(N, 1, h, w)` the share of face in [0, 1].
    """
    with full_precision(uv):
        share = widen(visible)
        known = torch.where(share > 0, widen(uv), torch.zeros((), dtype=widen(uv).dtype, device=uv.device))
        coarse = area_average(share, size)
        return area_average(known * share, size) / coarse.clamp_min(1e-12), coarse


def enlarge(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Scale `(N, C, h, w)` to `size` (height, width) bilinearly; unchanged where it has that size."""
    if tuple(images.shape[2:]) == tuple(size):
        return images
    return functional.interpolate(images, size=size, mode="bilinear", align_corners=False)


def select_scales(name: str, tensors: Sequence[Tensor], scales: Sequence[int]) -> list[Tensor]:
    """The tensors of the chosen scales, 1 being the first."""
    if max(scales) > len(tensors):
        raise InputError(
            f"{name}: scale {max(scales)} is asked for, the network gives {len(tensors)}; select fewer scales"
        )
    return [tensors[scale - 1] for scale in scales]


def mean_of(values: Sequence[Tensor]) -> Tensor:
    """Mean of scalars."""
    return torch.stack(list(values)).mean()


def size_of(images: Tensor) -> tuple[int, int]:
    """Height and width of `(N, C, h, w)`."""
    return images.shape[2], images.shape[3]
