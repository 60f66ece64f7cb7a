"""What a run starts from is part of what it is made from, and of what its release says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from maskfix.base import CheckpointError, WeightsError
from maskfix.losses import ObjectiveWeights
from maskfix.restore import create_network
from maskfix.train.checkpoint import read_checkpoint, save_checkpoint
from maskfix.train.completion import train_completion
from maskfix.train.config import CompletionConfig
from maskfix.train.mix import mix_checkpoints
from maskfix.train.release import release_checkpoint
from maskfix.train.starting import describe_start
from maskfix.weights import add_to_manifest, file_sha256, read_manifest, save_weights


def run(store: Path, out: Path, start: Path | str | None = None, encoder: Path | None = None, steps: int = 1) -> Path:
    """A run of one step."""
    config = CompletionConfig(
        network="tiny",
        steps=steps,
        batch_size=3,
        held_out=0.3,
        validate_every=0,
        objective=ObjectiveWeights(identity=0, style=0),
    )
    return train_completion(config, store, out, device="cpu", workers=0, start=start, encoder=encoder)


@pytest.fixture
def released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A release of somebody else's, by its name."""
    folder = tmp_path / "weights"
    row = save_weights(folder / "tiny.theirs.safetensors", create_network("tiny").state_dict(), "tiny")
    add_to_manifest(replace(row, licence="non-commercial"), folder)
    monkeypatch.setenv("MASKFIX_WEIGHTS", str(folder))
    return "tiny.theirs"


def test_describe_start__by_hash_and_by_the_releases_behind_it(tmp_path: Path, released: str) -> None:
    assert describe_start(None, None) == {}
    path = tmp_path / "weights" / f"{released}.safetensors"
    known = {"start": {"sha256": file_sha256(path), "releases": {released: "non-commercial"}}}
    assert describe_start(None, released) == describe_start(None, path) == known
    encoder, mixed = tmp_path / "siamese.pt", tmp_path / "mixed.pt"
    save_checkpoint(encoder, {"step": 1})
    assert describe_start(encoder, None) == {"start": {"sha256": file_sha256(encoder), "releases": {}}}
    # What is started from goes before the encoder, as it does in `start_from`.
    assert describe_start(encoder, released) == known
    save_checkpoint(mixed, {"mixed": {"of": [{"step": 1, "mixed": {"of": [{"sources": known}]}}, {"step": 2}]}})
    assert describe_start(None, mixed)["start"]["releases"] == {released: "non-commercial"}
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        describe_start(tmp_path / "absent.pt", None)
    with pytest.raises(WeightsError, match="unknown"):
        describe_start(None, "tiny.absent")


def test_train__goes_on_with_the_same_start_alone(store: Path, tmp_path: Path, released: str) -> None:
    first = run(store, tmp_path / "first", released)
    second = run(store, tmp_path / "second", first)
    assert read_checkpoint(second)["sources"]["start"]["sha256"] == file_sha256(first)
    run(store, tmp_path / "second", first, steps=2)
    # A command that no longer says what it started from goes on; one that says another thing does not.
    run(store, tmp_path / "second", steps=2)
    with pytest.raises(CheckpointError, match="made from other start; give those again, or choose another --out"):
        run(store, tmp_path / "second", released, steps=2)


def test_release__says_whose_weights_it_goes_back_to(store: Path, tmp_path: Path, released: str) -> None:
    first = run(store, tmp_path / "first", released)
    second = run(store, tmp_path / "second", first)
    mixed = mix_checkpoints(run(store, tmp_path / "own"), second, 0.5, tmp_path / "mixed.pt")
    for place, checkpoint in enumerate((first, run(store, tmp_path / "third", mixed))):
        folder = tmp_path / str(place)
        release_checkpoint(checkpoint, "tiny.mine", "my own pictures", "CC0", folder)
        [row] = read_manifest(folder)
        assert row.training["sources"]["start"]["releases"] == {released: "non-commercial"}
        assert f"sources.start.releases.{released} | non-commercial" in (folder / "tiny.mine.md").read_text()
