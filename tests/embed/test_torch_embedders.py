"""What recognisers that run in torch have in common: the caller's torch is left alone, and does them no harm."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from maskfix.embed.base import Embedder
from maskfix.embed.facenet import FaceNetEmbedder, _network_class
from maskfix.embed.human import HumanEmbedder
from maskfix.embed.lightcnn import LightCnnEmbedder
from tests.embed.checkpoint_files import lightcnn_checkpoint, lightcnn_state
from tests.embed.test_human import mobileface


def _load(name: str, folder: Path) -> Embedder:
    if name == "human":
        return HumanEmbedder(mobileface(folder), "cpu")
    if name == "lightcnn":
        torch.save(lightcnn_checkpoint("lightcnn9", lightcnn_state("lightcnn9")), folder / "lightcnn9.pth.tar")
        return LightCnnEmbedder(folder / "lightcnn9.pth.tar", "cpu")
    pytest.importorskip("facenet_pytorch")
    if not (folder / "facenet.pt").exists():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            torch.save(_network_class()().state_dict(), folder / "facenet.pt")
    return FaceNetEmbedder(folder / "facenet.pt", "cpu")


@pytest.mark.parametrize("name", ["human", "lightcnn", "facenet"])
def test_embed__inside_autocast(tmp_path: Path, name: str) -> None:
    """To the bit what it is outside; with bfloat16 there was no array to be made of it."""
    embedder = _load(name, tmp_path)
    side = embedder.layout.size
    crops = np.random.default_rng(1).integers(0, 256, (2, side, side, 3)).astype(np.uint8)
    outside = embedder.embed(crops)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            np.testing.assert_array_equal(embedder.embed(crops), outside)


@pytest.mark.parametrize("name", ["human", "lightcnn", "facenet"])
def test_loading_draws_nothing(tmp_path: Path, name: str) -> None:
    _load(name, tmp_path)
    before = torch.get_rng_state()
    _load(name, tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
