"""The usual way to score pairs of templates, which `benchmarks.scoring` measures ours against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.scoring_data import Pairs
from maskfix.base import DoubleArray, FloatArray

LOOP_BATCH = 100_000


def gather_loop(
    features: DoubleArray, place: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]
) -> DoubleArray:
    """Pair scores the usual way, as eval_ijbc.py goes: batches of 100,000, both sides gathered, multiplied, summed.

    Names of arrays matter here: what has one is not written over by the product, and lives until the next batch has
    another, so that each batch takes fresh memory for all three, as there.

    Args:
        features: Embeddings of all templates, `(T, D)` float64.
        place: Row of a template id, `(largest id + 1, 1)`; its second axis makes the gathered arrays `(100000, 1, D)`.
        first: Gallery template's id of each pair, `(P,)`.
        second: Probe template's id, `(P,)`.
    """
    scores = np.zeros(len(first))
    numbers = np.arange(len(first))
    for start in range(0, len(first), LOOP_BATCH):
        batch = numbers[start : start + LOOP_BATCH]
        one = features[place[first[batch]]]
        other = features[place[second[batch]]]
        cosine = np.sum(one * other, -1)
        scores[batch] = cosine.flatten()
    return scores


def loop_inputs(
    pairs: Pairs, gallery: FloatArray, probe: FloatArray, some: slice
) -> tuple[DoubleArray, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """What `gather_loop` takes, for some of the pairs: ids from 1 on, those of the gallery first."""
    features = np.concatenate([gallery, probe]).astype(np.float64)
    place = np.arange(-1, len(features)).reshape(-1, 1)
    first, second = (side[some].astype(np.int64) for side in pairs[:2])
    return features, place, first + 1, second + len(gallery) + 1
