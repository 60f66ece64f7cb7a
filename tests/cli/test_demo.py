"""The demonstration: one face, nine masks, a table and a panel; weights here are random."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from maskfix.base import EmbedderError, ImageError, UInt8Array, WeightsError, read_image, write_image
from maskfix.cli import main
from maskfix.cli.demo import run_demo
from maskfix.occlude import PAPER_KINDS
from maskfix.restore import create_network
from maskfix.weights import save_weights

needs_dlib = pytest.mark.skipif(
    not (find_spec("dlib") and find_spec("face_recognition_models")),
    reason="needs dlib-bin and face-recognition-models",
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file whose network takes everything for visible."""
    network = create_network("cadf_small_128")
    with torch.no_grad():
        network.decoder.occlusion.weight.zero_()
        network.decoder.occlusion.bias.fill_(-20.0)  # type: ignore[union-attr]
    path = tmp_path_factory.mktemp("weights") / "cadf_small_128.random.safetensors"
    save_weights(path, network.state_dict(), "cadf_small_128")
    return path


@needs_dlib
def test_demo__table_and_panel(
    weights: Path,
    tmp_path: Path,
    astronaut: UInt8Array,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_image(tmp_path / "photo.png", astronaut)
    words = f"demo --out {tmp_path / 'out'} --photo {tmp_path / 'photo.png'} --weights {weights} --device cpu"
    monkeypatch.setattr(sys, "argv", ["maskfix", *words.split()])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    shown = capsys.readouterr().out
    rows = [line for line in shown.splitlines() if any(f" {kind} " in line for kind in PAPER_KINDS)]
    assert len(rows) == 9
    for row in rows:
        before, after, gain = (float(cell) for cell in row.replace("│", " ").split()[1:4])
        # Nothing is taken for occluded: the completed picture is the masked one.
        assert before == after
        assert gain == 0
        assert 0.3 < before < 0.99
    assert f"panel: {tmp_path / 'out' / 'panel.png'}" in shown
    panel = read_image(tmp_path / "out" / "panel.png")
    assert panel.shape[0] > panel.shape[1] / 2
    assert panel.std() > 20


@needs_dlib
def test_demo__photograph_without_a_face(weights: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "grey.png", np.full((128, 128, 3), 90, np.uint8))
    with pytest.raises(ImageError, match=r"grey\.png: .*; choose a photograph with one clear face"):
        run_demo(tmp_path / "out", tmp_path / "grey.png", str(weights), "dlib", None, "cpu")
    assert not (tmp_path / "out").exists()


@needs_dlib
def test_demo__unknown_recogniser_and_weights(weights: Path, tmp_path: Path, astronaut: UInt8Array) -> None:
    write_image(tmp_path / "photo.png", astronaut)
    arguments = (tmp_path / "out", tmp_path / "photo.png")
    with pytest.raises(EmbedderError, match="'facenet' is unknown; known: arcface:PATH"):
        run_demo(*arguments, str(weights), "facenet", None, "cpu")
    with pytest.raises(WeightsError, match="'cadf_huge' are unknown"):
        run_demo(*arguments, "cadf_huge", "dlib", None, "cpu")
    assert not (tmp_path / "out").exists()
