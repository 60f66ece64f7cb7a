"""An ONNX recogniser as a torch module: a training run can ask it which picture it would rather see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskfix.base import DependencyError, EmbedderError, InputError, check_choice, check_shape
from maskfix.embed.layouts import load_layout
from maskfix.embed.onnx_network import first_line, parse_range, parse_spec

STRIDES = (2, 4, 8)
"""Strides at which `OnnxTorchNetwork.forward_features` looks for maps."""


class OnnxTorchNetwork(nn.Module):
    """A recogniser in an ONNX file, through onnx2torch; gradients reach the picture.

    Files that were exported for one face take any number here.

    Args:
        spec: `PATH.onnx?layout=arcface_112&range=-1..1&colour=rgb`, as for `OnnxEmbedder.from_spec`; the layout must
            be ArcFace's, the colour `rgb` or `bgr`, and the file has one output.

    Raises:
        EmbedderError: If the spec is malformed or asks for what is not offered here, the file is missing or damaged,
            has several outputs or a layer that onnx2torch does not know, or does not turn pictures into vectors.
        DependencyError: If onnx or onnx2torch is not installed.

    Attributes:
        name: `onnx:` and the file's stem.
        size: Side of the pictures that the network itself takes.
        dimension: Length of the embedding.
        strides: Those of `STRIDES` at which the network has maps.
    """

    def __init__(self, spec: str | Path) -> None:
        super().__init__()
        path, options = parse_spec(str(spec))
        try:
            layout = load_layout(options["layout"])
            low, high = parse_range(options.get("range", "-1..1"))
            check_choice("colour", options.get("colour", "rgb"), ("rgb", "bgr"))
        except InputError as error:
            raise EmbedderError(f"onnx:{spec}: {error}") from error
        if not layout.name.startswith("arcface_") or "output" in options:
            raise EmbedderError(f"onnx:{spec}: as a torch module it needs layout=arcface_SIZE and no output=NAME")
        self.name, self.size = f"onnx:{path.stem}", layout.size
        self._scale, self._shift = high - low, low
        self._mirror_channels = options.get("colour") == "bgr"
        self._graph, self.strides, self.dimension = _convert(path, layout.size)

    def forward(self, images: Tensor) -> Tensor:
        """Embed ArcFace crops `(N, 3, H, W)` in [0, 1] of any side; gives `(N, D)` of unit length."""
        return self.forward_features(images)[0]

    def forward_features(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What `forward` gives, and the last map `(N, C, h, w)` at each of `strides`."""
        check_shape("images", images, (None, 3, None, None))
        side = (self.size, self.size)
        if images.shape[2:] != side:
            images = functional.interpolate(images, size=side, mode="bilinear", align_corners=False)
        values = (images.flip(1) if self._mirror_channels else images) * self._scale + self._shift
        vector, *maps = self._graph(values.contiguous(memory_format=torch.channels_last))
        return functional.normalize(vector.flatten(1).float(), dim=1, eps=1e-12), maps


def _convert(path: Path, size: int) -> tuple[nn.Module, tuple[int, ...], int]:
    """The file's graph with its early maps as further outputs, their strides, and the embedding's length."""
    try:
        import onnx
        from onnx2torch import convert
    except ImportError as error:
        raise DependencyError(
            f"onnx:{path}: needs maskfix with its extra, in its checkout: pip install '.[train]' ({error})"
        ) from error
    if not path.is_file():
        raise EmbedderError(f"{path}: no such ONNX file")
    try:
        model = onnx.load(str(path))
        _free_batch(model, onnx.numpy_helper)
        graph: Any = convert(model).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        shapes = _shapes(graph, size)
    except Exception as error:  # protobuf, onnx2torch and torch have no common base
        raise EmbedderError(f"{path}: cannot be made a torch module ({first_line(error)})") from error
    output = next(node for node in graph.graph.nodes if node.op == "output")
    vector = output.args[0]
    shape = () if isinstance(vector, tuple | list) else shapes.get(vector, ())
    if len(shape) < 2 or shape[0] != 2 or shape[1:].count(1) < len(shape) - 2:
        raise EmbedderError(f"{path}: as a torch module it must have one output that is an embedding")
    maps = {}
    for node, found in shapes.items():
        # Channels come first here; a map whose channels come last has its side in one place alone.
        if len(found) == 4 and found[2] == found[3] and size % found[2] == 0 and size // found[2] in STRIDES:
            maps[size // found[2]] = node
    strides = tuple(sorted(maps))
    output.args = ((vector, *(maps[stride] for stride in strides)),)
    graph.recompile()
    return graph, strides, int(torch.Size(shape[1:]).numel())


def _free_batch(model: Any, arrays: Any) -> None:
    """Let a file that was exported for one face take many, and drop what onnx2torch stumbles over."""
    for value in (*model.graph.input, *model.graph.output):
        lengths = value.type.tensor_type.shape.dim
        if lengths:
            lengths[0].dim_param = "n"
    del model.graph.value_info[:]
    constants = {constant.name: constant for constant in model.graph.initializer}
    made = {node.output[0]: node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"}
    for node in model.graph.node:
        # Names left empty at the end stand for arguments that are not there.
        while node.input and not node.input[-1]:
            node.input.pop()
        target = constants.get(node.input[1]) or made.get(node.input[1]) if node.op_type == "Reshape" else None
        if target is not None:
            shape = arrays.to_array(target).copy()
            if shape.size and shape[0] == 1:
                shape[0] = 0  # the length that comes in
                target.CopyFrom(arrays.from_array(shape, target.name))


def _shapes(graph: Any, size: int) -> dict[Any, tuple[int, ...]]:
    """The shape of every node's tensor for two pictures."""
    from torch.fx.passes.shape_prop import ShapeProp

    with torch.no_grad():
        ShapeProp(graph).propagate(torch.zeros(2, 3, size, size))
    found = {}
    for node in graph.graph.nodes:
        known = node.meta.get("tensor_meta")
        if hasattr(known, "shape"):
            found[node] = tuple(known.shape)
    return found
