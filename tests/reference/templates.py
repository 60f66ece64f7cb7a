"""Slow twins of maskfix.score.templates: the steps of the IJB scripts, template by template and pair by pair."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Integers = NDArray[np.integer]


def slow_templates(
    features: Array,
    template: Integers,
    media: Integers,
    score: Array,
    templates: int,
    *,
    detector_score: bool,
    keep_norm: bool,
) -> NDArray[np.float64]:
    """Unit template features; zeros where a template has no row."""
    rows = features.astype(np.float64)
    if not keep_norm:
        rows = np.stack([row / np.linalg.norm(row) for row in rows])
    if detector_score:
        rows = np.stack([row * weight for row, weight in zip(rows, score, strict=True)])
    result = np.zeros((templates, features.shape[1]))
    for number in range(templates):
        own = np.flatnonzero(template == number)
        parts = [rows[[row for row in own if media[row] == medium]].mean(axis=0) for medium in sorted(set(media[own]))]
        if parts:
            total = np.sum(parts, axis=0)
            result[number] = total / np.linalg.norm(total)
    return result


def slow_pair_scores(gallery: Array, probe: Array, gallery_rows: Integers, probe_rows: Integers) -> list[float]:
    """Cosine of each pair; -inf where a side is zero."""
    scores = []
    for g, p in zip(gallery_rows, probe_rows, strict=True):
        one, other = gallery[g].astype(np.float64), probe[p].astype(np.float64)
        scores.append(float(one @ other) if one.any() and other.any() else -np.inf)
    return scores
