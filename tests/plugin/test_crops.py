from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from maskfix.align import align, transform_points
from maskfix.base import InputError, UInt8Array, arcface_layout, canonical_layout
from maskfix.embed import load_layout
from maskfix.plugin import Completer, CropFormat, SeamSettings
from maskfix.plugin.crops import VALUE_RANGES, from_canonical, relate, to_canonical
from tests.plugin.worlds import batches, green_deoccluder, painted

CANONICAL = canonical_layout(128)


def noise(count: int, size: int, seed: int = 0) -> UInt8Array:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


class TestRelate:
    @pytest.mark.parametrize("name", ["arcface_112", "arcface_224", "canonical_256", "lightcnn", "facenet", "dlib"])
    def test_points_meet(self, name: str) -> None:
        """Every layout of one face agrees; dlib's is an average face of its own, a pixel away."""
        layout = load_layout(name)
        moved = transform_points(relate(layout, CANONICAL), layout.array)
        np.testing.assert_allclose(moved, CANONICAL.array, atol=2.5 if name == "dlib" else 1e-6)

    def test_arcface_is_a_part_of_the_canonical_crop(self) -> None:
        np.testing.assert_array_equal(relate(arcface_layout(112), CANONICAL), [[1, 0, 8], [0, 1, 0]])

    def test_only_a_box_is_stretched(self) -> None:
        matrix = relate(load_layout("facenet"), CANONICAL)
        assert matrix[0, 0] < 0.8 * matrix[1, 1]
        assert matrix[0, 1] == matrix[1, 0] == 0

    @pytest.mark.parametrize("name", ["arcface_112", "lightcnn", "facenet"])
    def test_landmarks_where_they_are_assumed_change_nothing(self, name: str) -> None:
        layout = load_layout(name)
        maps = relate(layout, CANONICAL, np.stack([layout.array] * 2))
        np.testing.assert_allclose(maps, np.stack([relate(layout, CANONICAL)] * 2), atol=1e-6)

    def test_landmarks_of_a_turned_face(self) -> None:
        """A face turned in its box crop comes to stand upright; its stretch is undone first."""
        layout = load_layout("facenet")
        stretch = np.diag(CANONICAL.array.std(0) / layout.array.std(0))
        angle = np.deg2rad(20)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        turned = (CANONICAL.array - 64) @ turn.T @ np.linalg.inv(stretch) + 80
        [matrix] = relate(layout, CANONICAL, turned[None])
        np.testing.assert_allclose(transform_points(matrix, turned), CANONICAL.array, atol=1e-6)

    def test_wrong_landmarks(self) -> None:
        with pytest.raises(InputError, match=r"landmarks: expected shape \(N, 5, 2\), got \(2, 4, 2\)"):
            relate(CANONICAL, CANONICAL, np.zeros((2, 4, 2)))


class TestThereAndBack:
    def test_arcface_is_copied_and_its_edges_go_on(self) -> None:
        [crop] = crops = noise(1, 112)
        [carried] = to_canonical(crops, relate(arcface_layout(112), CANONICAL), 128)
        np.testing.assert_array_equal(carried[:112, 8:120], crop)
        np.testing.assert_array_equal(carried[112:, 8:120], np.repeat(crop[-1:], 16, 0))
        np.testing.assert_array_equal(carried[:112, :8], np.repeat(crop[:, :1], 8, 1))
        np.testing.assert_array_equal(carried[:112, 120:], np.repeat(crop[:, -1:], 8, 1))

    def test_only_what_changed_is_put_back(self) -> None:
        [crop], [before], [after] = noise(1, 112), noise(1, 128, 1), noise(1, 128, 2)
        after[:64] = before[:64]
        back = from_canonical(crop, before, after, relate(arcface_layout(112), CANONICAL))
        np.testing.assert_array_equal(back[:64], crop[:64])
        np.testing.assert_array_equal(back[64:], after[64:112, 8:120])

    @pytest.mark.parametrize("name", ["facenet", "lightcnn", "arcface_224"])
    def test_scaled(self, name: str) -> None:
        """A block painted in the canonical crop covers the same part of the face in any crop."""
        layout = load_layout(name)
        crop = np.full((layout.size, layout.size, 3), 90, np.uint8)
        before = np.full((128, 128, 3), 90, np.uint8)
        after = before.copy()
        after[70:110, 40:90] = 200
        matrix = relate(layout, CANONICAL)
        back = from_canonical(crop, before, after, matrix)
        y, x = np.mgrid[: layout.size, : layout.size]
        u, v = np.moveaxis(transform_points(matrix, np.stack([x, y], -1)), -1, 0)
        inside = (u > 41) & (u < 88) & (v > 71) & (v < 108)
        outside = (u < 38.9) | (u > 90.1) | (v < 68.9) | (v > 110.1)
        assert inside.sum() > 500
        assert (np.abs(back[inside].astype(int) - 200) <= 1).all()
        assert (back[outside] == 90).all()

    def test_no_crop(self) -> None:
        assert to_canonical(noise(0, 112), relate(arcface_layout(112), CANONICAL), 128).shape == (0, 128, 128, 3)


def numbers(pictures: UInt8Array, value_range: str) -> Any:
    """The same pictures as the libraries hold them."""
    plain = pictures.astype(np.float32)
    return {
        "unit": plain / 255,
        "symmetric": plain / 127.5 - 1,
        "fixed_standard": (plain - 127.5) / 128,
        "byte": plain,
    }[value_range]


@pytest.mark.parametrize("value_range", ["unit", "symmetric", "fixed_standard", "byte"])
@pytest.mark.parametrize("colour", ["rgb", "bgr"])
@pytest.mark.parametrize("last", [False, True])
class TestFormat:
    def test_decode(self, value_range: str, colour: str, last: bool) -> None:
        pictures = noise(2, 112)
        batch = numbers(pictures[..., ::-1] if colour == "bgr" else pictures, value_range)
        batch = batch if last else batch.transpose(0, 3, 1, 2)
        form = CropFormat(arcface_layout(112), value_range, value_range, colour)
        np.testing.assert_array_equal(form.decode(batch), pictures)

    def test_encode(self, value_range: str, colour: str, last: bool) -> None:
        """What did not change keeps its bits, whatever rounding would make of it."""
        before, after = noise(2, 112), noise(2, 112, 1)
        after[:, 50:] = before[:, 50:]
        form = CropFormat(arcface_layout(112), value_range, value_range, colour)
        batch, wanted = (numbers(p[..., ::-1] if colour == "bgr" else p, value_range) for p in (before, after))
        batch[:, 60:] *= np.float32(0.999)
        if not last:
            batch, wanted = batch.transpose(0, 3, 1, 2), wanted.transpose(0, 3, 1, 2)
        encoded = form.encode(batch, before, after)
        changed, same = (np.s_[:, :50], np.s_[:, 50:]) if last else (np.s_[:, :, :50], np.s_[:, :, 50:])
        np.testing.assert_array_equal(encoded[same], batch[same])
        np.testing.assert_allclose(encoded[changed], wanted[changed], atol=1e-6)
        assert encoded.dtype == np.float32


class TestFormatErrors:
    @pytest.mark.parametrize(
        ("declared", "actual"),
        [("unit", "byte"), ("unit", "symmetric"), ("symmetric", "byte"), ("byte", "unit"), ("byte", "fixed_standard")],
    )
    def test_values_of_another_range(self, declared: str, actual: str) -> None:
        form = CropFormat(arcface_layout(112), declared, declared)
        with pytest.raises(
            InputError, match=f"crops: values run from .* not '{declared}' as declared; say value_range="
        ):
            form.decode(numbers(noise(1, 112), actual))

    def test_not_a_number(self) -> None:
        with pytest.raises(InputError, match="values run from nan"):
            CropFormat(arcface_layout(112), "unit", "unit").decode(np.full((1, 112, 112, 3), np.nan, np.float32))

    def test_black_is_a_picture(self) -> None:
        black = np.zeros((1, 112, 112, 3), np.float32)
        assert CropFormat(arcface_layout(112), "byte", "byte").decode(black).max() == 0

    def test_bytes_declared_as_floats(self) -> None:
        with pytest.raises(InputError, match="uint8 values run from 0 to 255, and value_range 'unit' is declared"):
            CropFormat(arcface_layout(112), "unit", "unit").decode(noise(1, 112))

    @pytest.mark.parametrize("shape", [(1, 1, 128, 128), (1, 128, 128, 1)])
    def test_grey(self, shape: tuple[int, ...]) -> None:
        form = CropFormat(load_layout("lightcnn"), "unit", "unit", "grey")
        with pytest.raises(InputError, match="completion needs colour, and these are grey; give the colour crop"):
            form.decode(np.zeros(shape, np.float32))

    @pytest.mark.parametrize("shape", [(3, 112, 112), (1, 3, 112, 96), (1, 4, 112, 112), (1, 112, 96, 3), (1, 3, 4, 4)])
    def test_shapes(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(InputError, match=r"expected square colour crops \(N, 3, S, S\), got shape"):
            CropFormat(arcface_layout(112), "unit", "unit").decode(np.zeros(shape, np.float32))

    @pytest.mark.parametrize("field", ["value_range", "network_range", "colour"])
    def test_unknown_names(self, field: str) -> None:
        with pytest.raises(InputError, match=f"{field}: 'other' is unknown; known: "):
            replace(CropFormat(arcface_layout(112), "unit", "unit"), **{field: "other"})


class TestConvert:
    def test_same_range_is_the_same_object(self) -> None:
        batch = np.zeros((1, 3, 8, 8))
        assert CropFormat(arcface_layout(112), "unit", "unit").convert(batch) is batch

    @pytest.mark.parametrize("source", ["unit", "symmetric", "byte"])
    @pytest.mark.parametrize("target", ["unit", "symmetric", "fixed_standard", "byte"])
    def test_all(self, source: str, target: str) -> None:
        pictures = noise(1, 8)
        form = CropFormat(arcface_layout(112), source, target)
        np.testing.assert_allclose(form.convert(numbers(pictures, source)), numbers(pictures, target), atol=1e-4)

    @pytest.mark.parametrize("target", ["unit", "symmetric", "fixed_standard"])
    def test_bytes_become_single_precision(self, target: str) -> None:
        pictures = noise(1, 8)
        form = CropFormat(arcface_layout(112), "byte", target)
        converted = form.convert(pictures)
        assert converted.dtype == np.float32
        np.testing.assert_array_equal(converted, form.convert(pictures.astype(np.float32)))
        tensor = form.convert(torch.from_numpy(pictures))
        assert tensor.dtype == torch.float32
        np.testing.assert_allclose(tensor.numpy(), converted, atol=1e-6)
        assert form.convert(pictures.astype(np.float16)).dtype == np.float16

    def test_grey_is_opencvs_over_255(self) -> None:
        pictures = noise(2, 128)
        form = CropFormat(load_layout("lightcnn"), "unit", "unit", "grey")
        grey = np.stack([cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in pictures])[:, None]
        np.testing.assert_array_equal(form.encode_grey(pictures), grey.astype(np.float32) / np.float32(255))


class TestComplete:
    def test_masked_crop_without_margin(self, face: UInt8Array, masked: UInt8Array, five: Any) -> None:
        """By hand: green in the padded crop is painted, the rest is the crop's own; a clean one comes as it is."""
        layout = arcface_layout(112)
        pictures = np.stack([align(photo, five, layout)[0] for photo in (face, masked)])
        blind = green_deoccluder()
        completed, result = CropFormat(layout, "byte", "byte").complete(Completer(blind), pictures)
        assert batches(blind) == [2]
        assert result.used.tolist() == [False, True]
        np.testing.assert_array_equal(completed[0], pictures[0])
        padded = np.pad(pictures[1], ((0, 16), (8, 8), (0, 0)), mode="edge")
        np.testing.assert_array_equal(completed[1], painted(padded)[:112, 8:120])
        assert (completed[1] != pictures[1]).any(-1).mean() > 0.05

    def test_scaled_crops(self, masked: UInt8Array, five: Any) -> None:
        """A crop of twice the size is the same face."""
        small, large = (align(masked, five, arcface_layout(size))[0][None] for size in (112, 224))
        form = CropFormat(arcface_layout(112), "byte", "byte")
        one, two = (form.complete(Completer(green_deoccluder()), x)[1].completion.coverage[0] for x in (small, large))
        assert one == pytest.approx(two, abs=0.01)

    def test_observe_completes_besides(self, masked: UInt8Array, five: Any) -> None:
        pictures = align(masked, five, CANONICAL)[0][None]
        form = CropFormat(CANONICAL, "byte", "byte")
        completed, result = form.complete(Completer(green_deoccluder(), SeamSettings("observe")), pictures)
        assert result.used.tolist() == [False]
        np.testing.assert_array_equal(completed[0], painted(pictures[0]))

    def test_number_of_landmarks(self) -> None:
        form = CropFormat(arcface_layout(112), "byte", "byte")
        with pytest.raises(InputError, match=r"landmarks: expected shape \(2, 5, 2\), got \(1, 5, 2\)"):
            form.complete(Completer(green_deoccluder()), noise(2, 112), arcface_layout(112).array[None])


@pytest.mark.parametrize("value_range", ["unit", "symmetric", "fixed_standard", "byte"])
class TestLevels:
    LEVELS = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, -1)

    @pytest.mark.parametrize("off", [-0.4, 0, 0.4])
    def test_nearest(self, value_range: str, off: float) -> None:
        """Resized pictures lie between levels, and those of half precision beside them."""
        form = CropFormat(arcface_layout(112), value_range, value_range)
        batch = numbers(self.LEVELS, value_range) + np.float32(off / VALUE_RANGES[value_range][0])
        np.testing.assert_array_equal(form.decode(batch), self.LEVELS)
        if not off:
            np.testing.assert_array_equal(form.decode(batch.astype(np.float16)), self.LEVELS)

    @pytest.mark.parametrize("end", [0, 255])
    def test_overshoot(self, value_range: str, end: int) -> None:
        """Some levels beyond the end are that end, as resampling makes them; many more are another range."""
        form, outwards = CropFormat(arcface_layout(112), value_range, value_range), 1 if end else -1
        batch = numbers(self.LEVELS, value_range)
        step = outwards / VALUE_RANGES[value_range][0]
        batch[0, 3, 4] = numbers(np.array([end], np.uint8), value_range)[0] + 10 * step
        assert form.decode(batch)[0, 3, 4].tolist() == [end] * 3
        batch[0, 3, 4] += 10 * step
        with pytest.raises(InputError, match=f"not '{value_range}' as declared"):
            form.decode(batch)
