import numpy as np
import pytest
from hypothesis import assume, given

from maskfix.base import DoubleArray, FloatArray, InputError
from maskfix.occlude.quads import (
    LEFT_HALF,
    RIGHT_HALF,
    asymmetry,
    check_points,
    choose_view,
    half_maps,
    halves_are_sound,
    in_order,
    shoelace,
)
from tests.occlude.samples import FRONT, coordinates_template, face_points

SOURCE = coordinates_template().get("cloth", "front").points.astype(np.float64)


def _apply(matrix: DoubleArray, points: DoubleArray) -> DoubleArray:
    mapped = np.column_stack([points, np.ones(len(points))]) @ np.asarray(matrix).T
    return np.asarray(mapped[:, :2] / mapped[:, 2:])


@given(points=face_points())
def test_half_maps__b_and_e_agree_and_sound_halves_are_exact(points: FloatArray) -> None:
    target = points.astype(np.float64)
    maps = half_maps(target, SOURCE)
    sound = halves_are_sound(target)
    assume(sound.all())
    for matrix, half in zip(maps, (LEFT_HALF, RIGHT_HALF), strict=True):
        rows = list(half)
        assert np.abs(_apply(matrix, target[[1, 4]]) - SOURCE[[1, 4]]).max() < 0.05
        depths = np.column_stack([target[rows], np.ones(4)]) @ matrix[2]
        assert (depths > 0).all()
        if np.abs(matrix[2, :2]).max() > 0:  # A perspective map fits all four points.
            assert np.abs(_apply(matrix, target[rows]) - SOURCE[rows]).max() < 0.05


def test_half_maps__against_scikit_image() -> None:
    transform = pytest.importorskip("skimage.transform")
    target = FRONT.astype(np.float64)
    for matrix, half in zip(half_maps(target, SOURCE), (LEFT_HALF, RIGHT_HALF), strict=True):
        expected = transform.ProjectiveTransform()
        assert expected.estimate(target[list(half)], SOURCE[list(half)])
        probes = target[list(half)] * 0.7 + target[list(half)].mean(axis=0) * 0.3
        assert np.abs(_apply(matrix, probes) - expected(probes)).max() < 1e-3


def test_half_maps__folded_half_takes_the_other_map() -> None:
    target = FRONT.astype(np.float64)
    target[[2, 5], 0] = 60.0  # The right cheek lies behind the nose.
    left, right = half_maps(target, SOURCE)
    assert np.array_equal(left, right)


def test_half_maps__concave_half_keeps_the_middle_line() -> None:
    target = FRONT.astype(np.float64)
    target[3] = [55.0, 70.0]
    assert halves_are_sound(target).tolist() == [False, True]
    left, _ = half_maps(target, SOURCE)
    assert np.abs(_apply(left, target[[1, 4]]) - SOURCE[[1, 4]]).max() < 1e-9
    assert left[2].tolist() == [0.0, 0.0, 1.0]
    # Of all affine maps that keep b and e, this one fits a and d best: stretching it sideways either way is worse.
    along = target[4] - target[1]
    normal = np.array([along[1], -along[0]]) / (along @ along)
    best = float(np.sum((_apply(left, target[[0, 3]]) - SOURCE[[0, 3]]) ** 2))
    for step in ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)):
        other = left.copy()
        other[:2, :2] += np.outer(step, normal)
        other[:2, 2] -= np.outer(step, normal) @ target[1]
        assert np.abs(_apply(other, target[[1, 4]]) - SOURCE[[1, 4]]).max() < 1e-9
        assert np.sum((_apply(other, target[[0, 3]]) - SOURCE[[0, 3]]) ** 2) > best


def test_asymmetry__independent_of_roll_scale_and_shift() -> None:
    points = FRONT.astype(np.float64)
    points[[1, 4], 0] += 10.0
    angle = 0.7
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert asymmetry(points) == pytest.approx(asymmetry(3.0 * points @ rotation.T + 50.0), abs=1e-9)
    assert asymmetry(points) > 0


@pytest.mark.parametrize(("shift", "view"), [(0, "front"), (6, "front"), (-6, "front"), (14, "right"), (-14, "left")])
def test_choose_view(shift: float, view: str) -> None:
    points = FRONT.astype(np.float64)
    points[[1, 4], 0] += shift
    assert choose_view(points) == view


def test_in_order__letters_in_the_wrong_place() -> None:
    assert in_order(FRONT)
    assert not in_order(FRONT[[2, 1, 0, 5, 4, 3]])
    assert not in_order(FRONT[[3, 4, 5, 0, 1, 2]])


def test_check_points__errors() -> None:
    with pytest.raises(InputError, match="expected shape"):
        check_points(FRONT[:5])
    for value in (np.nan, np.inf):
        broken = FRONT.copy()
        broken[2, 1] = value
        with pytest.raises(InputError, match="finite"):
            check_points(broken)
    with pytest.raises(InputError, match="square pixels"):
        check_points(np.full((6, 2), 40.0, dtype=np.float32))
    with pytest.raises(InputError, match="square pixels"):
        check_points(FRONT * np.array([-1, 1], dtype=np.float32))
    with pytest.raises(InputError, match="pixels of the photo"):
        check_points(FRONT * 1e6)
    with pytest.raises(InputError, match="dtype"):
        check_points(FRONT.astype("U8"))


def test_shoelace__sign() -> None:
    square = np.array([[0, 0], [2, 0], [2, 2], [0, 2]], dtype=np.float64)
    assert shoelace(square) == 4.0
    assert shoelace(square[::-1]) == -4.0
