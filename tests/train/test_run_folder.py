"""A run's folder: no other process's meanwhile, cleared of what a killed one left, spared a loss that is no number."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from maskfix.base import CheckpointError, MaskfixError
from maskfix.losses import ObjectiveWeights
from maskfix.train import checkpoint, completion, siamese, single
from maskfix.train.checkpoint import only_run, read_checkpoint
from maskfix.train.config import AveragedConfig, CompletionConfig, SiameseConfig
from maskfix.train.loop import make_fabric
from tests.train.runs import logged

Run = Callable[[Path], Path]


class Rows(Dataset[Any]):
    def __getitem__(self, step: int) -> torch.Tensor:
        return torch.ones(3)


@pytest.fixture(params=["siamese", "completion", "single"])
def run(request: pytest.FixtureRequest, store: Path) -> Run:
    """A run of three steps that saves after each, of every loop that there is."""
    plain = ObjectiveWeights(identity=0, style=0)
    common: dict[str, Any] = {"steps": 3, "checkpoint_seconds": 0, "precision": "32-true"}
    stage: dict[str, Any] = common | {"network": "tiny", "batch_size": 3, "held_out": 0.3}

    def one(out: Path) -> Path:
        if request.param == "siamese":
            return siamese.train_siamese(SiameseConfig(**stage), store, out, device="cpu", workers=0)
        if request.param == "completion":
            config = CompletionConfig(**stage, validate_every=0, objective=plain, clip=0)
            return completion.train_completion(config, store, out, device="cpu", workers=0)
        network = nn.Linear(3, 1)
        parts = single.SingleRun(
            AveragedConfig(**common, average=0.5, clip=0),
            {},
            {},
            out / "run.pt",
            out / "run.jsonl",
            make_fabric("32"),
            0,
        )
        loss = lambda model, row: (model(row).sum(), {"loss": 1.0})  # noqa: E731
        return single.run_steps(parts, network, torch.optim.SGD(network.parameters(), lr=0.1), Rows(), loss)

    return one


def test_one_process_at_a_time(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_PATIENCE", 0.2)
    with only_run(tmp_path), pytest.raises(CheckpointError, match="another process trains there; wait for it, or"):
        run(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert read_checkpoint(run(tmp_path))["step"] == 3


def test_a_killed_run_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its loader processes hold the lock for some seconds more."""
    first = only_run(tmp_path)
    first.__enter__()
    monkeypatch.setattr(checkpoint.time, "sleep", lambda seconds: first.__exit__(None, None, None))
    with only_run(tmp_path):
        pass


def test_leftovers_go(run: Run, tmp_path: Path) -> None:
    path = run(tmp_path)
    left = [f".{path.stem}.maskfix-0123456789ab.{suffix}" for suffix in ("pt", "jsonl")]
    for name in left:
        (tmp_path / name).touch()
    run(tmp_path)
    assert sorted(item.name for item in tmp_path.iterdir()) == [f"{path.stem}.jsonl", path.name]


def test_loss_that_is_no_number(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The step before is kept, and the log ends with it."""
    backwards: list[int] = []
    backward = torch.Tensor.backward

    def third_is_infinite(loss: torch.Tensor, *given: Any, **named: Any) -> None:
        backwards.append(1)
        backward(loss * (math.inf if len(backwards) == 3 else 1), *given, **named)

    monkeypatch.setattr(torch.Tensor, "backward", third_is_infinite)
    with pytest.raises(
        MaskfixError, match=r"step 3: the loss or its gradient is not finite, and .*\.pt stays as it was"
    ):
        run(tmp_path)
    [path] = tmp_path.glob("*.pt")
    state = read_checkpoint(path)
    assert state["step"] == 2
    assert all(bool(value.isfinite().all()) for value in state["network"].values())
    assert [row["step"] for row in logged(path.with_suffix(".jsonl"))] == [1, 2]
    monkeypatch.setattr(torch.Tensor, "backward", backward)
    assert read_checkpoint(run(tmp_path))["step"] == 3


def test_clipping_is_left_out_where_it_is_off(tmp_path: Path) -> None:
    """The norm is asked for all the same; gradients stay what they are."""
    found = []
    for clip in (0.0, 1e9):
        network = nn.Linear(3, 1, bias=False)
        nn.init.ones_(network.weight)
        config = replace(AveragedConfig(steps=1, precision="32-true", average=0.5, warmup=0), clip=clip)
        out = tmp_path / str(clip)
        parts = single.SingleRun(config, {}, {}, out / "run.pt", out / "run.jsonl", make_fabric("32-true", "cpu"), 0)
        loss = lambda model, row: (1e3 * model(row).sum(), {})  # noqa: E731
        single.run_steps(parts, network, torch.optim.SGD(network.parameters(), lr=1.0), Rows(), loss)
        found.append(network.weight.detach())
    torch.testing.assert_close(*found)
    torch.testing.assert_close(found[0], 1 - 1e3 * config.learning_rate * torch.ones(1, 3))
