"""Prints and valves on the masks of training."""

from __future__ import annotations

import numpy as np

from maskfix.base import UInt8Array
from maskfix.train.prints import add_print, add_valves

SIDE = 64
GREY = np.full((SIDE, SIDE, 3), 128, np.uint8)
LOWER = np.zeros((SIDE, SIDE), np.uint8)
LOWER[SIDE // 2 :] = 255
POINTS = np.array([[12, 32], [32, 26], [52, 32], [16, 44], [32, 58], [48, 44]], np.float32)
OTHER = np.random.default_rng(7).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
SEEDS = range(40)


def printed(seed: int, picture: UInt8Array = GREY, alpha: UInt8Array = LOWER) -> UInt8Array:
    return add_print(picture, alpha, OTHER, np.random.default_rng(seed))


class TestPrint:
    def test_changes_the_mask_alone(self) -> None:
        changed = np.stack([(printed(seed) != GREY).any(2) for seed in SEEDS])
        assert not changed[:, : SIDE // 2].any()
        assert changed.any((1, 2)).mean() > 0.9

    def test_half_a_mask_takes_half_a_print(self) -> None:
        whole, half = (np.full_like(LOWER, level) for level in (254, 127))
        for seed in SEEDS:
            change = printed(seed, alpha=whole).astype(int) - 128
            np.testing.assert_allclose(printed(seed, alpha=half).astype(int) - 128, change / 2, atol=1)

    def test_colours_are_stronger_than_a_pattern_makes_them(self) -> None:
        """A pattern moves a pixel by 70 at most; red on grey cloth is further away."""
        spread = [np.ptp(printed(seed).astype(int), axis=2).max() for seed in SEEDS]
        assert np.mean(np.array(spread) > 140) > 0.5

    def test_pieces_of_the_other_picture(self) -> None:
        """About half of the prints depend on the other picture, and no more."""
        whole = np.full_like(LOWER, 255)
        differs = [
            (add_print(GREY, whole, 255 - OTHER, np.random.default_rng(seed)) != printed(seed, alpha=whole)).any()
            for seed in range(100)
        ]
        assert 35 <= sum(differs) <= 65

    def test_folds_stay(self) -> None:
        """A print is brighter where the mask is."""
        lit = GREY.copy()
        lit[:, SIDE // 2 :] = 190
        whole = np.full_like(LOWER, 255)
        for seed in SEEDS:
            plain, found = printed(seed, alpha=whole).astype(int), printed(seed, lit, whole).astype(int)
            gain = found - plain
            assert (gain[:, SIDE // 2 :] >= -1).all()
            assert gain[:, SIDE // 2 :].mean() > 3
            assert (gain[:, : SIDE // 2] <= 1).all()

    def test_same_generator_same_print(self) -> None:
        np.testing.assert_array_equal(printed(3), printed(3))
        assert (printed(3) != printed(4)).any()


class TestValves:
    def test_opaque_where_the_picture_changes(self) -> None:
        bare = np.zeros_like(LOWER)
        for seed in SEEDS:
            picture, alpha = add_valves(GREY, bare, POINTS, np.random.default_rng(seed))
            assert (alpha == 255).any()
            np.testing.assert_array_equal(picture[alpha == 0], GREY[alpha == 0])
            assert (picture[alpha == 255] != 128).any()

    def test_the_mask_stays(self) -> None:
        """The discs are added to what is opaque already, and some reach past it."""
        mask, beyond = LOWER.copy(), 0
        mask[:, :12] = mask[:, 52:] = 0
        for seed in SEEDS:
            _, alpha = add_valves(GREY, mask, POINTS, np.random.default_rng(seed))
            assert (alpha >= mask).all()
            beyond += bool((alpha > mask).any())
        assert 0 < beyond < len(SEEDS)

    def test_one_in_the_middle_or_on_a_side_or_a_pair(self) -> None:
        places = set()
        for seed in range(80):
            _, alpha = add_valves(GREY, np.zeros_like(LOWER), POINTS, np.random.default_rng(seed))
            rows, columns = np.nonzero(alpha > 127)
            assert rows.min() > POINTS[1, 1]
            left, right = (columns < 30).mean(), (columns > 34).mean()
            places.add("pair" if min(left, right) > 0.3 and (alpha[:, 31:34] == 0).all() else round(right - left))
        assert places == {"pair", -1, 0, 1}

    def test_same_generator_same_valves(self) -> None:
        first, again = (add_valves(GREY, LOWER, POINTS, np.random.default_rng(3)) for _ in range(2))
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])
