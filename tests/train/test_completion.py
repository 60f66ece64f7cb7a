"""Stage 2: what a run leaves behind, the moving average, where it starts from, and that it survives being killed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from maskfix.base import CheckpointError, DatasetError, InputError, WeightsError
from maskfix.losses import ObjectiveWeights, Outputs, TextureTarget, completion_objective, random_view
from maskfix.restore import CONFIGS, PREFIX, EarlyLook, blend_weight, create_network
from maskfix.train import completion
from maskfix.train.averaging import average_of
from maskfix.train.batches import Batch, BatchDataset, as_pictures
from maskfix.train.checkpoint import read_checkpoint, save_checkpoint
from maskfix.train.completion import CHECKPOINT, LOG, targets_of, train_completion
from maskfix.train.config import CompletionConfig, ViewConfig
from maskfix.train.loop import open_views
from maskfix.weights import add_to_manifest, load_weights, save_weights
from tests.train.runs import MeanColour, differences, kill_after_two_rows, logged

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


def test_train__texture_waits_for_its_step_and_is_perturbed_by_step(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The random views are drawn anew at each step from a seed that the step gives: a resumed run draws the same."""
    seeds: list[int] = []

    def recorded(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        seeds.append(generator.initial_seed())
        return random_view(images, generator)

    monkeypatch.setattr(completion, "load_texture", lambda path, *_: MeanColour())
    monkeypatch.setattr(completion, "random_view", recorded)
    objective = ObjectiveWeights(style=0, identity=1, texture_scales=(1,))
    config = replace(settings(), steps=3, texture_start=1, validate_every=0, perturb_identity=True, objective=objective)
    straight = run(config, store, tmp_path / "straight", identity="stand-in.onnx")
    assert ["identity" in row for row in logged(straight.with_name(LOG))] == [False, True, True]
    assert len(set(seeds)) == len(seeds) == 2
    run(replace(config, steps=2), store, tmp_path / "resumed", identity="stand-in.onnx")
    resumed = run(config, store, tmp_path / "resumed", identity="stand-in.onnx")
    assert seeds[2:] == seeds[:2]
    assert differences(read_checkpoint(resumed), read_checkpoint(straight)) == []
    assert read_checkpoint(resumed)["config"]["style_network"] == "stand-in"


@pytest.mark.parametrize("perturbed", [False, True])
def test_train__texture_sees_visible_pixels(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, perturbed: bool
) -> None:
    """They see what a user will: the input where nothing is covered, mixed in once at the rim of a mask."""
    seen: list[torch.Tensor] = []
    decoded: list[torch.Tensor] = []

    class Recording(MeanColour):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
            if images.requires_grad:
                seen.append(images.detach())
            return super().forward(images)

    def kept(outputs: Outputs, *rest: Any, **options: Any) -> dict[str, torch.Tensor]:
        decoded.append(outputs.images[0].detach())
        return completion_objective(outputs, *rest, **options)

    monkeypatch.setattr(completion, "load_texture", lambda path, *_: Recording())
    monkeypatch.setattr(completion, "completion_objective", kept)
    monkeypatch.setattr(completion, "random_view", lambda images, generator: images)
    objective = ObjectiveWeights(style=1, identity=1, texture_scales=(1,))
    config = replace(settings(), steps=1, validate_every=0, compose_texture=True, perturb_identity=perturbed)
    run(replace(config, objective=objective), store, tmp_path, identity="stand-in.onnx")
    views, training, _ = open_views(store, None, config)
    batch = BatchDataset(views, training, config.batch_size, config.seed)[0]
    weight = blend_weight(batch.alpha[:, None].float() / 255)
    assert ((weight > 0) & (weight < 1)).any()
    expected = as_pictures(batch.occluded, torch.device("cpu")) * (1 - weight) + decoded[0] * weight
    assert len(seen) == 1 + perturbed
    for images in seen:
        torch.testing.assert_close(images, expected)


@pytest.mark.parametrize("count", [1, 2])
def test_train__texture_networks_see_mirrored_pictures_every_second_time(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """The clean and the completed picture alike; with two networks in turn, each of them."""
    seen: list[torch.Tensor] = []

    class Recording(MeanColour):
        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
            seen.append(images.detach())
            return super().forward(images)

    texture = Recording()
    texture.count = count
    monkeypatch.setattr(completion, "load_texture", lambda path, *_: texture)
    objective = ObjectiveWeights(style=0, identity=1, texture_scales=(1,))
    config = replace(settings(), steps=4, validate_every=0, objective=objective)
    config = replace(config, texture_in_turn=True, mirror_texture=True, compose_texture=True)
    run(config, store, tmp_path, identity="stand-in.onnx")
    views, training, _ = open_views(store, None, config)
    data = BatchDataset(views, training, config.batch_size, config.seed)
    for step, mirrored in enumerate([False, True, False, True] if count == 1 else [False, False, True, True]):
        clean = as_pictures(data[step].clean, torch.device("cpu"))
        opacity = data[step].alpha[:, None].float() / 255
        visible = ((opacity == 0) & (blend_weight(opacity) == 0)).expand_as(clean)
        shown = [images.flip(3) if mirrored else images for images in seen[2 * step : 2 * step + 2]]
        errors = [(images - clean).abs()[visible].mean() for images in shown]
        others = [(images.flip(3) - clean).abs()[visible].mean() for images in shown]
        assert max(errors) < 1e-6
        assert min(others) > 0.01


def test_train__no_face_is_its_own_stranger(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A face that an epoch draws again finds its earlier embedding in the queue, and passes over it."""
    monkeypatch.setattr(completion, "load_texture", lambda path, *_: MeanColour())
    told = []

    def noted(*given: Any, texture_target: TextureTarget, **kwargs: Any) -> dict[str, torch.Tensor]:
        told.append(texture_target)
        return completion_objective(*given, texture_target=texture_target, **kwargs)

    monkeypatch.setattr(completion, "completion_objective", noted)
    objective = ObjectiveWeights(style=0, identity=0, contrast=1, texture_scales=(1,), texture_samples=2)
    config = replace(settings(), steps=9, validate_every=0, objective=objective)
    run(config, store, tmp_path, identity="stand-in.onnx")
    views, training, _ = open_views(store, None, config)
    data = BatchDataset(views, training, config.batch_size, config.seed)
    queue: list[int] = [-1] * (len(training) // 2)
    met = 0
    for step, target in enumerate(told):
        asked = data.indices(step)[:2].tolist()
        expected = [[face == other for other in queue] for face in asked]
        assert target.own is not None
        assert target.own.tolist() == expected
        met += sum(map(sum, expected))
        queue = [*queue, *asked][-len(queue) :]
    assert met


@pytest.mark.parametrize("in_turn", [False, True])
def test_train__strangers_are_faces_of_earlier_steps(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_turn: bool
) -> None:
    """At most half as many as there are faces; a resumed run meets the same ones."""
    monkeypatch.setattr(completion, "load_texture", lambda path, *_: MeanColour())
    objective = ObjectiveWeights(style=0, identity=0, contrast=1, texture_scales=(1,))
    config = replace(settings(), steps=2, validate_every=0, texture_in_turn=in_turn, objective=objective)
    straight = run(config, store, tmp_path / "straight", identity="stand-in.onnx")
    _, training, _ = open_views(store, None, config)
    [queue] = read_checkpoint(straight)["strangers"]["queues"]
    assert queue.shape == (len(training) // 2, 3)
    views, _, _ = open_views(store, None, config)
    last = BatchDataset(views, training, config.batch_size, config.seed)[1]
    seen = as_pictures(last.clean, torch.device("cpu")).mean((2, 3))
    torch.testing.assert_close(queue[-3:], functional.normalize(seen, dim=1))
    assert read_checkpoint(straight)["strangers"]["faces"][0][-3:].tolist() == last.face.tolist()
    run(replace(config, steps=1), store, tmp_path / "resumed", identity="stand-in.onnx")
    resumed = run(config, store, tmp_path / "resumed", identity="stand-in.onnx")
    assert differences(read_checkpoint(resumed), read_checkpoint(straight)) == []
    assert [row.keys() for row in logged(straight.with_name(LOG))] == 2 * [
        {"step", "reconstruction", "correspondence", "contrast", "occlusion", "structure", "texture", "total"}
    ]


def test_train__identity_head_goes_on_where_it_stopped(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head starts with the texture, is kept in the checkpoint, and its term reaches the encoder."""
    monkeypatch.setattr(completion, "load_texture", lambda path, *_: MeanColour())
    objective = ObjectiveWeights(style=0, identity=1, texture_scales=(1,), texture_samples=2)
    config = replace(settings(), steps=3, texture_start=1, validate_every=0, perturb_identity=False, identity_head=2.0)
    config = replace(config, objective=objective)
    straight = run(config, store, tmp_path / "straight", identity="stand-in.onnx")
    rows = logged(straight.with_name(LOG))
    assert ["identity_head" in row for row in rows] == [False, True, True]
    for row in rows[1:]:
        known = ("structure", "texture", "occlusion", "identity_head")
        weights = (1, 1, objective.occlusion, 2)
        assert row["total"] == pytest.approx(
            sum(w * row[name] for w, name in zip(weights, known, strict=True)), rel=1e-5
        )
    run(replace(config, steps=2), store, tmp_path / "resumed", identity="stand-in.onnx")
    resumed = read_checkpoint(run(config, store, tmp_path / "resumed", identity="stand-in.onnx"))
    assert differences(resumed, read_checkpoint(straight)) == []
    assert {"network", "optimiser"} == resumed["identity_head"].keys()
    without = read_checkpoint(run(replace(config, identity_head=0.0), store, tmp_path / "without", identity="x.onnx"))
    assert "identity_head" not in without["config"]
    deepest = [name for name in without["network"] if name.startswith("encoder.levels")][-1]
    assert not torch.equal(without["network"][deepest], resumed["network"][deepest])


def test_train__identity_head_without_networks(store: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="identity_head: it learns from identity networks"):
        run(replace(settings(), identity_head=1.0), store, tmp_path / "none")


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
