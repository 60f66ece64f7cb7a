"""Weights files of random networks that take every face for occluded, or none, and a way to run commands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from maskfix.cli import main
from maskfix.weights import save_weights
from tests.random_networks import biased_network


def save_random_weights(folder: Path, bias: float) -> Path:
    """A weights file of `biased_network`."""
    network = biased_network(bias)
    path = folder / f"cadf_small_128.bias{bias:+.0f}.safetensors"
    save_weights(path, network.state_dict(), "cadf_small_128")
    return path


def called(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    """Run `maskfix` in this process; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["maskfix", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)
