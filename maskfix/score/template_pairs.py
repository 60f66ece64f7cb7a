"""Scores of template pairs: blocks of the gallery x probe matrix, from which the wanted pairs are picked."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue

import numpy as np

from maskfix.base import BoolArray, FloatArray, InputError, check_dtype, check_shape
from maskfix.score.templates import Rows, check_rows

_BLOCK_BYTES = 20 * 2**20
"""Bytes of a block of the gallery x probe matrix; less makes the product of matrices slower, more fits no cache."""

_PAIRS_AT_ONCE = 1 << 16
"""Pairs picked out of a block at a time: half a megabyte of places, which stays in the cache."""

_MOST_THREADS = 8
"""Each thread holds a block of its own."""

_UNIT_TOLERANCE = 1e-3
"""Allowed distance of a template's length from 1, as in `cosine_scores`."""


def pair_scores(
    gallery_features: FloatArray,
    probe_features: FloatArray,
    gallery_rows: Rows,
    probe_rows: Rows,
    out: FloatArray | None = None,
) -> FloatArray:
    """Cosine similarity of each pair of templates; higher means more alike.

    Blocks of the gallery are multiplied with all probes, and the pairs that are wanted are picked out. That pays where
    the list fills a good part of the grid (IJB-C: a quarter); for a few pairs of many use `cosine_scores`. As many
    threads as NumPy's BLAS has, at most 8, each take a block at a time, and BLAS is held to one thread of its own
    meanwhile. Beside the inputs and the scores 20 MB are held for each thread, however long the list is.

    Args:
        gallery_features: Unit embeddings of the gallery templates, `(G, D)` float32; a row of zeros stands for a
            template without an embedding (`TemplatePooling.templates` gives them so).
        probe_features: The same of the probe templates, `(H, D)`.
        gallery_rows: Gallery template of each pair, `(P,)` integers in [0, G), in any order; fastest in rising order.
        probe_rows: Probe template of each pair, `(P,)` integers in [0, H).
        out: Where to write the scores, `(P,)` float32; a new array when None.

    Returns:
        `(P,)` float32 in [-1, 1]; -inf where a template has no embedding: a non-match at every threshold. Sums are
        rounded in the order that the matrix product takes, so scores are exact to about 1e-6; the number of threads
        changes nothing.

    Raises:
        InputError: On wrong shapes or types, a row outside its range, or an embedding that is neither unit nor zero.

    Example:
        >>> gallery = np.array([[1, 0]], dtype=np.float32)
        >>> probe = np.array([[0.6, 0.8], [0, 0]], dtype=np.float32)
        >>> pair_scores(gallery, probe, np.array([0, 0]), np.array([1, 0]))
        array([-inf,  0.6], dtype=float32)
    """
    filled = []
    for name, features in (("gallery_features", gallery_features), ("probe_features", probe_features)):
        check_dtype(name, features, np.float32)
        check_shape(name, features, (None, None))
        filled.append(_check_unit(name, features))
    check_shape("probe_features", probe_features, (None, gallery_features.shape[1]))
    gallery_rows = check_rows("gallery_rows", np.asarray(gallery_rows), len(gallery_features))
    probe_rows = check_rows("probe_rows", np.asarray(probe_rows), len(probe_features))
    check_shape("probe_rows", probe_rows, gallery_rows.shape)
    if out is None:
        out = np.empty(len(gallery_rows), dtype=np.float32)
    check_dtype("out", out, np.float32)
    check_shape("out", out, gallery_rows.shape)
    _fill(gallery_features, probe_features, gallery_rows, probe_rows, out)
    if not (filled[0].all() and filled[1].all()):
        for piece in _cut(len(out), _PAIRS_AT_ONCE):
            out[piece][~(filled[0][gallery_rows[piece]] & filled[1][probe_rows[piece]])] = -np.inf
    return out


def _fill(gallery: FloatArray, probe: FloatArray, gallery_rows: Rows, probe_rows: Rows, out: FloatArray) -> None:
    """Write the scores of all pairs, those with zeros as well, block by block."""
    pieces = _cut(len(out), _PAIRS_AT_ONCE)
    ends = [(int(gallery_rows[piece].min()), int(gallery_rows[piece].max())) for piece in pieces]
    blocks = _cut(len(gallery), max(1, _BLOCK_BYTES // (4 * max(1, len(probe)))))
    tallest = max((block.stop - block.start for block in blocks), default=0)
    buffers: SimpleQueue[FloatArray] = SimpleQueue()

    def fill(rows: slice) -> None:
        buffer = buffers.get()
        block = np.matmul(gallery[rows], probe.T, out=buffer[: rows.stop - rows.start])
        for piece, (lowest, highest) in zip(pieces, ends, strict=True):
            if lowest < rows.stop and highest >= rows.start:
                is_whole = lowest >= rows.start and highest < rows.stop
                _pick(block, rows.start, gallery_rows[piece], probe_rows[piece], out[piece], is_whole)
        buffers.put(buffer)

    with _blas_threads(len(blocks)) as threads:
        for _ in range(threads):
            buffers.put(np.empty((tallest, len(probe)), dtype=np.float32))
        if threads == 1:
            for rows in blocks:
                fill(rows)
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(fill, blocks))


def _cut(count: int, most: int) -> list[slice]:
    """The numbers from 0 to `count` in pieces of about one size, at most `most`."""
    step = math.ceil(count / max(1, math.ceil(count / most)))
    return [slice(start, min(start + step, count)) for start in range(0, count, max(1, step))]


@contextlib.contextmanager
def _blas_threads(most: int) -> Iterator[int]:
    """How many threads BLAS has, at most `most`, held to one for each that calls it until the end of the block.

    Threads of our own do the picking as well, at which those of BLAS would stand idle; and they need not wait for each
    other after each product.
    """
    from threadpoolctl import ThreadpoolController

    blas = ThreadpoolController().select(user_api="blas")
    threads = min(most, _MOST_THREADS, max((library["num_threads"] for library in blas.info()), default=1))
    if threads <= 1:
        yield 1
        return
    with blas.limit(limits=1, user_api="blas"):
        yield threads


def _pick(block: FloatArray, start: int, gallery_rows: Rows, probe_rows: Rows, out: FloatArray, is_whole: bool) -> None:
    """Write the scores of the pairs whose gallery template is in the block of rows that begins with `start`.

    Lists are sorted by gallery template as a rule; then nearly every piece of one lies in a block as a whole.
    """
    cells = gallery_rows.astype(np.int64)
    cells -= start
    inside = slice(None) if is_whole else (cells >= 0) & (cells < len(block))
    cells = cells[inside]
    cells *= block.shape[1]
    cells += probe_rows[inside]
    out[inside] = np.take(block, cells).clip(-1, 1)


def _check_unit(name: str, features: FloatArray) -> BoolArray:
    """Check that embeddings have unit length or are zero; gives which are not zero."""
    lengths = np.sqrt(np.einsum("td,td->t", features, features))
    filled = np.asarray(lengths != 0)
    wrong = filled & ~(np.abs(lengths - 1) <= _UNIT_TOLERANCE)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{name}: template {row} has length {lengths[row]:.4g}, expected 1, or 0 for a template without embedding"
        )
    return filled
