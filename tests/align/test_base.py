"""The choice among faces, mask points from five points, and crossings of a polyline."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskfix.align import LandmarkDetector, mask_points_from_five
from maskfix.align.base import MEAN_MASK_POINTS_112, at_height, main_face, nothing
from maskfix.base import DoubleArray, InputError, arcface_layout
from tests.align.faces import similarity
from tests.reference import align as slow


def box(side: float, x: float, y: float) -> list[float]:
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


class TestMainFace:
    @pytest.mark.parametrize(
        ("boxes", "chosen"),
        [
            ([box(50, 320, 240)], 0),
            ([box(50, 320, 240), box(80, 320, 240)], 1),
            ([box(50, 100, 240), box(50, 300, 240)], 1),
            # A larger face in the corner yields to a smaller one in the middle ...
            ([box(200, 100, 100), box(150, 320, 240)], 1),
            # ... but not to any small one.
            ([box(300, 200, 200), box(30, 320, 240)], 0),
        ],
    )
    def test_scenes(self, boxes: list[list[float]], chosen: int) -> None:
        assert main_face(np.array(boxes), 640, 480) == chosen

    def test_width_and_height_are_not_swapped(self) -> None:
        boxes = np.array([box(40, 320, 60), box(40, 60, 320)])
        assert main_face(boxes, 640, 120) == 0
        assert main_face(boxes, 120, 640) == 1

    @given(st.integers(1, 6), st.integers(0, 10_000))
    @settings(max_examples=50, deadline=None)
    def test_is_the_slow_twins(self, count: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        corner, side = rng.uniform(0, 400, (count, 2)), rng.uniform(20, 200, (count, 2))
        boxes = np.concatenate([corner, corner + side], axis=1)
        assert main_face(boxes, 500, 300) == slow.main_face(boxes, 500, 300)

    def test_is_facenets_center_weighted_size(self) -> None:
        mtcnn = pytest.importorskip("facenet_pytorch").MTCNN
        image_module = pytest.importorskip("PIL.Image")
        rng = np.random.default_rng(3)
        for _ in range(30):
            corner = rng.uniform(0, 400, (5, 2))
            boxes = np.concatenate([corner, corner + rng.uniform(20, 200, (5, 2))], axis=1)
            picture = image_module.new("RGB", (500, 300))
            theirs, _, _ = mtcnn.select_boxes(
                None, boxes, np.ones(5), np.zeros((5, 5, 2)), picture, method="center_weighted_size"
            )
            np.testing.assert_array_equal(boxes[main_face(boxes, 500, 300)], theirs[0])


class TestMaskPointsFromFive:
    def test_average_face(self) -> None:
        points = mask_points_from_five(arcface_layout(112).array)
        assert points.dtype == np.float32
        np.testing.assert_allclose(points, MEAN_MASK_POINTS_112, atol=1e-4)

    def test_average_face_is_symmetric_and_in_order(self) -> None:
        a, b, c, d, e, f = np.array(MEAN_MASK_POINTS_112)
        for left, right in ((a, c), (d, f)):
            np.testing.assert_allclose(left + right, [112, 2 * left[1]], atol=0.1)
        assert b[0] == e[0] == 56
        assert a[0] < d[0] < b[0] < f[0] < c[0]
        assert b[1] < a[1] < d[1] < e[1]

    @given(st.integers(0, 10_000))
    @settings(max_examples=30, deadline=None)
    def test_follows_any_affine_map_of_the_face(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        turned = similarity(rng.uniform(0.3, 4), rng.uniform(-180, 180), tuple(rng.uniform(-200, 200, 2)))
        turned[:, 0] *= rng.uniform(0.5, 1.2)
        five = arcface_layout(112).array @ turned[:, :2].T + turned[:, 2]
        expected = np.array(MEAN_MASK_POINTS_112) @ turned[:, :2].T + turned[:, 2]
        np.testing.assert_allclose(mask_points_from_five(five), expected, atol=1e-3)

    @pytest.mark.parametrize("five", [np.zeros((6, 2)), np.zeros((1, 5, 2)), None])
    def test_wrong_shape(self, five: np.ndarray | None) -> None:
        with pytest.raises(InputError, match=r"landmarks: expected shape \(5, 2\)"):
            mask_points_from_five(five)  # type: ignore[arg-type]


class TestAtHeight:
    line: DoubleArray = np.array([[0, 0], [2, 10], [8, 20]], float)

    @pytest.mark.parametrize(
        ("height", "point"), [(5, (1, 5)), (10, (2, 10)), (15, (5, 15)), (-3, (0, 0)), (99, (8, 20))]
    )
    def test_upright(self, height: float, point: tuple[float, float]) -> None:
        np.testing.assert_allclose(at_height(self.line, height, np.array([0.0, 1.0])), point)

    def test_tilted(self) -> None:
        turn = similarity(1, 30, (0, 0))[:, :2]
        tilted = at_height(self.line @ turn.T, 15, turn @ [0.0, 1.0])
        np.testing.assert_allclose(tilted, turn @ [5.0, 15.0])

    def test_a_line_that_turns_back(self) -> None:
        """A head from the side: the jaw may rise again; the crossing stays on the line."""
        line = np.array([[0, 0], [4, 10], [6, 8], [8, 20]], float)
        x, y = at_height(line, 14, np.array([0.0, 1.0]))
        assert 6 <= x <= 8
        assert 8 <= y <= 20


def test_nothing_is_explicit() -> None:
    empty = nothing("too dark")
    assert (empty.ok, empty.score, empty.reason) == (False, 0.0, "too dark")
    assert empty.five is empty.mask is empty.mesh is None
    assert nothing().reason == "no face found"


def test_protocol() -> None:
    class Named:
        name, version = "mine", "1"

        def detect(self, photos: object) -> list[object]:
            return []

    assert isinstance(Named(), LandmarkDetector)
    assert not isinstance(object(), LandmarkDetector)
