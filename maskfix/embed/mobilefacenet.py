"""MobileFaceNet as a torch module, carried over from its ONNX file, so that gradients can flow through it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskfix.base import DependencyError, EmbedderError, check_shape

INPUT_SIZE = 112
"""Side of the crop in pixels, ArcFace layout."""

MAX_BYTES = 256 * 2**20
"""Larger ONNX files are refused before they are parsed; the real one has 5 MB."""

#: Residual bottlenecks after the down-sampling one, for the stages at strides 4, 8 and 16.
STAGE_REPEATS = (4, 6, 2)


class StageWidths(NamedTuple):
    """Channels of one stage: a down-sampling bottleneck, then residual ones.

    Attributes:
        first: Channels inside the down-sampling bottleneck.
        inner: Channels inside each residual bottleneck.
        out: Channels that leave the stage.
    """

    first: int
    inner: int
    out: int


class Widths(NamedTuple):
    """Channels of a MobileFaceNet; the defaults are those of sirius-ai's public release.

    Attributes:
        stem: Channels at stride 2.
        stages: The stages at strides 4, 8 and 16.
        head: Channels before the global depthwise convolution.
        embedding: Length of the embedding.
    """

    stem: int = 64
    stages: tuple[StageWidths, ...] = (
        StageWidths(128, 128, 64),
        StageWidths(256, 256, 128),
        StageWidths(512, 256, 128),
    )
    head: int = 512
    embedding: int = 192


class _Conv(nn.Module):
    """Convolution with TensorFlow's SAME padding and an optional PReLU; even sides pad right and below at stride 2."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, depthwise: bool = False, active: bool = True
    ) -> None:
        super().__init__()
        padding = kernel // 2 if stride == 1 else 0
        groups = inputs if depthwise else 1
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups)
        self.prelu = nn.PReLU(outputs) if active else None
        self.trailing = 1 if stride == 2 else 0

    def forward(self, x: Tensor) -> Tensor:
        if self.trailing:
            x = functional.pad(x, (0, self.trailing, 0, self.trailing))
        if self.trailing and self.conv.groups > 1 and x.device.type == "cpu":
            # oneDNN has no fast backward pass for a bfloat16 depthwise convolution of stride 2 (20 times slower).
            with torch.autocast("cpu", enabled=False):
                x = self.conv(x.to(self.conv.weight.dtype)).to(x.dtype)
        else:
            x = self.conv(x)
        if self.prelu is None:
            return x
        slope = self.prelu.weight.to(x.dtype)
        if slope.requires_grad:
            return functional.prelu(x, slope)
        activated: Tensor = _FrozenPReLU.apply(x, slope)
        return activated


class _FrozenPReLU(torch.autograd.Function):
    """PReLU without the gradient of its slopes, which nn.PReLU computes pixel by pixel whether frozen or not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return functional.prelu(x, slope)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        x, slope = ctx.saved_tensors
        # Autocast may have narrowed the output of the forward pass, and so this gradient.
        grad = grads[0].to(x.dtype)
        return torch.lerp(torch.ops.aten.threshold_backward(grad, x, 0), grad, slope.view(1, -1, 1, 1)), None


class _Bottleneck(nn.Module):
    """Expand, depthwise 3x3, project linearly; the input is added where neither size nor channels change."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.expand = _Conv(inputs, inner)
        self.depthwise = _Conv(inner, inner, kernel=3, stride=stride, depthwise=True)
        self.project = _Conv(inner, outputs, active=False)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


def _stage(inputs: int, widths: StageWidths, repeats: int) -> nn.Sequential:
    """One down-sampling bottleneck, then `repeats` residual ones."""
    blocks = [_Bottleneck(inputs, widths.first, widths.out, stride=2, residual=False)]
    blocks += [_Bottleneck(widths.out, widths.inner, widths.out, stride=1, residual=True) for _ in range(repeats)]
    return nn.Sequential(*blocks)


class MobileFaceNet(nn.Module):
    """MobileFaceNet (Chen et al., 2018) as sirius-ai trained it with the ArcFace loss.

    `from_onnx` gives it frozen and in evaluation mode: no parameter takes a gradient, the input does.

    Args:
        widths: Channels of every part.

    Example:
        >>> network = MobileFaceNet().eval()
        >>> embedding, maps = network.forward_features(torch.rand(2, 3, 112, 112))
        >>> tuple(embedding.shape), [tuple(m.shape[1:]) for m in maps]
        ((2, 192), [(64, 56, 56), (64, 28, 28), (128, 14, 14)])
    """

    def __init__(self, widths: Widths | None = None) -> None:
        super().__init__()
        widths = widths or Widths()
        self.dimension = widths.embedding
        self.stem = nn.Sequential(
            _Conv(3, widths.stem, kernel=3, stride=2),
            _Conv(widths.stem, widths.stem, kernel=3, depthwise=True),
            _Conv(widths.stem, widths.stem, active=False),
        )
        inputs = [widths.stem, *(stage.out for stage in widths.stages)]
        self.stages = nn.ModuleList(_stage(*row) for row in zip(inputs[:-1], widths.stages, STAGE_REPEATS, strict=True))
        # The global depthwise convolution spans the whole 7x7 map, so it pads nothing.
        pool = _Conv(widths.head, widths.head, kernel=INPUT_SIZE // 16, depthwise=True, active=False)
        pool.conv.padding = (0, 0)
        self.head = nn.Sequential(
            _Conv(inputs[-1], widths.head),
            pool,
            _Conv(widths.head, widths.head, active=False),
            _Conv(widths.head, widths.embedding, active=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Embed RGB crops.

        Args:
            x: `(N, 3, 112, 112)` float RGB in [0, 1], ArcFace layout.

        Returns:
            `(N, D)` of unit length, float32 under autocast as well.

        Raises:
            InputError: If the shape differs.
        """
        return self.forward_features(x)[0]

    def features(self, x: Tensor) -> list[Tensor]:
        """The early feature maps alone, for a style loss; the later layers are not computed.

        Args:
            x: `(N, 3, 112, 112)` float RGB in [0, 1].

        Returns:
            Maps at strides 2, 4 and 8: `(N, C, 56, 56)`, `(N, C, 28, 28)`, `(N, C, 14, 14)`.
        """
        return self._early(x)

    def forward_features(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Embedding and early feature maps in one pass, so that an identity and a style term share it.

        Args:
            x: `(N, 3, 112, 112)` float RGB in [0, 1].

        Returns:
            What `forward` and what `features` give.
        """
        maps = self._early(x)
        vector = self.head(self.stages[2](maps[-1])).flatten(1)
        if vector.dtype in (torch.bfloat16, torch.float16):
            vector = vector.float()
        # The ONNX graph clips the length at 1e-12 as well.
        return functional.normalize(vector, dim=1, eps=1e-12), maps

    def _early(self, x: Tensor) -> list[Tensor]:
        check_shape("faces", x, (None, 3, INPUT_SIZE, INPUT_SIZE))
        maps = [self.stem((x * 255.0 - 127.5) / 128.0)]
        for stage in list(self.stages)[:2]:
            maps.append(stage(maps[-1]))
        return maps

    @classmethod
    def from_onnx(cls, path: str | Path) -> MobileFaceNet:
        """Carry an ONNX file's initialisers over, one to one.

        Args:
            path: An ONNX export of this architecture; the channels are read from it. External data is not followed.

        Returns:
            The network in evaluation mode with frozen parameters.

        Raises:
            EmbedderError: If the file is missing, damaged, too large or of another architecture.
            DependencyError: If the `onnx` package is missing.
        """
        path = Path(path)
        layers = _read_layers(path)
        # Drawn at random first, which would move the user's generator.
        with torch.random.fork_rng(devices=[]):
            network = cls(_widths(path, layers))
        convolutions = list(_walk(network))
        if len(convolutions) != len(layers):
            raise _unfit(path, f"{len(layers)} convolutions instead of {len(convolutions)}")
        with torch.no_grad():
            for index, (target, layer) in enumerate(zip(convolutions, layers, strict=True)):
                _fill(path, index, target, layer)
        return network.eval().requires_grad_(False)


class _Layer(NamedTuple):
    """One convolution of the graph and the PReLU behind it, if there is one."""

    weight: Tensor
    bias: Tensor
    slope: Tensor | None
    stride: int
    groups: int
    padding: tuple[int, ...]
    residual: bool


def _unfit(path: Path, why: str) -> EmbedderError:
    return EmbedderError(f"{path}: not the MobileFaceNet that maskfix can carry over to torch ({why})")


def _walk(network: MobileFaceNet) -> Iterator[tuple[_Conv, bool]]:
    """Every convolution in the order of the forward pass, and whether the block's input is added to its output."""
    last = {id(block.project) for block in network.modules() if isinstance(block, _Bottleneck) and block.residual}
    for module in network.modules():
        if isinstance(module, _Conv):
            yield module, id(module) in last


def _widths(path: Path, layers: list[_Layer]) -> Widths:
    """Read the channels off the convolutions at the places the architecture gives them."""
    starts = [3]
    for repeats in STAGE_REPEATS:
        starts.append(starts[-1] + 3 * (1 + repeats))
    if len(layers) != starts[-1] + 4:
        raise _unfit(path, f"{len(layers)} convolutions instead of {starts[-1] + 4}")
    channels = [len(layer.bias) for layer in layers]
    stages = tuple(StageWidths(channels[at], channels[at + 3], channels[at + 2]) for at in starts[:-1])
    return Widths(channels[0], stages, channels[starts[-1]], channels[-1])


def _fill(path: Path, index: int, target: tuple[_Conv, bool], layer: _Layer) -> None:
    """Copy one convolution (and its PReLU) after checking that every property agrees."""
    module, residual = target
    conv = module.conv
    slope = None if module.prelu is None else module.prelu.weight
    want = (
        tuple(conv.weight.shape), conv.stride[0], conv.groups, None if slope is None else slope.numel(), residual
    )  # fmt: skip
    have = (
        tuple(layer.weight.shape), layer.stride, layer.groups,
        None if layer.slope is None else layer.slope.numel(), layer.residual,
    )  # fmt: skip
    if want != have:
        raise _unfit(path, f"convolution {index}: (shape, stride, groups, slopes, residual) is {have}, expected {want}")
    # The graph pads in a node of its own before a stride of 2.
    padding = (int(conv.padding[0]),) * 4
    if layer.padding != padding:
        raise _unfit(path, f"convolution {index}: pads {layer.padding}, expected {padding}")
    conv.weight.copy_(layer.weight)
    if conv.bias is not None:
        conv.bias.copy_(layer.bias)
    if slope is not None and layer.slope is not None:
        slope.copy_(layer.slope.reshape(-1))


def _read_layers(path: Path) -> list[_Layer]:
    """Parse the file and list its convolutions in graph order (ONNX graphs are sorted topologically)."""
    graph = _load_graph(path)
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    consumers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    return [_read_layer(path, node, tensors, consumers) for node in graph.node if node.op_type == "Conv"]


def _load_graph(path: Path) -> Any:
    """The graph of an ONNX file of bounded size; weights in other files are not followed."""
    try:
        import onnx
    except ImportError as error:
        raise DependencyError("carrying an ONNX file over to torch needs onnx: pip install onnx") from error
    if not path.is_file():
        raise EmbedderError(f"{path}: no such ONNX file")
    if path.stat().st_size > MAX_BYTES:
        raise EmbedderError(f"{path}: larger than {MAX_BYTES} bytes, no MobileFaceNet")
    try:
        model = onnx.load(str(path), load_external_data=False)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf and the checker raise errors of their own kinds
        first = (str(error).splitlines() or [""])[0]
        raise EmbedderError(f"{path}: damaged or no ONNX file ({first}); fetch it again") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise _unfit(path, "its weights lie in another file")
    return model.graph


def _read_layer(path: Path, node: Any, tensors: dict[str, Any], consumers: dict[str, list[Any]]) -> _Layer:
    """One Conv node with what directly follows it."""
    from onnx import helper

    names = list(node.input)
    if len(names) != 3 or any(name not in tensors for name in names[1:]):
        raise _unfit(path, f"{node.name or 'a Conv'} has no constant weight and bias")
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    strides = list(attributes.get("strides", [1, 1]))
    if len(strides) != 2 or strides[0] != strides[1]:
        raise _unfit(path, f"{node.name or 'a Conv'} has strides {strides}")
    followers = consumers.get(node.output[0], [])
    prelu = next((item for item in followers if item.op_type == "PRelu"), None)
    if prelu is not None and prelu.input[1] not in tensors:
        raise _unfit(path, f"{prelu.name or 'a PRelu'} has no constant slope")
    return _Layer(
        weight=_tensor(tensors[names[1]]),
        bias=_tensor(tensors[names[2]]),
        slope=None if prelu is None else _tensor(tensors[prelu.input[1]]),
        stride=int(strides[0]),
        groups=int(attributes.get("group", 1)),
        padding=tuple(int(pad) for pad in attributes.get("pads", [0, 0, 0, 0])),
        residual=any(item.op_type == "Add" and item.input[0] == node.output[0] for item in followers),
    )


def _tensor(proto: Any) -> Tensor:
    """A float32 copy of an initialiser."""
    from onnx import numpy_helper

    return torch.from_numpy(numpy_helper.to_array(proto).copy()).float()
