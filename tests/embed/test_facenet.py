"""FaceNet against the real facenet-pytorch, on random weights in its published form."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from maskfix.align import align, fit_layout, invert_affine, load_detector, transform_points
from maskfix.base import DependencyError, EmbedderError, InputError, UInt8Array, read_image
from maskfix.embed.base import Embedder
from maskfix.embed.facenet import WEIGHTS, FaceNetEmbedder, box_crop, checkpoint_path
from maskfix.embed.factory import load
from maskfix.embed.layouts import facenet_layout

facenet_pytorch = pytest.importorskip("facenet_pytorch")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    """The library's network with random weights and random statistics of its normalisations."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = facenet_pytorch.InceptionResnetV1(classify=False)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean = torch.randn(module.num_features) * 0.05
                module.running_var = torch.rand(module.num_features) + 0.5
    return network.eval()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def path(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as facenet-pytorch publishes it: a bare state dict, the classifier of 8,631 people in it."""
    state = dict(network.state_dict())
    state |= {"logits.weight": torch.zeros(1).expand(8631, 512), "logits.bias": torch.zeros(8631)}
    path = tmp_path_factory.mktemp("facenet") / "mine.pt"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def embedder(path: Path) -> FaceNetEmbedder:
    return FaceNetEmbedder(path, device="cpu")


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch, and no way to the network."""

    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    return tmp_path


def _crops(count: int, size: int = 160) -> UInt8Array:
    return np.random.default_rng(3).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


class TestEmbed:
    def test_is_an_embedder(self, embedder: FaceNetEmbedder, path: Path) -> None:
        assert isinstance(embedder, Embedder)
        assert (embedder.name, embedder.dimension, embedder.layout) == ("facenet:mine", 512, facenet_layout())
        assert embedder.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_equals_facenet_pytorch_by_hand(self, embedder: FaceNetEmbedder, network: nn.Module) -> None:
        crops = _crops(2)
        standardise = facenet_pytorch.fixed_image_standardization
        faces = torch.stack([standardise(torch.from_numpy(np.float32(crop)).permute(2, 0, 1)) for crop in crops])
        with torch.inference_mode():
            by_hand = network(faces).numpy()
        found = embedder.embed(crops)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, by_hand, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)

    def test_batches_do_not_matter(self, embedder: FaceNetEmbedder, path: Path) -> None:
        small = FaceNetEmbedder(path, device="cpu", batch_size=2)
        np.testing.assert_allclose(small.embed(_crops(3)), embedder.embed(_crops(3)), atol=1e-5)

    def test_no_crops(self, embedder: FaceNetEmbedder) -> None:
        assert embedder.embed(_crops(0)).shape == (0, 512)

    @pytest.mark.parametrize("crops", [_crops(1, 112), _crops(1)[0], _crops(1).astype(np.float32)])
    def test_wrong_crops(self, embedder: FaceNetEmbedder, crops: Any) -> None:
        with pytest.raises(InputError, match="crops: expected"):
            embedder.embed(crops)


class TestLoad:
    @pytest.mark.parametrize("name", sorted(WEIGHTS))
    def test_from_the_librarys_own_place(self, torch_home: Path, path: Path, name: str) -> None:
        place = torch_home / "checkpoints" / WEIGHTS[name]
        place.parent.mkdir()
        place.symlink_to(path)
        assert checkpoint_path(name) == place
        embedder = load(f"facenet:{name}", device="cpu")
        assert embedder.name == f"facenet:{name}"
        assert embedder.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_the_place_is_where_the_library_looks(
        self, torch_home: Path, network: nn.Module, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        module = facenet_pytorch.models.inception_resnet_v1
        monkeypatch.setattr(module, "download_url_to_file", lambda url, target: asked.extend([url, target]))
        with pytest.raises(FileNotFoundError):
            module.load_weights(network, "vggface2")
        url, target = asked
        assert Path(target) == checkpoint_path("vggface2")
        with pytest.raises(EmbedderError, match=url):
            FaceNetEmbedder("vggface2")

    def test_without_network(self, torch_home: Path) -> None:
        place = torch_home / "checkpoints" / "20180402-114759-vggface2.pt"
        with pytest.raises(
            EmbedderError, match=r"download failed \(no route to host\); fetch https://github"
        ) as raised:
            load("facenet:vggface2")
        assert f"put it at {place}" in str(raised.value)
        assert "\n" not in str(raised.value)
        assert not list(torch_home.rglob("*.*"))

    def test_web_page_instead_of_weights_is_not_kept(self, torch_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        page = "<!doctype html><p>log in to the hotel's network"
        monkeypatch.setattr("torch.hub.download_url_to_file", lambda _url, target: Path(target).write_text(page))
        with pytest.raises(EmbedderError, match=r"download failed \(a web page, no checkpoint"):
            FaceNetEmbedder("vggface2")
        assert not list(torch_home.rglob("*.*"))

    def test_download(self, torch_home: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def fetch(_url: str, target: str) -> None:
            Path(target).write_bytes(path.read_bytes())

        monkeypatch.setattr("torch.hub.download_url_to_file", fetch)
        embedder = FaceNetEmbedder("vggface2", device="cpu")
        assert embedder.path == checkpoint_path("vggface2")
        assert embedder.path.is_file()

    def test_unknown_name(self) -> None:
        with pytest.raises(EmbedderError, match="'vggface3' are unknown; known: vggface2, casia-webface, or a path"):
            FaceNetEmbedder("vggface3")
        with pytest.raises(InputError, match="facenet weights: 'vggface3' is unknown"):
            checkpoint_path("vggface3")

    def test_other_network(self, tmp_path: Path) -> None:
        torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "x.pt")
        with pytest.raises(EmbedderError, match=r"x\.pt: does not fit InceptionResnetV1: it lacks 'conv2d_1a"):
            FaceNetEmbedder(tmp_path / "x.pt")

    def test_batch_size(self) -> None:
        with pytest.raises(InputError, match="batch_size: expected at least 1, got 0"):
            FaceNetEmbedder("x.pt", batch_size=0)

    def test_library_missing(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("facenet_pytorch", "facenet_pytorch.models.utils.detect_face"):
            monkeypatch.setitem(__import__("sys").modules, name, None)
        with pytest.raises(DependencyError, match="facenet needs facenet-pytorch: pip install facenet-pytorch"):
            FaceNetEmbedder(path)
        with pytest.raises(DependencyError, match="facenet needs facenet-pytorch"):
            box_crop(np.zeros((50, 50, 3), np.uint8), [0, 0, 50, 50])


class TestBoxCrop:
    @pytest.mark.parametrize("box", [(30.6, 20.2, 91.4, 107.9), (-5.0, 60.0, 70.0, 400.0), (10, 10, 11, 11)])
    def test_by_hand(self, box: tuple[float, ...]) -> None:
        photo = np.random.default_rng(0).integers(0, 256, (180, 150, 3), dtype=np.uint8)
        left, top, right, bottom = box
        # A margin of 14 among 160 pixels of the crop: 7 on each side of 146.
        across, down = (right - left) * 7 / 146, (bottom - top) * 7 / 146
        x0, y0 = int(max(left - across, 0)), int(max(top - down, 0))
        x1, y1 = int(min(right + across, 150)), int(min(bottom + down, 180))
        expected = cv2.resize(photo[y0:y1, x0:x1], (160, 160), interpolation=cv2.INTER_AREA)
        found = box_crop(photo, box)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, expected)

    def test_equals_mtcnns_extraction(self, astronaut: UInt8Array) -> None:
        detector = facenet_pytorch.MTCNN(image_size=160, margin=14, post_process=False)
        boxes, _ = detector.detect(astronaut)
        theirs = detector.extract(astronaut.copy(), boxes[:1], None)
        np.testing.assert_array_equal(box_crop(astronaut, boxes[0]), theirs.permute(1, 2, 0).numpy())

    @pytest.mark.parametrize("box", [(200, 0, 300, 50), (20, 20, 20, 60), (50, 50, 20, 60), (np.nan, 0, 9, 9)])
    def test_nothing_to_see(self, box: tuple[float, ...]) -> None:
        with pytest.raises(InputError, match="shows nothing of a photo of 150x180"):
            box_crop(np.zeros((180, 150, 3), np.uint8), box)

    def test_wrong_box(self) -> None:
        with pytest.raises(InputError, match=r"box: expected shape \(4,\), got \(3,\)"):
            box_crop(np.zeros((180, 150, 3), np.uint8), [1, 2, 3])


def test_layout_stands_for_the_detectors_box(shared: Path) -> None:
    """On real faces, turned ones among them, the crop by landmarks covers what the crop by MTCNN's box covers."""
    detector, mtcnn = load_detector("mtcnn"), facenet_pytorch.MTCNN()
    overlaps = []
    for path in sorted((shared / "data" / "lfw").rglob("Colin_Powell_00*.jpg"))[:4]:
        photo = read_image(path)
        five = detector.detect([photo])[0].five
        assert five is not None
        matrix = fit_layout(five, facenet_layout())
        assert matrix[0, 1] == matrix[1, 0] == 0, "a box is not turned"
        found = transform_points(invert_affine(matrix), np.array([[-0.5, -0.5], [159.5, 159.5]])) + 0.5
        box = mtcnn.detect(photo)[0][0].reshape(2, 2)
        margin = (box[1] - box[0]) * 7 / 146
        theirs = np.stack([box[0] - margin, box[1] + margin])
        shared_area = (np.minimum(found[1], theirs[1]) - np.maximum(found[0], theirs[0])).clip(0).prod()
        overlaps.append(shared_area / (np.prod(found[1] - found[0]) + np.prod(theirs[1] - theirs[0]) - shared_area))
        assert align(photo, five, facenet_layout())[0].shape == (160, 160, 3)
    assert np.mean(overlaps) > 0.85
    assert min(overlaps) > 0.75
