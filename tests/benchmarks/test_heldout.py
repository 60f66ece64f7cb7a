"""The development benchmark's command and its report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from benchmarks.heldout import app
from maskfix.data import held_out, open_store
from maskfix.restore import CONFIGS
from maskfix.weights import file_sha256
from tests.benchmarks.held_out import TINY, Corner, write_checkpoint, write_faces, write_mask_detector


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "tiny", TINY)


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | Path]:
    embedders = {"one": Corner("one"), "two": Corner("two", 64)}
    monkeypatch.setattr("benchmarks.heldout.load", lambda spec, *_: embedders[spec])
    weights = tmp_path / "run" / "completion.pt"
    write_checkpoint(weights)
    faces = write_faces(tmp_path / "faces")
    return ["--faces", faces, "--weights", weights, "--embedder", "one", "--device", "cpu", "--replicates", "50"]


def test_main__report(tmp_path: Path, arguments: list[str | Path]) -> None:
    out = tmp_path / "reports" / "run.json"
    done = call(*arguments, "--embedder", "two", "--json", out, "--seed", "4", "--kind", "N95", "--kind", "KN95")
    assert done.exit_code == 0, done.stderr
    assert "two: recovered similarity" in done.stdout
    assert "two: margin over strangers" in done.stdout
    assert "By group" in done.stdout
    report = json.loads(out.read_text())
    names = open_store(tmp_path / "faces").names
    apart = held_out(names, 0.5)
    assert report["data"] == {
        "store": str(tmp_path / "faces"),
        "faces": 60,
        "held_out": 0.5,
        "measured": int(apart.sum()),
    }
    assert report["overall"]["faces"] == apart.sum()
    assert report["overall"]["figures"]["psnr"]["ci95"][0] < report["overall"]["figures"]["psnr"]["value"]
    assert report["weights"]["sha256"] == file_sha256(tmp_path / "run" / "completion.pt")
    assert [(one["spec"], one["name"], one["sha256"]) for one in report["embedders"]] == [
        ("one", "one", "ab" * 32),
        ("two", "two", "ab" * 32),
    ]
    assert report["masks"] == {"source": "drawn", "kinds": ["N95", "KN95"]}
    assert report["settings"]["seed"] == 4
    assert {"maskfix", "python", "numpy", "torch"} <= set(report["versions"])
    assert report["commit"] is None or len(report["commit"]) >= 40
    females = sum(name.split("_")[1] == "1" for name, kept in zip(names, apart, strict=True) if kept and "_" in name)
    assert report["groups"]["sex"]["female"]["faces"] == females
    assert report["groups"]["sex"]["unlabelled"]["faces"] == int(apart[-1])
    assert report["worst"]["figures"]["psnr"] is None or report["worst"]["figures"]["psnr"]["faces"] >= 30


def test_main__limit_and_share(tmp_path: Path, arguments: list[str | Path]) -> None:
    out = tmp_path / "run.json"
    done = call(*arguments, "--limit", "5", "--held-out", "0.4", "--no-composed", "--json", out)
    assert done.exit_code == 0, done.stderr
    report = json.loads(out.read_text())
    assert (report["data"]["held_out"], report["data"]["measured"]) == (0.4, 5)
    assert report["settings"]["composed"] is False
    assert report["settings"]["surroundings"] == "edge"
    edge = report["overall"]["figures"]["psnr_masked"]["value"]
    assert call(*arguments, "--limit", "5", "--surroundings", "reflection", "--json", out).exit_code == 0
    report = json.loads(out.read_text())
    assert report["settings"]["surroundings"] == "reflection"
    assert report["overall"]["figures"]["psnr_masked"]["value"] != edge
    assert report["settings"]["trim"] == 0
    assert call(*arguments, "--limit", "5", "--trim", "0.2", "--json", out).exit_code == 0
    report = json.loads(out.read_text())
    assert report["settings"]["trim"] == 0.2
    assert report["overall"]["figures"]["psnr_masked"]["value"] != edge


def test_main__a_store_of_other_photographs_is_measured_whole(tmp_path: Path, arguments: list[str | Path]) -> None:
    out = tmp_path / "run.json"
    done = call(*arguments, "--unseen", "--json", out)
    assert done.exit_code == 0, done.stderr
    report = json.loads(out.read_text())
    assert report["data"]["measured"] == report["data"]["faces"]
    assert report["settings"]["unseen"] is True


def test_main__a_mask_detector_is_asked(tmp_path: Path, arguments: list[str | Path]) -> None:
    out, detector = tmp_path / "run.json", tmp_path / "model.pth"
    write_mask_detector(detector)
    done = call(*arguments, "--limit", "5", "--mask-detector", detector, "--json", out)
    assert done.exit_code == 0, done.stderr
    assert "A mask is seen on" in done.stdout
    report = json.loads(out.read_text())
    assert report["mask_detector"] == {"name": "mask-recognition 0.0.1", "sha256": file_sha256(detector)}
    assert report["overall"]["mask_seen"]["clean"]["faces"] == 5
    assert call(*arguments, "--limit", "5", "--json", out).exit_code == 0
    report = json.loads(out.read_text())
    assert report["mask_detector"] is None
    assert "mask_seen" not in report["overall"]


BAD_INPUT = {
    "share of trained faces": (["--held-out", "0.6"], "run@7 left out 0.5 in training, 0.6 would hold trained faces"),
    "limit": (["--limit", "0"], "limit 0"),
    "no store": (["--faces", "nowhere"], "nowhere: crops.npy"),
    "no weights": (["--weights", "nowhere.pt"], "nowhere.pt"),
    "unknown weights": (["--weights", "cadf_tiny_8"], "weights 'cadf_tiny_8' are unknown"),
    "templates": (["--templates", "nowhere"], "nowhere: no such folder of mask templates"),
    "kind": (["--kind", "scarf"], "mask kind: 'scarf' is unknown"),
    "batch size": (["--batch-size", "0"], "batch size: expected a number in [1, 4096], got 0"),
    "replicates": (["--replicates", "-1"], "replicates: expected a number in"),
    "seed": (["--seed", "-1"], "seed: expected a number in"),
    "device": (["--device", "tpu"], "known: auto, cpu, cuda"),
    "surroundings": (
        ["--surroundings", "sea"],
        "'sea' is unknown, known: reflection, edge, flat,",
    ),
    "trim": (["--trim", "0.5"], "trim: expected a number in [0, 0.4], got 0.5"),
    "trim of a reflection": (["--trim", "0.1", "--surroundings", "reflection"], "trim: needs other surroundings"),
    "unseen share": (["--unseen", "--held-out", "0.1"], "unseen: measures every face of the store"),
    "mask detector": (["--mask-detector", "nowhere.pth"], "nowhere.pth: no such checkpoint file"),
    "json is a folder": (["--json", "."], "error: .: is a folder"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_main__bad_input(tmp_path: Path, arguments: list[str | Path], case: str) -> None:
    words, message = BAD_INPUT[case]
    out = tmp_path / "run.json"
    done = call(*arguments, "--json", out, *words)
    assert done.exit_code == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not done.stdout
    assert not out.exists()
