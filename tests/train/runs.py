"""Runs of the training command that are killed, the comparison of what they leave behind, a stand-in for texture."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn


class MeanColour(nn.Module):
    """Stands for the texture networks: the mean colour is the embedding, the picture itself the style map."""

    style_network = identity_networks = "stand-in"
    sha256: ClassVar = {"stand-in": "0" * 64}
    count = 1

    def dimensions(self) -> list[int]:
        return [3]

    def one(self, step: int) -> MeanColour:
        return self

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        return images.mean((2, 3)), [images]

    def opinions(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"stand-in": images.mean((2, 3))}


def logged(path: Path) -> list[dict[str, Any]]:
    """Rows of a training log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def differences(first: Any, second: Any, place: str = "") -> list[str]:
    """Places at which two checkpoints differ beyond the last bits of a sum; `steps` and `checkpoint_seconds` may."""
    if isinstance(first, dict) and isinstance(second, dict):
        found = [f"{place}/{key}" for key in first.keys() ^ second.keys()]
        for key in first.keys() & second.keys() - {"steps", "checkpoint_seconds"}:
            found += differences(first[key], second[key], f"{place}/{key}")
        return found
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        return [x for i, pair in enumerate(zip(first, second, strict=True)) for x in differences(*pair, f"{place}/{i}")]
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        same = first.shape == second.shape and torch.allclose(first.double(), second.double(), rtol=1e-6, atol=1e-7)
        return [] if same else [place]
    return [] if first == second else [place]


def kill_after_two_rows(stage: str, config: str, store: Path, out: Path) -> Path:
    """Start `maskfix train STAGE`, kill -9 it once its log has two rows, and return its checkpoint.

    Raises:
        RuntimeError: If the command ends by itself or writes nothing within ten minutes.
    """
    out.mkdir(parents=True)
    settings = out.with_suffix(".toml")
    settings.write_text(config, encoding="utf-8")
    words = ["train", stage, "--faces", store, "--out", out, "--config", settings, "--steps", "1000"]
    command = [sys.executable, "-m", "maskfix", *map(str, words), "--device", "cpu", "--workers", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    log = out / f"{stage}.jsonl"
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        limit = time.monotonic() + 600
        while not (log.exists() and log.read_bytes().count(b"\n") >= 2):
            if process.poll() is not None or time.monotonic() > limit:
                process.kill()
                raise RuntimeError(f"{stage} did not get as far as step 2: {process.communicate()[0].decode()}")
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    return out / f"{stage}.pt"
