"""The command: its files, its errors, and a real run where the data are here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from benchmarks.lfw import app
from benchmarks.report import FILES
from benchmarks.schema import validate_report
from maskfix.base import read_image, write_image
from maskfix.occlude import read_manifest
from maskfix.plot.saved import load_scores
from tests.protocols.worlds import FirstRowRestorer, FlatDetector, MiddleEmbedder, flat, write_world

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
RECOGNISER = SHARED / "models" / "mobilefacenet-arcface" / "mobilefacenet.onnx"
WEIGHTS = "cadf_small_128"


@pytest.fixture
def plain_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command with the parts of the tiny world in the place of networks; masks are drawn for real."""
    embedders = {"middle": MiddleEmbedder("arcface:middle"), "other": MiddleEmbedder("other/one", 112)}
    monkeypatch.setattr("maskfix.embed.factory.load", lambda spec, **_: embedders[spec])
    monkeypatch.setattr("maskfix.deocclude.Deoccluder.from_pretrained", lambda *_, **__: FirstRowRestorer())
    monkeypatch.setattr("maskfix.align.load_detector", lambda *_, **__: FlatDetector())


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def arguments(data: Path, out: Path) -> list[str | Path]:
    return ["--data", data, "--embedder", "middle", "--out", out, "--device", "cpu", "--replicates", "50"]


@pytest.mark.usefixtures("plain_parts")
def test_main__files(tmp_path: Path) -> None:
    write_world(tmp_path / "data")
    out = tmp_path / "runs" / "lfw"
    done = call(*arguments(tmp_path / "data", out), "--seed", "5")
    assert done.exit_code == 0, done.stderr
    assert "| Completed | 100.00 [100.00, 100.00]" in done.stdout
    assert "landmarks of 12 pictures took" in done.stderr
    assert {path.name for path in out.iterdir()} == {*FILES, "report.html"}
    assert {path.name for path in out.parent.iterdir()} == {"lfw", "landmarks-cache"}

    report = json.loads((out / "report.json").read_text())
    validate_report(report)
    assert (report["seed"], report["protocol"]["comparisons"], report["methods"]["completed"]["auc"]) == (5, 12, 1)
    assert report["weights"]["sha256"] == "ab" * 32
    assert report["embedder"]["spec"] == "middle"
    assert report["masks"]["source"]
    assert report["completion"]["coverage"] == 0.25
    assert report["peak_rss_bytes"] > 2**20

    saved = load_scores(out / "scores.npz")
    assert list(saved.scores) == ["clean", "masked", "completed", "clean_completed"]
    assert saved.probe[3] == "A_Green/A_Green_0002"
    assert saved.same.sum() == 6
    genuine, impostor = saved.scores["masked"][saved.same], saved.scores["masked"][~saved.same]
    wins = (genuine[:, None] > impostor).mean() + (genuine[:, None] == impostor).mean() / 2
    assert report["methods"]["masked"]["auc"] == pytest.approx(wins, abs=1e-12)

    records = read_manifest(out / "masks.csv")
    assert [record.ok for record in records] == [True] * 6
    assert read_image(out / "panel.png").shape[0] > 100
    assert (out / "roc.pdf").read_bytes().startswith(b"%PDF")
    assert "recovered share" in (out / "table.md").read_text()


@pytest.mark.usefixtures("plain_parts")
def test_main__several_recognisers_and_second_run(tmp_path: Path) -> None:
    write_world(tmp_path / "data")
    out = tmp_path / "lfw"
    done = call(*arguments(tmp_path / "data", out), "--embedder", "other", "--probe", "both", "--limit-folds", "1")
    assert done.exit_code == 0, done.stderr
    own = {"arcface-middle", "other-one"}
    assert {path.name for path in out.iterdir()} == {*own, "report.html", "table.md", "roc.png", "roc.pdf"}
    rows = [line.split(" | ") for line in (out / "table.md").read_text().splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows if row[0].strip("| ") in own] == ["| arcface-middle", "| other-one"] * 2
    first = json.loads((out / "other-one" / "report.json").read_text())["methods"]["clean"]
    assert rows[1 + [row[0] for row in rows[1:]].index("| other-one")][2].startswith(f"{100 * first['auc']:.2f}")
    height, width, _ = read_image(out / "roc.png").shape
    assert width > height > 300
    assert "other/one" in (out / "report.html").read_text()
    for name in ("arcface-middle", "other-one"):
        report = json.loads((out / name / "report.json").read_text())
        assert report["protocol"]["comparisons"] == 12
        assert report["protocol"]["name"] == "LFW, not the official pairs, first fold, clean gallery"
        assert report["methods"]["clean"]["accuracy"] == {"mean": None, "se": None}
    again = call(*arguments(tmp_path / "data", out / "arcface-middle"), "--cache", tmp_path / "landmarks-cache")
    assert again.exit_code == 0
    assert "landmarks of 6 pictures" in again.stderr  # those of the second fold
    assert json.loads((out / "arcface-middle" / "report.json").read_text())["protocol"]["folds"] == 2


def no_data(data: Path) -> list[str]:
    return ["--data", str(data / "nowhere")]


def not_lfw(data: Path) -> list[str]:
    (data / "pairs.txt").unlink()
    return []


def missing_picture(data: Path) -> list[str]:
    (data / "lfw" / "A_Red" / "A_Red_0002.png").unlink()
    return []


def no_faces(data: Path) -> list[str]:
    for path in data.rglob("*.png"):
        write_image(path, flat((0, 0, 0)))
    return ["--drop-failed"]


def out_is_a_file(data: Path) -> list[str]:
    (data.parent / "file").write_text("keep me")
    return ["--out", str(data.parent / "file")]


def options(*words: str) -> Callable[[Path], list[str]]:
    return lambda _: list(words)


BAD_INPUT = {
    "no data": (no_data, "nowhere: no such folder"),
    "not LFW": (not_lfw, "is not LFW, it holds no pairs.txt"),
    "missing picture": (missing_picture, "A_Red_0002.jpg: picture named by pairs.txt is missing"),
    "no face at all": (no_faces, "no genuine or no impostor pair is left"),
    "out is a file": (out_is_a_file, "file: is a file; give a folder"),
    "folds": (options("--limit-folds", "3"), "expected a number from 1 to 2, got 3"),
    "batch size": (options("--batch-size", "0"), "batch size: expected a number in [1, 4096], got 0"),
    "replicates": (options("--replicates", "-1"), "replicates: expected a number in"),
    "probe": (options("--probe", "third"), "known: second, first, both"),
    "device": (options("--device", "tpu"), "known: auto, cpu, cuda"),
    "detector": (options("--detector", "eyes"), "known: auto, mesh, mtcnn"),
    "templates": (options("--templates", "nowhere"), "nowhere: no such folder of mask templates"),
    "embedder twice": (options("--embedder", "middle"), "each once"),
}


@pytest.mark.usefixtures("plain_parts")
@pytest.mark.parametrize("case", BAD_INPUT)
def test_main__bad_input(tmp_path: Path, case: str) -> None:
    spoil, message = BAD_INPUT[case]
    data = tmp_path / "data"
    write_world(data)
    done = call(*arguments(data, tmp_path / "runs" / "lfw"), *spoil(data))
    assert done.exit_code == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not done.stdout
    runs = {path.name for path in (tmp_path / "runs").glob("*")} if (tmp_path / "runs").exists() else set()
    assert runs <= {"landmarks-cache"}


@pytest.mark.usefixtures("plain_parts")
def test_main__damaged_picture_is_a_counted_failure(tmp_path: Path) -> None:
    # LFW as it is passed around holds a truncated file; a run must not end there, and must not hide it.
    write_world(tmp_path / "data")
    path = tmp_path / "data" / "lfw" / "A_Red" / "A_Red_0002.png"
    path.write_bytes(path.read_bytes()[:50])
    done = call(*arguments(tmp_path / "data", tmp_path / "lfw"))
    assert done.exit_code == 0, done.stderr
    assert "1 pictures without a usable face" in done.stderr
    report = json.loads((tmp_path / "lfw" / "report.json").read_text())
    [(name, reason)] = report["failures"]["no_face"].items()
    assert "A_Red_0002" in name
    assert "A_Red_0002.png" in reason
    assert name in (tmp_path / "lfw" / "report.html").read_text()
    assert report["protocol"]["comparisons"] == 12
    failures = report["methods"]["clean"]["failures"]
    assert sum(failures["gallery"].values()) + sum(failures["probe"].values()) > 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--embedder", "facenet"], "error: embedder 'facenet' is unknown; known: arcface:PATH.onnx"),
        (["--embedder", "arcface:none.onnx"], "error: none.onnx: no such ONNX file"),
    ],
)
def test_main__unknown_networks(tmp_path: Path, words: list[str], message: str) -> None:
    write_world(tmp_path / "data")
    done = call("--data", tmp_path / "data", "--out", tmp_path / "lfw", "--device", "cpu", *words)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "lfw").exists()


def test_main__unknown_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maskfix.embed.factory.load", lambda *_, **__: MiddleEmbedder())
    write_world(tmp_path / "data")
    done = call(*arguments(tmp_path / "data", tmp_path / "lfw"), "--weights", "cadf_tiny_8")
    assert done.exit_code == 2
    assert "error: weights 'cadf_tiny_8' are unknown" in done.stderr
    assert not (tmp_path / "lfw").exists()


def test_command__exit_code_and_one_line(tmp_path: Path) -> None:
    words = ["--data", tmp_path / "none", "--embedder", "dlib", "--out", tmp_path / "lfw", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.lfw", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"error: {tmp_path / 'none'}: no such folder; give the folder that holds LFW's pairs.txt\n"
    assert done.stdout == ""


def have_weights() -> bool:
    manifest = ROOT / "weights" / "manifest.json"
    if not manifest.is_file():
        return False
    return any(row["arch"] == WEIGHTS for row in json.loads(manifest.read_text())["weights"])


@pytest.mark.skipif(not RECOGNISER.is_file(), reason="../shared is not here: no LFW and no recogniser")
@pytest.mark.skipif(not have_weights(), reason=f"weights/manifest.json has no {WEIGHTS} yet")
def test_command__two_real_folds(tmp_path: Path) -> None:
    words = [
        *("--data", SHARED / "data" / "lfw", "--embedder", f"arcface:{RECOGNISER}", "--out", tmp_path / "lfw"),
        *("--templates", SHARED / "data" / "masktheface", "--weights", WEIGHTS, "--limit-folds", "2"),
        *("--device", "cpu", "--no-clean-completed"),
    ]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.lfw", *map(str, words)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report: dict[str, Any] = json.loads((tmp_path / "lfw" / "report.json").read_text())
    clean, masked, completed = (report["methods"][name] for name in ("clean", "masked", "completed"))
    assert not report["data"]["official"]
    assert report["protocol"]["name"] == "LFW View 2, first 2 folds, clean gallery"
    assert (clean["n_genuine"], clean["n_impostor"]) == (600, 600)
    # The recogniser's own README: AUC 99.23 clean and 98.01 masked on all ten folds.
    assert clean["auc"] > 0.985
    assert 0.94 < masked["auc"] < clean["auc"]
    assert completed["auc"] > masked["auc"] - 0.002
    assert completed["tpr_at_fpr"]["0.01"]["tpr"] > masked["tpr_at_fpr"]["0.01"]["tpr"]
    assert not report["failures"]["not_masked"]
    assert len(report["failures"]["no_face"]) <= 5
    assert 0.05 < report["completion"]["coverage"] < 0.6
    saved = load_scores(tmp_path / "lfw" / "scores.npz")
    assert np.isfinite(saved.scores["clean"]).mean() > 0.99
