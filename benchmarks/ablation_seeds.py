"""`python -m benchmarks.ablation_seeds`: what each part is worth over several seeds, since one run may be lucky."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer

from benchmarks.ablation_table import figure_columns, format_figure
from maskfix.base import DatasetError, DoubleArray, InputError, replacing
from maskfix.cli.shared import one_line_errors

__all__ = ["Pooled", "app", "format_seeds", "pool"]

_SAME = ("steps", "batch_size", "encoder", "identity", "faces_sha256", "masks", "judges", "data")
"""What reports of one ablation share; of the configuration, all but the seed."""


class Pooled(NamedTuple):
    """A figure's differences to the full variant.

    Attributes:
        values: One of each seed.
        mean: Their mean.
        ci95: Student's 95% interval of the mean, over seeds; None with one seed.
    """

    values: tuple[float, ...]
    mean: float
    ci95: tuple[float, float] | None


def pool(reports: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Pooled]]:
    """Differences to the full variant, over seeds.

    Each seed has runs of its own (weights, batches, held-out faces and masks), so that what runs differ in for no
    reason is in the interval; the intervals of one report are over faces alone.

    Args:
        reports: Reports of `benchmarks.ablation`, one a seed.

    Returns:
        By variant and figure; variants that some report lacks are left out.

    Raises:
        InputError: If two reports have one seed, or differ in anything else.
    """
    if not reports:
        raise InputError("reports: give at least one")
    seeds = [report["seed"] for report in reports]
    if len(set(seeds)) < len(seeds):
        raise InputError(f"reports: each seed once, got {', '.join(map(str, seeds))}")
    first = _settings(reports[0])
    for report in reports[1:]:
        if other := sorted(key for key, value in _settings(report).items() if value != first[key]):
            raise InputError(f"reports: seeds {seeds[0]} and {report['seed']} are of another {', '.join(other)}")
    rows = [{row["name"]: row["minus_full"] for row in report["rows"] if row["name"] != "full"} for report in reports]
    return {
        name: {figure: _pooled(np.array([row[name][figure]["value"] for row in rows])) for figure in rows[0][name]}
        for name in rows[0]
        if all(name in row for row in rows)
    }


def _settings(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a report shares with those of other seeds."""
    config = {key: value for key, value in report["config"].items() if key != "seed"}
    return {"config": config} | {key: report.get(key) for key in _SAME}


def _pooled(values: DoubleArray) -> Pooled:
    from scipy import stats

    mean, ends = float(values.mean()), None
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
        ends = (mean - half, mean + half)
    return Pooled(tuple(map(float, values)), mean, ends)


def format_seeds(reports: Sequence[Mapping[str, Any]]) -> str:
    """The pooled differences as Markdown: the mean with its interval, and each seed's value behind it."""
    found, first = pool(reports), reports[0]
    columns = figure_columns(first)
    lines = [
        f"Minus the full variant, {len(reports)} runs each (seeds {', '.join(str(r['seed']) for r in reports)}) of "
        f"{first['steps']} steps of {first['batch_size']} faces,",
        f"{first['data']['held_out']} held-out faces a seed. Mean over seeds [Student's 95% interval over seeds], and",
        "each seed's own value. PSNR in dB, recovered similarity in percent.",
        "",
        f"| without | {' | '.join(columns.values())} |",
        "|---|" + "---|" * len(columns),
    ]
    lacks = {row["name"]: _lacking(row) for row in first["rows"]}
    lines += [
        f"| {lacks[name]} | {' | '.join(_cell(key, row[key]) for key in columns)} |" for name, row in found.items()
    ]
    return "\n".join(lines)


def _lacking(row: Mapping[str, Any]) -> str:
    """What a variant is without, in words."""
    parts = {
        "Siamese pre-training": row["siamese"],
        "dual attention fusion": row["fusion"],
        "correspondence": row["correspondence"] > 0,
        "the occlusion head": row["occlusion_head"],
        "compositing": row["composed"] or not row["occlusion_head"],
    }
    return ", ".join(name for name, there in parts.items() if not there)


def _cell(name: str, pooled: Pooled) -> str:
    def shown(*values: float) -> str:
        return ", ".join(format_figure(name, value, "+") for value in values)

    ends = "" if pooled.ci95 is None else f" [{shown(*pooled.ci95)}]"
    return f"{shown(pooled.mean)}{ends}: {shown(*pooled.values)}"


def read_ablations(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Read reports of `benchmarks.ablation`.

    Raises:
        DatasetError: If a file is missing or none.
    """
    found = []
    for path in paths:
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DatasetError(f"{path}: cannot be read as a report ({error})") from error
        if not isinstance(report, dict) or report.get("benchmark") != "ablation":
            raise DatasetError(f"{path}: no report of benchmarks.ablation")
        found.append(report)
    return found


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    reports: Annotated[list[Path], typer.Argument(help="Reports of benchmarks.ablation, one a seed.")],
    out: Annotated[Path | None, typer.Option(help="Markdown file to write as well.")] = None,
) -> None:
    """Pool ablations that differ in their seed alone."""
    with one_line_errors():
        text = format_seeds(read_ablations(reports))
        if out is not None:
            with replacing(out) as temporary:
                temporary.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    app()
