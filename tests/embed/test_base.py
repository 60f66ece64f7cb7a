from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from maskfix.base import CropLayout, InputError, UInt8Array
from maskfix.embed.base import Embedder, RawBatchEmbedder, RawEmbedder, fill_batch, grey_crops, unit_rows


class TestUnitRows:
    def test_lengths(self) -> None:
        rows = unit_rows(np.random.default_rng(0).normal(size=(5, 7)) * 1e-6)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)

    def test_zeros_stay_finite(self) -> None:
        assert unit_rows(np.zeros((1, 3))).tolist() == [[0, 0, 0]]


class TestGreyCrops:
    @staticmethod
    def every_shade(count: int = 3) -> UInt8Array:
        return np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)

    def test_is_opencvs_grey(self) -> None:
        crops = self.every_shade()
        expected = [cv2.cvtColor(np.ascontiguousarray(crop[..., ::-1]), cv2.COLOR_BGR2GRAY) for crop in crops]
        found = grey_crops(crops)
        assert found.shape == (3, 64, 64)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)
        weighed = crops @ np.array([0.299, 0.587, 0.114])
        assert np.abs(found - weighed).max() < 0.51

    @pytest.mark.parametrize(("suffix", "off"), [(".png", 1), (".bmp", 1), (".jpg", 2)])
    def test_is_near_what_opencv_reads_as_grey(self, tmp_path: Path, suffix: str, off: int) -> None:
        """But for the rounding of each decoder; a JPEG keeps a grey picture of its own."""
        y, x = np.mgrid[0:64, 0:64]
        photo = np.dstack([128 + 100 * np.sin(x / 9), 3 * y + 20, 255 - 2 * x - y]).astype(np.uint8)
        path = tmp_path / f"photo{suffix}"
        cv2.imwrite(str(path), photo, [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111])
        read_bgr = np.asarray(cv2.imread(str(path)), np.uint8)
        found = grey_crops(read_bgr[None, ..., ::-1])[0]
        assert np.abs(found.astype(int) - np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))).max() <= off

    def test_no_crops(self) -> None:
        assert grey_crops(self.every_shade(0)).shape == (0, 64, 64)

    @pytest.mark.parametrize("crops", [np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8, 3), np.float32)])
    def test_wrong_crops(self, crops: UInt8Array) -> None:
        with pytest.raises(InputError, match="crops: expected"):
            grey_crops(crops)


class TestRawBatchEmbedder:
    @pytest.mark.parametrize("kind", [np.float64, np.float32, np.float16])
    def test_raw_and_unit_by_hand(self, kind: type) -> None:
        crops = np.zeros((3, 8, 8, 3), np.uint8)
        crops[:, 0, 0, 0] = [3, 6, 0]
        crops[:, 0, 0, 1] = [4, 8, 7]
        sizes = []

        class Corner(RawBatchEmbedder):
            layout, dimension = CropLayout("corner", 8, ((0.0, 0.0),) * 5), 2

            def _run(self, crops: UInt8Array) -> np.ndarray:
                sizes.append(len(crops))
                return crops[:, 0, 0, :2].astype(kind)

        corner = Corner(2)
        raw = corner.embed_raw(crops)
        assert (raw.tolist(), raw.dtype) == ([[3, 4], [6, 8], [0, 7]], np.float32)
        unit = corner.embed(crops)
        np.testing.assert_allclose(unit, [[0.6, 0.8], [0.6, 0.8], [0, 1]], atol=1e-6)
        assert sizes == [2, 1, 2, 1]
        for embed in (corner.embed, corner.embed_raw):
            assert embed(crops[:0]).shape == (0, 2)

    def test_fill_batch(self) -> None:
        crops = np.arange(2 * 12, dtype=np.uint8).reshape(2, 2, 2, 3)
        assert fill_batch(crops, None) is crops
        assert fill_batch(crops, 2) is crops
        filled = fill_batch(crops, 4)
        assert filled.shape == (4, 2, 2, 3)
        np.testing.assert_array_equal(filled, crops[[0, 1, 1, 1]])


def test_protocol_refuses_other_things() -> None:
    assert not isinstance(object(), Embedder)


def test_recogniser_of_unit_vectors_is_no_raw_one() -> None:
    class Plain:
        name, layout, dimension, sha256 = "plain", None, 2, ""

        def embed(self, crops: UInt8Array) -> None: ...

    class Raw(Plain):
        def embed_raw(self, crops: UInt8Array) -> None: ...

    assert isinstance(Plain(), Embedder)
    assert not isinstance(Plain(), RawEmbedder)
    assert isinstance(Raw(), RawEmbedder)
