"""What teachers make of the training faces, computed once: the targets of a recogniser's distillation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from maskfix.align import recrop
from maskfix.base import (
    UNREADABLE_ARRAYS,
    CheckpointError,
    DoubleArray,
    FloatArray,
    InputError,
    drop_leftovers,
    replacing,
)
from maskfix.data import FaceStore
from maskfix.embed import unit_rows
from maskfix.embed.base import Embedder
from maskfix.train.loop import Progress

_BLOCK = 256


def teacher_embeddings(
    store: FaceStore, embedder: Embedder, folder: str | Path, progress: Progress | None = None
) -> FloatArray:
    """Embed every face of a store with one teacher; goes on where a killed run stopped, block by block.

    Args:
        store: Prepared faces.
        embedder: The teacher.
        folder: Where `teacher-HASH-HASH.npy` is kept, by the teacher and the faces.
        progress: Called after each block with the number of faces done.

    Returns:
        `(N, D)` float32 of unit length.

    Raises:
        CheckpointError: If the kept file is damaged or was made of another number of faces.
    """
    faces = hashlib.sha256("\n".join([store.sha256, *store.names]).encode(errors="surrogateescape")).hexdigest()
    path = Path(folder) / f"teacher-{embedder.sha256[:16]}-{faces[:16]}.npy"
    drop_leftovers([path])
    done = _kept(path, len(store), embedder.dimension)
    blocks = [done]
    for start in range(len(done), len(store), _BLOCK):
        crops = recrop(store.crops[start : start + _BLOCK], embedder.layout)
        blocks.append(embedder.embed(crops))
        if progress:
            progress(start + len(crops), {})
        if len(blocks) > 10 or start + _BLOCK >= len(store):
            blocks = [np.concatenate(blocks)]
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary, temporary.open("wb") as stream:
                np.save(stream, blocks[0])
    return np.concatenate(blocks)


def _kept(path: Path, faces: int, dimension: int) -> FloatArray:
    """The rows that an earlier run wrote."""
    if not path.is_file():
        return np.zeros((0, dimension), np.float32)
    try:
        rows: FloatArray = np.load(path, allow_pickle=False)
    except UNREADABLE_ARRAYS as error:
        raise CheckpointError(f"{path}: damaged ({error}); remove it to embed the faces again") from error
    if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != dimension or len(rows) > faces:
        raise CheckpointError(f"{path}: holds {rows.shape} of {rows.dtype}, not up to {faces} faces; remove it")
    return rows


def joint_target(embeddings: Sequence[FloatArray], dimension: int) -> FloatArray:
    """One target of several teachers: the cosine of two targets is the mean of the teachers' centred cosines.

    Each teacher's embeddings are centred, since some (dlib's) all lie close together, scaled to unit length and put
    side by side; what lies beyond `dimension` principal axes is cut off.

    Args:
        embeddings: `(N, D)` each, the same faces in the same order.
        dimension: K, length of the student's embedding.

    Returns:
        `(N, K)` float32 of unit length.

    Raises:
        InputError: If there is no teacher, the teachers saw different numbers of faces, or fewer faces than K.

    Example:
        >>> rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
        >>> joint_target([rows, rows], 4).shape
        (40, 4)
    """
    counts = {len(rows) for rows in embeddings}
    if len(counts) != 1 or min(counts) < dimension:
        raise InputError(f"teachers: expected the same {dimension} or more faces of each, got {sorted(counts)}")
    centred = [unit_rows(rows - rows.mean(0)) for rows in embeddings]
    joined: DoubleArray = np.concatenate(centred, axis=1).astype(np.float64)
    # Not centred again: the axes must keep the cosines, not the spread around a mean.
    _, axes = np.linalg.eigh(joined.T @ joined)
    projected = joined @ axes[:, ::-1][:, :dimension]
    missing = max(0, dimension - projected.shape[1])
    return unit_rows(np.pad(projected, ((0, 0), (0, missing))))
