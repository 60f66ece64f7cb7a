"""Reports as Markdown, alone and several in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.table import format_recognisers, format_summary, format_table, read_reports
from maskfix.base import DatasetError, InputError


def small_report() -> dict[str, Any]:
    """What a table reads of a report."""
    point = {
        "tpr": 0.9,
        "fpr": 0.0099,
        "threshold": 0.31,
        "accepted": 9,
        "resolvable": True,
        "nearest": 0.91,
        "ci95": None,
    }
    none = {**point, "fpr": 0.0, "threshold": None, "resolvable": False, "ci95": [0.1, 0.2]}
    sides = ("gallery", "probe", "masking")
    failures = {side: {"genuine": 1, "impostor": 2 + place} for place, side in enumerate(sides)}
    transfer = {"threshold": 0.3, "fmr": 0.5, "fnmr": 0.25}
    method = {
        "auc": 0.98765,
        "auc_ci95": [0.97, 0.99],
        "eer": 0.0123,
        "tpr_at_fpr": {"0.01": point, "0.001": none},
        "fmr_fnmr_at_clean_threshold": {"0.01": transfer, "0.001": transfer},
        "accuracy": {"mean": 0.95, "se": 0.002},
        "failures": failures,
    }
    change = {"value": 0.05, "ci95": [-0.01, 0.11]}
    return {
        "methods": {"clean": method, "control": method},
        "difference": {"completed_minus_masked": {"auc": change, "0.01": change, "0.001": change}},
        "recovered": {"auc": 0.5, "0.01": None, "0.001": -0.25},
    }


def test_format_table__numbers_in_percent() -> None:
    table = format_table(small_report())
    assert (
        "| Clean | 98.77 [97.00, 99.00] | 1.23 | 90.00 | 90.00 [10.00, 20.00] | 91.00 | 91.00 | 95.00 ± 0.20 "
        "| 3, 4, 5 |" in table
    )
    # A pair may have failed on both sides: the numbers are not added up.
    assert "failed: gallery, probe, mask |" in table.splitlines()[0]
    assert "| control | 98.77" in table
    assert "| FPR=1.0% | Clean | 0.990 | 0.3100 | 50.00, 25.00 |" in table
    assert "too few impostors) | Clean | 0.000 | none |" in table
    assert "| completed minus masked | +5.00 [-1.00, +11.00] |" in table
    assert "| recovered share of the loss, % | 50.00 | n/a | -25.00 |" in table


def test_format_recognisers__what_each_gains_plain_and_fused() -> None:
    change = {"value": 0.1, "ci95": [0.05, 0.15]}
    fused = small_report() | {"recovered_fused": {"auc": 0.75, "0.01": 0.5, "0.001": 1.0}}
    fused["difference"]["fused_minus_masked"] = {"auc": change, "0.01": change, "0.001": change}
    lines = format_recognisers({"one": small_report(), "two": fused}).splitlines()
    rows = [line for line in lines if "Clean" in line]
    assert [row.split("|")[1].strip() for row in rows] == ["one", "two"]
    assert rows[0] == "| one | Clean | 98.77 [97.00, 99.00] | 1.23 | 90.00 | 90.00 [10.00, 20.00] | 95.00 ± 0.20 |"
    gain = "+5.00 [-1.00, +11.00]"
    more = "+10.00 [+5.00, +15.00]"
    assert lines[-3:] == [
        f"| one | Completed | {gain} | {gain} | {gain} | 50.00, n/a, -25.00 |",
        f"| two | Completed | {gain} | {gain} | {gain} | 50.00, n/a, -25.00 |",
        f"|  | Masked and completed, fused | {more} | {more} | {more} | 75.00, 50.00, 100.00 |",
    ]


def detected_report() -> dict[str, Any]:
    """A report with every method; the rates of its methods differ."""
    report = small_report()
    rates = {"clean": 0.99, "masked": 0.5, "completed": 0.7, "refined": 0.8, "fused": 0.81, "clean_completed": 0.98}
    some = report["methods"]["clean"]
    report["methods"] = {
        name: some | {"tpr_at_fpr": some["tpr_at_fpr"] | {"0.01": some["tpr_at_fpr"]["0.01"] | {"tpr": rate}}}
        for name, rate in rates.items()
    }
    change = {"value": 0.3, "ci95": [0.25, 0.35]}
    report["difference"]["refined_minus_masked"] = {"auc": change, "0.01": change, "0.001": change}
    return report | {"recovered_refined": {"auc": 0.754, "0.01": 0.5, "0.001": None}}


def test_format_summary__a_row_a_recogniser() -> None:
    detected = detected_report()
    lines = format_summary({"one": detected, "two": detected}).splitlines()
    assert lines[0] == (
        "| TPR@FPR=1% | clean | masked | completed | completed, refined | fused | refined - masked | "
        "recovered: AUC | TPR@FPR=1% | 0.1% |"
    )
    assert {line.count("|") for line in lines} == {11}
    assert len(lines) == 4
    assert lines[2] == "| one | 99.0 | 50.0 | 70.0 | 80.0 | 81.0 | +30.00 [+25.00, +35.00] | 75 | 50 | n/a |"


def test_format_summary__without_refined_landmarks() -> None:
    plain = detected_report()
    del plain["methods"]["refined"], plain["methods"]["fused"], plain["methods"]["clean_completed"]
    row = format_summary({"one": plain}).splitlines()[2]
    assert row == "| one | 99.0 | 50.0 | 70.0 | +5.00 [-1.00, +11.00] | 50 | n/a | -25 |"


def test_tables__refined_rows() -> None:
    report = detected_report()
    assert "| refined minus masked | +30.00 [+25.00, +35.00] |" in format_table(report)
    assert "| recovered share of the loss, %, refined | 75.40 | 50.00 | n/a |" in format_table(report)
    more = "+30.00 [+25.00, +35.00]"
    row = f"|  | Completed, landmarks refined | {more} | {more} | {more} | 75.40, 50.00, n/a |"
    assert row in format_recognisers({"one": report})


class TestReadReports:
    def write(self, folder: Path, name: str, recogniser: str, **changed: Any) -> Path:
        path = folder / name
        report = {
            "embedder": {"name": recogniser},
            "weights": {"sha256": "1"},
            "protocol": {"folds": 10, "pairs": 6000, "probe": "second", "drop_failed": False},
            "data": {"pairs_sha256": "ea"},
            "settings": {"probes": {"fuse": 0.75}},
            "masks": {"source": "drawn", "kinds": ["N95"], "sha256": "1"},
            "detector": {"name": "mesh", "version": "1"},
            "aligner": {"name": "mesh", "version": "1"},
            "reader": {"name": "landmarks_128", "sha256": "1"},
            "seed": 0,
            "methods": {"clean": {}, "masked": {}, "fused": {}},
        }
        path.write_text(json.dumps(report | changed))
        return path

    def test_in_their_order(self, tmp_path: Path) -> None:
        paths = [self.write(tmp_path, "b.json", "dlib"), self.write(tmp_path, "a.json", "arcface:x")]
        assert list(read_reports(paths)) == ["dlib", "arcface:x"]

    def test_second_of_one_recogniser(self, tmp_path: Path) -> None:
        paths = [self.write(tmp_path, name, "dlib") for name in ("a.json", "b.json")]
        with pytest.raises(DatasetError, match=r"b\.json: a second report of dlib"):
            read_reports(paths)

    @pytest.mark.parametrize(
        ("changed", "what"),
        [
            ({"weights": {"sha256": "2"}}, "weights"),
            ({"settings": {"probes": {"align": "masked"}}}, "alignment"),
            ({"protocol": {"folds": 2, "pairs": 1200, "probe": "second", "drop_failed": False}}, "pairs, folds"),
            ({"protocol": {"folds": 10, "pairs": 6000, "probe": "both", "drop_failed": False}}, "probe side"),
            ({"protocol": {"folds": 10, "pairs": 6000, "probe": "second", "drop_failed": True}}, "treatment of failed"),
            ({"masks": {"source": "folder:x", "kinds": ["N95"]}}, "masks"),
            ({"masks": {"source": "drawn", "kinds": ["N95"], "sha256": "2"}}, "mask templates"),
            ({"detector": {"name": "mtcnn", "version": "1"}}, "detectors"),
            ({"aligner": {"name": "mtcnn", "version": "1"}}, "aligners"),
            ({"reader": {"name": "landmarks_128", "sha256": "2"}}, "landmark readers"),
            ({"settings": {"probes": {"fuse": 0.5}}}, "shares of the completed face"),
            ({"seed": 1}, "seed"),
            ({"methods": {"clean": {}, "masked": {}, "refined": {}}}, "methods"),
        ],
    )
    def test_different_runs(self, tmp_path: Path, changed: dict[str, Any], what: str) -> None:
        paths = [self.write(tmp_path, "a.json", "dlib"), self.write(tmp_path, "b.json", "x", **changed)]
        with pytest.raises(InputError, match=rf"a\.json and .*b\.json: of different {what}"):
            read_reports(paths)

    def test_clean_faces_completed_or_not(self, tmp_path: Path) -> None:
        more = {
            "methods": {"clean": {}, "masked": {}, "fused": {}, "clean_completed": {}},
            "settings": {"probes": {"align": "clean"}},
        }
        paths = [self.write(tmp_path, "a.json", "dlib"), self.write(tmp_path, "b.json", "x", **more)]
        assert list(read_reports(paths)) == ["dlib", "x"]

    def test_what_older_reports_do_not_say(self, tmp_path: Path) -> None:
        older = {"masks": {"source": "drawn", "kinds": ["N95"]}, "aligner": None, "reader": None}
        paths = [self.write(tmp_path, "a.json", "dlib"), self.write(tmp_path, "b.json", "x", **older)]
        assert list(read_reports(paths)) == ["dlib", "x"]

    @pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0), (1, 0, 2)])
    def test_an_older_report_reconciles_nobody(self, tmp_path: Path, order: tuple[int, ...]) -> None:
        changes = [{"aligner": None}, {}, {"aligner": {"name": "mtcnn", "version": "1"}}]
        paths = [self.write(tmp_path, f"{i}.json", f"r{i}", **changed) for i, changed in enumerate(changes)]
        with pytest.raises(InputError, match=r"1\.json and .*2\.json: of different aligners"):
            read_reports([paths[i] for i in order])

    @pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"embedder": {"name": "x"}}', '{"embedder": 3}'])
    def test_no_report(self, tmp_path: Path, text: str | None) -> None:
        path = tmp_path / "x.json"
        if text is not None:
            path.write_text(text)
        with pytest.raises(DatasetError, match=r"x\.json: no report of benchmarks\.lfw"):
            read_reports([path])
