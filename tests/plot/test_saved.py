"""Saved scores and the figure that lays several runs over each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskfix.base import DatasetError, InputError
from maskfix.plot import RocDisplay
from maskfix.plot.saved import SavedScores, load_scores, overlay, save_scores


def run(seed: int, clean_seed: int = 0) -> SavedScores:
    same = np.arange(40) % 2 == 0
    scores = {
        "clean": np.random.default_rng(clean_seed).normal(size=40).astype(np.float32) + 2 * same,
        "masked": np.random.default_rng(seed).normal(size=40).astype(np.float32) + same,
        "control": np.random.default_rng(seed + 100).normal(size=40).astype(np.float32),
    }
    scores["masked"][3] = -np.inf
    names = np.array([f"Ann/Ann_{number:04d}" for number in range(40)])
    people = np.arange(40) // 4
    return SavedScores(
        {name: values.astype(np.float32) for name, values in scores.items()},
        same,
        people // 5,
        names,
        names[::-1],
        people,
        people[::-1],
    )


def test_save_load__round_trip(tmp_path: Path) -> None:
    saved = run(1)
    save_scores(tmp_path / "a" / "scores.npz", saved)
    again = load_scores(tmp_path / "a" / "scores.npz")
    assert list(again.scores) == ["clean", "masked", "control"]
    for name, values in saved.scores.items():
        assert again.scores[name].dtype == np.float32
        assert np.array_equal(again.scores[name], values)
    for one, other in zip(saved[1:], again[1:], strict=True):
        assert np.array_equal(one, other)
    # Any other program can read it without unpickling.
    with np.load(tmp_path / "a" / "scores.npz", allow_pickle=False) as file:
        assert file["probe"].dtype.kind == "U"


def spoilt(**changes: Any) -> dict[str, Any]:
    saved = run(1)
    columns = {name: getattr(saved, name) for name in saved._fields[1:]}
    columns |= {f"score_{name}": values for name, values in saved.scores.items()} | changes
    return {name: value for name, value in columns.items() if value is not None}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (spoilt(same=None), "holds no same"),
        (spoilt(score_clean=None, score_masked=None, score_control=None), "holds no scores"),
        (spoilt(score_clean=np.zeros(39, np.float32)), r"score_clean has shape \(39,\)"),
        (spoilt(score_clean=np.full(40, np.nan, np.float32)), "score_clean holds nan"),
        (spoilt(same=np.ones(40, np.int64)), "same has shape"),
        (spoilt(fold=np.zeros(40)), "fold has shape"),
        (spoilt(gallery=np.array([object()] * 40)), "damaged or no scores.npz"),
    ],
)
def test_load__damaged_contents(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "scores.npz", **arrays)
    with pytest.raises(DatasetError, match=message):
        load_scores(tmp_path / "scores.npz")


def test_load__damaged_bytes(tmp_path: Path) -> None:
    """One byte other than it was gives one line, or, beside the arrays, the scores."""
    path = tmp_path / "scores.npz"
    save_scores(path, run(1))
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), 9):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            found = load_scores(path)
        except DatasetError:
            refused += 1
        else:
            assert np.array_equal(found.scores.get("masked", []), run(1).scores["masked"])
    assert refused > len(whole) / 9 * 0.7


def test_load__no_scores(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        load_scores(tmp_path / "scores.npz")
    (tmp_path / "scores.npz").write_text("hello")
    with pytest.raises(DatasetError, match="damaged"):
        load_scores(tmp_path / "scores.npz")
    np.save(tmp_path / "plain.npy", np.zeros(3))
    (tmp_path / "plain.npy").rename(tmp_path / "plain.npz")
    with pytest.raises(DatasetError, match="damaged"):
        load_scores(tmp_path / "plain.npz")
    with pytest.raises(InputError, match="npz"):
        save_scores(tmp_path / "scores.txt", run(1))


def drawn(monkeypatch: pytest.MonkeyPatch, *args: Any, **kwargs: Any) -> dict[str, float]:
    """Names and AUCs of the curves that `overlay` draws."""
    areas: dict[str, float] = {}
    save = RocDisplay.save

    def spy(self: RocDisplay, *a: Any, **k: Any) -> Path:
        areas.update(self.areas)
        return save(self, *a, **k)

    monkeypatch.setattr(RocDisplay, "save", spy)
    overlay(*args, **kwargs)
    return areas


def test_overlay__shared_curves_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / name / "scores.npz" for name in "abc"]
    for path, saved in zip(paths, (run(1), run(2), run(3, clean_seed=9)), strict=True):
        save_scores(path, saved)
    areas = drawn(monkeypatch, paths, tmp_path / "roc.pdf")
    assert list(areas) == ["a: clean", "a: masked", "b: masked", "c: clean", "c: masked"]
    genuine, impostor = (run(2).scores["masked"][flags] for flags in (run(2).same, ~run(2).same))
    assert areas["b: masked"] == pytest.approx((genuine[:, None] > impostor).mean())
    assert (tmp_path / "roc.pdf").read_bytes().startswith(b"%PDF")


def test_overlay__one_run_and_chosen_methods(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_scores(tmp_path / "scores.npz", run(1))
    assert list(drawn(monkeypatch, [tmp_path / "scores.npz"], tmp_path / "a.png")) == ["clean", "masked"]
    assert list(drawn(monkeypatch, [tmp_path / "scores.npz"], tmp_path / "b.svg", ["control"])) == ["control"]
    more = run(1)
    more.scores.update(refined=more.scores["masked"] + 1, completed=more.scores["masked"] + 2)
    save_scores(tmp_path / "more.npz", more)
    names = drawn(monkeypatch, [tmp_path / "more.npz"], tmp_path / "d.png")
    assert list(names) == ["clean", "masked", "completed", "refined"]
    with pytest.raises(InputError, match="they have: clean, control, masked"):
        overlay([tmp_path / "scores.npz"], tmp_path / "c.png", ["nothing"])
    with pytest.raises(InputError, match="figure format"):
        overlay([tmp_path / "scores.npz"], tmp_path / "c.gif")
    with pytest.raises(InputError, match="at least one"):
        overlay([], tmp_path / "c.png")
    assert not (tmp_path / "c.png").exists()


def test_overlay__names_tell_runs_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / "x" / "lfw" / "scores.npz", tmp_path / "y" / "lfw" / "scores.npz"]
    for seed, path in enumerate(paths):
        save_scores(path, run(seed))
    assert "y/lfw: masked" in drawn(monkeypatch, paths, tmp_path / "a.png")
    save_scores(tmp_path / "x" / "lfw" / "other.npz", run(7))
    names = drawn(monkeypatch, [paths[0], tmp_path / "x" / "lfw" / "other.npz"], tmp_path / "b.png")
    assert "lfw/other (2): masked" in names


def test_overlay__folders_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, name in enumerate(("a/dlib", "b/dlib", "b/lightcnn")):
        save_scores(tmp_path / name / "scores.npz", run(seed, seed))
    of_file = drawn(monkeypatch, [tmp_path / "a/dlib/scores.npz"], tmp_path / "a.png")
    for folder in ("a", "a/dlib"):
        assert drawn(monkeypatch, [tmp_path / folder], tmp_path / "b.png") == of_file
    assert "b/dlib: clean" in drawn(monkeypatch, [tmp_path / "a", tmp_path / "b/dlib"], tmp_path / "c.png")
    with pytest.raises(DatasetError) as raised:
        overlay([tmp_path / "b"], tmp_path / "d.png")
    assert str(raised.value) == (
        f"{tmp_path}/b: holds no scores.npz; choose from {tmp_path}/b/dlib/scores.npz, {tmp_path}/b/lightcnn/scores.npz"
    )
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"empty: holds no scores\.npz; give a folder that a benchmark wrote$"):
        overlay([tmp_path / "empty"], tmp_path / "d.png")


def test_overlay__equal_scores_of_two_methods_are_two_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = run(1)
    saved.scores["completed"] = saved.scores["masked"]
    save_scores(tmp_path / "scores.npz", saved)
    areas = drawn(monkeypatch, [tmp_path / "scores.npz"], tmp_path / "roc.png")
    assert list(areas) == ["clean", "masked", "completed"]
    assert areas["completed"] == areas["masked"]


def test_overlay__equal_scores_of_other_comparisons_are_two_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = run(1)
    for name, flags in (("a", saved.same), ("b", ~saved.same)):
        save_scores(tmp_path / name / "scores.npz", saved._replace(same=flags))
    areas = drawn(monkeypatch, [tmp_path / "a", tmp_path / "b"], tmp_path / "roc.png")
    assert list(areas) == ["a: clean", "a: masked", "b: clean", "b: masked"]
    assert areas["b: clean"] == pytest.approx(1 - areas["a: clean"])
