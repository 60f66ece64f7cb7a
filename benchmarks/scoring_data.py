"""Scores, comparisons and template features of IJB-C's size, made in memory from a seed: for timing, not for accuracy.

Numbers of templates, rows and pairs are IJB-C's (protocols.md 2.1); persons, scores and features are drawn. A scale
below 1 makes a smaller data set of the same shape: pairs shrink with it, templates and rows with its root.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.base import BoolArray, FloatArray, check_range

DIMENSIONS = 512
METHODS = ("clean", "masked", "completed")

_SHIFT = {"clean": 0.55, "masked": 0.32, "completed": 0.40}
"""Mean genuine score of each method."""

_NOISE = {"clean": 2.5, "masked": 4.5, "completed": 3.5}
"""Length of what a picture adds to its person's direction, which has length 1."""

_PIECE = 1 << 20
_SMALLEST_SCALE = 1e-4


class Sizes(NamedTuple):
    """How much of everything.

    Attributes:
        gallery: Gallery templates, one a subject.
        probe: Probe templates; the last `unknown` of them have no gallery template.
        unknown: Probe templates without a genuine pair.
        gallery_rows: Face rows of the gallery templates.
        probe_rows: Face rows of the probe templates.
        pairs: Comparisons in all; one genuine for each known probe template.
    """

    gallery: int
    probe: int
    unknown: int
    gallery_rows: int
    probe_rows: int
    pairs: int

    @property
    def genuine(self) -> int:
        """Number of genuine pairs."""
        return self.probe - self.unknown


class Pairs(NamedTuple):
    """Comparisons, sorted by gallery template, then by probe template.

    Attributes:
        gallery: Gallery template of each pair, `(P,)` int32.
        probe: Probe template, `(P,)` int32.
        same: True for genuine pairs, `(P,)` bool.
    """

    gallery: NDArray[np.int32]
    probe: NDArray[np.int32]
    same: BoolArray


class FaceList(NamedTuple):
    """Face rows of some templates.

    Attributes:
        template: Template of each row, `(R,)` int32.
        media: Medium of each row, `(R,)` int32.
        score: Detector's score of each row, `(R,)` float32.
    """

    template: NDArray[np.int32]
    media: NDArray[np.int32]
    score: FloatArray


def ijbc_sizes(scale: float) -> Sizes:
    """Sizes of IJB-C, or of something smaller of the same shape.

    Args:
        scale: Share of the pairs, from 0.0001 to 1.

    Raises:
        InputError: If the scale is outside that range.

    Example:
        >>> ijbc_sizes(1.0)
        Sizes(gallery=3531, probe=19593, unknown=36, gallery_rows=11856, probe_rows=457519, pairs=15658489)
    """
    check_range("scale", scale, _SMALLEST_SCALE, 1.0)
    root = math.sqrt(scale)
    gallery, probe, unknown, gallery_rows, probe_rows = (
        max(1, round(count * root)) for count in (3531, 19593, 36, 11856, 457519)
    )
    return Sizes(gallery, probe, unknown, gallery_rows, probe_rows, round(15_658_489 * scale))


def probe_subjects(sizes: Sizes) -> NDArray[np.int32]:
    """Subject of each probe template, `(H,)` int32, -1 where unknown; gallery template i is that of subject i."""
    subject = np.arange(sizes.probe, dtype=np.int32) % sizes.gallery
    subject[sizes.genuine :] = -1
    return subject


def make_pairs(sizes: Sizes, seed: int = 0) -> Pairs:
    """All genuine pairs, and as many impostor pairs of the whole grid as there should be, each once."""
    known = np.arange(sizes.genuine)
    cells = probe_subjects(sizes)[known].astype(np.int64) * sizes.probe + known
    cells.sort()
    impostors = sizes.pairs - sizes.genuine
    stride = (sizes.gallery * sizes.probe - sizes.genuine) / impostors
    rng = np.random.default_rng(seed)
    chosen = np.empty(sizes.pairs, dtype=np.int32)
    gaps = cells - np.arange(sizes.genuine)
    for start in range(0, impostors, _PIECE):
        numbers = np.arange(start, min(start + _PIECE, impostors))
        # Never the same twice: each lies in the first part of a stretch of its own, one cell short of the next.
        free = np.floor(numbers * stride + rng.random(len(numbers)) * (stride - 1)).astype(np.int64)
        chosen[numbers] = free + np.searchsorted(gaps, free, side="right")
    chosen[impostors:] = cells
    chosen.sort()
    same = np.zeros(sizes.pairs, dtype=np.bool_)
    same[np.searchsorted(chosen, cells.astype(np.int32))] = True
    gallery, probe = np.divmod(chosen, np.int32(sizes.probe))
    return Pairs(gallery, probe, same)


def make_scores(sizes: Sizes, seed: int = 0) -> tuple[FloatArray, BoolArray]:
    """Scores without persons, in random order, and the flags of genuine pairs, both `(P,)`."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal(sizes.pairs, dtype=np.float32)
    scores *= np.float32(0.07)
    same = np.zeros(sizes.pairs, dtype=np.bool_)
    places = rng.choice(sizes.pairs, sizes.genuine, replace=False, shuffle=False)
    same[places] = True
    scores[places] = rng.normal(0.5, 0.18, sizes.genuine)
    return scores, same


def make_method_scores(sizes: Sizes, pairs: Pairs, seed: int = 0) -> dict[str, FloatArray]:
    """Scores of three methods that share the luck of persons and pictures, each `(P,)` float32."""
    rng = np.random.default_rng(seed)
    gallery_luck = rng.normal(0, 0.03, sizes.gallery).astype(np.float32)
    probe_luck = rng.normal(0, 0.03, sizes.probe).astype(np.float32)
    scores = {method: np.empty(sizes.pairs, dtype=np.float32) for method in METHODS}
    for start in range(0, sizes.pairs, _PIECE):
        gallery, probe, same = (column[start : start + _PIECE] for column in pairs)
        shared = gallery_luck[gallery] + probe_luck[probe]
        shared += 0.05 * rng.standard_normal(len(same), dtype=np.float32)
        genuine = same * (1 + 3 * gallery_luck[gallery] + 3 * probe_luck[probe])
        for method in METHODS:
            own = 0.04 * rng.standard_normal(len(same), dtype=np.float32)
            scores[method][start : start + _PIECE] = shared + own + _SHIFT[method] * genuine
    return scores


def make_faces(templates: int, rows: int, seed: int = 0) -> FaceList:
    """Face rows in the order of their templates, each template with at least one; about three rows a medium."""
    rng = np.random.default_rng(seed)
    extra = rng.integers(templates, size=max(0, rows - templates))
    template = np.sort(np.concatenate([np.arange(templates), extra])[:rows]).astype(np.int32)
    media = np.cumsum(rng.random(rows) < 1 / 3, dtype=np.int32)
    return FaceList(template, media, rng.uniform(0.6, 1, rows).astype(np.float32))


class FeatureSource:
    """Embeddings of face rows, drawn block by block where a recogniser would compute them.

    Args:
        sizes: How much of everything.
        seed: Seed of persons, templates and pictures.
    """

    def __init__(self, sizes: Sizes, seed: int = 0) -> None:
        self._seed = seed
        self._centres = np.random.default_rng([seed, 0]).standard_normal((sizes.gallery, DIMENSIONS), dtype=np.float32)

    def blocks(
        self, faces: FaceList, subject: NDArray[np.int32], method: str, rows: int = 2048
    ) -> Iterator[FloatArray]:
        """Embeddings `(n, 512)` of the next rows, in order; a template of unknown subject has none in common.

        Args:
            faces: The rows.
            subject: Subject of each template, -1 where unknown.
            method: One of `METHODS`.
            rows: Rows in a block.
        """
        noise = np.float32(_NOISE[method])
        for start in range(0, len(faces.template), rows):
            template = faces.template[start : start + rows]
            rng = np.random.default_rng([self._seed, 1 + METHODS.index(method), start])
            features = rng.standard_normal((len(template), DIMENSIONS), dtype=np.float32)
            features *= noise
            who = subject[template]
            features += np.where(who >= 0, 1, 0).astype(np.float32)[:, None] * self._centres[who]
            yield features
