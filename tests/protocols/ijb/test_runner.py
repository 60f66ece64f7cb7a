"""The run over a small set whose features can be worked out by hand (see small.py)."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskfix.base import DatasetError, EmbedderError, FloatArray, InputError, UInt8Array, write_image
from maskfix.embed.base import Embedder
from maskfix.occlude import draw_kind
from maskfix.plugin.base import GATE_THRESHOLD
from protocols.ijb import (
    FIGURES,
    FeatureSettings,
    Flag,
    IjbFeatures,
    IjbParts,
    IjbSettings,
    TemplateSet,
    extract_features,
    finish,
    read_ijb,
    score_templates,
)
from protocols.ijb.runner import STATE
from protocols.ijb.settings import describe_run
from tests.embed.onnx_files import write_recogniser
from tests.protocols.ijb.small import BLUE, GREEN, RED, WEIGHTS, plain_parts, read_small
from tests.protocols.worlds import UNMASKABLE, MiddleEmbedder, flat

ROOT = Path(__file__).resolve().parents[3]


def play(
    data: TemplateSet, folder: Path, parts: IjbParts | None = None, *, fresh: bool = False, **settings: Any
) -> IjbFeatures:
    return extract_features(
        data,
        parts or plain_parts(),
        folder=folder,
        cache=folder / "cache",
        settings=IjbSettings(FeatureSettings(**{"batch_size": 4, **settings})),
        fresh=fresh,
    )


def unit(*vector: float) -> Any:
    return pytest.approx(np.array(vector) / math.hypot(*vector), abs=1e-6)


def test_features__worked_out_by_hand(tmp_path: Path) -> None:
    """Probe 11: the mean of 0.5 red and 1.0 green in one medium, plus 0.8 blue in another."""
    data = read_small(tmp_path)
    made = play(data, tmp_path / "run").templates[0]
    assert made.gallery[0] == unit(1, 0, 0)
    assert made.probe["clean"][0] == unit(0.25, 0.5, 0.8)
    assert made.probe["masked"][0] == unit(0, 1, 0)
    assert made.probe["completed"][0] == unit(0.25, 0.5, 0.8)
    scores = score_templates(made, data, data.pairs)
    # Red, green and blue against 11, 12, 13 (red), 14 (green) and 15 (blue).
    length = math.sqrt(0.0625 + 0.25 + 0.64)
    clean = [[0.25 / length, 1, 1, 0, 0], [0.5 / length, 0, 0, 1, 0], [0.8 / length, 0, 0, 0, 1]]
    assert scores["clean"].reshape(3, 5) == pytest.approx(np.array(clean), abs=1e-6)
    assert scores["completed"] == pytest.approx(scores["clean"], abs=1e-6)
    assert scores["masked"].reshape(3, 5) == pytest.approx(np.array([[0] * 5, [1] * 5, [0] * 5]), abs=1e-6)


def test_features__without_detector_score(tmp_path: Path) -> None:
    data = read_small(tmp_path)
    made = play(data, tmp_path / "run", detector_score=False).templates[0]
    assert made.probe["clean"][0] == unit(0.5, 0.5, 1)


class LongEmbedder(MiddleEmbedder):
    """Also gives vectors of the length that the colour has; red ones are twice as long."""

    def embed_raw(self, crops: UInt8Array) -> FloatArray:
        vectors = self.embed(crops) * 3
        vectors[vectors[:, 0] > 1] *= 2
        return vectors


@pytest.mark.parametrize(("keep", "red"), [(True, 0.5), (False, 0.25)])
def test_features__keep_norm(tmp_path: Path, keep: bool, red: float) -> None:
    data = read_small(tmp_path)
    made = play(data, tmp_path / "run", plain_parts(LongEmbedder()), keep_norm=keep).templates[0]
    assert made.probe["clean"][0] == unit(red, 0.5, 0.8)


@pytest.mark.parametrize("keep", [True, False])
def test_features__keep_norm_of_a_real_arcface_network(tmp_path: Path, keep: bool) -> None:
    """Probe 11 again, through insightface: the network is a product with a matrix that is known."""
    arcface = pytest.importorskip("maskfix.embed.arcface")
    pytest.importorskip("insightface")
    embedder = arcface.ArcFaceEmbedder(write_recogniser(tmp_path / "tiny.onnx"), device="cpu")
    made = play(read_small(tmp_path), tmp_path / "run", plain_parts(embedder), keep_norm=keep).templates[0]
    matrix = np.random.default_rng(7).normal(size=(12, 16))
    red, green, blue = (np.repeat((np.array(colour) - 127.5) / 127.5, 4) @ matrix for colour in (RED, GREEN, BLUE))
    pooled = {}
    for kept in (True, False):
        one, two, three = (row if kept else row / np.linalg.norm(row) for row in (red, green, blue))
        total = 0.25 * one + 0.5 * two + 0.8 * three
        pooled[kept] = total / np.linalg.norm(total)
    # One pixel of each picture has another colour, so the crops are not quite flat.
    assert np.abs(pooled[True] - pooled[False]).max() > 0.015
    np.testing.assert_allclose(made.probe["clean"][0], pooled[keep], atol=0.004)


def test_features__of_another_kind_are_not_gone_on_with(tmp_path: Path) -> None:
    """A run of unit vectors, as recognisers gave before they had `embed_raw`, must not get raw ones added."""
    one, other = (describe_run(plain_parts(embedder), FeatureSettings()) for embedder in (LongEmbedder(), None))
    assert one["recognisers"] == [f"{other['recognisers'][0]} raw"]


class SidedEmbedder(MiddleEmbedder):
    """Sees the left half's colour in the first three numbers: a mirrored crop gives other ones."""

    def embed(self, crops: UInt8Array) -> FloatArray:
        size = crops.shape[1]
        left = crops[:, size // 2, size // 4].astype(np.float32)
        return np.asarray(left / np.linalg.norm(left, axis=1, keepdims=True), np.float32)


def test_features__flip_adds_the_mirrored_crop(tmp_path: Path) -> None:
    data = read_small(tmp_path)
    picture = flat((200, 0, 0))
    picture[:, 32:] = (0, 200, 0)
    write_image(tmp_path / "loose_crop" / "g4.png", picture)
    for flip, expected in ((True, (1, 1, 0)), (False, (1, 0, 0))):
        made = play(data, tmp_path / f"run-{flip}", plain_parts(SidedEmbedder()), flip=flip).templates[0]
        assert made.gallery[2] == unit(*expected)


def test_features__copies_are_done_once_and_gallery_is_never_masked(tmp_path: Path) -> None:
    data = read_small(tmp_path)
    parts = plain_parts()
    made = play(data, tmp_path / "run", parts)
    # 9 distinct faces of 12 rows; 6 of them in probe templates; each crop is embedded with its mirror picture.
    assert parts.embedders[0].seen == 2 * (9 + 6 + 6)  # type: ignore[attr-defined]
    assert sorted(parts.occluder.seen[:6]) == [(number, 9, 7) for number in (2, 4, 5, 6, 7, 8)]  # type: ignore[attr-defined]
    # Once more for the panel, which shows all six probes.
    assert parts.restorer.seen == 6 + len(made.examples) == 12  # type: ignore[attr-defined]
    assert parts.detector.seen == 6  # type: ignore[attr-defined]
    assert made.units.probe.sum() == 6
    # Copies wear one mask: 12 and 13 hold the same picture under two names.
    assert np.array_equal(made.templates[0].probe["masked"][1], made.templates[0].probe["masked"][2])
    for example in made.examples:
        digest = made.units.digest[example.picture].tobytes().hex()
        assert example.kind == draw_kind(digest, "probe", 0)


def test_features__landmarks_are_found_once(tmp_path: Path) -> None:
    data = read_small(tmp_path)
    first = play(data, tmp_path / "run")
    parts = plain_parts()
    again = play(data, tmp_path / "run", parts, fresh=True)
    assert parts.detector.seen == 0  # type: ignore[attr-defined]
    assert np.array_equal(first.templates[0].probe["masked"], again.templates[0].probe["masked"])


@pytest.mark.parametrize("size", [1, 3, 64])
def test_features__block_size_changes_nothing(tmp_path: Path, size: int) -> None:
    data = read_small(tmp_path)
    one = play(data, tmp_path / "one").templates[0]
    other = play(data, tmp_path / "other", batch_size=size).templates[0]
    assert all(np.array_equal(one.probe[method], other.probe[method]) for method in one.probe)


def test_features__gate_leaves_probes_that_look_clean(tmp_path: Path) -> None:
    assert FeatureSettings().threshold == GATE_THRESHOLD
    data = read_small(tmp_path)
    # FirstRowRestorer takes a quarter for occluded.
    shut = play(data, tmp_path / "shut", mode="gate", threshold=0.3)
    assert np.array_equal(shut.templates[0].probe["completed"], shut.templates[0].probe["masked"])
    used = shut.figures[FIGURES.index("used")]
    assert np.array_equal(used[shut.units.probe], np.zeros(6))
    assert np.isnan(used[~shut.units.probe]).all()
    whole, let = play(data, tmp_path / "always"), play(data, tmp_path / "open", mode="gate", threshold=0.2)
    assert np.array_equal(let.templates[0].probe["completed"], whole.templates[0].probe["completed"])


def test_features__fused_and_clean_completed(tmp_path: Path) -> None:
    data = read_small(tmp_path)
    made = play(data, tmp_path / "run", fuse=0.5, clean_completed=True).templates[0]
    assert list(made.probe) == ["clean", "masked", "completed", "fused", "clean_completed"]
    # A red picture (12): masked green, completed red; half of both.
    assert made.probe["fused"][1] == unit(1, 1, 0)
    assert made.probe["clean_completed"] == pytest.approx(made.probe["clean"], abs=1e-6)
    share = play(data, tmp_path / "share", fuse=1.0).templates[0]
    assert share.probe["fused"] == pytest.approx(share.probe["completed"], abs=1e-6)


class BlindEmbedder(MiddleEmbedder):
    """Fails on blue."""

    def embed(self, crops: UInt8Array) -> FloatArray:
        vectors = super().embed(crops)
        vectors[vectors[:, 2] > 0.9] = np.nan
        return vectors


def test_failures__are_kept_and_said(tmp_path: Path) -> None:
    data = read_small(tmp_path)
    crops = tmp_path / "loose_crop"
    (crops / "p4.png").write_bytes(b"no picture")
    (crops / "p5.png").write_bytes(b"no picture")
    write_image(crops / "p2.png", flat(UNMASKABLE))
    parts = plain_parts(BlindEmbedder())
    made = play(data, tmp_path / "run", parts)
    flags = dict(zip(made.units.image, made.flags, strict=True))
    assert flags["p4.png"] == Flag.UNREADABLE
    assert flags["p2.png"] == Flag.NOT_MASKED
    assert sum(flags.values()) == Flag.UNREADABLE + Flag.NOT_MASKED
    assert "p4.png" in made.reasons[7]
    assert made.reasons[5] == "points: this face takes no mask"
    features = made.templates[0]
    # 12 and 13 have no readable picture, 15 and gallery 3 are blue, which this recogniser cannot read.
    assert features.probe["clean"].any(axis=1).tolist() == [True, False, False, True, False]
    assert features.probe["masked"].any(axis=1).tolist() == [True, False, False, True, True]
    assert features.gallery.any(axis=1).tolist() == [True, True, False]
    # The medium of red and (now dark blue) 0.5 and 1: failed rows add nothing, and the mean still divides by two.
    assert features.probe["clean"][0] == unit(1, 0, 0)
    scores = score_templates(features, data, data.pairs)
    lost = np.isneginf(scores["clean"]).reshape(3, 5)
    assert lost.tolist() == [[False, True, True, False, True]] * 2 + [[True] * 5]
    assert made.embedded[0][0].tolist() == [True, True, True, False, True, False, False, False, False]


def test_failures__points_that_coincide(tmp_path: Path) -> None:
    data = read_small(tmp_path)
    points = data.rows.points.copy()
    points[4] = 7
    made = play(data._replace(rows=data.rows._replace(points=points)), tmp_path / "run")
    assert made.flags[4] == Flag.NO_FACE
    assert "coincide" in made.reasons[4]


class Liar(MiddleEmbedder):
    """Says three numbers, gives two."""

    def embed(self, crops: UInt8Array) -> FloatArray:
        return super().embed(crops)[:, :2]


def test_failures__no_recogniser(tmp_path: Path) -> None:
    data = read_small(tmp_path)
    with pytest.raises(EmbedderError, match="middle: expected vectors of shape"):
        play(data, tmp_path / "run", plain_parts(Liar()))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("killed")
    done = subprocess.run(
        [sys.executable, "-m", "tests.protocols.ijb.kill_and_resume", str(root)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == ["1", "4", "1"]
    return root


@pytest.mark.parametrize(("run", "resumed"), [(0, 8), (1, 6), (2, 9)])
def test_killed__goes_on_to_the_bit(killed: Path, run: int, resumed: int) -> None:
    """SIGKILL between blocks, in the middle of a saving, and before one; real networks."""
    whole, again = np.load(killed / "whole.npz"), np.load(killed / f"resumed-{run}.npz")
    assert int(again["resumed"]) == resumed
    assert len(whole.files) == 9
    for name in set(whole.files) - {"resumed"}:
        assert np.array_equal(whole[name], again[name], equal_nan=whole[name].dtype.kind == "f"), name
    # The networks do something, and not the same to every face.
    assert not np.allclose(whole["completed"], whole["masked"], atol=1e-4)
    assert not np.allclose(whole["completed"], whole["clean"], atol=1e-4)


def other_weights(parts: IjbParts) -> IjbParts:
    return IjbParts(parts.detector, parts.occluder, parts.restorer, replace(WEIGHTS, sha256="cd" * 32), parts.embedders)


def other_embedder(parts: IjbParts) -> IjbParts:
    embedders: list[Embedder] = [MiddleEmbedder(size=112)]
    return IjbParts(parts.detector, parts.occluder, parts.restorer, parts.weights, embedders)


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (None, {"seed": 1}, r"state\.npz: this run was begun with setting seed 0, now it is 1; repeat .* --fresh"),
        (None, {"flip": False}, "setting flip true, now it is false"),
        (None, {"kinds": ("N95",)}, r"setting kinds \["),
        (None, {"batch_size": 5}, "setting batch_size 4, now it is 5"),
        (other_weights, {}, 'weights "abab'),
        (other_embedder, {}, "recognisers"),
    ],
)
def test_resume__refuses_what_changed(tmp_path: Path, change: Any, settings: dict[str, Any], message: str) -> None:
    data = read_small(tmp_path)
    folder = tmp_path / "run"
    play(data, folder)
    parts = change(plain_parts()) if change else None
    with pytest.raises(InputError, match=message):
        play(data, folder, parts, **settings)
    assert play(data, folder, parts, fresh=True, **settings).resumed == 0


def test_resume__refuses_other_data(tmp_path: Path) -> None:
    data = read_small(tmp_path)
    play(data, tmp_path / "run")
    assert play(data, tmp_path / "run").resumed == 9
    picture = flat((9, 9, 9))
    write_image(tmp_path / "loose_crop" / "p1.png", picture)
    with pytest.raises(InputError, match="begun with other rows, pictures or templates"):
        play(read_ijb(tmp_path), tmp_path / "run")
    score = data.rows.score.copy()
    score[3] = 0.5
    with pytest.raises(InputError, match="other rows"):
        play(data._replace(rows=data.rows._replace(score=score)), tmp_path / "run")


def test_resume__damaged_state(tmp_path: Path) -> None:
    data = read_small(tmp_path)
    play(data, tmp_path / "run")
    path = tmp_path / "run" / STATE
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DatasetError, match="damaged, or no state of a run"):
        play(data, tmp_path / "run")
    finish(tmp_path / "run")
    finish(tmp_path / "run")
    assert not path.exists()
    assert play(data, tmp_path / "run").resumed == 0


def test_resume__does_only_what_is_left(tmp_path: Path) -> None:
    data = read_small(tmp_path)

    class Weary(MiddleEmbedder):
        """Breaks off at the third block."""

        def embed(self, crops: UInt8Array) -> FloatArray:
            if self.seen >= 2 * 4 * 3 + 2:
                raise KeyboardInterrupt
            return super().embed(crops)

    more: dict[str, Any] = {"folder": tmp_path / "run", "cache": tmp_path / "cache"}
    more["settings"] = IjbSettings(FeatureSettings(batch_size=4), save_seconds=0)
    with pytest.raises(KeyboardInterrupt):
        extract_features(data, plain_parts(Weary()), **more, session="by night")
    parts = plain_parts()
    made = extract_features(data, parts, **more, session="by day")
    assert made.resumed == 4
    assert made.sessions == [(0, "by night"), (4, "by day")]
    # Five faces are left, all probes, each clean, masked and completed, with mirror pictures.
    assert parts.embedders[0].seen == 2 * 5 * 3  # type: ignore[attr-defined]
    assert parts.detector.seen == 5  # type: ignore[attr-defined]
    assert np.array_equal(made.templates[0].probe["masked"], play(data, tmp_path / "n").templates[0].probe["masked"])


def test_features__two_recognisers_share_masks(tmp_path: Path) -> None:
    data = read_small(tmp_path)
    one, two = MiddleEmbedder("one"), MiddleEmbedder("two", 112)
    base = plain_parts()
    parts = IjbParts(base.detector, base.occluder, base.restorer, WEIGHTS, [one, two])
    made = play(data, tmp_path / "run", parts)
    assert (one.seen, two.seen) == (42, 42)
    assert len(base.occluder.seen) == 12  # type: ignore[attr-defined]
    assert made.templates[0].probe["clean"] == pytest.approx(made.templates[1].probe["clean"], abs=1e-6)


def test_extract__unknown_kind_is_no_failure_of_every_picture(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mask kind: 'scarf' is unknown"):
        play(read_small(tmp_path), tmp_path / "run", kinds=("N95", "scarf"))


def test_settings__out_of_range() -> None:
    for wrong in ({"mode": "fuse"}, {"batch_size": 0}, {"fuse": 2}, {"kinds": ()}):
        with pytest.raises(InputError):
            FeatureSettings(**wrong)  # type: ignore[arg-type]
    for wrong in ({"replicates": -1}, {"save_seconds": -1}, {"workers": 0}):
        with pytest.raises(InputError):
            IjbSettings(**wrong)  # type: ignore[arg-type]
