"""Pictures of every kind in, whole files out."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from maskfix.base import ImageError, InputError, UInt8Array, drop_leftovers, read_image, replacing, write_image


@pytest.fixture
def ramp() -> UInt8Array:
    """Red grows to the right, green downwards, blue is constant: no two corners are alike; 24 high, 32 wide."""
    y, x = np.mgrid[0:24, 0:32]
    return np.dstack([x * 8, y * 10, np.full_like(x, 77)]).astype(np.uint8)


def names(folder: Path) -> list[str]:
    """All files of a folder, hidden ones as well."""
    return sorted(os.listdir(folder))


def refusal(path: Path) -> str:
    """What the library says of a picture; empty where it can be read."""
    try:
        assert read_image(path).dtype == np.uint8
    except ImageError as error:
        return str(error)
    return ""


def big_endian_tiff(values: np.ndarray) -> bytes:
    """A grey 16-bit TIFF as Motorola's byte order writes it, entry by entry."""
    height, width = values.shape
    pixels = values.astype(">u2").tobytes()
    short = {256: width, 257: height, 258: 16, 259: 1, 262: 1, 277: 1, 278: height}
    long = {273: 8, 279: len(pixels)}
    entries = [struct.pack(">HHIHH", tag, 3, 1, value, 0) for tag, value in short.items()]
    entries += [struct.pack(">HHII", tag, 4, 1, value) for tag, value in long.items()]
    directory = struct.pack(">H", len(entries)) + b"".join(sorted(entries)) + struct.pack(">I", 0)
    return b"MM\x00*" + struct.pack(">I", 8 + len(pixels)) + pixels + directory


def hollow_png(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels: decoding it would fail."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


class TestReadImage:
    def test_rgb_to_the_bit(self, tmp_path: Path, ramp: UInt8Array) -> None:
        Image.fromarray(ramp).save(tmp_path / "a.png")
        read = read_image(tmp_path / "a.png")
        assert read.dtype == np.uint8
        assert read.flags.c_contiguous
        np.testing.assert_array_equal(read, ramp)
        np.testing.assert_array_equal(read_image(str(tmp_path / "a.png")), ramp)

    def test_grey(self, tmp_path: Path, ramp: UInt8Array) -> None:
        Image.fromarray(ramp[..., 0]).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.repeat(ramp[..., :1], 3, axis=2))

    def test_black_and_white(self, tmp_path: Path, ramp: UInt8Array) -> None:
        Image.fromarray(ramp[..., 0] > 100).save(tmp_path / "a.png")
        expected = np.where(ramp[..., :1] > 100, 255, 0).repeat(3, axis=2)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected)

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_16_bit_grey_keeps_the_high_byte(self, tmp_path: Path, suffix: str) -> None:
        values = (np.arange(24 * 32, dtype=np.uint32) * 85).astype(np.uint16).reshape(24, 32)
        Image.fromarray(values).save(tmp_path / f"a.{suffix}")
        expected = np.repeat((values // 256).astype(np.uint8)[..., None], 3, axis=2)
        np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), expected)

    def test_16_bit_grey_of_the_other_byte_order(self, tmp_path: Path) -> None:
        values = (np.arange(24 * 32, dtype=np.uint32) * 85).astype(np.uint16).reshape(24, 32)
        (tmp_path / "a.tif").write_bytes(big_endian_tiff(values))
        expected = np.repeat((values // 256).astype(np.uint8)[..., None], 3, axis=2)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)

    @pytest.mark.parametrize(
        ("values", "kind"),
        [
            (np.linspace(0, 1, 16, dtype=np.float32), r"float32 numbers \(mode F\)"),
            (np.linspace(0, 255, 16, dtype=np.float32), r"float32 numbers \(mode F\)"),
            (np.arange(16, dtype=np.int32) * 65_536, r"int32 numbers \(mode I\)"),
            (np.arange(16, dtype=np.int32) - 1, r"int32 numbers \(mode I\)"),
        ],
    )
    def test_numbers_of_unknown_range(self, tmp_path: Path, values: np.ndarray, kind: str) -> None:
        Image.fromarray(values.reshape(4, 4)).save(tmp_path / "a.tif")
        with pytest.raises(ImageError, match=rf"a\.tif: holds {kind}, whose range is not known; convert it to 8 bit"):
            read_image(tmp_path / "a.tif")

    def test_16_bit_grey_in_32_bits(self, tmp_path: Path) -> None:
        values = np.arange(16, dtype=np.int32).reshape(4, 4) * 4369
        Image.fromarray(values).save(tmp_path / "a.tif")
        expected = np.repeat((values // 256).astype(np.uint8)[..., None], 3, axis=2)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)

    def test_16_bit_rgb(self, tmp_path: Path, ramp: UInt8Array) -> None:
        import cv2

        assert cv2.imwrite(str(tmp_path / "a.png"), ramp[..., ::-1].astype(np.uint16) * 257)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), ramp)

    def test_rgba_lies_on_black(self, tmp_path: Path, ramp: UInt8Array) -> None:
        alpha = np.zeros(ramp.shape[:2], np.uint8)
        alpha[:8], alpha[8:16] = 255, 128
        Image.fromarray(np.dstack([ramp, alpha])).save(tmp_path / "a.png")
        read = read_image(tmp_path / "a.png")
        np.testing.assert_array_equal(read[:8], ramp[:8])
        np.testing.assert_allclose(read[8:16], ramp[8:16] * (128 / 255), atol=1)
        assert not read[16:].any()

    def test_grey_with_alpha(self, tmp_path: Path, ramp: UInt8Array) -> None:
        alpha = np.where(np.arange(32) < 16, 255, 0).astype(np.uint8)[None].repeat(24, axis=0)
        Image.fromarray(np.dstack([ramp[..., 0], alpha]), "LA").save(tmp_path / "a.png")
        read = read_image(tmp_path / "a.png")
        np.testing.assert_array_equal(read[:, :16, 1], ramp[:, :16, 0])
        assert not read[:, 16:].any()

    def test_palette(self, tmp_path: Path) -> None:
        colours = np.array([[200, 30, 7], [0, 90, 255], [12, 12, 12]], np.uint8)
        indices = np.arange(24 * 32).reshape(24, 32) % 3
        picture = Image.fromarray(indices.astype(np.uint8), "P")
        picture.putpalette(colours.ravel().tolist())
        picture.save(tmp_path / "a.png")
        picture.save(tmp_path / "b.png", transparency=1)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), colours[indices])
        colours[1] = 0
        np.testing.assert_array_equal(read_image(tmp_path / "b.png"), colours[indices])

    def test_cmyk(self, tmp_path: Path) -> None:
        cmyk = np.zeros((16, 16, 4), np.uint8)
        cmyk[:, :8, 0], cmyk[:, 8:, 3] = 255, 255
        Image.fromarray(cmyk, "CMYK").save(tmp_path / "a.jpg", quality=100, subsampling=0)
        read = read_image(tmp_path / "a.jpg").astype(int)
        np.testing.assert_allclose(read[:, 1:7], np.broadcast_to([0, 255, 255], (16, 6, 3)), atol=6)
        np.testing.assert_allclose(read[:, 9:15], 0, atol=6)

    @pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
    def test_exif_rotation(self, tmp_path: Path, ramp: UInt8Array, orientation: int, turns: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(ramp).save(tmp_path / "a.png", exif=exif)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(ramp, turns))

    def test_exif_mirror(self, tmp_path: Path, ramp: UInt8Array) -> None:
        exif = Image.Exif()
        exif[0x0112] = 2
        Image.fromarray(ramp).save(tmp_path / "a.png", exif=exif)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), ramp[:, ::-1])

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
    def test_truncated_jpeg(self, tmp_path: Path, astronaut: UInt8Array, share: float) -> None:
        path = tmp_path / "half.jpg"
        write_image(path, astronaut[:128, :128])
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ImageError, match=r"half\.jpg: truncated or damaged picture \(.*\); replace the file$"):
            read_image(path)

    def test_damaged_png(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").write_bytes(hollow_png(64, 64))
        with pytest.raises(ImageError, match=r"a\.png: truncated or damaged picture"):
            read_image(tmp_path / "a.png")

    def test_unknown_variant_of_a_format(self, tmp_path: Path, ramp: UInt8Array) -> None:
        Image.fromarray(ramp).save(tmp_path / "a.dds")
        body = bytearray((tmp_path / "a.dds").read_bytes())
        body[80:84] = bytes(4)
        (tmp_path / "a.dds").write_bytes(body)
        with pytest.raises(ImageError, match=r"a\.dds: truncated or damaged picture \(Un.* pixel format"):
            read_image(tmp_path / "a.dds")

    @pytest.mark.parametrize("body", [b"", b"hello, I am a text\n" * 20, b"\xff\xd8"])
    def test_no_picture(self, tmp_path: Path, body: bytes) -> None:
        (tmp_path / "a.jpg").write_bytes(body)
        with pytest.raises(ImageError, match=r"a\.jpg: not a picture that can be read \(JPEG, PNG"):
            read_image(tmp_path / "a.jpg")

    def test_no_file(self, tmp_path: Path) -> None:
        messages: dict[Any, str] = {
            tmp_path / "a.jpg": f"{tmp_path}/a.jpg: no such picture",
            tmp_path: f"{tmp_path}: is a folder; give a picture",
            "https://x.org/a.jpg": "https://x.org/a.jpg: is a web address; download the picture and give its path",
            None: "picture: expected the path of a file, got NoneType",
        }
        for path, message in messages.items():
            with pytest.raises(ImageError) as raised:
                read_image(path)
            assert str(raised.value) == message

    def test_too_large(self, tmp_path: Path, ramp: UInt8Array) -> None:
        Image.fromarray(ramp).save(tmp_path / "a.png")
        assert read_image(tmp_path / "a.png", max_pixels=24 * 32).shape == (24, 32, 3)
        with pytest.raises(ImageError, match=r"a\.png: 32x24 is more than 767 pixels; scale it down first"):
            read_image(tmp_path / "a.png", max_pixels=24 * 32 - 1)

    @pytest.mark.parametrize("side", [8001, 10_000, 20_000])
    def test_too_large_is_refused_before_decoding_and_without_a_warning(self, tmp_path: Path, side: int) -> None:
        (tmp_path / "a.png").write_bytes(hollow_png(side, side))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(ImageError, match="scale it down first") as raised:
                read_image(tmp_path / "a.png")
        assert "damaged" not in str(raised.value)

    def test_damaged_avif_under_another_name(self, tmp_path: Path, astronaut: UInt8Array) -> None:
        """Pillow goes by content, and tells of some damage by a RuntimeError."""
        if not features.check("avif"):
            pytest.skip("this Pillow reads no AVIF")
        Image.fromarray(astronaut[::16, ::16]).save(tmp_path / "a.avif")
        whole = (tmp_path / "a.avif").read_bytes()
        path, refused = tmp_path / "a.jpg", 0
        for at in range(0, min(400, len(whole)), 2):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
            refused += bool(refusal(path))
        assert refused

    def test_every_refusal_is_one_line(self, tmp_path: Path, astronaut: UInt8Array) -> None:
        """Byte by byte damage: a picture or an ImageError of one line, nothing else."""
        rng = np.random.default_rng(0)
        for suffix in ("jpg", "png", "tif", "webp", "bmp", "dds"):
            Image.fromarray(astronaut[::16, ::16]).save(tmp_path / f"whole.{suffix}")
            whole = np.frombuffer((tmp_path / f"whole.{suffix}").read_bytes(), np.uint8)
            path, refused = tmp_path / f"damaged.{suffix}", 0
            for _ in range(25):
                damaged = whole.copy()
                damaged[rng.integers(0, min(300, len(whole)), 12)] = rng.integers(0, 256, 12)
                path.write_bytes(damaged.tobytes())
                message = refusal(path)
                refused += bool(message)
                assert "\n" not in message
                assert str(path) in message or not message
            assert refused


class TestReplacing:
    def test_new_file_in_a_new_folder(self, tmp_path: Path) -> None:
        path = tmp_path / "deep" / "er" / "a.txt"
        with replacing(path) as temporary:
            assert temporary.parent == path.parent, "a rename is atomic only inside one file system"
            assert temporary.suffix == ".txt"
            temporary.write_text("whole")
            assert not path.exists()
        assert path.read_text() == "whole"
        assert names(path.parent) == ["a.txt"]

    @pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
    def test_mode_is_that_of_the_umask(self, tmp_path: Path, umask: int, mode: int) -> None:
        before = os.umask(umask)
        try:
            with replacing(tmp_path / "a.txt") as temporary:
                temporary.unlink()
                temporary.touch(0o600)
        finally:
            os.umask(before)
        assert (tmp_path / "a.txt").stat().st_mode & 0o777 == mode

    @pytest.mark.parametrize("name", ["b" * 251 + ".png", "€" * 83 + ".jpeg", "b" * 255])
    def test_longest_names(self, tmp_path: Path, name: str) -> None:
        for body in (b"old", b"new"):
            with replacing(tmp_path / name) as temporary:
                temporary.write_bytes(body)
        assert names(tmp_path) == [name]
        assert (tmp_path / name).read_bytes() == b"new"

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_old_file_stays_when_the_block_raises(self, tmp_path: Path, error: type[BaseException]) -> None:
        path = tmp_path / "a.txt"
        path.write_text("old")

        def fail_half_way() -> None:
            with replacing(path) as temporary:
                temporary.write_text("half of the new")
                raise error("on purpose")

        with pytest.raises(error, match="on purpose"):
            fail_half_way()
        assert path.read_text() == "old"
        assert names(tmp_path) == ["a.txt"]

    def test_reader_never_sees_half(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        path.write_text("old")
        with replacing(path) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
        assert path.read_text() == "new"

    def test_two_writers_do_not_meet(self, tmp_path: Path) -> None:
        path = tmp_path / "a.txt"
        with replacing(path) as first, replacing(path) as second:
            assert first != second


class TestDropLeftovers:
    @pytest.mark.parametrize("name", ["a.png", "b.c.png", ".note.json", "plain", "€" * 83 + ".png", "a\nb.png"])
    def test_what_a_killed_process_leaves(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / "deep" / name
        with replacing(path) as temporary:
            temporary.write_text("whole")
        temporary.write_text("half")
        with replacing(path.with_name("other.png")) as running:
            drop_leftovers([path, tmp_path / "no folder" / "a.png"])
            assert running.exists()
        assert names(path.parent) == sorted([name, "other.png"])
        assert path.read_text() == "whole"

    def test_other_files_stay(self, tmp_path: Path) -> None:
        kept = [".a.abcdef01.png", ".a.maskfix-abc.png", ".a.maskfix-0123456789ab.jpg", "a.maskfix-0123456789ab.png"]
        for name in kept:
            (tmp_path / name).touch()
        drop_leftovers([tmp_path / "a.png"])
        assert names(tmp_path) == sorted(kept)


class TestWriteImage:
    @pytest.mark.parametrize("suffix", ["png", "bmp"])
    def test_round_trip(self, tmp_path: Path, ramp: UInt8Array, suffix: str) -> None:
        path = tmp_path / "new" / f"a.{suffix}"
        write_image(path, ramp)
        np.testing.assert_array_equal(read_image(path), ramp)
        assert names(path.parent) == [f"a.{suffix}"]

    def test_jpeg_keeps_red_red(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a.jpg", np.full((16, 16, 3), (220, 20, 40), np.uint8))
        np.testing.assert_allclose(read_image(tmp_path / "a.jpg")[8, 8], (220, 20, 40), atol=6)

    @pytest.mark.parametrize("name", ["a.xyz", "a"])
    def test_unknown_format(self, tmp_path: Path, ramp: UInt8Array, name: str) -> None:
        with pytest.raises(ImageError, match=f"{name}: cannot write this .*; use .png or .jpg"):
            write_image(tmp_path / name, ramp)
        assert names(tmp_path) == []

    def test_old_picture_stays(self, tmp_path: Path, ramp: UInt8Array, monkeypatch: pytest.MonkeyPatch) -> None:
        write_image(tmp_path / "a.png", ramp)

        def half(path: str, _: UInt8Array) -> bool:
            Path(path).write_bytes(b"half a picture")
            return False

        monkeypatch.setattr("cv2.imwrite", half)
        with pytest.raises(ImageError, match="cannot write this picture"):
            write_image(tmp_path / "a.png", ramp // 2)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), ramp)
        assert names(tmp_path) == ["a.png"]

    @pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
    def test_no_picture(self, tmp_path: Path, image: np.ndarray) -> None:
        with pytest.raises(InputError, match="image: expected"):
            write_image(tmp_path / "a.png", image)
        assert names(tmp_path) == []
