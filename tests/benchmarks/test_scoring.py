"""The scoring benchmark on a thousandth of IJB-C: its data, its figures, its command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import scoring
from benchmarks.scoring import MEASURES, app, measure_bootstrap, summarise, write_pair_list
from benchmarks.scoring_data import (
    METHODS,
    FeatureSource,
    ijbc_sizes,
    make_faces,
    make_method_scores,
    make_pairs,
    make_scores,
    probe_subjects,
)
from maskfix.base import InputError, MaskfixError
from maskfix.metrics import auc, split_scores
from maskfix.score import TemplatePooling, pair_scores

SCALE = 0.001
KEYS = {
    "auc_and_points": {"speedup", "peak_gb", "auc_difference"},
    "pair_scores": {"speedup", "extra_gb"},
    "pair_list": {"ratio", "cached_seconds"},
    "bootstrap": {"seconds"},
    "pipeline": {"seconds", "peak_gb"},
}


class TestData:
    def test_sizes_of_ijbc(self) -> None:
        sizes = ijbc_sizes(1.0)
        assert sizes.gallery + sizes.probe == 23_124
        assert sizes.gallery_rows + sizes.probe_rows == 469_375
        assert (sizes.pairs, sizes.genuine) == (15_658_489, 19_557)
        for bad in (0.0, 1.5, 1e-5, float("nan")):
            with pytest.raises(InputError, match="scale"):
                ijbc_sizes(bad)

    @pytest.mark.parametrize("scale", [1e-4, 0.001, 0.02])
    def test_pairs(self, scale: float) -> None:
        sizes = ijbc_sizes(scale)
        pairs = make_pairs(sizes)
        assert len(pairs.same) == sizes.pairs
        assert pairs.same.sum() == sizes.genuine
        cells = pairs.gallery.astype(np.int64) * sizes.probe + pairs.probe
        assert (np.diff(cells) > 0).all()  # sorted, and none twice
        assert pairs.gallery.max() < sizes.gallery
        np.testing.assert_array_equal(pairs.same, probe_subjects(sizes)[pairs.probe] == pairs.gallery)
        assert (pairs.gallery.dtype, pairs.probe.dtype) == (np.int32, np.int32)
        assert not np.array_equal(pairs.probe, make_pairs(sizes, seed=1).probe)

    def test_scores(self) -> None:
        sizes = ijbc_sizes(SCALE)
        scores, same = make_scores(sizes)
        assert (scores.dtype, len(scores), same.sum()) == (np.float32, sizes.pairs, sizes.genuine)
        np.testing.assert_array_equal(scores, make_scores(sizes)[0])
        methods = make_method_scores(sizes, make_pairs(sizes))
        areas = {name: auc(*split_scores(values, make_pairs(sizes).same)) for name, values in methods.items()}
        assert 0.9 < areas["masked"] < areas["completed"] < areas["clean"] < 1

    def test_faces_and_features(self) -> None:
        sizes = ijbc_sizes(SCALE)
        faces = make_faces(sizes.probe, sizes.probe_rows)
        assert len(faces.template) == sizes.probe_rows
        assert set(faces.template) == set(range(sizes.probe))
        source, subject = FeatureSource(sizes), probe_subjects(sizes)
        first = next(source.blocks(faces, subject, "masked", rows=50))
        assert (first.shape, first.dtype) == ((50, 512), np.float32)
        np.testing.assert_array_equal(first, next(source.blocks(faces, subject, "masked", rows=50)))
        assert not np.array_equal(first, next(source.blocks(faces, subject, "clean", rows=50)))
        assert sum(len(block) for block in source.blocks(faces, subject, "clean")) == sizes.probe_rows

    def test_features_tell_persons_apart(self) -> None:
        sizes = ijbc_sizes(SCALE)
        pairs, source = make_pairs(sizes), FeatureSource(sizes)
        sides = []
        for templates, rows, subject in (
            (sizes.gallery, sizes.gallery_rows, np.arange(sizes.gallery, dtype=np.int32)),
            (sizes.probe, sizes.probe_rows // 8, probe_subjects(sizes)),
        ):
            faces = make_faces(templates, rows)
            pooling = TemplatePooling(*faces, templates=templates, dimensions=512)
            for block in source.blocks(faces, subject, METHODS[0]):
                pooling.add(block)
            sides.append(pooling.templates().features)
        scores = pair_scores(sides[0], sides[1], pairs.gallery, pairs.probe)
        assert auc(*split_scores(scores, pairs.same)) > 0.95

    def test_pair_list(self, tmp_path: Path) -> None:
        sizes = ijbc_sizes(SCALE)
        lines = write_pair_list(tmp_path, SCALE).read_text().splitlines()
        table = np.array([line.split(" ") for line in lines], dtype=np.int64)
        pairs = make_pairs(sizes)
        np.testing.assert_array_equal(table[:, 0], pairs.gallery + 1)
        np.testing.assert_array_equal(table[:, 1], pairs.probe + sizes.gallery + 1)
        np.testing.assert_array_equal(table[:, 2], pairs.same)


def test_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measures = dict(MEASURES) | {"bootstrap": lambda scale: measure_bootstrap(scale, replicates=10)}
    measured = {}

    def measure_here(name: str, scale: float) -> dict[str, float]:
        measured[name] = measures[name](scale)
        return measured[name]

    monkeypatch.setattr(scoring, "measure_apart", measure_here)
    result = CliRunner().invoke(app, ["--json", str(tmp_path / "out.json"), "--scale", str(SCALE)])
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out.json").read_text())
    assert {name: set(figures) for name, figures in report.items()} == KEYS
    assert report == summarise(measured)
    assert all(np.isfinite(value) and value >= 0 for figures in measured.values() for value in figures.values())
    assert measured["pair_scores"]["difference"] < 1e-6
    assert report["auc_and_points"]["auc_difference"] < 1e-12
    assert report["auc_and_points"]["speedup"] > 1
    assert report["pair_scores"]["speedup"] > 1


def test_summarise__ratios_the_right_way_round() -> None:
    measured = {name: {"seconds": float(place)} for place, name in enumerate(MEASURES, start=1)}
    measured["points"] |= {"peak_gb": 0.3, "auc": 0.75}
    measured["sklearn"] |= {"auc": 0.5}
    measured["pair_scores"] |= {"extra_gb": 0.1, "difference": 0.0}
    measured["pair_list"] |= {"cached_seconds": 0.01}
    measured["pipeline"] |= {"peak_gb": 1.0}
    measured["bootstrap"] |= {"extra_gb": 0.5}
    seconds = {name: figures["seconds"] for name, figures in measured.items()}
    assert summarise(measured) == {
        "auc_and_points": {
            "speedup": seconds["sklearn"] / seconds["points"],
            "peak_gb": 0.3,
            "auc_difference": 0.25,
        },
        "pair_scores": {"speedup": seconds["gather_loop"] / seconds["pair_scores"], "extra_gb": 0.1},
        "pair_list": {"ratio": seconds["pair_list"] / seconds["pandas"], "cached_seconds": 0.01},
        "bootstrap": {"seconds": seconds["bootstrap"]},
        "pipeline": {"seconds": seconds["pipeline"], "peak_gb": 1.0},
    }


def test_fresh_process() -> None:
    figures = scoring.measure_apart("points", SCALE)
    assert set(figures) == {"seconds", "peak_gb", "auc"}
    assert 0.02 < figures["peak_gb"] < 0.2
    assert figures["auc"] == scoring.measure_points(SCALE)["auc"]


def test_peak_can_be_set_back() -> None:
    code = (
        "import numpy as np; from benchmarks.scoring import peak_memory, reset_peak\n"
        "block = np.ones(25_000_000); del block; high = peak_memory(); low = reset_peak(); print(high - low)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if sys.platform == "linux":
        assert int(done.stdout) > 150e6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--json: say where"),
        (["--measure", "nothing"], "'nothing' is unknown; known: points, sklearn"),
        (["--measure", "points", "--scale", "2"], "scale: expected a number"),
    ],
)
def test_bad_arguments(arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]) -> None:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert message in result.output + capfd.readouterr().err


def test_failed_measure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(MaskfixError, match="measuring points failed"):
        scoring.measure_apart("points", SCALE)
