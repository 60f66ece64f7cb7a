"""pairs.txt and the layouts of LFW."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskfix.base import DatasetError, InputError
from maskfix.weights import file_sha256
from protocols import LfwDataset, lfw, orient, read_pairs
from protocols.lfw import take_folds
from tests.protocols.worlds import pairs_text, write_world

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "lfw"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pairs.txt"
    path.write_text(text)
    return path


def test_read_pairs__rows_and_folds(tmp_path: Path) -> None:
    pairs = read_pairs(write(tmp_path, "2 1\nAnn\t1\t12\nAnn\t1\tBob\t2\nCy 3 4\nCy 3 Di_Lee-O'Hara 1\n"))
    assert pairs.pictures == (
        "Ann/Ann_0001",
        "Ann/Ann_0012",
        "Bob/Bob_0002",
        "Cy/Cy_0003",
        "Cy/Cy_0004",
        "Di_Lee-O'Hara/Di_Lee-O'Hara_0001",
    )
    assert pairs.people == ("Ann", "Bob", "Cy", "Di_Lee-O'Hara")
    assert pairs.person.tolist() == [0, 0, 1, 2, 2, 3]
    assert pairs.first.tolist() == [0, 0, 3, 3]
    assert pairs.second.tolist() == [1, 2, 4, 5]
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.fold.tolist() == [0, 0, 1, 1]


def test_read_pairs__windows_line_ends_and_trailing_newlines(tmp_path: Path) -> None:
    plain = read_pairs(write(tmp_path, pairs_text()))
    other = read_pairs(write(tmp_path, pairs_text().replace("\n", "\r\n") + "\r\n\r\n"))
    assert plain.pictures == other.pictures
    assert np.array_equal(plain.second, other.second)


GOOD = ["1\t2", "Ann\t1\t2", "Bob\t1\t2", "Ann\t1\tBob\t2", "Bob\t1\tCy\t1"]


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (0, "", r"pairs\.txt:1: expected the header"),
        (0, "300", r"pairs\.txt:1: header '300' is that of a View 1 list"),
        (0, "1\t0", r"pairs\.txt:1: expected the header"),
        (0, "1\t-2", r"pairs\.txt:1: expected the header"),
        (0, "2\t2", r"4 pairs, but the header promises 2 folds of 2 genuine .* \(8\)"),
        (1, "Ann\t1", r"pairs\.txt:2: expected 'name n1 n2' \(a genuine pair\), got"),
        (1, "Ann\t1\tBob\t2", r"pairs\.txt:2: expected 'name n1 n2'"),
        (2, "Bob\t1\ttwo", r"pairs\.txt:3: .* picture numbers from 1"),
        (2, "Bob\t0\t2", r"pairs\.txt:3: .* picture numbers from 1"),
        (2, "Bob\t1\t²", r"pairs\.txt:3: .* picture numbers from 1"),
        (2, "Bob\t2\t2", r"pairs\.txt:3: a picture is paired with itself"),
        (3, "Ann\t1\t2", r"pairs\.txt:4: expected 'name1 n1 name2 n2' \(an impostor pair\)"),
        (3, "Ann\t1\tAnn\t2", r"pairs\.txt:4: an impostor pair needs two people"),
        (3, "", r"pairs\.txt:4: expected 'name1 n1 name2 n2'"),
        (4, "../x\t1\tCy\t1", r"pairs\.txt:5: .* cannot be a folder"),
        (4, "/etc\t1\tCy\t1", r"pairs\.txt:5: .* cannot be a folder"),
        (4, "..\t1\tCy\t1", r"pairs\.txt:5: .* cannot be a folder"),
    ],
)
def test_read_pairs__malformed(tmp_path: Path, line: int, text: str, message: str) -> None:
    lines = GOOD.copy()
    lines[line] = text
    with pytest.raises(DatasetError, match=message) as caught:
        read_pairs(write(tmp_path, "\n".join(lines) + "\n"))
    assert "\n" not in str(caught.value)


def test_read_pairs__no_text_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_bytes(b"10\t300\n\xff\xfe\x00")
    with pytest.raises(DatasetError, match="is no text"):
        read_pairs(path)
    with pytest.raises(DatasetError, match="no such file"):
        read_pairs(tmp_path / "none.txt")


def test_take_folds__leaves_out_what_is_not_used(tmp_path: Path) -> None:
    pairs = read_pairs(write(tmp_path, pairs_text()))
    first = take_folds(pairs, 1)
    assert len(pairs.pictures) == 12
    assert len(first.pictures) == 6
    assert all(name.startswith("A_") for name in (*first.people, *first.pictures))
    assert [first.pictures[row] for row in first.second] == [pairs.pictures[row] for row in pairs.second[:6]]
    assert [first.people[row] for row in first.person] == [name.partition("/")[0] for name in first.pictures]
    for folds in (0, 3):
        with pytest.raises(InputError, match="from 1 to 2"):
            take_folds(pairs, folds)


@pytest.mark.parametrize("place", [".", "lfw", "lfw_funneled", "lfw-deepfunneled", "lfw-deepfunneled/lfw-deepfunneled"])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_dataset__layouts(tmp_path: Path, place: str, suffix: str) -> None:
    folder = write_world(tmp_path / "data", place, suffix)
    # What other tools leave behind does not shift the numbers.
    (folder / "A_Red" / ".DS_Store").write_text("")
    (folder / "A_Red" / "A_Red_0001_surgical.jpg").write_text("")
    (tmp_path / "data" / "lfw").mkdir(exist_ok=True)
    dataset = LfwDataset(tmp_path / "data")
    assert dataset.paths[0].resolve() == (folder / "A_Red" / f"A_Red_0001{suffix}").resolve()
    assert dataset.folder == place
    assert len(dataset.paths) == len(dataset.pairs.pictures) == 12
    assert not dataset.official
    assert dataset.title == "LFW, not the official pairs"


@pytest.mark.parametrize(
    ("folds", "official", "title"),
    [(None, True, "LFW View 2"), (2, True, "LFW View 2"), (1, False, "LFW View 2, first fold")],
)
def test_dataset__official_with_all_folds_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folds: int | None, official: bool, title: str
) -> None:
    write_world(tmp_path)
    monkeypatch.setattr(lfw, "OFFICIAL_SHA256", file_sha256(tmp_path / "pairs.txt"))
    dataset = LfwDataset(tmp_path, folds)
    assert (dataset.official, dataset.title) == (official, title)


def test_dataset__bad_folders(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"nowhere: no such folder; give the folder"):
        LfwDataset(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"is not LFW, it holds no pairs.txt; fetch it"):
        LfwDataset(tmp_path)
    (tmp_path / "pairs.txt").write_text(pairs_text())
    with pytest.raises(DatasetError, match=r"is not LFW, no folder such as A_Red"):
        LfwDataset(tmp_path)


def test_dataset__missing_pictures(tmp_path: Path) -> None:
    folder = write_world(tmp_path)
    (folder / "B_Blue" / "B_Blue_0002.png").unlink()
    with pytest.raises(DatasetError, match=r"B_Blue_0002\.jpg: picture named by pairs.txt is missing; unpack"):
        LfwDataset(tmp_path)
    # The fold that lacks it is not asked for.
    assert len(LfwDataset(tmp_path, limit_folds=1).paths) == 6
    (folder / "A_Blue" / "A_Blue_0001.png").unlink()
    with pytest.raises(DatasetError, match=r"A_Blue_0001\.jpg: .* and 1 more"):
        LfwDataset(tmp_path)


def test_orient__sides(tmp_path: Path) -> None:
    pairs = read_pairs(write(tmp_path, pairs_text()))
    second, first, both = (orient(pairs, side) for side in ("second", "first", "both"))
    assert np.array_equal(second.probe, pairs.second)
    assert np.array_equal(first.probe, pairs.first)
    assert np.array_equal(first.gallery_person, second.probe_person)
    assert np.array_equal(both.gallery, np.concatenate([pairs.first, pairs.second]))
    assert np.array_equal(both.fold, np.tile(pairs.fold, 2))
    with pytest.raises(InputError, match="known: second, first, both"):
        orient(pairs, "third")


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/lfw is not here")
def test_dataset__official() -> None:
    dataset = LfwDataset(SHARED)
    pairs = dataset.pairs
    assert dataset.official
    # protocols.md 1.2
    assert (len(pairs.pictures), len(pairs.people), len(pairs.same)) == (7701, 4281, 6000)
    assert len(np.unique(pairs.first)) == 4564
    assert len(np.unique(pairs.second)) == 4576
    assert len(np.intersect1d(pairs.first, pairs.second)) == 1439
    folds = [
        np.unique(pairs.person[np.stack([pairs.first, pairs.second])[:, pairs.fold == fold]]) for fold in range(10)
    ]
    assert sum(map(len, folds)) == len(pairs.people)
    assert np.bincount(pairs.fold[pairs.same]).tolist() == [300] * 10
