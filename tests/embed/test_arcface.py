from __future__ import annotations

import hashlib
import json
import pickle
import sys
import threading
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from maskfix.align import fit_layout
from maskfix.base import EmbedderError, InputError, UInt8Array, arcface_layout
from maskfix.embed import arcface
from maskfix.embed.arcface import PACKS, ArcFaceEmbedder, insightface_root
from maskfix.embed.base import Embedder, RawEmbedder, unit_rows
from tests.embed.onnx_files import RECOGNISER, write_picture_network, write_recogniser

insightface = pytest.importorskip("insightface")


@pytest.fixture(scope="module", params=["tiny", "real"])
def path(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "tiny":
        return write_recogniser(tmp_path_factory.mktemp("onnx") / "tiny.onnx")
    if not RECOGNISER.is_file():
        pytest.skip(f"{RECOGNISER} is not here")
    return RECOGNISER


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without packs, and no way to the network."""

    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("INSIGHTFACE_HOME", raising=False)
    monkeypatch.setattr("requests.get", refuse)
    return tmp_path


def _crops(count: int, size: int = 112) -> UInt8Array:
    return np.random.default_rng(5).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


class TestEmbed:
    def test_is_an_embedder(self, path: Path) -> None:
        embedder = ArcFaceEmbedder(path)
        assert isinstance(embedder, Embedder)
        assert embedder.layout.size == 112
        assert embedder.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert embedder.name == f"arcface:{path.stem}"

    def test_unit_length(self, path: Path) -> None:
        embedder = ArcFaceEmbedder(path)
        vectors = embedder.embed(_crops(5))
        assert vectors.shape == (5, embedder.dimension)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)

    def test_equals_insightface_by_hand(self, path: Path) -> None:
        crops = _crops(3)
        model = insightface.model_zoo.get_model(str(path), providers=["CPUExecutionProvider"])
        by_hand = np.concatenate([model.get_feat(cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)) for crop in crops])
        by_hand /= np.linalg.norm(by_hand, axis=1, keepdims=True)
        np.testing.assert_allclose(ArcFaceEmbedder(path).embed(crops), by_hand, atol=1e-5)

    def test_raw_is_what_the_network_gives(self, path: Path) -> None:
        crops = np.concatenate([_crops(3), np.full((1, 112, 112, 3), 140, np.uint8)])
        embedder = ArcFaceEmbedder(path, batch_size=3)
        assert isinstance(embedder, RawEmbedder)
        model = insightface.model_zoo.get_model(str(path), providers=["CPUExecutionProvider"])
        by_hand = np.concatenate([model.get_feat(cv2.cvtColor(crop, cv2.COLOR_RGB2BGR)) for crop in crops])
        raw = embedder.embed_raw(crops)
        assert raw.dtype == np.float32
        if path != RECOGNISER:  # the real file scales its vectors itself; test_unscaled.py looks behind that
            np.testing.assert_allclose(raw, by_hand, atol=1e-4 * np.abs(by_hand).max())
        np.testing.assert_allclose(unit_rows(raw), unit_rows(by_hand), atol=1e-5)
        lengths = np.linalg.norm(raw, axis=1)
        # Lengths are the network's own: neither 1 nor all alike.
        assert (np.abs(lengths - 1) > 0.01).all()
        assert lengths.max() > 1.05 * lengths.min()
        np.testing.assert_allclose(unit_rows(raw), embedder.embed(crops), atol=1e-6)

    def test_red_and_blue_are_not_swapped(self, path: Path) -> None:
        faces = np.zeros((2, 112, 112, 3), dtype=np.uint8)
        faces[0, ..., 0] = 255
        faces[1, ..., 2] = 255
        embedder = ArcFaceEmbedder(path)
        red, blue = embedder.embed(faces)
        assert float(red @ blue) < 0.99
        # The network takes RGB planes, so its own door shows which colour is which.
        network_input = (faces.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 127.5
        raw = embedder._model.session.run(None, {embedder._model.input_name: network_input})[0]
        raw /= np.linalg.norm(raw, axis=1, keepdims=True)
        np.testing.assert_allclose([red, blue], raw, atol=1e-5)

    @pytest.mark.parametrize("batch_size", [1, 2, 3, 64])
    def test_batches_do_not_matter(self, path: Path, batch_size: int) -> None:
        crops = _crops(5)
        whole = ArcFaceEmbedder(path, batch_size=5).embed(crops)
        np.testing.assert_allclose(ArcFaceEmbedder(path, batch_size=batch_size).embed(crops), whole, atol=1e-5)

    @pytest.mark.parametrize("batch", [1, 4])
    def test_network_of_one_batch_size(self, tmp_path: Path, batch: int) -> None:
        crops = _crops(6)
        fixed = ArcFaceEmbedder(write_recogniser(tmp_path / "fixed.onnx", batch=batch)).embed(crops)
        free = ArcFaceEmbedder(write_recogniser(tmp_path / "free.onnx")).embed(crops)
        np.testing.assert_allclose(fixed, free, atol=1e-6)

    def test_other_size(self, tmp_path: Path) -> None:
        embedder = ArcFaceEmbedder(write_recogniser(tmp_path / "wide.onnx", size=224))
        assert embedder.layout.size == 224
        assert embedder.embed(_crops(2, 224)).shape == (2, 16)

    @pytest.mark.parametrize("size", [112, 128, 224, 256])
    def test_layout_is_that_of_insightface(self, tmp_path: Path, size: int) -> None:
        layout = ArcFaceEmbedder(write_recogniser(tmp_path / "x.onnx", size=size)).layout
        five = arcface_layout(112).array * [1.3, 1.2] + [20, -7]
        expected = insightface.utils.face_align.estimate_norm(five.astype(np.float32), size)
        np.testing.assert_allclose(fit_layout(five, layout), expected, atol=1e-3)

    def test_size_that_insightface_does_not_align(self, tmp_path: Path) -> None:
        with pytest.raises(EmbedderError, match=r"x\.onnx: takes 160x160 pictures, .* onnx:PATH\?layout=NAME$"):
            ArcFaceEmbedder(write_recogniser(tmp_path / "x.onnx", size=160))

    @pytest.mark.parametrize("last", ["", "Div"])
    def test_pickle(self, tmp_path: Path, last: str) -> None:
        embedder = ArcFaceEmbedder(write_recogniser(tmp_path / "x.onnx", last=last), "cpu", 3)
        raw = embedder.embed_raw(_crops(2))
        copy = pickle.loads(pickle.dumps(embedder))  # noqa: S301
        np.testing.assert_array_equal(copy.embed_raw(_crops(2)), raw)
        assert (copy.name, copy.sha256, copy._batch_size) == (embedder.name, embedder.sha256, 3)

    def test_open_batch_but_made_for_one_face(self, tmp_path: Path) -> None:
        path = write_recogniser(tmp_path / "x.onnx")
        expected = ArcFaceEmbedder(path).embed(_crops(3))
        model = onnx.load(path)
        (flatten,) = (step for step in model.graph.node if step.op_type == "Flatten")
        flatten.CopyFrom(onnx.helper.make_node("Reshape", ["pooled", "shape"], ["flat"]))
        model.graph.initializer.append(onnx.helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [1, 12]))
        onnx.save(model, path)
        np.testing.assert_allclose(ArcFaceEmbedder(path).embed(_crops(3)), expected, atol=1e-6)

    def test_no_crops(self, path: Path) -> None:
        embedder = ArcFaceEmbedder(path)
        assert embedder.embed(_crops(0)).shape == (0, embedder.dimension)
        assert embedder.embed_raw(_crops(0)).shape == (0, embedder.dimension)

    def test_inputs_stay_unchanged(self, path: Path) -> None:
        crops = _crops(2)
        before = crops.copy()
        ArcFaceEmbedder(path).embed(crops)
        np.testing.assert_array_equal(crops, before)

    @pytest.mark.parametrize(
        "crops",
        [
            np.zeros((1, 128, 128, 3), np.uint8),
            np.zeros((112, 112, 3), np.uint8),
            np.zeros((1, 112, 112, 3), np.float32),
        ],
    )
    def test_wrong_crops(self, path: Path, crops: Any) -> None:
        with pytest.raises(InputError, match="crops: expected"):
            ArcFaceEmbedder(path).embed(crops)


class TestInit:
    def test_quiet(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        ArcFaceEmbedder(path)
        assert capsys.readouterr().out == ""

    def test_threads_that_load_at_once_keep_standard_output(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The first leaves while the second is still at it, so that the second would put the first's silence back."""
        inside, first_left, own = threading.Event(), threading.Event(), sys.stdout

        def load(name: str, **options: Any) -> None:
            if name == "second":
                inside.set()
                first_left.wait(5)
            else:
                second.start()
                inside.wait(0.2)

        monkeypatch.setattr(insightface.model_zoo, "get_model", load)
        second = threading.Thread(target=arcface._get_model, args=(Path("x.onnx"), "second"))
        arcface._get_model(Path("x.onnx"), "first")
        first_left.set()
        second.join()
        assert sys.stdout is own

    @pytest.mark.parametrize("batch_size", [0, -1])
    def test_batch_size(self, batch_size: int) -> None:
        with pytest.raises(InputError, match="batch_size"):
            ArcFaceEmbedder("x.onnx", batch_size=batch_size)

    def test_unknown_device(self) -> None:
        with pytest.raises(InputError, match="device: 'tpu' is unknown; known: auto, cpu, cuda"):
            ArcFaceEmbedder("x.onnx", device="tpu")

    def test_cuda_without_cuda_warns_and_runs(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
        with pytest.warns(UserWarning, match="has no CUDA, the recogniser runs on the CPU"):
            embedder = ArcFaceEmbedder(path, device="cuda")
        assert embedder.device == "cpu"

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(EmbedderError, match=r"none\.onnx: no such ONNX file"):
            ArcFaceEmbedder(tmp_path / "none.onnx")

    def test_file_of_another_name(self, tmp_path: Path) -> None:
        (tmp_path / "fake.jpg").write_text("hello")
        with pytest.raises(EmbedderError, match=r"fake\.jpg: its name does not end in \.onnx; give the path of a rec"):
            ArcFaceEmbedder(tmp_path / "fake.jpg")

    def test_no_onnx_at_all(self, tmp_path: Path) -> None:
        (tmp_path / "text.onnx").write_text("hello")
        with pytest.raises(EmbedderError, match=r"text\.onnx: damaged"):
            ArcFaceEmbedder(tmp_path / "text.onnx")

    def test_truncated_file(self, path: Path, tmp_path: Path) -> None:
        cut = tmp_path / "cut.onnx"
        cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(EmbedderError, match=r"cut\.onnx: damaged") as raised:
            ArcFaceEmbedder(cut)
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize(
        ("outputs", "height", "size"), [(2, None, 112), (5, None, 112), (1, 96, 112), (1, None, 96), (1, None, 192)]
    )
    def test_no_recogniser(self, tmp_path: Path, outputs: int, height: int | None, size: int) -> None:
        wrong = write_recogniser(tmp_path / "wrong.onnx", size=size, outputs=outputs, height=height)
        with pytest.raises(EmbedderError, match=r"wrong\.onnx: ") as raised:
            ArcFaceEmbedder(wrong)
        assert "recogniser" in str(raised.value)
        assert "\n" not in str(raised.value)

    def test_network_that_gives_pictures(self, tmp_path: Path) -> None:
        with pytest.raises(EmbedderError, match=r"pictures\.onnx: no face recogniser"):
            ArcFaceEmbedder(write_picture_network(tmp_path / "pictures.onnx"))


class TestPack:
    def test_finds_the_recogniser_among_others(self, home: Path) -> None:
        folder = home / ".insightface" / "models" / "antelopev2" / "antelopev2"
        folder.mkdir(parents=True)
        write_recogniser(folder / "scrfd.onnx", outputs=6)
        write_recogniser(folder / "genderage.onnx", size=96)
        right = write_recogniser(folder / "glintr100.onnx")
        embedder = ArcFaceEmbedder("antelopev2")
        assert embedder.path == right
        assert embedder.name == "arcface:antelopev2"

    def test_without_network(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = home / ".insightface" / "models" / "buffalo_l"
        with pytest.raises(EmbedderError, match=r"buffalo_l\.zip from https://github\.com.*unpack it into") as raised:
            ArcFaceEmbedder("buffalo_l")
        assert str(folder) in str(raised.value)
        assert "\n" not in str(raised.value)
        assert capsys.readouterr().out == ""
        assert [item for item in home.rglob("*") if item.is_file()] == []
        assert not folder.exists()

    def test_the_message_tells_the_way(self, home: Path) -> None:
        with pytest.raises(EmbedderError, match=r"its recogniser is w600k_r50\.onnx") as raised:
            ArcFaceEmbedder("buffalo_l")
        command = f"`insightface-cli model.download buffalo_l --root {home / '.insightface'}`"
        assert command in str(raised.value)

    def test_another_root(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("INSIGHTFACE_HOME", str(home / "elsewhere"))
        folder = home / "elsewhere" / "models" / "buffalo_s"
        folder.mkdir(parents=True)
        right = write_recogniser(folder / "w600k_mbf.onnx")
        assert ArcFaceEmbedder("buffalo_s").path == right
        assert insightface_root() == home / "elsewhere"

    def test_a_pack_of_ones_own(self, home: Path) -> None:
        folder = home / ".insightface" / "models" / "mine"
        folder.mkdir(parents=True)
        right = write_recogniser(folder / "recogniser.onnx")
        assert ArcFaceEmbedder("mine").path == right

    @staticmethod
    def write_manifest(folder: Path, **recognition: Any) -> None:
        content = {"manifest_version": 2, "model_id": "x", "license": "MODEL.LICENSE"}
        tasks = {"recognition": {"file": "a.onnx", **recognition}}
        (folder / "manifest.json").write_text(json.dumps(content | {"tasks": tasks}))

    def test_a_manifest_says_which_file_and_how(self, home: Path) -> None:
        folder = home / ".insightface" / "models" / "raccoon_s"
        folder.mkdir(parents=True)
        path = write_recogniser(folder / "a.onnx")
        write_recogniser(folder / "z.onnx")
        crops = _crops(2)
        self.write_manifest(folder, preprocessing="embedded")
        embedder = ArcFaceEmbedder("raccoon_s")
        assert embedder.path == path
        raw = embedder._model.session.run(None, {"x": crops.transpose(0, 3, 1, 2).astype(np.float32)})[0]
        np.testing.assert_allclose(
            embedder.embed(crops), raw / np.linalg.norm(raw, axis=1, keepdims=True), rtol=1e-4, atol=1e-5
        )

    def test_a_manifest_with_another_hash(self, home: Path) -> None:
        folder = home / ".insightface" / "models" / "raccoon_s"
        folder.mkdir(parents=True)
        write_recogniser(folder / "a.onnx")
        self.write_manifest(folder, sha256="0" * 64)
        with pytest.raises(EmbedderError, match="SHA-256 mismatch"):
            ArcFaceEmbedder("raccoon_s")

    def test_unknown_name(self, home: Path) -> None:
        with pytest.raises(EmbedderError, match=", ".join(PACKS)):
            ArcFaceEmbedder("buffalo_xxl")

    def test_broken_pack(self, home: Path) -> None:
        folder = home / ".insightface" / "models" / "buffalo_s"
        folder.mkdir(parents=True)
        (folder / "w600k_mbf.onnx").write_bytes(b"half")
        with pytest.raises(EmbedderError, match="delete the folder to fetch the pack again"):
            ArcFaceEmbedder("buffalo_s")
