"""Held-out faces and their figures: summaries overall, by UTKFace's labels and of the worst group, and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.table import Column, Table

from maskfix.base import DoubleArray, InputError
from maskfix.data import UNLABELLED, group_rows, held_out

SMALLEST_GROUP = 30
"""Faces that a group must have to be called the worst: of fewer, chance decides."""

_LABELS = {
    "psnr": "PSNR, dB",
    "psnr_masked": "PSNR inside the mask, dB",
    "ssim": "SSIM",
    "sharpness": "sharpness inside the mask, median",
    "coverage": "share under the mask",
    "similarity": "similarity",
    "recovered": "recovered similarity",
    "margin": "margin over strangers",
}
_BLOCK = 100
"""Bootstrap replicates worked on at a time."""


class HeldoutFigures(NamedTuple):
    """One row per held-out face, M faces; nan in all figures but `coverage` where no mask could be put on the crop.

    Attributes:
        image: Name of each picture.
        kind: Mask drawn for it.
        psnr: Completed against clean, the whole crop, `(M,)` float64 in dB.
        psnr_masked: The same inside the mask.
        ssim: The same as SSIM, in [-1, 1].
        sharpness: Variance of the Laplacian inside the mask, completed over clean; 1 is as sharp as the truth.
        coverage: Share of the crop under the mask, in [0, 1].
        psnr_before: Masked against clean, the whole crop, in dB.
        psnr_masked_before: The same inside the mask.
        ssim_before: The same as SSIM.
        similarity_before: By name of the recogniser, cosine of the masked to the clean face, `(M,)`, nan where it
            failed.
        similarity_after: The same of the completed face.
        similarity_between: The same of the completed to the masked face; empty where nobody will mix them.
        margin_before: By name of the recogniser, the masked faces' margins over strangers, see `stranger_margins`.
        margin_after: The same of the completed faces.
        mask_seen: By `clean`, `masked` and `completed`, whether a mask detector sees a mask, 0 or 1; empty without one.
    """

    image: tuple[str, ...]
    kind: tuple[str, ...]
    psnr: DoubleArray
    psnr_masked: DoubleArray
    ssim: DoubleArray
    sharpness: DoubleArray
    coverage: DoubleArray
    psnr_before: DoubleArray
    psnr_masked_before: DoubleArray
    ssim_before: DoubleArray
    similarity_before: dict[str, DoubleArray]
    similarity_after: dict[str, DoubleArray]
    similarity_between: Mapping[str, DoubleArray] = MappingProxyType({})
    margin_before: Mapping[str, DoubleArray] = MappingProxyType({})
    margin_after: Mapping[str, DoubleArray] = MappingProxyType({})
    mask_seen: Mapping[str, DoubleArray] = MappingProxyType({})

    def take(self, rows: NDArray[np.int64]) -> HeldoutFigures:
        """Some of the faces, in the order of `rows`."""
        columns: list[Any] = []
        for column in self:
            if isinstance(column, Mapping):
                columns.append({name: values[rows] for name, values in column.items()})
            else:
                columns.append(tuple(column[row] for row in rows) if isinstance(column, tuple) else column[rows])
        return HeldoutFigures(*columns)


COLUMNS = HeldoutFigures._fields[2:10]
"""The figures that are one number a face."""


def choose_faces(names: Sequence[str], share: float, limit: int | None = None, seed: int = 0) -> NDArray[np.int64]:
    """The held-out faces to measure.

    Args:
        names: Names of a store's faces.
        share: Share that is held out, see `maskfix.data.held_out`; a smaller share is a part of a larger one.
        limit: Take only so many, drawn at random: UTKFace's names sort by age. All when None.
        seed: Seed of that draw.

    Returns:
        Rows of the store, rising.

    Raises:
        InputError: If the limit is below 1 or no face is held out.
    """
    found = np.flatnonzero(held_out(names, share))
    if not len(found) or (limit is not None and limit < 1):
        raise InputError(f"held-out faces: {len(found)} of {len(names)} with share {share}, limit {limit}; raise them")
    return np.sort(np.random.default_rng(seed).permutation(found)[:limit]).astype(np.int64)


def summarise(figures: HeldoutFigures, *, seed: int = 0, replicates: int = 1000) -> dict[str, Any]:
    """Means over faces, the median for sharpness, recovered similarity, and 95% percentile intervals over faces.

    Args:
        figures: Of M faces; M may be 0.
        seed: Seed of the bootstrap.
        replicates: Draws of M faces with replacement; 0 for no intervals.

    Returns:
        `faces` (M), `not_masked` (faces that took no mask), `figures` by name, and `embedders`: for each recogniser
        `similarity_before`, `similarity_after`, `recovered`, and, where the figures hold margins, `margin_before` and
        `margin_after` (see `benchmarks.heldout`). Where they hold what a mask detector sees, `mask_seen` too: the share
        of faces with a mask, `clean`, `masked`, `completed`, and `completed_minus_clean`. A figure is a row of
        `value`, `ci95` and `faces`, the number of faces that have it; values that are not finite (a crop equal to the
        clean one has no PSNR) are left out, and `value` is None where none are left.
    """

    def row(statistic: Callable[[DoubleArray], DoubleArray], *columns: DoubleArray) -> dict[str, Any]:
        return _row(statistic, np.stack(columns), seed, replicates)

    return {
        "faces": len(figures.image),
        "not_masked": int(np.count_nonzero(figures.coverage == 0)),
        "figures": {name: row(_median if name == "sharpness" else _mean, getattr(figures, name)) for name in COLUMNS},
        "embedders": {
            name: {
                "similarity_before": row(_mean, before),
                "similarity_after": row(_mean, figures.similarity_after[name]),
                "recovered": row(_recovered, before, figures.similarity_after[name]),
            }
            | {
                side: row(_mean, getattr(figures, side)[name])
                for side in ("margin_before", "margin_after")
                if name in getattr(figures, side)
            }
            for name, before in figures.similarity_before.items()
        },
    } | ({"mask_seen": _mask_seen(figures.mask_seen, row)} if figures.mask_seen else {})


def _mask_seen(seen: Mapping[str, DoubleArray], row: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Shares of faces with a mask, and how many more of the completed ones have one than of the clean ones."""
    shares = {name: row(_mean, values) for name, values in seen.items()}
    return shares | {"completed_minus_clean": row(_mean, seen["completed"] - seen["clean"])}


def best_shares(figures: HeldoutFigures) -> dict[str, dict[str, float]]:
    """For each recogniser the share of the completed face in the fused embedding that comes nearest to the clean face.

    The fused embedding is `share * completed + (1 - share) * masked`, made a unit vector (`benchmarks.lfw --fuse`); its
    cosine to the clean face follows from the three cosines of the figures.

    Args:
        figures: Of M faces, with `similarity_between`.

    Returns:
        `share` in steps of 0.05 and the mean `similarity` there; recognisers without a usable face are left out.
    """
    shares = np.linspace(0, 1, 21)[:, None]
    found = {}
    for name, between in figures.similarity_between.items():
        before, after = figures.similarity_before[name], figures.similarity_after[name]
        length = np.sqrt(shares**2 + (1 - shares) ** 2 + 2 * shares * (1 - shares) * between)
        cosines = (shares * after + (1 - shares) * before) / length
        kept = np.isfinite(cosines).all(axis=0)
        if kept.any():
            means = cosines[:, kept].mean(axis=1)
            best = int(means.argmax())
            found[name] = {"share": round(float(shares[best, 0]), 2), "similarity": float(means[best])}
    return found


def _mean(values: DoubleArray) -> DoubleArray:
    """Mean over the last axis of `(1, ..., n)`."""
    return np.asarray(values[0].mean(axis=-1))


def _median(values: DoubleArray) -> DoubleArray:
    """Median over the last axis of `(1, ..., n)`."""
    return np.asarray(np.median(values[0], axis=-1))


def _recovered(values: DoubleArray) -> DoubleArray:
    """Recovered similarity from `(2, ..., n)`, before and after; not finite where nothing was lost."""
    before, after = values
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((after - before).mean(axis=-1) / (1 - before).mean(axis=-1))


def _row(
    statistic: Callable[[DoubleArray], DoubleArray], columns: DoubleArray, seed: int, replicates: int
) -> dict[str, Any]:
    """One figure of `(k, M)` columns with its interval; the same draws for every figure that all faces have."""
    columns = columns[:, np.isfinite(columns).all(axis=0)]
    count = columns.shape[1]
    value = float(statistic(columns)) if count else np.nan
    if not np.isfinite(value):
        return {"value": None, "ci95": None, "faces": count}
    generator = np.random.default_rng(seed)
    sizes = [min(_BLOCK, replicates - start) for start in range(0, replicates, _BLOCK)]
    drawn = [statistic(columns[:, generator.integers(count, size=(size, count))]) for size in sizes]
    ends = np.quantile(np.concatenate(drawn), [0.025, 0.975]) if drawn else np.array([np.nan])
    return {"value": value, "ci95": ends.tolist() if np.isfinite(ends).all() else None, "faces": count}


def summarise_groups(figures: HeldoutFigures, *, seed: int = 0, replicates: int = 1000) -> dict[str, Any]:
    """The figures of each group of UTKFace's labels, and the worst group of each figure.

    Returns:
        `groups`: a summary for each attribute and group, see `group_rows`; `worst`: see `worst_groups`.
    """
    groups = {
        attribute: {
            group: summarise(figures.take(rows), seed=seed, replicates=replicates) for group, rows in found.items()
        }
        for attribute, found in group_rows(figures.image).items()
    }
    return {"groups": groups, "worst": worst_groups(groups)}


def worst_groups(groups: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """For each figure the group in which it is smallest, over all attributes.

    Args:
        groups: Summaries by attribute and group, as `summarise` gives them.

    Returns:
        A summary of the same form; each figure's row also names its `attribute` and `group`. None where no group has
        `SMALLEST_GROUP` faces with that figure. A small sharpness is a blurred completion; a large one (grids, noise)
        is not looked for here.
    """
    summaries = [
        (attribute, group, summary)
        for attribute, by_group in groups.items()
        for group, summary in by_group.items()
        if group != UNLABELLED
    ]
    worst: dict[str, Any] = {"figures": {}, "embedders": {}}
    for path in figure_paths(summaries[0][2]) if summaries else ():
        rows = [
            {"attribute": attribute, "group": group, **figure_at(summary, path)}
            for attribute, group, summary in summaries
        ]
        rows = [row for row in rows if row["faces"] >= SMALLEST_GROUP and row["value"] is not None]
        *parents, last = path
        place = worst
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = min(rows, key=lambda row: row["value"], default=None)
    return worst


def figure_paths(summary: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Where a summary keeps each figure to judge by: `("figures", NAME)` or `("embedders", EMBEDDER, NAME)`."""
    # How much the mask covers is no merit of the completion.
    yield from (("figures", name) for name in summary["figures"] if name != "coverage")
    for embedder, rows in summary["embedders"].items():
        yield from (("embedders", embedder, name) for name in rows)


def figure_at(summary: Mapping[str, Any], path: Sequence[str]) -> Any:
    """The row of one figure, `value`, `ci95` and `faces`."""
    for part in path:
        summary = summary[part]
    return summary


def make_tables(report: Mapping[str, Any]) -> list[Table]:
    """A report as tables for the terminal: overall before and after, masks that are still seen, by group, worst groups.

    Args:
        report: What `benchmarks.heldout.run` gives, or the part of it under `overall`, `groups` and `worst`.
    """
    overall, groups = report["overall"], report["groups"]
    paths = [path for path in figure_paths(overall) if not path[-1].endswith("_before")]
    total = Table("figure", "masked", "completed", "faces", title=f"{overall['faces']} held-out faces, 95% intervals")
    for path in [*paths, ("figures", "coverage")]:
        before = (*path[:-1], path[-1].removesuffix("_after") + "_before")
        row, masked = figure_at(overall, path), figure_at(overall, before) if _has(overall, before) else None
        total.add_row(_label(path), _cell(masked), _cell(row), str(row["faces"]))
    # What is recovered says more than the similarity itself, and the table is wide enough.
    shown = [path for path in paths if path[-1] not in ("similarity_after", "margin_after")]
    headers = [Column(_label(path), overflow="fold") for path in shown]
    by_group = Table("by", "group", "faces", *headers, title="By group")
    for attribute, found in groups.items():
        for group, summary in found.items():
            cells = (_cell(figure_at(summary, path)) for path in shown)
            by_group.add_row(attribute, group, str(summary["faces"]), *cells)
        by_group.add_section()
    worst = Table("figure", "worst group", "faces", "value", title=f"Worst group of at least {SMALLEST_GROUP} faces")
    for path in paths:
        row = figure_at(report["worst"], path) or {}
        group = f"{row['attribute']} {row['group']}" if row else "none is large enough"
        worst.add_row(_label(path), group, str(row.get("faces", "")), _cell(row or None))
    return [total, *_mask_seen_tables(overall), by_group, worst]


def _mask_seen_tables(overall: Mapping[str, Any]) -> list[Table]:
    """A table of what a mask detector sees, where one was asked."""
    if "mask_seen" not in overall:
        return []
    table = Table("faces", "share", title="A mask is seen on")
    for name, row in overall["mask_seen"].items():
        table.add_row(name.replace("_", " "), _cell(row))
    return [table]


def _has(summary: Mapping[str, Any], path: Sequence[str]) -> bool:
    """Whether a summary has a figure."""
    *parents, last = path
    return last in figure_at(summary, parents)


def _label(path: Sequence[str]) -> str:
    """What a table calls a figure."""
    name = _LABELS[path[-1].removesuffix("_after")]
    return f"{path[1]}: {name}" if path[0] == "embedders" else name


def _cell(row: Mapping[str, Any] | None) -> str:
    """A value with its interval; digits by its size."""
    if row is None or row["value"] is None:
        return "" if row is None else "n/a"
    digits = 2 if abs(row["value"]) >= 5 else 3
    ends = "" if row["ci95"] is None else " [{:.{d}f}, {:.{d}f}]".format(*row["ci95"], d=digits)
    return f"{row['value']:.{digits}f}{ends}"
