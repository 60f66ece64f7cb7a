"""What every verification metric checks first: scores, flags of genuine pairs, rates; and the split into classes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from maskfix.base import BoolArray, InputError, check_shape

Scores = NDArray[np.floating[Any]]


def split_scores(scores: ArrayLike, same: ArrayLike) -> tuple[Scores, Scores]:
    """Split scores in pair order into genuine and impostor scores.

    Args:
        scores: Score of each pair, `(P,)`; higher means more alike, -inf marks a failed pair.
        same: True for genuine pairs, `(P,)` bool.

    Returns:
        Genuine scores `(G,)` and impostor scores `(I,)`, in the order of the pairs.

    Raises:
        InputError: If the shapes differ, `same` is not boolean, a class is empty, or a score is nan or +inf.

    Example:
        >>> split_scores([0.9, 0.1, 0.8], [True, False, True])
        (array([0.9, 0.8]), array([0.1]))
    """
    values, flags = check_scores("scores", scores), check_same(same)
    check_shape("same", flags, values.shape)
    genuine, impostor = values[flags], values[~flags]
    if not len(genuine) or not len(impostor):
        raise InputError(f"same: expected pairs of both classes, got {len(genuine)} genuine, {len(impostor)} impostor")
    return genuine, impostor


def allowed_accepts(fpr: float, impostors: int) -> int:
    """How many of `impostors` pairs may be accepted at a false positive rate: floor(fpr * impostors).

    The product is nudged up by one part in 10^12 before it is cut, so that 0.29 * 100 = 28.999999999999996 gives 29.

    Args:
        fpr: Rate in (0, 1].
        impostors: Number (or total integer weight) of impostor pairs.

    Raises:
        InputError: If `fpr` is outside (0, 1].

    Example:
        >>> allowed_accepts(0.29, 100), allowed_accepts(0.001, 3000), allowed_accepts(0.001, 999)
        (29, 3, 0)
    """
    check_rate("fpr", fpr)
    return min(impostors, math.floor(fpr * impostors * (1 + 1e-12)))


def check_rate(name: str, rate: float) -> None:
    """Check that a rate lies in (0, 1].

    Raises:
        InputError: If it does not or is nan.
    """
    if not 0 < rate <= 1:
        raise InputError(f"{name}: expected a fraction in (0, 1], got {rate}; 1% is 0.01")


def check_scores(name: str, scores: ArrayLike) -> Scores:
    """Check one axis of scores and give them as a floating array: any number or -inf, but no nan and no +inf.

    Raises:
        InputError: If there is not exactly one axis, no score at all, or a score is nan or +inf.
    """
    values = np.asarray(scores)
    check_shape(name, values, (None,))
    if not len(values):
        raise InputError(f"{name}: expected at least one score, got none")
    if values.dtype.kind not in "fiu":
        raise InputError(f"{name}: expected numbers, got dtype {values.dtype}")
    if values.dtype.kind != "f":
        values = values.astype(np.float64)
    # One pass without a temporary; the largest score is nan where any is.
    if not values.max() < np.inf:
        where = int((~(values < np.inf)).argmax())
        raise InputError(f"{name}: score {where} is {values[where]}; expected a number, or -inf for a failed pair")
    return values


def check_same(same: ArrayLike) -> BoolArray:
    """Check the flags of genuine pairs, `(P,)` bool.

    Raises:
        InputError: If they are not boolean with one axis; 0 and 1 are refused, since an array of indices looks alike.
    """
    flags = np.asarray(same)
    check_shape("same", flags, (None,))
    if flags.dtype != np.bool_:
        raise InputError(f"same: expected bool flags, got dtype {flags.dtype}; use same.astype(bool)")
    return flags


def check_classes(genuine: ArrayLike, impostor: ArrayLike) -> tuple[Scores, Scores]:
    """Check both classes and bring them to one floating type, so that equal scores compare equal.

    Raises:
        InputError: If a class is empty or a score is nan or +inf.
    """
    positive, negative = check_scores("genuine", genuine), check_scores("impostor", impostor)
    common = np.result_type(positive, negative)
    return positive.astype(common, copy=False), negative.astype(common, copy=False)
