"""The distillation of recognisers into LightCNN."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskfix.align import align
from maskfix.base import CheckpointError, canonical_layout
from maskfix.data import held_out, open_store
from maskfix.embed import grey_crops, load_layout
from maskfix.train import distillation
from maskfix.train.averaging import averaged_weights
from maskfix.train.batches import BatchDataset
from maskfix.train.checkpoint import read_checkpoint
from maskfix.train.config import DistillationConfig, ViewConfig
from maskfix.train.distillation import LOG, LessonDataset, as_grey, student_crops, train_recogniser
from maskfix.train.loop import open_views
from maskfix.train.teachers import joint_target, teacher_embeddings
from tests.reference import losses as reference
from tests.train.runs import differences, logged
from tests.train.test_teachers import Bands

SETTINGS = DistillationConfig(
    steps=4,
    batch_size=4,
    held_out=0.3,
    learning_rate=3e-3,
    warmup=0,
    precision="32-true",
    average=0.5,
    validate_every=4,
    checkpoint_seconds=0,
)


class Small(nn.Module):
    """A student that learns within a test."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 3))

    def forward(self, faces: Tensor) -> Tensor:
        found: Tensor = self.layer(nn.functional.avg_pool2d(faces, 16).flatten(1))
        return found


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small student of one known teacher."""
    monkeypatch.setattr(distillation, "create_lightcnn", lambda name: Small())
    monkeypatch.setattr(distillation, "load", lambda spec, device: Bands())
    monkeypatch.setattr(distillation, "DIMENSION", 3)


def run(config: DistillationConfig, store: Path, out: Path) -> Path:
    return train_recogniser(config, store, out, ["bands"], device="cpu", workers=0)


def test_student_crops__as_the_recogniser_will_see_them(store_128: Path) -> None:
    crops = np.asarray(open_store(store_128).crops[:3])
    five, layout = canonical_layout(128).array, load_layout("lightcnn_128")
    expected = grey_crops(np.stack([align(crop, five, layout)[0] for crop in crops])).astype(int)
    assert np.abs(student_crops(crops).astype(int) - expected)[:, 4:-4, 4:-4].max() <= 2


def test_lessons__two_views_of_each_face(store_128: Path) -> None:
    config = replace(SETTINGS, views=ViewConfig(clean=1.0, shift=0, turn=0, scale=0, light=0))
    views, training, _ = open_views(store_128, None, config)
    lesson = LessonDataset(views, training, 4, seed=1)[0]
    assert lesson.faces.shape == (8, 128, 128)
    assert lesson.rows[:4].tolist() == lesson.rows[4:].tolist()
    crops = np.asarray(views.store.crops[lesson.rows.numpy()])
    # Mirrored and coarsened at random, both views show the face that the row says.
    upright = student_crops(crops).astype(int)
    for face, plain in zip(lesson.faces.numpy().astype(int), upright, strict=True):
        likeness = max(np.corrcoef(face.ravel(), other.ravel())[0, 1] for other in (plain, plain[:, ::-1]))
        assert likeness > 0.95
    masked = LessonDataset(open_views(store_128, None, replace(config, views=ViewConfig(clean=0.0)))[0], training, 4, 1)
    assert (masked[0].faces.float() - lesson.faces.float()).abs().mean() > 5


def test_train__learns_from_its_teacher(store_128: Path, tmp_path: Path) -> None:
    still = ViewConfig(clean=1.0, shift=0, turn=0, scale=0, light=0)
    config = replace(SETTINGS, steps=80, batch_size=8, learning_rate=0.03, validate_every=40, views=still)
    path = run(config, store_128, tmp_path)
    rows = logged(path.with_name(LOG))
    for name in ("cosine", "relational"):
        assert np.mean([row[name] for row in rows[-10:]]) < 0.7 * np.mean([row[name] for row in rows[:10]]), name
    last = rows[-1]
    assert last["total"] == pytest.approx(last["cosine"] + 10 * last["relational"], rel=1e-4)
    assert -1 <= last["val_cosine"] <= 1
    assert last["val_found"] > 0.4
    assert 0 <= last["val_found"] <= 1
    assert [row["step"] for row in rows if "val_cosine" in row] == [40, 80]


def test_validate__every_view_of_found_wears_a_mask(
    store_128: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where training shows none."""
    worn = []

    class Noted(BatchDataset):
        def __getitem__(self, step: int) -> Any:
            worn.append(batch := super().__getitem__(step))
            return batch

    monkeypatch.setattr(distillation, "BatchDataset", Noted)
    run(replace(SETTINGS, steps=1, validate_every=1, views=ViewConfig(clean=1.0)), store_128, tmp_path)
    assert worn[-1].alpha.flatten(1).any(1).all()


def test_train__resumes_as_if_unbroken(store_128: Path, tmp_path: Path) -> None:
    whole = run(SETTINGS, store_128, tmp_path / "whole")
    run(replace(SETTINGS, steps=2, schedule="cosine"), store_128, tmp_path / "cut")
    assert read_checkpoint(whole)["step"] == 4
    constant = replace(SETTINGS, schedule="constant")
    one = run(constant, store_128, tmp_path / "one")
    run(replace(constant, steps=2), store_128, tmp_path / "two")
    two = run(constant, store_128, tmp_path / "two")
    assert differences(read_checkpoint(one), read_checkpoint(two)) == []
    assert read_checkpoint(one)["config"]["teachers"] == ["bands"]


def test_train__refuses_another_runs_checkpoint(store_128: Path, tmp_path: Path) -> None:
    run(replace(SETTINGS, steps=1), store_128, tmp_path)
    with pytest.raises(CheckpointError, match="relational"):
        run(replace(SETTINGS, relational=2.0), store_128, tmp_path)


def test_validate__each_face_with_its_own_target(store_128: Path, tmp_path: Path) -> None:
    """The figures of one run, from the held-out faces one by one."""
    path = run(replace(SETTINGS, steps=1, validate_every=1), store_128, tmp_path)
    student = Small()
    student.load_state_dict(averaged_weights(read_checkpoint(path)["average"]))
    faces = open_store(store_128)
    chosen = np.flatnonzero(held_out(faces.names, 0.3))
    grey = as_grey(torch.from_numpy(student_crops(np.asarray(faces.crops[chosen]))), torch.device("cpu"))
    with torch.no_grad():
        embeddings = student.eval()(grey).double().numpy()
    target = joint_target([teacher_embeddings(faces, Bands(), tmp_path)], 3)[chosen].astype(float)
    [row] = logged(path.with_name(LOG))
    assert row["val_cosine"] == pytest.approx(1 - reference.identity_cosine(embeddings, target), abs=1e-4)
    assert row["val_relational"] == pytest.approx(reference.relational(embeddings, target), abs=1e-4)


@pytest.mark.parametrize("count", [0, 1])
def test_train__too_few_held_out_to_compare(store_128: Path, tmp_path: Path, count: int) -> None:
    """A face alone has no cosines to others: the run goes on without figures."""
    names = open_store(store_128).names
    share = next(share for share in np.linspace(0, 1, 1001) if held_out(names, share).sum() == count)
    path = run(replace(SETTINGS, steps=1, validate_every=1, held_out=float(share)), store_128, tmp_path)
    [row] = logged(path.with_name(LOG))
    assert "total" in row
    assert not [name for name in row if name.startswith("val_")]
