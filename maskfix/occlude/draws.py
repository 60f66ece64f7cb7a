"""Which mask a picture gets: a draw that depends on (image id, role, seed) and on nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from maskfix.base import InputError
from maskfix.occlude.kinds import PAPER_KINDS


def generator_for(image_id: str, role: str, seed: int) -> np.random.Generator:
    """Make the random generator of one picture in one role.

    The order of the pictures, the number of workers and earlier draws do not matter: the state comes from a SHA-256
    of the triple alone.

    Args:
        image_id: What names the picture in its data set, for example `Aaron_Peirsol/Aaron_Peirsol_0001`; bytes that are
            no UTF-8 as `os.fsdecode` gives them.
        role: What the picture is used for, for example `probe` or `train`.
        seed: Seed of the whole run, any integer.

    Example:
        >>> first, second = generator_for("a", "probe", 0), generator_for("a", "probe", 0)
        >>> bool(first.random() == second.random())
        True
    """
    # The lengths keep ("ab", "c") and ("a", "bc") apart whatever the texts hold.
    text = f"{len(image_id)}:{image_id}|{len(role)}:{role}|{int(seed)}"
    digest = hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def draw_kind(image_id: str, role: str, seed: int, kinds: Sequence[str] = PAPER_KINDS) -> str:
    """Draw the kind of mask for one picture in one role, uniformly.

    Args:
        image_id: What names the picture in its data set.
        role: What the picture is used for.
        seed: Seed of the whole run.
        kinds: The kinds to draw from, at least one.

    Raises:
        InputError: If `kinds` is empty.

    Example:
        >>> draw_kind("a", "probe", 0) == draw_kind("a", "probe", 0)
        True
    """
    if not kinds:
        raise InputError("kinds: expected at least one mask kind to draw from, got none")
    return kinds[int(generator_for(image_id, role, seed).integers(len(kinds)))]
