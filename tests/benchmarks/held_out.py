"""Stores, checkpoints and a recogniser for the tests of what is measured on held-out faces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torchvision.models import mobilenet_v2

from maskfix.base import FloatArray, UInt8Array, arcface_layout
from maskfix.restore import NetworkConfig, create_network
from maskfix.train.checkpoint import save_checkpoint
from tests.train.stores import write_store

TINY = NetworkConfig(
    size=64, widths=(8, 8, 12, 12, 16, 16), kernels=(3,) * 6, full_width=8, fusion_width=6, projection=16
)


class Corner:
    """The mean of the lowest rows against a constant, as a unit vector; keeps what it saw."""

    dimension = 2

    def __init__(self, name: str = "corner", size: int = 112) -> None:
        self.name, self.layout, self.sha256 = name, arcface_layout(size), "ab" * 32
        self.seen: list[UInt8Array] = []

    def embed(self, crops: UInt8Array) -> FloatArray:
        self.seen.append(crops)
        level = crops[:, -8:].mean(axis=(1, 2, 3))
        vectors = np.stack([level, np.full_like(level, 100)], axis=1)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def write_faces(folder: Path, count: int = 60) -> Path:
    """A store of 64 pixels with UTKFace's names but for the last."""
    write_store(folder, 64, count)
    records = pd.read_csv(folder / "records.csv")
    names = [f"{number}_{number % 2}_{number % 5}_20170101.jpg" for number in range(1, count)]
    records["image"] = [*names, "somebody.jpg", "empty.png"]
    records.to_csv(folder / "records.csv", index=False)
    return folder


def write_checkpoint(path: Path, share: float = 0.5, **changes: Any) -> dict[str, torch.Tensor]:
    """Write a stage 2 checkpoint; returns the averaged weights, which differ from the network's."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, average = create_network("tiny").state_dict(), create_network("tiny").state_dict()
    state = {
        "config": {"network": "tiny", "held_out": share},
        "step": 7,
        "network": network,
        "average": {"n_averaged": torch.tensor(3)} | {f"module.{key}": value for key, value in average.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, state | changes)
    return average


def mask_detector_layers() -> nn.ModuleDict:
    """mask-recognition's two parts, put together from torchvision's own and torch's."""
    top = nn.Sequential(nn.Linear(20480, 256), nn.ReLU(), nn.Linear(256, 2), nn.LogSoftmax(dim=1))
    return nn.ModuleDict({"bottom": mobilenet_v2(weights=None).features, "top": top})


def write_mask_detector(path: Path) -> dict[str, torch.Tensor]:
    """Write a file with the names and shapes of mask-recognition's; returns its random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = mask_detector_layers()
        # Batch norms that have seen something: with those of a new network all pictures give the same answer.
        for _ in range(40):
            layers["bottom"](torch.rand(4, 3, 4, 4).repeat_interleave(32, 2).repeat_interleave(32, 3) * 2 - 1)
    state = layers.state_dict()
    torch.save(state, path)
    return state
