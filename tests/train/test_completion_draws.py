"""Which faces stage 2 draws how often, and which it is validated on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from maskfix.data import held_out, open_store
from maskfix.losses import ObjectiveWeights
from maskfix.train import completion
from maskfix.train.averaging import averaged_weights
from maskfix.train.batches import BatchDataset
from maskfix.train.checkpoint import read_checkpoint
from maskfix.train.config import CompletionConfig
from maskfix.train.validate import validate
from tests.train.runs import logged
from tests.train.stores import write_store


def run(store: Path, out: Path, **changes: Any) -> Path:
    """A short run on structure alone, of one step unless more are asked for."""
    objective = ObjectiveWeights(style=0, identity=0)
    config = CompletionConfig(
        network="tiny", steps=1, batch_size=3, held_out=0.3, validate_every=0, objective=objective
    )
    config = replace(config, **changes)
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


def test_train__validates_the_average_on_held_out_faces(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[dict[str, torch.Tensor], list[int]]] = []

    def noted(network: torch.nn.Module, views: Any, faces: NDArray[np.int64], *rest: Any) -> dict[str, float]:
        seen.append(({name: value.clone() for name, value in network.state_dict().items()}, faces.tolist()))
        return validate(network, views, faces, *rest)

    monkeypatch.setattr(completion, "validate", noted)
    state = read_checkpoint(run(store, tmp_path, steps=2, validate_every=2, average=0.5))
    [(weights, shown)] = seen
    names = open_store(store).names
    assert shown == np.flatnonzero(held_out(names, 0.3)).tolist()
    assert 0 < len(shown) < len(names)
    torch.testing.assert_close(weights, averaged_weights(state["average"]), rtol=0, atol=0)
    name = "decoder.occlusion.weight"
    assert not torch.equal(weights[name], state["network"][name])


def test_train__no_face_held_out_to_validate_on(store: Path, tmp_path: Path) -> None:
    [row] = logged(run(store, tmp_path, held_out=0.0, validate_every=1).with_name(completion.LOG))
    assert row["total"] > 0
    assert not [name for name in row if name.startswith("val_")]
