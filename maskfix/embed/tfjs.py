"""TensorFlow.js graph models as torch modules: small published face networks that exist in no other open format.

A graph model is a JSON file (nodes, weight table) and binary shards beside it. Only what convolutional recognisers are
made of is read; any other node is refused by name.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from maskfix.base import EmbedderError

MAX_BYTES = 256 * 2**20
"""Larger weight files are refused before they are read."""

_DTYPES = {"float32": np.float32, "int32": np.int32, "float16": np.float16}


class _Node(NamedTuple):
    """One node of the graph.

    Attributes:
        name: Its own name.
        op: TensorFlow's operation.
        inputs: Names of the nodes whose results go in.
        stride: Of a convolution.
        same: Whether a convolution pads as TensorFlow's SAME.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    stride: int
    same: bool


class GraphModel(nn.Module):
    """A TensorFlow.js graph model, frozen; gradients run through it to its input.

    Activations are `(N, C, H, W)` inside, whatever the graph says.

    Args:
        path: The model's JSON file; its shards lie beside it.
        output: Name of the node to return.
        maps: Names of nodes before it whose results `forward_features` returns as well.

    Raises:
        EmbedderError: If a file is missing or damaged, or the graph holds what is not read.
    """

    def __init__(self, path: str | Path, output: str, maps: Sequence[str] = ()) -> None:
        super().__init__()
        self.path = Path(path)
        topology, table, shards = _read(self.path)
        self.sha256 = hashlib.sha256(shards).hexdigest()
        weights = _weights(self.path, table, shards)
        try:
            nodes = {row["name"]: _node(row) for row in topology if row["op"] not in ("Const", "Placeholder")}
            self._input = next((row["name"] for row in topology if row["op"] == "Placeholder"), "")
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise EmbedderError(f"{self.path}: damaged, or no TensorFlow.js graph model") from error
        self.plan = _order(nodes, output, {self._input, *weights}, self.path)
        _fold(self.plan, weights)
        self._output = self.plan[-1].name
        self._maps = tuple(maps)
        missing = set(maps) - {node.name for node in self.plan}
        if missing:
            raise EmbedderError(f"{self.path}: has no node {min(missing)!r} on the way to {output!r}")
        self._constants: dict[str, str] = {}
        for node in self.plan:
            for name in node.inputs:
                if name in weights and name not in self._constants:
                    self._constants[name] = f"constant_{len(self._constants)}"
                    self.register_buffer(self._constants[name], _layout(node.op, weights[name]))

    def forward(self, x: Tensor) -> Tensor:
        """Run the graph on `(N, 3, H, W)` in the value range of the graph; returns `(N, D)` float32."""
        return self.forward_features(x)[0]

    def forward_features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What `forward` gives, and the maps `(N, C, h, w)` of the named nodes."""
        values = {self._input: x}
        for node in self.plan:
            arguments = [
                getattr(self, self._constants[name]) if name in self._constants else values[name]
                for name in node.inputs
            ]
            values[node.name] = _OPS[node.op](node, *arguments)
        return values[self._output].float(), [values[name] for name in self._maps]


def _convolve(node: _Node, x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    return _padded_convolution(node, x, kernel, bias, groups=1)


def _convolve_depthwise(node: _Node, x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    if node.stride > 1 and x.device.type == "cpu":
        # oneDNN has no fast backward pass for a bfloat16 depthwise convolution of stride 2 (20 times slower).
        with torch.autocast("cpu", enabled=False):
            return _padded_convolution(node, x.to(kernel.dtype), kernel, bias, groups=x.shape[1]).to(x.dtype)
    return _padded_convolution(node, x, kernel, bias, groups=x.shape[1])


def _padded_convolution(node: _Node, x: Tensor, kernel: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """SAME padding adds the odd pixel right and below."""
    total = 0
    if node.same:
        size = x.shape[-1]
        total = max((-(-size // node.stride) - 1) * node.stride + kernel.shape[-1] - size, 0)
        if total % 2:
            x = functional.pad(x, (0, 1, 0, 1))
    return functional.conv2d(x, kernel, bias, node.stride, total // 2, groups=groups)


def _pad(_: _Node, x: Tensor, amounts: Tensor) -> Tensor:
    (top, bottom), (left, right) = amounts.tolist()[1:3]
    return functional.pad(x, (left, right, top, bottom))


def _flatten(_: _Node, x: Tensor, __: Tensor) -> Tensor:
    # The dense layer behind it counts rows, columns, channels.
    return x.permute(0, 2, 3, 1).flatten(1)


def _elementwise(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A binary operation in which a vector counts channels."""

    def run(_: _Node, a: Tensor, b: Tensor) -> Tensor:
        dtype = a.dtype if a.dim() >= b.dim() else b.dtype
        if a.dim() == 1 and b.dim() == 4:
            a = a.view(1, -1, 1, 1)
        if b.dim() == 1 and a.dim() == 4:
            b = b.view(1, -1, 1, 1)
        return function(a.to(dtype), b.to(dtype))

    return run


_OPS: dict[str, Callable[..., Tensor]] = {
    "Conv2D": _convolve,
    "DepthwiseConv2dNative": _convolve_depthwise,
    "Add": _elementwise(torch.add),
    "AddV2": _elementwise(torch.add),
    "Sub": _elementwise(torch.sub),
    "Mul": _elementwise(torch.mul),
    "Maximum": _elementwise(torch.maximum),
    "Minimum": _elementwise(torch.minimum),
    "Relu": lambda _, x: torch.relu(x),
    "Relu6": lambda _, x: functional.relu6(x),
    "Pad": _pad,
    "Mean": lambda _, x, axes: x.mean((2, 3)),
    "Reshape": _flatten,
    "MatMul": lambda _, x, kernel: x @ kernel.to(x.dtype),
}


def _fold(plan: list[_Node], weights: dict[str, Tensor]) -> None:
    """Put what follows a convolution into its kernel and bias, and a clipped ReLU into one node: half the time."""
    at = 0
    while at + 1 < len(plan):
        node, following = plan[at], plan[at + 1]
        used = sum(node.name in other.inputs for other in plan)
        constants = [weights[name] for name in following.inputs if name in weights]
        if used == 1 and node.name in following.inputs and len(constants) == 1:
            folded = _folded(node, following, constants[0], weights)
            if folded is not None:
                plan[at : at + 2] = [folded]
                at = max(at - 1, 0)
                continue
        at += 1


def _folded(node: _Node, following: _Node, constant: Tensor, weights: dict[str, Tensor]) -> _Node | None:
    """Two nodes as one, or None where they are not of the known kinds."""
    if node.op in ("Conv2D", "DepthwiseConv2dNative") and len(node.inputs) == 2 and constant.dim() == 1:
        kernel = f"{following.name}/folded"
        if following.op == "Mul":
            weights[kernel] = weights[node.inputs[1]] * (constant if node.op == "Conv2D" else constant[:, None])
            return node._replace(name=following.name, inputs=(node.inputs[0], kernel))
        if following.op in ("Add", "AddV2"):
            weights[kernel] = constant
            return node._replace(name=following.name, inputs=(*node.inputs, kernel))
    single = constant.numel() == 1
    if node.op == "Relu" and following.op == "Minimum" and single and float(constant) == 6:
        return _Node(following.name, "Relu6", node.inputs, 1, False)
    if node.op == "Relu6" and following.op == "Maximum" and single and float(constant) == 0:
        return node._replace(name=following.name)
    return None


def _layout(op: str, value: Tensor) -> Tensor:
    """A constant as the operation on channels-first pictures wants it: kernels come as rows, columns, in, out."""
    if value.dim() != 4:
        return value
    if op == "Conv2D":
        return value.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    if op == "DepthwiseConv2dNative":
        return value.permute(2, 3, 0, 1).contiguous()
    return value


def _read(path: Path) -> tuple[list[Any], list[Any], bytes]:
    """Nodes, weight table and weight bytes of a graph model."""
    if not path.is_file():
        raise EmbedderError(f"{path}: no such TensorFlow.js graph model")
    try:
        model = json.loads(path.read_text(encoding="utf-8"))
        nodes = model["modelTopology"]["node"]
        groups = model["weightsManifest"]
        shards = [path.parent / Path(name).name for group in groups for name in group["paths"]]
        table = [row for group in groups for row in group["weights"]]
    except (ValueError, KeyError, TypeError) as error:
        raise EmbedderError(f"{path}: damaged, or no TensorFlow.js graph model") from error
    for shard in shards:
        if not shard.is_file():
            raise EmbedderError(f"{shard}: missing; a graph model's weights lie beside its JSON file")
        if shard.stat().st_size > MAX_BYTES:
            raise EmbedderError(f"{shard}: larger than {MAX_BYTES} bytes")
    return nodes, table, b"".join(shard.read_bytes() for shard in shards)


def _weights(path: Path, table: list[Any], data: bytes) -> dict[str, Tensor]:
    """Every constant as float32 or int64, by name."""
    weights, at = {}, 0
    try:
        for row in table:
            stored = np.dtype(_DTYPES[row.get("quantization", {}).get("dtype", row["dtype"])])
            count = int(np.prod(row["shape"], dtype=np.int64))
            values = np.frombuffer(data, stored, count, at).reshape(row["shape"])
            at += count * stored.itemsize
            weights[row["name"]] = torch.from_numpy(values.astype(np.int64 if stored.kind == "i" else np.float32))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EmbedderError(f"{path}: its weights do not fit its weight table; fetch the package again") from error
    return weights


def _node(row: Any) -> _Node:
    """One node as far as it matters here."""
    attributes = row.get("attr", {})
    strides = attributes.get("strides", {}).get("list", {}).get("i", ["1"] * 4)
    padding = base64.b64decode(attributes.get("padding", {}).get("s", ""))
    inputs = tuple(name.split(":")[0] for name in row.get("input", ()))
    return _Node(row["name"], row["op"], inputs, int(strides[1]), padding == b"SAME")


def _order(nodes: dict[str, _Node], output: str, known: set[str], path: Path) -> list[_Node]:
    """The nodes that the output needs, each after its inputs."""
    plan: dict[str, _Node] = {}
    stack, begun = [output], set[str]()
    while stack:
        name = stack[-1]
        if name in known or name in plan:
            stack.pop()
            continue
        node = nodes.get(name)
        if node is None or node.op not in _OPS:
            raise EmbedderError(f"{path}: node {name!r} ({node.op if node else 'missing'}) is none that maskfix reads")
        waiting = [item for item in node.inputs if item not in known and item not in plan]
        if waiting:
            # Begun before and still in want of something: what it waits for waits for it.
            if name in begun:
                raise EmbedderError(f"{path}: its graph runs in a circle")
            begun.add(name)
            stack.extend(waiting)
        else:
            plan[name] = node
            stack.pop()
    return list(plan.values())
