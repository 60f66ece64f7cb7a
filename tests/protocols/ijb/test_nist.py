"""NIST's two layouts: values, subjects deciding what is genuine, damage, IJB-B's names and habits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from maskfix.base import DatasetError
from protocols.ijb.nist import find_flat, find_test1, read_nist
from protocols.ijb.templates import TemplateSet
from tests.protocols.ijb.world import (
    PAIRS,
    ROWS,
    SAME,
    SUBJECTS,
    TEMPLATES,
    change,
    write_flat,
    write_lines,
    write_test1,
)


def flat(root: Path) -> TemplateSet:
    files = find_flat(root)
    assert files is not None
    return read_nist(files)


def by_test(root: Path) -> TemplateSet:
    files = find_test1(root)
    assert files is not None
    return read_nist(files)


WORLDS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], TemplateSet], str, str]] = {
    "flat": (write_flat, flat, "ijbc_1N_probe_mixed.csv", "ijbc_11_G1_G2_matches.csv"),
    "test1": (write_test1, by_test, "verif_templates.csv", "match.csv"),
}


@pytest.fixture(params=list(WORLDS))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Callable[[], TemplateSet], str, str]:
    write, read, probe, matches = WORLDS[request.param]
    return write(tmp_path), lambda: read(tmp_path), probe, matches


def check_values(data: TemplateSet, pictures: Path) -> None:
    assert data.templates.tolist() == TEMPLATES
    assert data.is_probe.tolist() == [False] * 3 + [True] * 9
    assert data.subject.tolist() == [*SUBJECTS, 3]  # the csv files know who is on 49
    sides = data.templates[data.pairs.gallery], data.templates[data.pairs.probe]
    assert list(zip(*(side.tolist() for side in sides), strict=True)) == PAIRS
    assert data.pairs.same.tolist() == SAME
    assert data.pictures == pictures
    rows = data.rows
    assert rows.image.tolist() == [f"img/{row.image}" for row in ROWS]
    assert rows.template.tolist() == [row.template for row in ROWS]
    assert rows.media.tolist() == [row.media for row in ROWS]
    assert rows.points.shape == (len(ROWS), 5, 2)
    assert np.isnan(rows.points).all()
    assert (rows.score == 1).all()
    assert rows.box is not None
    assert rows.box.tolist() == [[row, 2.5, 30, 40] for row in range(len(ROWS))]
    assert [rows.box.dtype, rows.media.dtype, data.pairs.same.dtype] == [np.float32, np.int32, np.bool_]


def test_read__values(tmp_path: Path, world: tuple[Path, Callable[[], TemplateSet], str, str]) -> None:
    check_values(world[1](), tmp_path / "images")
    check_values(world[1](), tmp_path / "images")  # from the cache of the comparisons


@pytest.mark.parametrize("place", ["protocols", "protocol", "."])
@pytest.mark.parametrize("prefix", ["ijbc", "ijbb"])
def test_read_flat__names_and_places(tmp_path: Path, place: str, prefix: str) -> None:
    # IJB-B: file names S1 and S2, column FILE, pictures below the root.
    write_flat(tmp_path, prefix, place)
    check_values(flat(tmp_path), tmp_path if prefix == "ijbb" else tmp_path / "images")


def test_find__nothing(tmp_path: Path) -> None:
    assert find_flat(tmp_path) is None
    assert find_test1(tmp_path) is None
    write_test1(tmp_path)
    assert find_flat(tmp_path) is None


def test_read__missing_files(tmp_path: Path, world: tuple[Path, Callable[[], TemplateSet], str, str]) -> None:
    folder, read, probe, matches = world
    for name in (matches, probe):
        (folder / name).unlink()
        with pytest.raises(DatasetError, match=rf"{name}: no such file; fetch"):
            read()


def test_read__empty_boxes_are_nan(tmp_path: Path, world: tuple[Path, Callable[[], TemplateSet], str, str]) -> None:
    folder, read, probe, _ = world
    change(folder / probe, 2, "41,101,img/7.jpg,41,,,,,,")
    box = read().rows.box
    assert box is not None
    assert np.isnan(box).sum() == 4
    assert np.isnan(box[6]).all()


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (2, "41,101,img/7.jpg,x,0,0,1,1,,", r":2: expected 'TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID,FACE_X"),
        (3, "41,,img/8.jpg,41,0,0,1,1,,", r":3: expected"),
        (3, "41,101,,41,0,0,1,1,,", r":3: expected"),
        (3, "41,101,img/8.jpg", r":3: expected"),
        (3, "41,101,img/8.jpg,41,0,0,1,wide,,", r":3: expected .*got '41,101,img/8"),
        (3, "41,101,img/8.jpg,41,0,0,1,inf,,", r":3: expected"),
        (3, "41,101,../8.jpg,41,0,0,1,1,,", r": '\.\./8\.jpg' cannot be a picture"),
        (3, "41,103,img/8.jpg,41,0,0,1,1,,", r": template 41 has two subjects, 101 and 103"),
        (3, "20,102,img/8.jpg,41,0,0,1,1,,", r": template 20 is in another file of gallery or probes as well"),
        (
            1,
            "TEMPLATE_ID,SUBJECT_ID,PICTURE,SIGHTING_ID,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT",
            r":1: .*no column FILEN",
        ),
    ],
)
def test_read__damaged_csv(
    world: tuple[Path, Callable[[], TemplateSet], str, str], line: int, text: str, message: str
) -> None:
    folder, read, probe, _ = world
    change(folder / probe, line, text)
    with pytest.raises(DatasetError, match=probe + message) as caught:
        read()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (3, "10,77", r":3: template 77 is in no row of .*enroll|:3: template 77 is in no row of .*G1"),
        (3, "10,30", r": template 30 is both gallery and probe; covariate"),
        (3, "10", r":3: expected 'gallery_template,probe_template', got '10'"),
        (3, "10,43,1", r":3: expected"),
    ],
)
def test_read__damaged_matches(
    world: tuple[Path, Callable[[], TemplateSet], str, str], line: int, text: str, message: str
) -> None:
    folder, read, _, matches = world
    change(folder / matches, line, text)
    with pytest.raises(DatasetError, match=matches + f"({message})"):
        read()


def test_read__swapped_columns(world: tuple[Path, Callable[[], TemplateSet], str, str]) -> None:
    folder, read, _, matches = world
    write_lines(folder / matches, [f"{probe},{gallery}" for gallery, probe in PAIRS])
    with pytest.raises(DatasetError, match="columns look swapped: 9 templates"):
        read()
    # As many templates on both sides: the csv files tell.
    write_lines(folder / matches, ["41,10", "44,20", "46,30", "41,20"])
    with pytest.raises(DatasetError, match="look swapped: template 10 of the gallery csv file is in the second column"):
        read()
    write_lines(folder / matches, ["41,44", "10,42"])
    with pytest.raises(DatasetError, match="look swapped: template 41 of the probe csv file is in the first column"):
        read()


def test_read__header_without_rows(world: tuple[Path, Callable[[], TemplateSet], str, str]) -> None:
    folder, read, probe, _ = world
    header = (folder / probe).read_text().split("\n")[0]
    (folder / probe).write_text(header + "\n")
    with pytest.raises(DatasetError, match=rf"{probe}: has a header and no rows; fetch"):
        read()


def test_read__missing_picture(tmp_path: Path, world: tuple[Path, Callable[[], TemplateSet], str, str]) -> None:
    (tmp_path / "images" / "img" / "4.jpg").unlink()
    with pytest.raises(DatasetError, match=r"images/img/4\.jpg: picture named by .* and .* is missing"):
        world[1]()


def test_read__byte_order_mark_and_windows_line_ends(world: tuple[Path, Callable[[], TemplateSet], str, str]) -> None:
    folder, read, probe, _ = world
    text = (folder / probe).read_text()
    (folder / probe).write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read().templates.tolist() == TEMPLATES
