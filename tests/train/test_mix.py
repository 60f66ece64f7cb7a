"""Averages of two runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maskfix.base import CheckpointError, InputError
from maskfix.restore import CONFIGS, create_network
from maskfix.train.averaging import averaged_weights
from maskfix.train.checkpoint import read_checkpoint, save_checkpoint
from maskfix.train.mix import mix_checkpoints


def write(path: Path, seed: int, network: str = "tiny") -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        weights = create_network(network).state_dict()
    average = {f"module.{key}": value for key, value in weights.items()} | {"n_averaged": torch.tensor(seed)}
    config = {"network": network, "average": 0.9, "seed": seed}
    save_checkpoint(path, {"config": config, "step": seed, "network": {}, "average": average, "optimiser": {}})
    return path


def test_mix__number_by_number(tmp_path: Path) -> None:
    first, second = write(tmp_path / "1.pt", 1), write(tmp_path / "2.pt", 2)
    mixed = read_checkpoint(mix_checkpoints(first, second, 0.25, tmp_path / "mix.pt"))
    one, two = (averaged_weights(read_checkpoint(path)["average"]) for path in (first, second))
    found = averaged_weights(mixed["average"])
    assert found.keys() == one.keys()
    for key, value in found.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.75 * one[key] + 0.25 * two[key])
        else:
            assert value.dtype == one[key].dtype
    assert mixed["average"]["n_averaged"] == 2
    assert mixed["step"] == 2
    assert mixed["mixed"]["share"] == 0.25
    create_network("tiny").load_state_dict(mixed["network"])


def test_mix__says_what_both_were_made_from(tmp_path: Path) -> None:
    first, second = write(tmp_path / "1.pt", 1), write(tmp_path / "2.pt", 2)
    save_checkpoint(first, read_checkpoint(first) | {"sources": {"faces": "a" * 64}})
    once = mix_checkpoints(first, second, 0.25, tmp_path / "once.pt")
    twice = read_checkpoint(mix_checkpoints(once, second, 0.5, tmp_path / "twice.pt"))
    one = {"file": str(first), "step": 1, "sources": {"faces": "a" * 64}}
    two = {"file": str(second), "step": 2}
    assert twice["mixed"]["of"] == [{"file": str(once), "step": 2, "mixed": {"of": [one, two], "share": 0.25}}, two]
    assert "sources" not in twice


def test_mix__layers_that_the_second_has_alone(tmp_path: Path) -> None:
    first, second = write(tmp_path / "1.pt", 1), write(tmp_path / "2.pt", 2)
    state = read_checkpoint(second)
    added = torch.arange(3.0)
    save_checkpoint(second, state | {"average": state["average"] | {"module.more": added}})
    mixed = read_checkpoint(mix_checkpoints(first, second, 0.25, tmp_path / "mix.pt"))
    torch.testing.assert_close(mixed["network"]["more"], added)
    with pytest.raises(CheckpointError, match=r"1\.pt: its network is not that of"):
        mix_checkpoints(second, first, 0.25, tmp_path / "mix.pt")


def test_mix__a_network_without_expansions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts as one whose expansions add nothing: of the second's last norms, their share is left."""
    first = write(tmp_path / "1.pt", 1)
    monkeypatch.setitem(CONFIGS, "wide", replace(CONFIGS["tiny"], decoder_expansions=(0, 1)))
    second = write(tmp_path / "2.pt", 2, "wide")
    state = read_checkpoint(second)
    block = "module.decoder.expansions.1.0."
    state["average"][block + "norm.weight"].fill_(4.0)
    save_checkpoint(second, state)
    mixed = read_checkpoint(mix_checkpoints(first, second, 0.25, tmp_path / "mix.pt"))["average"]
    assert mixed[block + "norm.weight"].tolist() == [1.0] * 8
    for name in ("narrow.weight", "widen.norm.weight", "norm.running_var"):
        torch.testing.assert_close(mixed[block + name], state["average"][block + name])
    name = "module.decoder.occlusion.weight"
    torch.testing.assert_close(
        mixed[name], 0.75 * read_checkpoint(first)["average"][name] + 0.25 * state["average"][name]
    )


def test_mix__bad_input(tmp_path: Path) -> None:
    first, second = write(tmp_path / "1.pt", 1), write(tmp_path / "2.pt", 2)
    with pytest.raises(InputError, match="share"):
        mix_checkpoints(first, second, 1.5, tmp_path / "mix.pt")
    save_checkpoint(second, {"encoder": {}})
    with pytest.raises(CheckpointError, match=r"2\.pt: no checkpoint of stage 2"):
        mix_checkpoints(first, second, 0.5, tmp_path / "mix.pt")
    write(second, 2, "cadf_small_128")
    with pytest.raises(CheckpointError, match=r"2\.pt: its network is not that of"):
        mix_checkpoints(first, second, 0.5, tmp_path / "mix.pt")
    assert not (tmp_path / "mix.pt").exists()
