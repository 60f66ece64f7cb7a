"""A verification report as Markdown; `python -m benchmarks.table REPORT.json ...` prints several in one table.

`--short` prints a row a recogniser, as the README has it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from maskfix.base import DatasetError, InputError
from maskfix.cli.shared import one_line_errors

METHOD_NAMES = {
    "clean": "Clean",
    "masked": "Masked",
    "completed": "Completed",
    "refined": "Completed, landmarks refined",
    "fused": "Masked and completed, fused",
    "clean_completed": "Clean, completed",
}
"""Methods as tables, figures and web pages call them."""

SHORT_NAMES = {"refined": "completed, refined"}
"""Methods as heads of narrow columns."""


def method_name(name: str) -> str:
    """A method as it is read, also one that is not known here.

    Example:
        >>> method_name("clean_completed"), method_name("mean_face")
        ('Clean, completed', 'mean face')
    """
    return METHOD_NAMES.get(name, name.replace("_", " "))


def format_table(report: Mapping[str, Any]) -> str:
    """The report as a Markdown table; rates in percent."""
    lines = [
        "| probe | AUC | EER | TPR@FPR=1% | TPR@FPR=0.1% | nearest 1% | nearest 0.1% | accuracy "
        "| failed: gallery, probe, mask |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_method_row(method_name(name), method) for name, method in report["methods"].items()),
        "",
        "Percent. TPR by the conservative rule (FPR at most the rate asked for), with 95% intervals of a subject",
        "bootstrap; `nearest` is insightface's rule, for comparison with published tables only. Failed: pairs without",
        "a face on the gallery picture, then on the probe (non-matches; a pair of two such pictures is in both),",
        "then pairs whose probe could not be masked.",
        "",
        "| operating point | probe | FPR achieved | threshold | FMR, FNMR at the clean threshold |",
        "|---|---|---|---|---|",
        *_point_rows(report["methods"]),
        "",
        "| points gained | AUC | TPR@FPR=1% | TPR@FPR=0.1% |",
        "|---|---|---|---|",
        _difference_row("completed minus masked", report["difference"]["completed_minus_masked"]),
    ]
    lines += [
        _difference_row(f"{method} minus masked", report["difference"][f"{method}_minus_masked"])
        for method in ("refined", "fused")
        if f"{method}_minus_masked" in report["difference"]
    ]
    if "harmlessness" in report:
        lines.append(_difference_row("clean completed minus clean", report["harmlessness"]))
    for key, name in (("recovered", ""), ("recovered_refined", ", refined"), ("recovered_fused", ", fused")):
        if key in report:
            shares = (percent(report[key][figure]) for figure in ("auc", "0.01", "0.001"))
            lines.append(f"| recovered share of the loss, %{name} | {' | '.join(shares)} |")
    return "\n".join(lines)


def format_recognisers(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """Reports of several recognisers in one Markdown table, and what completion gains each; rates in percent.

    Args:
        reports: The report of each recogniser of one run, by its name.
    """
    lines = [
        "| recogniser | probe | AUC | EER | TPR@FPR=1% | TPR@FPR=0.1% | accuracy |",
        "|---|---|---|---|---|---|---|",
    ]
    for recogniser, report in reports.items():
        for place, (name, method) in enumerate(report["methods"].items()):
            cells = _method_cells(method)
            named = [recogniser if place == 0 else "", method_name(name)]
            lines.append(f"| {' | '.join([*named, *cells[:4], cells[6]])} |")
    lines += [
        "",
        "| points gained over masked |  | AUC | TPR@FPR=1% | TPR@FPR=0.1% | recovered share of the loss, %, of each |",
        "|---|---|---|---|---|---|",
    ]
    for recogniser, report in reports.items():
        rows = (("completed", "recovered"), ("refined", "recovered_refined"), ("fused", "recovered_fused"))
        for place, (method, recovered) in enumerate(rows):
            if recovered in report:
                gains = _difference_cells(report["difference"][f"{method}_minus_masked"])
                shares = [percent(report[recovered][figure]) for figure in ("auc", "0.01", "0.001")]
                named = [recogniser if place == 0 else "", method_name(method)]
                lines.append(f"| {' | '.join([*named, *gains, ', '.join(shares)])} |")
    return "\n".join(lines)


def format_summary(reports: Mapping[str, Mapping[str, Any]]) -> str:
    """A row a recogniser: TPR@FPR=1% under each method, what completion gains and recovers; in percent.

    Gain and recovered shares are those of the refined face where the reports have one, else of the completed face.

    Args:
        reports: The report of each recogniser, by its name, all with the same methods.
    """
    some = next(iter(reports.values()))["methods"]
    shown = [name for name in METHOD_NAMES if name in some and name != "clean_completed"]
    best, recovered = ("refined", "recovered_refined") if "refined" in some else ("completed", "recovered")
    names = [SHORT_NAMES.get(name, name) for name in shown]
    lines = [
        f"| TPR@FPR=1% | {' | '.join(names)} | {best} - masked | recovered: AUC | TPR@FPR=1% | 0.1% |",
        f"|---|{'---|' * (len(shown) + 4)}",
    ]
    for recogniser, report in reports.items():
        rates = [percent(report["methods"][name]["tpr_at_fpr"]["0.01"]["tpr"], 1) for name in shown]
        gain = report["difference"][f"{best}_minus_masked"]["0.01"]
        shares = [percent(report[recovered][figure], 0) for figure in ("auc", "0.01", "0.001")]
        lines.append(
            f"| {' | '.join([recogniser, *rates, with_interval(gain['value'], gain['ci95'], '+'), *shares])} |"
        )
    return "\n".join(lines)


def describe(report: Mapping[str, Any]) -> str:
    """The run in a few lines of Markdown, to stand above its table."""
    protocol, embedder, weights = report["protocol"], report["embedder"], report["weights"]
    return (
        f"# LFW: {embedder['name']} behind {weights['name']}\n\n"
        f"{protocol['comparisons']} comparisons ({protocol['folds']} folds, probe: {protocol['probe']}, "
        f"{protocol['dropped']} dropped), masks from {report['masks']['source']}, landmarks by "
        f"{report['detector']['name']} {report['detector']['version']}, seed {report['seed']}.\n"
        f"Recogniser {embedder['sha256'][:12]}, weights {weights['sha256'][:12]}.\n\n"
        f"    {report['command']}\n"
    )


def _method_row(name: str, method: Mapping[str, Any]) -> str:
    """One row of the first table."""
    return f"| {' | '.join([name, *_method_cells(method)])} |"


def _method_cells(method: Mapping[str, Any]) -> list[str]:
    """What the first table tells of a method."""
    points = [method["tpr_at_fpr"][key] for key in ("0.01", "0.001")]
    accuracy = method["accuracy"]
    right = "" if accuracy["mean"] is None else f"{percent(accuracy['mean'])} ± {percent(accuracy['se'])}"
    return [
        with_interval(method["auc"], method["auc_ci95"]),
        percent(method["eer"]),
        *(with_interval(point["tpr"], point["ci95"]) for point in points),
        *(percent(point["nearest"]) for point in points),
        right,
        failed_pairs(method["failures"]),
    ]


def _point_rows(methods: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Rows of the second table: what was achieved where."""
    for key in ("0.01", "0.001"):
        for name, method in methods.items():
            point, moved = method["tpr_at_fpr"][key], method["fmr_fnmr_at_clean_threshold"][key]
            threshold = "none" if point["threshold"] is None else f"{point['threshold']:.4f}"
            note = "" if point["resolvable"] else " (no false accept allowed: too few impostors)"
            yield (
                f"| FPR={percent(float(key), 1)}%{note} | {method_name(name)} | "
                f"{percent(point['fpr'], 3)} | {threshold} | {percent(moved['fmr'])}, {percent(moved['fnmr'])} |"
            )


def _difference_row(name: str, difference: Mapping[str, Any]) -> str:
    return f"| {' | '.join([name, *_difference_cells(difference)])} |"


def _difference_cells(difference: Mapping[str, Any]) -> list[str]:
    return [with_interval(difference[key]["value"], difference[key]["ci95"], "+") for key in ("auc", "0.01", "0.001")]


def failed_pairs(failures: Mapping[str, Mapping[str, int]]) -> str:
    """Pairs that failed on the gallery side, on the probe's, and whose probe has no mask: a pair may be in several.

    Example:
        >>> failed_pairs({side: {"genuine": 1, "impostor": 2} for side in ("gallery", "probe", "masking")})
        '3, 3, 3'
    """
    return ", ".join(str(sum(failures[side].values())) for side in ("gallery", "probe", "masking"))


def format_number(value: float, digits: int, sign: str = "") -> str:
    """A number with so many digits; what rounds to zero has no sign.

    Args:
        value: The number.
        digits: Digits behind the point.
        sign: `+` where other numbers above zero have a sign too.

    Example:
        >>> format_number(-0.004, 2), format_number(0.004, 2, "+"), format_number(0.006, 2, "+")
        ('0.00', '0.00', '+0.01')
    """
    text = f"{value:{sign}.{digits}f}"
    return text if float(text) else text.lstrip("+-")


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction in percent; n/a where there is none."""
    return "n/a" if value is None else format_number(value * 100, digits)


def with_interval(value: float, interval: Sequence[float] | None, sign: str = "") -> str:
    """A value in percent with its interval."""
    text, *ends = (format_number(number * 100, 2, sign) for number in (value, *(interval or ())))
    return f"{text} [{', '.join(ends)}]" if ends else text


def read_reports(paths: Sequence[Path]) -> dict[str, Mapping[str, Any]]:
    """Reports that differ in their recogniser alone, by its name.

    Raises:
        DatasetError: If a file is no report, or two are of one recogniser.
        InputError: If two are of different weights, protocols, masks, seeds or methods.
    """
    reports: dict[str, Mapping[str, Any]] = {}
    runs: list[dict[str, Any]] = []
    for path in paths:
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            name = str(report["embedder"]["name"])
            runs.append(_run_of(report))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DatasetError(f"{path}: no report of benchmarks.lfw; give a report.json") from error
        if name in reports:
            raise DatasetError(f"{path}: a second report of {name}; give one for each recogniser")
        # Older reports do not say all of it, and cannot contradict what they do not say.
        for before, run in zip(paths, runs[:-1], strict=False):
            other = [what for what, value in runs[-1].items() if None not in (value, run[what]) and value != run[what]]
            if other:
                raise InputError(
                    f"{before} and {path}: of different {', '.join(other)}; give reports of one kind of run"
                )
        reports[name] = report
    return reports


def _run_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the reports of one table must have in common; None where an older report does not say."""
    protocol, probes, masks = report["protocol"], report["settings"]["probes"], report["masks"]
    methods = [name for name in report["methods"] if name != "clean_completed"]
    return {
        "weights": report["weights"]["sha256"],
        "pairs": (report["data"]["pairs_sha256"], protocol["pairs"]),
        "pictures": report["data"].get("folder"),
        "folds": protocol["folds"],
        "probe side": protocol["probe"],
        "treatment of failed pairs": protocol["drop_failed"],
        # Older reports do not name the alignment; they knew only that of the clean picture.
        "alignment": probes.get("align", "clean"),
        "detectors": (report["detector"]["name"], report["detector"]["version"]),
        "aligners": report.get("aligner"),
        "landmark readers": report.get("reader"),
        "masks": (masks["source"], masks["kinds"]),
        "mask templates": masks.get("sha256"),
        "seed": report["seed"],
        # Whether clean probes are completed as well changes nothing about the others.
        "methods": methods,
        "shares of the completed face": probes.get("fuse") if "fused" in methods else None,
    }


def main(
    reports: Annotated[list[Path], typer.Argument(help="report.json of each recogniser.")],
    short: Annotated[bool, typer.Option("--short", help="A row a recogniser, as the README has it.")] = False,
) -> None:
    """Print reports of several recognisers as one table."""
    with one_line_errors():
        read = read_reports(reports)
        print(format_summary(read) if short else format_recognisers(read))


if __name__ == "__main__":
    typer.run(main)
