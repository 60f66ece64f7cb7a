"""LightCNN-9, -29 and -29v2 (Wu et al., 2018) as torch modules that take the published checkpoints key by key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskfix.base import (
    EmbedderError,
    UInt8Array,
    check_choice,
    check_shape,
    resolve_device,
)
from maskfix.embed.base import RawBatchEmbedder, grey_crops
from maskfix.embed.checkpoints import build_loaded, is_path, read_state
from maskfix.embed.layouts import lightcnn_layout
from maskfix.weights import load_weights

INPUT_SIZE = 128
"""Side of the crop in pixels."""

DIMENSION = 256
"""Length of the embedding."""

#: Channels that leave the first convolution and the stages at strides 2, 4 and 8 (the last stage has two groups).
_WIDTHS = (48, 96, 192, 128, 128)
#: Residual blocks before each group of the 29-layer networks.
_REPEATS = (1, 2, 3, 4)
_FLAT = _WIDTHS[-1] * (INPUT_SIZE // 16) ** 2

#: Layers between the embedding and the classes of the training set; they are no part of the recogniser.
_CLASSIFIER = "fc2."


class _LargerHalf(torch.autograd.Function):
    """The larger of channels k and k + C; the gradient of `torch.maximum` takes two thirds more time over a network."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        ctx.save_for_backward(first >= second)
        return torch.maximum(first, second)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (gradient,) = gradients
        (is_first,) = ctx.saved_tensors
        first = torch.where(is_first, gradient, gradient.new_zeros(()))
        return torch.cat([first, gradient - first], 1)


class MaxFeatureMap(nn.Module):
    """Max-feature-map 2/1 (Wu et al., 2018, eq. 4): twice the channels are computed, the larger of each pair stays.

    Channel k competes with channel k + C, where C channels go out.

    Args:
        layer: Convolution or linear layer with 2C outputs.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.filter = layer

    def forward(self, x: Tensor) -> Tensor:
        """Map `(N, I, ...)` to `(N, C, ...)`."""
        both = self.filter(x)
        if self.training:
            larger: Tensor = _LargerHalf.apply(both)
            return larger
        return torch.maximum(*both.chunk(2, dim=1))


def _convolution(inputs: int, outputs: int, kernel: int) -> MaxFeatureMap:
    """A convolution that keeps the size, with max-feature-map."""
    return MaxFeatureMap(nn.Conv2d(inputs, 2 * outputs, kernel, padding=kernel // 2))


class _Group(nn.Module):
    """A 1x1 convolution that keeps the channels (network in network), then a 3x3 one that changes them."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_a = _convolution(inputs, inputs, 1)
        self.conv = _convolution(inputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(self.conv_a(x))
        return y


class _Residual(nn.Module):
    """Two 3x3 convolutions, and the input added; no normalisation and no activation but max-feature-map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = _convolution(channels, channels, 3)
        self.conv2 = _convolution(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv2(self.conv1(x))
        return x + y


class LightCNN9(nn.Module):
    """LightCNN-9 (Wu et al., 2018, table 1): 5,480,864 parameters.

    Example:
        >>> tuple(LightCNN9()(torch.rand(2, 1, 128, 128)).shape)
        (2, 256)
    """

    def __init__(self) -> None:
        super().__init__()
        first, second, third, fourth, fifth = _WIDTHS
        # Where the poolings stand gives the published keys their numbers.
        self.features = nn.Sequential(
            _convolution(1, first, 5),
            nn.MaxPool2d(2),
            _Group(first, second),
            nn.MaxPool2d(2),
            _Group(second, third),
            nn.MaxPool2d(2),
            _Group(third, fourth),
            _Group(fourth, fifth),
            nn.MaxPool2d(2),
        )
        self.fc1 = MaxFeatureMap(nn.Linear(_FLAT, 2 * DIMENSION))

    def forward(self, faces: Tensor) -> Tensor:
        """Embed faces.

        Args:
            faces: `(N, 1, 128, 128)` grey in [0, 1], aligned as `lightcnn_layout`.

        Returns:
            `(N, 256)`, not scaled to unit length; compare by cosine.

        Raises:
            InputError: If the shape differs.
        """
        check_shape("faces", faces, (None, 1, INPUT_SIZE, INPUT_SIZE))
        embedding: Tensor = self.fc1(self.features(faces).flatten(1))
        return embedding


class LightCNN29(nn.Module):
    """LightCNN-29 (Wu et al., 2018, table 2): residual blocks before every group; 12,573,280 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _convolution(1, _WIDTHS[0], 5)
        for index, repeats in enumerate(_REPEATS):
            inputs, outputs = _WIDTHS[index : index + 2]
            self.add_module(f"block{index + 1}", nn.Sequential(*(_Residual(inputs) for _ in range(repeats))))
            self.add_module(f"group{index + 1}", _Group(inputs, outputs))
        self.fc = self._head()

    @staticmethod
    def _head() -> nn.Module:
        return MaxFeatureMap(nn.Linear(_FLAT, 2 * DIMENSION))

    @staticmethod
    def _pool(x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 2)

    def forward(self, faces: Tensor) -> Tensor:
        """Embed faces; shapes, range and errors as `LightCNN9.forward`."""
        check_shape("faces", faces, (None, 1, INPUT_SIZE, INPUT_SIZE))
        x = self._pool(self.conv1(faces))
        for index in range(len(_REPEATS)):
            x = self.get_submodule(f"group{index + 1}")(self.get_submodule(f"block{index + 1}")(x))
            # The third and the fourth stage share one size.
            if index != 2:
                x = self._pool(x)
        embedding: Tensor = self.fc(x.flatten(1))
        return embedding


class LightCNN29v2(LightCNN29):
    """LightCNN-29v2, the authors' later release: maximum plus mean pooling, linear embedding; 10,475,872 parameters."""

    @staticmethod
    def _head() -> nn.Module:
        return nn.Linear(_FLAT, DIMENSION)

    @staticmethod
    def _pool(x: Tensor) -> Tensor:
        return functional.max_pool2d(x, 2) + functional.avg_pool2d(x, 2)


_VARIANTS: dict[str, Callable[[], nn.Module]] = {
    "lightcnn9": LightCNN9,
    "lightcnn29": LightCNN29,
    "lightcnn29v2": LightCNN29v2,
}

#: Keys of which a checkpoint of that variant alone has every one.
_MARKS = {
    "lightcnn9": ("features.0.filter.weight", "fc1.filter.weight"),
    "lightcnn29": ("conv1.filter.weight", "fc.filter.weight"),
    "lightcnn29v2": ("conv1.filter.weight", "fc.weight"),
}


def create_lightcnn(variant: str) -> nn.Module:
    """A LightCNN with random weights.

    Args:
        variant: `lightcnn9`, `lightcnn29` or `lightcnn29v2`.

    Raises:
        InputError: If the variant is unknown.
    """
    check_choice("variant", variant, _VARIANTS)
    return _VARIANTS[variant]()


def recognise_variant(keys: Mapping[str, object] | set[str]) -> str | None:
    """Which LightCNN a state dict belongs to by its keys; None where it is none of the three.

    Example:
        >>> recognise_variant({"conv1.filter.weight", "fc.weight"})
        'lightcnn29v2'
    """
    return next((name for name, marks in _MARKS.items() if all(mark in keys for mark in marks)), None)


class Loaded(NamedTuple):
    """A LightCNN from a file.

    Attributes:
        network: The network, frozen and in evaluation mode.
        variant: `lightcnn9`, `lightcnn29` or `lightcnn29v2`.
        sha256: Hash of the file.
        name: Name of the release, or of the file without its suffixes.
    """

    network: nn.Module
    variant: str
    sha256: str
    name: str


def load_lightcnn(source: str | Path) -> Loaded:
    """Load a LightCNN from a published checkpoint or from weights of maskfix.

    Args:
        source: A checkpoint as the authors publish it (`LightCNN_*_checkpoint.pth.tar`, which is no archive whatever
            its name says, or `.pth`), a `.safetensors` file of maskfix, or a release of maskfix: `lightcnn9.TAG`, or
            `lightcnn9` for the last one of that network.

    Raises:
        EmbedderError: If the file is missing, damaged, something else, or another network.
        WeightsError: If a `.safetensors` file or a release is missing, damaged or not the one that its manifest lists.
    """
    name = _stem(str(source))
    if is_path(str(source)):
        state, sha256 = read_state(source)
    else:
        state, row = load_weights(str(source))
        sha256, name = row.sha256, row.name
    state = {key: value for key, value in state.items() if not key.startswith(_CLASSIFIER)}
    variant = recognise_variant(state)
    if variant is None:
        found = ", ".join(list(state)[:3]) or "none"
        raise EmbedderError(f"{source}: no LightCNN-9, -29 or -29v2; its first keys are {found}")
    return Loaded(build_loaded(_VARIANTS[variant], state, source, variant), variant, sha256, name)


class LightCnnEmbedder(RawBatchEmbedder):
    """A LightCNN as a recogniser; it takes colour crops and greys them itself.

    Args:
        source: As `load_lightcnn`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        batch_size: Crops per call of the network, at least 1.

    Raises:
        EmbedderError: As `load_lightcnn`.
        WeightsError: As `load_lightcnn`.
        InputError: If the batch size is below 1 or the device is not there.

    Attributes:
        name: `lightcnn:` and the release's name, or the file's without its suffixes.
        layout: LightCNN's crop of 128 pixels.
        dimension: 256.
        sha256: Hash of the checkpoint.
        variant: `lightcnn9`, `lightcnn29` or `lightcnn29v2`.
        network: The network, frozen; it takes grey tensors `(N, 1, 128, 128)` in [0, 1].
    """

    dimension = DIMENSION

    def __init__(self, source: str | Path, device: str = "auto", batch_size: int = 64) -> None:
        super().__init__(batch_size)
        self._device = torch.device(resolve_device(device))
        network, self.variant, self.sha256, name = load_lightcnn(source)
        self.network = network.to(self._device)
        self.name = f"lightcnn:{name}"
        self.layout = lightcnn_layout()

    @torch.inference_mode()
    def _run(self, crops: UInt8Array) -> Tensor:
        """One batch through the network."""
        grey = torch.from_numpy(grey_crops(crops))[:, None]
        with torch.autocast(self._device.type, enabled=False):  # a caller's would round the vectors
            embedded: Tensor = self.network(grey.to(self._device).float() / 255).cpu()
        return embedded


def _stem(source: str) -> str:
    """A file's name without `.pth.tar`, `.pth` or `.safetensors`."""
    name = Path(source).name
    for suffix in (".tar", ".pth", ".pt", ".safetensors"):
        name = name.removesuffix(suffix)
    return name
