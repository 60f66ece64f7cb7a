from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import maskfix.embed
from maskfix.base import EmbedderError, WeightsError
from maskfix.embed import factory, lightcnn
from maskfix.embed.factory import default_embedder, list_embedders, load
from maskfix.weights import add_to_manifest, save_weights
from tests.embed.checkpoint_files import lightcnn_state
from tests.embed.onnx_files import write_recogniser


class TestLoad:
    def test_arcface_path(self, tmp_path: Path) -> None:
        embedder = load(f"arcface:{write_recogniser(tmp_path / 'tiny.onnx')}", device="cpu", batch_size=2)
        assert embedder.name == "arcface:tiny"
        assert embedder.dimension == 16

    def test_dlib(self) -> None:
        pytest.importorskip("dlib")
        assert load("dlib").layout.size == 150

    def test_onnx(self, tmp_path: Path) -> None:
        path = write_recogniser(tmp_path / "tiny.onnx")
        embedder = load(f"onnx:{path}?layout=arcface_112", device="cpu", batch_size=2)
        assert embedder.name == "onnx:tiny"
        # The same file, read the same way: insightface's range and order are this door's defaults.
        crops = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
        np.testing.assert_allclose(embedder.embed(crops), load(f"arcface:{path}").embed(crops), atol=2e-5)
        assert embedder.sha256 == load(f"arcface:{path}").sha256

    def test_release_by_its_name(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("maskfix.weights.weights_folders", lambda: [tmp_path])
        assert default_embedder() == "dlib"
        with pytest.raises(WeightsError, match="weights 'lightcnn9' are unknown; known: none; or give the path"):
            load("lightcnn9")
        for tag in ("old", "new"):
            row = save_weights(tmp_path / f"lightcnn9.{tag}.safetensors", lightcnn_state("lightcnn9"), "lightcnn9")
            add_to_manifest(row, tmp_path)
        assert default_embedder() == "lightcnn9"
        path = tmp_path / "lightcnn9.new.safetensors"
        # However it is asked for, it has the name and the hash by which its threshold is found.
        for spec in ("lightcnn9", "lightcnn9.new", "lightcnn:lightcnn9", "lightcnn:lightcnn9.new", f"lightcnn:{path}"):
            embedder = load(spec, device="cpu")
            assert (embedder.name, embedder.sha256) == ("lightcnn:lightcnn9.new", row.sha256), spec
        assert load("lightcnn9.old").name == "lightcnn:lightcnn9.old"
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        with pytest.raises(WeightsError, match=r"lightcnn9\.new\.safetensors: sha256 is .*, the manifest says"):
            load("lightcnn9")

    def test_releases_are_lightcnns(self) -> None:
        assert tuple(lightcnn._VARIANTS) == factory._RELEASED

    @pytest.mark.parametrize("prefix", ["lightcnn", "facenet", "human", "arcface", "onnx"])
    def test_missing_files_are_named(self, tmp_path: Path, prefix: str) -> None:
        suffix = {"human": "faceres.json", "arcface": "x.onnx", "onnx": "x.onnx?layout=arcface_112"}.get(
            prefix, "x.pth"
        )
        with pytest.raises(EmbedderError, match=str(tmp_path)) as raised:
            load(f"{prefix}:{tmp_path}/{suffix}")
        assert "no such" in str(raised.value)

    @pytest.mark.parametrize(
        "spec",
        [
            "lightcnn",
            "lightcnn:",
            "lightcnn10",
            "lightcnn99.x",
            "onnx:",
            "facenet:",
            "file.onnx",
            "facenet",
            "",
            "arcface",
            "arcface:",
            "dlib:",
            "human:",
            "ARCFACE:x.onnx",
        ],
    )
    def test_unknown(self, spec: str) -> None:
        with pytest.raises(EmbedderError, match="is unknown; known: ") as raised:
            load(spec)
        assert all(known in str(raised.value) for known in list_embedders())


def test_importing_the_room_loads_no_recogniser() -> None:
    code = "import sys, maskfix.embed; print([m for m in ('torch', 'insightface', 'dlib', 'onnx') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_lazy_names() -> None:
    assert all(getattr(maskfix.embed, name) is not None for name in maskfix.embed.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = maskfix.embed.nothing
