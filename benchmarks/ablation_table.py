"""Figures of an ablation with their intervals, and the whole as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.table import format_number
from maskfix.base import DoubleArray, InputError

Columns = Mapping[str, NDArray[Any]]
"""Figures face by face: `benchmarks.groups.HeldoutFigures` by field, `field|embedder` for its dictionaries."""

BEFORE, AFTER = "similarity_before|", "similarity_after|"
RECOVERED = "recovered|"
_MEANS = ("psnr", "psnr_masked", "ssim")


def statistics(columns: Columns, rows: NDArray[np.int64]) -> dict[str, DoubleArray]:
    """Figures of several samples of the faces; a face without a value (nan) does not count.

    Args:
        columns: Figures of M faces.
        rows: Which faces each of B samples has, `(B, M)` indices.

    Returns:
        `(B,)` each: means `psnr`, `psnr_masked` (dB), `ssim`; the median `sharpness`; for each embedder
        `recovered|NAME`, the recovered similarity mean(after - before) / mean(1 - before).
    """
    found = {name: np.nanmean(columns[name][rows], axis=1) for name in _MEANS}
    found["sharpness"] = np.nanmedian(columns["sharpness"][rows], axis=1)
    for judge in judges_of(columns):
        gained = columns[AFTER + judge] - columns[BEFORE + judge]
        lost = np.where(np.isnan(gained), np.nan, 1 - columns[BEFORE + judge])
        found[RECOVERED + judge] = np.nanmean(gained[rows], axis=1) / np.nanmean(lost[rows], axis=1)
    return found


def judges_of(columns: Columns) -> list[str]:
    """Names of the embedders."""
    return [name.removeprefix(AFTER) for name in columns if name.startswith(AFTER)]


def compare(columns: Columns, full: Columns, seed: int, replicates: int) -> dict[str, Any]:
    """Figures of a variant, and their differences to the full one over the same faces.

    Both are drawn together: the interval of a difference is that of the paired bootstrap.

    Args:
        columns: The variant's figures.
        full: The full variant's.
        seed: Seed of the bootstrap over faces.
        replicates: Draws.

    Returns:
        `figures` and `minus_full`: for each figure `value` and `ci95`, the latter None without replicates.

    Raises:
        InputError: If the two are not over the same faces and masks.
    """
    if any(not np.array_equal(columns[name], full[name]) for name in ("image", "kind")):
        raise InputError("ablation: two variants saw different faces or masks; remove their heldout*.npz, run again")
    rows = _samples(len(columns["image"]), seed, replicates)
    own, other = statistics(columns, rows), statistics(full, rows)
    return {
        "figures": {name: with_interval(values) for name, values in own.items()},
        "minus_full": {name: with_interval(values - other[name]) for name, values in own.items()},
    }


def masked_figures(columns: Columns, seed: int, replicates: int) -> dict[str, Any]:
    """The masked faces' own `psnr`, `psnr_masked` and `ssim`, in the form of `compare`'s figures."""
    rows = _samples(len(columns["image"]), seed, replicates)
    return {name: with_interval(np.nanmean(columns[f"{name}_before"][rows], axis=1)) for name in _MEANS}


def _samples(count: int, seed: int, replicates: int) -> NDArray[np.int64]:
    """All faces once, then bootstrap samples of them, `(1 + replicates, count)`."""
    drawn = np.random.default_rng(seed).integers(count, size=(replicates, count))
    return np.vstack([np.arange(count), drawn])


def with_interval(values: DoubleArray) -> dict[str, Any]:
    """The first value with the 95% percentile interval of the others."""
    ends = [float(end) for end in np.quantile(values[1:], [0.025, 0.975])] if len(values) > 1 else None
    return {"value": float(values[0]), "ci95": ends}


def format_ablation(report: Mapping[str, Any]) -> str:
    """An ablation's report as Markdown: the variants, their differences to the full one, the weight curve."""
    data, columns = report["data"], figure_columns(report)
    names, heads = list(columns), list(columns.values())
    parts = ["Siamese", "DAF", "(u, v)", "occlusion head", "composed"]
    lines = [
        f"{data['held_out']} held-out faces; each variant trained {report['steps']} steps of {report['batch_size']} "
        f"faces ({report['samples']} samples), seed {report['seed']}, same batches. 95% intervals by bootstrap over",
        "faces, paired for differences. PSNR in dB; sharpness: median Laplacian variance inside the mask, completed",
        "over clean; recovered: share of the lost similarity to the clean face that comes back, percent, for",
        "recognisers that no loss term knows.",
        "",
        *_head(parts, heads),
        _row(["masked input", "", "", "", ""], report["masked"], names),
        *(_row(_marks(row), row["figures"], names) for row in report["rows"]),
    ]
    if len(report["rows"]) > 1:
        others = [row for row in report["rows"] if row["name"] != "full"]
        lines += ["", "Minus the full variant:", "", *_head(parts, heads)]
        lines += [_row(_marks(row), row["minus_full"], names, "+") for row in others]
    if report["curve"]:
        lines += ["", "Full variant over the weight of the correspondence loss:", "", *_head(["weight"], heads)]
        lines += [_row([f"{point['correspondence']:g}"], point["figures"], names) for point in report["curve"]]
    if report["missing"]:
        lines += ["", f"Not finished: {', '.join(report['missing'])}."]
    return "\n".join(lines)


def figure_columns(report: Mapping[str, Any]) -> dict[str, str]:
    """The figures that tables show, in their order, and the heads of their columns."""
    means = dict(zip(_MEANS, ("PSNR", "PSNR inside mask", "SSIM"), strict=True))
    judges = [judge["name"] for judge in report["judges"]]
    return means | {"sharpness": "sharpness"} | {RECOVERED + name: f"recovered, {name}" for name in judges}


def format_figure(name: str, value: float, sign: str = "") -> str:
    """A number as tables show it: recovered similarity in percent, SSIM with three digits, others with two."""
    digits, scale = (1, 100) if name.startswith(RECOVERED) else (3 if name == "ssim" else 2, 1)
    return format_number(value * scale, digits, sign)


def _head(parts: list[str], heads: list[str]) -> tuple[str, str]:
    """The two lines that begin a table."""
    return f"| {' | '.join([*parts, *heads])} |", "|" + ":-:|" * len(parts) + "---|" * len(heads)


def _marks(row: Mapping[str, Any]) -> list[str]:
    """Which parts a variant has."""
    has = (row["siamese"], row["fusion"], row["correspondence"] > 0, row["occlusion_head"], row["composed"])
    return ["✓" if there else "" for there in has]


def _row(first: Iterable[str], figures: Mapping[str, Any], names: Iterable[str], sign: str = "") -> str:
    """One line of a table; figures that are not there stay empty."""
    return f"| {' | '.join([*first, *(_cell(name, figures.get(name), sign) for name in names)])} |"


def _cell(name: str, figure: Mapping[str, Any] | None, sign: str) -> str:
    """A figure with its interval."""
    if figure is None:
        return ""
    value, *ends = (format_figure(name, number, sign) for number in (figure["value"], *(figure["ci95"] or ())))
    return f"{value} [{ends[0]}, {ends[1]}]" if ends else value
