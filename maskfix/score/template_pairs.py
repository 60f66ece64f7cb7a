"""Scores of template pairs: blocks of the gallery x probe matrix, from which the wanted pairs are picked."""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskfix.base import BoolArray, FloatArray, InputError, check_dtype, check_shape
from maskfix.score.templates import Rows, check_rows

_BLOCK_BYTES = 15 * 2**20
"""Bytes of a block of the gallery x probe matrix; less makes the product slower, more fits no cache."""

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
    threads as the library that multiplies has, at most 8, each take a block at a time. Beside the inputs and the scores
    30 MB are held for each thread, however long the list is.

    Products are oneDNN's, which comes with torch and knows every x86 processor, where torch is imported already, as in
    runs that embed or complete; otherwise NumPy's, since torch takes longer to import than it saves.

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
    if len(out):
        _fill(gallery_features, probe_features, gallery_rows, probe_rows, out)
    if not (filled[0].all() and filled[1].all()):
        for piece in _cut(len(out), _PAIRS_AT_ONCE):
            out[piece][~(filled[0][gallery_rows[piece]] & filled[1][probe_rows[piece]])] = -np.inf
    return out


def _fill(gallery: FloatArray, probe: FloatArray, gallery_rows: Rows, probe_rows: Rows, out: FloatArray) -> None:
    """Write the scores of all pairs, those with zeros as well, block by block."""
    pieces = _cut(len(out), _PAIRS_AT_ONCE)
    ends = [(int(gallery_rows[piece].min()), int(gallery_rows[piece].max())) for piece in pieces]
    blocks = _cut(len(gallery), max(1, _BLOCK_BYTES // (4 * len(probe))))

    def fill(rows: slice) -> None:
        take = multiply(rows)
        for piece, (lowest, highest) in zip(pieces, ends, strict=True):
            if lowest < rows.stop and highest >= rows.start:
                # Lists are sorted by gallery template as a rule; then nearly every piece lies in one block as a whole.
                is_whole = lowest >= rows.start and highest < rows.stop
                inside = slice(None) if is_whole else _are_in(rows, gallery_rows[piece])
                cells = _cells(rows, len(probe), gallery_rows[piece][inside], probe_rows[piece][inside])
                out[piece][inside] = take(cells)

    with _product(gallery, probe) as (multiply, threads, hold):
        if threads <= 1:
            for rows in blocks:
                fill(rows)
        else:
            with ThreadPoolExecutor(min(threads, len(blocks), _MOST_THREADS), initializer=hold) as pool:
                list(pool.map(fill, blocks))


Take = Callable[[NDArray[np.int32]], FloatArray]
"""From cells of a flattened block to their scores, within [-1, 1]."""

Multiply = Callable[[slice], Take]
"""From rows of the gallery to the block of their products with all probes, ready to be taken from."""


@contextlib.contextmanager
def _product(gallery: FloatArray, probe: FloatArray) -> Iterator[tuple[Multiply, int, Callable[[], Any]]]:
    """What multiplies, in how many threads it would, and what holds it to one in each thread of ours.

    Threads of our own do the picking as well, at which those of the library would stand idle; and they need not wait
    for each other after each product.
    """
    # glibc maps large pieces of memory anew for each product, which costs half as much as the product itself, until one
    # of this size was freed; from then on it keeps them.
    np.empty(2 * _BLOCK_BYTES, np.uint8)
    if not (_has_onednn() and gallery.shape[1]):
        from threadpoolctl import ThreadpoolController

        blas = ThreadpoolController().select(user_api="blas")
        threads = max((library["num_threads"] for library in blas.info()), default=1)
        # BLAS counts its threads for the whole process, so they are held here and not where they are used.
        with blas.limit(limits=1) if threads > 1 else contextlib.nullcontext():
            yield lambda rows: _numpy_take(gallery[rows] @ probe.T), threads, lambda: None
        return
    import torch

    some, all_probes = _as_tensor(gallery), _as_tensor(probe)

    @torch.inference_mode()
    def multiply(rows: slice) -> Take:
        # An input in oneDNN's own wrapping is what makes torch ask oneDNN: its other product is MKL's, which has no
        # kernels for the widest registers of AMD's processors.
        product = torch.nn.functional.linear(some[rows].to_mkldnn(), all_probes).to_dense().flatten()
        return lambda cells: product.index_select(0, torch.from_numpy(cells)).clamp_(-1, 1).numpy()

    def hold() -> None:
        # torch gives a new thread its count of threads at the first question, so it is asked before the count is set.
        torch.get_num_threads()
        _openmp().limit(limits=1)

    yield multiply, torch.get_num_threads(), hold


def _numpy_take(block: FloatArray) -> Take:
    return lambda cells: block.take(cells).clip(-1, 1)


@functools.cache
def _openmp() -> Any:
    """The OpenMP libraries that are loaded, torch's among them; to look through all of a process takes 2 ms."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="openmp")


def _has_onednn() -> bool:
    """Whether torch is imported and brings oneDNN."""
    if "torch" not in sys.modules:
        return False
    import torch

    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _as_tensor(features: FloatArray) -> Any:
    """Features as torch sees them, without a copy where they lie row by row."""
    import torch

    with warnings.catch_warnings():
        # Features mapped from a file may be read only; so are ours.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(np.ascontiguousarray(features))


def _cut(count: int, most: int) -> list[slice]:
    """The numbers from 0 to `count` in pieces of about one size, at most `most`."""
    step = math.ceil(count / max(1, math.ceil(count / most)))
    return [slice(start, min(start + step, count)) for start in range(0, count, max(1, step))]


def _are_in(rows: slice, gallery_rows: Rows) -> BoolArray:
    """Which of the pairs have their gallery template in the block of these rows."""
    return np.asarray((gallery_rows >= rows.start) & (gallery_rows < rows.stop))


def _cells(rows: slice, width: int, gallery_rows: Rows, probe_rows: Rows) -> NDArray[np.int32]:
    """Where in the block of these rows, flattened, the pairs lie; no block has more cells than 32 bits count."""
    cells: NDArray[np.int32] = np.subtract(gallery_rows, rows.start, dtype=np.int32, casting="unsafe")
    cells *= width
    np.add(cells, probe_rows, out=cells, casting="unsafe")
    return cells


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
