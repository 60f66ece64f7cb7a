"""The shipped thresholds are those of the committed reports, and nothing else becomes one."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.thresholds import RESULTS, TABLE, read_reports, table_text, threshold_table
from maskfix.base import InputError


@pytest.fixture(scope="module")
def reports() -> list[dict[str, Any]]:
    return read_reports(RESULTS)


def test_committed_table_is_up_to_date() -> None:
    assert TABLE.read_text(encoding="utf-8") == table_text(), "run python -m benchmarks.thresholds"


def test_rows(reports: list[dict[str, Any]]) -> None:
    rows = threshold_table(reports)["thresholds"]
    assert len(rows) == len(reports)
    by_name = {report["embedder"]["name"]: report for report in reports}
    for row in rows:
        report = by_name[row["embedder"]]
        clean, completed = report["methods"]["clean"], report["methods"]["completed"]
        assert row["sha256"] == report["embedder"]["sha256"]
        assert row["impostors"] == clean["n_impostor"] == 3000
        for rate in ("0.01", "0.001"):
            point = row["points"][rate]
            assert point["threshold"] == clean["tpr_at_fpr"][rate]["threshold"]
            assert point["fmr"] == clean["tpr_at_fpr"][rate]["fpr"] <= float(rate)
            assert point["completed"]["fmr"] == completed["fmr_fnmr_at_clean_threshold"][rate]["fmr"]
            assert point["completed"]["fnmr"] == completed["fmr_fnmr_at_clean_threshold"][rate]["fnmr"]


def test_later_report_of_a_recogniser_counts(reports: list[dict[str, Any]]) -> None:
    later = copy.deepcopy(reports[0])
    later["created"] = "2999-01-01T00:00:00+00:00"
    later["methods"]["clean"]["tpr_at_fpr"]["0.01"]["threshold"] = 0.123
    for order in ([later, reports[0]], [reports[0], later]):
        [row] = threshold_table(order)["thresholds"]
        assert row["points"]["0.01"]["threshold"] == 0.123


@pytest.mark.parametrize(
    ("place", "value"), [(("data", "official"), False), (("protocol", "folds"), 2), (("protocol", "drop_failed"), True)]
)
def test_partial_runs_are_refused(reports: list[dict[str, Any]], place: tuple[str, str], value: Any) -> None:
    partial = copy.deepcopy(reports[0])
    partial[place[0]][place[1]] = value
    with pytest.raises(InputError, match="thresholds want all of the official pairs"):
        threshold_table([partial])


def test_no_threshold_is_refused(reports: list[dict[str, Any]]) -> None:
    without = copy.deepcopy(reports[0])
    without["methods"]["clean"]["tpr_at_fpr"]["0.001"]["threshold"] = None
    with pytest.raises(InputError, match=r"no threshold at FMR 0\.001"):
        threshold_table([without])


def test_read_reports(tmp_path: Path, reports: list[dict[str, Any]]) -> None:
    with pytest.raises(InputError, match=r"no lfw--\*\.json reports"):
        read_reports(tmp_path)
    (tmp_path / "lfw--a.json").write_text(json.dumps(reports[0]))
    assert read_reports(tmp_path) == [reports[0]]
    (tmp_path / "lfw--b.json").write_text("{")
    with pytest.raises(InputError, match=r"lfw--b\.json: damaged report"):
        read_reports(tmp_path)
