"""What a counterpart keeps of its picture: format, transparency, all of its pages, and the date."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskfix.base import ImageError, InputError, UInt8Array, read_image
from maskfix.cli.saving import read_single, save_picture, write_counterpart


@pytest.fixture
def colours() -> UInt8Array:
    """`(16, 24, 3)` noise."""
    return np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)


@pytest.fixture
def cut(colours: UInt8Array) -> UInt8Array:
    """The same with nothing to see in the first rows, and half of it in the next."""
    alpha = np.full((16, 24, 1), 255, np.uint8)
    alpha[:4], alpha[4:8] = 0, 128
    return np.concatenate([colours, alpha], axis=2)


def completed(photo: UInt8Array) -> UInt8Array:
    """The picture with other pixels at the right."""
    result = photo.copy()
    result[:, 12:] = 100
    return result


def test_write__a_side_too_long_for_the_format(tmp_path: Path) -> None:
    photo = np.zeros((1, 16_384, 3), np.uint8)
    Image.fromarray(photo).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"b\.webp: cannot be written \(.*16383"):
        write_counterpart(tmp_path / "b.webp", tmp_path / "a.png", photo, photo)
    assert [item.name for item in tmp_path.iterdir()] == ["a.png"]


class TestSeveralPictures:
    @pytest.mark.parametrize("suffix", ["png", "tif", "webp", "gif"])
    def test_refused(self, tmp_path: Path, colours: UInt8Array, suffix: str) -> None:
        first, second = Image.fromarray(colours), Image.fromarray(colours[::-1])
        first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second])
        with pytest.raises(InputError, match=r"^animated or of several pages \(2\), of which one would remain"):
            read_single(tmp_path / f"a.{suffix}")

    @pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg", "bmp"])
    def test_one_is_read(self, tmp_path: Path, colours: UInt8Array, suffix: str) -> None:
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(colours).save(path)
        np.testing.assert_array_equal(read_single(path), read_image(path))

    def test_preview_behind_a_photograph(self, tmp_path: Path, colours: UInt8Array) -> None:
        path = tmp_path / "a.jpg"
        Image.fromarray(colours).save(path, "MPO", save_all=True, append_images=[Image.fromarray(colours[::2, ::2])])
        assert read_single(path).shape == colours.shape

    def test_damage_behind_the_first(self, tmp_path: Path, colours: UInt8Array) -> None:
        path = tmp_path / "a.tif"
        pages = [Image.fromarray(colours), Image.fromarray(colours)]
        pages[0].save(path, save_all=True, append_images=pages[1:])
        path.write_bytes(path.read_bytes()[:-1200])
        with pytest.raises(ImageError, match="truncated or damaged"):
            read_single(path)


class TestTransparency:
    @pytest.mark.parametrize("suffix", ["png", "tif", "tiff"])
    def test_stays(self, tmp_path: Path, cut: UInt8Array, suffix: str) -> None:
        source, target = tmp_path / f"a.{suffix}", tmp_path / "out" / f"a.{suffix}"
        Image.fromarray(cut).save(source)
        photo = read_image(source)
        write_counterpart(target, source, photo, completed(photo))
        made = np.asarray(Image.open(target))
        np.testing.assert_array_equal(made[..., 3], cut[..., 3])
        np.testing.assert_array_equal(made[:, :12], cut[:, :12])
        # On black, what can be seen is what the networks made; half of the light cannot be brighter than half.
        np.testing.assert_allclose(read_image(target)[4:, 12:].astype(int), 100, atol=1)

    def test_webp(self, tmp_path: Path, cut: UInt8Array) -> None:
        Image.fromarray(cut).save(tmp_path / "a.png")
        photo = read_image(tmp_path / "a.png")
        save_picture(tmp_path / "a.webp", completed(photo), photo, tmp_path / "a.png")
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.webp"))[..., 3], cut[..., 3])

    def test_turned_with_the_picture(self, tmp_path: Path, cut: UInt8Array) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(np.ascontiguousarray(np.rot90(cut))).save(tmp_path / "a.png", exif=exif)
        photo = read_image(tmp_path / "a.png")
        save_picture(tmp_path / "b.png", completed(photo), photo, tmp_path / "a.png")
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png"))[:, :12], cut[:, :12])

    @pytest.mark.parametrize("mode", ["LA", "P"])
    def test_of_other_modes(self, tmp_path: Path, cut: UInt8Array, mode: str) -> None:
        picture = Image.fromarray(cut).convert("LA") if mode == "LA" else Image.fromarray(cut).quantize(64)
        picture.save(tmp_path / "a.png")
        photo = read_image(tmp_path / "a.png")
        save_picture(tmp_path / "b.png", completed(photo), photo, tmp_path / "a.png")
        expected = np.asarray(Image.open(tmp_path / "a.png").convert("RGBA"))
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "b.png"))[..., 3], expected[..., 3])

    @pytest.mark.parametrize("suffix", ["jpg", "bmp"])
    def test_format_without__on_black(self, tmp_path: Path, cut: UInt8Array, suffix: str) -> None:
        Image.fromarray(cut).save(tmp_path / "a.png")
        photo = read_image(tmp_path / "a.png")
        save_picture(tmp_path / f"b.{suffix}", photo, photo, tmp_path / "a.png")
        assert Image.open(tmp_path / f"b.{suffix}").mode == "RGB"


class TestNothingCompleted:
    @pytest.mark.parametrize(("one", "other"), [("a.jpg", "b.JPEG"), ("a.tif", "b.tiff"), ("a.png", "b.png")])
    def test_same_format__copied_to_the_byte(self, tmp_path: Path, colours: UInt8Array, one: str, other: str) -> None:
        Image.fromarray(colours).save(tmp_path / one)
        write_counterpart(tmp_path / other, tmp_path / one, read_image(tmp_path / one), None)
        assert (tmp_path / other).read_bytes() == (tmp_path / one).read_bytes()

    @pytest.mark.parametrize(("suffix", "name"), [("jpg", "JPEG"), ("webp", "WEBP"), ("tif", "TIFF"), ("bmp", "BMP")])
    def test_other_format__converted(self, tmp_path: Path, colours: UInt8Array, suffix: str, name: str) -> None:
        Image.fromarray(colours).save(tmp_path / "a.png")
        write_counterpart(tmp_path / f"b.{suffix}", tmp_path / "a.png", colours, None)
        assert Image.open(tmp_path / f"b.{suffix}").format == name


@pytest.mark.parametrize("changed", [False, True])
def test_picture_of_the_future__counterpart_is_no_older(tmp_path: Path, colours: UInt8Array, changed: bool) -> None:
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(colours).save(source)
    made = completed(colours) if changed else None
    write_counterpart(target, source, colours, made)
    now = target.stat().st_mtime_ns
    assert now >= source.stat().st_mtime_ns
    os.utime(source, ns=(now + 10**15, now + 10**15))
    write_counterpart(target, source, colours, made)
    assert target.stat().st_mtime_ns == now + 10**15


def test_cannot_be_written(tmp_path: Path, colours: UInt8Array) -> None:
    Image.fromarray(colours).save(tmp_path / "a.png")
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match=r"b\.png: cannot be written \("):
        write_counterpart(tmp_path / "file" / "b.png", tmp_path / "a.png", colours, None)
