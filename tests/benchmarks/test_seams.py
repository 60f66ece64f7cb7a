from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from benchmarks import speed
from benchmarks.seams import Overhead, measure_gate, measure_overhead
from maskfix.base import InputError, UInt8Array, write_image
from maskfix.deocclude import Deoccluder
from maskfix.occlude import Occluder
from maskfix.plugin import pack_free_analysis
from maskfix.restore import create_network
from maskfix.weights import save_weights
from tests.embed.onnx_files import write_recogniser
from tests.plugin.worlds import batches, early_green_deoccluder, green_deoccluder

pytest.importorskip("insightface")


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recogniser(tmp_path_factory.mktemp("onnx") / "tiny.onnx")


@pytest.fixture(scope="module")
def app(recogniser: Path) -> Any:
    return pack_free_analysis(recogniser)


@pytest.fixture(scope="module")
def face_bgr(astronaut: UInt8Array) -> UInt8Array:
    return np.ascontiguousarray(astronaut[:250, 100:350, ::-1])


class TestOverhead:
    def test_ratio_by_hand(self) -> None:
        """Medians 2 + 10 and 3 + 12; round by round 13/11, 15/12 and 17/13 of sums."""
        alone = np.array([[1.0, 2, 3], [10, 10, 10]])
        attached = np.array([[2.0, 3, 4], [11, 12, 13]])
        measured = Overhead(3 * alone, alone, attached, np.array([1, 1]), np.array([0, 0]), np.array([1, 0]))
        assert measured.ratio == pytest.approx(15 / 12)
        assert measured.quartiles == pytest.approx(np.percentile([13 / 11, 15 / 12, 17 / 13], [25, 75]))
        assert measured.summary()["alone_ms"] == pytest.approx(6000)
        assert measured.summary()["untouched_ms"] == pytest.approx(18000)
        assert measured.summary()["early"] == 1

    def test_takes_turns(self, app: Any, face_bgr: UInt8Array) -> None:
        """The clock is told by hand: a call alone takes 1 s, attached 2 s, whichever goes first."""
        blind = green_deoccluder()
        before = dict(vars(app))
        ticks: list[bool] = []

        def clock() -> float:
            ticks.append("get" in vars(app))
            return float(sum(1 + attached for attached in ticks[1::2]))

        measured = measure_overhead(app, [face_bgr], blind, rounds=3, warm_up=1, clock=clock)
        assert ticks[::2] == [False] * 4 + [False, True, True, False, False, True, True, False]
        np.testing.assert_array_equal(measured.untouched, [[1, 1, 1]])
        np.testing.assert_array_equal(measured.alone, [[1, 1, 1]])
        np.testing.assert_array_equal(measured.attached, [[2, 2, 2]])
        assert measured.ratio == 2
        assert measured.faces.tolist() == [1]
        assert measured.completed.tolist() == [0]
        assert measured.early.tolist() == [0]
        assert batches(blind) == [1] * 4
        assert dict(vars(app)) == before

    def test_early_look_is_counted(self, app: Any, face_bgr: UInt8Array) -> None:
        blind = early_green_deoccluder()
        measured = measure_overhead(app, [face_bgr], blind, rounds=1, warm_up=0)
        assert measured.early.tolist() == [1]
        assert batches(blind) == []

    def test_errors(self, app: Any) -> None:
        with pytest.raises(InputError, match="at least one photo and one round"):
            measure_overhead(app, [], green_deoccluder())
        with pytest.raises(InputError, match="photo 0 has no face"):
            measure_overhead(app, [np.zeros((64, 64, 3), np.uint8)], green_deoccluder(), rounds=1, warm_up=0)
        assert "get" not in vars(app)


class TestGate:
    @pytest.fixture
    def probes(self, tmp_path: Path, face_bgr: UInt8Array) -> list[Path]:
        folder = tmp_path / "Eileen"
        folder.mkdir()
        write_image(folder / "Eileen_0001.png", face_bgr[..., ::-1])
        write_image(folder / "Eileen_0002.png", np.zeros((64, 64, 3), np.uint8))
        return sorted(folder.iterdir())

    def test_counts(self, app: Any, probes: list[Path]) -> None:
        """The green network sees nothing of a mask that is not green: both pass, and one error is found."""
        measured = measure_gate(app, probes, green_deoccluder(), Occluder())
        assert measured.missed == 1
        summary = measured.summary()
        assert (summary["probes"], summary["no_face"]) == (1, 1)
        assert summary["clean_identical"] == 1
        assert summary["masked_completed"] == 0
        assert summary["masked_passed_error"] == 1
        assert summary["clean_completed_error"] == 0
        assert "get" not in vars(app)

    def test_early_look(self, app: Any, probes: list[Path]) -> None:
        """Neither picture shows green, so the early look takes the mask for clean as well, and is found out."""
        summary = measure_gate(app, probes, early_green_deoccluder(), Occluder()).summary()
        assert summary["clean_by_early_look"] == 1
        assert summary["masked_missed_by_early_look"] == 1
        plain = measure_gate(app, probes, green_deoccluder(), Occluder()).summary()
        assert plain["clean_by_early_look"] == plain["masked_missed_by_early_look"] == 0

    def test_everything_occluded(self, app: Any, probes: list[Path]) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            made = create_network("cadf_small_128")
        with torch.no_grad():
            made.decoder.occlusion.weight.zero_()
            made.decoder.occlusion.bias.fill_(20.0)
        summary = measure_gate(app, probes, Deoccluder(made, device="cpu"), Occluder()).summary()
        assert summary["clean_identical"] == 0
        assert summary["masked_completed"] == 1
        assert summary["clean_completed_error"] == 1

    def test_no_face(self, app: Any, probes: list[Path]) -> None:
        with pytest.raises(InputError, match="no face found in any probe"):
            measure_gate(app, probes[1:], green_deoccluder(), Occluder())


class TestCommand:
    def test_json(self, tmp_path: Path, recogniser: Path) -> None:
        weights = tmp_path / "cadf_small_128.random.safetensors"
        with torch.random.fork_rng():
            torch.manual_seed(0)
            save_weights(weights, create_network("cadf_small_128").state_dict(), "cadf_small_128")
        out = tmp_path / "speed.json"
        arguments = ["--seams", "--recogniser", recogniser, "--weights", weights, "--rounds", 1, "--json", out]
        done = CliRunner().invoke(speed.app, [str(item) for item in arguments])
        assert done.exit_code == 0, done.output
        report = json.loads(out.read_text(encoding="utf-8"))
        assert report["format"] == speed.FORMAT
        row = report["seams"]["insightface"]
        assert row["ratio"] > 0
        assert row["faces"] >= 1
        assert report["versions"]["insightface"]
        assert "insightface" in done.output

    def test_nothing_to_measure(self) -> None:
        done = CliRunner().invoke(speed.app, [])
        assert done.exit_code == 2
