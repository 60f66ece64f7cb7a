"""Weights files of random networks that take every face for occluded, or none, and a way to run commands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from maskfix.cli import main
from maskfix.restore import create_network
from maskfix.weights import save_weights


def save_random_weights(folder: Path, bias: float) -> Path:
    """A weights file whose occlusion map is that of the bias everywhere: all for 20, nothing for -20."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = create_network("cadf_small_128")
    with torch.no_grad():
        network.decoder.occlusion.weight.zero_()
        network.decoder.occlusion.bias.fill_(bias)  # type: ignore[union-attr]
    path = folder / f"cadf_small_128.bias{bias:+.0f}.safetensors"
    save_weights(path, network.state_dict(), "cadf_small_128")
    return path


def called(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run `maskfix` in this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["maskfix", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)
