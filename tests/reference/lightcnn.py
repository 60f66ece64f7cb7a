"""A twin of LightCNN written from the paper's tables as a list of steps over a state dict, without modules."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

State = Mapping[str, Tensor]


def _halves(y: Tensor) -> Tensor:
    """Max-feature-map: channel k against channel k + C."""
    return y.reshape(len(y), 2, y.shape[1] // 2, *y.shape[2:]).amax(1)


class Twin:
    """Runs the steps; `maps` keeps what each named layer gives."""

    def __init__(self, state: State, faces: Tensor) -> None:
        self.state, self.maps, self.x = state, {"": faces}, faces

    def keep(self, name: str) -> None:
        self.maps[name] = self.x

    def conv(self, name: str) -> None:
        weight, bias = self.state[f"{name}.filter.weight"], self.state[f"{name}.filter.bias"]
        self.x = _halves(functional.conv2d(self.x, weight, bias, padding=(weight.shape[-1] - 1) // 2))
        self.keep(name)

    def group(self, name: str) -> None:
        self.conv(f"{name}.conv_a")
        self.conv(f"{name}.conv")
        self.keep(name)

    def residual(self, name: str) -> None:
        before = self.x
        self.conv(f"{name}.conv1")
        self.conv(f"{name}.conv2")
        self.x = self.x + before
        self.keep(name)

    def pool(self, mean_too: bool = False) -> None:
        # Windows as columns, not torch's own pooling.
        columns = functional.unfold(self.x, 2, stride=2)
        n, c, h, w = self.x.shape
        windows = columns.reshape(n, c, 4, h // 2, w // 2)
        self.x = windows.amax(2) + (windows.mean(2) if mean_too else 0)


def lightcnn9(state: State, faces: Tensor) -> dict[str, Tensor]:
    """All maps of LightCNN-9 by module name, the embedding last."""
    twin = Twin(state, faces)
    twin.conv("features.0")
    twin.pool()
    twin.group("features.2")
    twin.pool()
    twin.group("features.4")
    twin.pool()
    twin.group("features.6")
    twin.group("features.7")
    twin.pool()
    twin.x = _halves(twin.x.reshape(len(faces), -1) @ state["fc1.filter.weight"].T + state["fc1.filter.bias"])
    twin.keep("fc1")
    return twin.maps


def lightcnn29(state: State, faces: Tensor, second: bool = False) -> dict[str, Tensor]:
    """All maps of LightCNN-29, or of 29v2 where `second`, by module name, the embedding last."""
    twin = Twin(state, faces)
    twin.conv("conv1")
    twin.pool(second)
    for stage, (blocks, pooled) in enumerate([(1, True), (2, True), (3, False), (4, True)], 1):
        for block in range(blocks):
            twin.residual(f"block{stage}.{block}")
        twin.group(f"group{stage}")
        if pooled:
            twin.pool(second)
    flat = twin.x.reshape(len(faces), -1)
    if second:
        twin.x = flat @ state["fc.weight"].T + state["fc.bias"]
    else:
        twin.x = _halves(flat @ state["fc.filter.weight"].T + state["fc.filter.bias"])
    twin.keep("fc")
    return twin.maps


def lightcnn29v2(state: State, faces: Tensor) -> dict[str, Tensor]:
    """All maps of LightCNN-29v2 by module name, the embedding last."""
    return lightcnn29(state, faces, second=True)


def parameter_count(convolutions: list[tuple[int, int, int]], head: tuple[int, int]) -> int:
    """Weights and biases of a network of max-feature-map convolutions (inputs, outputs, kernel) and a linear head."""
    counts = [inputs * kernel * kernel * 2 * outputs + 2 * outputs for inputs, outputs, kernel in convolutions]
    return sum(counts) + head[0] * head[1] + head[1]


def random_state(shapes: Mapping[str, torch.Size], seed: int) -> dict[str, Tensor]:
    """Random weights under which activations neither die nor explode."""
    generator = torch.Generator().manual_seed(seed)
    return {
        key: torch.randn(shape, generator=generator) * (0.1 if len(shape) == 1 else (1 / shape[1:].numel()) ** 0.5)
        for key, shape in shapes.items()
    }
