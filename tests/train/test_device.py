"""Where training puts networks, and what an optimiser is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import torch
from torch import nn

from maskfix.losses import ObjectiveWeights
from maskfix.train import completion, distillation, landmarks, siamese
from maskfix.train.config import CompletionConfig, DistillationConfig, SiameseConfig
from maskfix.train.landmark_config import LandmarkConfig
from maskfix.train.muon import MuonAndAdam
from tests.train.test_teachers import Bands

SMALL = {"batch_size": 3, "held_out": 0.3, "steps": 1}


class ReachedError(Exception):
    """The network is about to be set up."""


def completion_run(store: Path, out: Path, optimiser: str) -> None:
    config = CompletionConfig(
        network="tiny", optimiser=optimiser, objective=ObjectiveWeights(identity=0, style=0), **SMALL
    )
    completion.train_completion(config, store, out, workers=0)


def siamese_run(store: Path, out: Path, optimiser: str) -> None:
    siamese.train_siamese(SiameseConfig(network="tiny", optimiser=optimiser, **SMALL), store, out, workers=0)


def landmarks_run(store: Path, out: Path, _: str) -> None:
    landmarks.train_landmarks(LandmarkConfig(**SMALL), store, out, workers=0)


def distillation_run(store: Path, out: Path, _: str) -> None:
    distillation.train_recogniser(DistillationConfig(**SMALL), store, out, ["bands"], workers=0)


@pytest.mark.parametrize(
    ("module", "start", "optimiser"),
    [
        (completion, completion_run, "adam"),
        (completion, completion_run, "muon"),
        (siamese, siamese_run, "adamw"),
        (siamese, siamese_run, "muon"),
        (landmarks, landmarks_run, ""),
        (distillation, distillation_run, ""),
    ],
)
def test_train__the_optimiser_is_made_on_the_device(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    start: Callable[[Path, Path, str], None],
    optimiser: str,
) -> None:
    """A checkpoint's state goes where its parameters are when it is loaded, and Fabric moves those alone."""

    def set_up(network: nn.Module, made: torch.optim.Optimizer) -> NoReturn:
        groups = [group["params"] for group in made.param_groups]
        groups += [made.matrices] if isinstance(made, MuonAndAdam) else []
        assert {parameter.device.type for group in groups for parameter in group} == {"meta"}
        assert {parameter.device.type for parameter in network.parameters()} == {"meta"}
        raise ReachedError

    fabric = SimpleNamespace(device=torch.device("meta"), world_size=1, global_rank=0, setup=set_up)
    monkeypatch.setattr(module, "make_fabric", lambda *_, **__: fabric)
    monkeypatch.setattr(distillation, "load", lambda spec, device: Bands())
    monkeypatch.setattr(distillation, "DIMENSION", 3)
    store = request.getfixturevalue("store" if start in (completion_run, siamese_run) else "store_128")
    with pytest.raises(ReachedError):
        start(store, tmp_path, optimiser)


@pytest.mark.parametrize("optimiser", ["adam", "muon"])
def test_train__clip_holds_for_all_parameters(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimiser: str
) -> None:
    """Muon's matrices, most of the network, are clipped with the rest."""
    norms: list[float] = []
    kind = MuonAndAdam if optimiser == "muon" else torch.optim.Adam
    step = kind.step

    def noted(made: Any, *given: Any) -> Any:
        whole = [*made.param_groups[0]["params"], *getattr(made, "_whole", [])]
        norms.append(float(torch.stack([p.grad.square().sum() for p in whole if p.grad is not None]).sum().sqrt()))
        return step(made, *given)

    monkeypatch.setattr(kind, "step", noted)
    config = CompletionConfig(
        network="tiny", optimiser=optimiser, objective=ObjectiveWeights(identity=0, style=0), clip=1e-3, **SMALL
    )
    completion.train_completion(config, store, tmp_path / "small", device="cpu", workers=0)
    completion.train_completion(replace(config, clip=0), store, tmp_path / "none", device="cpu", workers=0)
    assert norms[0] == pytest.approx(1e-3, rel=1e-3)
    assert norms[1] > 1e-2
