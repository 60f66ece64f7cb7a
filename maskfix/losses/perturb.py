"""Random views before the identity network, so that its term rewards only what survives a slight change of picture.

Without them a completion network learns patterns of single pixels that please one recogniser and look like noise.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from maskfix.base import check_range, check_shape
from maskfix.losses.precision import full_precision, widen


def random_view(
    images: Tensor,
    generator: torch.Generator,
    *,
    scale: float = 0.5,
    blur: float = 0.7,
    shift: float = 2.0,
    noise: float = 0.02,
    grey: float = 0.5,
) -> Tensor:
    """One random slight degradation of each picture, differentiable in the pictures.

    The factor of the rescaling is drawn once per call (one size for the whole batch), the rest once per picture. Every
    draw comes from `generator`, so the same state gives the same views; a strength of 0 (of 1 for `scale`) leaves its
    step out and draws nothing for it.

    Args:
        images: `(N, 3, H, W)` in [0, 1].
        generator: Source of every draw; it may live on another device than the pictures.
        scale: Smallest factor of the down-and-up scaling, in (0, 1]; the factor is uniform in [scale, 1].
        blur: Largest standard deviation of the Gaussian blur in pixels; uniform in [0, blur].
        shift: Largest shift in pixels, uniform in [-shift, shift] in x and in y; the border is repeated.
        noise: Standard deviation of the Gaussian noise on the [0, 1] range.
        grey: Share of pictures that lose their colour, in [0, 1]: with colour at hand the term paints red and green
            patches that recognisers like and faces do not have.

    Returns:
        `(N, 3, H, W)` float32 or float64; the noise may leave [0, 1] slightly: clamping would cut gradients there.

    Raises:
        InputError: If `images` has not four axes or a strength is out of range.
    """
    check_shape("images", images, (None, None, None, None))
    check_range("scale", scale, 1e-3, 1.0)
    check_range("grey", grey, 0.0, 1.0)
    for name, strength in (("blur", blur), ("shift", shift), ("noise", noise)):
        check_range(name, strength, 0.0, 1e3)
    count = images.shape[0]
    with full_precision(images):
        view = widen(images)
        if scale < 1:
            view = rescale(view, scale + (1 - scale) * float(_uniform((1,), generator)))
        if blur > 0:
            view = gaussian_blur(view, blur * _uniform((count,), generator), radius=math.ceil(2.5 * blur))
        if shift > 0:
            view = translate(view, shift * (2 * _uniform((count, 2), generator) - 1))
        if grey > 0:
            view = desaturate(view, _uniform((count,), generator) < grey)
        if noise > 0:
            drawn = torch.randn(view.shape, generator=generator, device=generator.device)
            view = view + noise * drawn.to(view)
        return view


def rescale(images: Tensor, factor: float) -> Tensor:
    """Scale pictures down by `factor` with antialiasing and up to their size again, both bilinear.

    Args:
        images: `(N, 3, H, W)`.
        factor: In (0, 1]; 1 returns the pictures unchanged.

    Returns:
        `(N, 3, H, W)`.
    """
    height, width = images.shape[2:]
    small = (max(1, round(height * factor)), max(1, round(width * factor)))
    if small == (height, width):
        return images
    down = functional.interpolate(images, size=small, mode="bilinear", align_corners=False, antialias=True)
    return functional.interpolate(down, size=(height, width), mode="bilinear", align_corners=False)


def gaussian_blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur each picture with its own Gaussian, in x and then in y; the border is repeated.

    Args:
        images: `(N, C, H, W)`.
        sigma: `(N,)` standard deviations in pixels; 0 leaves a picture as it is.
        radius: Half width of the kernel in pixels, at least 1.

    Returns:
        `(N, C, H, W)`.
    """
    count, channels, height, width = images.shape
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    spread = sigma.to(images).clamp_min(1e-3)[:, None]  # at 1e-3 every neighbour's weight underflows to 0
    kernel = torch.softmax(-0.5 * (offsets / spread).square(), dim=1)  # (N, 2 * radius + 1), sums to 1
    kernel = kernel.repeat_interleave(channels, dim=0)[:, None]  # (N * C, 1, taps)
    # Pictures become channels, so that one grouped convolution gives each its own kernel.
    rows = functional.pad(images.reshape(1, count * channels, height, width), (radius,) * 4, mode="replicate")
    rows = functional.conv2d(rows, kernel[:, :, None, :], groups=count * channels)
    rows = functional.conv2d(rows, kernel[:, :, :, None], groups=count * channels)
    return rows.reshape(count, channels, height, width)


def translate(images: Tensor, offsets: Tensor) -> Tensor:
    """Move each picture by a part of a pixel or more, bilinear; the border is repeated.

    Args:
        images: `(N, C, H, W)`.
        offsets: `(N, 2)` pixels in x (right is positive) and y (down is positive).

    Returns:
        `(N, C, H, W)`.
    """
    height, width = images.shape[2:]
    size = torch.tensor([width, height], device=images.device, dtype=images.dtype)
    # A grid's unit is half a picture; content moves right when the grid looks left.
    moved = -2 * offsets.to(images) / size
    turn = torch.eye(2, device=images.device, dtype=images.dtype).expand(images.shape[0], 2, 2)
    theta = torch.cat([turn, moved[:, :, None]], dim=2)
    grid = functional.affine_grid(theta, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def desaturate(images: Tensor, chosen: Tensor) -> Tensor:
    """Turn the chosen pictures grey (Rec. 601 luma in all three channels).

    Args:
        images: `(N, 3, H, W)` RGB.
        chosen: `(N,)` bool.

    Returns:
        `(N, 3, H, W)`.
    """
    luma = (images * images.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
    return torch.lerp(images, luma.expand_as(images), chosen.to(images)[:, None, None, None])


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform draws in [0, 1), on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device)
