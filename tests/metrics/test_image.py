"""PSNR and SSIM against scikit-image and by hand, the variance of the Laplacian against SciPy."""

from __future__ import annotations

import numpy as np
import pytest

from maskfix.base import InputError
from maskfix.metrics import image, laplacian_variance, psnr, ssim

skimage_metrics = pytest.importorskip("skimage.metrics")
ndimage = pytest.importorskip("scipy.ndimage")


def pictures(count: int, height: int, width: int, channels: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Smooth pictures and noisy copies, each with another amount of noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    phase = rng.uniform(0, 6, size=(count, 1, 1, channels))
    clean = 127 + 100 * np.sin(x[None, :, :, None] / 5 + phase) * np.cos(y[None, :, :, None] / 7)
    noise = rng.normal(size=clean.shape) * np.linspace(1, 60, count)[:, None, None, None]
    return clean.round().astype(np.uint8), (clean + noise).clip(0, 255).round().astype(np.uint8)


@pytest.mark.parametrize(("height", "width", "channels"), [(32, 32, 3), (19, 40, 3), (11, 11, 3), (24, 24, 1)])
def test_ssim__equals_skimage(height: int, width: int, channels: int) -> None:
    references, images = pictures(5, height, width, channels)
    expected = [
        skimage_metrics.structural_similarity(
            a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=-1
        )
        for a, b in zip(images, references, strict=True)
    ]
    np.testing.assert_allclose(ssim(images, references), expected, atol=1e-10)
    assert expected[0] > expected[-1]


def test_ssim__pictures_of_a_batch_do_not_touch(monkeypatch: pytest.MonkeyPatch) -> None:
    references, images = pictures(4, 16, 16)
    together = ssim(images, references)
    alone = np.concatenate([ssim(images[i : i + 1], references[i : i + 1]) for i in range(4)])
    np.testing.assert_allclose(together, alone, atol=1e-12)
    monkeypatch.setattr(image, "_CHUNK_PIXELS", 2 * 16 * 16)
    np.testing.assert_allclose(ssim(images, references), together, atol=1e-12)
    assert ssim(images[:0], references[:0]).shape == (0,)


def test_psnr__equals_skimage() -> None:
    references, images = pictures(5, 20, 24)
    expected = [
        skimage_metrics.peak_signal_noise_ratio(a, b, data_range=255) for a, b in zip(references, images, strict=True)
    ]
    np.testing.assert_allclose(psnr(images, references), expected, rtol=1e-12)
    np.testing.assert_allclose(psnr(references, images), expected, rtol=1e-12)


def test_psnr__mask() -> None:
    references = np.zeros((3, 4, 4, 3), dtype=np.uint8)
    images = references.copy()
    images[:, :2] = 255
    images[:, 2:] = 10
    mask = np.zeros((3, 4, 4), dtype=bool)
    mask[0, :2] = True
    mask[1, 2:] = True
    values = psnr(images, references, mask)
    assert values[0] == 0.0
    assert values[1] == pytest.approx(20 * np.log10(25.5))
    assert np.isnan(values[2])
    assert np.isinf(psnr(images, images, mask)[:2]).all()
    # The pixels outside the mask change nothing.
    images[1, :2] = 3
    assert psnr(images, references, mask)[1] == values[1]


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_bad_pictures(metric: object) -> None:
    assert callable(metric)
    good = np.zeros((1, 12, 12, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="images: expected dtype uint8"):
        metric(good / 255.0, good)
    with pytest.raises(InputError, match="references: expected shape"):
        metric(good, np.zeros((1, 12, 13, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="images: expected shape"):
        metric(good[0], good[0])


def test_bad_mask_and_size() -> None:
    small = np.zeros((1, 10, 12, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="11x11"):
        ssim(small, small)
    with pytest.raises(InputError, match="mask"):
        psnr(small, small, np.zeros((1, 10, 12), dtype=np.uint8))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="mask"):
        psnr(small, small, np.zeros((1, 12, 10), dtype=bool))


def test_laplacian_variance__equals_scipy() -> None:
    _, images = pictures(4, 19, 24)
    mask = np.random.default_rng(1).random((4, 19, 24)) < 0.4
    luma = images @ np.array([0.299, 0.587, 0.114])
    laplacian = [ndimage.laplace(picture, mode="mirror") for picture in luma]
    inside = [values[where].var() for values, where in zip(laplacian, mask, strict=True)]
    np.testing.assert_allclose(laplacian_variance(images, mask), inside, rtol=1e-4)
    np.testing.assert_allclose(laplacian_variance(images), [values.var() for values in laplacian], rtol=1e-4)
    assert inside[0] < inside[-1]  # the last picture has the most noise


def test_laplacian_variance__chunks_and_empty_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    _, images = pictures(3, 12, 16)
    mask = np.zeros((3, 12, 16), dtype=bool)
    mask[1:, 4:8] = True
    together = laplacian_variance(images, mask)
    assert np.isnan(together).tolist() == [True, False, False]
    monkeypatch.setattr(image, "_CHUNK_PIXELS", 2 * 12 * 16)
    np.testing.assert_allclose(laplacian_variance(images, mask), together, rtol=1e-9)
    assert laplacian_variance(images[:0]).shape == (0,)


def test_laplacian_variance__bad_input() -> None:
    good = np.zeros((1, 12, 12, 3), dtype=np.uint8)
    with pytest.raises(InputError, match="images: expected dtype uint8"):
        laplacian_variance(good / 255.0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="images: expected shape"):
        laplacian_variance(good[..., :1])
    with pytest.raises(InputError, match="2x2"):
        laplacian_variance(good[:, :1])
    with pytest.raises(InputError, match="mask"):
        laplacian_variance(good, np.zeros((1, 12, 11), dtype=bool))
    with pytest.raises(InputError, match="mask"):
        laplacian_variance(good, np.zeros((1, 12, 12), dtype=np.uint8))  # type: ignore[arg-type]
