"""`python -m benchmarks.ijbc make`: a small set in IJB-C's layouts out of LFW, or one of full size without pictures."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import TaskID

from benchmarks.ijbc.plan import MIN_PICTURES, Plan, PlannedPairs, draw_pairs, draw_templates
from benchmarks.ijbc.selection import NAME_FILE
from benchmarks.ijbc.synthetic import FEATURES, SyntheticSize, draw_rows, write_features, write_meta
from maskfix.align import LandmarkDetector
from maskfix.base import (
    FloatArray,
    InputError,
    check_choice,
    read_image,
    replacing,
    write_image,
)
from maskfix.cli.shared import make_progress, one_line_errors
from protocols.base import Progress, silent
from protocols.ijb import read_ijb
from protocols.landmark_cache import LandmarkCache, find_landmarks
from protocols.lfw import LfwDataset

LAYOUTS = ("community", "nist")
"""`community`: meta files and loose crops; `nist`: whole pictures and both of NIST's sets of csv files."""

_CROP, _BOX = 3.4, 2.2  # side of a loose crop and of a face box, in extents of the five points
_STAGES = {"landmarks": "finding landmarks", "pictures": "writing pictures"}


def make_from_lfw(
    data: LfwDataset,
    out: Path,
    layout: str,
    detector: LandmarkDetector,
    cache: Path,
    *,
    seed: int = 0,
    impostors: int = 100_000,
    people: int | None = None,
    progress: Progress = silent,
) -> Plan:
    """Write a set of IJB-C's layout made of LFW's pictures.

    Args:
        data: LFW; pictures on which the detector finds no face are left out.
        out: Folder to write; it must not be there yet, and appears whole or not at all.
        layout: One of `LAYOUTS`.
        detector: Finds the five points.
        cache: Folder for landmarks found once.
        seed: Seed of all draws.
        impostors: Number of impostor pairs, at least 1.
        people: Use only so many of the people with enough pictures, the first ones; all when None.
        progress: Told about the stages `landmarks` and `pictures`.

    Raises:
        InputError: If an argument is out of range, or fewer than two people have three pictures with a face.
    """
    check_choice("layout", layout, LAYOUTS)
    if impostors < 1:
        raise InputError(f"impostors: expected at least 1, got {impostors}")
    with _new_folder(out) as folder:
        found = find_landmarks(data.paths, detector, LandmarkCache(cache, detector), progress).landmarks
        usable = np.array([landmarks.ok for landmarks in found])
        rng = np.random.default_rng(seed)
        plan = draw_templates(_limit(data.pairs.person[usable], people), rng)
        pairs = draw_pairs(plan, impostors, rng)
        faces = np.flatnonzero(usable)[plan.picture]
        paths = [data.paths[face] for face in faces]
        points = np.stack([np.asarray(found[face].five, dtype=np.float32) for face in faces])
        score = np.array([found[face].score for face in faces], dtype=np.float32)
        write = _write_community if layout == "community" else _write_nist
        write(folder, plan, pairs, _Faces(paths, points, score), progress)
        _write_name(folder, "LFW templates")
    return plan


def make_synthetic(
    out: Path, size: SyntheticSize, *, seed: int = 0, dimension: int = 512, dtype: Any = np.float32
) -> None:
    """Write meta files of the community's layout and features, without pictures.

    Args:
        out: Folder to write; it must not be there yet, and appears whole or not at all.
        size: How much of everything.
        seed: Seed of all draws.
        dimension: Length of a feature.
        dtype: float32 or float16.
    """
    with _new_folder(out) as folder:
        rows = draw_rows(size, seed)
        write_meta(folder, rows, size, seed)
        write_features(folder / FEATURES, rows, dimension, seed=seed, dtype=dtype)
        _write_name(folder, "drawn templates")


def make(
    out: Annotated[Path, typer.Option(help="Folder to write; it must not be there yet.")],
    source: Annotated[Path | None, typer.Option("--from", help="LFW: pairs.txt and the pictures.")] = None,
    layout: Annotated[str, typer.Option(help="community or nist (both of NIST's).")] = "community",
    synthetic_features: Annotated[
        bool, typer.Option("--synthetic-features", help="Draw features of IJB-C's full size instead; no pictures.")
    ] = False,
    scale: Annotated[float, typer.Option(help="Size of the set with --synthetic-features, in (0, 1].")] = 1.0,
    dimension: Annotated[int, typer.Option(min=1, help="Length of a feature with --synthetic-features.")] = 512,
    impostors: Annotated[int, typer.Option(help="Number of impostor pairs drawn, with --from.")] = 100_000,
    people: Annotated[int | None, typer.Option(help="Use only so many people, with --from.")] = None,
    detector: Annotated[str, typer.Option(help="auto, mesh or mtcnn.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    cache: Annotated[
        Path | None, typer.Option(help="Folder for landmarks; landmarks-cache beside OUT when left out.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all draws.")] = 0,
) -> None:
    """Make a set in the layout of IJB-C: small and from LFW's pictures, or of full size from drawn features."""
    with one_line_errors():
        if synthetic_features == (source is not None):
            raise InputError("give either --from with LFW's folder or --synthetic-features")
        if source is None:
            if layout != "community":
                raise InputError(f"layout: --synthetic-features writes the community layout only, got {layout!r}")
            make_synthetic(out, SyntheticSize().scaled(scale), seed=seed, dimension=dimension)
        else:
            check_choice("layout", layout, LAYOUTS)
            folder = out.parent / "landmarks-cache" if cache is None else cache
            _make_with(source, out, layout, detector, device, folder, seed=seed, impostors=impostors, people=people)
        print(describe(out, pictures=source is not None))


def describe(out: Path, *, pictures: bool) -> str:
    """One line on a set that was made, by reading it back."""
    data = read_ijb(out, pictures=pictures)
    genuine = int(data.pairs.same.sum())
    return (
        f"{out}: {len(data.rows.image)} rows, {len(data.templates)} templates ({int((~data.is_probe).sum())} gallery, "
        f"{int(data.is_probe.sum())} probe), {int(data.subject.max()) + 1} subjects, {len(data.pairs.same)} pairs "
        f"({genuine} genuine)"
    )


class _Faces(NamedTuple):
    """Picture file, five points `(R, 5, 2)` and detector score `(R,)` of each row."""

    paths: list[Path]
    points: FloatArray
    score: FloatArray


def _make_with(source: Path, out: Path, layout: str, detector: str, device: str, cache: Path, **options: Any) -> None:
    """Load the detector; after everything that is cheap to check."""
    from rich.console import Console

    from maskfix.align import list_detectors, load_detector
    from maskfix.base import resolve_device

    check_choice("detector", detector, list_detectors())
    place, data = resolve_device(device), LfwDataset(source)
    _check_new(out)
    finder = load_detector(detector, device=place)
    with make_progress(Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(_STAGES[stage], total=total or None)
            bars.update(tasks[stage], completed=done)

        make_from_lfw(data, out, layout, finder, cache, progress=progress, **options)


def _limit(person: NDArray[np.int64], people: int | None) -> NDArray[np.int64]:
    """Persons without those beyond the first `people` with enough pictures, who become people of too few pictures."""
    counts = np.bincount(person)
    rich = np.flatnonzero(counts >= MIN_PICTURES)
    if people is None:
        return person
    if not 2 <= people <= len(rich):
        raise InputError(f"people: expected a number from 2 to {len(rich)}, got {people}")
    dropped = np.isin(person, rich[people:])
    alone = int(person.max()) + 1 + np.arange(len(person))
    return np.where(dropped, alone, person)


def _check_new(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: is there already; remove it or give another folder")


@contextlib.contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A temporary folder that becomes `out` when the block ends without an error."""
    _check_new(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.replace(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_name(folder: Path, name: str) -> None:
    """Say what the set is, beside lists that look like IJB-C's."""
    (folder / NAME_FILE).write_text(f"{name}\n", encoding="utf-8")


def _write_table(path: Path, columns: dict[str, Any], separator: str, *, header: bool = False) -> None:
    import pandas as pd

    with replacing(path) as temporary:
        pd.DataFrame(columns).to_csv(temporary, sep=separator, header=header, index=False, float_format="%.4f")


def _square(points: FloatArray, extents: float) -> NDArray[np.float64]:
    """Squares around five points `(R, 5, 2)`: left, top and side `(R, 3)`."""
    low, high = points.min(axis=1).astype(np.float64), points.max(axis=1).astype(np.float64)
    side = (high - low).max(axis=1, keepdims=True) * extents
    return np.concatenate([(low + high - side) / 2, side], axis=1)


def _write_community(folder: Path, plan: Plan, pairs: PlannedPairs, faces: _Faces, progress: Progress) -> None:
    """Loose crops, one for each row, and meta files with points in pixels of the crops."""
    names = [f"{number}.jpg" for number in range(1, len(faces.paths) + 1)]
    squares = _square(faces.points, _CROP)
    corners = np.zeros((len(names), 1, 2), dtype=np.float32)
    progress("pictures", 0, len(names))
    for row, (name, path) in enumerate(zip(names, faces.paths, strict=True)):
        photo = read_image(path)
        left, top = np.floor(squares[row, :2]).clip(0).astype(int)
        right, bottom = np.ceil(squares[row, :2] + squares[row, 2]).astype(int)
        write_image(folder / "loose_crop" / name, photo[top:bottom, left:right])
        corners[row, 0] = left, top
        progress("pictures", row + 1, len(names))
    meta, templates = folder / "meta", plan.templates
    points = (faces.points - corners).reshape(-1, 10)
    _write_table(
        meta / "ijbc_face_tid_mid.txt", {"name": names, "template": templates[plan.place], "media": plan.media}, " "
    )
    _write_table(
        meta / "ijbc_name_5pts_score.txt",
        {"name": names, **{str(place): points[:, place] for place in range(10)}, "score": faces.score},
        " ",
    )
    _write_table(
        meta / "ijbc_template_pair_label.txt",
        {"gallery": templates[pairs.gallery], "probe": templates[pairs.probe], "label": pairs.same.astype(int)},
        " ",
    )


def _write_nist(folder: Path, plan: Plan, pairs: PlannedPairs, faces: _Faces, progress: Progress) -> None:
    """Whole pictures, and the csv files of both layouts."""
    names = _copy_pictures(folder / "images", faces.paths, plan.picture, progress)
    boxes = _square(faces.points, _BOX)
    table = {
        "TEMPLATE_ID": plan.templates[plan.place],
        "SUBJECT_ID": 1 + plan.subject[plan.place],
        "FILENAME": np.array(names, dtype=object),
        "SIGHTING_ID": plan.media,
        "FACE_X": boxes[:, 0],
        "FACE_Y": boxes[:, 1],
        "FACE_WIDTH": boxes[:, 2],
        "FACE_HEIGHT": boxes[:, 2],
        "FRAME_NUM": np.full(len(names), "", dtype=object),
    }
    probe = plan.is_probe[plan.place]
    second = plan.subject[plan.place] > np.median(plan.subject[~plan.is_probe])
    protocols, test1 = folder / "protocols", folder / "protocols" / "test1"
    for path, rows in {
        protocols / "ijbc_1N_gallery_G1.csv": ~probe & ~second,
        protocols / "ijbc_1N_gallery_G2.csv": ~probe & second,
        protocols / "ijbc_1N_probe_mixed.csv": probe,
        test1 / "enroll_templates.csv": ~probe,
        test1 / "verif_templates.csv": probe,
    }.items():
        _write_table(path, {name: column[rows] for name, column in table.items()}, ",", header=True)
    matches = {"gallery": plan.templates[pairs.gallery], "probe": plan.templates[pairs.probe]}
    for path in (protocols / "ijbc_11_G1_G2_matches.csv", test1 / "match.csv"):
        _write_table(path, matches, ",")


def _copy_pictures(folder: Path, paths: Sequence[Path], picture: NDArray[np.int64], progress: Progress) -> list[str]:
    """Copy each picture once; returns its new name for each row."""
    (folder / "img").mkdir(parents=True)
    names = [f"img/{number}{path.suffix}" for number, path in zip(picture + 1, paths, strict=True)]
    copies = dict(zip(names, paths, strict=True))
    progress("pictures", 0, len(copies))
    for done, (name, path) in enumerate(copies.items(), start=1):
        shutil.copyfile(path, folder / name)
        progress("pictures", done, len(copies))
    return names
