from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskfix.base import EmbedderError
from maskfix.embed.tfjs import GraphModel
from tests.embed.tfjs_files import node, write_graph
from tests.reference.tfjs import convolve

RNG = np.random.default_rng(0)


def draw(*shape: int) -> Any:
    return RNG.normal(0, 1, shape).astype(np.float32)


PICTURE = draw(1, 3, 9, 9)
ROWS = PICTURE[0].transpose(1, 2, 0).astype(np.float64)


def run(tmp_path: Path, nodes: list[dict[str, Any]], weights: dict[str, Any], output: str, **options: Any) -> Any:
    model = GraphModel(write_graph(tmp_path / "m.json", nodes, weights, **options), output)
    result = model(torch.from_numpy(PICTURE))[0]
    return result.permute(1, 2, 0).numpy() if result.dim() == 3 else result.numpy()


@pytest.mark.parametrize("size", [8, 9])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("depthwise", [False, True])
def test_convolution(tmp_path: Path, size: int, stride: int, padding: str, depthwise: bool) -> None:
    op = "DepthwiseConv2dNative" if depthwise else "Conv2D"
    kernel = draw(3, 3, 3, 1) if depthwise else draw(3, 3, 3, 4)
    path = write_graph(tmp_path / "m.json", [node("y", op, "x", "k", stride=stride, padding=padding)], {"k": kernel})
    given = np.ascontiguousarray(PICTURE[..., :size, :size])
    found = GraphModel(path, "y")(torch.from_numpy(given))[0].permute(1, 2, 0).numpy()
    expected = convolve(ROWS[:size, :size], kernel.astype(np.float64), stride, padding == "SAME", depthwise)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("depthwise", [False, True])
def test_what_follows_a_convolution_is_folded_into_it(tmp_path: Path, depthwise: bool) -> None:
    op = "DepthwiseConv2dNative" if depthwise else "Conv2D"
    kernel = draw(3, 3, 3, 1) if depthwise else draw(3, 3, 3, 3)
    nodes = [
        node("c", op, "x", "k", padding="SAME"),
        node("m", "Mul", "c", "scale"),
        node("a", "Add", "m", "shift"),
        node("r", "Relu", "a"),
        node("low", "Minimum", "r", "six"),
        node("y", "Maximum", "low", "zero"),
    ]
    scale, shift = draw(3) * 3, draw(3)
    weights = {"k": kernel, "scale": scale, "shift": shift, "six": np.float32(6), "zero": np.float32(0)}
    weights = {name: np.asarray(value) for name, value in weights.items()}
    model = GraphModel(write_graph(tmp_path / "m.json", nodes, weights), "y")
    assert [part.op for part in model.plan] == [op, "Relu6"]
    found = model(torch.from_numpy(PICTURE))[0].permute(1, 2, 0).numpy()
    expected = (convolve(ROWS, kernel.astype(np.float64), 1, True, depthwise) * scale + shift).clip(0, 6)
    assert (expected == 6).any()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_result_used_twice_is_not_folded(tmp_path: Path) -> None:
    nodes = [node("c", "Conv2D", "x", "k"), node("m", "Mul", "c", "scale"), node("y", "AddV2", "m", "c")]
    kernel, scale = draw(1, 1, 3, 3), draw(3)
    found = run(tmp_path, nodes, {"k": kernel, "scale": scale}, "y")
    plain = convolve(ROWS, kernel.astype(np.float64), 1, False, False)
    np.testing.assert_allclose(found, plain * scale + plain, atol=1e-5)


def test_prelu_normalisation_and_padding(tmp_path: Path) -> None:
    """The pieces of MobileFace: a range, explicit padding, PReLU as sums of halves."""
    nodes = [
        node("s", "Sub", "x", "half"),
        node("n", "Mul", "s", "third"),
        node("p", "Pad", "n", "room"),
        node("up", "Maximum", "zero", "p"),
        node("down", "Minimum", "zero", "p"),
        node("slope", "Mul", "gamma", "down"),
        node("y", "AddV2", "up", "slope"),
    ]
    gamma = np.array([0.25, 0.5, 2], np.float32)
    room = np.array([[0, 0], [1, 2], [3, 4], [0, 0]], np.int32)
    weights = {
        "half": np.float32([0.5]),
        "third": np.float32([3]),
        "zero": np.float32([0]),
        "gamma": gamma,
        "room": room,
    }
    found = run(tmp_path, nodes, weights, "y")
    padded = np.pad((ROWS - 0.5) * 3, ((1, 2), (3, 4), (0, 0)))
    np.testing.assert_allclose(found, np.where(padded > 0, padded, padded * gamma), atol=1e-5)


def test_dense_layer_counts_rows_columns_channels(tmp_path: Path) -> None:
    nodes = [node("f", "Reshape", "x", "shape"), node("d", "MatMul", "f", "k"), node("y", "AddV2", "d", "b")]
    kernel, bias = draw(243, 5), draw(5)
    found = run(tmp_path, nodes, {"shape": np.array([-1, 243], np.int32), "k": kernel, "b": bias}, "y")
    np.testing.assert_allclose(found, ROWS.reshape(-1) @ kernel + bias, atol=1e-4)


def test_mean_and_half_precision(tmp_path: Path) -> None:
    nodes = [node("g", "Mean", "x", "axes"), node("y", "Mul", "g", "k")]
    weights = {"axes": np.array([1, 2], np.int32), "k": np.array([0.1, 10.3, -7], np.float32)}
    found = run(tmp_path, nodes, weights, "y", half=["k"])
    np.testing.assert_allclose(found, ROWS.mean((0, 1)) * weights["k"].astype(np.float16), atol=1e-5)


def test_gradient_reaches_the_picture(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "m.json", [node("y", "Conv2D", "x", "k")], {"k": draw(1, 1, 3, 2)})
    picture = torch.from_numpy(PICTURE).requires_grad_()
    model = GraphModel(path, "y")
    model(picture).sum().backward()
    assert picture.grad is not None
    assert picture.grad.abs().min() > 0
    assert list(model.parameters()) == []


def test_maps_on_the_way(tmp_path: Path) -> None:
    nodes = [node("c", "Conv2D", "x", "k"), node("m", "Relu", "c"), node("y", "Mean", "m", "axes")]
    weights = {"k": draw(1, 1, 3, 2), "axes": np.array([1, 2], np.int32)}
    path = write_graph(tmp_path / "m.json", nodes, weights)
    result, [found] = GraphModel(path, "y", ["m"]).forward_features(torch.from_numpy(PICTURE))
    expected = convolve(ROWS, weights["k"].astype(np.float64), 1, False, False).clip(0)
    np.testing.assert_allclose(found[0].permute(1, 2, 0).numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(result[0].numpy(), expected.mean((0, 1)), atol=1e-5)
    with pytest.raises(EmbedderError, match="has no node 'z' on the way to 'y'"):
        GraphModel(path, "y", ["m", "z"])


class TestBadFiles:
    def good(self, tmp_path: Path) -> Path:
        return write_graph(tmp_path / "m.json", [node("y", "Conv2D", "x", "k")], {"k": draw(1, 1, 3, 2)})

    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(EmbedderError, match=r"nothing\.json: no such TensorFlow\.js graph model"):
            GraphModel(tmp_path / "nothing.json", "y")

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"modelTopology": 3, "weightsManifest": []}', "\0"])
    def test_damaged(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "m.json").write_text(text)
        with pytest.raises(EmbedderError, match="damaged"):
            GraphModel(tmp_path / "m.json", "y")

    def test_shard_missing(self, tmp_path: Path) -> None:
        path = self.good(tmp_path)
        (tmp_path / "m.bin").unlink()
        with pytest.raises(EmbedderError, match=r"m\.bin: missing"):
            GraphModel(path, "y")

    def test_shard_cut(self, tmp_path: Path) -> None:
        path = self.good(tmp_path)
        (tmp_path / "m.bin").write_bytes((tmp_path / "m.bin").read_bytes()[:-1])
        with pytest.raises(EmbedderError, match="weights do not fit"):
            GraphModel(path, "y")

    def test_shard_elsewhere(self, tmp_path: Path) -> None:
        """A path in the file leads nowhere but beside it."""
        path = self.good(tmp_path)
        model = json.loads(path.read_text())
        model["weightsManifest"][0]["paths"][0] = "../../etc/m.1.bin"
        path.write_text(json.dumps(model))
        GraphModel(path, "y")

    def test_output_missing(self, tmp_path: Path) -> None:
        with pytest.raises(EmbedderError, match=r"node 'z' \(missing\) is none that maskfix reads"):
            GraphModel(self.good(tmp_path), "z")

    def test_unknown_operation(self, tmp_path: Path) -> None:
        path = write_graph(tmp_path / "m.json", [node("y", "LeakyRelu", "x")], {})
        with pytest.raises(EmbedderError, match=r"node 'y' \(LeakyRelu\) is none that maskfix reads"):
            GraphModel(path, "y")

    def test_circle(self, tmp_path: Path) -> None:
        path = write_graph(tmp_path / "m.json", [node("a", "Relu", "b"), node("b", "Relu", "a")], {})
        with pytest.raises(EmbedderError, match="circle"):
            GraphModel(path, "a")


@pytest.mark.parametrize("swapped", [False, True])
def test_shortcuts(tmp_path: Path, swapped: bool) -> None:
    """Residual blocks, whichever of their inputs comes first."""
    nodes, last = [], "x"
    for block in range(5):
        ends = (last, f"c{block}") if swapped else (f"c{block}", last)
        nodes += [node(f"c{block}", "Relu", last), node(f"r{block}", "Add", *ends)]
        last = f"r{block}"
    found = run(tmp_path, nodes, {}, last)
    expected = ROWS
    for _ in range(5):
        expected = expected + np.maximum(expected, 0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_hash__of_every_shard(tmp_path: Path) -> None:
    path = write_graph(tmp_path / "m.json", [node("y", "Add", "x", "k")], {"k": draw(3)})
    hashes = [GraphModel(path, "y").sha256]
    for shard in ("m.1.bin", "m.bin"):
        content = bytearray((tmp_path / shard).read_bytes())
        content[0] ^= 1
        (tmp_path / shard).write_bytes(content)
        hashes.append(GraphModel(path, "y").sha256)
    assert len(set(hashes)) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"modelTopology": {"node": [{}]}},
        {"modelTopology": {"node": [3]}},
        {"modelTopology": {"node": [{"name": "y", "op": "Relu", "input": ["x"], "attr": []}]}},
        {"modelTopology": {"node": [{"name": "y", "op": "Relu", "attr": {"strides": {"list": {"i": ["x", "y"]}}}}]}},
        {"modelTopology": {"node": [{"name": "y", "op": "Relu", "attr": {"strides": {"list": {"i": ["1"]}}}}]}},
        {"weightsManifest": [{"paths": [], "weights": [3]}]},
    ],
)
def test_malformed_json_is_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    path = write_graph(tmp_path / "m.json", [node("y", "Relu", "x")], {})
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(EmbedderError, match=r"m\.json: "):
        GraphModel(path, "y")
