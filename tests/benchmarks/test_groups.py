"""Summaries of figures that are known by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks.groups import (
    COLUMNS,
    SMALLEST_GROUP,
    HeldoutFigures,
    best_shares,
    choose_faces,
    make_tables,
    summarise,
    summarise_groups,
    worst_groups,
)
from maskfix.base import InputError
from maskfix.data import GROUPS, UNLABELLED, held_out


def some_figures(names: list[str], seed: int = 0) -> HeldoutFigures:
    """Random figures; similarity after lies between that before and 1."""
    rng = np.random.default_rng(seed)
    columns = {name: rng.uniform(1, 2, len(names)) for name in COLUMNS}
    before = rng.uniform(0.2, 0.6, len(names))
    after = before + rng.uniform(0, 0.4, len(names))
    kinds = tuple(f"kind{number}" for number in range(len(names)))
    return HeldoutFigures(
        tuple(names), kinds, **columns, similarity_before={"judge": before}, similarity_after={"judge": after}
    )


def test_choose_faces() -> None:
    names = [f"{number}_0_0_1.jpg" for number in range(1000)]
    apart = np.flatnonzero(held_out(names, 0.1))
    assert choose_faces(names, 0.1).tolist() == apart.tolist()
    few = choose_faces(names, 0.1, 20, seed=3)
    assert few.tolist() == sorted(set(few.tolist()) & set(apart.tolist()))
    assert len(few) == 20
    assert few.tolist() == choose_faces(names, 0.1, 20, seed=3).tolist()
    assert few.tolist() != apart[:20].tolist()
    assert few.tolist() != choose_faces(names, 0.1, 20, seed=4).tolist()
    assert set(few) < set(choose_faces(names, 0.1, 40, seed=3))
    with pytest.raises(InputError, match="0 of 1000 with share 0"):
        choose_faces(names, 0.0)
    with pytest.raises(InputError, match="limit 0"):
        choose_faces(names, 0.1, 0)


def test_take() -> None:
    figures = some_figures(["a", "b", "c"])
    part = figures.take(np.array([2, 0]))
    assert (part.image, part.kind) == (("c", "a"), ("kind2", "kind0"))
    assert part.ssim.tolist() == figures.ssim[[2, 0]].tolist()
    assert part.similarity_after["judge"].tolist() == figures.similarity_after["judge"][[2, 0]].tolist()


def test_summarise__by_hand() -> None:
    figures = some_figures(["a", "b", "c"])._replace(
        psnr=np.array([20.0, 30.0, 25.0]),
        sharpness=np.array([0.1, 0.4, 5.0]),
        coverage=np.array([0.2, 0.2, 0.0]),
        psnr_masked=np.array([10.0, np.inf, np.nan]),
        ssim=np.full(3, np.nan),
        similarity_before={"judge": np.array([0.0, 0.8, np.nan])},
        similarity_after={"judge": np.array([0.5, 0.9, 1.0])},
    )
    found = summarise(figures, replicates=0)
    assert (found["faces"], found["not_masked"]) == (3, 1)
    assert found["figures"]["psnr"] == {"value": 25.0, "ci95": None, "faces": 3}
    assert found["figures"]["sharpness"]["value"] == 0.4
    assert found["figures"]["psnr_masked"] == {"value": 10.0, "ci95": None, "faces": 1}
    assert found["figures"]["ssim"] == {"value": None, "ci95": None, "faces": 0}
    # Mean gain 0.3 of a mean loss of 0.6, which is not the mean of the faces' own 0.5 and 0.5.
    judge = found["embedders"]["judge"]
    assert judge["recovered"] == {"value": pytest.approx(0.5), "ci95": None, "faces": 2}
    assert judge["similarity_before"]["faces"] == 2
    assert judge["similarity_after"]["value"] == pytest.approx(0.8)


def test_summarise__recovered_is_a_ratio_of_means() -> None:
    figures = some_figures(["a", "b"])._replace(
        similarity_before={"judge": np.array([0.9, 0.1])}, similarity_after={"judge": np.array([0.9, 1.0])}
    )
    recovered = summarise(figures, replicates=0)["embedders"]["judge"]["recovered"]
    assert recovered["value"] == pytest.approx(0.9)  # 0.45 / 0.5, where the mean of ratios is 0.5
    nothing_lost = figures._replace(similarity_before={"judge": np.ones(2)}, similarity_after={"judge": np.ones(2)})
    assert summarise(nothing_lost)["embedders"]["judge"]["recovered"]["value"] is None


def test_summarise__intervals() -> None:
    figures = some_figures([str(number) for number in range(400)])
    found = summarise(figures, seed=1, replicates=2000)
    low, high = found["figures"]["psnr"]["ci95"]
    error = figures.psnr.std() / 20
    assert [low, high] == pytest.approx(
        [figures.psnr.mean() - 1.96 * error, figures.psnr.mean() + 1.96 * error], abs=6e-3
    )
    before, after = figures.similarity_before["judge"], figures.similarity_after["judge"]
    recovered = found["embedders"]["judge"]["recovered"]
    low, high = recovered["ci95"]
    # Delta method for a ratio of means.
    ratio = (after - before).mean() / (1 - before).mean()
    error = (after - before - ratio * (1 - before)).std() / (1 - before).mean() / 20
    assert recovered["value"] == pytest.approx(ratio)
    assert [low, high] == pytest.approx([ratio - 1.96 * error, ratio + 1.96 * error], abs=4e-3)
    low, high = found["figures"]["sharpness"]["ci95"]
    assert low < np.median(figures.sharpness) < high
    assert found == summarise(figures, seed=1, replicates=2000)
    assert found != summarise(figures, seed=2, replicates=2000)
    json.dumps(found, allow_nan=False)


def test_summarise__no_faces() -> None:
    found = summarise(some_figures([]))
    assert found["faces"] == 0
    assert found["figures"]["psnr"]["value"] is None
    assert found["embedders"]["judge"]["recovered"] == {"value": None, "ci95": None, "faces": 0}


def labelled(white: int, black: int, female: int, none: int) -> HeldoutFigures:
    """White men, black men, Asian women and faces without labels; the first figure falls in this order."""
    names = ["25_0_0_1.jpg"] * white + ["25_0_1_1.jpg"] * black + ["40_1_2_1.jpg"] * female + ["face.jpg"] * none
    return some_figures(names)._replace(psnr=np.repeat([40.0, 30.0, 20.0, 10.0], [white, black, female, none]))


def test_summarise_groups() -> None:
    found = summarise_groups(labelled(40, 40, 5, 40), replicates=20)
    groups, worst = found["groups"], found["worst"]
    assert list(groups) == list(GROUPS)
    assert groups["sex"]["male"]["faces"] == 80
    assert groups["sex"]["male"]["figures"]["psnr"]["value"] == 35.0
    assert groups["ethnicity"]["Indian"]["faces"] == 0
    for by_group in groups.values():
        assert by_group[UNLABELLED]["figures"]["psnr"]["value"] == 10.0
        assert sum(summary["faces"] for summary in by_group.values()) == 125
    # Five women have less, and the unlabelled least of all; but those are too few, and these are no group.
    row = worst["figures"]["psnr"]
    assert (row["attribute"], row["group"], row["value"], row["faces"]) == ("ethnicity", "Black", 30.0, 40)
    assert row["ci95"] == [30.0, 30.0]
    assert worst["embedders"]["judge"]["recovered"]["faces"] >= SMALLEST_GROUP
    assert "coverage" not in worst["figures"]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(("female", "group"), [(SMALLEST_GROUP, "Asian"), (SMALLEST_GROUP - 1, "Black")])
def test_worst_groups__size(female: int, group: str) -> None:
    groups = summarise_groups(labelled(40, 40, female, 0), replicates=0)["groups"]
    assert worst_groups({"ethnicity": groups["ethnicity"]})["figures"]["psnr"]["group"] == group


def test_worst_groups__none_large_enough() -> None:
    worst = summarise_groups(labelled(2, 2, 2, 0), replicates=0)["worst"]
    assert worst["figures"]["psnr"] is None
    assert worst["embedders"]["judge"]["recovered"] is None


@pytest.mark.parametrize("count", [40, 3])
def test_make_tables(count: int) -> None:
    figures = labelled(count, 0, 0, 2)
    report: dict[str, Any] = {"overall": summarise(figures), **summarise_groups(figures)}
    console = Console(width=200)
    with console.capture() as capture:
        for table in make_tables(report):
            console.print(table)
    lines = [" ".join(line.replace("│", " ").split()) for line in capture.get().splitlines()]
    similarity = report["overall"]["embedders"]["judge"]
    shown = [f"{similarity[name]['value']:.3f}" for name in ("similarity_before", "similarity_after")]
    [line] = [line for line in lines if line.startswith("judge: similarity 0")]
    assert [word for word in line.split() if word in shown] == shown
    assert any(line.startswith(f"sex male {count} 40.00 [40.00, 40.00]") for line in lines)
    assert any(line.startswith("sex unlabelled 2 10.00") for line in lines)
    # The same label stands in the first table, there with an interval at once.
    worst = [line for line in lines if line.startswith(("PSNR, dB sex", "PSNR, dB none"))]
    assert worst == ["PSNR, dB sex male 40 40.00 [40.00, 40.00]" if count == 40 else "PSNR, dB none is large enough"]


def test_best_shares__as_if_the_vectors_were_mixed() -> None:
    """From the cosines alone the same share and similarity come out as from the embeddings."""
    rng = np.random.default_rng(0)
    clean, noise, other = (rng.normal(size=(40, 16)) for _ in range(3))
    vectors = [clean, clean + noise, clean + 0.8 * other]
    clean, masked, completed = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in vectors)
    cosines = [{"judge": (a * b).sum(1)} for a, b in ((clean, masked), (clean, completed), (masked, completed))]
    cosines[0]["judge"][3] = np.nan
    names = tuple(f"{i}.jpg" for i in range(40))
    empty = [np.full(40, np.nan)] * 8
    found = best_shares(HeldoutFigures(names, names, *empty, *cosines))["judge"]
    rows = np.delete(np.arange(40), 3)
    best = (-1.0, 0.0)
    for share in np.arange(0, 1.001, 0.05):
        mixed = share * completed + (1 - share) * masked
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        best = max(best, ((mixed * clean).sum(1)[rows].mean(), share))
    assert found == {"share": pytest.approx(best[1], abs=1e-9), "similarity": pytest.approx(best[0])}
    assert 0.5 < found["share"] < 1
    assert best_shares(HeldoutFigures(names, names, *empty, cosines[0], cosines[1])) == {}


def test_summarise__masks_seen() -> None:
    figures = some_figures(["a", "b", "c", "d", "e"])
    assert "mask_seen" not in summarise(figures)
    clean, masked = np.array([0, 0, 1, 1, np.nan]), np.array([1, 1, 1, 1, np.nan])
    figures = figures._replace(
        mask_seen={"clean": clean, "masked": masked, "completed": np.array([1, 0, 1, 1, np.nan])}
    )
    found = summarise(figures)["mask_seen"]
    assert {name: (row["value"], row["faces"]) for name, row in found.items()} == {
        "clean": (0.5, 4),
        "masked": (1.0, 4),
        "completed": (0.75, 4),
        "completed_minus_clean": (0.25, 4),
    }
    # Paired over faces: where both are the same on each face, no draw of faces tells them apart.
    same = summarise(figures._replace(mask_seen={"clean": clean, "masked": masked, "completed": clean}))["mask_seen"]
    assert same["clean"]["ci95"] == [0, 1]
    assert same["completed_minus_clean"]["ci95"] == [0, 0]
    console = Console(record=True, width=200)
    for table in make_tables({"overall": summarise(figures)} | summarise_groups(figures)):
        console.print(table)
    assert "completed minus clean │ 0.250" in console.export_text()
    assert figures.take(np.array([2, 0])).mask_seen["clean"].tolist() == [1, 0]
