"""Both detectors on real and on hopeless pictures: same points, same order of results, never an exception."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from maskfix.align import Guesser, LandmarkDetector, mask_points_from_five
from maskfix.align.mesh import MeshDetector, five_from_mesh, mask_points_from_mesh
from maskfix.align.mtcnn import MtcnnDetector
from maskfix.base import InputError, Landmarks, UInt8Array, read_image
from tests.align.faces import crowd, noise

EYES = np.array([[204.2, 101.5], [247.3, 104.2]])
"""Centres of the astronaut's eyes, read off the photograph."""


@pytest.fixture(params=["mesh", "mtcnn"])
def detector(request: pytest.FixtureRequest) -> LandmarkDetector:
    found: LandmarkDetector = request.getfixturevalue(request.param)
    return found


def blank(height: int, width: int) -> UInt8Array:
    return np.full((height, width, 3), 127, np.uint8)


def five_of(found: Landmarks) -> np.ndarray:
    assert found.five is not None, found.reason
    return found.five


def same(first: Landmarks, second: Landmarks) -> bool:
    arrays = zip((first.five, first.mask, first.mesh), (second.five, second.mask, second.mesh), strict=True)
    return (first.score, first.reason) == (second.score, second.reason) and all(
        np.array_equal(one, two) if one is not None and two is not None else one is two for one, two in arrays
    )


class TestAstronaut:
    def test_result_is_complete(self, detector: LandmarkDetector, astronaut: UInt8Array) -> None:
        [found] = detector.detect([astronaut])
        assert found.ok
        assert found.reason == ""
        assert 0.7 <= found.score <= 1
        assert five_of(found).shape == (5, 2)
        assert found.mask is not None
        assert found.mask.shape == (6, 2)
        assert found.five.dtype == found.mask.dtype == np.float32
        np.testing.assert_allclose(five_of(found)[:2], EYES, atol=2.5)
        assert (found.mesh is not None) == (detector.name == "mesh")
        assert isinstance(detector, LandmarkDetector)
        assert detector.version[0].isdigit()

    def test_detectors_agree(self, mesh: LandmarkDetector, mtcnn: LandmarkDetector, astronaut: UInt8Array) -> None:
        [one], [two] = mesh.detect([astronaut]), mtcnn.detect([astronaut])
        eye_distance = float(np.linalg.norm(np.subtract(*EYES)))
        away = np.linalg.norm(five_of(one) - five_of(two), axis=1) / eye_distance
        assert away.max() < 0.1, away

    def test_mask_points_agree(self, mesh: LandmarkDetector, astronaut: UInt8Array) -> None:
        """The average face's mask on a broad smile: bridge of the nose to 5%, jaw to 30% of the eye distance."""
        [found] = mesh.detect([astronaut])
        assert found.mask is not None
        away = np.linalg.norm(found.mask - mask_points_from_five(five_of(found)), axis=1)
        share = away / np.linalg.norm(np.subtract(*EYES))
        assert share[1] < 0.05
        assert share.max() < 0.3, share

    def test_points_come_from_the_mesh(self, mesh: LandmarkDetector, astronaut: UInt8Array) -> None:
        [found] = mesh.detect([astronaut])
        assert found.mesh is not None
        assert found.mesh.shape == (468, 3)
        assert found.mesh.dtype == np.float32
        np.testing.assert_array_equal(found.five, five_from_mesh(found.mesh))
        np.testing.assert_array_equal(found.mask, mask_points_from_mesh(found.mesh))
        # z is in pixels like x: the nose is nearer than the cheeks by about half the width of the face.
        width = np.ptp(found.mesh[:, 0])
        assert 0.2 * width < found.mesh[[127, 356], 2].mean() - found.mesh[1, 2] < width

    def test_mtcnn_has_the_average_mask(self, mtcnn: LandmarkDetector, astronaut: UInt8Array) -> None:
        [found] = mtcnn.detect([astronaut])
        np.testing.assert_array_equal(found.mask, mask_points_from_five(five_of(found)))

    def test_place_in_the_picture(self, detector: LandmarkDetector, astronaut: UInt8Array) -> None:
        """Cut elsewhere, the face is found where it was: x with x, y with y."""
        whole, part = detector.detect([astronaut, astronaut[20:240, 90:380]])
        np.testing.assert_allclose(five_of(part) + np.array([90, 20]), five_of(whole), atol=3)

    def test_mirrored_view(self, detector: LandmarkDetector, astronaut: UInt8Array) -> None:
        """Image left stays image left, also in an array that is only a view and cannot be written to."""
        view, copy = detector.detect([astronaut[:, ::-1], astronaut[:, ::-1].copy()])
        assert same(view, copy)
        np.testing.assert_allclose(five_of(view)[:2], EYES[::-1] * [-1, 1] + np.array([511, 0]), atol=4)

    def test_border_around_the_picture(self, mesh: MeshDetector, astronaut: UInt8Array) -> None:
        """The second try of the mesh detector, with a border, gives points of the picture without it."""
        plain, bordered = mesh._largest(astronaut, 0), mesh._largest(astronaut, 100)
        assert plain is not None
        assert bordered is not None
        np.testing.assert_allclose(bordered[:, :2], plain[:, :2], atol=5)
        np.testing.assert_allclose(bordered[:, 2], plain[:, 2], atol=8)

    def test_second_try_with_a_border(
        self, mesh: MeshDetector, astronaut: UInt8Array, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first, tried = mesh._largest, []

        def only_with_border(photo: UInt8Array, border: int) -> np.ndarray | None:
            tried.append(border)
            return first(photo, border) if border else None

        monkeypatch.setattr(mesh, "_largest", only_with_border)
        [found] = mesh.detect([astronaut])
        assert found.ok
        assert tried == [0, 128]


def test_detectors_agree_on_lfw(shared: Path, mesh: LandmarkDetector, mtcnn: LandmarkDetector) -> None:
    """A dozen press photographs: both find the same face, its eyes and mouth within a quarter of the eye distance."""
    paths = sorted((shared / "data" / "lfw" / "lfw-deepfunneled").glob("*/*_0001.jpg"))[:12]
    photos = [read_image(path) for path in paths]
    assert len(photos) == 12
    ours, theirs = (np.array([five_of(found) for found in one.detect(photos)]) for one in (mesh, mtcnn))
    eye_distance = np.linalg.norm(ours[:, 1] - ours[:, 0], axis=1)
    away = np.linalg.norm(ours - theirs, axis=2) / eye_distance[:, None]
    assert away.max() < 0.25
    assert np.median(away) < 0.08


class TestBatches:
    def test_order_and_length(self, detector: LandmarkDetector, astronaut: UInt8Array) -> None:
        small = np.ascontiguousarray(astronaut[20:240, 90:380])
        photos = [blank(200, 300), astronaut, blank(1, 1), small, noise(90, 120), astronaut]
        results = detector.detect(photos)
        assert [found.ok for found in results] == [False, True, False, True, False, True]
        for found, photo in zip(results, photos, strict=True):
            assert same(found, detector.detect([photo])[0]), "a result must not depend on its neighbours"
        for found in (results[0], results[2], results[4]):
            assert found.reason
            assert "\n" not in found.reason
            assert found.score == 0
            assert found.five is found.mask is found.mesh is None

    def test_empty(self, detector: LandmarkDetector) -> None:
        assert detector.detect([]) == []

    @pytest.mark.parametrize(
        "shape", [(1, 1), (1, 5), (2, 3000), (8, 8), (31, 31), (32, 32), (31, 400), (32, 400), (400, 33)]
    )
    @pytest.mark.parametrize("make", [blank, noise])
    def test_tiny_and_thin(self, detector: LandmarkDetector, shape: tuple[int, int], make: object) -> None:
        assert callable(make)
        [found] = detector.detect([make(*shape)])
        assert not found.ok
        assert found.reason

    def test_tiny_is_said_to_be_tiny(self, mtcnn: LandmarkDetector) -> None:
        reasons = [found.reason for found in mtcnn.detect([blank(31, 200), blank(200, 200)])]
        assert reasons == ["picture smaller than 32 pixels", "no face found"]

    def test_inside_autocast(self, mtcnn: MtcnnDetector, astronaut: UInt8Array) -> None:
        import torch

        expected = mtcnn.detect([astronaut])[0]
        with torch.autocast("cpu", torch.bfloat16):
            found = mtcnn.detect([astronaut])[0]
        np.testing.assert_array_equal(found.five, expected.five)
        assert found.score == expected.score

    def test_unsure(self, mtcnn: MtcnnDetector, astronaut: UInt8Array, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(mtcnn, "min_confidence", 1.1)
        [found] = mtcnn.detect([astronaut])
        assert (found.ok, found.reason) == (False, "only faces below the confidence threshold found")

    @pytest.mark.parametrize("photo", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.float32)])
    def test_no_photo(self, detector: LandmarkDetector, photo: np.ndarray) -> None:
        with pytest.raises(InputError, match="photo: expected"):
            detector.detect([photo])


class TestGuess:
    """What MTCNN sees by lower thresholds."""

    def test_surest_first_and_more_than_by_its_own(self, mtcnn: MtcnnDetector, astronaut: UInt8Array) -> None:
        boxes, scores, points = mtcnn.guess_all(astronaut)
        assert (np.diff(scores) <= 0).all()
        assert len(boxes) == len(points) > len(mtcnn.detect_all(astronaut)[0])
        np.testing.assert_allclose(points[0, :2], EYES, atol=3)
        np.testing.assert_array_equal(mtcnn.guess(astronaut), points)
        assert isinstance(mtcnn, Guesser)

    def test_the_mesh_has_its_guesses(self, mesh: MeshDetector, mtcnn: MtcnnDetector, astronaut: UInt8Array) -> None:
        np.testing.assert_array_equal(mesh.guess(astronaut), mtcnn.guess(astronaut))
        assert isinstance(mesh, Guesser)

    def test_a_face_that_it_misses(self, mtcnn: MtcnnDetector, astronaut: UInt8Array) -> None:
        masked = astronaut.copy()
        masked[112:200, 180:280] = (30, 30, 120)
        [missed] = mtcnn.detect([masked])
        assert not missed.ok
        eyes = np.linalg.norm(mtcnn.guess(masked)[:, :2] - EYES, axis=2).max(1)
        assert eyes.min() < 15

    def test_its_own_thresholds_stay(self, mtcnn: MtcnnDetector, astronaut: UInt8Array) -> None:
        before = mtcnn.detect([astronaut])[0]
        mtcnn.guess(astronaut)
        assert same(mtcnn.detect([astronaut])[0], before)

    @pytest.mark.parametrize("size", [8, 31, 64])
    def test_nothing(self, mtcnn: MtcnnDetector, size: int) -> None:
        assert mtcnn.guess(blank(size, size)).shape == (0, 5, 2)


class TestTwoFaces:
    @pytest.mark.parametrize(
        ("chosen", "other"),
        [
            ((260, 320, 240), (180, 95, 385)),
            ((260, 160, 200), (180, 540, 380)),
            # The smaller one wins where the larger one stands in a corner.
            ((150, 320, 240), (200, 100, 100)),
            ((180, 300, 240), (180, 540, 380)),
        ],
    )
    def test_largest_near_the_centre(
        self,
        detector: LandmarkDetector,
        astronaut: UInt8Array,
        chosen: tuple[int, int, int],
        other: tuple[int, int, int],
    ) -> None:
        scenes = [crowd(astronaut, chosen, other), crowd(astronaut, other, chosen)]
        for found in detector.detect(scenes):
            eyes = five_of(found)[:2].mean(0)
            expected = np.array(chosen[1:]) + (EYES.mean(0) - [225, 130]) * chosen[0] / 200
            np.testing.assert_allclose(eyes, expected, atol=6)

    def test_both_can_be_seen(self, mesh: LandmarkDetector, mtcnn: LandmarkDetector, astronaut: UInt8Array) -> None:
        """Without this the tests above would prove nothing: each face of a scene is found when it is alone."""
        for detector in (mesh, mtcnn):
            for place in ((180, 95, 385), (200, 100, 100), (180, 540, 380)):
                [found] = detector.detect([crowd(astronaut, place)])
                np.testing.assert_allclose(five_of(found).mean(0), place[1:], atol=20)


class TestAllFaces:
    def test_two(self, mtcnn: MtcnnDetector, astronaut: UInt8Array, monkeypatch: pytest.MonkeyPatch) -> None:
        head = astronaut[:250, 100:350]
        both = np.ascontiguousarray(np.hstack([head, head]))
        boxes, scores, points = mtcnn.detect_all(both)
        assert [part.shape for part in (boxes, scores, points)] == [(2, 4), (2,), (2, 5, 2)]
        assert sorted(int(x // 250) for x in points[:, 2, 0]) == [0, 1]
        assert (points > boxes[:, None, :2]).all()
        assert (points < boxes[:, None, 2:]).all()
        [main] = mtcnn.detect([both])
        assert any(np.array_equal(main.five, five) for five in points)
        monkeypatch.setattr(mtcnn, "min_confidence", float(np.sort(scores)[1]))
        kept, certain, _ = mtcnn.detect_all(both)
        assert len(kept) == (1 if scores[0] != scores[1] else 2)
        assert (certain >= mtcnn.min_confidence).all()

    @pytest.mark.parametrize("shape", [(100, 100), (31, 400)])
    def test_none(self, mtcnn: MtcnnDetector, shape: tuple[int, int]) -> None:
        boxes, scores, points = mtcnn.detect_all(np.zeros((*shape, 3), np.uint8))
        assert [part.shape for part in (boxes, scores, points)] == [(0, 4), (0,), (0, 5, 2)]

    def test_no_photo(self, mtcnn: MtcnnDetector) -> None:
        with pytest.raises(InputError, match="photo"):
            mtcnn.detect_all(np.zeros((64, 64), np.uint8))


def test_mediapipe_keeps_quiet(capfd: pytest.CaptureFixture[str], astronaut: UInt8Array) -> None:
    pytest.importorskip("mediapipe", reason="mediapipe is not installed: no mesh detector")
    MeshDetector().detect([astronaut, blank(50, 50)])
    os.write(2, b"still here")
    assert capfd.readouterr().err == "still here"
