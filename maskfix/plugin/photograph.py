"""Faces completed inside the photographs that they stand in, for the seams that see more than a crop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskfix.align import Find, align, fit_layout, invert_affine, same_faces, transform_points
from maskfix.base import BoolArray, Completion, InputError, UInt8Array, check_photo
from maskfix.deocclude import Deoccluder
from maskfix.plugin.base import Completer, SeamResult


def complete_photos(
    completer: Completer, photos: Sequence[UInt8Array], landmarks: NDArray[Any], device: str | None = None
) -> tuple[list[UInt8Array], SeamResult]:
    """Complete one face in each of several photographs, in one call of the network.

    Args:
        completer: The network and its settings.
        photos: N pictures `(H, W, 3)` uint8 RGB, of any sizes.
        landmarks: `(N, 5, 2)` ArcFace points in pixels of each photo.
        device: Where the recogniser runs.

    Returns:
        N new photos, completed whatever the mode says; and the result on the canonical crops, which follows the mode.

    Raises:
        InputError: If a photo or the landmarks have a wrong shape.
        WeightsError: If the weights are missing or damaged.
    """
    blind = completer.deoccluder(device)
    restored, completion = blind.restore_batch(photos, landmarks)
    return restored, _by_mode(completer, blind, photos, landmarks, completion)


def reread_landmarks(
    completer: Completer, photos: Sequence[UInt8Array], landmarks: NDArray[Any], device: str | None = None
) -> NDArray[Any]:
    """Landmarks of faces that may be occluded read anew, if the settings of a seam say so, see `Deoccluder.reread`.

    Args:
        completer: The network and its settings.
        photos: N pictures `(H, W, 3)` uint8 RGB, of any sizes.
        landmarks: `(N, 5, 2)` ArcFace points in pixels of each photo.
        device: Where the recogniser runs.

    Returns:
        `(N, 5, 2)`; the very landmarks where nothing is read.

    Raises:
        InputError: If a photo or the landmarks have a wrong shape.
        WeightsError: If the weights are missing or damaged.
    """
    if completer.reader(device) is None or not len(photos):
        return landmarks
    points, suspected = completer.deoccluder(device).reread(photos, landmarks, completer.settings.threshold)
    return np.where(suspected[:, None, None], points, landmarks)


def _by_mode(
    completer: Completer, blind: Deoccluder, photos: Sequence[UInt8Array], five: NDArray[Any], completion: Completion
) -> SeamResult:
    """What a completion means in the mode of the seam."""
    fixed = {"always": True, "observe": False}.get(completer.settings.mode)
    coverage = completion.coverage
    used = completer.occluded(coverage) if fixed is None else np.full(len(coverage), fixed)
    images = completion.images.copy()
    for row in np.flatnonzero(~used):
        images[row] = align(photos[row], five[row], blind.layout)[0]
    return SeamResult(images, completion, used)


class CompletedPhoto:
    """Several faces of one photograph, completed with one call of the network and without a copy of it for each.

    Each face is completed as it came: where two overlap, the later one's pixels count.

    Args:
        completer: The network and its settings.
        photo: `(H, W, 3)` uint8 RGB.
        landmarks: `(N, 5, 2)` ArcFace points in pixels of the photo; N may be 0.
        device: Where the recogniser runs.
        reread: Whether landmarks are read anew first, where the settings refine them and a face may be occluded.

    Raises:
        InputError: If the photo or the landmarks have a wrong shape, or the points of a face coincide.
        WeightsError: If the weights are missing or damaged.

    Attributes:
        landmarks: `(N, 5, 2)` the points that each face was completed by.
        result: What the network made of the canonical crops, by the mode of the seam.
    """

    def __init__(
        self,
        completer: Completer,
        photo: UInt8Array,
        landmarks: NDArray[Any],
        device: str | None = None,
        reread: bool = True,
    ) -> None:
        check_photo("photo", photo)
        five = np.asarray(landmarks, np.float64)
        if five.ndim != 3 or five.shape[1:] != (5, 2):
            raise InputError(f"landmarks: expected shape (*, 5, 2), got {five.shape}")
        self._completer, self._device = completer, device
        if reread:
            five = reread_landmarks(completer, [photo] * len(five), five, device)
        self._photo, self.landmarks = photo, five
        self._windows = _windows(five, completer.deoccluder(device), photo)
        self._cuts = [photo[y0:y1, x0:x1] for x0, y0, x1, y1 in self._windows]
        self._restored, self.result = complete_photos(completer, self._cuts, five - self._windows[:, None, :2], device)

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
        picture, five = self.picture(occluded), self.landmarks.copy()
        five[occluded] = same_faces(find(picture), five[occluded])
        if (five == self.landmarks.astype(np.float32)).all():
            return self
        return CompletedPhoto(self._completer, self._photo, five, self._device, reread=False)

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
