"""Stage 2: what a run leaves behind, the moving average, where it starts from, and that it survives being killed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from maskfix.base import CheckpointError, DatasetError, InputError, WeightsError
from maskfix.losses import ObjectiveWeights
from maskfix.restore import CONFIGS, PREFIX, EarlyLook, create_network
from maskfix.train import completion
from maskfix.train.averaging import average_of
from maskfix.train.batches import Batch
from maskfix.train.checkpoint import read_checkpoint, save_checkpoint
from maskfix.train.completion import CHECKPOINT, LOG, targets_of, train_completion
from maskfix.train.config import CompletionConfig, ViewConfig
from maskfix.weights import add_to_manifest, load_weights, save_weights
from tests.train.runs import differences, kill_after_two_rows, logged

PLAIN = ObjectiveWeights(identity=0, style=0)


def settings() -> CompletionConfig:
    """What the runs of this file share; `tiny` is known while a test runs only."""
    return CompletionConfig(
        network="tiny", steps=4, batch_size=3, held_out=0.3, checkpoint_seconds=0, validate_every=3, objective=PLAIN
    )


def run(config: CompletionConfig, store: Path, out: Path, **changes: Any) -> Path:
    return train_completion(config, store, out, device="cpu", workers=0, **changes)


def trained(log: Path) -> list[dict[str, Any]]:
    """Rows of a log without the validation, which a run that ends earlier does at its own last step."""
    return [{key: value for key, value in row.items() if not key.startswith("val_")} for row in logged(log)]


@pytest.fixture(scope="module")
def unbroken(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps."""
    return run(settings(), store, tmp_path_factory.mktemp("completion"))


def test_train__log_and_checkpoint(unbroken: Path) -> None:
    rows = logged(unbroken.with_name(LOG))
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        assert row["total"] == pytest.approx(
            6 * row["reconstruction"] + 0.1 * row["correspondence"] + row["occlusion"], rel=1e-5
        )
    # Every third step and the last one.
    assert ["val_psnr_masked" in row for row in rows] == [False, False, True, True]
    assert all(0 <= row["val_coverage_error"] <= 1 for row in rows[2:])
    state = read_checkpoint(unbroken)
    assert state["step"] == 4
    assert state["config"]["style_network"] == "none"
    assert state["config"]["objective"]["texture_scales"] == [1, 2, 3]


def test_train__resumes_as_if_unbroken(store: Path, unbroken: Path, tmp_path: Path) -> None:
    """From a checkpoint that is older than the log's last row."""
    run(replace(settings(), steps=2), store, tmp_path)
    shutil.copy(tmp_path / CHECKPOINT, tmp_path / "older")
    run(replace(settings(), steps=3), store, tmp_path)
    (tmp_path / "older").replace(tmp_path / CHECKPOINT)
    resumed = run(settings(), store, tmp_path)
    assert differences(read_checkpoint(resumed), read_checkpoint(unbroken)) == []
    assert trained(tmp_path / LOG) == trained(unbroken.with_name(LOG))


def test_train__log_without_checkpoint_starts_anew(store: Path, tmp_path: Path) -> None:
    (tmp_path / LOG).write_text('{"step": 1, "total": -1.0}\n{"step": 2, "total": -1.0}\n')
    run(replace(settings(), steps=1), store, tmp_path)
    assert [row["total"] > 0 for row in logged(tmp_path / LOG)] == [True]


def test_train__average_is_the_moving_average(store: Path, tmp_path: Path) -> None:
    """avg_1 = w_1; then avg <- d avg + (1 - d) w with d growing as (1 + s) / (10 + s), at most the configured one."""
    config = replace(settings(), validate_every=0, average=0.15)
    states = [read_checkpoint(run(replace(config, steps=steps), store, tmp_path)) for steps in (1, 2, 3)]
    name = "decoder.occlusion.weight"
    weights = [state["network"][name] for state in states]
    expected = weights[0]
    torch.testing.assert_close(states[0]["average"]["module." + name], expected)
    for step, decay in ((1, 0.15), (2, 0.15)):
        assert decay <= (1 + step) / (10 + step)
        expected = decay * expected + (1 - decay) * weights[step]
        torch.testing.assert_close(states[step]["average"]["module." + name], expected)
    assert not torch.equal(weights[0], weights[1])


def test_train__early_average_has_a_short_memory(store: Path, tmp_path: Path) -> None:
    config = replace(settings(), validate_every=0)
    states = [read_checkpoint(run(replace(config, steps=steps), store, tmp_path)) for steps in (1, 2)]
    name = "decoder.occlusion.weight"
    expected = 2 / 11 * states[0]["network"][name] + 9 / 11 * states[1]["network"][name]
    torch.testing.assert_close(states[1]["average"]["module." + name], expected)


def test_train__learns(store: Path, tmp_path: Path) -> None:
    """On a store of this size thirty steps are enough to bring the objective down by a third."""
    config = replace(settings(), steps=30, batch_size=4, learning_rate=3e-3, validate_every=0, checkpoint_seconds=1e9)
    run(config, store, tmp_path)
    totals = [row["total"] for row in logged(tmp_path / LOG)]
    assert sum(totals[-5:]) < 0.67 * sum(totals[:5])


def test_train__adam_at_the_scheduled_rate(store: Path, tmp_path: Path) -> None:
    """Adam's first step is as long as the learning rate, whatever the gradient."""
    config = replace(settings(), steps=1, validate_every=0, learning_rate=1e-3, warmup=4)
    state = read_checkpoint(run(config, store, tmp_path))
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        first = create_network("tiny").state_dict()
    name = "decoder.fusions.0.to_image.bias"
    torch.testing.assert_close(
        (state["network"][name] - first[name]).abs(), torch.full((3,), 0.25e-3), rtol=1e-2, atol=0
    )


def test_train__starts_from_the_encoder_of_stage_1(store: Path, tmp_path: Path) -> None:
    encoder = {key: value + 3 for key, value in create_network("tiny").encoder.state_dict().items()}
    save_checkpoint(tmp_path / "siamese.pt", {"encoder": encoder})
    config = replace(settings(), steps=1, validate_every=0, learning_rate=1e-9)
    state = read_checkpoint(run(config, store, tmp_path / "out", encoder=tmp_path / "siamese.pt"))
    name = "levels.0.0.conv.weight"
    torch.testing.assert_close(state["network"]["encoder." + name], encoder[name])
    torch.testing.assert_close(state["average"]["module.encoder." + name], encoder[name])


def test_train__starts_from_the_average_of_another_run(store: Path, unbroken: Path, tmp_path: Path) -> None:
    config = replace(settings(), steps=1, validate_every=0, learning_rate=1e-9, seed=5)
    state = read_checkpoint(run(config, store, tmp_path, start=unbroken))
    name = "decoder.occlusion.weight"
    torch.testing.assert_close(state["network"][name], read_checkpoint(unbroken)["average"]["module." + name])
    assert state["step"] == 1


def test_train__starts_from_released_weights(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By file, and by the name that a manifest gives it; a release's early look is none of the network's."""
    network = create_network("tiny")
    early = EarlyLook(network.config).state_dict()
    whole = network.state_dict() | {PREFIX + key: value for key, value in early.items()}
    row = save_weights(tmp_path / "tiny.other.safetensors", whole, "tiny", half=False)
    add_to_manifest(row, tmp_path)
    monkeypatch.setenv("MASKFIX_WEIGHTS", str(tmp_path))
    released, _ = load_weights("tiny.other")
    config = replace(settings(), steps=1, validate_every=0, learning_rate=1e-9)
    name = "decoder.occlusion.weight"
    for place, start in enumerate((tmp_path / "tiny.other.safetensors", "tiny.other")):
        state = read_checkpoint(run(config, store, tmp_path / str(place), start=start))
        torch.testing.assert_close(state["network"][name], released[name])
        torch.testing.assert_close(state["average"]["module." + name], released[name])
    with pytest.raises(WeightsError, match=r"tiny\.absent.*known: tiny\.other"):
        run(config, store, tmp_path / "out", start="tiny.absent")


def test_train__starts_from_a_network_without_expansions(
    store: Path, unbroken: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run's network, widened since: its weights are taken, and the new layers stand as drawn."""
    monkeypatch.setitem(CONFIGS, "tiny", replace(CONFIGS["tiny"], encoder_expansions=(1,), decoder_expansions=(0, 2)))
    config = replace(settings(), steps=1, validate_every=0, learning_rate=1e-9)
    state = read_checkpoint(run(config, store, tmp_path, start=unbroken))
    average = read_checkpoint(unbroken)["average"]
    names = [name for name in state["network"] if name.endswith(".weight") and ".norm." not in name]
    added = [name for name in names if "expansions" in name]
    assert len(added) == 6
    for name in set(names) - set(added):
        torch.testing.assert_close(state["network"][name], average["module." + name])
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        drawn = create_network("tiny").state_dict()
    for name in added:
        torch.testing.assert_close(state["network"][name], drawn[name])


def test_train__no_encoder_to_start_from(store: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.pt: no such checkpoint"):
        run(settings(), store, tmp_path / "out", encoder=tmp_path / "absent.pt")
    (tmp_path / "damaged.pt").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"damaged\.pt: damaged checkpoint"):
        run(settings(), store, tmp_path / "out", encoder=tmp_path / "damaged.pt")
    for wrong in ({"network": {}}, {"encoder": {"w": torch.zeros(2)}}):
        save_checkpoint(tmp_path / "wrong.pt", wrong)
        for place in ("encoder", "start"):
            with pytest.raises(CheckpointError, match=r"wrong.pt: does not hold the weights"):
                run(settings(), store, tmp_path / "out", **{place: tmp_path / "wrong.pt"})
    assert not (tmp_path / "out").exists()


def test_train__refused_before_anything_is_written(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="pass --identity"):
        run(replace(settings(), objective=ObjectiveWeights()), store, out)
    with pytest.raises(DatasetError, match="maskfix prepare"):
        run(settings(), tmp_path / "absent", out)
    with pytest.raises(InputError, match="precision"):
        run(replace(settings(), precision="3-bit"), store, out)
    assert not out.exists()


def test_train__other_configuration(store: Path, unbroken: Path) -> None:
    with pytest.raises(CheckpointError, match="another learning_rate, views;"):
        run(replace(settings(), learning_rate=1e-3, views=ViewConfig(clean=0.5)), store, unbroken.parent)


def test_train__killed_and_resumed(store_128: Path, tmp_path: Path) -> None:
    """kill -9 in the middle, then on: parameters, average and optimiser are those of an unbroken run."""
    config = replace(settings(), network="cadf_small_128", batch_size=2, validate_every=0)
    text = (
        'network = "cadf_small_128"\nbatch_size = 2\nheld_out = 0.3\ncheckpoint_seconds = 0\nvalidate_every = 0\n'
        'precision = "32-true"\n[objective]\nidentity = 0\nstyle = 0\n'
    )
    killed = kill_after_two_rows("completion", text, store_128, tmp_path / "killed")
    done = read_checkpoint(killed)["step"]
    assert done >= 1
    config = replace(config, steps=done + 2)
    resumed, straight = run(config, store_128, killed.parent), run(config, store_128, tmp_path / "straight")
    first, second = read_checkpoint(resumed), read_checkpoint(straight)
    assert differences(first, second) == []
    assert first.keys() == {"config", "step", "network", "optimiser", "average", "sources"}
    assert [row["step"] for row in logged(killed.with_name(LOG))] == list(range(1, done + 3))
    assert sorted(item.name for item in killed.parent.iterdir()) == ["completion.jsonl", "completion.pt"]


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_released__the_average_where_there_is_one(decay: float) -> None:
    network = create_network("tiny")
    average = average_of(network, decay)
    found = completion.released(average, network, replace(settings(), average=decay))
    assert found is (average.module if decay else network)


def test_targets_of__what_the_objective_compares_with() -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)

    coded = drawn(2, 4, 4, 2)
    coded[0, 0, 0] = 0
    coded[0, 0, 1] = torch.tensor([1, 255], dtype=torch.uint8)
    batch = Batch(drawn(2, 4, 4, 3), drawn(2, 4, 4, 3), drawn(2, 4, 4), coded, torch.arange(2))
    targets = targets_of(batch, torch.device("cpu"))
    torch.testing.assert_close(targets.image[1, :, 2, 3], batch.clean[1, 2, 3].float() / 255)
    torch.testing.assert_close(targets.occlusion[1, 0], batch.alpha[1].float() / 255)
    assert targets.uv.shape == (2, 2, 4, 4)
    assert targets.uv_visible.shape == (2, 1, 4, 4)
    assert not targets.uv_visible[0, 0, 0, 0]
    torch.testing.assert_close(targets.uv[0, :, 0, 1], torch.tensor([0.0, 1.0]))
