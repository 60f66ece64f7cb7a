"""The training of the landmark network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskfix.base import CheckpointError, InputError, canonical_layout
from maskfix.data import held_out, open_store
from maskfix.occlude import Occluder
from maskfix.train import landmarks
from maskfix.train.checkpoint import read_checkpoint
from maskfix.train.config import ViewConfig
from maskfix.train.landmark_config import LandmarkConfig
from maskfix.train.landmarks import LOG, MovedCropDataset, train_landmarks, validate_landmarks
from maskfix.train.views import OccludedViews
from tests.train.runs import differences, logged

PLAIN = ViewConfig(clean=1.0, shift=0, turn=0, scale=0, light=0, coarsest=1.0)
SETTINGS = LandmarkConfig(
    steps=4,
    batch_size=8,
    held_out=0.3,
    warmup=0,
    precision="32-true",
    average=0.5,
    validate_every=4,
    checkpoint_seconds=0,
    views=PLAIN,
)


class Small(nn.Module):
    """A network that learns within a test: all it sees is where a crop is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 10)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, pictures: Tensor) -> Tensor:
        bright = pictures.mean(1)
        places = torch.linspace(-1, 1, 128)
        total = bright.sum((1, 2)) + 1e-6
        centre = torch.stack([bright.sum(1) @ places / total, bright.sum(2) @ places / total], 1)
        layout = torch.tensor(canonical_layout(128).array).float()
        points: Tensor = layout + 128 * self.layer(centre).view(-1, 5, 2)
        return points


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "create_landmark_network", lambda name: Small())
    monkeypatch.setattr(landmarks, "_VALIDATION", 16)


def lessons(store: Path, config: LandmarkConfig, seed: int = 0) -> MovedCropDataset:
    faces = open_store(store)
    return MovedCropDataset(OccludedViews(faces, config.views, [Occluder()]), np.arange(len(faces)), config, seed)


def test_lessons__unmoved_faces_have_the_layouts_points(store_128: Path) -> None:
    lesson = lessons(store_128, replace(SETTINGS, shift=0, turn=0, scale=0, behind=0, moves=1))[0]
    assert lesson.pictures.shape == (8, 128, 128, 3)
    layout = canonical_layout(128).array
    kept = [bool(np.allclose(five, layout, atol=1e-3)) for five in lesson.five.numpy()]
    # The layout is not quite symmetric, so mirrored faces are cut a pixel beside the mirrored crop.
    flipped = (layout * [-1, 1] + [127, 0])[[1, 0, 2, 4, 3]]
    beside = layout + (flipped - layout).mean(0)
    assert np.abs(flipped - layout).max() > 1
    mirrored = [bool(np.allclose(five, beside, atol=0.4)) for five in lesson.five.numpy()]
    assert any(kept)
    assert any(mirrored)
    assert [one != other for one, other in zip(kept, mirrored, strict=True)] == [True] * 8


def test_lessons__points_go_with_the_face(store_128: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut anew by its points, a moved face lies where it lay."""
    from maskfix.align import align

    monkeypatch.setattr("maskfix.train.moves._STRIPPED", 0)
    monkeypatch.setattr("maskfix.train.moves._NARROW", 0)
    config = replace(SETTINGS, behind=0, moves=1, batch_size=12)
    lesson = lessons(store_128, config)[3]
    upright = np.asarray(open_store(store_128).crops).astype(float)
    both = np.concatenate([upright, upright[:, :, ::-1]])[:, 40:90, 40:90].reshape(2 * len(upright), -1)
    likeness = []
    for picture, five in zip(lesson.pictures.numpy(), lesson.five.numpy(), strict=True):
        back = align(picture, five, canonical_layout(128))[0][40:90, 40:90].astype(float).ravel()
        likeness.append(max(np.corrcoef(back, other)[0, 1] for other in both))
    assert min(likeness) > 0.97


def test_lessons__each_hidden_face_in_several_places(store_128: Path) -> None:
    lesson = lessons(store_128, replace(SETTINGS, moves=3, batch_size=7, shift=30))[0]
    assert lesson.pictures.shape[0] == lesson.five.shape[0] == 7
    assert len(torch.unique(lesson.five[:, 0, 0])) == 7
    again, other = (
        lessons(store_128, replace(SETTINGS, moves=3, batch_size=7, shift=30))[0],
        lessons(store_128, SETTINGS)[1],
    )
    torch.testing.assert_close(again.five, lesson.five, atol=0, rtol=0)
    assert (again.pictures == lesson.pictures).all()
    assert not torch.equal(other.five[:7], lesson.five)


def test_lessons__masks_and_other_things(store_128: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landmarks, "move", lambda picture, *_: picture)
    still = replace(SETTINGS, moves=1, batch_size=1)
    worn = replace(PLAIN, clean=0.0)
    plain, masked, behind = (
        torch.cat([lessons(store_128, config)[step].pictures for step in range(16)]).float()
        for config in (replace(still, behind=0), replace(still, behind=0, views=worn), replace(still, behind=1))
    )
    mouth, brow = (slice(None), slice(80, 100), slice(54, 74)), (slice(None), slice(38, 46), slice(54, 74))
    assert (plain[mouth] - masked[mouth]).abs().mean() > 15
    assert (plain[mouth] - masked[mouth]).abs().mean() > 3 * (plain[brow] - masked[brow]).abs().mean()
    assert (plain - behind).abs().mean() > 2


def test_train__learns(store_128: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spot(self: MovedCropDataset, *_: object) -> tuple[np.ndarray, np.ndarray]:
        picture = np.zeros((128, 128, 3), np.uint8)
        picture[44:84, 44:84] = 255
        return picture, canonical_layout(128).array.astype(np.float32)

    monkeypatch.setattr(MovedCropDataset, "_hidden", spot)
    monkeypatch.setattr("maskfix.train.moves._BEYOND", (0, 1, 0, 0))
    config = replace(
        SETTINGS, steps=60, batch_size=16, learning_rate=0.02, validate_every=60, shift=24, turn=0, scale=0
    )
    path = train_landmarks(config, store_128, tmp_path, device="cpu", workers=0)
    rows = logged(path.with_name(LOG))
    assert np.mean([row["error"] for row in rows[-10:]]) < 0.2 * np.mean([row["error"] for row in rows[:5]])
    assert rows[-1]["val_error"] == pytest.approx(0.4 * rows[-1]["val_eyes"] + 0.6 * rows[-1]["val_mouth"], rel=1e-4)
    assert rows[-1]["val_error"] < 0.2 * rows[-1]["val_moved"]
    assert [row["step"] for row in rows if "val_error" in row] == [60]
    assert rows[0]["error"] == pytest.approx(rows[-1]["val_moved"], rel=0.5)


def test_validate__untrained_it_is_off_by_how_far_faces_are_moved(store_128: Path) -> None:
    network = Small().train()
    figures = validate_landmarks(network, lessons(store_128, SETTINGS))
    assert figures["val_error"] == pytest.approx(figures["val_moved"], rel=1e-5)
    assert figures["val_moved"] > 2
    assert network.training


def test_train__resumes_as_if_unbroken(store_128: Path, tmp_path: Path) -> None:
    config = replace(SETTINGS, schedule="constant", views=replace(PLAIN, clean=0.2))
    whole = train_landmarks(config, store_128, tmp_path / "one", device="cpu", workers=0)
    train_landmarks(replace(config, steps=2), store_128, tmp_path / "two", device="cpu", workers=0)
    cut = train_landmarks(config, store_128, tmp_path / "two", device="cpu", workers=0)
    assert read_checkpoint(whole)["step"] == 4
    assert differences(read_checkpoint(whole), read_checkpoint(cut)) == []


def test_train__refusals(store_128: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_landmarks(replace(SETTINGS, steps=1), store_128, tmp_path, device="cpu", workers=0)
    with pytest.raises(CheckpointError, match="shift"):
        train_landmarks(replace(SETTINGS, shift=3.0), store_128, tmp_path, device="cpu", workers=0)
    monkeypatch.setattr("maskfix.train.single.launched_processes", lambda: (2, 2))
    with pytest.raises(InputError, match="one process"):
        train_landmarks(SETTINGS, store_128, tmp_path, device="cpu", workers=0)


@pytest.mark.parametrize(
    ("name", "value"), [("moves", 0), ("behind", 1.5), ("shift", -1), ("scale", 3), ("average", 1), ("network", "cadf")]
)
def test_config__refuses(name: str, value: object) -> None:
    with pytest.raises(InputError, match=name):
        replace(SETTINGS, **{name: value})


def test_lessons__what_is_behind_something_is_as_coarse_as_its_face(
    store_128: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The camera that coarsens a face with its mask sees the face so without a mask too."""
    fine = np.indices((128, 128)).sum(0)[..., None] % 2 * np.full(3, 255, np.uint8)
    monkeypatch.setattr(landmarks, "put_behind", lambda *_: fine.astype(np.uint8))
    monkeypatch.setattr(landmarks, "move", lambda picture, *_: picture)
    config = replace(SETTINGS, behind=1.0, moves=1, batch_size=24)
    for share, coarse in ((0.0, 0), (1.0, 12)):
        views = replace(PLAIN, coarsest=0.2, coarsen_masks=share)
        contrast = lessons(store_128, replace(config, views=views))[0].pictures.float().std((1, 2, 3))
        assert abs(int((contrast < 100).sum()) - coarse) <= 5, "half of the faces are coarsened"


def test_train__validates_on_held_out_faces(store_128: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On moves that no training step draws."""
    seen: list[MovedCropDataset] = []

    def noted(network: nn.Module, lessons: MovedCropDataset) -> dict[str, float]:
        seen.append(lessons)
        return validate_landmarks(network, lessons)

    monkeypatch.setattr(landmarks, "validate_landmarks", noted)
    train_landmarks(SETTINGS, store_128, tmp_path, device="cpu", workers=0)
    [lessons] = seen
    assert lessons.faces.tolist() == np.flatnonzero(held_out(open_store(store_128).names, 0.3)).tolist()
    assert lessons.seed != SETTINGS.seed


def test_train__weight_decay(store_128: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one step it takes its share, times the rate, of every weight; the gradient is the same with and without."""

    class Ones(Small):
        def __init__(self) -> None:
            super().__init__()
            nn.init.ones_(self.layer.weight)

    monkeypatch.setattr(landmarks, "create_landmark_network", lambda name: Ones())
    config = replace(SETTINGS, steps=1, learning_rate=0.1, validate_every=0)
    decayed, kept = (
        read_checkpoint(
            train_landmarks(
                replace(config, weight_decay=decay), store_128, tmp_path / str(decay), device="cpu", workers=0
            )
        )["network"]["layer.weight"]
        for decay in (0.5, 0.0)
    )
    torch.testing.assert_close(kept - decayed, torch.full((10, 2), 0.05))


def test_validate__as_released_not_as_in_training(store_128: Path) -> None:
    modes = []

    class Noted(Small):
        def forward(self, pictures: Tensor) -> Tensor:
            modes.append(self.training)
            return super().forward(pictures)

    validate_landmarks(Noted().train(), lessons(store_128, SETTINGS))
    assert modes == [False, False]
