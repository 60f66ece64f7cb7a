"""Networks to measure: the average of a training run's checkpoint, and files that are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.restorer import load_restorer
from maskfix.base import CheckpointError, MaskfixError
from maskfix.restore import CONFIGS, create_network
from maskfix.weights import file_sha256
from tests.benchmarks.held_out import TINY, write_checkpoint


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "tiny", TINY)


def test_load_restorer__takes_the_average(tmp_path: Path) -> None:
    path = tmp_path / "run3" / "completion.pt"
    average = write_checkpoint(path, share=0.03)
    restorer = load_restorer(path, "cpu", 4)
    row = restorer.weights
    assert row is not None
    assert (row.name, row.arch, row.sha256) == ("run3@7", "tiny", file_sha256(path))
    assert row.training == {"config": {"network": "tiny", "held_out": 0.03}, "step": 7}
    assert restorer.batch_size == 4
    loaded = restorer._runner.network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in average.items())


def test_load_restorer__network_without_fusion(tmp_path: Path) -> None:
    bare = create_network("tiny", fusion=False).state_dict()
    assert bare.keys() != create_network("tiny").state_dict().keys()
    average = {f"module.{key}": value for key, value in bare.items()}
    write_checkpoint(tmp_path / "completion.pt", average=average, config={"network": "tiny", "fusion": False})
    assert load_restorer(tmp_path / "completion.pt", "cpu")._runner.network.state_dict().keys() == bare.keys()


@pytest.mark.parametrize("changes", [{"average": {}}, {"config": {}}, {"average": None}, {"config": {"network": "x"}}])
def test_load_restorer__other_checkpoints(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "completion.pt"
    write_checkpoint(path, **changes)
    with pytest.raises(MaskfixError, match=r"no checkpoint of stage 2|'x' is unknown"):
        load_restorer(path, "cpu")


def test_load_restorer__missing_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MaskfixError, match="nowhere"):
        load_restorer(tmp_path / "nowhere.pt", "cpu")
    write_checkpoint(tmp_path / "completion.pt")
    hashes = iter(["a" * 64, "b" * 64])
    monkeypatch.setattr("benchmarks.restorer.file_sha256", lambda _: next(hashes))
    with pytest.raises(CheckpointError, match="replaced by its training run"):
        load_restorer(tmp_path / "completion.pt", "cpu")
