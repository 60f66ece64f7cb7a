"""From a checkpoint to weights that a Deoccluder takes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from maskfix.base import CheckpointError, InputError
from maskfix.deocclude import Deoccluder
from maskfix.losses import ObjectiveWeights
from maskfix.restore import create_network
from maskfix.train.checkpoint import read_checkpoint, save_checkpoint
from maskfix.train.completion import train_completion
from maskfix.train.config import CompletionConfig
from maskfix.train.release import release_checkpoint
from maskfix.train.sources import run_sources
from maskfix.weights import file_sha256, load_weights, read_manifest
from tests.train.stores import smooth_pictures


def settings() -> CompletionConfig:
    """What the runs of this file share; `tiny` is known while a test runs only."""
    return CompletionConfig(
        network="tiny",
        steps=3,
        batch_size=3,
        held_out=0.3,
        validate_every=2,
        average=0.5,
        objective=ObjectiveWeights(identity=0, style=0),
    )


@pytest.fixture(scope="module")
def checkpoint(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_completion(settings(), store, tmp_path_factory.mktemp("run"), device="cpu", workers=0)


def test_release__round_trip(checkpoint: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "weights"
    path = release_checkpoint(checkpoint.parent, "tiny.test", "24 made-up faces", "CC0", folder)
    assert path == folder / "tiny.test.safetensors"
    [row] = read_manifest(folder)
    assert (row.name, row.arch, row.licence, row.data) == ("tiny.test", "tiny", "CC0", "24 made-up faces")
    assert row.sha256 == file_sha256(path)
    assert row.training["steps"] == 3
    assert row.training["samples"] == 9
    assert row.training["config"]["network"] == "tiny"
    assert row.training["sources"] == run_sources(store)
    assert row.training["last_validation"].keys() >= {"val_psnr_masked", "val_coverage_error"}
    assert [page for page in folder.rglob("*.md") if "tiny.test" in page.read_text()]

    average = {
        key.removeprefix("module."): value
        for key, value in read_checkpoint(checkpoint)["average"].items()
        if key != "n_averaged"
    }
    state, _ = load_weights(path)
    assert state.keys() == average.keys() == create_network("tiny").state_dict().keys()
    for key, value in average.items():
        torch.testing.assert_close(state[key], value.half().float() if value.is_floating_point() else value)

    monkeypatch.setenv("MASKFIX_WEIGHTS", str(folder))
    network = create_network("tiny")
    network.load_state_dict(average)
    crops = smooth_pictures(3, 64, seed=5)
    expected = Deoccluder(network, device="cpu").complete(crops)
    for name in ("tiny.test", "tiny", path):
        blind = Deoccluder.from_pretrained(name, device="cpu")
        assert blind.weights == row
        got = blind.complete(crops)
        assert np.abs(got.images.astype(int) - expected.images).max() <= 1
        np.testing.assert_allclose(got.occlusion, expected.occlusion, atol=1e-2)


def test_release__without_averaging_the_network_itself(checkpoint: Path, tmp_path: Path) -> None:
    state = read_checkpoint(checkpoint)
    state["config"]["average"] = 0
    save_checkpoint(tmp_path / "plain.pt", state)
    path = release_checkpoint(tmp_path / "plain.pt", "tiny.plain", "", "", tmp_path)
    name = "decoder.occlusion.weight"
    torch.testing.assert_close(load_weights(path)[0][name], state["network"][name].half().float())
    assert not torch.equal(state["network"][name], state["average"]["module." + name])


def test_release__no_checkpoint_of_stage_2(checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        release_checkpoint(tmp_path, "tiny.a", "", "", folder)
    save_checkpoint(tmp_path / "other.pt", {"encoder": {}, "step": 1})
    with pytest.raises(CheckpointError, match="no checkpoint of stage 2"):
        release_checkpoint(tmp_path / "other.pt", "tiny.a", "", "", folder)
    (tmp_path / "other.pt").write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="damaged"):
        release_checkpoint(tmp_path / "other.pt", "tiny.a", "", "", folder)
    assert not folder.exists()


@pytest.mark.parametrize("name", ["small.utkface", "tiny", "tiny.", "tiny.a/b", "../tiny.a", "tiny.a.safetensors"])
def test_release__name_must_start_with_the_networks(checkpoint: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"expected tiny\.TAG"):
        release_checkpoint(checkpoint, name, "", "", tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_release__average_off_in_training(store: Path, tmp_path: Path) -> None:
    path = train_completion(replace(settings(), average=0.0, steps=1), store, tmp_path, device="cpu", workers=0)
    state = read_checkpoint(path)
    released = load_weights(release_checkpoint(path, "tiny.raw", "", "", tmp_path / "weights"))[0]
    name = "encoder.levels.0.0.conv.weight"
    torch.testing.assert_close(released[name], state["network"][name].half().float())


def test_release__no_network_without_fusion(store: Path, tmp_path: Path) -> None:
    """No network of that name could be loaded from it."""
    path = train_completion(replace(settings(), fusion=False), store, tmp_path / "run", device="cpu", workers=0)
    with pytest.raises(InputError, match=r"completion\.pt: trained without fusion"):
        release_checkpoint(path, "tiny.nofusion", "24 made-up faces", "CC0", tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_release__half_a_row_in_the_log(checkpoint: Path, tmp_path: Path) -> None:
    copied = tmp_path / "run"
    shutil.copytree(checkpoint.parent, copied)
    with (copied / "completion.jsonl").open("a") as stream:
        stream.write('{"step": 4, "val_psnr_ma')
    release_checkpoint(copied, "tiny.test", "24 made-up faces", "CC0", tmp_path / "weights")
    [row] = read_manifest(tmp_path / "weights")
    assert "val_psnr_masked" in row.training["last_validation"]


def test_release__validation_of_the_checkpoint_and_what_was_mixed(checkpoint: Path, tmp_path: Path) -> None:
    mixed = {"of": ["a.pt", "b.pt"], "share": 0.5}
    save_checkpoint(tmp_path / "run.pt", read_checkpoint(checkpoint) | {"mixed": mixed})
    rows = ({"step": 3, "val_loss": 0.25}, {"step": 4, "val_loss": 0.125})
    (tmp_path / "run.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    release_checkpoint(tmp_path / "run.pt", "tiny.mixed", "", "", tmp_path / "weights")
    training = read_manifest(tmp_path / "weights")[0].training
    assert training["steps"] == 3
    assert training["last_validation"] == {"val_loss": 0.25}
    assert training["mixed"] == mixed
