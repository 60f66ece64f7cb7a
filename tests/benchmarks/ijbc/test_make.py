"""The generator: sets that the readers accept, drawn as promised, small and scaled."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from benchmarks.ijbc import make as ijbc_make
from benchmarks.ijbc import synthetic as ijbc_synthetic
from benchmarks.ijbc.make import make, make_from_lfw, make_synthetic
from benchmarks.ijbc.plan import draw_pairs, draw_templates
from benchmarks.ijbc.synthetic import SyntheticSize, draw_rows, write_features
from maskfix.base import InputError, Landmarks, UInt8Array, read_image, write_image
from protocols import LfwDataset
from protocols.ijb.layouts import LAYOUTS, find_layout, read_ijb
from protocols.ijb.pair_list import read_pair_list
from protocols.ijb.templates import TemplateSet
from tests.protocols.worlds import SIZE, FlatDetector, flat


def write_lfw(root: Path) -> LfwDataset:
    """Three people of 3, 4 and 6 pictures, three of one or two; pictures of a person share a colour."""
    people = {"Ann": 3, "Bob": 4, "Cy": 6, "Di": 2, "Ed": 2, "Flo": 2}
    lines = ["1\t8", "Ann 1 2", "Ann 1 3", "Bob 1 2", "Bob 3 4", "Cy 1 2", "Cy 3 4", "Cy 5 6", "Di 1 2"]
    lines += [
        "Ann 1 Ed 1",
        "Bob 1 Ed 2",
        "Cy 1 Flo 1",
        "Ann 2 Flo 2",
        "Ann 1 Bob 1",
        "Ann 1 Cy 1",
        "Bob 2 Cy 2",
        "Di 1 Ed 1",
    ]
    root.mkdir(parents=True)
    (root / "pairs.txt").write_text("\n".join(lines) + "\n")
    for number, (name, count) in enumerate(people.items()):
        for picture in range(1, count + 1):
            photo = flat((20 + 40 * number, 80, 10 * picture))
            write_image(root / "lfw" / name / f"{name}_{picture:04d}.png", photo)
    return LfwDataset(root)


def colours(data: TemplateSet) -> NDArray[np.int64]:
    """Colour in the middle of each row's picture, which names the person and the picture."""
    photos = [read_image(data.pictures / name) for name in data.rows.image]
    return np.array([photo[photo.shape[0] // 2, photo.shape[1] // 2] for photo in photos]).astype(np.int64)


def app_call(*words: object) -> Result:
    app = typer.Typer()
    app.command()(make)
    return CliRunner().invoke(app, [str(word) for word in words])


def test_draw_templates__every_picture_once() -> None:
    person = np.repeat([3, 1, 0, 2], [7, 2, 5, 3])
    for seed in range(20):
        plan = draw_templates(person, np.random.default_rng(seed), strangers=0, repeats=0)
        assert sorted(plan.picture) == sorted(np.flatnonzero(person != 1))
        assert np.array_equal(plan.subject[plan.place], person[plan.picture])
        # One gallery template of a third of the pictures for each, and probes of one to three.
        assert sorted(plan.subject[~plan.is_probe]) == [0, 2, 3]
        sizes = np.bincount(plan.place)
        assert dict(zip(plan.subject[~plan.is_probe], sizes[~plan.is_probe], strict=True)) == {0: 1, 2: 1, 3: 2}
        assert set(sizes[plan.is_probe]) <= {1, 2, 3}
        assert set(plan.subject[plan.is_probe]) == {0, 2, 3}
        # A medium lies within a template and its rows follow each other.
        assert (np.diff(plan.media) >= 0).all()
        assert all(len(set(plan.place[plan.media == medium])) == 1 for medium in plan.media)
        assert plan.templates.tolist() == list(range(1, len(sizes) + 1))


def test_draw_templates__media_of_several_pictures() -> None:
    plan = draw_templates(np.repeat(np.arange(40), 9), np.random.default_rng(0))
    assert 0.6 < len(np.unique(plan.media)) / len(plan.media) < 0.9


def test_draw_templates__strangers_and_repeats() -> None:
    person = np.repeat([0, 1, 2, 3, 4], [9, 9, 2, 1, 1])
    plan = draw_templates(person, np.random.default_rng(0), strangers=2, repeats=1.0)
    assert len(set(plan.subject[plan.is_probe]) & {2, 3, 4}) == 2
    assert not set(plan.subject[~plan.is_probe]) & {2, 3, 4}
    pictures, counts = np.unique(plan.picture, return_counts=True)
    twice = pictures[counts == 2]
    assert sorted(person[twice]) == [0, 1]
    for picture in twice:
        places = plan.place[plan.picture == picture]
        assert plan.is_probe[places].all()
        assert len(set(places)) == 2
    for lists in (person[person > 1], person[person != 1]):
        with pytest.raises(InputError, match="people have 3 pictures with a face, two are needed"):
            draw_templates(lists, np.random.default_rng(0))


@pytest.mark.parametrize("impostors", [1, 5, 10_000])
def test_draw_pairs__all_genuine_and_as_many_impostors(impostors: int) -> None:
    plan = draw_templates(np.repeat(np.arange(6), 6), np.random.default_rng(1))
    pairs = draw_pairs(plan, impostors, np.random.default_rng(2))
    assert not plan.is_probe[pairs.gallery].any()
    assert plan.is_probe[pairs.probe].all()
    assert np.array_equal(pairs.same, plan.subject[pairs.gallery] == plan.subject[pairs.probe])
    assert pairs.same.sum() == plan.is_probe.sum()  # one gallery template each
    assert (~pairs.same).sum() == min(impostors, 6 * plan.is_probe.sum() - plan.is_probe.sum())
    cells = list(zip(pairs.gallery, pairs.probe, strict=True))
    assert cells == sorted(set(cells))


def test_draw_pairs__every_probe_is_in_one() -> None:
    plan = draw_templates(np.repeat(np.arange(12), [4, 4, *[1] * 10]), np.random.default_rng(1), strangers=10)
    for impostors in (1, 10, 12):
        pairs = draw_pairs(plan, impostors, np.random.default_rng(2))
        assert set(pairs.probe) == set(np.flatnonzero(plan.is_probe))
        assert (~pairs.same).sum() == max(impostors, 10)
        assert len(set(zip(pairs.gallery, pairs.probe, strict=True))) == len(pairs.same)


def test_make_from_lfw__community(tmp_path: Path) -> None:
    lfw, detector = write_lfw(tmp_path / "lfw"), FlatDetector()
    # One of Cy's pictures has no face.
    write_image(tmp_path / "lfw" / "lfw" / "Cy" / "Cy_0006.png", flat((0, 0, 0)))
    plan = make_from_lfw(lfw, tmp_path / "out", "community", detector, tmp_path / "cache", impostors=4)
    data = read_ijb(tmp_path / "out")
    assert find_layout(tmp_path / "out") == "community"
    assert (tmp_path / "out" / "name.txt").read_text() == "LFW templates\n"
    assert data.templates.tolist() == plan.templates.tolist()
    assert data.is_probe.tolist() == plan.is_probe.tolist()
    assert (~data.pairs.same).sum() == 4
    assert data.rows.media.tolist() == plan.media.tolist()

    # The person on each picture is the one of its template, also where the reader rebuilt subjects from pairs.
    seen = (colours(data)[:, 0] - 20 + 2) // 40  # JPEG may move a colour a little
    assert seen.tolist() == plan.subject[data.row_template].tolist()
    known = data.subject != -1
    renamed = {(old, new) for old, new in zip(plan.subject[known], data.subject[known], strict=True)}
    assert len(renamed) == 3
    assert set(plan.subject[~known]) <= {3, 4, 5}

    # The crop holds the points, which lie where the detector found them in the photograph: in its middle.
    five = detector.detect([flat((9, 9, 9))])[0].five
    assert five is not None
    spread = data.rows.points - data.rows.points.mean(axis=1, keepdims=True)
    assert np.allclose(spread, five - five.mean(axis=0), atol=1e-3)
    side = float((five.max(axis=0) - five.min(axis=0)).max()) * ijbc_make._CROP
    low = np.floor(((five.min(axis=0) + five.max(axis=0) - side) / 2).clip(0))
    assert np.allclose(data.rows.points, five - low, atol=1e-3)
    shape = read_image(data.pictures / data.rows.image[0]).shape
    high = np.minimum(np.ceil((five.min(axis=0) + five.max(axis=0) + side) / 2), SIZE)
    assert shape[:2] == tuple((high - low)[::-1])
    assert (data.rows.score == 1).all()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_make_from_lfw__nist(tmp_path: Path) -> None:
    lfw = write_lfw(tmp_path / "lfw")
    plan = make_from_lfw(lfw, tmp_path / "out", "nist", FlatDetector(), tmp_path / "cache", impostors=4)
    flat_set, by_test = (read_ijb(tmp_path / "out", layout=layout) for layout in LAYOUTS[1:])
    assert find_layout(tmp_path / "out") == "nist-flat"
    for data in (flat_set, by_test):
        assert data.templates.tolist() == plan.templates.tolist()
        seen = (colours(data)[:, 0] - 20) // 40
        assert seen.tolist() == plan.subject[data.row_template].tolist()
        renamed = set(zip(plan.subject.tolist(), data.subject.tolist(), strict=True))
        assert len(renamed) == len(set(plan.subject.tolist())) == int(data.subject.max()) + 1
        assert data.rows.box is not None
        assert (data.rows.box[:, 2:] > 10).all()
    assert np.array_equal(flat_set.pairs.same, by_test.pairs.same)
    gallery = (tmp_path / "out" / "protocols" / "ijbc_1N_gallery_G2.csv").read_text().splitlines()
    assert len(gallery) > 1
    # Pictures are the photographs themselves.
    one = flat_set.pictures / flat_set.rows.image[0]
    assert one.read_bytes() in {path.read_bytes() for path in lfw.paths}


def test_make_from_lfw__seed(tmp_path: Path) -> None:
    lfw = write_lfw(tmp_path / "lfw")

    def text(name: str, seed: int) -> str:
        make_from_lfw(lfw, tmp_path / name, "community", FlatDetector(), tmp_path / "cache", seed=seed, impostors=4)
        return "".join(path.read_text() for path in sorted((tmp_path / name / "meta").glob("ijbc*")))

    assert text("a", 1) == text("b", 1) != text("c", 2)


def test_make_from_lfw__limits_and_refusals(tmp_path: Path) -> None:
    lfw = write_lfw(tmp_path / "lfw")

    def made(name: str, layout: str = "community", impostors: int = 4, people: int | None = None) -> list[int]:
        plan = make_from_lfw(
            lfw, tmp_path / name, layout, FlatDetector(), tmp_path / "cache", impostors=impostors, people=people
        )
        return sorted(plan.subject[~plan.is_probe].tolist())

    assert made("two", people=2) == [0, 1]
    with pytest.raises(InputError, match=r"two: is there already; remove it"):
        made("two")
    with pytest.raises(InputError, match="people: expected a number from 2 to 3, got 4"):
        made("four", people=4)
    with pytest.raises(InputError, match="known: community, nist"):
        made("layout", layout="test1")
    with pytest.raises(InputError, match="impostors: expected at least 1, got 0"):
        made("none", impostors=0)
    assert {path.name for path in tmp_path.iterdir()} == {"lfw", "two", "cache"}


def test_size__scaled() -> None:
    size = SyntheticSize()
    assert size.scaled(1) == size
    assert size.gallery + size.probes == 23_124
    assert size.gallery_rows + size.probe_rows == 469_375
    assert size.probes - size.strangers == 19_557
    small = size.scaled(0.01)
    assert (small.gallery, small.probes, small.gallery_rows, small.probe_rows) == (35, 196, 119, 4575)
    assert small.pairs == 1566
    for scale in (0.0, 1.1):
        with pytest.raises(InputError, match="scale: expected a number in"):
            size.scaled(scale)


def test_make_synthetic__counts(tmp_path: Path) -> None:
    size = SyntheticSize().scaled(0.02)
    make_synthetic(tmp_path / "out", size, seed=4, dimension=24)
    data = read_ijb(tmp_path / "out", pictures=False)
    assert len(data.templates) == size.gallery + size.probes
    assert int(data.is_probe.sum()) == size.probes
    assert len(data.pairs.same) == size.pairs
    assert (tmp_path / "out" / "name.txt").read_text() == "drawn templates\n"
    assert int(data.pairs.same.sum()) == size.probes - size.strangers
    assert int((data.subject == -1).sum()) == size.strangers
    assert int(data.subject.max()) + 1 == size.gallery
    row_probe = data.is_probe[data.row_template]
    assert (int((~row_probe).sum()), int(row_probe.sum())) == (size.gallery_rows, size.probe_rows)
    assert len(set(zip(data.pairs.gallery.tolist(), data.pairs.probe.tolist(), strict=True))) == size.pairs
    # Every gallery template has its share of impostors, to one.
    impostors, mates = (
        np.bincount(data.pairs.gallery[kind], minlength=len(data.templates))[~data.is_probe]
        for kind in (~data.pairs.same, data.pairs.same)
    )
    room = size.probes - mates
    assert np.abs(impostors - room * impostors.sum() / room.sum()).max() <= 1
    features = np.load(tmp_path / "out" / ijbc_synthetic.FEATURES)
    assert (features.shape, features.dtype) == ((len(data.rows.image), 24), np.float32)
    assert not (data.rows.points[0] - data.rows.points).any()


def test_make_synthetic__subjects_and_media_show_in_features(tmp_path: Path) -> None:
    rows = draw_rows(SyntheticSize().scaled(0.004), 1)
    write_features(tmp_path / "f.npy", rows, 128, seed=1)
    features = np.load(tmp_path / "f.npy").astype(np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    alike = features @ features.T
    person, medium = rows.subject[rows.place], np.cumsum(rows.starts)
    upper = np.triu(np.ones_like(alike, dtype=bool), 1)
    same_medium = upper & (medium[:, None] == medium)
    same_person = upper & (person[:, None] == person) & ~same_medium
    others = upper & (person[:, None] != person)
    assert alike[same_medium].mean() > alike[same_person].mean() + 0.1
    assert alike[same_person].mean() > alike[others].mean() + 0.2
    assert abs(alike[others].mean()) < 0.05
    # Rows of one medium and template follow each other, and ids of media occur in several templates.
    assert (np.diff(rows.place) >= 0).all()
    pairs = {(int(place), int(media)) for place, media in zip(rows.place, rows.media, strict=True)}
    assert len(pairs) == medium[-1] > len(set(rows.media.tolist()))


def test_write_features__blocks_and_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = draw_rows(SyntheticSize().scaled(0.02), 1)

    def features(**options: float) -> NDArray[np.float32]:
        write_features(tmp_path / "f.npy", rows, 16, **options)  # type: ignore[arg-type]
        return np.load(tmp_path / "f.npy")

    clean, again, masked, other = features(), features(), features(probe_noise=2.0), features(seed=9)
    gallery = ~rows.is_probe[rows.place]
    assert np.array_equal(clean, again)
    assert np.array_equal(clean[gallery], masked[gallery])
    assert not np.array_equal(clean, other)
    # The same draws, only further from the person: twice as far.
    quiet = features(probe_noise=0.0)
    assert np.allclose(
        masked - quiet, 2 * (clean - quiet) * ~gallery[:, None] + (clean - quiet) * gallery[:, None], atol=1e-5
    )
    # A medium that goes on in the next block keeps its draw: without picture noise, its rows differ by blur alone.
    monkeypatch.setattr(ijbc_synthetic, "_BLOCK", 7)
    monkeypatch.setattr(ijbc_synthetic, "_ROW_NOISE", 0.0)
    person, whole = features(probe_noise=0.0), features()
    still = np.repeat(person[None], 1, axis=0)[0]
    drawn = (whole - still) / rows.blur[:, None]
    inside = ~rows.starts[1:] & rows.is_probe[rows.place][1:]
    assert np.allclose(drawn[1:][inside], drawn[:-1][inside], atol=1e-4)
    fresh = rows.starts[1:] & rows.is_probe[rows.place][1:] & rows.is_probe[rows.place][:-1]
    assert (np.abs(drawn[1:][fresh] - drawn[:-1][fresh]).max(axis=1) > 1e-3).all()


def test_write_features__half_precision_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = draw_rows(SyntheticSize().scaled(0.05), 0)
    monkeypatch.setattr(ijbc_synthetic, "_BLOCK", 256)
    tracemalloc.start()
    write_features(tmp_path / "f.npy", rows, 256, dtype=np.float16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    features = np.load(tmp_path / "f.npy")
    assert features.dtype == np.float16
    assert peak < len(rows.place) * 256 * 4 / 5  # far below the whole array as float32


def test_pairs__too_many(tmp_path: Path) -> None:
    size = SyntheticSize(gallery=3, probes=9, strangers=1, gallery_rows=6, probe_rows=20, pairs=27)
    make_synthetic(tmp_path / "full", size, dimension=4)
    assert len(read_pair_list(tmp_path / "full" / "meta" / "ijbc_template_pair_label.txt").probe) == 27
    with pytest.raises(InputError, match="pairs: 30 are more than 3 x 9 templates can form"):
        make_synthetic(tmp_path / "out", size._replace(pairs=30), dimension=4)
    assert {path.name for path in tmp_path.iterdir()} == {"full"}


def test_make__command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lfw(tmp_path / "lfw")
    monkeypatch.setattr("maskfix.align.load_detector", lambda *_, **__: FlatDetector())
    monkeypatch.setattr("maskfix.base.resolve_device", lambda name: name)  # spares the import of torch
    done = app_call("--from", tmp_path / "lfw", "--out", tmp_path / "a", "--layout", "nist", "--impostors", 3)
    assert done.exit_code == 0, done.output
    assert "templates (3 gallery, " in done.stdout
    assert "subjects" in done.stdout
    assert (tmp_path / "landmarks-cache").is_dir()
    done = app_call("--synthetic-features", "--out", tmp_path / "b", "--scale", 0.01, "--dimension", 8, "--seed", 3)
    assert done.exit_code == 0, done.output
    assert "4694 rows, 231 templates (35 gallery, 196 probe), 35 subjects, 1566 pairs (195 genuine)" in done.stdout
    for words, message in {
        ("--out", "c"): "give either --from",
        ("--out", "c", "--from", "lfw", "--synthetic-features"): "give either --from",
        (
            "--out",
            "c",
            "--synthetic-features",
            "--layout",
            "nist",
        ): "layout: --synthetic-features writes the community layout only",
        ("--out", "c", "--from", tmp_path / "lfw", "--layout", "x"): "layout: 'x' is unknown",
        ("--out", "c", "--from", tmp_path / "lfw", "--detector", "x"): "detector: 'x' is unknown",
        ("--out", tmp_path / "b", "--from", tmp_path / "lfw"): "is there already",
        ("--out", "c", "--from", tmp_path / "none"): "none: no such folder",
    }.items():
        done = app_call(*words)
        assert done.exit_code == 2
        assert f"error: {message}" in done.stderr.replace(f"{tmp_path}/b: ", "").replace(f"{tmp_path}/", "")
        assert done.stderr.count("\n") == 1
    assert not Path("c").exists()


class FunneledDetector(FlatDetector):
    """Five points where aligned pictures of LFW have them, give or take some pixels."""

    name = "funneled"

    @staticmethod
    def _one(photo: UInt8Array) -> Landmarks:
        five = np.array([[105, 113], [146, 113], [125, 137], [110, 158], [141, 158]], dtype=np.float32)
        return Landmarks(five, None, None, 0.9, "")


def test_make_from_lfw__real_pictures(shared: Path, tmp_path: Path) -> None:
    lfw = LfwDataset(shared / "data" / "lfw", limit_folds=1)
    make_from_lfw(lfw, tmp_path / "out", "community", FunneledDetector(), tmp_path / "cache", people=8, impostors=50)
    data = read_ijb(tmp_path / "out")
    assert (int((~data.is_probe).sum()), int(data.subject.max()) + 1) == (8, 8)
    assert (~data.pairs.same).sum() == 50
    assert np.allclose(data.rows.score, 0.9)
    # Eyes above mouth, inside the crop.
    assert (data.rows.points[:, :2, 1].max(axis=1) < data.rows.points[:, 3:, 1].min(axis=1)).all()
    sizes = np.array([read_image(data.pictures / name).shape[1::-1] for name in data.rows.image])
    assert (data.rows.points > 0).all()
    assert (data.rows.points < sizes[:, None]).all()
