"""What a file has before it scales its vectors: real graphs of every kind, read through both ONNX recognisers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from maskfix.base import DependencyError, arcface_layout
from maskfix.embed.arcface import ArcFaceEmbedder
from maskfix.embed.onnx_network import OnnxEmbedder
from tests.embed.onnx_files import RECOGNISER, write_recogniser

CROPS = np.random.default_rng(3).integers(0, 256, (5, 112, 112, 3), dtype=np.uint8)


def load_both(path: Path) -> list[ArcFaceEmbedder | OnnxEmbedder]:
    pytest.importorskip("insightface")
    return [ArcFaceEmbedder(path, "cpu", 2), OnnxEmbedder(path, arcface_layout(112), device="cpu", batch_size=2)]


@pytest.mark.parametrize("batch", ["n", 1, 4])
@pytest.mark.parametrize("last", ["Div", "Mul", "LpNormalization"])
def test_scaled_files_give_what_plain_ones_give(tmp_path: Path, last: str, batch: int | str) -> None:
    plain = load_both(write_recogniser(tmp_path / "plain.onnx"))
    scaled = load_both(write_recogniser(tmp_path / "scaled.onnx", batch=batch, last=last))
    for one, other in zip(plain, scaled, strict=True):
        raw = one.embed_raw(CROPS)
        assert (np.abs(np.linalg.norm(raw, axis=1) - 1) > 0.01).all()
        np.testing.assert_allclose(other.embed_raw(CROPS), raw, atol=1e-6)
        np.testing.assert_allclose(other.embed(CROPS), one.embed(CROPS), atol=1e-6)


def test_a_plain_file_is_not_opened_twice(tmp_path: Path) -> None:
    for embedder in load_both(write_recogniser(tmp_path / "plain.onnx")):
        embedder.embed_raw(CROPS)
        own = embedder._model.session if isinstance(embedder, ArcFaceEmbedder) else embedder._session
        raw = embedder._raw_model.session if isinstance(embedder, ArcFaceEmbedder) else embedder._raw.session
        assert raw is own


def test_scaling_in_an_unknown_way_stays(tmp_path: Path) -> None:
    for embedder in load_both(write_recogniser(tmp_path / "hidden.onnx", last="Identity")):
        np.testing.assert_allclose(embedder.embed_raw(CROPS), embedder.embed(CROPS), atol=1e-6)


def test_without_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedder = load_both(write_recogniser(tmp_path / "scaled.onnx", last="Div"))[1]
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(DependencyError, match="needs onnx: pip install onnx"):
        embedder.embed_raw(CROPS)


@pytest.mark.skipif(not RECOGNISER.is_file(), reason=f"{RECOGNISER} is not here")
def test_real_network_against_its_torch_module() -> None:
    """The real file divides by the length as its last step; the module's last layer shows what was there before."""
    import torch

    from maskfix.embed import MobileFaceNet

    module = MobileFaceNet.from_onnx(RECOGNISER).eval()
    seen: list[torch.Tensor] = []
    list(module.children())[-1].register_forward_hook(lambda _m, _i, output: seen.append(output.flatten(1)))
    with torch.inference_mode():
        module(torch.from_numpy(CROPS).permute(0, 3, 1, 2).float() / 255)
    expected = seen[0].numpy()
    for embedder in load_both(RECOGNISER):
        if isinstance(embedder, OnnxEmbedder):
            embedder = OnnxEmbedder(RECOGNISER, arcface_layout(112), (-127.5 / 128, 127.5 / 128), device="cpu")
        raw = embedder.embed_raw(CROPS)
        # insightface divides by 127.5 where the network was trained with 128.
        rough = isinstance(embedder, ArcFaceEmbedder)
        np.testing.assert_allclose(raw, expected, atol=(0.05 if rough else 1e-4) * np.abs(expected).max())
        assert np.ptp(np.linalg.norm(raw, axis=1)) > 0.01
