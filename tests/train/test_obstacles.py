"""Slipped masks, cut photographs, things before the face."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from maskfix.data import open_store
from maskfix.occlude import Occluder
from maskfix.train.config import ViewConfig
from maskfix.train.obstacles import cut_off, put_behind, slip_mask
from maskfix.train.views import OccludedViews


def test_cut_at_one_side_only() -> None:
    crop = np.full((64, 64, 3), 200, np.uint8)
    sides = set()
    for seed in range(40):
        cut = cut_off(crop, np.random.default_rng(seed))
        black = (cut == 0).all(-1)
        assert black.mean() <= 0.3
        if black.any():
            rows, columns = black.all(1), black.all(0)
            assert rows.any() != columns.any()
            assert black.sum() == 64 * (rows.sum() + columns.sum())
            sides.add((bool(rows[0]), bool(rows[-1]), bool(columns[0]), bool(columns[-1])))
    assert len(sides) == 4


def test_something_is_before_the_face() -> None:
    crop, other = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)
    shares = [(put_behind(crop, other, np.random.default_rng(s)) > 20).any(-1).mean() for s in range(60)]
    assert np.mean(np.array(shares) > 0.01) > 0.4
    assert max(shares) < 0.98


def test_slipped_masks_keep_their_lower_edge(store: Path) -> None:
    views = OccludedViews(open_store(store), ViewConfig(), [Occluder()])
    face = views.face(0, np.random.default_rng(0))
    moved = [slip_mask(face, np.random.default_rng(seed)).points for seed in range(20)]
    assert all((points[3:] == face.points[3:]).all() for points in moved)
    depths = [(points[1, 1] - face.points[1, 1]) / (face.points[4, 1] - face.points[1, 1]) for points in moved]
    assert 4 <= np.count_nonzero(depths) <= 16
    assert 0 <= min(depths) <= max(depths) <= 0.75
