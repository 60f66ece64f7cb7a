from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import maskfix.embed
from maskfix.base import EmbedderError
from maskfix.embed.factory import list_embedders, load
from tests.embed.onnx_files import write_recogniser


class TestLoad:
    def test_arcface_path(self, tmp_path: Path) -> None:
        embedder = load(f"arcface:{write_recogniser(tmp_path / 'tiny.onnx')}", device="cpu", batch_size=2)
        assert embedder.name == "arcface:tiny"
        assert embedder.dimension == 16

    def test_dlib(self) -> None:
        pytest.importorskip("dlib")
        assert load("dlib").layout.size == 150

    @pytest.mark.parametrize("spec", ["facenet", "", "arcface", "arcface:", "dlib:", "human:", "ARCFACE:x.onnx"])
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
