"""The scoring benchmark's yardstick gives the same scores as a product of matrices."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import scoring_yardstick
from benchmarks.scoring_data import Pairs
from benchmarks.scoring_yardstick import gather_loop, loop_inputs


def test_gather_loop__batches(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    gallery, probe = rng.normal(size=(5, 8)).astype(np.float32), rng.normal(size=(7, 8)).astype(np.float32)
    rows = rng.integers(5, size=20).astype(np.int32), rng.integers(7, size=20).astype(np.int32)
    monkeypatch.setattr(scoring_yardstick, "LOOP_BATCH", 6)
    features, place, first, second = loop_inputs(Pairs(*rows, rows[0] == 0), gallery, probe, slice(3, 20))
    assert (features.dtype, features.shape, place.shape) == (np.float64, (12, 8), (13, 1))
    assert {first.dtype, second.dtype, place.dtype} == {np.dtype(np.int64)}
    expected = (gallery.astype(np.float64) @ probe.T.astype(np.float64))[rows]
    np.testing.assert_allclose(gather_loop(features, place, first, second), expected[3:])
