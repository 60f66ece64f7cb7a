"""Figures on held-out faces, against the same computed face by face."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from maskfix.losses import ObjectiveWeights
from maskfix.restore import Decoded
from maskfix.train.batches import Batch, BatchDataset
from maskfix.train.config import CompletionConfig, ViewConfig
from maskfix.train.loop import make_fabric, open_views
from maskfix.train.validate import validate


def settings() -> CompletionConfig:
    """What the runs of this file share; `tiny` is known while a test runs only."""
    return CompletionConfig(
        network="tiny",
        batch_size=2,
        held_out=0.5,
        objective=ObjectiveWeights(identity=0, style=0),
        views=ViewConfig(clean=0),
    )


class Grey(nn.Module):
    """Completes everything with one grey and takes the left half for occluded."""

    def forward(self, picture: Tensor, every_scale: bool = True) -> Decoded:
        assert not every_scale
        assert not self.training
        logits = torch.full_like(picture[:, :1], -9.0)
        logits[..., : picture.shape[-1] // 2] = 9.0
        return Decoded([torch.full_like(picture, 0.5)], [picture], [picture[:, :2]], logits)


class MeanColour(nn.Module):
    """Stands for the identity network: the mean colour is the embedding."""

    def opinions(self, images: Tensor) -> dict[str, Tensor]:
        return {"colour": images.mean((2, 3))}


def figures(store: Path, config: CompletionConfig, texture: Any = None) -> dict[str, float]:
    views, _, held_out = open_views(store, None, config)
    network = Grey()
    found = validate(network, views, held_out, config, make_fabric("32-true", "cpu"), texture)
    assert network.training
    return found


def held_out_batch(store: Path) -> Batch:
    """All held-out faces as validation draws them: with a seed of their own."""
    views, _, held_out = open_views(store, None, settings())
    batch = BatchDataset(views, held_out, len(held_out), settings().seed + 1)[0]
    assert isinstance(batch, Batch)
    return batch


def completed(masked: NDArray[np.uint8]) -> NDArray[np.float64]:
    """As a user would get it: the half that is taken for occluded is grey, two pixels of rim with it."""
    shown = masked / 255
    shown[:, : masked.shape[1] // 2 + 2] = 0.5
    return shown


def by_hand(batch: Batch) -> tuple[list[float], list[float]]:
    """Decibels inside the mask and errors of the coverage, face by face."""
    decibels, errors = [], []
    for clean, masked, alpha in zip(batch.clean.numpy(), batch.occluded.numpy(), batch.alpha.numpy(), strict=True):
        shown = completed(masked)
        covered = alpha > 127.5
        squared = ((shown - clean / 255) ** 2)[covered].mean()
        decibels.append(-10 * math.log10(squared))
        # The left half of each picture is taken for occluded.
        errors.append(abs(0.5 - covered.mean()))
    return decibels, errors


def test_validate__face_by_face(store: Path) -> None:
    found = figures(store, settings())
    decibels, errors = by_hand(held_out_batch(store))
    assert found.keys() == {"val_psnr_masked", "val_coverage_error"}
    assert found["val_psnr_masked"] == pytest.approx(np.mean(decibels), rel=1e-4)
    assert found["val_coverage_error"] == pytest.approx(np.mean(errors), rel=1e-4)


def test_validate__same_each_time(store: Path) -> None:
    assert figures(store, settings()) == figures(store, settings())


def test_validate__identity_before_and_after(store: Path) -> None:
    found = figures(store, settings(), MeanColour())
    batch = held_out_batch(store)
    before, after = [], []
    for clean, masked in zip(batch.clean.numpy(), batch.occluded.numpy(), strict=True):
        truth, seen, shown = ((x.mean((0, 1))) for x in (clean / 255, masked / 255, completed(masked)))
        before.append(truth @ seen / np.linalg.norm(truth) / np.linalg.norm(seen))
        after.append(truth @ shown / np.linalg.norm(truth) / np.linalg.norm(shown))
    assert found["val_identity_masked_colour"] == pytest.approx(np.mean(before), abs=1e-4)
    assert found["val_identity_colour"] == pytest.approx(np.mean(after), abs=1e-4)


def test_validate__no_face_drew_a_mask(store: Path) -> None:
    found = figures(store, replace(settings(), views=ViewConfig(clean=1)), MeanColour())
    assert found == {"val_coverage_error": pytest.approx(0.5)}


def test_validate__the_last_batch_is_what_is_left(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    views, _, held_out = open_views(store, None, settings())
    monkeypatch.setattr("maskfix.train.validate._BATCH", 3)
    found = validate(Grey(), views, held_out[:7], settings(), make_fabric("32-true", "cpu"), None)
    data, decibels = BatchDataset(views, held_out[:7], 3, settings().seed + 1), []
    for step, count in enumerate((3, 3, 1)):
        batch = data[step]
        assert isinstance(batch, Batch)
        decibels += by_hand(Batch(*(column[:count] for column in batch)))[0]
    assert found["val_psnr_masked"] == pytest.approx(np.mean(decibels), rel=1e-4)


def test_validate__a_figure_that_is_no_number_is_told(store: Path) -> None:
    class Broken(Grey):
        def forward(self, picture: Tensor, every_scale: bool = True) -> Decoded:
            decoded = super().forward(picture, every_scale)
            return decoded._replace(images=[decoded.images[0] * math.nan])

    views, _, held_out = open_views(store, None, settings())
    found = validate(Broken(), views, held_out, settings(), make_fabric("32-true", "cpu"), None)
    assert math.isnan(found["val_psnr_masked"])
