"""Stage 1: what a run leaves behind, and that it goes on as if it had never stopped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from maskfix.base import CheckpointError, InputError
from maskfix.restore import CONFIGS, SiameseNetwork
from maskfix.train.batches import BatchDataset, as_pictures
from maskfix.train.checkpoint import read_checkpoint
from maskfix.train.config import SiameseConfig
from maskfix.train.loop import open_views
from maskfix.train.siamese import LOG, train_siamese
from tests.reference import losses as reference
from tests.train.runs import differences, kill_after_two_rows, logged


def settings() -> SiameseConfig:
    """What the runs of this file share; `tiny` is known while a test runs only."""
    return SiameseConfig(network="tiny", steps=4, batch_size=3, held_out=0.3, checkpoint_seconds=0)


def run(config: SiameseConfig, store: Path, out: Path) -> Path:
    return train_siamese(config, store, out, device="cpu", workers=0)


@pytest.fixture(scope="module")
def unbroken(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps."""
    return run(settings(), store, tmp_path_factory.mktemp("siamese"))


def test_train__log_and_checkpoint(unbroken: Path) -> None:
    rows = logged(unbroken.with_name(LOG))
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(row["loss"] > 0 and 0 <= row["found"] <= 1 for row in rows)
    state = read_checkpoint(unbroken)
    assert state["step"] == 4
    for name, value in state["encoder"].items():
        assert torch.equal(value, state["network"][f"query.encoder.{name}"])


def test_train__queue_holds_half_as_many_keys_as_faces(unbroken: Path, store: Path) -> None:
    state = read_checkpoint(unbroken)
    queue = state["network"]["queue"]
    _, training, _ = open_views(store, None, settings())
    assert state["config"]["queue"] == len(queue) == len(training) // 2
    assert int(state["network"]["cursor"]) == 12 % len(queue)
    torch.testing.assert_close(queue.norm(dim=1), torch.ones(len(queue)))


def test_train__key_branch_follows(store: Path, tmp_path: Path) -> None:
    """One step: both branches start alike, the query is trained, the key moves a tenth of the way (eq. 2)."""
    config = replace(settings(), steps=1)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = SiameseNetwork(CONFIGS["tiny"], 5, generator=torch.Generator())
    state = read_checkpoint(run(config, store, tmp_path))["network"]
    for name, first in network.query.encoder.named_parameters():
        query, key = (state[f"{branch}.encoder.{name}"] for branch in ("query", "key"))
        torch.testing.assert_close(key, 0.9 * first + 0.1 * query)
    assert not torch.equal(query, first)


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_train__optimiser(store: Path, tmp_path: Path, optimiser: str) -> None:
    """Adam's first step is the learning rate whatever the gradient's size; SGD's is in proportion to the gradient."""
    config = replace(settings(), steps=1, optimiser=optimiser, learning_rate=1e-3, weight_decay=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = SiameseNetwork(CONFIGS["tiny"], 5, generator=torch.Generator())
    state = read_checkpoint(run(config, store, tmp_path))["network"]
    moved = torch.cat(
        [(state[f"query.{name}"] - first).abs().flatten() for name, first in network.query.named_parameters()]
    )
    assert (((moved / 1e-3 - 1).abs() < 0.01).float().mean() > 0.5) == (optimiser == "adamw")


def test_train__muon(store: Path, tmp_path: Path) -> None:
    """Muon has the query branch's matrices, and no other parameter."""
    state = read_checkpoint(run(replace(settings(), steps=1, optimiser="muon"), store, tmp_path))
    momenta = [entry["momentum_buffer"] for entry in state["optimiser"]["muon"]["state"].values()]
    wide = [p for name, p in state["network"].items() if name.startswith("query.") and p.ndim in (2, 4)]
    assert sorted(m.numel() for m in momenta) == sorted(p.numel() for p in wide if min(p.shape[:2]) >= 16)


@pytest.mark.parametrize("apart", [False, True])
def test_train__batch_negatives(store: Path, tmp_path: Path, apart: bool) -> None:
    """The first step's loss is eq. 1's over the batch's other keys and the random ones that they have not replaced."""
    config = replace(settings(), steps=1, batch_size=4, queue=7, batch_negatives=True, apart=apart)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = SiameseNetwork(CONFIGS["tiny"], 7, generator=torch.Generator().manual_seed(config.seed))
    views, training, _ = open_views(store, None, config)
    pair = BatchDataset(views, training, 4, config.seed, pairs=True, apart=apart)[0]
    query, key = network(*(as_pictures(view.occluded, torch.device("cpu")) for view in pair))
    queue = torch.cat([key, network.queue[4:]])
    twin = [part.detach().double().numpy() for part in (query, key, queue)]
    run(config, store, tmp_path)
    row = logged(tmp_path / LOG)[0]
    assert row["loss"] == pytest.approx(reference.info_nce(*twin, config.temperature, own=range(4)), rel=1e-4)
    similarity = torch.from_numpy(twin[0] @ twin[2].T)
    first = [float(row[n] > row.roll(-n)[1:].max()) for n, row in enumerate(similarity)]
    assert row["found"] == pytest.approx(sum(first) / 4)


def test_train__batch_longer_than_the_queue(store: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="queue: 2 keys, fewer than a batch of 3"):
        run(replace(settings(), queue=2, batch_negatives=True), store, tmp_path)


def test_train__resumes_as_if_unbroken(store: Path, unbroken: Path, tmp_path: Path) -> None:
    run(replace(settings(), steps=2), store, tmp_path)
    resumed = run(settings(), store, tmp_path)
    assert differences(read_checkpoint(resumed), read_checkpoint(unbroken)) == []
    assert logged(tmp_path / LOG) == logged(unbroken.with_name(LOG))


def test_train__finished_run_changes_nothing(store: Path, unbroken: Path) -> None:
    before = read_checkpoint(unbroken)
    assert run(settings(), store, unbroken.parent) == unbroken
    assert differences(read_checkpoint(unbroken), before) == []
    assert len(logged(unbroken.with_name(LOG))) == 4


def test_train__log_without_checkpoint_starts_anew(store: Path, tmp_path: Path) -> None:
    """A run killed before its first checkpoint leaves rows that the next run writes again."""
    (tmp_path / LOG).write_text(json.dumps({"step": 1, "loss": 9.0}) + "\n")
    run(replace(settings(), steps=1), store, tmp_path)
    rows = logged(tmp_path / LOG)
    assert [row["step"] for row in rows] == [1]
    assert rows[0]["loss"] != 9.0


def test_train__other_configuration(store: Path, unbroken: Path) -> None:
    with pytest.raises(CheckpointError, match="another temperature"):
        run(replace(settings(), temperature=0.2), store, unbroken.parent)


def test_train__progress(store: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    train_siamese(
        replace(settings(), steps=2),
        store,
        tmp_path,
        device="cpu",
        workers=0,
        progress=lambda step, _: seen.append(step),
    )
    assert seen == [1, 2]


def test_train__killed_and_resumed(store_128: Path, tmp_path: Path) -> None:
    """kill -9 in the middle, then on: parameters, queue and optimiser are those of an unbroken run."""
    config = replace(settings(), network="cadf_small_128", batch_size=2)
    text = 'network = "cadf_small_128"\nbatch_size = 2\nheld_out = 0.3\ncheckpoint_seconds = 0\n'
    killed = kill_after_two_rows("siamese", text, store_128, tmp_path / "killed")
    done = read_checkpoint(killed)["step"]
    assert done >= 1
    config = replace(config, steps=done + 2)
    resumed, straight = run(config, store_128, killed.parent), run(config, store_128, tmp_path / "straight")
    assert differences(read_checkpoint(resumed), read_checkpoint(straight)) == []
    rows = logged(killed.with_name(LOG))
    assert [row["step"] for row in rows] == list(range(1, done + 3))
    assert sorted(item.name for item in killed.parent.iterdir()) == ["siamese.jsonl", "siamese.pt"]


def test_train__own_key_is_no_negative(store: Path, tmp_path: Path) -> None:
    """The first step's loss is eq. 1's over the random keys alone, at the temperature asked for."""
    config = replace(settings(), steps=1, queue=7, temperature=0.3)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = SiameseNetwork(CONFIGS["tiny"], 7, generator=torch.Generator().manual_seed(config.seed))
    views, training, _ = open_views(store, None, config)
    pair = BatchDataset(views, training, 3, config.seed, pairs=True)[0]
    query, key = network(*(as_pictures(view.occluded, torch.device("cpu")) for view in pair))
    twin = [part.detach().double().numpy() for part in (query, key, network.queue)]
    run(config, store, tmp_path)
    row = logged(tmp_path / LOG)[0]
    assert row["loss"] == pytest.approx(reference.info_nce(*twin, temperature=0.3), rel=1e-4)
    similarity = torch.from_numpy(twin[0] @ twin[2].T)
    first = (query * key).sum(1).double() > similarity.amax(1)
    assert row["found"] == pytest.approx(float(first.double().mean()))


def query_branch(config: SiameseConfig, store: Path, out: Path) -> torch.Tensor:
    """All parameters of the query branch after a run, in one row."""
    state = read_checkpoint(run(config, store, out))["network"]
    with torch.random.fork_rng():
        names = [name for name, _ in SiameseNetwork(CONFIGS["tiny"], 5, generator=torch.Generator()).named_parameters()]
    return torch.cat([state[name].flatten() for name in names if name.startswith("query.")])


def drawn_branch(config: SiameseConfig) -> torch.Tensor:
    """The same before the first step."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = SiameseNetwork(CONFIGS["tiny"], 5, generator=torch.Generator())
    return torch.cat([value.detach().flatten() for value in network.query.parameters()])


def test_train__at_the_scheduled_rate(store: Path, tmp_path: Path) -> None:
    """A step of SGD is in proportion to its rate; the last rate of a cosine stands in the checkpoint."""
    still = replace(settings(), steps=1, learning_rate=1.0, weight_decay=0.0)
    first = drawn_branch(still)
    whole, warm = (query_branch(replace(still, warmup=steps), store, tmp_path / str(steps)) - first for steps in (0, 4))
    torch.testing.assert_close(warm, whole / 4, rtol=1e-2, atol=1e-6)
    falling = replace(settings(), steps=2, schedule="cosine", learning_rate=1e-3)
    state = read_checkpoint(run(falling, store, tmp_path / "falling"))
    assert [group["lr"] for group in state["optimiser"]["param_groups"]] == [pytest.approx(1e-3 * (0.01 + 0.99 / 2))]


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_train__weight_decay(store: Path, tmp_path: Path, optimiser: str) -> None:
    """In one step it takes its share, times the rate, of every weight; the gradient is the same with and without."""
    config = replace(settings(), steps=1, optimiser=optimiser, learning_rate=0.1, weight_decay=0.5)
    with_decay = query_branch(config, store, tmp_path / "with")
    without = query_branch(replace(config, weight_decay=0.0), store, tmp_path / "without")
    torch.testing.assert_close(without - with_decay, 0.05 * drawn_branch(config), rtol=1e-3, atol=1e-6)


def test_train__sgd_momentum(store: Path, tmp_path: Path) -> None:
    """The second step goes on by a share of the first."""
    config = replace(settings(), steps=2, learning_rate=1.0, sgd_momentum=0.8, weight_decay=0.0)
    with_momentum = query_branch(config, store, tmp_path / "with")
    without = query_branch(replace(config, sgd_momentum=0.0), store, tmp_path / "without")
    first = query_branch(replace(config, steps=1), store, tmp_path / "first") - drawn_branch(config)
    assert first.abs().max() > 1e-3
    torch.testing.assert_close(with_momentum - without, 0.8 * first, rtol=1e-3, atol=1e-6)
