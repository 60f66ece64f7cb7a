"""`prepare_face`: crop, points, correspondence and frame of one face."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from maskfix.align import LandmarkDetector, estimate_similarity, load_detector, transform_points, warp
from maskfix.base import DatasetError, Landmarks, UInt8Array, canonical_layout
from maskfix.data import decode_correspondence
from maskfix.train.prepare import prepare_face
from maskfix.train.surroundings import photograph_part

pytest.importorskip("mediapipe", reason="mediapipe is not installed: nothing prepares faces")


@pytest.fixture(scope="module")
def detector() -> LandmarkDetector:
    return load_detector("mesh")


class TestPrepareFace:
    def test_places(self, astronaut: UInt8Array, detector: LandmarkDetector) -> None:
        [found] = detector.detect([astronaut])
        assert found.five is not None
        assert found.mask is not None
        assert found.mesh is not None
        crop, points, coded, frame = prepare_face(astronaut, found, 128)
        matrix = estimate_similarity(found.five, canonical_layout(128).array)
        np.testing.assert_array_equal(crop, warp(astronaut, matrix, 128))
        np.testing.assert_allclose(points, transform_points(matrix, found.mask), atol=1e-4)
        corners = np.array([[-0.5, -0.5], [511.5, -0.5], [511.5, 511.5], [-0.5, 511.5]])
        np.testing.assert_allclose(frame, transform_points(matrix, corners), atol=1e-3)
        # Each eye and the nose show their own (u, v).
        uv, visible = decode_correspondence(coded)
        places = np.rint(transform_points(matrix, found.mesh[[33, 263, 1, 152], :2])).astype(int)
        u, v = uv[places[:3, 1], places[:3, 0]].T
        assert visible[places[:3, 1], places[:3, 0]].all()
        assert u[0] < 0.35 < 0.45 < u[2] < 0.55 < 0.65 < u[1]
        assert max(v[:2]) < v[2]

    def test_depth_scales_with_the_crop(self, astronaut: UInt8Array, detector: LandmarkDetector) -> None:
        """A crop of a photo and of the same photo at twice the size have one target."""
        [found] = detector.detect([astronaut])
        arrays = (found.five, found.mask, found.mesh)
        twice = Landmarks(*(array * 2 for array in arrays if array is not None), found.score, "")
        large = cv2.resize(astronaut, (1024, 1024))
        one, two = prepare_face(astronaut, found, 64), prepare_face(large, twice, 64)
        np.testing.assert_array_equal(one[2], two[2])
        np.testing.assert_allclose(one[1], two[1], atol=1e-3)

    def test_outside_is_mirrored(self, astronaut: UInt8Array, detector: LandmarkDetector) -> None:
        photo = np.ascontiguousarray(astronaut[75:185, 170:280])
        [found] = detector.detect([photo])
        assert found.ok
        crop, _, _, frame = prepare_face(photo, found, 128)
        # White on black shows where the photograph itself is, but for the rim that interpolation mixes.
        assert found.five is not None
        matrix = estimate_similarity(found.five, canonical_layout(128).array)
        white = warp(np.full_like(photo, 255), matrix, 128, border="constant")[..., 0]
        part = photograph_part(frame, 128)
        assert (white[part] == 255).all()
        assert part.sum() > 0.9 * (white == 255).sum()
        black = (crop == 0).all(axis=2)
        assert not black[0].any()
        # A little of the dark suit is in the picture; an unmirrored border would be four tenths of the crop.
        assert black.mean() < 0.02

    def test_without_a_mesh(self, astronaut: UInt8Array) -> None:
        five = np.asarray(canonical_layout(112).array, np.float32)
        found = Landmarks(five, np.zeros((6, 2), np.float32), None, 1.0, "")
        with pytest.raises(DatasetError, match="landmarks: no mesh; correspondence targets need the mesh detector"):
            prepare_face(astronaut, found, 64)
