"""The examples of the seams run as they stand, on a portrait in the public domain."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from maskfix.restore import create_network
from maskfix.weights import save_weights
from tests.embed.onnx_files import RECOGNISER

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights that call the whole crop occluded: what the examples print is checked, not how well they do."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = create_network("cadf_small_128")
    with torch.no_grad():
        made.decoder.occlusion.weight.zero_()
        made.decoder.occlusion.bias.fill_(20.0)
    path = tmp_path_factory.mktemp("weights") / "cadf_small_128.random.safetensors"
    save_weights(path, made.state_dict(), "cadf_small_128")
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a script as `python examples/SCRIPT ARGUMENTS` would; gives what it prints."""

    def start(script: str, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        monkeypatch.syspath_prepend(str(EXAMPLES))
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        return capsys.readouterr().out

    return start


def similarities(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"similarity .*: +(-?[0-9.]+)", text)]


def test_insightface(run: Callable[..., str], shared: Path, weights: Path) -> None:
    text = run("insightface_attach.py", "--recogniser", RECOGNISER, "--weights", weights)
    before, after = similarities(text)
    assert before != after
    assert "covered: 100.0%, completed: True" in text
    assert "detached, the embedding is the first one: True" in text


@pytest.mark.parametrize(("script", "count"), [("facenet_wrap.py", 3), ("lightcnn_wrap.py", 2), ("any_module.py", 2)])
def test_without_downloads(run: Callable[..., str], script: str, count: int, weights: Path) -> None:
    pytest.importorskip("skimage", reason="scikit-image ships the portrait")
    text = run(script, "--weights", weights)
    assert len(similarities(text)) == count
    assert "covered: 100.0%, completed: True" in text


def test_onnx(run: Callable[..., str], shared: Path, weights: Path) -> None:
    assert len(similarities(run("any_module.py", "--onnx", RECOGNISER, "--weights", weights))) == 2


def test_with_released_weights(run: Callable[..., str], shared: Path) -> None:
    """The released network finds the mask, and what it makes of the face is still this face to the recogniser.

    One portrait says nothing about gain, in either direction; LFW does (benchmarks/results).
    """
    text = run("insightface_attach.py", "--recogniser", RECOGNISER)
    assert 0.1 < float(re.findall(r"covered: ([\d.]+)%", text)[0]) / 100 < 0.3
    assert "completed: True" in text
    before, after = similarities(text)
    assert after != before
    assert after > 0.5
