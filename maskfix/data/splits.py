"""Which faces train and which are held out: decided by the file's name, so that it never changes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from maskfix.base import BoolArray, check_range


def held_out(names: Sequence[str], share: float) -> BoolArray:
    """Mark a fixed share of names as held out, by their hash: adding a file moves no other file.

    Args:
        names: Image names.
        share: Share held out, in [0, 1].

    Returns:
        `(N,)` bool, True where held out.

    Example:
        >>> held_out(["a.jpg", "b.jpg"], 0.0).tolist()
        [False, False]
    """
    check_range("share", share, 0, 1)
    digits = [hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8] for name in names]
    numbers = np.array([int.from_bytes(digit, "big") for digit in digits], np.uint64)
    return np.asarray(numbers < np.uint64(min(int(share * 2.0**64), 2**64 - 1)), np.bool_)
