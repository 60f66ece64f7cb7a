"""Figures of an ablation by hand, paired intervals, and the table in its units."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.ablation_table import compare, format_ablation, masked_figures, statistics
from maskfix.base import InputError


def columns(shift: float = 0.0, count: int = 40) -> dict[str, Any]:
    """Figures of made-up faces; the first has none."""
    rng = np.random.default_rng(3)
    table = {name: rng.normal(20, 4, count) for name in ("psnr", "psnr_masked", "ssim", "sharpness")}
    table |= {f"{name}_before": values - 3 for name, values in table.items() if name != "sharpness"}
    before = rng.uniform(0, 0.5, count)
    table |= {"similarity_before|j": before, "similarity_after|j": before + rng.uniform(0, 0.5, count)}
    for values in table.values():
        values[0] = np.nan
    table["psnr"] = table["psnr"] + shift
    return {**table, "image": np.array([f"{n}.png" for n in range(count)]), "kind": np.array(["N95"] * count)}


def test_statistics__by_hand() -> None:
    table = columns()
    rows = np.array([[0, 1, 2, 2], [3, 3, 0, 4]])
    found = statistics(table, rows)
    for sample, real in enumerate(([1, 2, 2], [3, 3, 4])):
        for name in ("psnr", "psnr_masked", "ssim"):
            assert found[name][sample] == pytest.approx(np.mean(table[name][real]))
        assert found["sharpness"][sample] == pytest.approx(np.median(table["sharpness"][real]))
        before, after = table["similarity_before|j"][real], table["similarity_after|j"][real]
        assert found["recovered|j"][sample] == pytest.approx(np.mean(after - before) / np.mean(1 - before))


def test_statistics__a_failed_embedding_counts_on_neither_side() -> None:
    table = columns()
    table["similarity_after|j"][1] = np.nan
    rows = np.array([[1, 2, 3]])
    assert statistics(table, rows)["recovered|j"] == statistics(table, rows[:, 1:])["recovered|j"]


def test_compare__differences_are_paired() -> None:
    """A variant that is better by 2 dB on each face is so in every sample; its own figure still varies."""
    found = compare(columns(2.0), columns(), seed=1, replicates=200)
    difference, own = found["minus_full"]["psnr"], found["figures"]["psnr"]
    assert [difference["value"], *difference["ci95"]] == pytest.approx([2, 2, 2])
    mean, error = np.nanmean(columns(2.0)["psnr"]), np.nanstd(columns()["psnr"]) / 39**0.5
    assert own["value"] == pytest.approx(mean)
    low, high = own["ci95"]
    assert low < mean < high
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.3)
    assert found == compare(columns(2.0), columns(), seed=1, replicates=200)
    assert found != compare(columns(2.0), columns(), seed=2, replicates=200)
    assert compare(columns(), columns(), seed=1, replicates=0)["figures"]["psnr"]["ci95"] is None


def test_compare__other_faces_or_masks() -> None:
    for name in ("image", "kind"):
        other = columns()
        other[name] = other[name][::-1].copy()
        other[name][0] = "x"
        with pytest.raises(InputError, match="different faces or masks"):
            compare(other, columns(), 0, 5)


def test_masked_figures__of_the_input() -> None:
    found, full = masked_figures(columns(), 0, 10), compare(columns(), columns(), 0, 10)["figures"]
    assert list(found) == ["psnr", "psnr_masked", "ssim"]
    assert found["ssim"]["value"] == pytest.approx(full["ssim"]["value"] - 3)
    assert found["ssim"]["ci95"] == pytest.approx([end - 3 for end in full["ssim"]["ci95"]])


def figure(value: float, ends: tuple[float, float] | None = None) -> dict[str, Any]:
    return {"value": value, "ci95": ends}


def test_format__numbers_in_their_units() -> None:
    names = ["psnr", "psnr_masked", "ssim", "sharpness", "recovered|j"]
    row = {
        "name": "daf-uv",
        "siamese": False,
        "fusion": True,
        "correspondence": 0.1,
        "occlusion_head": True,
        "composed": False,
        "figures": dict(zip(names, [figure(25.123, (24, 26.5)), *map(figure, (20, 0.9, 0.5, 0.6123))], strict=True)),
        "minus_full": dict(zip(names, map(figure, (-0.5, 0.25, -0.01, 0, -0.034)), strict=True)),
    }
    full = {**row, "name": "full", "siamese": True}
    report = {
        "data": {"held_out": 9},
        "judges": [{"name": "j"}],
        **dict(zip(("steps", "batch_size", "samples", "seed"), (3, 2, 6, 4), strict=True)),
        "masked": {"psnr": figure(15.5)},
        "rows": [row, full],
        "curve": [row],
        "missing": [],
    }
    lines = format_ablation(report).splitlines()
    assert lines[0].startswith("9 held-out faces; each variant trained 3 steps of 2 faces (6 samples), seed 4")
    figures = "25.12 [24.00, 26.50] | 20.00 | 0.900 | 0.50 | 61.2 |"
    assert "| masked input |  |  |  |  | 15.50 |  |  |  |  |" in lines
    assert f"|  | ✓ | ✓ | ✓ |  | {figures}" in lines
    assert f"| ✓ | ✓ | ✓ | ✓ |  | {figures}" in lines
    assert [line for line in lines if "+0.25" in line] == ["|  | ✓ | ✓ | ✓ |  | -0.50 | +0.25 | -0.010 | 0.00 | -3.4 |"]
    assert lines[-1] == f"| 0.1 | {figures}"
