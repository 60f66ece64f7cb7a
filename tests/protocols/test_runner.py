"""The run over a tiny LFW whose answers are known by hand (see worlds.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from maskfix.base import EmbedderError, FloatArray, InputError, UInt8Array, write_image
from maskfix.occlude import draw_kind
from protocols import LfwDataset, LfwResult, LfwSettings, ProbeSettings, Restorer, run_lfw
from protocols.runner import choose_examples
from tests.protocols.worlds import (
    UNMASKABLE,
    FirstRowRestorer,
    FlatDetector,
    GreenOccluder,
    IdleRestorer,
    MiddleEmbedder,
    flat,
    write_world,
)


def play(
    root: Path,
    settings: LfwSettings | None = None,
    restorer: Restorer | None = None,
    embedders: Sequence[MiddleEmbedder] | None = None,
) -> LfwResult:
    return run_lfw(
        LfwDataset(root),
        detector=FlatDetector(),
        occluder=GreenOccluder(),
        restorer=restorer or FirstRowRestorer(),
        embedders=embedders or [MiddleEmbedder()],
        cache=root / "cache",
        settings=settings or LfwSettings(ProbeSettings(batch_size=5), replicates=0),
    )


@pytest.mark.parametrize(
    ("side", "masked", "count"), [("second", 6 / 9, 6), ("first", 4.5 / 9, 6), ("both", 21 / 36, 12)]
)
def test_run__known_answers(tmp_path: Path, side: str, masked: float, count: int) -> None:
    write_world(tmp_path)
    result = play(tmp_path, LfwSettings(ProbeSettings(batch_size=5), side, replicates=0))
    methods = result.figures[0]["methods"]
    assert list(methods) == ["clean", "masked", "completed", "clean_completed"]
    assert {name: method["auc"] for name, method in methods.items()} == pytest.approx(
        {"clean": 1, "masked": masked, "completed": 1, "clean_completed": 1}
    )
    assert all((method["n_genuine"], method["n_impostor"]) == (count, count) for method in methods.values())
    assert result.figures[0]["recovered"]["auc"] == 1
    assert result.figures[0]["harmlessness"]["auc"] == {"value": 0, "ci95": None}
    assert result.figures[0]["difference"]["completed_minus_masked"]["auc"]["value"] == pytest.approx(1 - masked)
    assert not any(sum(side.values()) for method in methods.values() for side in method["failures"].values())


def test_run__figures_of_the_masked_method(tmp_path: Path) -> None:
    write_world(tmp_path)
    methods = play(tmp_path).figures[0]["methods"]
    masked = methods["masked"]
    # Genuine 0, 1, 0 and impostor 0, 0, 0 in each fold.
    assert masked["accuracy"] == pytest.approx({"mean": 4 / 6, "se": 0})
    point = masked["tpr_at_fpr"]["0.01"]
    assert (point["tpr"], point["fpr"], point["threshold"], point["resolvable"]) == (pytest.approx(1 / 3), 0, 0, False)
    # Clean impostors score 0, and none may be accepted of six: the clean threshold is 0.
    assert masked["fmr_fnmr_at_clean_threshold"]["0.001"] == {"threshold": 0, "fmr": 0, "fnmr": pytest.approx(2 / 3)}
    assert methods["clean"]["accuracy"] == {"mean": 1, "se": 0}
    assert methods["clean"]["eer"] == 0


def test_run__another_seed_draws_other_intervals(tmp_path: Path) -> None:
    write_world(tmp_path)
    runs = [LfwSettings(ProbeSettings(batch_size=5, seed=seed), "both", replicates=40) for seed in (0, 0, 1)]
    one, again, other = (play(tmp_path, settings).figures[0]["methods"]["masked"] for settings in runs)
    assert one == again
    assert one["auc"] == other["auc"]
    assert one["auc_ci95"] != other["auc_ci95"]


def test_run__idle_restorer_recovers_nothing(tmp_path: Path) -> None:
    write_world(tmp_path)
    result = play(tmp_path, restorer=IdleRestorer())
    assert np.array_equal(result.scores[0]["completed"], result.scores[0]["masked"])
    assert result.figures[0]["recovered"] == {"auc": 0, "0.01": 0, "0.001": 0}


def test_run__each_picture_and_role_once(tmp_path: Path) -> None:
    write_world(tmp_path)
    embedder = MiddleEmbedder()
    result = play(tmp_path, embedders=[embedder])
    # Second pictures: Red 2, Green 2, Blue 2 in each fold.
    assert dict(result.pictures.counts) == {
        "clean": 12,
        "masked": 6,
        "completed": 6,
        "clean_completed": 6,
        "faces completed": 12,
    }
    assert embedder.seen == 30
    assert result.detected == 12
    assert play(tmp_path).detected == 0


def test_run__without_clean_completed(tmp_path: Path) -> None:
    write_world(tmp_path)
    result = play(tmp_path, LfwSettings(ProbeSettings(clean_completed=False), replicates=0))
    assert "clean_completed" not in result.figures[0]["methods"]
    assert "harmlessness" not in result.figures[0]
    assert result.pictures.counts["faces completed"] == 6


def test_run__fused_embeddings(tmp_path: Path) -> None:
    """All of one share is that method; a half is the bisector of both."""
    write_world(tmp_path)
    whole, none, half = (
        play(tmp_path, LfwSettings(ProbeSettings(fuse=share), replicates=50)) for share in (1.0, 0.0, 0.5)
    )
    methods = whole.figures[0]["methods"]
    assert list(methods) == ["clean", "masked", "completed", "fused", "clean_completed"]
    assert np.array_equal(whole.scores[0]["fused"], whole.scores[0]["completed"])
    assert np.array_equal(none.scores[0]["fused"], none.scores[0]["masked"])
    vectors = half.pictures.vectors[0]
    probes = np.unique(half.trials.probe)
    between = vectors["masked"][probes] + vectors["completed"][probes]
    between /= np.linalg.norm(between, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors["fused"][probes], between, atol=1e-6)
    assert whole.figures[0]["recovered_fused"] == whole.figures[0]["recovered"]
    assert whole.figures[0]["difference"]["fused_minus_completed"]["auc"]["value"] == 0
    assert none.figures[0]["difference"]["fused_minus_masked"]["auc"] == {"value": 0, "ci95": [0, 0]}
    with pytest.raises(InputError, match="fuse"):
        ProbeSettings(fuse=1.2)


def test_run__records_and_figures(tmp_path: Path) -> None:
    write_world(tmp_path)
    result = play(tmp_path, LfwSettings(ProbeSettings(seed=3, batch_size=1), replicates=0))
    pairs = LfwDataset(tmp_path).pairs
    probes = [pairs.pictures[row] for row in np.unique(pairs.second)]
    assert [record.image for record in result.pictures.records] == probes
    assert all(record.kind == draw_kind(record.image, "probe", 3) and record.ok for record in result.pictures.records)
    figures = result.pictures.figures
    rows = np.unique(pairs.second)
    assert np.isnan(figures["coverage"][np.setdiff1d(np.arange(12), rows)]).all()
    assert (figures["coverage"][rows] == 0.25).all()
    # The photograph fills columns 1 to 14 and rows 0 to 13 of the canonical crop; its first row of 64 is not masked,
    # and is blended into the crop's first row.
    assert (figures["true_coverage"][rows] == 14 * 13 / 16**2).all()
    assert (figures["psnr"][rows] > figures["masked_psnr"][rows]).any()
    # A clean photograph through this restorer stays as it is.
    assert np.isposinf(figures["clean_psnr"][rows]).all()
    sharp = figures["sharpness"][rows]
    assert (sharp[~np.isnan(sharp)] >= 0).all()
    assert [example.kind for example in result.pictures.examples] == [
        draw_kind(pairs.pictures[example.picture], "probe", 3) for example in result.pictures.examples
    ]
    assert len(result.pictures.examples) == 6


def test_run__batch_size_and_workers_change_nothing(tmp_path: Path) -> None:
    write_world(tmp_path)
    small = play(tmp_path, LfwSettings(ProbeSettings(batch_size=1, workers=1), replicates=0))
    large = play(tmp_path, LfwSettings(ProbeSettings(batch_size=64, workers=4), replicates=0))
    assert small.figures == large.figures
    assert [example.picture for example in small.pictures.examples] == [
        example.picture for example in large.pictures.examples
    ]


def test_run__no_face_is_a_non_match_and_counted(tmp_path: Path) -> None:
    folder = write_world(tmp_path)
    write_image(folder / "A_Red" / "A_Red_0001.png", flat((0, 0, 0)))  # gallery of one genuine, two impostor pairs
    write_image(folder / "B_Green" / "B_Green_0002.png", flat((0, 0, 0)))  # probe of one genuine, one impostor pair
    result = play(tmp_path)
    assert result.no_face == {"A_Red/A_Red_0001": "it is black", "B_Green/B_Green_0002": "it is black"}
    for method in result.figures[0]["methods"].values():
        assert (method["n_genuine"], method["n_impostor"]) == (6, 6)
        assert method["failures"] == {
            "gallery": {"genuine": 1, "impostor": 2},
            "probe": {"genuine": 1, "impostor": 1},
            "masking": {"genuine": 0, "impostor": 0},
        }
    assert np.isneginf(result.scores[0]["clean"]).sum() == 5
    # Genuine 1, 1, 1, 1, -inf, -inf; impostor 0, 0, 0, -inf, -inf, -inf: 4 * 6 + 2 * 3 / 2 of 36.
    assert result.figures[0]["methods"]["clean"]["auc"] == pytest.approx(27 / 36)
    reasons = {record.image: (record.ok, record.reason) for record in result.pictures.records}
    assert reasons["B_Green/B_Green_0002"] == (False, "it is black")


def test_run__probe_that_takes_no_mask_stays_and_is_counted(tmp_path: Path) -> None:
    folder = write_world(tmp_path)
    write_image(folder / "A_Blue" / "A_Blue_0002.png", flat(UNMASKABLE))
    result = play(tmp_path)
    methods = result.figures[0]["methods"]
    nothing = {"genuine": 0, "impostor": 0}
    for name in ("masked", "completed"):
        assert methods[name]["failures"]["masking"] == {"genuine": 1, "impostor": 1}
    assert methods["clean"]["failures"]["masking"] == methods["clean_completed"]["failures"]["masking"] == nothing
    # It goes on as it is: blue against a blue gallery.
    assert result.scores[0]["masked"][:3].tolist() == [0, 1, 1]
    (record,) = (record for record in result.pictures.records if not record.ok)
    assert (record.image, record.reason) == ("A_Blue/A_Blue_0002", "points: this face takes no mask")


def test_run__drop_failed(tmp_path: Path) -> None:
    folder = write_world(tmp_path)
    write_image(folder / "A_Red" / "A_Red_0001.png", flat((0, 0, 0)))
    write_image(folder / "B_Blue" / "B_Blue_0002.png", flat(UNMASKABLE))
    result = play(tmp_path, LfwSettings(drop_failed=True, replicates=0))
    # Three pairs have the gallery without a face, two the probe without a mask.
    assert result.dropped == 5
    assert len(result.trials.same) == len(result.scores[0]["clean"]) == 7
    # Folds stay those of the list.
    assert result.trials.fold.tolist() == [0] * 3 + [1] * 4
    methods = result.figures[0]["methods"]
    assert all(methods[name]["n_genuine"] == 4 and methods[name]["n_impostor"] == 3 for name in methods)
    assert methods["clean"]["auc"] == 1
    assert not any(sum(side.values()) for method in methods.values() for side in method["failures"].values())


def test_run__nothing_left(tmp_path: Path) -> None:
    folder = write_world(tmp_path)
    for path in folder.rglob("*_0001.png"):
        write_image(path, flat((0, 0, 0)))
    with pytest.raises(InputError, match="no genuine or no impostor pair is left"):
        play(tmp_path, LfwSettings(drop_failed=True, replicates=0))


def test_run__several_recognisers_share_masks(tmp_path: Path) -> None:
    write_world(tmp_path)
    one, two = MiddleEmbedder("one"), MiddleEmbedder("two", 112)
    result = play(tmp_path, LfwSettings(replicates=50), embedders=[one, two])
    assert result.pictures.counts["faces completed"] == 12
    assert (one.seen, two.seen) == (30, 30)
    # The colours are those of one picture at two sizes, and the bootstrap draws the same people for both.
    assert result.figures[0] == result.figures[1]


def test_run__intervals(tmp_path: Path) -> None:
    write_world(tmp_path)
    first, second = (play(tmp_path, LfwSettings(replicates=200)).figures[0] for _ in range(2))
    assert first == second
    assert first["bootstrap"]["subjects"] == 6
    gained = first["difference"]["completed_minus_masked"]["auc"]
    assert gained["ci95"][0] <= gained["value"] <= gained["ci95"][1]
    assert first["methods"]["clean"]["auc_ci95"] == [1, 1]
    assert first["harmlessness"]["auc"] == {"value": 0, "ci95": [0, 0]}


def test_run__unknown_kind_is_no_failure_of_every_picture(tmp_path: Path) -> None:
    write_world(tmp_path)
    with pytest.raises(InputError, match="mask kind: 'scarf' is unknown"):
        play(tmp_path, LfwSettings(ProbeSettings(kinds=("N95", "scarf"))))
    assert not list(tmp_path.glob("**/*cache*"))  # before anything was looked at


def test_run__damaged_picture_with_known_landmarks(tmp_path: Path) -> None:
    write_world(tmp_path)
    dataset = LfwDataset(tmp_path)
    play(tmp_path)
    path = dataset.paths[3]
    path.write_bytes(path.read_bytes()[:60])
    assert path.name in play(tmp_path).no_face[dataset.pairs.pictures[3]]


class Liar(MiddleEmbedder):
    """Says three numbers, gives two."""

    def embed(self, crops: UInt8Array) -> FloatArray:
        return super().embed(crops)[:, :2]


class Blind(MiddleEmbedder):
    """Fails on green."""

    def embed(self, crops: UInt8Array) -> FloatArray:
        vectors = super().embed(crops)
        vectors[vectors[:, 1] > 0.9] = np.nan
        return vectors


def test_run__recogniser_that_fails(tmp_path: Path) -> None:
    write_world(tmp_path)
    with pytest.raises(EmbedderError, match="middle: expected vectors of shape"):
        play(tmp_path, embedders=[Liar()])
    methods = play(tmp_path, embedders=[Blind()]).figures[0]["methods"]
    assert methods["masked"]["failures"]["probe"] == {"genuine": 6, "impostor": 6}
    assert methods["clean"]["failures"]["probe"] == {"genuine": 2, "impostor": 2}
    assert methods["masked"]["auc"] == 0.5


def test_choose_examples__by_seed_among_faces() -> None:
    probes = np.repeat(np.arange(40), 2)
    ok = [row % 2 == 0 for row in range(40)]
    drawn = choose_examples(probes, ok, seed=1)
    assert drawn == choose_examples(probes[::-1].copy(), ok, seed=1)
    assert len(set(drawn)) == 12
    assert all(ok[row] for row in drawn)
    assert drawn != choose_examples(probes, ok, seed=2)
    assert sorted(choose_examples(probes, ok, seed=1, count=99)) == list(range(0, 40, 2))


@pytest.mark.parametrize(
    "make",
    [lambda: ProbeSettings(batch_size=0), lambda: ProbeSettings(align="eyes"), lambda: LfwSettings(replicates=-1)],
)
def test_settings__out_of_range(make: object) -> None:
    with pytest.raises(InputError):
        make()  # type: ignore[operator]
