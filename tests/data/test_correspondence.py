"""Correspondence targets: rasteriser against a slow twin, unwrapping, codes, the canonical face."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskfix.base import InputError
from maskfix.data import (
    canonical_face,
    correspondence_target,
    cylindrical_unwrap,
    decode_correspondence,
    mean_face,
    rasterise,
    triangles_from_edges,
)
from tests.data.meshes import placed_face, twins
from tests.reference import correspondence as slow


class TestRasterise:
    @given(st.integers(0, 100_000), st.integers(1, 14), st.sampled_from([1, 5, 12]))
    @settings(max_examples=30, deadline=None)
    def test_is_the_slow_twins(self, seed: int, count: int, size: int) -> None:
        """Triangles across each other in depth, partly or wholly outside, some without an area."""
        rng = np.random.default_rng(seed)
        points = np.column_stack([rng.uniform(-8, size + 8, (20, 2)), rng.uniform(-5, 5, 20)])
        triangles = np.array([rng.choice(20, 3, replace=False) for _ in range(count)])
        triangles[rng.random(count) < 0.15, 2] = triangles[0, 0]
        values = rng.normal(size=(20, 2))
        picture, covered = rasterise(points, values, triangles, size)
        expected, expected_covered, close = slow.rasterise(points, values, triangles, size)
        assert picture.dtype == np.float32
        assert picture.shape == (size, size, 2)
        np.testing.assert_array_equal(covered[~close], expected_covered[~close])
        np.testing.assert_allclose(picture[~close], expected[~close], atol=1e-5)
        assert not picture[~covered].any()

    @pytest.mark.parametrize("order", [[0, 1], [1, 0]])
    def test_nearest_wins_whatever_the_order(self, order: list[int]) -> None:
        points = np.array([[0, 0, 2], [9, 0, 2], [0, 9, 2], [0, 0, 1], [4, 0, 1], [0, 4, 1]], float)
        values = np.repeat([[10.0], [20.0]], 3, axis=0)
        picture, covered = rasterise(points, values, np.array([[0, 1, 2], [3, 4, 5]])[order], 10)
        y, x = np.mgrid[0:10, 0:10]
        np.testing.assert_array_equal(covered, x + y <= 9)
        np.testing.assert_allclose(picture[..., 0], np.where(x + y <= 4, 20, np.where(x + y <= 9, 10, 0)))

    def test_depth_is_decided_pixel_by_pixel(self) -> None:
        """Two sheets that cross: each is in front on its side."""
        sheet = np.array([[0, 0, 0], [9, 0, 9], [0, 9, 0], [9, 9, 9]], float)
        other = sheet * [1, 1, -1] + [0, 0, 9]
        triangles = np.array([[0, 1, 2], [1, 2, 3], [4, 5, 6], [5, 6, 7]])
        values = np.repeat([[1.0], [2.0]], 4, axis=0)
        picture, covered = rasterise(np.concatenate([sheet, other]), values, triangles, 10)
        assert covered.all()
        np.testing.assert_allclose(picture[:, :5], 1)
        np.testing.assert_allclose(picture[:, 5:], 2)

    def test_no_crack_along_a_shared_edge(self) -> None:
        points = np.array([[0, 0, 0], [7, 0, 0], [0, 7, 0], [7, 7, 0]], float)
        picture, covered = rasterise(points, points[:, :2], np.array([[0, 1, 2], [3, 2, 1]]), 8)
        assert covered.all()
        y, x = np.mgrid[0:8, 0:8]
        np.testing.assert_allclose(picture, np.dstack([x, y]), atol=1e-6)

    def test_both_windings_count(self) -> None:
        points = np.array([[0, 0, 0], [6, 0, 0], [0, 6, 0]], float)
        one, two = (rasterise(points, np.ones((3, 1)), np.array([t]), 7)[1] for t in ([0, 1, 2], [0, 2, 1]))
        assert one.sum() == 28
        np.testing.assert_array_equal(one, two)

    def test_without_an_area(self) -> None:
        points = np.array([[0, 0, 0], [3, 3, 0], [6, 6, 0], [2, 5, 0]], float)
        triangles = np.array([[0, 1, 2], [3, 3, 3], [0, 0, 3]])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            picture, covered = rasterise(points, np.ones((4, 1)), triangles, 8)
        assert not covered.any()
        assert not picture.any()

    def test_larger_than_the_picture(self) -> None:
        points = np.array([[-100, -100, 0], [300, -100, 0], [-100, 300, 0]], float)
        picture, covered = rasterise(points, points[:, :2], np.array([[0, 1, 2]]), 6)
        assert covered.all()
        y, x = np.mgrid[0:6, 0:6]
        np.testing.assert_allclose(picture, np.dstack([x, y]), atol=1e-4)

    @pytest.mark.parametrize(
        ("points", "values", "message"),
        [
            (np.zeros((3, 2)), np.zeros((3, 1)), r"points: expected shape \(\*, 3\)"),
            (np.zeros((3, 3)), np.zeros((4, 1)), r"values: expected shape \(3, \*\)"),
            (np.full((3, 3), np.nan), np.zeros((3, 1)), "points: a coordinate is not finite"),
            (np.array([[0, 0, 0], [1, np.inf, 0], [1, 1, 1]]), np.zeros((3, 1)), "points: a coordinate is not finite"),
        ],
    )
    def test_refused(self, points: np.ndarray, values: np.ndarray, message: str) -> None:
        with pytest.raises(InputError, match=message):
            rasterise(points, values, np.array([[0, 1, 2]]), 4)


class TestCylindricalUnwrap:
    def test_is_the_slow_twins(self) -> None:
        for vertices in (canonical_face().vertices, np.random.default_rng(0).normal(size=(30, 3))):
            np.testing.assert_allclose(cylindrical_unwrap(vertices), slow.unwrap(vertices), atol=1e-12)

    def test_grows_to_the_right_and_downwards(self) -> None:
        x, y, z = (axis.ravel() for axis in np.meshgrid(np.linspace(-1, 1, 9), np.linspace(0, 3, 7), [-0.5, 0, 0.4]))
        uv = cylindrical_unwrap(np.column_stack([x, y, z]))
        assert uv.min() == 0
        assert uv.max() == 1
        grid = uv.reshape(7, 9, 3, 2)
        assert (np.diff(grid[..., 0], axis=1) > 0).all()
        assert (np.diff(grid[..., 1], axis=0) > 0).all()
        # u knows nothing of the height, v nothing of the side.
        np.testing.assert_allclose(np.ptp(grid[..., 0], axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(np.ptp(grid[..., 1], axis=(1, 2)), 0, atol=1e-12)
        # The middle of the face is the middle of u, and the sides mirror each other.
        np.testing.assert_allclose(grid[:, 4, :, 0], 0.5)
        np.testing.assert_allclose(grid[..., 0] + grid[:, ::-1, :, 0], 1)

    def test_size_and_place_do_not_matter(self) -> None:
        vertices = canonical_face().vertices
        moved = cylindrical_unwrap(vertices + np.array([0, 5, 3]))
        np.testing.assert_allclose(moved, cylindrical_unwrap(vertices), atol=1e-12)

    def test_wrong_shape(self) -> None:
        with pytest.raises(InputError, match=r"vertices: expected shape \(\*, 3\), got \(4, 2\)"):
            cylindrical_unwrap(np.zeros((4, 2)))


class TestCanonicalFace:
    def test_axes_and_unit(self) -> None:
        """Eyes level, one unit apart, in the middle; chin below, nose nearest."""
        vertices = canonical_face().vertices
        assert vertices.shape == (468, 3)
        left, right = vertices[[33, 133]].mean(0), vertices[[362, 263]].mean(0)
        np.testing.assert_allclose(right - left, [1, 0, 0], atol=0.02)
        np.testing.assert_allclose(left + right, 0, atol=0.02)
        assert 1.2 < vertices[152, 1] < 2
        assert vertices[1, 2] < vertices[:, 2].min() + 0.15
        assert vertices[[127, 356], 2].min() > vertices[1, 2] + 0.5

    def test_is_symmetric(self) -> None:
        vertices = canonical_face().vertices
        away = np.linalg.norm(vertices * [-1, 1, 1] - vertices[twins()], axis=1)
        assert away.max() < 0.015
        # Unless every vertex is its own twin, which would be flat.
        assert (twins() != np.arange(468)).sum() > 400
        np.testing.assert_array_equal(twins()[[33, 61, 152]], [263, 291, 152])

    def test_u_is_mirrored(self) -> None:
        uv = cylindrical_unwrap(canonical_face().vertices)
        np.testing.assert_allclose(uv[twins()], uv * [-1, 1] + [1, 0], atol=0.005)

    def test_triangles_are_mediapipes(self) -> None:
        mesh = pytest.importorskip("mediapipe.python.solutions.face_mesh", reason="mediapipe is not installed")
        expected = triangles_from_edges(mesh.FACEMESH_TESSELATION)
        np.testing.assert_array_equal(canonical_face().triangles, expected)
        assert len(expected) > 800
        assert set(expected.ravel()) <= set(range(468))


class TestTrianglesFromEdges:
    def test_fan_and_directions(self) -> None:
        rim = {(1, 2), (3, 2), (3, 4), (1, 4)}
        spokes = {(0, 1), (2, 0), (0, 3), (4, 0)}
        found = triangles_from_edges(frozenset(rim | spokes))
        assert found.tolist() == [[0, 1, 2], [0, 1, 4], [0, 2, 3], [0, 3, 4]]
        assert found.dtype == np.int64

    def test_each_once_though_edges_come_twice(self) -> None:
        edges = {(0, 1), (1, 0), (1, 2), (2, 1), (0, 2), (2, 0)}
        assert triangles_from_edges(frozenset(edges)).tolist() == [[0, 1, 2]]

    @pytest.mark.parametrize("edges", [set(), {(0, 1), (1, 2), (2, 3), (3, 0)}])
    def test_none(self, edges: set[tuple[int, int]]) -> None:
        assert triangles_from_edges(frozenset(edges)).shape == (0, 3)


class TestMeanFace:
    @pytest.fixture
    def crowd(self) -> np.ndarray:
        """Frontal faces of several sizes and places, and as many turned ones."""
        rng = np.random.default_rng(0)
        frontal = [placed_face(int(size)) + rng.uniform(-20, 20, 3) for size in rng.integers(80, 200, 6)]
        turned = [placed_face(120, turn) for turn in (-50, -40, -35, 35, 40, 50)]
        return np.array(frontal + turned)

    def test_recovers_the_face_and_leaves_turned_ones_out(self, crowd: np.ndarray) -> None:
        np.testing.assert_allclose(mean_face(crowd), canonical_face().vertices, atol=0.02)
        np.testing.assert_allclose(mean_face(crowd), mean_face(crowd[:6]), atol=1e-9)

    def test_makes_a_skewed_face_symmetric(self, crowd: np.ndarray) -> None:
        """One half of the face sits 1% lower: the mean has both at one height, to the bit for nine in ten vertices."""
        skewed = crowd[:6].copy()
        distance = np.linalg.norm(skewed[:, 263] - skewed[:, 33], axis=1)
        skewed[:, canonical_face().vertices[:, 0] > 0.1, 1] += 0.01 * distance[:, None]
        mean = mean_face(skewed)
        away = np.linalg.norm(mean * [-1, 1, 1] - mean[twins()], axis=1)
        assert np.quantile(away, 0.9) < 1e-9
        # Where vertices lie closer together than that, the nearest one may not be the twin.
        assert away.max() < 0.015

    def test_wrong_shape(self) -> None:
        with pytest.raises(InputError, match=r"meshes: expected shape \(\*, 468, 3\)"):
            mean_face(np.zeros((468, 3)))


class TestTarget:
    def test_is_the_slow_twins(self) -> None:
        mesh = placed_face(10, turn=25, roll=10)
        face = canonical_face()
        # A few hundred triangles on a hundred pixels are slow enough.
        uv, covered, close = slow.rasterise(mesh, slow.unwrap(face.vertices), face.triangles[::3], 10)
        fast, fast_covered = rasterise(mesh, cylindrical_unwrap(face.vertices), face.triangles[::3], 10)
        np.testing.assert_array_equal(fast_covered[~close], covered[~close])
        np.testing.assert_allclose(fast[~close], uv[~close], atol=1e-5)

    def test_codes(self) -> None:
        mesh, face = placed_face(64), canonical_face()
        coded = correspondence_target(mesh, 64)
        assert coded.dtype == np.uint8
        assert coded.shape == (64, 64, 2)
        uv, covered = rasterise(mesh, cylindrical_unwrap(face.vertices), face.triangles, 64)
        np.testing.assert_array_equal(coded > 0, np.dstack([covered, covered]))
        np.testing.assert_array_equal(coded[covered], 1 + np.rint(254 * uv[covered]))
        assert coded.min() == 0
        assert coded.max() >= 250

    @pytest.mark.parametrize(("turn", "roll"), [(0, 0), (30, 0), (-20, 15)])
    def test_there_and_back(self, turn: float, roll: float) -> None:
        mesh, face = placed_face(96, turn, roll), canonical_face()
        uv, visible = decode_correspondence(correspondence_target(mesh, 96))
        expected, covered = rasterise(mesh, cylindrical_unwrap(face.vertices), face.triangles, 96)
        assert uv.dtype == np.float32
        np.testing.assert_array_equal(visible, covered)
        assert np.abs(uv - expected)[covered].max() <= 0.5 / 254 + 1e-6
        assert not uv[~visible].any()

    def test_decode_every_code(self) -> None:
        coded = np.dstack([np.arange(256), np.arange(256)[::-1]]).astype(np.uint8)
        uv, visible = decode_correspondence(coded)
        assert uv.shape == (1, 256, 2)
        np.testing.assert_array_equal(visible[0], np.arange(256) > 0)
        np.testing.assert_allclose(uv[0, 1:, 0], np.arange(255) / 254, rtol=1e-6)
        assert uv.min() == 0
        assert uv.max() == 1

    def test_a_face_to_the_front(self) -> None:
        """u grows to the right, v downwards; the nose lies in the middle of u; most of the crop is face."""
        uv, visible = decode_correspondence(correspondence_target(placed_face(96), 96))
        assert 0.3 < visible.mean() < 0.9
        row, column = uv[48, visible[48], 0], uv[visible[:, 48], 48, 1]
        assert (np.diff(row) >= 0).all()
        assert (np.diff(column) >= 0).all()
        assert row[0] < 0.15
        assert row[-1] > 0.85
        nose = np.rint(placed_face(96)[1, :2]).astype(int)
        assert uv[nose[1], nose[0], 0] == pytest.approx(0.5, abs=0.03)

    def test_hidden_half_stays_hidden(self) -> None:
        """A turned head shows one side only: what is behind the nose and the cheek is not painted over it."""
        front = decode_correspondence(correspondence_target(placed_face(96), 96))
        turned = decode_correspondence(correspondence_target(placed_face(96, turn=60), 96))
        shares = [(uv[visible, 0] < 0.5).mean() for uv, visible in (front, turned)]
        assert shares[0] == pytest.approx(0.5, abs=0.03)
        assert abs(shares[1] - 0.5) > 0.25

    def test_outside_the_crop(self) -> None:
        assert not correspondence_target(placed_face(64) + np.array([500, 0, 0]), 64).any()
        half = correspondence_target(placed_face(64) + np.array([32, 0, 0]), 64) > 0
        assert half[:, 40:].any()
        assert not half[:, :5].any()
