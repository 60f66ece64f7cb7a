from __future__ import annotations

import numpy as np

from maskfix.embed.base import Embedder, unit_rows


class TestUnitRows:
    def test_lengths(self) -> None:
        rows = unit_rows(np.random.default_rng(0).normal(size=(5, 7)) * 1e-6)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)

    def test_zeros_stay_finite(self) -> None:
        assert unit_rows(np.zeros((1, 3))).tolist() == [[0, 0, 0]]


def test_protocol_refuses_other_things() -> None:
    assert not isinstance(object(), Embedder)
