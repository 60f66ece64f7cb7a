"""Five and six points from the mesh of a face whose proportions are known."""

from __future__ import annotations

import os
import threading
from typing import Any

import numpy as np
import pytest

from maskfix.align import mesh as mesh_module
from maskfix.align.mesh import MeshDetector, five_from_mesh, mask_points_from_mesh
from maskfix.base import InputError, UInt8Array
from maskfix.data import canonical_face
from tests.align.faces import similarity

FACE = canonical_face().vertices
"""Symmetric about x = 0, eyes at y = 0, one eye distance wide."""


class TestFiveFromMesh:
    def test_upright_face(self) -> None:
        five = five_from_mesh(FACE)
        assert five.dtype == np.float32
        np.testing.assert_allclose(five[:2], [[-0.5, 0], [0.5, 0]], atol=0.02)
        assert abs(five[2, 0]) < 0.02
        np.testing.assert_allclose(five[3] * [-1, 1], five[4], atol=0.02)
        assert 0 < five[2, 1] < five[3, 1] < FACE[152, 1]
        assert five[3, 0] < -0.2

    def test_points_are_those_of_the_mesh(self) -> None:
        mesh = np.random.default_rng(0).uniform(0, 100, (468, 3))
        expected = [mesh[[33, 133]].mean(0), mesh[[362, 263]].mean(0), mesh[1], mesh[61], mesh[291]]
        np.testing.assert_allclose(five_from_mesh(mesh), np.array(expected)[:, :2], rtol=1e-6)
        np.testing.assert_array_equal(five_from_mesh(mesh[:, :2]), five_from_mesh(mesh))


class TestMaskPointsFromMesh:
    def test_upright_face(self) -> None:
        a, b, c, d, e, f = points = mask_points_from_mesh(FACE)
        assert points.dtype == np.float32
        for left, right in ((a, c), (d, f)):
            np.testing.assert_allclose(left * [-1, 1], right, atol=0.03)
        assert abs(b[0]) < 0.02
        np.testing.assert_allclose(e, FACE[152, :2], atol=1e-6)
        # Heights: nose tip, and lower lip; b between the eyes and the nose tip.
        np.testing.assert_allclose([a[1], c[1]], FACE[1, 1], atol=0.02)
        np.testing.assert_allclose([d[1], f[1]], FACE[17, 1], atol=0.02)
        assert 0 < b[1] < FACE[1, 1]
        # a and c lie on the outline.
        assert a[0] == pytest.approx(FACE[:, 0].min(), abs=0.12)

    @pytest.mark.parametrize("degrees", [-70, 15, 180])
    def test_tilted_face_is_no_special_case(self, degrees: float) -> None:
        matrix = similarity(60, degrees, (200, 90))
        mesh = np.column_stack([FACE[:, :2] @ matrix[:, :2].T + matrix[:, 2], FACE[:, 2]])
        expected = mask_points_from_mesh(FACE).astype(float) @ matrix[:, :2].T + matrix[:, 2]
        np.testing.assert_allclose(mask_points_from_mesh(mesh), expected, atol=0.01)


@pytest.mark.parametrize("mesh", [np.zeros((478, 3)), np.zeros((1, 468, 3)), np.zeros(468)])
def test_wrong_mesh(mesh: np.ndarray) -> None:
    for reduce in (five_from_mesh, mask_points_from_mesh):
        with pytest.raises(InputError, match=r"mesh: expected shape \(468, \*\)"):
            reduce(mesh)


class Meeting:
    """MediaPipe's `process` for two threads, which meet in it if nothing keeps them apart; the second leaves last."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self.met, self.first_done, self.first_left = threading.Event(), threading.Event(), threading.Event()
        self.inside: list[int] = []

    def process(self, picture: UInt8Array) -> Any:
        self.inside.append(threading.get_ident())
        if len(self.inside) == 1:
            self.other.start()
            # As long as a thread could take to come in here; where it is kept out, the wait ends without it.
            self.met.wait(0.2)
        elif self.inside[0] != threading.get_ident() and not self.first_done.is_set():
            self.met.set()
            self.first_left.wait(5)
        found = self._process(picture)
        if self.inside[0] == threading.get_ident():
            self.first_done.set()
        return found

    def run(self, detectors: list[MeshDetector], photo: UInt8Array) -> None:
        self.other = threading.Thread(target=detectors[1].detect, args=([photo],))
        detectors[0].detect([photo])
        self.first_left.set()
        self.other.join()


class TestThreads:
    PHOTO = np.full((32, 32, 3), 127, np.uint8)

    @pytest.mark.parametrize("shared", [True, False])
    def test_detect_one_after_the_other(self, mesh: MeshDetector, shared: bool) -> None:
        """MediaPipe's graph ends the process where two are in it; standard error stays what it was."""
        first = MeshDetector()
        detectors = [first, first if shared else MeshDetector()]
        meeting = Meeting(detectors[0]._mesh.process)
        for detector in detectors:
            detector._mesh = meeting
        before = os.fstat(2)
        meeting.run(detectors, self.PHOTO)
        assert not meeting.met.is_set()
        assert len(set(meeting.inside)) == 2
        assert os.path.samestat(before, os.fstat(2))


def test_without_standard_error(mesh: MeshDetector) -> None:
    """As services have it whose starter closed it."""
    saved = os.dup(2)
    os.close(2)
    try:
        assert not mesh.detect([TestThreads.PHOTO])[0].ok
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def test_long_picture__its_process_lives(mesh: MeshDetector) -> None:
    """MediaPipe would end it at 32,768 pixels, of which a border adds half."""
    for shape in ((40, 30_000, 3), (30_000, 1, 3)):
        assert mesh.detect([np.zeros(shape, np.uint8)])[0].reason == "no face found"


def test_large_picture__points_are_of_the_picture_as_it_is(
    mesh: MeshDetector, astronaut: UInt8Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    [known] = mesh.detect([astronaut[:400]])
    monkeypatch.setattr(mesh_module, "_LONGEST", 300)
    [smaller] = mesh.detect([astronaut[:400]])
    for found, expected in zip(smaller[:3], known[:3], strict=True):
        assert found is not None
        assert expected is not None
        assert np.linalg.norm((found - expected)[:, :2], axis=1).max() < 6
    assert smaller.mesh is not None
    assert known.mesh is not None
    assert np.corrcoef(smaller.mesh[:, 2], known.mesh[:, 2])[0, 1] > 0.98
    assert np.ptp(smaller.mesh[:, 2]) == pytest.approx(np.ptp(known.mesh[:, 2]), rel=0.15)
