"""The web page of finished runs: its numbers are the reports', nothing is loaded, nothing can break out."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks.html_report import app, find_runs, from_run, html, write_html_report
from benchmarks.html_run import headline_rate
from benchmarks.html_view import cards
from maskfix.base import DatasetError, InputError, write_image
from maskfix.metrics import roc_curve, split_scores
from maskfix.plot import ScoreHistogramDisplay
from maskfix.plot.thinning import thinned_curve
from tests.benchmarks.pages import NASTY, RATES, Page, nasty_run, report_of, scores_of, write_run


def headline_values(report: dict[str, Any], rates: tuple[str, ...] = RATES) -> list[float]:
    """Numbers of the first table in the order of its cells."""
    values = []
    for method in report["methods"].values():
        values += [method["auc"], *method["auc_ci95"], method["eer"]]
        for rate in rates:
            values += [method["tpr_at_fpr"][rate]["tpr"], *method["tpr_at_fpr"][rate]["ci95"]]
        values += [method["accuracy"]["mean"], method["accuracy"]["se"]]
    return values


def test_html__numbers_are_the_reports(tmp_path: Path) -> None:
    reports = [write_run(tmp_path / "runs" / name, seed, name) for seed, name in enumerate(("a", "b"))]
    out = html([tmp_path / "runs"], tmp_path / "new" / "report.html")
    page = Page(out.read_text(encoding="utf-8"))
    assert page.values["headline"] == [value for report in reports for value in headline_values(report)]
    changes = []
    for report in reports:
        for key in ("auc", *RATES):
            row = report["difference"]["completed_minus_masked"][key]
            changes += [row["value"], *row["ci95"]]
        changes += [report["recovered"][key] for key in ("auc", *RATES)]
    assert page.values["differences"] == changes
    operating = []
    for report in reports:
        for rate in RATES:
            for method in report["methods"].values():
                point, moved = method["tpr_at_fpr"][rate], method["fmr_fnmr_at_clean_threshold"][rate]
                operating += [point[key] for key in ("tpr", "fpr", "threshold", "nearest")]
                operating += [moved["fmr"], moved["fnmr"]]
    assert page.values["operating"] == operating
    shown = page.text
    clean = reports[0]["methods"]["clean"]
    assert f"{clean['auc'] * 100:.2f}" in shown
    assert "27.0 % recovered" in shown
    assert "Completed minus Masked" in shown
    assert "-4.00" in shown
    assert "+1.23" in shown
    for text in (
        "ab" * 32,
        "cd" * 32,
        "python -m benchmarks.lfw --seed 7",
        "surgical, N95",
        "LFW View 2, clean gallery",
    ):
        assert text in shown
    assert [item.name for item in out.parent.iterdir()] == ["report.html"]


def test_cards__refined_landmarks_where_there_are_any(tmp_path: Path) -> None:
    plain = write_run(tmp_path / "a", 0, "a")
    refined = json.loads(json.dumps(plain))
    refined["methods"]["refined"] = json.loads(json.dumps(plain["methods"]["completed"]))
    for rate in RATES:
        refined["methods"]["refined"]["tpr_at_fpr"][rate]["tpr"] = 0.875
    refined["recovered_refined"] = dict.fromkeys(plain["recovered"], 0.625)
    gain = {"value": 0.125, "ci95": [0.0625, 0.25]}
    refined["difference"]["refined_minus_masked"] = dict.fromkeys(("auc", *RATES), gain)
    first, second = cards([plain, refined], ["a", "b"], ["clean", "masked", "completed", "refined"])
    rate = headline_rate(plain)
    assert first["dots"][2]["tpr"] == plain["methods"]["completed"]["tpr_at_fpr"][rate]["tpr"]
    assert first["recovered"] == plain["recovered"][rate]
    assert [dot["tpr"] for dot in second["dots"][:2]] == [dot["tpr"] for dot in first["dots"][:2]]
    assert (second["dots"][2]["tpr"], second["recovered"], second["gain"]) == (0.875, 0.625, gain)
    assert "refined" in second["dots"][2]["label"]


def test_html__curves_are_exact(tmp_path: Path) -> None:
    report = write_run(tmp_path / "run", 3)
    saved = scores_of(3)
    page = Page(html([tmp_path / "run"], tmp_path / "report.html").read_text())
    data = page.curves
    assert [method["label"] for method in data["methods"]] == ["Clean", "Masked", "Completed"]
    assert data["rates"] == [0.01, 0.001]
    for curve, (name, values) in zip(data["curves"], saved.scores.items(), strict=True):
        exact = roc_curve(*split_scores(values, saved.same))
        points = set(zip((exact.fpr * 600).round().astype(int), (exact.tpr * 600).round().astype(int), strict=True))
        assert set(zip(curve["accepted"], curve["matched"], strict=True)) <= points
        assert (curve["genuine"], curve["impostor"]) == (600, 600)
        assert curve["thresholds"][-1] is None
        for accepted, threshold in zip(curve["accepted"], curve["thresholds"], strict=True):
            assert threshold is None or abs((values[~saved.same] > threshold).sum() - accepted) <= 1
        asked = report["methods"][name]["tpr_at_fpr"]["0.01"]
        assert curve["points"][0] == {
            "rate": 0.01,
            "fpr": asked["fpr"],
            "tpr": asked["tpr"],
            "threshold": asked["threshold"],
            "ci": asked["ci95"],
        }
        assert len(curve["points"]) == 1  # 0.1% of 600 pairs cannot be resolved and is not marked
    assert page.text.count("not resolvable") == 3


def test_html__self_contained(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 4)
    text = html([tmp_path / "run"], tmp_path / "report.html").read_text()
    page = Page(text)
    for _, attributes in page.tags:
        for key in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            assert attributes.get(key, "data:").startswith("data:")
        assert not [key for key in attributes if key.startswith("on")]
    assert not {tag for tag, _ in page.tags} & {"iframe", "object", "embed", "form", "base"}
    style = "".join(page.blocks["style"])
    assert "url(" not in style
    assert "@import" not in style
    # The name of the SVG namespace is no address that is ever asked for.
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) == {"http://www.w3.org/2000/svg"}
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert "unsafe-inline" not in policy.split("script-src")[1]


def test_html__panel_and_thumbnails(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a", 5, "a")
    write_run(tmp_path / "runs" / "b", 6, "b")
    (tmp_path / "runs" / "b" / "panel.png").write_bytes((tmp_path / "runs" / "a" / "panel.png").read_bytes())
    pictures = tmp_path / "pictures"
    write_image(pictures / "Bob" / "Bob_0001.jpg", np.full((120, 200, 3), 80, dtype=np.uint8))
    (pictures / "Ann_0").mkdir()
    (pictures / "Ann_0" / "Ann_0_0001.jpg").write_bytes(b"no picture")
    page = Page(html([tmp_path / "runs"], tmp_path / "report.html", pictures=pictures).read_text())
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [image.get("class", "") for image in images] == ["", "thumb"]  # one panel for both, one thumbnail
    sizes = []
    for image in images:
        kind, _, data = image["src"].partition(";base64,")
        assert kind == "data:image/jpeg"
        sizes.append(Image.open(io.BytesIO(base64.b64decode(data))).size)
    assert sizes == [(200, 300), (96, 96)]
    assert (images[0]["width"], images[0]["height"]) == ("200", "300")
    assert images[0]["alt"]


def test_html__thumbnails_never_from_outside_the_folder(tmp_path: Path) -> None:
    report = write_run(tmp_path / "run", 5)
    report["failures"]["no_face"] = {"../secret": "no face found", "/etc/passwd": "no face found"}
    (tmp_path / "run" / "report.json").write_text(json.dumps(report))
    write_image(tmp_path / "secret.jpg", np.zeros((50, 50, 3), dtype=np.uint8))
    (tmp_path / "pictures").mkdir()
    text = html([tmp_path / "run"], tmp_path / "report.html", pictures=tmp_path / "pictures").read_text()
    assert 'class="thumb"' not in text


def test_html__all_text_is_escaped(tmp_path: Path) -> None:
    nasty_run(tmp_path / "run")
    page = Page(html([tmp_path / "run"], tmp_path / "report.html").read_text())
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert not [tag for tag, attributes in page.tags if "onerror" in attributes]
    assert "49" not in page.curves["methods"][-1]["label"]
    assert page.curves["methods"][-1] == {"label": NASTY, "css": "m-other-0"}
    # The name stands where it belongs: title, heading, card, tables, settings, failures.
    assert page.text.count(re.sub(r"\s+", " ", NASTY)) >= 8


def test_html__mappings_in_a_list_are_facts(tmp_path: Path) -> None:
    report = write_run(tmp_path / "run", 1)
    report["settings"]["sessions"] = [{"first_unit": 0, "by": "maskfix 1"}, {"first_unit": 9, "by": "<maskfix 2>"}]
    (tmp_path / "run" / "report.json").write_text(json.dumps(report))
    text = html([tmp_path / "run"], tmp_path / "report.html").read_text()
    assert text.count("<dt>first unit</dt>") == 2
    assert "<dt>first unit</dt><dd>9</dd>" in text
    assert "<dt>by</dt><dd>&lt;maskfix 2&gt;</dd>" in text
    assert "first_unit" not in Page(text).text


def test_html__wrong_decisions(tmp_path: Path) -> None:
    report = write_run(tmp_path / "run", 8)
    run = from_run(tmp_path / "run")
    saved, moved = scores_of(8), report["methods"]["completed"]["fmr_fnmr_at_clean_threshold"]["0.01"]
    assert run.wrong is not None
    assert (run.wrong.method, run.wrong.rate, run.wrong.threshold) == ("completed", "0.01", moved["threshold"])
    assert run.wrong.non_matches == round(moved["fnmr"] * 600) > 6
    assert run.wrong.matches == round(moved["fmr"] * 600)
    scores = saved.scores["completed"]
    worst = np.flatnonzero(saved.same)[np.argsort(scores[saved.same])[:6]]
    assert [pair.gallery for pair in run.wrong.pairs if pair.same] == saved.gallery[worst].tolist()
    assert [pair.probe for pair in run.wrong.pairs if pair.same] == saved.probe[worst].tolist()
    assert [pair.scores["completed"] for pair in run.wrong.pairs if pair.same] == scores[worst].tolist()
    assert all(pair.scores["completed"] > moved["threshold"] for pair in run.wrong.pairs if not pair.same)
    page = Page(html([tmp_path / "run"], tmp_path / "report.html").read_text())
    assert f"{run.wrong.non_matches} false non-matches, {run.wrong.matches} false matches" in page.text


def test_write__ijbc_rates_and_no_curves(tmp_path: Path) -> None:
    rates = ("1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1")
    report = report_of(scores_of(9), rates=rates)
    report |= {"benchmark": "ijbc", "protocol": {"name": "IJB-C 1:1", "pairs": 15_658_489}}
    report["recovered"] = {"auc": {"value": 0.3, "ci95": [0.2, 0.4]}, "0.0001": {"value": 0.25, "ci95": [0.15, 0.35]}}
    assert headline_rate(report) == "0.01"  # 600 impostors resolve no smaller rate
    for method in report["methods"].values():
        del method["accuracy"], method["failures"]
        method["cllr"] = 0.1234
        method["tpr_at_fpr"]["0.0001"]["resolvable"] = True
    del report["failures"], report["settings"]
    assert headline_rate(report) == "0.0001"
    out = write_html_report([report], [], tmp_path / "report.html", title="My <page>")
    page = Page(out.read_text())
    assert "My <page>" in page.text
    assert "15,658,489 pairs" in page.text
    labels = re.findall(r"FPR (\S+)", page.text[page.text.index("Probe") : page.text.index("Cllr")])
    assert labels == ["10%", "1%", "0.1%", "1e-4", "1e-5", "1e-6"]
    assert "masks, at FPR 1e-4" in page.text
    assert "Cllr" in page.text
    assert "Accuracy" not in page.text
    assert "25.0 % [ 15.0 , 35.0 ] recovered" in page.text
    assert page.curves["curves"] == []
    assert "chart" not in [attributes.get("id") for _, attributes in page.tags]
    assert page.values["headline"][4] == report["methods"]["clean"]["tpr_at_fpr"]["0.1"]["tpr"]


def test_write__runs_of_one_recogniser_are_told_apart(tmp_path: Path) -> None:
    one, other = report_of(scores_of(1)), report_of(scores_of(1))
    other["weights"]["name"] = "other.weights"
    page = Page(write_html_report([one, other], [], tmp_path / "a.html").read_text())
    assert "net, cadf_small_128.utkface" in page.text
    assert "net, other.weights" in page.text
    page = Page(write_html_report([one, one], [], tmp_path / "b.html").read_text())
    assert "net (2)" in page.text


def test_write__long_failure_lists_are_cut(tmp_path: Path) -> None:
    report = report_of(scores_of(1))
    report["failures"]["no_face"] = {f"p{number}": "no face found" for number in range(250)}
    page = Page(write_html_report([report], [], tmp_path / "a.html").read_text())
    assert "p199" in page.text
    assert "p200" not in page.text
    assert "and 50 more in report.json" in page.text


def test_write__given_parts(tmp_path: Path) -> None:
    saved = scores_of(2)
    curves = {name: thinned_curve(*split_scores(values, saved.same)) for name, values in saved.scores.items()}
    histogram = ScoreHistogramDisplay.from_scores({name: (v, saved.same) for name, v in saved.scores.items()}, bins=9)
    panel = np.zeros((40, 2000, 3), dtype=np.uint8)
    out = write_html_report(
        [report_of(saved)], [curves], tmp_path / "report.html", histograms=[histogram], panels=[panel]
    )
    page = Page(out.read_text())
    paths = [attributes["d"] for tag, attributes in page.tags if tag == "path"]
    assert len(paths) == 6
    heights = [float(height) for height in re.findall(r"V([\d.]+)h1", paths[1])]
    assert len(heights) == 9
    top = max(side.max() for sides in (histogram.genuine, histogram.impostor) for side in sides.values())
    np.testing.assert_allclose(100 - np.array(heights), 96 * histogram.genuine["clean"] / top, atol=0.051)
    assert next(a["width"] for t, a in page.tags if t == "img") == "1100"


def test_errors(tmp_path: Path) -> None:
    report = report_of(scores_of(1))
    with pytest.raises(InputError, match=r"kept in a \.html file"):
        write_html_report([report], [], tmp_path / "report.txt")
    with pytest.raises(InputError, match="at least one run"):
        write_html_report([], [], tmp_path / "report.html")
    with pytest.raises(InputError, match="panels: expected one for each of 1 reports, got 2"):
        write_html_report([report], [], tmp_path / "report.html", panels=[None, None])
    with pytest.raises(InputError, match="thumbnails: expected one for each of 1 reports, got 3"):
        write_html_report([report], [], tmp_path / "report.html", thumbnails=[{}, {}, {}])
    with pytest.raises(DatasetError, match="report 1: no verification report, it has no methods"):
        write_html_report([{"benchmark": "lfw"} | {"protocol": {}}], [], tmp_path / "report.html")
    write_run(tmp_path / "run", 1)
    with pytest.raises(InputError, match="no such folder"):
        html([tmp_path / "run"], tmp_path / "report.html", pictures=tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"holds no report\.json"):
        find_runs(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match="no such file"):
        from_run(tmp_path / "nowhere")
    (tmp_path / "run" / "scores.npz").write_bytes(b"no archive")
    with pytest.raises(DatasetError, match="damaged"):
        from_run(tmp_path / "run")
    np.savez(tmp_path / "run" / "scores.npz", same=np.ones(3, dtype=bool))
    with pytest.raises(DatasetError, match="holds no scores"):
        from_run(tmp_path / "run")
    np.savez(tmp_path / "run" / "scores.npz", same=np.ones(3, dtype=bool), score_clean=np.zeros(3))
    with pytest.raises(DatasetError, match="clean: same: expected pairs of both classes"):
        from_run(tmp_path / "run")
    (tmp_path / "run" / "report.json").write_text("{")
    with pytest.raises(DatasetError, match="damaged or no report"):
        from_run(tmp_path / "run")
    assert not (tmp_path / "report.html").exists()


def test_command(tmp_path: Path) -> None:
    write_run(tmp_path / "run", 1)
    done = CliRunner().invoke(app, [str(tmp_path / "run"), "--out", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "page.html").is_file()
    assert "page.html" in done.output
    done = CliRunner().invoke(app, [str(tmp_path / "empty"), "--out", str(tmp_path / "page.html")])
    assert done.exit_code == 2
    assert done.stderr == f"error: {tmp_path / 'empty'}: holds no report.json; give a folder that a benchmark wrote\n"


def test_files_beside_runs__left_out(tmp_path: Path) -> None:
    """What a shell makes of `runs/lfw/*`."""
    write_run(tmp_path / "lfw" / "dlib", 1)
    for name in ("report.html", "roc.png", "roc.pdf", "table.md"):
        (tmp_path / "lfw" / name).write_text("")
    given = sorted((tmp_path / "lfw").iterdir())
    assert html(given, tmp_path / "a.html").read_text() == html([tmp_path / "lfw"], tmp_path / "b.html").read_text()
    (tmp_path / "lfw" / "notes.txt").write_text("")
    with pytest.raises(DatasetError, match=rf"notes\.txt: is a file; give the folder that .*, such as {tmp_path}/lfw$"):
        html([*given, tmp_path / "lfw" / "notes.txt"], tmp_path / "a.html")
