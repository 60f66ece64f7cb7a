"""Random views: each step alone, determinism and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from maskfix.base import InputError
from maskfix.losses import random_view
from maskfix.losses.perturb import desaturate, gaussian_blur, rescale, translate


def pictures(count: int = 3, size: int = 12, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(count, 3, size, size + 2, generator=torch.Generator().manual_seed(7), dtype=dtype)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_random_view__same_state_same_view() -> None:
    first = random_view(pictures(), generator(1))
    assert torch.equal(first, random_view(pictures(), generator(1)))
    assert not torch.equal(first, random_view(pictures(), generator(2)))
    state = generator(1)
    random_view(pictures(), state)
    assert not torch.equal(first, random_view(pictures(), state))


def test_random_view__leaves_the_global_state_alone() -> None:
    before = torch.get_rng_state()
    random_view(pictures(), generator())
    assert torch.equal(before, torch.get_rng_state())


def test_random_view__strength_zero_is_the_picture() -> None:
    images = pictures()
    assert torch.equal(random_view(images, generator(), scale=1.0, blur=0.0, shift=0.0, noise=0.0, grey=0.0), images)


@pytest.mark.parametrize("step", ["scale", "blur", "shift", "noise"])
def test_random_view__each_strength_acts_and_grows(step: str) -> None:
    images = pictures(16, 24)
    strengths: dict[str, float] = {"scale": 1.0, "blur": 0.0, "shift": 0.0, "noise": 0.0, "grey": 0.0}
    weak, strong = {"scale": (0.9, 0.3), "blur": (0.3, 2.0), "shift": (0.3, 3.0), "noise": (0.01, 0.1)}[step]
    changes = [
        (random_view(images, generator(3), **(strengths | {step: value})) - images).abs().mean().item()
        for value in (weak, strong)
    ]
    assert 0 < changes[0] < changes[1] < 0.5


def test_random_view__pictures_of_a_batch_differ() -> None:
    images = pictures(1).expand(4, -1, -1, -1)
    for step in ({"blur": 2.0}, {"shift": 2.0}, {"noise": 0.1}):
        views = random_view(
            images, generator(), **({"scale": 1.0, "blur": 0.0, "shift": 0.0, "noise": 0.0, "grey": 0.0} | step)
        )
        assert not torch.equal(views[0], views[1])


def test_random_view__noise_has_its_strength() -> None:
    views = random_view(
        torch.full((4, 3, 64, 64), 0.5), generator(), scale=1.0, blur=0.0, shift=0.0, noise=0.05, grey=0.0
    )
    assert views.std().item() == pytest.approx(0.05, rel=0.03)
    assert views.mean().item() == pytest.approx(0.5, abs=0.002)


def test_random_view__constant_pictures_stay() -> None:
    images = torch.full((2, 3, 16, 16), 0.25, dtype=torch.float64)
    torch.testing.assert_close(random_view(images, generator(), noise=0.0), images)


def test_translate__whole_pixels_and_between() -> None:
    images = pictures(2)
    moved = translate(images, torch.tensor([[2.0, 0.0], [0.0, -1.0]]))
    torch.testing.assert_close(moved[0, :, :, 2:], images[0, :, :, :-2])
    torch.testing.assert_close(moved[0, :, :, 1], images[0, :, :, 0])  # the border is repeated
    torch.testing.assert_close(moved[1, :, :-1], images[1, :, 1:])
    half = translate(images, torch.tensor([[0.5, 0.0], [0.5, 0.0]]))
    torch.testing.assert_close(half[..., 1:], (images[..., 1:] + images[..., :-1]) / 2)


def test_gaussian_blur__against_scipy() -> None:
    images = pictures(3)
    blurred = gaussian_blur(images, torch.tensor([0.0, 0.6, 1.5], dtype=torch.float64), radius=4)
    torch.testing.assert_close(blurred[0], images[0])
    for row, sigma in ((1, 0.6), (2, 1.5)):
        for colour in range(3):
            expected = ndimage.gaussian_filter(images[row, colour].numpy(), sigma, mode="nearest", radius=4)
            np.testing.assert_allclose(blurred[row, colour].numpy(), expected, rtol=0, atol=1e-10)


def test_rescale__loses_detail_only() -> None:
    images = pictures(2, 16)
    assert torch.equal(rescale(images, 1.0), images)
    small = rescale(images, 0.5)
    assert small.shape == images.shape
    assert small.std().item() < 0.7 * images.std().item()
    # A ramp is bilinear: away from the border nothing is lost.
    ramp = torch.linspace(0, 1, 32, dtype=torch.float64).expand(1, 3, 32, 32)
    torch.testing.assert_close(rescale(ramp, 0.5)[..., 4:-4], ramp[..., 4:-4], rtol=0, atol=1e-6)


def test_rescale__does_not_alias() -> None:
    # Alternate columns hold nothing below half the size: a fair reduction is grey, a sampled one has beats.
    columns = (torch.arange(40) % 2).double().expand(1, 3, 40, 40)
    assert (rescale(columns, 0.6)[..., 4:-4] - 0.5).abs().max().item() < 0.2


def test_random_view__gradcheck() -> None:
    images = pictures(2, 6).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: random_view(x, generator(5)), [images])


def test_random_view__half() -> None:
    images = pictures(dtype=torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        view = random_view(images, generator())
    assert view.dtype == torch.float32
    torch.testing.assert_close(view, random_view(images.detach().float(), generator()))
    view.sum().backward()
    assert images.grad is not None
    assert torch.isfinite(images.grad).all()


def test_random_view__refuses() -> None:
    with pytest.raises(InputError, match="images"):
        random_view(torch.zeros(3, 8, 8), generator())
    with pytest.raises(InputError, match="scale"):
        random_view(pictures(), generator(), scale=1.5)
    with pytest.raises(InputError, match="noise"):
        random_view(pictures(), generator(), noise=-0.1)


def test_desaturate__chosen_pictures_keep_their_luma_alone() -> None:
    images = pictures()
    chosen = torch.arange(len(images)) % 2 == 0
    grey = desaturate(images, chosen)
    assert torch.equal(grey[~chosen], images[~chosen])
    luma = 0.299 * images[:, 0] + 0.587 * images[:, 1] + 0.114 * images[:, 2]
    torch.testing.assert_close(grey[chosen], luma[chosen][:, None].expand(-1, 3, -1, -1))


def test_random_view__grey_share_is_drawn_per_picture() -> None:
    images = pictures()[:1].expand(400, -1, -1, -1)
    views = random_view(images, generator(), scale=1.0, blur=0.0, shift=0.0, noise=0.0, grey=0.25)
    grey = (views[:, 0] - views[:, 2]).abs().amax((1, 2)) < 1e-9
    assert 0.17 < grey.double().mean() < 0.33
