"""Every guard: what it lets through, what it refuses, and in which words."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskfix.base import (
    InputError,
    Landmarks,
    MaskfixError,
    check_choice,
    check_crops,
    check_dtype,
    check_five,
    check_photo,
    check_range,
    check_shape,
)


def zeros(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.zeros(shape, dtype=dtype)


class TestShape:
    @pytest.mark.parametrize(
        ("array", "shape"),
        [(zeros(2, 5, 2), (None, 5, 2)), (zeros(0, 5, 2), (None, 5, 2)), (zeros(3), (3,)), (np.float64(1), ())],
    )
    def test_fits(self, array: Any, shape: tuple[int | None, ...]) -> None:
        check_shape("x", array, shape)

    @pytest.mark.parametrize(
        ("array", "shape", "message"),
        [
            (zeros(5, 3), (5, 2), "x: expected shape (5, 2), got (5, 3)"),
            (zeros(1, 5, 2), (5, 2), "x: expected shape (5, 2), got (1, 5, 2)"),
            (zeros(5), (None, 2), "x: expected shape (*, 2), got (5,)"),
            (zeros(4), (3,), "x: expected shape (3,), got (4,)"),
            (None, (5, 2), "x: expected shape (5, 2), got ()"),
            ([[1, 2]], (1, 2), "x: expected shape (1, 2), got ()"),
        ],
    )
    def test_does_not_fit(self, array: Any, shape: tuple[int | None, ...], message: str) -> None:
        with pytest.raises(InputError) as raised:
            check_shape("x", array, shape)
        assert str(raised.value) == message

    def test_tensors(self) -> None:
        torch = pytest.importorskip("torch")
        check_shape("x", torch.zeros(2, 3), (None, 3))
        with pytest.raises(InputError, match=r"expected shape \(\*, 4\), got \(2, 3\)"):
            check_shape("x", torch.zeros(2, 3), (None, 4))


class TestDtype:
    def test_fits(self) -> None:
        check_dtype("x", zeros(1, dtype=np.float32), np.float32)
        check_dtype("x", zeros(1), "uint8")

    @pytest.mark.parametrize(
        ("array", "message"),
        [
            (zeros(1, dtype=np.float32), "x: expected dtype uint8, got float32"),
            (zeros(1, dtype=np.int8), "x: expected dtype uint8, got int8"),
            ([1, 2], "x: expected a NumPy array of uint8, got list"),
            (None, "x: expected a NumPy array of uint8, got NoneType"),
        ],
    )
    def test_does_not_fit(self, array: Any, message: str) -> None:
        with pytest.raises(InputError) as raised:
            check_dtype("x", array, np.uint8)
        assert str(raised.value) == message


class TestPhoto:
    def test_fits(self) -> None:
        check_photo("photo", zeros(1, 7, 3))

    @pytest.mark.parametrize("shape", [(7, 5), (7, 5, 1), (7, 5, 4), (0, 5, 3), (7, 0, 3), (1, 7, 5, 3)])
    def test_wrong_shape_says_how_to_convert(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(InputError, match=r"photo: expected uint8 RGB of shape \(H, W, 3\), got .*read_image"):
            check_photo("photo", zeros(*shape))

    def test_wrong_type(self) -> None:
        with pytest.raises(InputError, match="photo: expected dtype uint8, got uint16"):
            check_photo("photo", zeros(7, 5, 3, dtype=np.uint16))


class TestCrops:
    def test_fits(self) -> None:
        check_crops("crops", zeros(2, 8, 8, 3))
        check_crops("crops", zeros(0, 8, 8, 3), 8)

    @pytest.mark.parametrize(
        ("crops", "size", "message"),
        [
            (zeros(2, 8, 8, 3), 16, "crops: expected shape (*, 16, 16, 3), got (2, 8, 8, 3)"),
            (
                zeros(8, 8, 3),
                None,
                "crops: expected shape (*, *, *, 3), got (8, 8, 3); give a single crop as crop[None]",
            ),
            (zeros(9, 8, 3), 8, "crops: expected shape (*, 8, 8, 3), got (9, 8, 3); give a single crop as crop[None]"),
            (zeros(2, 3, 8, 8), None, "crops: expected shape (*, *, *, 3), got (2, 3, 8, 8)"),
            (zeros(2, 8, 9, 3), None, "crops: expected square crops, got 8x9"),
            (zeros(2, 8, 8, 3, dtype=np.int16), 8, "crops: expected dtype uint8, got int16"),
        ],
    )
    def test_does_not_fit(self, crops: np.ndarray, size: int | None, message: str) -> None:
        with pytest.raises(InputError) as raised:
            check_crops("crops", crops, size)
        assert str(raised.value) == message


class TestFive:
    POINTS = np.array([[3, 3], [7, 3], [5, 5], [3, 7], [7, 7]], np.float32)
    FOUND = Landmarks(POINTS, None, None, 1.0, "")

    @pytest.mark.parametrize("shift", [0, -7, 1.5])
    def test_fits__also_with_one_point_inside(self, shift: float) -> None:
        check_five("x", self.POINTS + shift, zeros(9, 5, 3))

    @pytest.mark.parametrize(
        ("five", "message"),
        [
            (None, "is None, which stands for a photo in which no face was found; leave it out"),
            (FOUND, "expected the five points, got what a detector returned; give `five` of one face"),
            ([FOUND], "expected the five points, got what a detector returned; give `five` of one face"),
            (POINTS[None], "expected shape (5, 2), got (1, 5, 2)"),
            (POINTS / 9, "the face is 0.44 pixels large; give points in pixels of the photo"),
            (POINTS - 8, "all lie outside the photo of 5x9 pixels; give (x, y) in pixels of it"),
            (POINTS + np.float32([2, 0]), "all lie outside the photo of 5x9 pixels; give (x, y) in pixels of it"),
        ],
    )
    def test_does_not_fit(self, five: Any, message: str) -> None:
        with pytest.raises(InputError) as raised:
            check_five("x", five, zeros(9, 5, 3))
        assert str(raised.value) == f"x: {message}"


class TestWayOut:
    """What is no picture yet, and how it becomes one."""

    @pytest.mark.parametrize("check", [check_photo, check_crops])
    @pytest.mark.parametrize(
        ("picture", "message"),
        [
            (None, "a NumPy array of uint8, got NoneType; read the picture with maskfix.read_image"),
            ("a.jpg", "a NumPy array of uint8, got str; read the picture with maskfix.read_image"),
            (Path("a.jpg"), "a NumPy array of uint8, got PosixPath; read the picture with maskfix.read_image"),
            (Image.new("L", (4, 4)), 'a NumPy array of uint8, got Image; give np.asarray(picture.convert("RGB"))'),
            (
                [zeros(4, 4, 3)],
                "a NumPy array of uint8, got list; give an array, such as np.stack makes of pictures of one size",
            ),
            (
                zeros(4, 4, 3, dtype=np.float64),
                "dtype uint8, got float64; where x is in [0, 1], give np.rint(255 * x).astype(np.uint8)",
            ),
            (7, "a NumPy array of uint8, got int"),
        ],
    )
    def test_is_in_the_message(self, check: Any, picture: Any, message: str) -> None:
        with pytest.raises(InputError) as raised:
            check("photo", picture)
        assert str(raised.value) == f"photo: expected {message}"

    def test_tensor(self) -> None:
        torch = pytest.importorskip("torch")
        with pytest.raises(InputError, match=r"got Tensor; give tensor\.cpu\(\)\.numpy\(\) with the channels last$"):
            check_photo("photo", torch.zeros(4, 4, 3))


class TestRange:
    @pytest.mark.parametrize("value", [0, 0.5, 1])
    def test_fits(self, value: float) -> None:
        check_range("share", value, 0, 1)

    @pytest.mark.parametrize("value", [-1e-9, 1.0001, math.nan, math.inf])
    def test_does_not_fit(self, value: float) -> None:
        with pytest.raises(InputError) as raised:
            check_range("share", value, 0, 1)
        assert str(raised.value) == f"share: expected a number in [0, 1], got {value}"

    @pytest.mark.parametrize("value", ["x", "0.5", None])
    def test_no_number(self, value: Any) -> None:
        with pytest.raises(InputError) as raised:
            check_range("share", value, 0, 1)
        assert str(raised.value) == f"share: expected a number in [0, 1], got {value!r}"


class TestChoice:
    def test_fits(self) -> None:
        check_choice("kind", "N95", ("KN95", "N95"))

    @pytest.mark.parametrize("value", ["n95", "", "KN"])
    def test_does_not_fit(self, value: str) -> None:
        with pytest.raises(InputError) as raised:
            check_choice("kind", value, ("KN95", "N95"))
        assert str(raised.value) == f"kind: {value!r} is unknown; known: KN95, N95"


def test_one_except_catches_all_of_them() -> None:
    with pytest.raises(MaskfixError):
        check_range("share", 2, 0, 1)
    with pytest.raises(ValueError, match="share"):
        check_range("share", 2, 0, 1)
