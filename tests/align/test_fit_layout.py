"""The three ways in which five points are brought to where a layout has them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from maskfix.align import align, estimate_similarity, fit_layout, invert_affine, paste, transform_points
from maskfix.base import CropLayout, DoubleArray, InputError, UInt8Array, arcface_layout
from tests.align.faces import five_points, similarity, smooth
from tests.reference import align as slow

FACE = arcface_layout(112).array
QUICK = settings(max_examples=40, deadline=None)
MIDPOINTS = CropLayout("m", 128, tuple((x * 1.2 + 3, y * 1.2 - 20) for x, y in FACE.tolist()), fit="midpoints")
BOX = CropLayout("b", 160, tuple((x * 1.8 - 20, y * 1.4 - 8) for x, y in FACE.tolist()), fit="box")


def _middles(five: NDArray[np.float64]) -> DoubleArray:
    return np.stack([(five[0] + five[1]) / 2, (five[3] + five[4]) / 2])


def slow_box(five: DoubleArray, layout: CropLayout) -> DoubleArray:
    """Four corners of the layout's square on the ArcFace face, carried to the photo and set upright there."""
    across = (layout.points[1][0] - layout.points[0][0]) / (FACE[1, 0] - FACE[0, 0])
    down = (layout.points[3][1] - layout.points[0][1]) / (FACE[3, 1] - FACE[0, 1])
    left, top = FACE[0, 0] - layout.points[0][0] / across, FACE[0, 1] - layout.points[0][1] / down
    width, height = (layout.size - 1) / across, (layout.size - 1) / down
    matrix = slow.umeyama(five, FACE)
    seen = five @ matrix[:, :2].T + matrix[:, 2]
    nose = seen[2, 0] - FACE[2, 0] - np.mean([seen[i, 0] - FACE[i, 0] for i in (0, 1, 3, 4)])
    centre = np.array([left + width / 2 - 1.43 * nose, top + height / 2])
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    photo = np.linalg.solve(matrix[:, :2], centre - matrix[:, 2])
    x0, y0 = photo - np.array([width, height]) / scale / 2
    fx, fy = across * scale, down * scale
    return np.array([[fx, 0, -fx * x0], [0, fy, -fy * y0]])


class TestPoints:
    @given(five_points())
    @QUICK
    def test_is_the_least_squares_similarity(self, five: DoubleArray) -> None:
        np.testing.assert_array_equal(
            fit_layout(five, arcface_layout(112)), estimate_similarity(five, arcface_layout(112).array)
        )


class TestMidpoints:
    @given(five_points())
    @QUICK
    def test_the_two_middles_lie_exactly_there(self, five: DoubleArray) -> None:
        matrix = fit_layout(five, MIDPOINTS)
        np.testing.assert_allclose(transform_points(matrix, _middles(five)), _middles(MIDPOINTS.array), atol=1e-6)
        assert matrix[0, 0] == pytest.approx(matrix[1, 1])
        assert matrix[0, 1] == pytest.approx(-matrix[1, 0])

    def test_five_points_would_not_do(self) -> None:
        """The nose moves the least-squares fit of all points, and not this one."""
        five = FACE.copy()
        five[2] += [9, -4]
        assert np.abs(fit_layout(five, MIDPOINTS) - fit_layout(FACE, MIDPOINTS)).max() < 1e-9
        plain = transform_points(estimate_similarity(five, MIDPOINTS.array), _middles(five))
        assert np.abs(plain - _middles(MIDPOINTS.array)).max() > 1

    def test_middles_that_coincide(self) -> None:
        five = FACE.copy()
        five[3:] = five[:2]
        with pytest.raises(InputError, match="coincide"):
            fit_layout(five, MIDPOINTS)


class TestBox:
    @given(five_points())
    @QUICK
    def test_equals_its_slow_twin(self, five: DoubleArray) -> None:
        np.testing.assert_allclose(fit_layout(five, BOX), slow_box(five, BOX), rtol=1e-6, atol=1e-6)

    def test_upright_average_face_lies_on_the_points(self) -> None:
        five = FACE * 2.5 + [30, -7]
        np.testing.assert_allclose(transform_points(fit_layout(five, BOX), five), BOX.array, atol=1e-9)

    @pytest.mark.parametrize("degrees", [-40, 15, 90])
    def test_a_turned_face_keeps_its_box_upright_and_as_large(self, degrees: float) -> None:
        turned = transform_points(similarity(1, degrees, (0, 0)), FACE)
        matrix, upright = fit_layout(turned, BOX), fit_layout(FACE, BOX)
        np.testing.assert_allclose(matrix[:, :2], upright[:, :2], atol=1e-9)
        centre = transform_points(invert_affine(upright), np.array([79.5, 79.5]))
        found = transform_points(matrix, transform_points(similarity(1, degrees, (0, 0)), centre))
        np.testing.assert_allclose(found, [79.5, 79.5], atol=1e-9)

    def test_the_nose_pushes_the_box_away(self) -> None:
        """A nose that points to the right of the picture: the head lies to its left."""
        aside = FACE.copy()
        aside[2, 0] += 10
        before, after = (transform_points(fit_layout(five, BOX), FACE[0]) for five in (FACE, aside))
        assert after[0] > before[0] + 5

    def test_paste_puts_it_back(self) -> None:
        photo: UInt8Array = smooth(200, 220)
        crop, matrix = align(photo, FACE + 40, BOX)
        assert crop.shape == (160, 160, 3)
        weight = np.zeros((160, 160), np.float32)
        weight[20:-20, 20:-20] = 1
        back = paste(photo, crop, matrix, weight)
        assert np.abs(back.astype(int) - photo).max() <= 4


@pytest.mark.parametrize("layout", [arcface_layout(112), MIDPOINTS, BOX])
def test_many_faces_at_once(layout: CropLayout) -> None:
    rng = np.random.default_rng(0)
    faces = FACE * rng.uniform(0.5, 3, (4, 1, 1)) + rng.normal(0, 3, (4, 5, 2))
    found = fit_layout(faces, layout)
    assert found.shape == (4, 2, 3)
    np.testing.assert_allclose(found, [fit_layout(five, layout) for five in faces])


@pytest.mark.parametrize("layout", [arcface_layout(112), MIDPOINTS, BOX])
@pytest.mark.parametrize("five", [np.zeros((4, 2)), np.zeros((5, 3)), np.zeros((1, 1, 5, 2)), np.zeros(5)])
def test_wrong_shape(layout: CropLayout, five: DoubleArray) -> None:
    with pytest.raises(InputError, match=r"landmarks: expected shape \(5, 2\) or \(N, 5, 2\), got"):
        fit_layout(five, layout)


@pytest.mark.parametrize("layout", [arcface_layout(112), MIDPOINTS, BOX])
def test_not_finite(layout: CropLayout) -> None:
    five = FACE.copy()
    five[0, 0] = np.nan
    with pytest.raises(InputError, match="not finite"):
        fit_layout(five, layout)
