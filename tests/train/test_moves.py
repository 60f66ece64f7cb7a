"""Crops cut askew."""

from __future__ import annotations

import numpy as np
import pytest

from maskfix.train import moves
from maskfix.train.moves import draw_move, move

IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])


def drawn(count: int = 400) -> np.ndarray:
    generator = np.random.default_rng(0)
    return np.stack([draw_move(generator, 128, 18, 20, 0.3) for _ in range(count)])


def test_draw_move__a_similarity_within_its_limits() -> None:
    matrices = drawn()
    linear = matrices[:, :, :2]
    scale = np.sqrt(np.linalg.det(linear))
    np.testing.assert_allclose(linear @ linear.transpose(0, 2, 1), scale[:, None, None] ** 2 * np.eye(2), atol=1e-9)
    middle = np.full(2, 63.5)
    shifts = linear @ middle + matrices[:, :, 2] - middle
    turns = np.degrees(np.arctan2(linear[:, 1, 0], linear[:, 0, 0]))
    for values, limit in ((np.log(scale), 0.3), (turns, 20), (shifts[:, 0], 18), (shifts[:, 1], 18)):
        assert 0.7 * limit < values.max() <= limit
        assert -limit <= values.min() < -0.7 * limit
        # Small moves come up as often as large ones.
        assert np.median(np.abs(values)) < 0.3 * limit
    assert np.corrcoef(np.abs(turns), np.abs(np.log(scale)))[0, 1] > 0.15, "one draw for how far"


def test_move__takes_the_points_along() -> None:
    crop = np.zeros((128, 128, 3), np.uint8)
    crop[60:63, 50:53] = 255
    beyond = np.zeros_like(crop)
    generator = np.random.default_rng(1)
    for _ in range(30):
        matrix = draw_move(generator, 128, 10, 15, 0.2)
        moved = move(crop, matrix, beyond, generator)
        # Coloured borders are as bright as anything; the square is the brightest thing away from them.
        expected = matrix[:, :2] @ [51, 61] + matrix[:, 2]
        near = moved[:, :, 0].astype(float)
        rows, columns = np.mgrid[:128, :128]
        near[np.hypot(columns - expected[0], rows - expected[1]) > 12] = 0
        near[near < 60] = 0
        found = np.array([(near * columns).sum(), (near * rows).sum()]) / near.sum()
        assert np.abs(found - expected).max() < 0.6


def test_move__edges_tell_nothing() -> None:
    """The picture ends elsewhere each time, though nothing is moved."""
    crop, other = np.full((128, 128, 3), 255, np.uint8), np.zeros((128, 128, 3), np.uint8)
    ends = set()
    for seed in range(80):
        moved = move(crop, IDENTITY, other, np.random.default_rng(seed))
        ends.add(int((moved[64, :64] < 255).all(-1).sum()))
    assert len(ends) > 8
    assert 12 <= max(ends) <= 14


@pytest.mark.parametrize(
    ("kind", "check"),
    [
        (0, lambda seen: seen[30, 0, 0] == 40),
        (1, lambda seen: (seen[30, :20, 0] == 20).all()),
        (2, lambda seen: len(np.unique(seen[:, :18].reshape(-1, 3), axis=0)) == 1),
        (3, lambda seen: seen[:, :18].std() > 10),
    ],
    ids=["reflection", "nearest", "colour", "picture"],
)
def test_move__what_stands_beyond(kind: int, check: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "_BEYOND", tuple(np.eye(4)[kind]))
    monkeypatch.setattr(moves, "_STRIPPED", 0)
    monkeypatch.setattr(moves, "_NARROW", 0)
    # A slope, so that each column has a number; moved 20 pixels to the right.
    crop = np.repeat(np.arange(20, 148, dtype=np.uint8)[None, :, None], 128, 0).repeat(3, 2)
    other = np.random.default_rng(0).integers(0, 256, crop.shape).astype(np.uint8)
    seen = move(crop, np.array([[1.0, 0, 20], [0, 1, 0]]), other, np.random.default_rng(3))
    assert check(seen)  # type: ignore[operator]
    np.testing.assert_array_equal(seen[:, 20:], crop[:, :-20])


def test_move__as_a_recognisers_crop_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moves, "_STRIPPED", 0)
    monkeypatch.setattr(moves, "_NARROW", 1)
    crop = np.random.default_rng(0).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    seen = move(crop, IDENTITY, crop, np.random.default_rng(0))
    np.testing.assert_array_equal(seen[:112, 8:120], crop[:112, 8:120])
    assert (seen[112:] == seen[111]).all()
    assert (seen[:, :8] == seen[:, 8:9]).all()
    assert (seen[:, 120:] == seen[:, 119:120]).all()


def test_move__leaves_what_it_is_given() -> None:
    crop = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    other, matrix, kept = crop[::-1].copy(), IDENTITY.copy(), crop.copy()
    for seed in range(20):
        assert move(crop, matrix, other, np.random.default_rng(seed)).shape == crop.shape
    np.testing.assert_array_equal(crop, kept)
    np.testing.assert_array_equal(other, kept[::-1])
    np.testing.assert_array_equal(matrix, IDENTITY)
