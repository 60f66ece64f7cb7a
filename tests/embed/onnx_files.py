"""Small ONNX files, built node by node with the onnx package, for tests without ../shared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SHARED = Path(__file__).resolve().parents[3] / "shared"
RECOGNISER = SHARED / "models" / "mobilefacenet-arcface" / "mobilefacenet.onnx"

Batch = int | str


def save(
    path: Path, nodes: list[Any], weights: dict[str, NDArray[Any]], inputs: list[int | str], outputs: dict[str, int]
) -> Path:
    """Write a graph; `outputs` gives each output's number of axes, whose lengths stay open."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, inputs)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [f"{name}{axis}" for axis in range(axes)])
            for name, axes in outputs.items()
        ],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, str(path))
    return path


def write_recogniser(
    path: Path, size: int = 112, batch: Batch = "n", outputs: int = 1, height: int | None = None, last: str = ""
) -> Path:
    """Mean colour of each quarter, times a fixed random matrix: `outputs` vectors of 16 numbers each.

    `last` brings the only vector to unit length as the last step: "Div", "Mul" or "LpNormalization"; "Identity" hides
    a division behind another step.
    """
    rng = np.random.default_rng(7)
    half = [(height or size) // 2, size // 2]
    nodes = [
        helper.make_node("AveragePool", ["x"], ["pooled"], kernel_shape=half, strides=half),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
    ]
    weights: dict[str, NDArray[Any]] = {}
    for index in range(outputs):
        weights[f"w{index}"] = rng.normal(size=(12, 16)).astype(np.float32)
        nodes.append(helper.make_node("MatMul", ["flat", f"w{index}"], ["raw" if last else f"y{index}"]))
    if last:
        nodes += _unit_steps(last)
    shape: list[int | str] = [batch, 3, height or size, size]
    return save(path, nodes, weights, shape, {f"y{index}": 2 for index in range(outputs)})


def _unit_steps(last: str) -> list[Any]:
    """Steps from the vector y0, renamed, to y0 of unit length."""
    length = helper.make_node("ReduceL2", ["raw"], ["length"], axes=[1], keepdims=1)
    steps = {
        "Div": [length, helper.make_node("Div", ["raw", "length"], ["y0"])],
        "Mul": [
            length,
            helper.make_node("Reciprocal", ["length"], ["inverse"]),
            helper.make_node("Mul", ["inverse", "raw"], ["y0"]),
        ],
        "LpNormalization": [helper.make_node("LpNormalization", ["raw"], ["y0"], axis=1, p=2)],
        "Identity": [
            length,
            helper.make_node("Div", ["raw", "length"], ["unit"]),
            helper.make_node("Identity", ["unit"], ["y0"]),
        ],
    }
    return steps[last]


def write_picture_network(path: Path, size: int = 128) -> Path:
    """A network that gives pictures, which insightface takes for a recogniser by its input shape."""
    return save(path, [helper.make_node("Sigmoid", ["x"], ["y"])], {}, ["n", 3, size, size], {"y": 4})


def write_strided(path: Path, batch: Batch = "n", reshaped: bool = False, outputs: int = 1) -> Path:
    """Three convolutions of stride 2, the second with a clip behind it, and a matrix, on pictures of 16 pixels."""
    rng = np.random.default_rng(4)
    weights: dict[str, NDArray[Any]] = {"low": np.array(-0.5, np.float32)}
    nodes, last, channels = [], "x", 3
    for number, wide in enumerate((4, 6, 8)):
        weights[f"k{number}"] = rng.normal(size=(wide, channels, 3, 3)).astype(np.float32) / channels
        nodes.append(helper.make_node("Conv", [last, f"k{number}"], [f"c{number}"], strides=[2, 2], pads=[1, 1, 1, 1]))
        step = ["Clip", [f"c{number}", "low", ""]] if number == 1 else ["Tanh", [f"c{number}"]]
        nodes.append(helper.make_node(*step, [f"a{number}"]))
        last, channels = f"a{number}", wide
    if reshaped:
        weights["shape"] = np.array([1, 32], np.int64)
        nodes.append(helper.make_node("Reshape", [last, "shape"], ["flat"]))
    else:
        nodes.append(helper.make_node("Flatten", [last], ["flat"]))
    for number in range(outputs):
        weights[f"m{number}"] = rng.normal(size=(32, 5)).astype(np.float32)
        nodes.append(helper.make_node("MatMul", ["flat", f"m{number}"], [f"y{number}"]))
    return save(path, nodes, weights, [batch, 3, 16, 16], {f"y{number}": 2 for number in range(outputs)})


class _Chain:
    """Adds convolutions to a graph one behind the other."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.weights: dict[str, NDArray[Any]] = {}
        self.last = "x"
        self.channels = 3

    def array(self, *shape: int, scale: float = 1.0, mean: float = 0.0) -> str:
        name = f"t{len(self.weights)}"
        self.weights[name] = (mean + scale * self.rng.normal(size=shape)).astype(np.float32)
        return name

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> None:
        output = f"o{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        self.last = output

    def conv(
        self, out: int, kernel: int = 1, stride: int = 1, depthwise: bool = False, active: bool = True, pad: bool = True
    ) -> None:
        group = self.channels if depthwise else 1
        fan = self.channels // group * kernel * kernel
        weight = self.array(out, self.channels // group, kernel, kernel, scale=(1.5 / fan) ** 0.5)
        bias = self.array(out, scale=0.1)
        padding = kernel // 2 if stride == 1 and pad else 0
        if stride == 2:
            name = f"pads{len(self.weights)}"
            self.weights[name] = np.array([0, 0, 0, 0, 0, 0, 1, 1], dtype=np.int64)
            self.node("Pad", [self.last, name])
        self.node(
            "Conv", [self.last, weight, bias], group=group, kernel_shape=[kernel] * 2, strides=[stride] * 2,
            pads=[padding] * 4,
        )  # fmt: skip
        self.channels = out
        if active:
            self.node("PRelu", [self.last, self.array(out, 1, 1, scale=0.1, mean=0.25)])

    def bottleneck(self, inner: int, out: int, stride: int, residual: bool) -> None:
        start = self.last
        self.conv(inner)
        self.conv(inner, kernel=3, stride=stride, depthwise=True)
        self.conv(out, active=False)
        if residual:
            self.node("Add", [self.last, start])


def write_mobilefacenet(path: Path, repeats: tuple[int, ...] = (4, 6, 2), residual: bool = True) -> Path:
    """A MobileFaceNet with random weights and few channels, in the form of the real export."""
    chain = _Chain(3)
    chain.conv(8, kernel=3, stride=2)
    chain.conv(8, kernel=3, depthwise=True)
    chain.conv(8, active=False)
    for (first, inner, out), count in zip(((12, 10, 8), (16, 20, 12), (24, 18, 14)), repeats, strict=True):
        chain.bottleneck(first, out, stride=2, residual=False)
        for _ in range(count):
            chain.bottleneck(inner, out, stride=1, residual=residual)
    chain.conv(32)
    chain.conv(32, kernel=7, depthwise=True, active=False, pad=False)
    chain.conv(32, active=False)
    chain.conv(16, active=False)
    chain.node("Flatten", [chain.last])
    chain.nodes.append(helper.make_node("LpNormalization", [chain.last], ["emb"], axis=1, p=2))
    return save(path, chain.nodes, chain.weights, ["n", 3, 112, 112], {"emb": 2})
