"""Teachers' embeddings and their joint target."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from maskfix.align import align
from maskfix.base import ARCFACE_112, CheckpointError, CropLayout, FloatArray, InputError, UInt8Array, canonical_layout
from maskfix.data import FaceStore, open_store
from maskfix.embed import unit_rows
from maskfix.train import teachers
from maskfix.train.teachers import joint_target, teacher_embeddings


def bands(crops: UInt8Array) -> FloatArray:
    """Mean brightness of the upper, middle and lower third, as a unit vector."""
    return unit_rows(np.stack([third.mean((1, 2, 3)) for third in np.array_split(crops, 3, axis=1)], 1))


class Bands:
    """A teacher that embeds the brightness of its crop's bands, and counts the faces it was asked about."""

    name, dimension, sha256 = "bands", 3, "c" * 64
    layout = CropLayout("arcface_112", 112, ARCFACE_112)

    def __init__(self, stop: int | None = None) -> None:
        self.asked, self.stop = 0, stop

    def embed(self, crops: UInt8Array) -> FloatArray:
        if self.stop is not None and self.asked >= self.stop:
            raise KeyboardInterrupt
        self.asked += len(crops)
        return bands(crops)


def test_teacher_embeddings__sees_its_own_crop(store_128: Path, tmp_path: Path) -> None:
    faces = open_store(store_128)
    found = teacher_embeddings(faces, Bands(), tmp_path)
    five = canonical_layout(128).array
    expected = bands(np.stack([align(np.asarray(crop), five, Bands.layout)[0] for crop in faces.crops]))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_teacher_embeddings__goes_on_after_a_kill(
    store_128: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faces = open_store(store_128)
    whole = teacher_embeddings(faces, Bands(), tmp_path / "whole")
    monkeypatch.setattr(teachers, "_BLOCK", 2)
    with pytest.raises(KeyboardInterrupt):
        teacher_embeddings(faces, Bands(stop=22), tmp_path)
    second = Bands()
    np.testing.assert_array_equal(teacher_embeddings(faces, second, tmp_path), whole)
    assert 0 < second.asked < 24
    third = Bands(stop=0)
    np.testing.assert_array_equal(teacher_embeddings(faces, third, tmp_path), whole)


def test_teacher_embeddings__other_faces_are_embedded_anew(store_128: Path, tmp_path: Path) -> None:
    faces = open_store(store_128)
    first = teacher_embeddings(faces, Bands(), tmp_path)
    other = FaceStore(faces.crops[::-1], faces.points, faces.correspondence, faces.frames, faces.names[::-1])
    second = Bands()
    np.testing.assert_array_equal(teacher_embeddings(other, second, tmp_path), first[::-1])
    assert second.asked == 24


def test_teacher_embeddings__damaged_or_too_many(store_128: Path, tmp_path: Path) -> None:
    faces = open_store(store_128)
    teacher_embeddings(faces, Bands(), tmp_path)
    (path,) = tmp_path.glob(f"teacher-{'c' * 16}-*.npy")
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(CheckpointError, match="damaged"):
        teacher_embeddings(faces, Bands(), tmp_path)
    np.save(path, np.zeros((99, 3), np.float32))
    with pytest.raises(CheckpointError, match="not up to 24 faces; remove it"):
        teacher_embeddings(faces, Bands(), tmp_path)


def test_joint_target__its_cosine_is_the_mean_of_the_centred_cosines() -> None:
    rng = np.random.default_rng(0)
    one, two = (unit_rows(rng.normal(size=(60, d)) + 4) for d in (3, 5))
    target = joint_target([one, two], 8)
    centred = [unit_rows(rows - rows.mean(0)) for rows in (one, two)]
    expected = sum(rows @ rows.T for rows in centred) / 2
    np.testing.assert_allclose(target @ target.T, expected, atol=1e-5)
    # Fewer axes: the strongest are kept.
    short = joint_target([one, two], 6)
    assert np.corrcoef((short @ short.T).ravel(), expected.ravel())[0, 1] > 0.97
    np.testing.assert_array_equal(joint_target([one, two], 10)[:, 8:], 0)


def test_joint_target__what_cannot_be_joined() -> None:
    rows = np.ones((5, 2), np.float32)
    for given, dimension in (([], 2), ([rows, rows[:4]], 2), ([rows], 6)):
        with pytest.raises(InputError, match=f"expected the same {dimension} or more faces of each"):
            joint_target(given, dimension) if given else joint_target([np.ones((0, 2), np.float32)], dimension)


def test_teacher_embeddings__other_pictures_of_the_same_names(store_128: Path, tmp_path: Path) -> None:
    faces = open_store(store_128)
    teacher_embeddings(faces, Bands(), tmp_path)
    left = tmp_path / f".{next(tmp_path.iterdir()).stem}.maskfix-0123456789ab.npy"
    left.touch()
    retouched, second = replace(faces, crops=255 - np.asarray(faces.crops), sha256="f" * 64), Bands()
    teacher_embeddings(retouched, second, tmp_path)
    assert second.asked == 24
    teacher_embeddings(faces, Bands(stop=0), tmp_path)
    assert not left.exists(), "what a killed run left"
