"""The command over a small set, its files and its errors; and a set made of LFW where the data are here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from benchmarks.ijbc.__main__ import app
from benchmarks.ijbc.make import make_from_lfw
from benchmarks.ijbc.parts import PartNames
from benchmarks.ijbc.run import Selection, run
from benchmarks.ijbc.saved import load_pictures, load_run
from benchmarks.ijbc.schema import validate_report
from maskfix.base import DatasetError, InputError, WeightsError, read_image
from maskfix.score import pair_scores
from protocols import LfwDataset
from protocols.ijb import FeatureSettings, IjbParts, IjbSettings
from tests.protocols.ijb.small import WEIGHTS, plain_parts, write_small
from tests.protocols.worlds import MiddleEmbedder

ROOT = Path(__file__).resolve().parents[3]
SHARED = ROOT.parent / "shared"
RECOGNISER = SHARED / "models" / "mobilefacenet-arcface" / "mobilefacenet.onnx"
FILES = {
    *(f"{name}.{suffix}" for name in ("roc", "det", "histogram") for suffix in ("png", "pdf", "svg")),
    *("panel.png", "table.md", "report.json", "report.html"),
    *("templates.npz", "pictures.npz", "features", "scores", "pairs"),
}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command with the parts of the small set in the place of networks."""

    def load(names: PartNames) -> IjbParts:
        base = plain_parts()
        embedders = [MiddleEmbedder(name, 64 if name == "one" else 112) for name in names.embedders]
        return IjbParts(base.detector, base.occluder, base.restorer, WEIGHTS, embedders)

    monkeypatch.setattr(PartNames, "load", load)


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def arguments(data: Path, out: Path) -> list[str | Path]:
    return ["run", "--data", data, "--embedder", "one", "--out", out, "--device", "cpu", "--replicates", "30"]


def read(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


@pytest.mark.usefixtures("small_parts")
def test_run__files_and_figures_again(tmp_path: Path) -> None:
    write_small(tmp_path / "data")
    out = tmp_path / "runs" / "ijbc"
    done = call(*arguments(tmp_path / "data", out), "--fuse", "0.5", "--seed", "4")
    assert done.exit_code == 0, done.stderr
    assert "| Completed | " in done.stdout
    assert {path.name for path in out.iterdir()} == FILES
    assert {path.name for path in out.parent.iterdir()} == {"ijbc", "landmarks-cache"}
    report = read(out)
    validate_report(report)
    assert (report["protocol"]["rows"], report["protocol"]["units"], report["protocol"]["sample"]) == (12, 9, None)
    assert report["rows"]["gallery"]["without_feature"] == {"clean": 0}
    assert report["rows"]["probe"]["rows"] == 8
    assert report["embedder"]["lengths"] == "unit"
    assert report["protocol"]["detector_scores"] is True
    assert ", rows weighted by detector scores, seed 4." in done.stdout
    assert sum(report["masks"]["units"].values()) == 6
    # Clean: genuine 0.256, 1, 1, 1, 1 against impostors 0.51, 0.82 and eight zeros.
    assert report["methods"]["clean"]["auc"] == pytest.approx((4 * 10 + 8) / 50)
    assert report["methods"]["completed"]["auc"] == report["methods"]["clean"]["auc"]
    assert report["methods"]["masked"]["auc"] == pytest.approx((1 * (6 + 4 / 2) + 4 * 6 / 2) / 50)
    assert "fused_minus_masked" in report["difference"]
    assert read_image(out / "panel.png").shape[0] > 100
    assert (out / "roc.pdf").read_bytes().startswith(b"%PDF")
    assert b"<svg" in (out / "det.svg").read_bytes()

    assert report["protocol"]["name"] == "data 1:1"
    pictures = load_pictures(out, 8)
    assert pictures is not None
    assert pictures.folder == tmp_path / "data" / "loose_crop"
    # The first picture of each template, gallery 1 to 3 and probes 11 to 15.
    firsts = ["g1.png", "g3.png", "g4.png", "p1.png", "p4.png", "p5.png", "g3.png", "p6.png"]
    assert pictures.image.tolist() == firsts
    assert np.isnan(pictures.box).all()
    page = (out / "report.html").read_text()
    assert page.count('class="thumb"') >= 2
    assert "data 1:1" in page
    assert b"data 1:1, one" in (out / "roc.svg").read_bytes()

    saved = load_run(out)
    assert list(saved.scores) == ["clean", "masked", "completed", "fused"]
    assert all(values.dtype == np.float32 for values in saved.scores.values())
    gallery, probe = np.load(out / "features" / "gallery.npy"), np.load(out / "features" / "masked.npy")
    places = saved.pairs.gallery, saved.pairs.probe - 3
    assert np.array_equal(pair_scores(gallery, probe, *places), saved.scores["masked"])
    assert saved.subject[saved.pairs.gallery].tolist() == [0] * 5 + [1] * 5 + [2] * 5

    before = (out / "report.json").read_bytes()
    (out / "roc.png").unlink()
    (tmp_path / "data" / "loose_crop" / "p1.png").unlink()
    again = call("figures", out)
    assert again.exit_code == 0, again.stderr
    assert (out / "report.json").read_bytes() == before
    assert (out / "roc.png").is_file()
    assert call("figures", out, "--replicates", "0", "--name", "IJB-C").exit_code == 0
    assert read(out)["protocol"]["name"] == "IJB-C 1:1"
    assert "IJB-C 1:1" in (out / "report.html").read_text()
    assert read(out)["methods"]["clean"]["auc_ci95"] is None
    assert read(out)["methods"]["clean"]["auc"] == report["methods"]["clean"]["auc"]


@pytest.mark.usefixtures("small_parts")
def test_run__a_set_without_detector_scores(tmp_path: Path) -> None:
    """As NIST's tables are: every row weighs the same, and the report does not say otherwise."""
    write_small(tmp_path / "data")
    listing = tmp_path / "data" / "meta" / "ijbc_name_5pts_score.txt"
    listing.write_text("".join(f"{line.rpartition(' ')[0]} 1\n" for line in listing.read_text().splitlines()))
    done = call(*arguments(tmp_path / "data", tmp_path / "out"))
    assert done.exit_code == 0, done.stderr
    report = read(tmp_path / "out")
    assert report["settings"]["features"]["detector_score"] is True
    assert report["protocol"]["detector_scores"] is False
    assert ", rows not weighted by detector scores, seed 0." in done.stdout


@pytest.mark.usefixtures("small_parts")
def test_run__again_with_fewer_methods(tmp_path: Path) -> None:
    write_small(tmp_path / "data")
    out = tmp_path / "out"
    again = (*arguments(tmp_path / "data", out), "--replicates", "0")
    assert call(*again, "--fuse", "0.5").exit_code == 0
    fused = (out / "scores" / "fused.npy").read_bytes()
    assert call(*again).exit_code == 0
    assert {path.stem for path in (out / "scores").iterdir()} == {"clean", "masked", "completed"}
    # Left by a version that did not clear it away: not what the report is about.
    (out / "scores" / "fused.npy").write_bytes(fused)
    assert list(load_run(out).scores) == ["clean", "masked", "completed"]
    done = call("figures", out)
    assert done.exit_code == 0, done.stderr


@pytest.mark.usefixtures("small_parts")
def test_run__several_recognisers_and_damaged_picture(tmp_path: Path) -> None:
    crops = write_small(tmp_path / "data")
    (crops / "p3.png").write_bytes(b"damaged")
    (crops / "p6.png").write_bytes(b"damaged as well")
    out = tmp_path / "ijbc"
    done = call(*arguments(tmp_path / "data", out), "--embedder", "two")
    assert done.exit_code == 0, done.stderr
    assert {path.name for path in out.iterdir()} == {"one", "two", "report.html"}
    # Both recognisers on one page; pictures that cannot be read have no thumbnail and do no harm.
    page = (out / "report.html").read_text()
    assert page.count('<tr class="group"><th scope="rowgroup">two</th>') == 3
    assert "p3.png" in page
    first, second = read(out / "one"), read(out / "two")
    assert first["methods"]["masked"] == second["methods"]["masked"]
    # 15 has no readable picture: one genuine, two impostor pairs; 11 has others.
    for method in first["methods"].values():
        assert method["failures"]["probe"] == {"genuine": 1, "impostor": 2}
    assert first["rows"]["probe"]["unreadable"] == 3
    assert set(first["failures"]["no_face"]) == {"p3.png", "p6.png"}
    assert np.isneginf(load_run(out / "one").scores["clean"]).sum() == 3
    dropped = call(*arguments(tmp_path / "data", tmp_path / "dropped"), "--drop-failed")
    assert dropped.exit_code == 0, dropped.stderr
    report = read(tmp_path / "dropped")
    assert (report["protocol"]["dropped"], report["protocol"]["comparisons"]) == (3, 12)
    assert not any(sum(side.values()) for side in report["methods"]["masked"]["failures"].values())
    assert len(load_run(tmp_path / "dropped").scores["clean"]) == 12


@pytest.mark.usefixtures("small_parts")
def test_run__sample_by_subject(tmp_path: Path) -> None:
    write_small(tmp_path / "data")
    done = call(*arguments(tmp_path / "data", tmp_path / "out"), "--subjects", "2")
    assert done.exit_code == 0, done.stderr
    assert "sample: 2 of 3 subjects" in done.stderr
    report = read(tmp_path / "out")
    assert report["protocol"]["sample"] == {"subjects": 2, "of_subjects": 3, "of_templates": 8, "seed": 0}
    assert "a sample; 3 subjects in all" in done.stdout


BAD_INPUT = {
    "no data": (["--data", "nowhere"], "nowhere: no such folder"),
    "layout": (["--layout", "lfw"], "known: community, nist-flat, nist-test1"),
    "layout not there": (["--layout", "nist-flat"], "is neither IJB-B nor IJB-C"),
    "subjects": (["--subjects", "9"], "subjects: expected a number from 1 to 3, got 9"),
    "mode": (["--mode", "sometimes"], "known: always, gate"),
    "batch size": (["--batch-size", "0"], "batch size: expected a number in [1, 4096], got 0"),
    "device": (["--device", "tpu"], "known: auto, cpu, cuda"),
    "detector": (["--detector", "eyes"], "known: auto, mesh, mtcnn"),
    "embedder twice": (["--embedder", "one"], "each once"),
    "templates": (["--templates", "nowhere"], "nowhere: no such folder of mask templates"),
    "ray workers": (["--ray", "--ray-workers", "5000"], "ray actors: expected a number in"),
}


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("case", BAD_INPUT)
def test_run__bad_input(tmp_path: Path, case: str) -> None:
    words, message = BAD_INPUT[case]
    write_small(tmp_path / "data")
    done = call(*arguments(tmp_path / "data", tmp_path / "out"), *words)
    assert done.exit_code == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == done.stderr.splitlines()[-1:]
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("small_parts")
def test_run__state_of_other_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_small(tmp_path / "data")
    out = tmp_path / "out"

    def fail(*_: object) -> None:
        raise InputError("the disk is full")

    with monkeypatch.context() as context:
        context.setattr("benchmarks.ijbc.report.draw_figures", fail)
        done = call(*arguments(tmp_path / "data", out))
    assert (done.exit_code, [path.name for path in out.iterdir()]) == (2, ["state.npz"])
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    refused = call(*arguments(tmp_path / "data", out), "--seed", "1")
    assert "error: " in refused.stderr
    assert "this run was begun with setting seed 0, now it is 1" in refused.stderr
    monkeypatch.setattr("benchmarks.ijbc.run.session_of", lambda device: f"maskfix of another day, {device}")
    resumed = call(*arguments(tmp_path / "data", out))
    assert resumed.exit_code == 0
    assert "went on after 9 of 9 faces" in resumed.stderr
    assert "the features are of several makes" in resumed.stderr
    first, second = read(out)["sessions"]
    assert (first["first_unit"], second) == (0, {"first_unit": 9, "by": "maskfix of another day, cpu"})
    assert first["by"].startswith("maskfix ")
    assert call(*arguments(tmp_path / "data", out), "--fresh", "--seed", "1").exit_code == 0
    assert read(out)["seed"] == 1


@pytest.mark.usefixtures("small_parts")
def test_figures__stopped_between_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process that is killed while it swaps files: the run still has a report, and can be drawn again."""
    monkeypatch.setattr("benchmarks.ijbc.report.draw_figures", lambda *_: None)
    write_small(tmp_path / "data")
    out = tmp_path / "out"
    assert call(*arguments(tmp_path / "data", out)).exit_code == 0
    before, replace = (out / "report.json").read_bytes(), Path.replace

    def stop(path: Path, target: Path) -> Path:
        if path.name == "table.md":
            raise KeyboardInterrupt
        return replace(path, target)

    with monkeypatch.context() as context:
        context.setattr(Path, "replace", stop)
        assert call("figures", out, "--replicates", "0").exit_code != 0
    assert (out / "report.json").read_bytes() == before
    assert call("figures", out, "--replicates", "0").exit_code == 0
    assert read(out)["methods"]["clean"]["auc_ci95"] is None


@pytest.mark.usefixtures("small_parts")
def test_figures__damaged_or_no_run(tmp_path: Path) -> None:
    assert "holds no report.json" in call("figures", tmp_path).stderr
    write_small(tmp_path / "data")
    out = tmp_path / "out"
    assert call(*arguments(tmp_path / "data", out)).exit_code == 0
    np.save(out / "scores" / "masked.npy", np.zeros(3, np.float32))
    with pytest.raises(DatasetError, match=r"masked\.npy: 3 scores for 15 pairs"):
        load_run(out)
    np.save(out / "scores" / "masked.npy", np.zeros(15))
    with pytest.raises(DatasetError, match=r"masked\.npy: is not one row of scores"):
        load_run(out)
    np.save(out / "scores" / "masked.npy", np.zeros(15, np.float32))
    probe = np.load(out / "pairs" / "probe.npy")
    for values, message in (
        (probe[:3], r"probe\.npy: 3 places for 15 pairs"),
        (probe - 99, r"templates\.npz are not of one run"),
        (probe + 99, r"templates\.npz are not of one run"),
    ):
        np.save(out / "pairs" / "probe.npy", values)
        with pytest.raises(DatasetError, match=message):
            load_run(out)
    np.save(out / "pairs" / "probe.npy", probe)
    for name in ("scores/masked.npy", "templates.npz"):
        whole = (out / name).read_bytes()
        for kept in (0, len(whole) // 2):
            (out / name).write_bytes(whole[:kept])
            with pytest.raises(DatasetError, match=f"{Path(name).name}: missing or damaged"):
                load_run(out)
        (out / name).write_bytes(whole)
    (out / "report.json").write_text("{")
    assert "missing or damaged" in call("figures", out).stderr


@pytest.mark.skipif(not RECOGNISER.is_file(), reason="../shared is not here: no LFW and no recogniser")
def test_run__masked_below_completed_below_clean_on_lfw(tmp_path: Path) -> None:
    """A set made of the pictures of LFW's first fold, with the released weights."""
    from maskfix.align import load_detector

    names = PartNames((f"arcface:{RECOGNISER}",), templates=SHARED / "data" / "masktheface", device="cpu")
    try:
        names.load()
    except WeightsError as error:
        pytest.skip(f"no weights that fit: {error}")
    cache = tmp_path / "cache"
    lfw = LfwDataset(SHARED / "data" / "lfw", limit_folds=1)
    make_from_lfw(lfw, tmp_path / "data", "community", load_detector("auto"), cache)
    settings = IjbSettings(FeatureSettings(), replicates=0)
    (report,) = run(Selection(tmp_path / "data"), names, tmp_path / "out", settings=settings, cache=cache).values()
    clean, masked, completed = (report["methods"][name] for name in ("clean", "masked", "completed"))
    assert masked["auc"] < completed["auc"] <= clean["auc"] + 1e-4
    assert masked["tpr_at_fpr"]["0.01"]["tpr"] <= completed["tpr_at_fpr"]["0.01"]["tpr"]
    assert clean["auc"] > 0.99
    assert report["rows"]["probe"]["unreadable"] == report["rows"]["probe"]["not_masked"] == 0
    assert report["rows"]["probe"]["estimated_mask_points"] < 0.1 * report["rows"]["probe"]["rows"]
    assert report["completion"]["coverage"] == pytest.approx(report["completion"]["true_coverage"], abs=0.1)
