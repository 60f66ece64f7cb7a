"""Patterns on the masks of training."""

from __future__ import annotations

import numpy as np
import pytest

from maskfix.train.patterns import add_pattern

SIDE = 64
GREY = np.full((SIDE, SIDE, 3), 128, np.uint8)
LOWER = np.zeros((SIDE, SIDE), np.uint8)
LOWER[SIDE // 2 :] = 255


def drawn(seed: int, alpha: np.ndarray = LOWER) -> np.ndarray:
    return add_pattern(GREY, alpha, np.random.default_rng(seed))


def test_changes_the_mask_alone() -> None:
    for seed in range(30):
        changed = (drawn(seed) != GREY).any(2)
        assert not changed[: SIDE // 2].any()
        assert changed[SIDE // 2 :].any()


def test_half_a_mask_takes_half_a_pattern() -> None:
    for seed in range(10):
        whole = drawn(seed, np.full_like(LOWER, 255)).astype(int) - 128
        half = drawn(seed, np.full_like(LOWER, 127)).astype(int) - 128
        np.testing.assert_allclose(half, whole * 127 / 255, atol=1)


def test_draws_stripes_blotches_and_folds_in_one_colour_or_in_grey() -> None:
    kinds = set()
    colours = set()
    for seed in range(60):
        change = drawn(seed, np.full_like(LOWER, 255)).astype(float) - 128
        kinds.add(np.random.default_rng(seed).integers(3))
        spread = np.abs(change[..., 0] - change[..., 1]).max()
        colours.add(spread > 1)
        assert 1 < np.abs(change).max() <= 71
    assert kinds == {0, 1, 2}
    assert colours == {True, False}


def test_same_generator_same_pattern() -> None:
    np.testing.assert_array_equal(drawn(3), drawn(3))
    assert (drawn(3) != drawn(4)).any()


@pytest.mark.parametrize("level", [0, 255])
def test_stays_in_range(level: int) -> None:
    picture = np.full_like(GREY, level)
    for seed in range(20):
        found = add_pattern(picture, np.full_like(LOWER, 255), np.random.default_rng(seed)).astype(int)
        # Wrapping round would jump by more than any pattern's strength.
        assert np.abs(found - level).max() <= 71
