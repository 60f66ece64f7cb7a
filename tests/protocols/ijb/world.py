"""A tiny IJB-C, 3 gallery x 9 probe templates, in each layout, with answers known by hand.

Gallery templates 10, 20, 30 are of subjects 101, 102, 103. Probes 41-43 are of subject 101, 44 and 45 of 102, 46-48 of
103; 49 is of 999, who is not in the gallery. All 27 comparisons are listed but 20-41, so there are 8 genuine pairs and
18 impostor pairs. Gallery templates have two rows in two media; probes have two rows in one medium, but 41 has three
rows, of which the last is of a medium of its own; the picture of 49's first row is also that of its second.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

GALLERY = {10: 101, 20: 102, 30: 103}
PROBES = {41: 101, 42: 101, 43: 101, 44: 102, 45: 102, 46: 103, 47: 103, 48: 103, 49: 999}
SUBJECTS = [0, 1, 2, 0, 0, 0, 1, 1, 2, 2, 2]  # of the templates in order, without 49
TEMPLATES = [*GALLERY, *PROBES]
PAIRS = [(gallery, probe) for gallery in GALLERY for probe in PROBES if (gallery, probe) != (20, 41)]
SAME = [GALLERY[gallery] == PROBES[probe] for gallery, probe in PAIRS]


class Row(NamedTuple):
    image: str
    template: int
    media: int


def _rows() -> list[Row]:
    rows = []
    for template in GALLERY:
        rows += [(template, template), (template, template + 1)]
    for template in PROBES:
        rows += [(template, template), (template, template)]
    rows.insert(8, (41, 5))
    images = [f"{number}.jpg" for number in range(1, len(rows) + 1)]
    images[-1] = images[-2]
    return [Row(image, *row) for image, row in zip(images, rows, strict=True)]


ROWS = _rows()


def points(row: int) -> list[float]:
    return [row + place / 4 for place in range(10)]


def write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def write_community(root: Path, prefix: str = "ijbc", *, csv: bool = False, pictures: bool = True) -> Path:
    meta = root / "meta"
    write_lines(meta / f"{prefix}_face_tid_mid.txt", [f"{row.image} {row.template} {row.media}" for row in ROWS])
    write_lines(
        meta / f"{prefix}_name_5pts_score.txt",
        [" ".join(map(str, [row.image, *points(place), 1 - place / 100])) for place, row in enumerate(ROWS)],
    )
    write_lines(
        meta / f"{prefix}_template_pair_label.txt",
        [f"{gallery} {probe} {int(same)}" for (gallery, probe), same in zip(PAIRS, SAME, strict=True)],
    )
    if csv:
        halves = ("G1", "G2") if prefix == "ijbc" else ("S1", "S2")
        write_csvs(meta, [f"{prefix}_1N_gallery_{half}.csv" for half in halves], f"{prefix}_1N_probe_mixed.csv")
    if pictures:
        _write_pictures(root / "loose_crop")
    return meta


def write_flat(root: Path, prefix: str = "ijbc", place: str = "protocols") -> Path:
    first, second = ("G1", "G2") if prefix == "ijbc" else ("S1", "S2")
    folder = root / place
    galleries = [f"{prefix}_1N_gallery_{half}.csv" for half in (first, second)]
    write_csvs(folder, galleries, f"{prefix}_1N_probe_mixed.csv", old=prefix == "ijbb")
    write_lines(folder / f"{prefix}_11_{first}_{second}_matches.csv", [f"{a},{b}" for a, b in PAIRS])
    _write_pictures(root if prefix == "ijbb" else root / "images", "img")
    return folder


def write_test1(root: Path) -> Path:
    folder = root / "protocols" / "test1"
    write_csvs(folder, ["enroll_templates.csv"], "verif_templates.csv")
    write_lines(folder / "match.csv", [f"{a},{b}" for a, b in PAIRS])
    _write_pictures(root / "images", "img")
    return folder


def write_csvs(folder: Path, galleries: list[str], probe: str, *, old: bool = False) -> None:
    """NIST's csv files of templates; the first gallery file holds template 10 alone where there are two."""
    header = "TEMPLATE_ID,SUBJECT_ID,FILENAME,SIGHTING_ID,FACE_X,FACE_Y,FACE_WIDTH,FACE_HEIGHT,FRAME_NUM,AGE"
    if old:
        header = header.replace("FILENAME", "FILE")
    subjects = GALLERY | PROBES
    files: dict[str, Callable[[Row], bool]] = {probe: lambda row: row.template in PROBES}
    if len(galleries) == 1:
        files[galleries[0]] = lambda row: row.template in GALLERY
    else:
        files[galleries[0]] = lambda row: row.template == 10
        files[galleries[1]] = lambda row: row.template in (20, 30)
    for name, wanted in files.items():
        lines = [
            f"{row.template},{subjects[row.template]},img/{row.image},{row.media},{place},2.5,30,40,,3"
            for place, row in enumerate(ROWS)
            if wanted(row)
        ]
        write_lines(folder / name, [header, *lines])


def change(path: Path, line: int, text: str | None) -> None:
    """Replace a line, counted from 1; take it away when the text is None."""
    lines = path.read_text().splitlines()
    lines[line - 1 : line] = [] if text is None else [text]
    write_lines(path, lines)


def _write_pictures(root: Path, below: str = "") -> None:
    (root / below).mkdir(parents=True, exist_ok=True)
    for row in ROWS:
        (root / below / row.image).write_bytes(b"no reader looks inside")
