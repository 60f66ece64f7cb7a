"""Scores of runs over templates, as `benchmarks.ijbc run` leaves them, in the figure of several runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskfix.base import DatasetError
from maskfix.plot import RocDisplay
from maskfix.plot.saved import SavedScores, overlay, save_scores
from maskfix.plot.template_scores import holds_template_run, load_template_scores

SAME = np.arange(60) % 3 == 0


def write_run(folder: Path, seed: int = 0) -> dict[str, Any]:
    """A stand-in for a run: three methods by the report, and a file that an older one left."""
    rng = np.random.default_rng(seed)
    scores = {name: (rng.normal(size=60) + SAME).astype(np.float32) for name in ("clean", "masked", "fused", "older")}
    scores["masked"][3] = -np.inf
    for name in ("scores", "pairs"):
        (folder / name).mkdir(parents=True)
    for name, values in scores.items():
        np.save(folder / "scores" / f"{name}.npy", values)
    np.save(folder / "pairs" / "same.npy", SAME)
    report = {"benchmark": "ijbc", "methods": {"clean": {}, "masked": {}, "fused": {}}}
    (folder / "report.json").write_text(json.dumps(report))
    return scores


def save_other(folder: Path) -> None:
    """Scores of a run over pairs of pictures."""
    names, rows = np.array(["a"] * 60), np.arange(60)
    save_scores(
        folder / "scores.npz",
        SavedScores({"clean": SAME.astype(np.float32)}, SAME, rows // 30, names, names, rows, rows),
    )


def test_load__methods_of_the_report_mapped(tmp_path: Path) -> None:
    scores = write_run(tmp_path / "run")
    loaded = load_template_scores(tmp_path / "run")
    assert list(loaded.scores) == ["clean", "masked", "fused"]
    for name, values in loaded.scores.items():
        assert isinstance(values, np.memmap)
        assert np.array_equal(values, scores[name])
    assert np.array_equal(loaded.same, SAME)


def test_overlay__beside_other_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, float] = {}
    save = RocDisplay.save
    monkeypatch.setattr(RocDisplay, "save", lambda self, *a, **k: (kept.update(self.areas), save(self, *a, **k))[1])
    write_run(tmp_path / "ijbc")
    save_other(tmp_path / "lfw")
    # Left by a run that the folder was used for before: the report says what it is of now.
    save_other(tmp_path / "ijbc")
    assert overlay([tmp_path / "ijbc", tmp_path / "lfw"], tmp_path / "roc.png").stat().st_size > 1000
    assert list(kept) == ["ijbc: clean", "ijbc: masked", "lfw: clean"]
    assert kept["ijbc: clean"] < kept["lfw: clean"] == 1
    # Two recognisers in folders of their own, and the one that is meant.
    write_run(tmp_path / "two" / "one", seed=1)
    write_run(tmp_path / "two" / "other", seed=2)
    with pytest.raises(DatasetError, match=r"choose from \S+/two/one/report\.json, \S+/two/other/report\.json$"):
        overlay([tmp_path / "two"], tmp_path / "roc.png")
    kept.clear()
    overlay([tmp_path / "two" / "one" / "report.json"], tmp_path / "roc.png", ["fused"])
    assert list(kept) == ["fused"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("report.json", b"{", r"report\.json: missing or damaged"),
        ("report.json", b'{"benchmark": "ijbc", "methods": ["../clean"]}', r"report\.json: damaged; give a folder"),
        ("report.json", b'{"benchmark": "ijbc"}', r"report\.json: missing or damaged \('methods'\)"),
        ("pairs/same.npy", b"", r"same\.npy: missing or damaged"),
        ("scores/clean.npy", b"no array", r"clean\.npy: missing or damaged"),
        ("scores/clean.npy", np.zeros(59, np.float32), r"clean\.npy: 59 scores for 60 pairs"),
        ("scores/clean.npy", np.full(60, np.nan, np.float32), r"clean\.npy: holds nan"),
        ("scores/clean.npy", np.zeros(60, np.int64), r"clean\.npy: is not one row of scores"),
        ("pairs/same.npy", np.ones(60), r"same\.npy: is not one row of flags"),
    ],
)
def test_load__damaged(tmp_path: Path, name: str, content: Any, message: str) -> None:
    write_run(tmp_path / "run")
    path = tmp_path / "run" / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content)
    with pytest.raises(DatasetError, match=message) as raised:
        load_template_scores(tmp_path / "run")
    assert "\n" not in str(raised.value)
    assert holds_template_run(tmp_path / "run") == (name != "report.json")
