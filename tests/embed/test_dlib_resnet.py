from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from maskfix.base import DependencyError, EmbedderError, InputError, UInt8Array, read_image
from maskfix.embed import dlib_resnet
from maskfix.embed.base import Embedder
from maskfix.embed.dlib_resnet import DlibEmbedder, dlib_layout, models_folder
from tests.embed.onnx_files import SHARED

dlib = pytest.importorskip("dlib")
LFW = SHARED / "data" / "lfw"


@pytest.fixture(scope="module")
def embedder() -> DlibEmbedder:
    return DlibEmbedder()


@pytest.fixture(scope="module")
def astronaut() -> UInt8Array:
    data = pytest.importorskip("skimage.data")
    return np.ascontiguousarray(data.astronaut()[..., :3])


def _shape(photo: UInt8Array, points: int) -> Any:
    predictor = dlib.shape_predictor(str(models_folder() / f"shape_predictor_{points}_face_landmarks.dat"))
    boxes = dlib.get_frontal_face_detector()(photo, 1)
    return predictor(photo, max(boxes, key=lambda box: box.area()))


def _five(photo: UInt8Array) -> Any:
    points = np.array([[part.x, part.y] for part in _shape(photo, 68).parts()], dtype=np.float64)
    return np.stack([points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]])


class TestLayout:
    def test_eyes_lie_where_dlib_puts_them(self, astronaut: UInt8Array) -> None:
        details = dlib.get_face_chip_details(_shape(astronaut, 5), 150, 0.25)
        chip = dlib.extract_image_chip(astronaut, details)
        predictor = dlib.shape_predictor(str(models_folder() / "shape_predictor_68_face_landmarks.dat"))
        found = predictor(chip, dlib.rectangle(25, 25, 125, 125))
        points = np.array([[part.x, part.y] for part in found.parts()], dtype=np.float64)
        eyes = np.stack([points[36:42].mean(0), points[42:48].mean(0)])
        assert np.abs(eyes - dlib_layout().array[:2]).max() < 4

    def test_our_crop_serves_as_dlibs_chip(self, astronaut: UInt8Array, embedder: DlibEmbedder) -> None:
        matrix, _ = cv2.estimateAffinePartial2D(_five(astronaut), embedder.layout.array, method=cv2.LMEDS)
        ours = np.asarray(cv2.warpAffine(astronaut, matrix, (150, 150)), dtype=np.uint8)
        theirs = dlib.get_face_chip(astronaut, _shape(astronaut, 5))
        first, second = embedder.embed(np.stack([ours, theirs]))
        # dlib calls two faces one person below a distance of 0.6, about 0.92 in cosine.
        assert float(first @ second) > 0.95


class TestEmbed:
    def test_is_an_embedder(self, embedder: DlibEmbedder) -> None:
        assert isinstance(embedder, Embedder)
        assert len(embedder.sha256) == 64
        assert embedder.layout.size == 150

    def test_equals_dlib_by_hand(self, embedder: DlibEmbedder, astronaut: UInt8Array) -> None:
        chip = dlib.get_face_chip(astronaut, _shape(astronaut, 5))
        network = dlib.face_recognition_model_v1(str(embedder.path))
        by_hand = np.array(network.compute_face_descriptor(chip))
        np.testing.assert_allclose(embedder.embed(chip[None])[0], by_hand / np.linalg.norm(by_hand), atol=1e-5)
        np.testing.assert_allclose(embedder.embed_raw(chip[None])[0], by_hand, atol=1e-5)
        assert abs(np.linalg.norm(by_hand) - 1) > 0.01

    def test_batches_do_not_matter(self, embedder: DlibEmbedder) -> None:
        crops = np.random.default_rng(1).integers(0, 256, (3, 150, 150, 3), dtype=np.uint8)
        whole = embedder.embed(crops)
        np.testing.assert_allclose(np.linalg.norm(whole, axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(DlibEmbedder(batch_size=2).embed(crops), whole, atol=1e-5)

    @pytest.mark.skipif(not LFW.is_dir(), reason=f"{LFW} is not here")
    def test_same_face_is_nearer_than_another(self, embedder: DlibEmbedder) -> None:
        people = ("George_W_Bush", "Colin_Powell", "Serena_Williams")
        chips = []
        for person in people:
            for path in sorted(LFW.rglob(f"{person}_00*.jpg"))[:2]:
                photo = read_image(path)
                chips.append(dlib.get_face_chip(photo, _shape(photo, 5)))
        assert len(chips) == 6
        vectors = embedder.embed(np.stack(chips)).reshape(3, 2, -1)
        similarity = np.einsum("id,jd->ij", vectors[:, 0], vectors[:, 1])
        genuine = np.diag(similarity)
        impostor = similarity[~np.eye(3, dtype=bool)]
        assert genuine.min() > impostor.max()

    def test_red_and_blue_differ(self, embedder: DlibEmbedder, astronaut: UInt8Array) -> None:
        chip = dlib.get_face_chip(astronaut, _shape(astronaut, 5))
        first, second = embedder.embed(np.stack([chip, chip[..., ::-1]]))
        assert float(first @ second) < 0.999

    def test_no_crops(self, embedder: DlibEmbedder) -> None:
        assert embedder.embed(np.zeros((0, 150, 150, 3), np.uint8)).shape == (0, 128)

    def test_wrong_crops(self, embedder: DlibEmbedder) -> None:
        with pytest.raises(InputError, match=r"crops: expected shape \(\*, 150, 150, 3\)"):
            embedder.embed(np.zeros((1, 112, 112, 3), np.uint8))


class TestInit:
    def test_weights_package_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
        with pytest.raises(DependencyError, match="pip install dlib-bin face-recognition-models"):
            DlibEmbedder()

    def test_dlib_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "dlib", None)
        with pytest.raises(DependencyError, match="needs dlib: pip install dlib-bin face-recognition-models"):
            DlibEmbedder()

    def test_truncated_weights(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        name = "dlib_face_recognition_resnet_model_v1.dat"
        (tmp_path / name).write_bytes((models_folder() / name).read_bytes()[:1000])
        monkeypatch.setattr(dlib_resnet, "models_folder", lambda: tmp_path)
        with pytest.raises(EmbedderError, match=r"\.dat: damaged") as raised:
            DlibEmbedder()
        assert "\n" not in str(raised.value)

    def test_weights_file_missing(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dlib_resnet, "models_folder", lambda: tmp_path)
        with pytest.raises(EmbedderError, match=r"\.dat: missing; reinstall"):
            DlibEmbedder()
