"""An IJB-B or IJB-C report as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.table import failed_pairs, method_name, percent, with_interval


def format_table(report: Mapping[str, Any]) -> str:
    """The report as Markdown tables; rates in percent, Cllr in bits."""
    rates = rate_keys(report)
    titles = " | ".join(f"TPR@FPR={float(rate):.0e}".replace("e-0", "e-") for rate in rates)
    line = "|---" * len(rates)
    lines = [
        f"| probe | AUC | EER | {titles} | Cllr (min) | failed: gallery, probe, mask |",
        f"|---|---|---{line}|---|---|",
        *(_method_row(method_name(name), method, rates) for name, method in report["methods"].items()),
        "",
        "Percent, Cllr in bits. TPR by the conservative rule (FPR at most the rate asked for), with 95% intervals of a",
        "subject bootstrap; in brackets where the rate is below 1 / number of impostor pairs: the TPR at no false",
        "accept. Failed: pairs whose gallery template has no feature, then those whose probe template has none",
        "(non-matches; a pair of two such templates is in both), then those with a probe row without its mask.",
        "",
        "| operating point | probe | k | FPR achieved | threshold | nearest | FMR, FNMR at the clean threshold |",
        "|---|---|---|---|---|---|---|",
        *_point_rows(report["methods"], rates),
        "",
        f"| points gained | AUC | {titles} |",
        f"|---|---{line}|",
        *_difference_rows(report, rates),
    ]
    return "\n".join(lines)


def describe(report: Mapping[str, Any]) -> str:
    """The run in a few lines of Markdown, to stand above its tables."""
    protocol, embedder, weights, rows = (report[key] for key in ("protocol", "embedder", "weights", "rows"))
    sample = protocol["sample"]
    part = f" (a sample; {sample['of_subjects']} subjects in all)" if sample else ""
    probe = rows["probe"]
    # Older reports do not say; what was asked for was done where the set had scores.
    weighted = protocol.get("detector_scores", report["settings"]["features"]["detector_score"])
    return (
        f"# {protocol['name']}: {embedder['name']} behind {weights['name']}\n\n"
        f"{protocol['comparisons']} comparisons ({protocol['dropped']} dropped) of {protocol['templates']} templates "
        f"of {protocol['subjects']} subjects{part}; {protocol['rows']} rows, {protocol['units']} distinct faces. Masks "
        f"from {report['masks']['source']}, landmarks by {report['detector']['name']} "
        f"{report['detector']['version']}, rows {'' if weighted else 'not '}weighted by detector scores, seed "
        f"{report['seed']}.\n"
        f"Recogniser {embedder['sha256'][:12]}, weights {weights['sha256'][:12]}.\n"
        f"Probe rows: {probe['unreadable']} unreadable, {probe['no_face']} without a face, {probe['not_masked']} "
        f"without their mask, {probe['estimated_mask_points']} with mask points of an average face.\n\n"
        f"    {report['command']}\n"
    )


def rate_keys(report: Mapping[str, Any]) -> list[str]:
    """Keys of the operating points, smallest rate first."""
    return sorted(report["methods"]["clean"]["tpr_at_fpr"], key=float)


def _method_row(name: str, method: Mapping[str, Any], rates: list[str]) -> str:
    """One row of the first table."""
    points = [method["tpr_at_fpr"][rate] for rate in rates]
    cost = "n/a" if method["cllr"] is None else f"{method['cllr']:.4f}"
    cells = [
        name,
        with_interval(method["auc"], method["auc_ci95"]),
        percent(method["eer"]),
        *(_resolved(with_interval(point["tpr"], point["ci95"]), point["resolvable"]) for point in points),
        f"{cost} ({method['min_cllr']:.4f})",
        failed_pairs(method["failures"]),
    ]
    return f"| {' | '.join(cells)} |"


def _resolved(text: str, resolvable: bool) -> str:
    return text if resolvable else f"({text})"


def _point_rows(methods: Mapping[str, Mapping[str, Any]], rates: list[str]) -> Iterator[str]:
    """Rows of the second table: what was achieved where."""
    for rate in rates:
        for name, method in methods.items():
            point, moved = method["tpr_at_fpr"][rate], method["fmr_fnmr_at_clean_threshold"][rate]
            threshold = "none" if point["threshold"] is None else f"{point['threshold']:.4f}"
            note = "" if point["resolvable"] else " (not resolvable)"
            yield (
                f"| FPR={float(rate):.0e}{note} | {method_name(name)} | {point['accepted']} | "
                f"{point['fpr']:.3g} | {threshold} | {percent(point['nearest'])} | {moved['fmr']:.3g}, "
                f"{percent(moved['fnmr'])}% |"
            )


def _difference_rows(report: Mapping[str, Any], rates: list[str]) -> Iterator[str]:
    """Differences of methods, then recovered shares."""
    keys = ["auc", *rates]
    named = dict(report["difference"])
    if "harmlessness" in report:
        named["clean_completed_minus_clean"] = report["harmlessness"]
    for name, figures in named.items():
        cells = [with_interval(figures[key]["value"], figures[key]["ci95"], "+") for key in keys]
        yield f"| {name.replace('_minus_', ' minus ').replace('_', ' ')} | {' | '.join(cells)} |"
    for key, who in (("recovered", ""), ("recovered_fused", ", fused")):
        if key in report:
            yield f"| recovered share of the loss, %{who} | {' | '.join(percent(report[key][k]) for k in keys)} |"
