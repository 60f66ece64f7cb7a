"""The held-out faces: always the same ones."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from maskfix.base import InputError
from maskfix.data import held_out

NAMES = [f"folder/{i}_0_1.jpg" for i in range(4000)]


def test_pinned() -> None:
    """These must never change: a released network was trained on the others."""
    names = ["a.jpg", "b.jpg", "c.jpg", "d/e.png", "Ä.png", ""]
    expected = [int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) / 2**64 < 0.4 for name in names]
    assert held_out(names, 0.4).tolist() == expected
    assert held_out(names, 0.4).tolist() == [True, False, False, True, True, False]


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.97])
def test_share(share: float) -> None:
    marked = held_out(NAMES, share)
    assert marked.dtype == np.bool_
    spread = 4 * np.sqrt(share * (1 - share) / len(NAMES))
    assert marked.mean() == pytest.approx(share, abs=spread)


def test_none_and_all() -> None:
    assert not held_out(NAMES, 0).any()
    assert held_out(NAMES, 1).all()
    assert held_out([], 0.5).shape == (0,)


def test_other_files_change_nothing() -> None:
    order = np.random.default_rng(0).permutation(len(NAMES))[:1000]
    some = held_out([NAMES[i] for i in order], 0.3)
    np.testing.assert_array_equal(some, held_out(NAMES, 0.3)[order])


def test_a_larger_share_holds_the_smaller_one() -> None:
    assert (held_out(NAMES, 0.1) <= held_out(NAMES, 0.2)).all()


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_no_share(share: float) -> None:
    with pytest.raises(InputError, match=r"share: expected a number in \[0, 1\]"):
        held_out(NAMES, share)
