"""The community's layout: values, every contradiction between the files, subjects from csv or from pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskfix.base import DatasetError
from protocols.ijb.community import find_community, read_community
from protocols.ijb.pair_list import cache_path
from protocols.ijb.templates import TemplateSet
from tests.protocols.ijb.world import (
    PAIRS,
    ROWS,
    SAME,
    SUBJECTS,
    TEMPLATES,
    change,
    points,
    write_community,
    write_lines,
)

MEDIA, POINTS, PAIR_LIST = "ijbc_face_tid_mid.txt", "ijbc_name_5pts_score.txt", "ijbc_template_pair_label.txt"


def read(root: Path, *, pictures: bool = True, cache: Path | None = None) -> TemplateSet:
    files = find_community(root)
    assert files is not None
    return read_community(files, pictures=pictures, cache=cache)


@pytest.mark.parametrize("prefix", ["ijbc", "ijbb"])
@pytest.mark.parametrize("csv", [False, True])
def test_read__values(tmp_path: Path, prefix: str, csv: bool) -> None:
    write_community(tmp_path, prefix, csv=csv)
    data = read(tmp_path)
    assert data.templates.tolist() == TEMPLATES
    assert data.is_probe.tolist() == [False] * 3 + [True] * 9
    # Without csv files nobody knows who is on 49.
    assert data.subject.tolist() == [*SUBJECTS, 3 if csv else -1]
    sides = data.templates[data.pairs.gallery], data.templates[data.pairs.probe]
    assert list(zip(*(side.tolist() for side in sides), strict=True)) == PAIRS
    assert data.pairs.same.tolist() == SAME
    assert data.pictures == tmp_path / "loose_crop"

    rows = data.rows
    assert rows.image.tolist() == [row.image for row in ROWS]
    assert rows.template.tolist() == [row.template for row in ROWS]
    assert rows.media.tolist() == [row.media for row in ROWS]
    assert rows.points.tolist() == [np.reshape(points(row), (5, 2)).tolist() for row in range(len(ROWS))]
    assert np.allclose(rows.score, 1 - np.arange(len(ROWS)) / 100, atol=1e-6)
    assert rows.box is None
    types = [column.dtype for column in (rows.template, rows.media, rows.points, rows.score, data.subject)]
    assert types == [np.int32, np.int32, np.float32, np.float32, np.int32]


def test_find__nothing_and_two(tmp_path: Path) -> None:
    assert find_community(tmp_path) is None
    write_community(tmp_path, "ijbc")
    write_community(tmp_path, "ijbb")
    with pytest.raises(DatasetError, match="holds both IJB-B and IJB-C"):
        find_community(tmp_path)


@pytest.mark.parametrize("name", [MEDIA, POINTS, PAIR_LIST])
def test_read__missing_file(tmp_path: Path, name: str) -> None:
    (write_community(tmp_path) / name).unlink()
    with pytest.raises(DatasetError, match=rf"{name}: no such file; fetch the"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "line", "text", "message"),
    [
        (MEDIA, 5, "99.jpg 30 30", rf"{POINTS}:5: picture 5\.jpg, but {MEDIA} has 99\.jpg in this place"),
        (MEDIA, 5, "5.jpg 30", rf"{MEDIA}:5: expected 'image_name template_id media_id', got '5\.jpg 30'"),
        (MEDIA, 5, "5.jpg 30 x", rf"{MEDIA}:5: "),
        (MEDIA, 5, "5.jpg 30 30 30", rf"{MEDIA}:5: "),
        # A row is missing: the first line where the two files part is named.
        (MEDIA, 5, None, rf"{POINTS}:5: picture 5\.jpg, but {MEDIA} has 6\.jpg"),
        (POINTS, 5, None, rf"{POINTS}:5: picture 6\.jpg, but {MEDIA} has 5\.jpg"),
        (POINTS, 25, None, rf"{POINTS}: 24 rows, but {MEDIA} has 25; both must be of one release"),
        (POINTS, 2, "2.jpg 1 2 3 4 5 6 7 8 9 0.5", rf"{POINTS}:2: expected 'image_name x1 y1 x2"),
        (POINTS, 2, "2.jpg 1 2 3 4 5 6 7 8 9 10 nan", rf"{POINTS}:2: "),
        (POINTS, 2, "2.jpg 1 2 3 4 5 6 7 8 inf 10 1", rf"{POINTS}:2: "),
        (POINTS, 2, "2.jpg 1 2 3 4 5 6 7 8 9 10 1 1", rf"{POINTS}:2: "),
        (PAIR_LIST, 4, "10 77 0", rf"{PAIR_LIST}:4: template 77 is in no row of {MEDIA}"),
        (PAIR_LIST, 4, "999999999 41 0", rf"{PAIR_LIST}:4: template 999999999 is in no row of {MEDIA}"),
        (PAIR_LIST, 4, "10 20 0", rf"{PAIR_LIST}: template 20 is both gallery and probe; covariate lists \(test2\)"),
        (PAIR_LIST, 4, "10 44 2", rf"{PAIR_LIST}:4: expected .*label \(0 or 1\)"),
    ],
)
def test_read__contradictions(tmp_path: Path, name: str, line: int, text: str | None, message: str) -> None:
    change(write_community(tmp_path) / name, line, text)
    with pytest.raises(DatasetError, match=message) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def test_read__names_lines_after_empty_ones(tmp_path: Path) -> None:
    meta = write_community(tmp_path)
    change(meta / PAIR_LIST, 4, "10 77 0")
    change(meta / PAIR_LIST, 2, "\n\n10 42 1")
    with pytest.raises(DatasetError, match=rf"{PAIR_LIST}:6: template 77"):
        read(tmp_path)


def test_read__swapped_columns(tmp_path: Path) -> None:
    meta = write_community(tmp_path)
    lines = [f"{probe} {gallery} {int(same)}" for (gallery, probe), same in zip(PAIRS, SAME, strict=True)]
    write_lines(meta / PAIR_LIST, lines)
    with pytest.raises(
        DatasetError, match=r"columns look swapped: 9 templates in the first \(gallery\), 3 in the second"
    ):
        read(tmp_path)


def test_read__swapped_columns_of_as_many_templates_by_csv(tmp_path: Path) -> None:
    meta = write_community(tmp_path, csv=True)
    write_lines(meta / PAIR_LIST, ["41 10 1", "44 20 1", "46 30 1", "41 20 0"])
    with pytest.raises(
        DatasetError, match=r"look swapped: template 10 of the gallery csv file is in the second column"
    ):
        read(tmp_path)


def test_read__one_class(tmp_path: Path) -> None:
    meta = write_community(tmp_path)
    for label, kind in ((1, "impostor"), (0, "genuine")):
        write_lines(meta / PAIR_LIST, [f"10 41 {label}", f"10 42 {label}"])
        with pytest.raises(DatasetError, match=f"holds no {kind} pair"):
            read(tmp_path)


def test_read__templates_without_pairs_are_left_out(tmp_path: Path) -> None:
    meta = write_community(tmp_path)
    write_lines(meta / PAIR_LIST, ["20 44 1", "20 48 0", "30 48 1"])
    data = read(tmp_path)
    assert data.templates.tolist() == [20, 30, 44, 48]
    assert data.is_probe.tolist() == [False, False, True, True]
    assert data.subject.tolist() == [0, 1, 0, 1]
    assert data.rows.template.tolist() == [20, 20, 30, 30, 44, 44, 48, 48]
    assert data.templates[data.pairs.probe].tolist() == [44, 48, 48]
    assert data.rows.image.tolist() == [row.image for row in ROWS if row.template in (20, 30, 44, 48)]


def test_read__labels_against_csv(tmp_path: Path) -> None:
    meta = write_community(tmp_path, csv=True)
    change(meta / PAIR_LIST, 4, "10 44 1")
    with pytest.raises(
        DatasetError, match=rf"{PAIR_LIST}:4: templates 10 and 44 are labelled genuine, but are two subj"
    ):
        read(tmp_path)
    change(meta / PAIR_LIST, 4, "10 44 0")
    change(meta / PAIR_LIST, 2, "10 42 0")
    with pytest.raises(DatasetError, match=r":2: templates 10 and 42 are labelled impostor, but are one subject in"):
        read(tmp_path)


def test_read__labels_against_each_other(tmp_path: Path) -> None:
    meta = write_community(tmp_path)
    # 10 and 42 are one person through 41 and 20; 30 and 46 are nobody yet, and no genuine pair joins them.
    lines = ["10 41 1", "20 41 1", "", "20 42 1", "30 46 0", "10 42 0", "10 44 0"]
    write_lines(meta / PAIR_LIST, lines)
    with pytest.raises(DatasetError, match=rf"{PAIR_LIST}:6: templates 10 and 42 are labelled impostor, but the gen"):
        read(tmp_path)
    write_lines(meta / PAIR_LIST, [line for line in lines if line != "10 42 0"])
    assert read(tmp_path).subject.tolist() == [0, 0, -1, 0, 0, -1, -1]


def test_read__damaged_csv(tmp_path: Path) -> None:
    meta = write_community(tmp_path, csv=True)
    probe = meta / "ijbc_1N_probe_mixed.csv"
    whole = probe.read_text()
    change(probe, 3, "41,102,img/8.jpg,41,0,0,1,1,,3")
    with pytest.raises(DatasetError, match=r"probe_mixed\.csv: template 41 has two subjects, 101 and 102"):
        read(tmp_path)
    probe.write_text("\n".join(line for line in whole.split("\n") if not line.startswith("45")))
    with pytest.raises(DatasetError, match=r"template 45 is in no csv file of gallery or probes; move"):
        read(tmp_path)
    probe.write_text(whole.replace("SUBJECT_ID", "PERSON"))
    with pytest.raises(DatasetError, match=r"probe_mixed\.csv:1: the header has no column SUBJECT_ID"):
        read(tmp_path)
    probe.unlink()
    with pytest.raises(
        DatasetError, match=r"probe_mixed\.csv: no such file, but ijbc_1N_gallery_G1\.csv is there; subj"
    ):
        read(tmp_path)


def test_read__pictures(tmp_path: Path) -> None:
    write_community(tmp_path)
    (tmp_path / "loose_crop" / "3.jpg").unlink()
    with pytest.raises(DatasetError, match=rf"loose_crop/3\.jpg: picture named by {MEDIA} is missing; unpack"):
        read(tmp_path)
    (tmp_path / "loose_crop" / "7.jpg").unlink()
    with pytest.raises(DatasetError, match=r"3\.jpg: .* and 1 more"):
        read(tmp_path)
    assert len(read(tmp_path, pictures=False).rows.image) == len(ROWS)


@pytest.mark.parametrize("name", ["../3.jpg", "/etc/passwd", "a/../../b.jpg", "a\\b.jpg", ".."])
def test_read__pictures_outside(tmp_path: Path, name: str) -> None:
    meta = write_community(tmp_path)
    change(meta / MEDIA, 3, f"{name} 20 20")
    change(meta / POINTS, 3, f"{name} 1 2 3 4 5 6 7 8 9 10 1")
    with pytest.raises(DatasetError, match=r"cannot be a picture inside the data set") as caught:
        read(tmp_path)
    assert repr(name) in str(caught.value)


def test_read__odd_but_good_names(tmp_path: Path) -> None:
    meta = write_community(tmp_path)
    change(meta / MEDIA, 3, "a..b/c...jpg 20 20")
    change(meta / POINTS, 3, "a..b/c...jpg 1 2 3 4 5 6 7 8 9 10 1")
    assert read(tmp_path, pictures=False).rows.image[2] == "a..b/c...jpg"


def test_read__cache_folder(tmp_path: Path) -> None:
    meta = write_community(tmp_path)
    first = read(tmp_path, cache=tmp_path / "caches")
    assert cache_path(meta / PAIR_LIST, tmp_path / "caches").is_file()
    second = read(tmp_path, cache=tmp_path / "caches")
    assert np.array_equal(first.pairs.probe, second.pairs.probe)
    assert not cache_path(meta / PAIR_LIST).exists()
