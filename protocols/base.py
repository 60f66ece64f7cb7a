"""What protocols share: lists of pairs, which side of a pair is the probe, progress, what completes a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from maskfix.align import Find
from maskfix.base import BoolArray, Completion, FloatArray, UInt8Array, check_choice

Integers = NDArray[np.int64]

_SAME_FACE = 0.4
"""Mean distance of two detectors' points, in extents of the ones, up to which both mean one face."""

PROBE_SIDES = ("second", "first", "both")


class Progress(Protocol):
    """Told how far a long stage has come."""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note.

        Args:
            stage: Name of the stage; one stage at a time, first with `done` = 0, last with `done` = `total`.
            done: Items finished.
            total: Items in all; 0 where a stage cannot count its items.
        """


def same_face(found: FloatArray, five: FloatArray) -> bool:
    """Whether the points that a detector found are of the face that is cut out.

    Args:
        found: The detector's five points, `(5, 2)`, in pixels.
        five: The five points that the face is cut out by, `(5, 2)`, in pixels.

    Example:
        >>> five = np.array([[38, 52], [74, 52], [56, 72], [42, 92], [71, 92]], np.float32)
        >>> same_face(five + 10, five), same_face(five + 20, five)
        (True, False)
    """
    return bool(np.linalg.norm(found - five, axis=1).mean() <= _SAME_FACE * np.ptp(five, axis=0).max())


def silent(stage: str, done: int, total: int) -> None:
    """A `Progress` that nobody hears."""


@runtime_checkable
class Refiner(Protocol):
    """What gives better landmarks of occluded faces than a detector can, see `Deoccluder.refine`."""

    def refine(self, photos: Sequence[UInt8Array], landmarks: FloatArray, find: Find, /) -> FloatArray:
        """Landmarks `(N, 5, 2)` of N photographs, the guess of whose detector, and the detector, are given."""
        ...


@runtime_checkable
class HiddenFinder(Protocol):
    """What finds faces that a detector misses for what hides them, see `Deoccluder.find_hidden`."""

    def find_hidden(self, photo: UInt8Array, guess: Find, find: Find, /) -> FloatArray:
        """Landmarks `(M, 5, 2)` of such faces on a photograph, the surest first, M may be 0."""
        ...


class Restorer(Protocol):
    """What completes photographs, `maskfix.deocclude.Deoccluder` above all.

    Attributes:
        size: Side S of the canonical crop that it works on, in pixels.
    """

    @property
    def size(self) -> int:
        """Side of the canonical crop, in pixels."""

    def restore_batch(
        self, photos: Sequence[UInt8Array], landmarks: FloatArray, /
    ) -> tuple[list[UInt8Array], Completion]:
        """Complete the faces of N photographs and paste them back.

        Args:
            photos: `(H, W, 3)` uint8 RGB each; sizes may differ.
            landmarks: `(N, 5, 2)` float32 ArcFace points in pixels of each photo.

        Returns:
            New photographs, and what the network made of the N crops.
        """
        ...


class PairList(NamedTuple):
    """An official list of P pairs over M distinct pictures and S people.

    Attributes:
        pictures: Id of each picture, M strings such as `Aaron_Peirsol/Aaron_Peirsol_0001`, in order of first use.
        people: Name of each person, S strings, in order of first use.
        person: Person on each picture, `(M,)`.
        first: Picture on the first side of each pair, `(P,)` rows of `pictures`.
        second: Picture on the second side, `(P,)`.
        same: True for genuine pairs, `(P,)` bool.
        fold: Fold of each pair, `(P,)`, from 0, as the list says.
    """

    pictures: tuple[str, ...]
    people: tuple[str, ...]
    person: Integers
    first: Integers
    second: Integers
    same: BoolArray
    fold: Integers


class Trials(NamedTuple):
    """T comparisons of a gallery picture with a probe picture.

    Attributes:
        gallery: Gallery picture of each comparison, `(T,)` rows of the list's pictures.
        probe: Probe picture, `(T,)`.
        same: True for genuine comparisons, `(T,)` bool.
        fold: Fold of each comparison, `(T,)`.
        gallery_person: Person on the gallery picture, `(T,)`.
        probe_person: Person on the probe picture, `(T,)`.
    """

    gallery: Integers
    probe: Integers
    same: BoolArray
    fold: Integers
    gallery_person: Integers
    probe_person: Integers

    def take(self, rows: NDArray[np.bool_] | Integers) -> Trials:
        """Some of the comparisons, in order."""
        return Trials(
            self.gallery[rows],
            self.probe[rows],
            self.same[rows],
            self.fold[rows],
            self.gallery_person[rows],
            self.probe_person[rows],
        )


def orient(pairs: PairList, probe: str = "second") -> Trials:
    """Say which side of each pair is the probe.

    With `both`, each pair gives two comparisons, one in each direction, and all of them are pooled: T = 2 P, so 12,000
    for LFW. The mean of a pair's two scores would be another recogniser, whose TPR at a fixed FPR is that of neither
    direction. Both comparisons keep the pair's fold and people, so folds and subject bootstrap stay valid.

    Args:
        pairs: The list.
        probe: `second` (the convention of masked-face papers), `first` or `both`.

    Raises:
        InputError: If `probe` is none of these.
    """
    check_choice("probe", probe, PROBE_SIDES)
    forward = Trials(
        pairs.first, pairs.second, pairs.same, pairs.fold, pairs.person[pairs.first], pairs.person[pairs.second]
    )
    backward = Trials(
        pairs.second, pairs.first, pairs.same, pairs.fold, pairs.person[pairs.second], pairs.person[pairs.first]
    )
    if probe == "second":
        return forward
    if probe == "first":
        return backward
    return Trials(*(np.concatenate(columns) for columns in zip(forward, backward, strict=True)))
