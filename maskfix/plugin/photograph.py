"""Faces completed inside the photographs that they stand in, for the seams that see more than a crop."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.align import Find, fit_layout, invert_affine, same_faces, transform_points
from maskfix.base import BoolArray, Completion, InputError, UInt8Array, check_photo, check_shape
from maskfix.deocclude import Deoccluder
from maskfix.plugin.base import Completer, SeamResult


class Looked(NamedTuple):
    """What is known of N faces before they are completed.

    Attributes:
        landmarks: `(N, 5, 2)` ArcFace points in pixels of each photo.
        clean: Which faces are surely clean, `(N,)` bool; none when None.
        seen: Their completion as `Deoccluder.complete_unless_clean` describes it, a row for each of the N faces, of
            which those that are not clean mean nothing; None where `clean` is.
    """

    landmarks: NDArray[Any]
    clean: BoolArray | None = None
    seen: Completion | None = None


def look_at(
    completer: Completer, photos: Sequence[UInt8Array], landmarks: NDArray[Any], device: str | None = None
) -> Looked:
    """Ask the early look, where the mode lets it decide, and read the landmarks of all other faces anew.

    Args:
        completer: The network and its settings, which may say that nothing is read.
        photos: N pictures `(H, W, 3)` uint8 RGB, of any sizes.
        landmarks: `(N, 5, 2)` ArcFace points in pixels of each photo.
        device: Where the recogniser runs.

    Raises:
        InputError: If a photo or the landmarks have a wrong shape.
        WeightsError: If the weights are missing or damaged.
    """
    blind, reader = completer.deoccluder(device), completer.reader(device)
    check_shape("landmarks", landmarks, (len(photos), 5, 2))
    clean, seen = None, None
    if completer.may_look_early(blind):
        seen, clean = blind.look_early(blind.cut(photos, landmarks))
    rows = np.flatnonzero(~clean) if clean is not None else np.arange(len(photos))
    points = np.array(landmarks, np.float64)
    if reader is not None and len(rows):
        points[rows] = reader.correct([photos[row] for row in rows], points[rows])
    return Looked(points, clean, seen)


def complete_photos(
    completer: Completer, photos: Sequence[UInt8Array], looked: Looked, device: str | None = None
) -> tuple[list[UInt8Array], SeamResult]:
    """Complete one face in each of several photographs, in one call of the network.

    Args:
        completer: The network and its settings.
        photos: N pictures `(H, W, 3)` uint8 RGB, of any sizes.
        looked: What is known of the faces: their landmarks at least.
        device: Where the recogniser runs.

    Returns:
        N photos, those of surely clean faces as they came and all others completed, whatever the mode says; and the
        result on the canonical crops, which follows the mode.

    Raises:
        InputError: If a photo or the landmarks have a wrong shape.
        WeightsError: If the weights are missing or damaged.
    """
    blind, (five, clean, seen) = completer.deoccluder(device), looked
    if clean is None or seen is None:
        restored, completion = blind.restore_batch(photos, five)
        rest = np.ones(len(restored), np.bool_)
    else:
        restored, completion, rest = list(photos), seen, ~clean
        if rest.any():
            rows = np.flatnonzero(rest)
            again, part = blind.restore_batch([photos[row] for row in rows], five[rows])
            completion.put(rest, part)
            for row, photo in zip(rows, again, strict=True):
                restored[row] = photo
    used = completer.used(completion.coverage)
    untouched = np.flatnonzero(~used & rest)
    images = completion.images.copy()
    images[untouched] = blind.cut([photos[row] for row in untouched], five[untouched])
    return restored, SeamResult(images, completion, used, clean)


class CompletedPhoto:
    """Several faces of one photograph, completed with one call of the network and without a copy of it for each.

    Each face is completed as it came: where two overlap, the later one's pixels count.

    Args:
        completer: The network and its settings.
        photo: `(H, W, 3)` uint8 RGB.
        landmarks: `(N, 5, 2)` ArcFace points in pixels of the photo; N may be 0.
        device: Where the recogniser runs.

    Raises:
        InputError: If the photo or the landmarks have a wrong shape, or the points of a face coincide.
        WeightsError: If the weights are missing or damaged.

    Attributes:
        landmarks: `(N, 5, 2)` the points that each face was completed by.
        result: What the network made of the canonical crops, by the mode of the seam.
    """

    def __init__(
        self, completer: Completer, photo: UInt8Array, landmarks: NDArray[Any], device: str | None = None
    ) -> None:
        check_photo("photo", photo)
        five = np.asarray(landmarks, np.float64)
        if five.ndim != 3 or five.shape[1:] != (5, 2):
            raise InputError(f"landmarks: expected shape (*, 5, 2), got {five.shape}")
        self._completer, self._device, self._photo = completer, device, photo
        looked = look_at(completer, [photo] * len(five), five, device)
        self.landmarks = looked.landmarks
        self._windows = _windows(self.landmarks, completer.deoccluder(device), photo)
        self._cuts = [photo[y0:y1, x0:x1] for x0, y0, x1, y1 in self._windows]
        looked = looked._replace(landmarks=self.landmarks - self._windows[:, None, :2])
        self._restored, self.result = complete_photos(completer, self._cuts, looked, device)

    def refined(self, find: Find) -> CompletedPhoto:
        """The same with the landmarks of occluded faces found again on their completion, see `Deoccluder.refine`.

        Args:
            find: The detector that found the landmarks; it is asked once, about the photograph with all occluded faces
                completed, and not at all where none is.

        Returns:
            The photograph completed anew, or the very object where no point has moved.

        Raises:
            InputError: If `find` gives points of a wrong shape.
        """
        occluded = self._completer.occluded(self.result.completion.coverage)
        if not occluded.any():
            return self
        five = self.landmarks.copy()
        five[occluded] = same_faces(find(self.picture(occluded)), five[occluded])
        return self.moved_to(five)

    def moved_to(self, landmarks: NDArray[Any]) -> CompletedPhoto:
        """The same with other landmarks; only faces whose points differ are completed anew.

        Args:
            landmarks: `(N, 5, 2)` in pixels of the photo.

        Returns:
            The photograph completed anew, or the very object where no point has moved.

        Raises:
            InputError: If the landmarks have a wrong shape, or the points of a face coincide.
        """
        check_shape("landmarks", landmarks, self.landmarks.shape)
        five = np.asarray(landmarks, np.float64)
        # As float32, in which detectors give them: what went through one has not moved by that.
        moved = (five.astype(np.float32) != self.landmarks.astype(np.float32)).any((1, 2))
        if not moved.any():
            return self
        again, rows = copy(self), np.flatnonzero(moved)
        again.landmarks, again._windows = five, self._windows.copy()
        again._windows[rows] = _windows(five[rows], self._completer.deoccluder(self._device), self._photo)
        cuts = [self._photo[y0:y1, x0:x1] for x0, y0, x1, y1 in again._windows[rows]]
        looked = Looked(five[rows] - again._windows[rows, None, :2])
        restored, part = complete_photos(self._completer, cuts, looked, self._device)
        again._cuts, again._restored = list(self._cuts), list(self._restored)
        for row, cut, photo in zip(rows, cuts, restored, strict=True):
            again._cuts[row], again._restored[row] = cut, photo
        again.result = _with_rows(self.result, moved, part)
        return again

    def picture(self, faces: BoolArray | None = None) -> UInt8Array:
        """The photograph with some faces completed.

        Args:
            faces: Which, `(N,)`; those that the mode says when None.

        Returns:
            A new picture; the very input where no face is completed. Pixels outside the occlusions are the input's, to
            the bit.
        """
        chosen = self.result.used if faces is None else faces
        if not chosen.any():
            return self._photo
        result = self._photo.copy()
        for row in np.flatnonzero(chosen):
            x0, y0, x1, y1 = self._windows[row]
            changed = (self._restored[row] != self._cuts[row]).any(-1)
            result[y0:y1, x0:x1][changed] = self._restored[row][changed]
        return result


def _with_rows(whole: SeamResult, rows: BoolArray, part: SeamResult) -> SeamResult:
    """A result with that of some faces in place of theirs."""
    images, used = whole.images.copy(), whole.used.copy()
    images[rows], used[rows] = part.images, part.used
    columns: Any = [column.copy() for column in whole.completion]
    completion = Completion(*columns)
    completion.put(rows, part.completion)
    return SeamResult(images, completion, used, None if whole.early is None else whole.early & ~rows)


def _windows(five: NDArray[np.float64], blind: Deoccluder, photo: UInt8Array) -> NDArray[np.int64]:
    """The box around each face's canonical crop, cut to the photograph: `(N, 4)` x0, y0, x1, y1, never empty."""
    size = blind.size
    corners = np.array([[-2, -2], [size + 1, -2], [-2, size + 1], [size + 1, size + 1]])
    boxes = np.zeros((len(five), 4), np.int64)
    if not len(five):
        return boxes
    limit = np.array(photo.shape[1::-1])
    for row, matrix in enumerate(invert_affine(fit_layout(five, blind.layout))):
        places = transform_points(matrix, corners)
        # A face outside the picture still gets a pixel of it.
        boxes[row, :2] = np.clip(np.floor(places.min(0)), 0, limit - 1)
        boxes[row, 2:] = np.clip(np.ceil(places.max(0)) + 1, boxes[row, :2] + 1, limit)
    return boxes
