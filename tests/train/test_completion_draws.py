"""Which faces stage 2 draws how often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from maskfix.losses import ObjectiveWeights
from maskfix.train import completion
from maskfix.train.batches import BatchDataset
from maskfix.train.checkpoint import read_checkpoint
from maskfix.train.config import CompletionConfig
from tests.train.stores import write_store


def run(store: Path, out: Path, **changes: Any) -> Path:
    """One step on structure alone."""
    objective = ObjectiveWeights(style=0, identity=0)
    config = CompletionConfig(
        network="tiny", steps=1, batch_size=3, held_out=0.3, validate_every=0, objective=objective, **changes
    )
    return completion.train_completion(config, store, out, device="cpu", workers=0)


@pytest.fixture
def datasets(monkeypatch: pytest.MonkeyPatch) -> list[BatchDataset]:
    """The datasets that runs make."""
    made: list[BatchDataset] = []
    monkeypatch.setattr(
        completion, "BatchDataset", lambda *given, **named: made.append(BatchDataset(*given, **named)) or made[-1]
    )
    return made


def test_train__draws_emphasised_groups_more_often(tmp_path: Path, datasets: list[BatchDataset]) -> None:
    """Faces keep their own factors when some are held out."""
    folder = write_store(tmp_path / "store", 64)
    records = pd.read_csv(folder / "records.csv")
    records["image"] = [f"30_{number % 2}_{number % 5}_{number}.jpg" for number in range(len(records))]
    records.to_csv(folder / "records.csv", index=False)
    checkpoint = run(folder, tmp_path / "out", emphasis={"female": 10})
    drawn = np.concatenate([datasets[0].indices(step) for step in range(50)])
    assert (drawn % 2).mean() > 0.85
    assert read_checkpoint(checkpoint)["config"]["emphasis"] == {"female": 10}


def test_train__draws_whole_photographs_more_often(tmp_path: Path, datasets: list[BatchDataset]) -> None:
    folder = write_store(tmp_path / "store", 64)
    frames = np.load(folder / "frames.npy")
    frames[:] = [[5, 5], [60, 5], [60, 60], [5, 60]]
    frames[::2] = [[-5, -5], [70, -5], [70, 70], [-5, 70]]
    np.save(folder / "frames.npy", frames)
    checkpoint = run(folder, tmp_path / "out", whole=10.0)
    drawn = np.concatenate([datasets[0].indices(step) for step in range(50)])
    assert (drawn % 2 == 0).mean() > 0.85
    assert read_checkpoint(checkpoint)["config"]["whole"] == 10.0
