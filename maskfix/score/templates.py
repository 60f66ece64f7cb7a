"""Template embeddings from face rows that stream by, in bounded memory.

A template is a set of pictures of one person. The rule is that of the IJB scripts (protocols.md 2.3): mean of the rows
of one medium (the frames of a video), sum over the media, unit length. As a weighted sum it needs no row twice: a row
of a medium with n rows in the template counts 1/n.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskfix.base import BoolArray, FloatArray, InputError, check_dtype, check_shape

Rows = NDArray[np.integer[Any]]

_ROWS_AT_ONCE = 1024
"""Rows weighted at a time: 2 MB for 512 numbers a row."""


class Templates(NamedTuple):
    """Embeddings of T templates.

    Attributes:
        features: `(T, D)` float32 of unit length; zeros where a template has none.
        filled: Whether a template has an embedding, `(T,)` bool.
    """

    features: FloatArray
    filled: BoolArray


class TemplatePooling:
    """Embeddings of templates, summed up while blocks of face rows come in.

    The sum of a template is built row by row in the order of the list, in float32, and each row is added by itself
    (`np.add.at`). So the result does not depend on how the rows were cut into blocks, to the bit, and neither on a run
    being killed: save `state_dict` after a block, and go on with row `rows_done`. The state is one `(T, D)` array,
    47 MB for the 23,124 templates of IJB-C.

    Args:
        template: Template of each face row, `(R,)` integers in [0, T).
        media: Medium of each row, `(R,)` integers; rows of one medium within a template are averaged first.
        score: Detector's score of each row, `(R,)`, at least 0; for a masked or completed probe that of the clean
            picture, so that only pixels differ between the methods.
        templates: Number of templates T.
        dimensions: Length D of an embedding.
        detector_score: Weight rows by the detector's score, as the IJB scripts do ("D1").
        keep_norm: Keep the length of each embedding, which is large for good pictures. With False each row is brought
            to unit length first. The scripts' flag `use_norm_score` means the first in one and the second in another.

    Raises:
        InputError: If shapes or types are wrong, a template is outside [0, T), or a score is negative or not finite.

    Example:
        >>> pooling = TemplatePooling([0, 0, 0], [5, 5, 9], [1, 1, 1], templates=2, dimensions=2)
        >>> pooling.add(np.array([[2, 0], [4, 0]], np.float32))
        >>> pooling.add(np.array([[0, 4]], np.float32))
        >>> pooling.templates()
        Templates(features=array([[0.6, 0.8],
               [0. , 0. ]], dtype=float32), filled=array([ True, False]))
    """

    def __init__(
        self,
        template: ArrayLike,
        media: ArrayLike,
        score: ArrayLike,
        *,
        templates: int,
        dimensions: int,
        detector_score: bool = True,
        keep_norm: bool = True,
    ) -> None:
        self._template = check_rows("template", np.asarray(template), templates).astype(np.int64)
        if templates < 1 or dimensions < 1:
            raise InputError(f"pooling: expected at least one template and dimension, got {templates} and {dimensions}")
        self._weight = row_weights(self._template, media)
        if detector_score:
            self._weight *= _check_score(np.asarray(score), len(self._template))
        self.keep_norm = keep_norm
        self.rows_done = 0
        self._sums = np.zeros((templates, dimensions), dtype=np.float32)

    @property
    def rows(self) -> int:
        """Number of face rows R in the list."""
        return len(self._template)

    def add(self, features: FloatArray, valid: BoolArray | None = None) -> None:
        """Add the next rows of the list.

        Args:
            features: Embeddings of the next n rows, `(n, D)` float32; with flipping, the sum of both embeddings.
            valid: False for rows that have no embedding, `(n,)` bool; their features are not read. They add nothing,
                and the mean of their medium still divides by all its rows.

        Raises:
            InputError: On a wrong shape or type, more rows than are left, or a valid row that is not finite or, without
                `keep_norm`, is zero. Nothing is added then.
        """
        check_dtype("features", features, np.float32)
        check_shape("features", features, (None, self._sums.shape[1]))
        count = len(features)
        if count > self.rows - self.rows_done:
            raise InputError(f"features: {count} rows, but of {self.rows} only {self.rows - self.rows_done} are left")
        if valid is not None:
            check_dtype("valid", valid, np.bool_)
            check_shape("valid", valid, (count,))
        lengths = np.sqrt(np.einsum("nd,nd->n", features, features))
        self._check_lengths(lengths, np.ones(count, dtype=np.bool_) if valid is None else valid)
        factor = self._weight[self.rows_done : self.rows_done + count]
        if not self.keep_norm:
            factor = np.divide(factor, lengths, where=lengths > 0, out=np.zeros_like(factor))
        places = self._template[self.rows_done : self.rows_done + count]
        for start in range(0, count, _ROWS_AT_ONCE):
            piece = slice(start, start + _ROWS_AT_ONCE)
            chosen = slice(None) if valid is None else valid[piece]
            weighted = features[piece][chosen] * factor[piece][chosen, None]
            np.add.at(self._sums, places[piece][chosen], weighted)
        self.rows_done += count

    def templates(self) -> Templates:
        """Unit embeddings of all templates from the rows added so far.

        A template without a row, or whose rows have no embedding or cancel out, has none.
        """
        lengths = np.sqrt(np.einsum("td,td->t", self._sums, self._sums))
        features = np.divide(self._sums, lengths[:, None], where=lengths[:, None] > 0, out=np.zeros_like(self._sums))
        return Templates(features, lengths > 0)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What is needed to go on later: a copy of the sums, the rows done, and a hash of list and options.

        All are plain arrays, fit for `np.savez`. Write them aside and rename (`maskfix.base.replacing`).
        """
        return {
            "sums": self._sums.copy(),
            "rows_done": np.array(self.rows_done, dtype=np.int64),
            "list": np.array(self._fingerprint()),
        }

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on where a saved run was; the next block begins with row `rows_done`.

        Args:
            state: What `state_dict` gave, or a file of `np.savez` with it.

        Raises:
            InputError: If something is missing, or the state belongs to another list, size or option.
        """
        missing = [name for name in ("sums", "rows_done", "list") if name not in state]
        if missing:
            raise InputError(f"pooling state: {missing[0]} is missing; start anew")
        sums, done, known = state["sums"], state["rows_done"], state["list"]
        if str(known) != self._fingerprint() or sums.shape != self._sums.shape or sums.dtype != np.float32:
            raise InputError("pooling state: it belongs to another list of faces, size or option; start anew")
        if not 0 <= int(done) <= self.rows:
            raise InputError(f"pooling state: {int(done)} rows done of {self.rows}; start anew")
        self._sums[:] = sums
        self.rows_done = int(done)

    def _check_lengths(self, lengths: FloatArray, valid: BoolArray) -> None:
        """Check that valid rows are finite and have a direction where one is needed."""
        wrong = valid & ~(np.isfinite(lengths) if self.keep_norm else (np.isfinite(lengths) & (lengths > 0)))
        if wrong.any():
            place = int(wrong.argmax())
            raise InputError(
                f"features: row {self.rows_done + place} has length {lengths[place]}; "
                "mark rows without an embedding by valid=False"
            )

    def _fingerprint(self) -> str:
        """Hash of the list and the options."""
        digest = hashlib.sha256(f"{self._sums.shape} {self.keep_norm}".encode())
        for column in (self._template, self._weight):
            digest.update(np.ascontiguousarray(column).data)
        return digest.hexdigest()


def row_weights(template: ArrayLike, media: ArrayLike) -> FloatArray:
    """Weight of each face row in the sum of its template: 1 / number of rows with its template and medium.

    Args:
        template: Template of each row, `(R,)` integers.
        media: Medium of each row, `(R,)` integers.

    Returns:
        `(R,)` float32 in (0, 1].

    Raises:
        InputError: If the shapes differ or the types are no integers.

    Example:
        >>> row_weights([0, 0, 0, 1], [5, 5, 9, 5])
        array([0.5, 0.5, 1. , 1. ], dtype=float32)
    """
    columns = [np.asarray(template), np.asarray(media)]
    for name, column in zip(("template", "media"), columns, strict=True):
        check_shape(name, column, (len(columns[0]),) if columns[0].ndim == 1 else (None,))
        if not np.issubdtype(column.dtype, np.integer):
            raise InputError(f"{name}: expected integers, got dtype {column.dtype}")
    if not len(columns[0]):
        return np.ones(0, dtype=np.float32)
    _, medium = np.unique(columns[1], return_inverse=True)
    groups = columns[0].astype(np.int64) * (int(medium.max()) + 1) + medium.reshape(-1)
    _, group, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weights: FloatArray = (1 / counts[group.reshape(-1)]).astype(np.float32)
    return weights


def check_rows(name: str, rows: Rows, count: int) -> Rows:
    """Check that `rows` are indices of `count` things."""
    check_shape(name, rows, (None,))
    if not np.issubdtype(rows.dtype, np.integer):
        raise InputError(f"{name}: expected integers, got dtype {rows.dtype}")
    # Read as unsigned, what is below 0 is above all that the type can hold: one look at millions of rows, not two.
    if len(rows) and rows.view(f"u{rows.dtype.itemsize}").max() >= min(count, np.iinfo(rows.dtype).max + 1):
        place = int(((rows < 0) | (rows >= count)).argmax())
        raise InputError(f"{name}: {int(rows[place])} at place {place} is outside [0, {count})")
    return rows


def _check_score(score: NDArray[Any], count: int) -> FloatArray:
    """Check the detector's scores and give them as float32."""
    check_shape("score", score, (count,))
    wrong = ~((score >= 0) & (score < np.inf))
    if wrong.any():
        place = int(wrong.argmax())
        raise InputError(
            f"score: row {place} has {score[place]}, expected a number from 0; use detector_score=False without scores"
        )
    return score.astype(np.float32)
