"""The similarity, the warp and the way back: against Umeyama, insightface and slow twins, and as properties."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from maskfix.align import (
    align,
    estimate_similarity,
    fit_layout,
    invert_affine,
    paste,
    recrop,
    transform_points,
    warp,
)
from maskfix.base import DoubleArray, InputError, UInt8Array, arcface_layout, canonical_layout
from tests.align.faces import five_points, noise, similarities, similarity, smooth
from tests.reference import align as slow

POINTS = arrays(np.float64, (5, 2), elements=st.floats(-200, 200))
QUICK = settings(max_examples=40, deadline=None)


class TestEstimateSimilarity:
    @given(POINTS, POINTS)
    @settings(deadline=None)
    def test_is_umeyamas(self, source: DoubleArray, target: DoubleArray) -> None:
        assume(source.std(0).sum() > 1)
        np.testing.assert_allclose(
            estimate_similarity(source, target), slow.umeyama(source, target), rtol=1e-6, atol=1e-6
        )

    @given(five_points())
    @QUICK
    def test_is_insightfaces(self, five: DoubleArray) -> None:
        face_align = pytest.importorskip("insightface.utils.face_align")
        for size in (112, 224):
            ours = estimate_similarity(five, arcface_layout(size).array)
            # Their layout is float32, and so is its mean: shifts are off by some millionths of 100 pixels.
            np.testing.assert_allclose(ours, face_align.estimate_norm(five, size), rtol=1e-6, atol=2e-5)

    def test_insightface_puts_multiples_of_128_elsewhere(self) -> None:
        """Insightface shifts the layout at 128 by 8 pixels; ours at 128 is the one of 112, scaled."""
        face_align = pytest.importorskip("insightface.utils.face_align")
        five = arcface_layout(112).array * 2 + 5
        theirs = transform_points(face_align.estimate_norm(five, 128), five)
        np.testing.assert_allclose(theirs, arcface_layout(112).array + np.array([8, 0]), atol=1e-4)
        ours = transform_points(estimate_similarity(five, arcface_layout(128).array), five)
        np.testing.assert_allclose(ours, arcface_layout(112).array * 128 / 112, atol=1e-6)

    @given(similarities(), st.integers(2, 9))
    @QUICK
    def test_finds_an_exact_similarity(self, matrix: DoubleArray, count: int) -> None:
        source = np.random.default_rng(count).uniform(-50, 50, (count, 2))
        found = estimate_similarity(source, transform_points(matrix, source))
        np.testing.assert_allclose(found, matrix, atol=1e-8)

    @given(five_points(), st.integers(0, 1000))
    @QUICK
    def test_nothing_near_it_fits_better(self, five: DoubleArray, seed: int) -> None:
        target = arcface_layout(112).array
        best = estimate_similarity(five, target)
        error = slow.squared_error(best, five, target)
        rng = np.random.default_rng(seed)
        for _ in range(5):
            a, b, x, y = rng.normal(0, 1e-3, 4)
            other = best + np.array([[a, -b, x], [b, a, y]])
            assert slow.squared_error(other, five, target) >= error - 1e-9

    def test_never_mirrors(self) -> None:
        layout = arcface_layout(112).array
        mirrored = layout * [-1, 1]
        matrix = estimate_similarity(mirrored, layout)
        assert np.linalg.det(matrix[:, :2]) > 0
        np.testing.assert_allclose(matrix[0, :2], matrix[1, 1::-1] * [1, -1])

    @pytest.mark.parametrize("count", [0, 1, 7])
    def test_batch_is_the_loop(self, count: int) -> None:
        rng = np.random.default_rng(count)
        source, target = rng.uniform(0, 200, (2, count, 5, 2))
        layout = arcface_layout(128).array
        one, many = estimate_similarity(source, layout), estimate_similarity(source, target)
        assert one.shape == many.shape == (count, 2, 3)
        assert one.dtype == np.float64
        for i in range(count):
            np.testing.assert_array_equal(one[i], estimate_similarity(source[i], layout))
            np.testing.assert_array_equal(many[i], estimate_similarity(source[i], target[i]))

    def test_float32_points_lose_nothing_more(self) -> None:
        five = (arcface_layout(112).array * 1.7 + 1000).astype(np.float32)
        twin = slow.umeyama(five.astype(np.float64), arcface_layout(112).array)
        np.testing.assert_allclose(estimate_similarity(five, arcface_layout(112).array), twin, atol=1e-9)

    @pytest.mark.parametrize("shape", [(5, 3), (4, 2), (2,), (1, 1, 5, 2), (0,), (3, 5, 3)])
    def test_wrong_shape(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(InputError, match=r"landmarks: expected \(P, 2\) or \(N, P, 2\) like the target \(5, 2\)"):
            estimate_similarity(np.ones(shape), arcface_layout(112).array)

    def test_batches_of_two_lengths(self) -> None:
        with pytest.raises(InputError, match=r"like the target \(2, 5, 2\), got \(3, 5, 2\)"):
            estimate_similarity(np.random.default_rng(0).random((3, 5, 2)), np.zeros((2, 5, 2)))

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_not_finite(self, bad: float) -> None:
        layout = arcface_layout(112).array
        broken = layout.copy()
        broken[2, 1] = bad
        with np.errstate(invalid="ignore"), pytest.raises(InputError, match="not finite; detect them again"):
            estimate_similarity(broken, layout)
        with pytest.raises(InputError, match="target: a number is not finite"):
            estimate_similarity(layout, broken)

    def test_one_bad_face_of_a_batch(self) -> None:
        faces = np.stack([arcface_layout(112).array, np.full((5, 2), 7.0)])
        with pytest.raises(InputError, match="the points of a face coincide"):
            estimate_similarity(faces, arcface_layout(112).array)


class TestInvertAffine:
    @given(similarities(), arrays(np.float64, (4, 2), elements=st.floats(-500, 500)))
    @QUICK
    def test_there_and_back(self, matrix: DoubleArray, points: DoubleArray) -> None:
        back = invert_affine(matrix)
        np.testing.assert_allclose(transform_points(back, transform_points(matrix, points)), points, atol=1e-7)
        np.testing.assert_allclose(transform_points(matrix, transform_points(back, points)), points, atol=1e-7)

    def test_any_affine_map_and_any_number(self) -> None:
        matrices = np.random.default_rng(0).normal(size=(3, 4, 2, 3))
        inverse = invert_affine(matrices)
        assert inverse.shape == (3, 4, 2, 3)
        bottom = np.broadcast_to([0.0, 0.0, 1.0], (3, 4, 1, 3))
        product = np.concatenate([matrices, bottom], -2) @ np.concatenate([inverse, bottom], -2)
        np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=1e-9)

    @pytest.mark.parametrize(
        ("matrix", "message"),
        [
            (np.eye(3), r"expected shape \(\.\.\., 2, 3\), got \(3, 3\)"),
            (np.zeros(3), r"expected shape \(\.\.\., 2, 3\), got \(3,\)"),
            (np.zeros((2, 3)), "has no inverse"),
            (np.array([[1, 2, 0], [2, 4, 0]]), "has no inverse"),
            (np.full((2, 3), np.nan), "not finite"),
        ],
    )
    def test_refused(self, matrix: DoubleArray, message: str) -> None:
        with pytest.raises(InputError, match=f"matrix: .*{message}"):
            invert_affine(matrix)


def test_transform_points__one_by_one() -> None:
    matrix = similarity(1.3, 25, (4, -9)) + np.array([[0, 0.2, 0], [0, 0, 0]])
    points = np.random.default_rng(0).normal(size=(2, 3, 2))
    moved = transform_points(matrix, points)
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(moved[i, j], matrix @ [*points[i, j], 1])


class TestWarp:
    @pytest.mark.parametrize("border", ["constant", "reflect", "replicate"])
    @pytest.mark.parametrize("matrix", [similarity(0.6, 30, (8, -4)), similarity(1.9, -100, (10, 60))])
    def test_is_the_slow_twins(self, border: str, matrix: DoubleArray) -> None:
        photo = smooth(40, 52)
        ours = warp(photo, matrix, 32, border).astype(float)
        twin = slow.warp(photo.astype(float), matrix, 32, border)
        # OpenCV rounds places to 1/32 pixel: black borders are steps of up to 255 over one pixel.
        near_step = (slow.warp(np.ones((40, 52, 1)), matrix, 32, "constant") % 1 > 1e-6)[..., 0]
        far = ~near_step if border == "constant" else np.ones((32, 32), bool)
        assert np.abs(ours - twin)[far].max() <= 1.5
        assert np.abs(ours - twin).max() <= 255 / 16
        assert far.mean() > 0.8

    def test_whole_pixels_to_the_bit(self) -> None:
        photo = noise(20, 30)
        crop = warp(photo, similarity(1, 0, (-3, -2)), 16)
        np.testing.assert_array_equal(crop, photo[2:18, 3:19])

    def test_outside_is_black_or_mirrored(self) -> None:
        photo = noise(20, 30) // 2 + 100
        shifted = similarity(1, 0, (4, 6))
        black, mirrored = warp(photo, shifted, 24), warp(photo, shifted, 24, border="reflect")
        assert not black[:6].any()
        assert not black[:, :4].any()
        np.testing.assert_array_equal(black[6:, 4:], photo[:18, :20])
        np.testing.assert_array_equal(mirrored, np.pad(photo, ((6, 4), (4, 0), (0, 0)), mode="reflect")[:24, :24])

    @given(similarities(0.8, 1.25, 0.0))
    @settings(max_examples=20, deadline=None)
    def test_there_and_back(self, matrix: DoubleArray) -> None:
        """What was inside the crop comes back; twice bilinear costs little on a smooth picture."""
        photo, size = smooth(96, 96), 96
        middle = np.array([47.5, 47.5])
        matrix[:, 2] = middle - matrix[:, :2] @ middle
        back = warp(warp(photo, matrix, size), invert_affine(matrix), size)
        y, x = np.mgrid[0:96, 0:96]
        inside = np.hypot(x - 47.5, y - 47.5) < 36
        assert np.abs(back.astype(int) - photo)[inside].max() <= 4

    @pytest.mark.parametrize(
        ("photo", "matrix", "border", "message"),
        [
            (np.zeros((4, 4), np.uint8), np.eye(3)[:2], "constant", "photo: expected uint8 RGB"),
            (np.zeros((4, 4, 3)), np.eye(3)[:2], "constant", "photo: expected dtype uint8"),
            (np.zeros((4, 4, 3), np.uint8), np.eye(3), "constant", r"matrix: expected shape \(2, 3\)"),
            (np.zeros((4, 4, 3), np.uint8), np.eye(3)[:2], "wrap", "'wrap' is unknown; known: constant, reflect"),
            (np.zeros((2, 32_767, 3), np.uint8), np.eye(3)[:2], "constant", "32767x2 has a side of more than 32766"),
        ],
    )
    def test_refused(self, photo: np.ndarray, matrix: np.ndarray, border: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            warp(photo, matrix, 8, border)


class TestAlign:
    @given(five_points())
    @settings(max_examples=15, deadline=None)
    def test_is_insightfaces_norm_crop(self, five: DoubleArray) -> None:
        face_align = pytest.importorskip("insightface.utils.face_align")
        photo = smooth(160, 200)
        for size in (112, 224):
            crop, matrix = align(photo, five, arcface_layout(size))
            np.testing.assert_allclose(matrix, face_align.estimate_norm(five, size), rtol=1e-6, atol=2e-5)
            theirs = face_align.norm_crop(photo, five, size).astype(int)
            # Rounding to 1/32 pixel may tip over where the matrices differ in the 7th place.
            assert (np.abs(crop.astype(int) - theirs) > 1).mean() < 0.01

    def test_marks_on_the_face_come_to_lie_on_the_layout(self) -> None:
        five = transform_points(similarity(1.7, 30, (150, 40)), arcface_layout(112).array)
        for point, wanted in zip(five, arcface_layout(128).points, strict=True):
            photo = np.zeros((320, 320, 3), np.uint8)
            cv2.circle(photo, tuple(round(c * 16) for c in point), 64, (255, 255, 255), -1, shift=4)
            crop, _ = align(photo, five, arcface_layout(128))
            y, x = np.nonzero(crop[..., 0] > 128)
            np.testing.assert_allclose([x.mean(), y.mean()], wanted, atol=0.5)

    def test_one_completed_crop_serves_every_size(self, astronaut: UInt8Array) -> None:
        """The layouts are one layout: a crop of 112 is the resized crop of 224, to a fraction of a pixel."""
        five = np.array([[204.2, 102.3], [247.1, 104.4], [224.1, 131.2], [201.8, 139.5], [245.9, 142.2]])
        small, _ = align(astronaut, five, arcface_layout(112))
        large, _ = align(astronaut, five, arcface_layout(224))
        resized = cv2.resize(large, (112, 112), interpolation=cv2.INTER_AREA)
        assert np.abs(resized.astype(int) - small).mean() < 6

    @pytest.mark.parametrize("five", [None, np.zeros((4, 2)), np.zeros((1, 5, 2))])
    def test_no_landmarks(self, five: np.ndarray | None) -> None:
        with pytest.raises(InputError, match=r"landmarks: expected shape \(5, 2\)"):
            align(smooth(20, 20), five, arcface_layout(112))  # type: ignore[arg-type]


def placed(matrix: DoubleArray, x: float, y: float, size: int = 32) -> DoubleArray:
    """The same map, but with the middle of the crop at (x, y) of the photo."""
    matrix = matrix.copy()
    matrix[:, 2] = (size - 1) / 2 - matrix[:, :2] @ [x, y]
    return matrix


class TestPaste:
    @given(similarities(), st.floats(-40, 100), st.floats(-40, 90))
    @QUICK
    def test_weight_zero_is_the_photo_to_the_bit(self, matrix: DoubleArray, x: float, y: float) -> None:
        photo = noise(50, 60)
        before = photo.copy()
        result = paste(photo, noise(32, 32, 1), placed(matrix, x, y), np.zeros((32, 32), np.float32))
        np.testing.assert_array_equal(result, before)
        np.testing.assert_array_equal(photo, before)
        assert not np.shares_memory(result, photo)

    @given(similarities(0.5, 2.0), st.floats(-10, 70), st.floats(-10, 60))
    @QUICK
    def test_weight_one_restores_what_was_cut_out(self, matrix: DoubleArray, x: float, y: float) -> None:
        """Also for faces that lie partly outside the photograph."""
        photo, matrix = smooth(50, 60), placed(matrix, x, y)
        crop = warp(photo, matrix, 32, border="reflect")
        restored = paste(photo, crop, matrix, np.ones((32, 32), np.float32))
        # The crop's rim is repeated outwards by less than a pixel of the crop; shrinking by half costs another one.
        assert np.abs(restored.astype(int) - photo).max() <= 14
        assert np.abs(restored.astype(int) - photo).mean() <= 1

    @given(similarities(), st.floats(-40, 100), st.floats(-40, 90))
    @QUICK
    def test_outside_the_crop_nothing_changes_and_inside_all_does(
        self, matrix: DoubleArray, x: float, y: float
    ) -> None:
        photo, crop = noise(50, 60) // 2, np.full((32, 32, 3), 255, np.uint8)
        matrix = placed(matrix, x, y)
        result = paste(photo, crop, matrix, np.ones((32, 32), np.float32))
        rows, columns = np.mgrid[0:50, 0:60]
        u, v = np.moveaxis(transform_points(matrix, np.stack([columns, rows], -1)), -1, 0)
        # Places are rounded to 1/32 pixel of the crop; no more than that is left open.
        outside = (u < -1.05) | (v < -1.05) | (u > 32.05) | (v > 32.05)
        inside = (u > 0.05) & (v > 0.05) & (u < 30.95) & (v < 30.95)
        np.testing.assert_array_equal(result[outside], photo[outside])
        assert (result[inside] == 255).all()

    @pytest.mark.parametrize(
        "matrix",
        [
            placed(similarity(0.8, 20, (0, 0)), 30, 25),
            placed(similarity(1.6, -75, (0, 0)), 3, 44),
            placed(similarity(0.4, 170, (0, 0)), 55, 2),
        ],
    )
    def test_is_the_slow_twins(self, matrix: DoubleArray) -> None:
        photo, crop = smooth(50, 60), 255 - smooth(32, 32)
        y, x = np.mgrid[0:32, 0:32]
        weight = np.clip(1.2 - np.hypot(x - 15.5, y - 15.5) / 16, 0, 1).astype(np.float32)
        ours = paste(photo, crop, matrix, weight).astype(float)
        twin = slow.paste(photo.astype(float), crop.astype(float), matrix, weight.astype(float))
        assert np.abs(ours - twin).max() <= 3
        assert np.abs(twin - photo).max() > 50

    def test_single_pixel(self) -> None:
        photo, crop = noise(20, 20), noise(8, 8, 1)
        weight = np.zeros((8, 8), np.float32)
        weight[3, 5] = 1
        result = paste(photo, crop, similarity(1, 0, (-7, -9)), weight)
        expected = photo.copy()
        expected[9 + 3, 7 + 5] = crop[3, 5]
        np.testing.assert_array_equal(result, expected)

    def test_last_row_and_column(self) -> None:
        photo, crop = noise(16, 24), noise(8, 8, 1)
        result = paste(photo, crop, similarity(1, 0, (-20, -12)), np.ones((8, 8), np.float32))
        expected = photo.copy()
        expected[12:, 20:] = crop[:4, :4]
        np.testing.assert_array_equal(result, expected)

    @pytest.mark.parametrize(
        ("crop", "matrix", "weight", "message"),
        [
            (np.zeros((8, 8), np.uint8), np.eye(3)[:2], np.zeros((8, 8)), "crop: expected uint8 RGB"),
            (np.zeros((8, 8, 3), np.uint8), np.eye(3)[:2], np.zeros((8, 8, 1)), r"weight: expected shape \(8, 8\)"),
            (np.zeros((8, 8, 3), np.uint8), np.zeros((2, 3)), np.zeros((8, 8)), "matrix: .* no inverse"),
        ],
    )
    def test_refused(self, crop: np.ndarray, matrix: np.ndarray, weight: np.ndarray, message: str) -> None:
        with pytest.raises(InputError, match=message):
            paste(noise(20, 20), crop, matrix, weight.astype(np.float32))


class TestRecrop:
    def test_as_warped_one_by_one(self) -> None:
        crops = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
        layout = arcface_layout(112)
        matrix = fit_layout(canonical_layout(128).array, layout)
        expected = [warp(crop, matrix, 112, border="reflect") for crop in crops]
        np.testing.assert_array_equal(recrop(crops, layout), expected)
        assert recrop(crops[:0], layout).shape == (0, 112, 112, 3)

    @pytest.mark.parametrize("crops", [None, [1], np.zeros(4, np.uint8), np.zeros((2, 128, 100, 3), np.uint8)])
    def test_bad_input(self, crops: Any) -> None:
        with pytest.raises(InputError, match="crops"):
            recrop(crops, arcface_layout(112))
