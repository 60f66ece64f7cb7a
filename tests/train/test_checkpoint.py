"""Checkpoints: whole or not at all, refused with one line when damaged or of another run."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskfix.base import CheckpointError
from maskfix.train.checkpoint import (
    append_log,
    load_checkpoint,
    read_checkpoint,
    read_log,
    restore,
    save_checkpoint,
    trim_log,
)
from maskfix.train.config import ViewConfig

CONFIG: dict[str, Any] = {"steps": 5, "seed": 1, "checkpoint_seconds": 3.0, "views": {"kinds": ["N95"]}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run.pt"
    save_checkpoint(path, {"config": CONFIG, "step": 2, "network": {"w": torch.arange(3.0)}})
    return path


def test_load__what_was_saved(path: Path) -> None:
    state = load_checkpoint(path, CONFIG)
    assert state is not None
    assert state["step"] == 2
    assert torch.equal(state["network"]["w"], torch.arange(3.0))


def test_load__nothing_there(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "run.pt", CONFIG) is None
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        read_checkpoint(tmp_path / "run.pt")


def test_load__steps_and_seconds_are_free(path: Path) -> None:
    assert load_checkpoint(path, CONFIG | {"steps": 50, "checkpoint_seconds": 0.0}) is not None


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 2}, "another seed;"),
        ({"views": {"kinds": []}}, "another views;"),
        ({"new": 1}, "another new;"),
        ({"seed": 2, "new": 1}, "another new, seed;"),
    ],
)
def test_load__other_configuration(path: Path, change: dict[str, Any], named: str) -> None:
    with pytest.raises(CheckpointError, match=named):
        load_checkpoint(path, CONFIG | change)


def test_load__a_later_way_of_varying_pictures_that_is_unused(path: Path) -> None:
    views = CONFIG["views"]
    assert load_checkpoint(path, CONFIG | {"views": views | {"later": 0.0}}) is not None
    with pytest.raises(CheckpointError, match="another views"):
        load_checkpoint(path, CONFIG | {"views": views | {"later": 0.1}})
    save_checkpoint(path, {"config": CONFIG | {"views": views | {"dropped": 0.0}}})
    assert load_checkpoint(path, CONFIG) is not None
    save_checkpoint(path, {"config": CONFIG | {"views": 3}})
    with pytest.raises(CheckpointError, match="another views"):
        load_checkpoint(path, CONFIG)


def test_load__a_later_way_of_varying_pictures_whose_default_is_not_zero(path: Path) -> None:
    """What a checkpoint does not name is as it is by default: of `trim_whole` that is 1."""
    assert ViewConfig().trim_whole == 1
    views = CONFIG["views"]
    assert load_checkpoint(path, CONFIG | {"views": views | {"trim_whole": 1.0}}) is not None
    for share in (0.0, 0.5):
        with pytest.raises(CheckpointError, match="another views"):
            load_checkpoint(path, CONFIG | {"views": views | {"trim_whole": share}})


def test_load__altered_number(path: Path) -> None:
    """A byte inside a tensor is no other than it was saved."""
    save_checkpoint(path, {"config": CONFIG, "weight": torch.full((64,), 1.5)})
    whole = path.read_bytes()
    place = whole.index(np.full(64, 1.5, np.float32).tobytes())
    path.write_bytes(whole[:place] + b"\x01" + whole[place + 1 :])
    with pytest.raises(CheckpointError, match=r"run\.pt: damaged checkpoint \(.* was altered\); remove it"):
        read_checkpoint(path)


def test_load__made_from_other_files(path: Path) -> None:
    assert load_checkpoint(path, CONFIG, {"faces": "1"}) is not None
    save_checkpoint(path, {"config": CONFIG, "sources": {"faces": "1"}, "step": 2})
    assert load_checkpoint(path, CONFIG, {"faces": "1"}) is not None
    with pytest.raises(CheckpointError, match="made from other faces"):
        load_checkpoint(path, CONFIG, {"faces": "2"})


def test_load__missing_key(path: Path) -> None:
    with pytest.raises(CheckpointError, match="another seed"):
        load_checkpoint(path, {key: value for key, value in CONFIG.items() if key != "seed"})


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_load__truncated(path: Path, share: float) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match=r"run\.pt: damaged checkpoint .*remove it") as caught:
        load_checkpoint(path, CONFIG)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"plain text", b"\x80\x04.", pickle.dumps([1, 2])])
def test_load__no_checkpoint(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"run\.pt"):
        load_checkpoint(path, CONFIG)


def test_load__list_instead_of_dictionary(path: Path) -> None:
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="no checkpoint of maskfix"):
        load_checkpoint(path, CONFIG)


class _Attack:
    """Pickles to a call that makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_load__executes_nothing(path: Path, tmp_path: Path) -> None:
    torch.save({"config": CONFIG, "evil": _Attack(tmp_path / "made")}, path)
    with pytest.raises(CheckpointError):
        load_checkpoint(path, CONFIG)
    assert not (tmp_path / "made").exists()


def test_save__interrupted_leaves_the_one_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = path.read_bytes()

    def half(state: Any, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, {})
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ["run.pt"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size to be set here")
def test_save__full_disk_is_one_line_and_leaves_the_one_before(path: Path) -> None:
    """In a process that may write no file of more than 8 KiB; torch says so by an error of its own."""
    before = path.read_bytes()
    code = """
import resource, signal, sys, torch
from maskfix.base import CheckpointError
from maskfix.train.checkpoint import save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    save_checkpoint(sys.argv[1], {"weight": torch.zeros(100_000)})
except (CheckpointError, OSError) as error:
    print(type(error).__name__, error)
"""
    said = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout
    assert said.startswith((f"CheckpointError {path}: cannot be written (", "OSError"))
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == ["run.pt"]


def test_read_log__whole_rows_alone(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    log.write_text('{"step": 1, "loss": 2}\n[3]\n{"loss": 4}\n{"step": 5}\n{"step": 6, "va')
    assert read_log(log) == [{"step": 1, "loss": 2}, {"step": 5}]
    trim_log(log, 4)
    assert log.read_text() == '{"step": 1, "loss": 2}\n'


def test_trim_log__drops_later_rows_and_half_a_row(tmp_path: Path) -> None:
    log = tmp_path / "run.jsonl"
    for step in range(1, 5):
        append_log(log, {"step": step, "loss": step / 2})
    with log.open("a") as stream:
        stream.write('{"step": 5, "lo')
    trim_log(log, 3)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert rows == [{"step": step, "loss": step / 2} for step in (1, 2, 3)]
    append_log(log, {"step": 4})
    assert json.loads(log.read_text().splitlines()[-1]) == {"step": 4}


def test_trim_log__no_log(tmp_path: Path) -> None:
    trim_log(tmp_path / "run.jsonl", 3)
    assert not (tmp_path / "run.jsonl").exists()


def test_restore__nothing_to_go_on_from(path: Path) -> None:
    """A mean of runs has no optimiser; a checkpoint of another network does not fit. Both are named in one line."""
    state = read_checkpoint(path)
    layer = torch.nn.Linear(2, 2)
    assert restore(None, path, {"network": layer}) == 0
    with pytest.raises(CheckpointError, match=r"run\.pt: has no optimiser.*--start"):
        restore(state, path, {"optimiser": torch.optim.SGD(layer.parameters())})
    with pytest.raises(CheckpointError, match="of another network"):
        restore(state, path, {"network": layer})
