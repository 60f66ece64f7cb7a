"""`maskfix prepare`: folders of photographs become a store of aligned crops with their training targets."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from maskfix.align import LandmarkDetector, estimate_similarity, load_detector, transform_points, warp
from maskfix.base import (
    UNREADABLE_ARRAYS,
    DatasetError,
    FloatArray,
    ImageError,
    Landmarks,
    UInt8Array,
    canonical_layout,
    check_range,
    drop_leftovers,
    read_image,
    replacing,
)
from maskfix.base.processes import in_processes
from maskfix.data.correspondence import correspondence_target
from maskfix.data.faces import STORE_FILES, list_pictures, read_records, write_layout

# Where a chunk goes, its pictures by name, and the side of its crops.
_Job = tuple[Path, list[tuple[str, Path]], int]

_CHUNK = 256
_COLUMNS = 4
_NOTE = "source.txt"
_COMPARED = 64
_DETECTOR: LandmarkDetector | None = None


def prepare_faces(
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    size: int = 128,
    workers: int | None = None,
    track: Callable[[Iterable[int], int], Iterable[int]] | None = None,
) -> pd.DataFrame:
    """Detect, align and describe every picture of some folders; a killed run continues where it stopped.

    Writes `crops.npy`, `points.npy`, `correspondence.npy`, `frames.npy`, `layout.json` and `records.csv` (a row for
    every picture, also for those that failed, with the reason, and the hash of the file: a run goes on with the same
    pictures only). Pixels outside a picture are its reflection: pictures
    cut close to the face would teach the network black borders otherwise.

    Args:
        images: Folder of pictures, or several, searched to any depth. Pictures are called by their place in their
            folder, from the second folder on with that folder's name in front: a folder that is added later leaves
            earlier names, and with them the split by `data.held_out`, as they were.
        out: Folder to write to; made if it is missing.
        size: Side of the crops in pixels.
        workers: Processes, at least 1; one per CPU when None.
        track: Wraps the stream of finished chunks, given their number, to show progress.

    Returns:
        The records: image, ok, reason, sha256.

    Raises:
        DatasetError: If a folder is missing or empty, if two pictures have one name, if no face was found at all, or
            if `out` holds a store or unfinished parts of other pictures, or a folder of the parts' name that is not
            maskfix's.
        DependencyError: If mediapipe is not installed.
        InputError: If there are fewer processes than one.
        MaskfixError: If a process dies.
    """
    if workers is not None:
        check_range("workers", workers, 1, 1024)
    folders = [Path(images)] if isinstance(images, str | Path) else [Path(folder) for folder in images]
    out = Path(out)
    pictures = _named(folders)
    _refuse_another_store(out, pictures)
    parts = out / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    # The names count, not only how many they are: parts are told apart by their place in the list.
    names = "\n".join(pictures)
    places = " ".join(str(folder.resolve()) for folder in folders)
    _claim(parts, f"{places} {size} {hashlib.sha256(names.encode(errors='surrogateescape')).hexdigest()}")
    rows = list(pictures.items())
    chunks = [rows[i : i + _CHUNK] for i in range(0, len(rows), _CHUNK)]
    todo = [i for i in range(len(chunks)) if not _whole(parts / f"{i:05d}.npz")]
    jobs = [(parts / f"{i:05d}.npz", chunks[i], size) for i in todo]
    drop_leftovers([*(path for path, _, _ in jobs), *(out / name for name in STORE_FILES)])
    done = in_processes(_prepare_chunk, jobs, workers or os.cpu_count() or 1)
    for _ in track(done, len(jobs)) if track else done:
        pass
    return _collect(out, parts, len(chunks), size)


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    """Every picture by its name in the store."""
    found: dict[str, Path] = {}
    for number, folder in enumerate(folders):
        for picture in list_pictures(folder):
            name = picture.relative_to(folder).as_posix()
            name = f"{folder.resolve().name}/{name}" if number else name
            if found.setdefault(name, picture) is not picture:
                raise DatasetError(
                    f"{picture}: would be called {name} as {found[name]} is; rename one of their folders"
                )
    return found


def _refuse_another_store(out: Path, pictures: Mapping[str, Path]) -> None:
    """Raise if a finished store lies there that has none of these pictures: it would be lost.

    Pictures may be added and left out, which makes the store anew. Numbered names are everywhere, so that a few
    pictures of one name are compared by their hashes.
    """
    try:
        records = read_records(out)
        stored = dict(zip(records["image"], records["sha256"], strict=True))
    except (OSError, ValueError, KeyError):  # None, damaged, or of an earlier version, which had no hashes.
        return
    same_names = [name for name in stored if name in pictures]
    if not any(_sha256(pictures[name]) == stored[name] for name in same_names[:_COMPARED]):
        raise DatasetError(
            f"{out}: holds {len(stored)} other pictures, such as {next(iter(stored), '')}, which would be lost; choose "
            f"another --out, name their folder with --images too, or remove {out / 'records.csv'}"
        )


def _claim(parts: Path, identity: str) -> None:
    """Note whose parts these are, or refuse those of another run and a folder that is the user's own."""
    note, encoded = parts / _NOTE, identity.encode(errors="surrogateescape")
    if note.exists() and note.read_bytes() != encoded:
        raise DatasetError(
            f"{parts}: holds unfinished parts of other pictures; remove the folder or choose another --out"
        )
    if not note.exists() and any(".maskfix-" not in path.name for path in parts.iterdir()):
        raise DatasetError(f"{parts}: maskfix keeps unfinished parts there, and these are none; choose another --out")
    with replacing(note) as temporary:
        temporary.write_bytes(encoded)


def _whole(part: Path) -> bool:
    """Whether a part is there, undamaged (after a power cut it may not be), and of today's columns."""
    try:
        with zipfile.ZipFile(part) as archive, np.load(part) as arrays:
            return archive.testzip() is None and arrays["rows"].shape[1:] == (_COLUMNS,)
    except UNREADABLE_ARRAYS:
        return False


def _drop(parts: Path) -> None:
    """Remove the parts, and last of all the note that says whose they are: of a process killed meanwhile it stays."""
    for part in parts.glob("[0-9]*.npz"):
        part.unlink()
    (parts / _NOTE).unlink(missing_ok=True)
    # What else lies there by now is the user's.
    with contextlib.suppress(OSError):
        parts.rmdir()


def _prepare_chunk(job: _Job) -> int:
    """Prepare one chunk of pictures in a worker process; its file appears whole or not at all."""
    global _DETECTOR
    path, pictures, size = job
    if _DETECTOR is None:
        _DETECTOR = load_detector("mesh")
    rows, crops, points, targets, frames = [], [], [], [], []
    for name, picture in pictures:
        digest = _sha256(picture)
        try:
            photo = read_image(picture)
        except ImageError as error:
            rows.append((name, False, str(error), digest))
            continue
        [found] = _DETECTOR.detect([photo])
        rows.append((name, found.ok, found.reason, digest))
        if found.ok:
            crop, point, target, frame = prepare_face(photo, found, size)
            crops.append(crop)
            points.append(point)
            targets.append(target)
            frames.append(frame)
    arrays: dict[str, Any] = {
        "crops": np.array(crops, np.uint8).reshape(-1, size, size, 3),
        "points": np.array(points, np.float32).reshape(-1, 6, 2),
        "correspondence": np.array(targets, np.uint8).reshape(-1, size, size, 2),
        "frames": np.array(frames, np.float32).reshape(-1, 4, 2),
        "rows": np.array(rows, dtype=np.str_).reshape(-1, _COLUMNS),
    }
    with replacing(path) as temporary:
        np.savez(temporary, **arrays)
    return len(pictures)


def _sha256(picture: Path) -> str:
    """Hash of a picture's file; nothing where it cannot be read."""
    try:
        with picture.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def prepare_face(
    photo: UInt8Array, found: Landmarks, size: int
) -> tuple[UInt8Array, FloatArray, UInt8Array, FloatArray]:
    """Crop, mask points, correspondence target and frame of one detected face.

    Args:
        photo: `(H, W, 3)` uint8 RGB.
        found: Landmarks with a mesh.
        size: Side S of the crop in pixels.

    Returns:
        `(S, S, 3)` uint8, `(6, 2)` float32 in pixels of the crop, `(S, S, 2)` uint8, and `(4, 2)` float32: the corners
        of the photograph in pixels of the crop, outer edges of its outermost pixels.

    Raises:
        DatasetError: If the landmarks hold no mesh.
    """
    if found.five is None or found.mask is None or found.mesh is None:
        raise DatasetError("landmarks: no mesh; correspondence targets need the mesh detector")
    layout = canonical_layout(size)
    matrix = estimate_similarity(found.five, layout.array)
    crop = warp(photo, matrix, size, border="reflect")
    points = transform_points(matrix, found.mask).astype(np.float32)
    mesh = np.column_stack([transform_points(matrix, found.mesh[:, :2]), found.mesh[:, 2] * np.hypot(*matrix[0, :2])])
    height, width = photo.shape[:2]
    edges = np.array([[0, 0], [width, 0], [width, height], [0, height]]) - 0.5
    frame = transform_points(matrix, edges).astype(np.float32)
    return crop, points, correspondence_target(mesh, size), frame


def _collect(out: Path, parts: Path, chunks: int, size: int) -> pd.DataFrame:
    """Join the parts into the store's files, then drop the parts."""

    def stored(key: str) -> Iterator[NDArray[Any]]:
        for index in range(chunks):
            with np.load(parts / f"{index:05d}.npz") as part:
                yield part[key]

    rows = np.concatenate(list(stored("rows")))
    # As objects: pandas' own strings cannot hold names that are no UTF-8.
    image, reason = (pd.Series(rows[:, column], dtype=object) for column in (0, 2))
    records = pd.DataFrame({"image": image, "ok": rows[:, 1] == "True", "reason": reason, "sha256": rows[:, 3]})
    faces = int(records["ok"].sum())
    if not faces:
        _drop(parts)
        raise DatasetError(f"{out}: no face found in any of {len(records)} pictures; are these photographs of faces?")
    # Written last: a store that is replaced is none until all of it is.
    (out / "records.csv").unlink(missing_ok=True)
    shapes = {"crops": (size, size, 3), "points": (6, 2), "correspondence": (size, size, 2), "frames": (4, 2)}
    for key, shape in shapes.items():
        dtype = np.float32 if key in ("points", "frames") else np.uint8
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (faces, *shape)}
        # Not mapped into memory: a full disk would end the process without a word.
        with replacing(out / f"{key}.npy") as temporary, temporary.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, header)  # type: ignore[no-untyped-call]
            for part in stored(key):
                stream.write(part.astype(dtype, copy=False).tobytes())
    write_layout(out, canonical_layout(size))
    with replacing(out / "records.csv") as temporary:
        records.to_csv(temporary, index=False, errors="surrogateescape")
    _drop(parts)
    return records
