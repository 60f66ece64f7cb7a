"""The web page of a run over templates: scores from mapped files, failures with the first picture of each template."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.html_pictures import PictureFile, cut_face, find_pictures
from benchmarks.html_report import html
from benchmarks.html_run import from_run
from benchmarks.html_scores import TemplateScores, _smallest
from benchmarks.ijbc.saved import load_pictures
from maskfix.base import DatasetError
from maskfix.metrics import roc_curve, split_scores
from tests.benchmarks.pages import GALLERY, IJBC_RATES, PROBES, Page, picture_of, write_templates

PAIRS = GALLERY * PROBES


def thumbnails(page: Page) -> list[np.ndarray]:
    """The thumbnails of a page, decoded."""
    sources = [attributes["src"] for tag, attributes in page.tags if attributes.get("class") == "thumb"]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))) for source in sources]


def test_html__numbers_curves_and_histograms(tmp_path: Path) -> None:
    report = write_templates(tmp_path / "run", tmp_path / "pictures")
    page = Page(html([tmp_path / "run"], tmp_path / "report.html").read_text())
    values = []
    for method in report["methods"].values():
        values += [method["auc"], *method["auc_ci95"], method["eer"]]
        for rate in reversed(IJBC_RATES):
            values += [method["tpr_at_fpr"][rate]["tpr"], *method["tpr_at_fpr"][rate]["ci95"]]
        values += [method["cllr"], method["min_cllr"]]
    assert page.values["headline"] == values
    data = page.curves
    assert [method["label"] for method in data["methods"]] == ["Clean", "Masked", "Completed"]
    same = np.load(tmp_path / "run" / "pairs" / "same.npy")
    for curve, name in zip(data["curves"], ("clean", "masked", "completed"), strict=True):
        exact = roc_curve(*split_scores(np.load(tmp_path / "run" / "scores" / f"{name}.npy"), same))
        counts = (exact.fpr * (~same).sum()).round().astype(int), (exact.tpr * same.sum()).round().astype(int)
        assert set(zip(curve["accepted"], curve["matched"], strict=True)) <= set(zip(*counts, strict=True))
        # 300 impostor pairs resolve 1% and 10%.
        assert [point["rate"] for point in curve["points"]] == [0.1, 0.01]
    assert len([tag for tag, attributes in page.tags if tag == "path" and attributes.get("class") == "genuine"]) == 3
    for text in (
        "LFW templates 1:1",
        "a sample of 6 of 747 subjects",
        "masks, at FPR 1%",
        "ab" * 32,
        "benchmarks.ijbc run --data somewhere",
    ):
        assert text in page.text
    assert "IJB-C" not in page.text
    assert "1 failed pair" in page.text


def test_html__worst_decisions(tmp_path: Path) -> None:
    report = write_templates(tmp_path / "run", tmp_path / "pictures")
    run = from_run(tmp_path / "run")
    moved = report["methods"]["completed"]["fmr_fnmr_at_clean_threshold"]["0.01"]
    saved = TemplateScores(tmp_path / "run")
    scores, same = saved["completed"]
    assert run.wrong is not None
    assert (run.wrong.rate, run.wrong.threshold) == ("0.01", moved["threshold"])
    assert run.wrong.non_matches == round(moved["fnmr"] * PROBES) > 6
    assert run.wrong.matches == round(moved["fmr"] * (PAIRS - PROBES))
    worst = np.flatnonzero(same)[np.argsort(scores[same])[:6]]
    shown = [pair for pair in run.wrong.pairs if pair.same]
    # Pairs lie probe by probe, the gallery running fastest; ids begin at 1, subjects at 0 and repeat every six.
    assert [pair.gallery for pair in shown] == [f"template {row % 6 + 1}, subject {row % 6}" for row in worst]
    assert [pair.probe for pair in shown] == [f"template {row // 6 + 7}, subject {row // 6 % 6}" for row in worst]
    assert [pair.scores["completed"] for pair in shown] == scores[worst].tolist()
    for pair in run.wrong.pairs:
        assert (pair.scores["completed"] > moved["threshold"]) != pair.same
    assert run.pictures[shown[0].probe].name == f"img/{worst[0] // 6 + 7}.png"


@pytest.mark.parametrize("boxes", [True, False])
def test_html__thumbnails_of_first_pictures(tmp_path: Path, boxes: bool) -> None:
    write_templates(tmp_path / "run", tmp_path / "pictures", boxes=boxes)
    run = from_run(tmp_path / "run")
    assert run.wrong is not None
    page = Page(html([tmp_path / "run"], tmp_path / "report.html").read_text())
    found = thumbnails(page)
    assert len(found) == 2 * len(run.wrong.pairs) + 1  # and the picture without a face, whole
    for thumb, name in zip(found, [side for pair in run.wrong.pairs for side in pair[:2]], strict=False):
        template = int(name.split()[1].rstrip(","))
        if boxes:  # a square of 32 pixels around the face's 20
            assert thumb.shape == (32, 32, 3)
            assert abs(int(thumb[16, 16, 0]) - 3 * template) < 8
        else:
            assert thumb.shape == (90, 90, 3)
    assert found[-1].shape == (90, 90, 3)


def test_html__without_pictures(tmp_path: Path) -> None:
    write_templates(tmp_path / "old", None)  # as versions before wrote it
    run = from_run(tmp_path / "old")
    assert run.folder is None
    assert run.wrong is not None
    text = html([tmp_path / "old"], tmp_path / "old.html").read_text()
    assert all(pair.probe in text for pair in run.wrong.pairs)
    assert not thumbnails(Page(text))
    write_templates(tmp_path / "gone", tmp_path / "pictures")
    (tmp_path / "pictures").rename(tmp_path / "elsewhere")
    assert not thumbnails(Page(html([tmp_path / "gone"], tmp_path / "gone.html").read_text()))
    moved = html([tmp_path / "gone"], tmp_path / "moved.html", pictures=tmp_path / "elsewhere")
    assert thumbnails(Page(moved.read_text()))
    (tmp_path / "gone" / "pictures.npz").write_bytes(b"damaged")
    assert load_pictures(tmp_path / "gone", GALLERY + PROBES) is None
    assert not thumbnails(Page(html([tmp_path / "gone"], tmp_path / "gone.html").read_text()))
    np.savez(tmp_path / "gone" / "pictures.npz", folder=np.array("."), image=np.array(["a"]), box=np.zeros((1, 4)))
    assert load_pictures(tmp_path / "gone", GALLERY + PROBES) is None


def test_html__two_data_sets_with_one_numbering(tmp_path: Path) -> None:
    write_templates(tmp_path / "runs" / "a", tmp_path / "a")
    write_templates(tmp_path / "runs" / "b", tmp_path / "b")
    for path in (tmp_path / "b" / "img").iterdir():
        path.write_bytes((tmp_path / "a" / "img" / "66.png").read_bytes())
    page = Page(html([tmp_path / "runs"], tmp_path / "report.html").read_text())
    middles = [int(thumb[16, 16, 0]) for thumb in thumbnails(page) if thumb.shape[0] == 32]
    first, second = middles[: len(middles) // 2], middles[len(middles) // 2 :]
    assert len(first) == len(second) > 6
    assert max(first) < 205
    assert len(set(first)) > 3
    assert {abs(grey - 198) < 8 for grey in second} == {True}


def test_html__damaged(tmp_path: Path) -> None:
    write_templates(tmp_path / "run", None)
    np.save(tmp_path / "run" / "scores" / "masked.npy", np.full(PAIRS, np.nan, np.float32))
    with pytest.raises(DatasetError, match=r"run/scores/masked\.npy: holds nan"):
        from_run(tmp_path / "run")
    np.save(tmp_path / "run" / "scores" / "masked.npy", np.zeros(3, np.float32))
    with pytest.raises(DatasetError, match=r"masked\.npy: 3 scores for 360 pairs"):
        from_run(tmp_path / "run")
    (tmp_path / "run" / "pairs" / "same.npy").unlink()
    with pytest.raises(DatasetError, match=r"same\.npy: missing or damaged"):
        from_run(tmp_path / "run")


def test_scores__stay_in_their_files(tmp_path: Path) -> None:
    write_templates(tmp_path / "run", None)
    scores = TemplateScores(tmp_path / "run")
    assert list(scores) == ["clean", "masked", "completed"]
    assert all(isinstance(values, np.memmap) for values, _ in scores.values())
    with pytest.raises(KeyError):
        scores["fused"]


def test_smallest__as_a_stable_sort() -> None:
    rng = np.random.default_rng(0)
    for count in (0, 1, 5, 6, 7, 50):
        for _ in range(20):
            values = rng.integers(0, 5, size=count).astype(np.float32)
            values[rng.random(count) < 0.1] = -np.inf
            expected = np.argsort(values, kind="stable")[:6]
            assert _smallest(values, 6).tolist() == expected.tolist()


def test_find_pictures__odd_names(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"none")
    files = {name: PictureFile(name) for name in ("a", "../a", "x" * 5000, "zero\0byte", "/etc/passwd", "")}
    assert find_pictures(tmp_path, files) == {}


def test_cut_face__at_the_edge() -> None:
    picture = picture_of(5)
    assert cut_face(picture, (-10.0, -10.0, 20.0, 20.0)).shape == (16, 16, 3)
    for box in ((500.0, 500.0, 20.0, 20.0), (5.0, 5.0, 0.0, 9.0), (np.nan,) * 4):
        assert cut_face(picture, box).shape == (90, 90, 3)
