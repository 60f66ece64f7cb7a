"""The loop of runs in one process, against the same run written out in NumPy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from maskfix.base import InputError
from maskfix.train.checkpoint import read_checkpoint
from maskfix.train.config import DistillationConfig
from maskfix.train.loop import learning_rate, make_fabric
from maskfix.train.single import SingleRun, refuse_torchrun, run_steps
from tests.train.runs import differences, logged

CONFIG = DistillationConfig(
    steps=5, learning_rate=0.1, warmup=2, precision="32-true", average=0.5, validate_every=2, clip=0.5
)
ROWS = np.random.default_rng(0).normal(size=(CONFIG.steps, 3)) * [[0.1], [9], [1], [5], [0.2]]


class Rows(Dataset[Any]):
    def __getitem__(self, step: int) -> Tensor:
        return torch.from_numpy(ROWS[step]).float()


def loss(model: Any, row: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Its gradient is the row itself."""
    return model(row).sum(), {"mean": float(row.mean())}


def validate(average: Any) -> dict[str, float]:
    return {"val_first": float(average.weight.detach()[0, 0])}


def run(out: Path, config: DistillationConfig = CONFIG, **given: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Checkpoint and log of a run, or of its continuation."""
    network = nn.Linear(3, 1, bias=False)
    nn.init.ones_(network.weight)
    optimiser = torch.optim.SGD(network.parameters(), lr=1.0)
    fabric = make_fabric(config.precision, "cpu")
    parts = SingleRun(config, {"average": config.average}, {"faces": "0"}, out / "run.pt", out / "run.jsonl", fabric, 0)
    path = run_steps(parts, network, optimiser, Rows(), loss, **({"validate": validate} | given))
    return read_checkpoint(path), logged(out / "run.jsonl")


def written_out() -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Weights and their average after each step."""
    weights, average = np.ones(3), np.ones(3)
    found: tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]] = ([], [])
    for step, row in enumerate(ROWS):
        clipped = row * min(1.0, CONFIG.clip / np.linalg.norm(row))
        weights = weights - learning_rate(CONFIG, step) * clipped
        decay = min(CONFIG.average, (1 + step) / (10 + step))
        # Torch's average takes the first weights over as they are.
        average = weights if step == 0 else decay * average + (1 - decay) * weights
        found[0].append(weights)
        found[1].append(average)
    return found


def test_steps__against_numpy(tmp_path: Path) -> None:
    told: list[int] = []
    state, rows = run(tmp_path, progress=lambda step, figures: told.append(step))
    weights, average = written_out()
    np.testing.assert_allclose(state["network"]["weight"][0], weights[-1], rtol=1e-5)
    np.testing.assert_allclose(state["average"]["module.weight"][0], average[-1], rtol=1e-5)
    assert told == [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose([row["mean"] for row in rows], ROWS.mean(1), rtol=1e-5)
    # Every second step and the last one are followed by a validation, of the average.
    seen = {row["step"]: row["val_first"] for row in rows if "val_first" in row}
    assert seen == pytest.approx({step: average[step - 1][0] for step in (2, 4, 5)}, rel=1e-5)


def test_continued__as_in_one_go(tmp_path: Path) -> None:
    whole, rows = run(tmp_path / "whole")

    class KilledError(Exception):
        pass

    def kill(step: int, figures: dict[str, float]) -> None:
        if step == 3:
            raise KilledError

    with pytest.raises(KilledError):
        run(tmp_path / "cut", replace(CONFIG, checkpoint_seconds=0), progress=kill)
    (tmp_path / "cut" / ".run.maskfix-0123456789ab.pt").touch()
    cut, again = run(tmp_path / "cut")
    assert differences(whole, cut) == []
    assert again == rows
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["run.jsonl", "run.pt"]


def test_without_validation(tmp_path: Path) -> None:
    _, rows = run(tmp_path, validate=None)
    assert [set(row) for row in rows] == [{"step", "mean"}] * 5


def test_torchrun__refused(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_torchrun("a recogniser is distilled", "maskfix train recogniser")
    for name, value in (("TORCHELASTIC_RUN_ID", "0"), ("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    with pytest.raises(
        InputError, match="torchrun: a recogniser is distilled in one process; start maskfix train recogniser without"
    ):
        refuse_torchrun("a recogniser is distilled", "maskfix train recogniser")
