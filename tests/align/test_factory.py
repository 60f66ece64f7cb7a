"""Detectors by name."""

from __future__ import annotations

import sys

import pytest
import torch

from maskfix.align import list_detectors, load_detector
from maskfix.align.mesh import MeshDetector
from maskfix.align.mtcnn import MtcnnDetector
from maskfix.base import DependencyError, InputError


@pytest.mark.parametrize("name", ["retinaface", "", "MESH"])
def test_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(InputError, match="is unknown; known: auto, mesh, mtcnn") as raised:
        load_detector(name)
    assert all(known in str(raised.value) for known in list_detectors())


def test_names() -> None:
    pytest.importorskip("mediapipe", reason="mediapipe is not installed: no mesh detector")
    assert isinstance(load_detector("mesh"), MeshDetector)
    assert isinstance(load_detector("mtcnn"), MtcnnDetector)
    assert isinstance(load_detector(), MeshDetector)


class TestWithoutMediapipe:
    @pytest.fixture(autouse=True)
    def no_mediapipe(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == "mediapipe"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "mediapipe", None)

    def test_mesh_names_the_extra(self) -> None:
        with pytest.raises(
            DependencyError,
            match=r"mediapipe cannot be imported .*; install maskfix with it, .* pip install '\.\[train\]'",
        ):
            load_detector("mesh")

    def test_auto_takes_mtcnn(self) -> None:
        assert isinstance(load_detector("auto"), MtcnnDetector)


class TestMtcnn:
    def test_without_facenet_pytorch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "facenet_pytorch", None)
        with pytest.raises(DependencyError, match=r"detector mtcnn: pip install facenet-pytorch==2\.5\.3"):
            load_detector("mtcnn")

    @pytest.mark.parametrize("device", ["bogus", "cuda:99"])
    def test_device_that_is_not_there(self, device: str) -> None:
        with pytest.raises(InputError, match="device"):
            load_detector("mtcnn", device)

    def test_draws_nothing(self) -> None:
        before = torch.get_rng_state()
        load_detector("mtcnn", "auto")
        assert torch.equal(torch.get_rng_state(), before)
