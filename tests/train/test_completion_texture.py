"""Stage 2 with identity networks: when and how they are asked, strangers, the identity head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from maskfix.base import InputError
from maskfix.losses import ObjectiveWeights, Outputs, TextureTarget, completion_objective, random_view
from maskfix.restore import blend_weight
from maskfix.train import completion
from maskfix.train.batches import BatchDataset, as_pictures
from maskfix.train.checkpoint import read_checkpoint
from maskfix.train.completion import LOG
from maskfix.train.loop import open_views
from tests.train.runs import MeanColour, differences, logged
from tests.train.test_completion import run, settings


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
