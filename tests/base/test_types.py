"""The records."""

from __future__ import annotations

import numpy as np

from maskfix.base import Landmarks


def test_ok_follows_the_five_points() -> None:
    assert Landmarks(np.zeros((5, 2), np.float32), None, None, 0.5, "").ok
    assert not Landmarks(None, None, None, 0.0, "no face found").ok
