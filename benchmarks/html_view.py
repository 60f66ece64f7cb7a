"""What the template of a run's web page shows: rows, cards, histograms and curve data, made of reports and curves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.html_run import headline_rate
from benchmarks.html_scores import WrongPairs
from benchmarks.table import METHOD_NAMES, format_number, method_name
from maskfix.base import DoubleArray
from maskfix.metrics import RocCurve
from maskfix.plot import ScoreHistogramDisplay
from maskfix.plot.style import percent

_EXTRAS = {"cllr": "Cllr", "min_cllr": "min Cllr"}
_OTHER_COLOURS = 5
_MAX_FAILURES = 200
_SHOWN_ELSEWHERE = ("methods", "difference", "harmlessness", "failures", "command")

Report = Mapping[str, Any]


def method_css(name: str, order: Sequence[str]) -> str:
    """CSS class of a method's colour; never made of the name itself, which may come from outside."""
    if name in METHOD_NAMES:
        return f"m-{name.replace('_', '-')}"
    others = [other for other in order if other not in METHOD_NAMES]
    return f"m-other-{others.index(name) % _OTHER_COLOURS}"


def run_labels(reports: Sequence[Report]) -> list[str]:
    """A name for each run: its recogniser, then what else tells it from others of that recogniser."""
    for parts in (("embedder",), ("embedder", "weights"), ("embedder", "weights", "masks")):
        names = [", ".join(_part(report, part) for part in parts) for report in reports]
        if len(set(names)) == len(names):
            return names
    return [f"{_part(report, 'embedder')} ({place})" for place, report in enumerate(reports, start=1)]


def _part(report: Report, part: str) -> str:
    values = report.get(part) or {}
    return str(values.get("name", values.get("source", "unknown")))


def points(value: float, digits: int = 2, sign: bool = False) -> str:
    """A fraction in percent; what rounds to zero has no sign.

    Example:
        >>> points(0.98765), points(0.05, 1, True), points(-0.00001, 2, True)
        ('98.77', '+5.0', '0.00')
    """
    return format_number(value * 100, digits, "+" if sign else "")


def rate_label(rate: float) -> str:
    """A rate asked for, as tables name it: in percent, or as a power of ten where that has too many zeros.

    Example:
        >>> rate_label(0.01), rate_label(0.001), rate_label(1e-4)
        ('1%', '0.1%', '1e-4')
    """
    return percent(rate) if rate >= 1e-3 else f"{rate:.0e}".replace("e-0", "e-")


def all_methods(reports: Sequence[Report]) -> list[str]:
    """Methods of all reports, each once, in their order."""
    return list(dict.fromkeys(itertools.chain.from_iterable(report["methods"] for report in reports)))


def all_rates(reports: Sequence[Report]) -> list[str]:
    """Keys of the operating points of all reports, largest rate first; one rate has one key."""
    keys: dict[float, str] = {}
    for report in reports:
        for method in report["methods"].values():
            for key in method["tpr_at_fpr"]:
                keys.setdefault(float(key), key)
    return [keys[rate] for rate in sorted(keys, reverse=True)]


def _at(points: Mapping[str, Any], rate: str) -> Any:
    """The entry of a rate, whatever way a report writes the number; None where it has none."""
    return next((value for key, value in points.items() if _is_rate(key) and float(key) == float(rate)), None)


def _is_rate(key: str) -> bool:
    return key[:1].isdigit()


def extra_columns(reports: Sequence[Report]) -> dict[str, str]:
    """Further figures that some report has, with their labels."""
    methods = [method for report in reports for method in report["methods"].values()]
    return {key: label for key, label in _EXTRAS.items() if any(key in method for method in methods)}


def run_view(report: Report, label: str, rates: Sequence[str], order: Sequence[str], extras: Sequence[str]) -> Any:
    """Rows of all tables for one run."""
    rows = []
    for name, method in report["methods"].items():
        sides = method.get("failures", {})
        named = {"gallery": "gallery", "probe": "probe", "masking": "unmasked"}
        counts = [(sum(sides.get(side, {}).values()), label) for side, label in named.items()]
        rows.append(
            {
                "label": method_name(name),
                "css": method_css(name, order),
                "auc": method["auc"],
                "auc_ci95": method.get("auc_ci95"),
                "eer": method.get("eer"),
                "points": [_at(method["tpr_at_fpr"], rate) for rate in rates],
                "extras": [method.get(key) for key in extras],
                "accuracy": method.get("accuracy") or {"mean": None, "se": None},
                # A pair of which both sides failed is in both numbers, so they are not added up.
                "failed": ", ".join(f"{count} {label}" for count, label in counts if count) or 0,
            }
        )
    return {
        "label": label,
        "rows": rows,
        "changes": list(_changes(report, rates)),
        "operating": list(_operating(report, rates, order)),
        "command": report.get("command"),
        "facts": {
            key: value
            for key, value in report.items()
            if key not in _SHOWN_ELSEWHERE and not key.startswith("recovered")
        },
    }


def _changes(report: Report, rates: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Differences between methods, then recovered fractions."""
    named = dict(report.get("difference", {}))
    if "harmlessness" in report:
        named["clean_completed_minus_clean"] = report["harmlessness"]
    for name, figures in named.items():
        label = " minus ".join(method_name(side) for side in name.split("_minus_"))
        cells = [_change_cell(figures.get("auc")), *(_change_cell(_at(figures, rate)) for rate in rates)]
        yield {"label": label, "cells": cells, "signed": True}
    for key in [key for key in report if key == "recovered" or key.startswith("recovered_")]:
        who = key.removeprefix("recovered").lstrip("_")
        label = f"Recovered, %{', ' + method_name(who).lower() if who else ''}"
        values = report[key]
        cells = [_share_cell(values.get("auc")), *(_share_cell(_at(values, rate)) for rate in rates)]
        yield {"label": label, "cells": cells, "signed": False}


def _change_cell(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A difference, marked where its interval leaves out zero."""
    if row is None:
        return None
    sure = row["ci95"] is not None and (row["ci95"][0] > 0 or row["ci95"][1] < 0)
    return {**row, "css": f"sure {'up' if row['value'] > 0 else 'down'}" if sure else ""}


def _share_cell(value: Any) -> dict[str, Any] | None:
    """A recovered fraction, a number or one with its interval."""
    if isinstance(value, Mapping):
        return {"value": value["value"], "ci95": value.get("ci95"), "css": ""}
    return None if value is None else {"value": value, "ci95": None, "css": ""}


def _operating(report: Report, rates: Sequence[str], order: Sequence[str]) -> Iterator[dict[str, Any]]:
    for rate, (name, method) in itertools.product(rates, report["methods"].items()):
        point = _at(method["tpr_at_fpr"], rate)
        if point is None:
            continue
        moved = _at(method.get("fmr_fnmr_at_clean_threshold", {}), rate) or {"fmr": None, "fnmr": None}
        yield {
            **point,
            "rate": rate_label(float(rate)),
            "label": method_name(name),
            "css": method_css(name, order),
            "fpr_text": _rate_text(point["fpr"]),
            "fmr": moved["fmr"],
            "fnmr": moved["fnmr"],
            "fmr_text": None if moved["fmr"] is None else _rate_text(moved["fmr"]),
        }


def _rate_text(rate: float) -> str:
    """A small rate in percent, with three digits that count."""
    return f"{rate * 100:.3f}" if rate >= 1e-4 or rate == 0 else f"{rate * 100:.2e}"


def cards(reports: Sequence[Report], labels: Sequence[str], order: Sequence[str]) -> list[dict[str, Any]]:
    """One card a run: what the masks cost at its headline rate and what completion won back; all on one scale.

    Completion is that with refined landmarks where a run has it, as it is in use.
    """
    made = []
    for report, label in zip(reports, labels, strict=True):
        rate = headline_rate(report)
        best, recovered = "completed", "recovered"
        if "refined" in report["methods"] and "recovered_refined" in report:
            best, recovered = "refined", "recovered_refined"
        found = {
            name: _at(report["methods"][name]["tpr_at_fpr"], rate)
            for name in ("clean", "masked", best)
            if name in report["methods"]
        }
        if len(found) < 3 or not all(found.values()) or recovered not in report:
            continue
        share = _share_cell(_at(report[recovered], rate))
        gain = _at(report.get("difference", {}).get(f"{best}_minus_masked", {}), rate)
        made.append(
            {
                "label": label,
                "rate": rate_label(float(rate)),
                "recovered": share and share["value"],
                "recovered_ci95": share and share["ci95"],
                "gain": gain,
                "dots": [
                    {"tpr": point["tpr"], "label": method_name(name), "css": method_css(name, order)}
                    for name, point in found.items()
                ],
            }
        )
    least = min((dot["tpr"] for card in made for dot in card["dots"]), default=0.0)
    low = min(math.floor(least * 10) / 10, 0.9)
    for card in made:
        for dot in card["dots"]:
            dot["left"] = round(100 * (dot["tpr"] - low) / (1 - low), 2)
        ends = sorted(dot["left"] for dot in card["dots"][1:])
        card.update(low=round(100 * low), start=ends[0], width=round(ends[1] - ends[0], 2))
    return made


def curve_data(
    reports: Sequence[Report], labels: Sequence[str], curves: Sequence[Mapping[str, RocCurve]], rates: Sequence[str]
) -> dict[str, Any]:
    """Curves as whole numbers of pairs: exact, and shorter than rates."""
    order = all_methods(reports)
    listed: list[dict[str, Any]] = []
    for run, (report, drawn) in enumerate(zip(reports, curves, strict=True)):
        for name, curve in drawn.items():
            if name not in report["methods"]:
                continue
            method = report["methods"][name]
            genuine, impostor = method["n_genuine"], method["n_impostor"]
            points = [(rate, _at(method["tpr_at_fpr"], rate)) for rate in rates]
            listed.append(
                {
                    "run": run,
                    "method": name,
                    "genuine": genuine,
                    "impostor": impostor,
                    "accepted": np.rint(curve.fpr * impostor).astype(int).tolist(),
                    "matched": np.rint(curve.tpr * genuine).astype(int).tolist(),
                    "thresholds": [float(f"{t:.7g}") if np.isfinite(t) else None for t in curve.thresholds.tolist()],
                    "points": [
                        {
                            "rate": float(rate),
                            "fpr": point["fpr"],
                            "tpr": point["tpr"],
                            "threshold": point["threshold"],
                            "ci": point.get("ci95"),
                        }
                        for rate, point in points
                        if point and point["resolvable"]
                    ],
                }
            )
    kept = [name for name in order if any(entry["method"] == name for entry in listed)]
    return {
        "runs": list(labels),
        "methods": [{"label": method_name(name), "css": method_css(name, order)} for name in kept],
        "rates": [float(rate) for rate in rates],
        "curves": [{**entry, "method": kept.index(entry["method"])} for entry in listed],
    }


def histogram_view(report: Report, label: str, display: ScoreHistogramDisplay) -> dict[str, Any]:
    """Histograms of one run as SVG paths; the outlines share one scale, so that methods can be compared."""
    low, high = float(display.edges[0]), float(display.edges[-1])
    bins = len(display.edges) - 1
    top = max(float(side.max()) for sides in (display.genuine, display.impostor) for side in sides.values()) or 1.0
    clean = report["methods"].get("clean", {}).get("tpr_at_fpr", {})
    usable = [key for key, point in clean.items() if point["threshold"] is not None and point["resolvable"]]
    # Two lines at most: the rate that the benchmark is known by, and the smallest.
    rates = sorted({headline_rate(report), *sorted(usable, key=float)[:1]} & set(usable), key=float, reverse=True)
    marks = {rate_label(float(rate)): clean[rate]["threshold"] for rate in rates}
    inside = {rate: score for rate, score in marks.items() if low <= score <= high < np.inf and high > low}
    plots = [
        {
            "label": method_name(name),
            "failed": display.failures[name],
            "bins": bins,
            "low": low,
            "high": high,
            "genuine": _outline(display.genuine[name] / top),
            "impostor": _outline(display.impostor[name] / top),
            "genuine_mode": _mode(display.genuine[name], display.edges),
            "impostor_mode": _mode(display.impostor[name], display.edges),
            "thresholds": [round((score - low) / (high - low) * bins, 2) for score in inside.values()],
            "note": f"FPR {', '.join(inside)}" if inside else "",
        }
        for name in display.genuine
    ]
    return {"label": label, "plots": plots}


def _outline(shares: DoubleArray) -> str:
    """Outline of a histogram in a box of one unit a bin and 100 units of height, with room at the top."""
    heights = 100 - 96 * shares
    return "M0 100" + "".join(f"V{height:.1f}h1" for height in heights.tolist()) + "V100Z"


def _mode(shares: DoubleArray, edges: DoubleArray) -> float:
    place = int(shares.argmax())
    return float(edges[place] + edges[place + 1]) / 2


def wrong_view(label: str, wrong: WrongPairs, thumbs: Mapping[str, str]) -> dict[str, Any]:
    """Wrong decisions of one run, with thumbnails (data URIs) by name."""
    shown = [name for name in ("clean", "masked", wrong.method) if wrong.pairs and name in wrong.pairs[0].scores]
    pairs = [
        {
            **pair._asdict(),
            "gallery_name": pair.gallery.rpartition("/")[2],
            "probe_name": pair.probe.rpartition("/")[2],
            "thumbs": [thumbs[name] for name in (pair.gallery, pair.probe) if name in thumbs],
            "text": ", ".join(
                f"{method_name(name).lower()} {pair.scores[name]:.3f}"
                if np.isfinite(pair.scores[name])
                else f"{method_name(name).lower()} failed"
                for name in shown
            ),
        }
        for pair in wrong.pairs
    ]
    return {
        "label": label,
        "method": method_name(wrong.method),
        "rate": rate_label(float(wrong.rate)),
        "threshold": wrong.threshold,
        "non_matches": wrong.non_matches,
        "matches": wrong.matches,
        "pairs": pairs,
    }


def failure_view(
    reports: Sequence[Report], labels: Sequence[str], thumbs: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    """Pictures that failed, those that several runs share once, with the first thumbnail that a run has of them."""
    kinds = {"no_face": "no usable face", "not_masked": "no mask could be put on"}
    found: dict[tuple[str, str, str], list[int]] = {}
    for run, report in enumerate(reports):
        for kind, group in report.get("failures", {}).items():
            for name, reason in group.items():
                found.setdefault((kinds.get(kind, kind), name, reason), []).append(run)
    items = [
        {
            "kind": kind,
            "name": name,
            "reason": reason,
            "runs": "" if len(runs) == len(labels) else ", ".join(labels[run] for run in runs),
            "thumb": next((thumbs[run][name] for run in runs if name in thumbs[run]), ""),
        }
        for (kind, name, reason), runs in itertools.islice(found.items(), _MAX_FAILURES)
    ]
    return {"listed": items, "more": len(found) - len(items)}
