"""ONNX recognisers as torch modules, against onnxruntime."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor

from maskfix.base import DependencyError, EmbedderError, UInt8Array, arcface_layout
from maskfix.embed import OnnxEmbedder, OnnxTorchNetwork
from tests.embed.onnx_files import save, write_strided

SIZE = 16


def _crops(count: int, size: int = SIZE) -> UInt8Array:
    return np.random.default_rng(3).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def _pictures(crops: UInt8Array) -> Tensor:
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("options", ["", "&colour=bgr&range=0..255", "&range=-0.5..0.7"])
def test_forward__against_onnxruntime(tmp_path: Path, options: str) -> None:
    spec = f"{write_strided(tmp_path / 'm.onnx')}?layout=arcface_16{options}"
    network = OnnxTorchNetwork(spec)
    expected = OnnxEmbedder.from_spec(spec, device="cpu").embed(_crops(5))
    np.testing.assert_allclose(network(_pictures(_crops(5))).numpy(), expected, atol=1e-5)
    assert (network.name, network.size, network.dimension, network.strides) == ("onnx:m", SIZE, 5, (2, 4, 8))


@pytest.mark.parametrize("batch", [1, "n"])
def test_forward__exported_for_one_face(tmp_path: Path, batch: int | str) -> None:
    path = write_strided(tmp_path / "one.onnx", batch, reshaped=True)
    expected = OnnxEmbedder(path, arcface_layout(SIZE), device="cpu").embed(_crops(4))
    found = OnnxTorchNetwork(f"{path}?layout=arcface_16")(_pictures(_crops(4)))
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_forward__scales_pictures_of_another_side(tmp_path: Path) -> None:
    network = OnnxTorchNetwork(f"{write_strided(tmp_path / 'm.onnx')}?layout=arcface_16")
    small = _pictures(_crops(2))
    large = small.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(network(large), network(small), atol=1e-5, rtol=1e-5)


def test_forward_features__maps_and_vector_of_one_pass(tmp_path: Path) -> None:
    path = write_strided(tmp_path / "m.onnx")
    network = OnnxTorchNetwork(f"{path}?layout=arcface_16&range=0..1")
    pictures = _pictures(_crops(2))
    vector, maps = network.forward_features(pictures)
    torch.testing.assert_close(vector, network(pictures))
    torch.testing.assert_close(vector.norm(dim=1), torch.ones(2))
    kernels = {one.name: onnx.numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer}
    x = pictures
    for number, found in enumerate(maps):
        x = torch.nn.functional.conv2d(x, torch.from_numpy(kernels[f"k{number}"].copy()), stride=2, padding=1)
        x = x.clamp(min=-0.5) if number == 1 else x.tanh()
        torch.testing.assert_close(found, x, atol=1e-5, rtol=1e-4)
    assert len(maps) == 3


def test_forward__gradient_by_differences(tmp_path: Path) -> None:
    network = OnnxTorchNetwork(f"{write_strided(tmp_path / 'm.onnx')}?layout=arcface_16").double()
    network.forward_features(torch.rand(1, 3, SIZE, SIZE).double())
    pictures = _pictures(_crops(1)).double().requires_grad_(True)
    network(pictures)[0, 2].backward()
    assert pictures.grad is not None
    for place in ((0, 0, 3, 4), (0, 2, 9, 9)):
        step = torch.zeros_like(pictures)
        step[place] = 1e-3
        with torch.no_grad():
            slope = (network(pictures + step) - network(pictures - step))[0, 2] / 2e-3
        assert pictures.grad[place].item() == pytest.approx(slope.item(), rel=0.02, abs=1e-4)
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "says no layout"),
        ("?layout=dlib_150", "needs layout=arcface_SIZE"),
        ("?layout=arcface_16&output=y0", "no output=NAME"),
        ("?layout=arcface_16&colour=grey", "colour"),
        ("?layout=arcface_20", "cannot be made a torch module"),
    ],
)
def test_init__refused(tmp_path: Path, query: str, message: str) -> None:
    with pytest.raises(EmbedderError, match=message):
        OnnxTorchNetwork(f"{write_strided(tmp_path / 'm.onnx')}{query}")


def test_init__no_embedding(tmp_path: Path) -> None:
    two = write_strided(tmp_path / "two.onnx", outputs=2)
    picture = save(tmp_path / "p.onnx", [helper.make_node("Tanh", ["x"], ["y"])], {}, ["n", 3, SIZE, SIZE], {"y": 4})
    for path in (two, picture):
        with pytest.raises(EmbedderError, match="must have one output that is an embedding"):
            OnnxTorchNetwork(f"{path}?layout=arcface_16")


def test_init__no_network(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no network")
    with pytest.raises(EmbedderError, match=r"text\.onnx: cannot be made a torch module"):
        OnnxTorchNetwork(f"{tmp_path / 'text.onnx'}?layout=arcface_16")
    with pytest.raises(EmbedderError, match=r"none\.onnx: no such ONNX file"):
        OnnxTorchNetwork(f"{tmp_path / 'none.onnx'}?layout=arcface_16")


def test_init__without_onnx2torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    with pytest.raises(DependencyError, match=r"pip install '\.\[train\]'"):
        OnnxTorchNetwork(f"{write_strided(tmp_path / 'm.onnx')}?layout=arcface_16")


def test_init__a_constant_alone(tmp_path: Path) -> None:
    """A graph whose output does not come from the picture."""
    nodes = [helper.make_node("Tanh", ["x"], ["t"]), helper.make_node("Shape", ["t"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {}, ["n", 3, SIZE, SIZE], {"y": 1})
    with pytest.raises(EmbedderError):
        OnnxTorchNetwork(f"{path}?layout=arcface_16")
