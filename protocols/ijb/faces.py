"""The faces of a block: pictures read, points found, masks put on; what failed is said of each, nothing is dropped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from enum import IntFlag
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.align import align, mask_points_from_five
from maskfix.base import (
    BoolArray,
    CropLayout,
    FloatArray,
    ImageError,
    InputError,
    Landmarks,
    UInt8Array,
    read_image,
)
from maskfix.occlude import draw_kind
from protocols.base import same_face
from protocols.ijb.settings import FeatureSettings, IjbParts
from protocols.ijb.units import Job
from protocols.landmark_cache import LandmarkCache
from protocols.pictures import PROBE_ROLE

_ROOM, _DETECTED = 1.0, 0.25
"""What is kept of a picture around a face box, and what the detector sees of it, in longer sides of the box."""

Map = Callable[[Callable[[int], Any], Iterable[int]], Iterable[Any]]
"""The builtin `map` or that of a pool of threads."""


class Flag(IntFlag):
    """What happened to a unit; a face with neither of the first two has features."""

    UNREADABLE = 1
    NO_FACE = 2
    NOT_MASKED = 4
    ESTIMATED = 8
    """The mask points are those of an average face, carried along by the five points."""


class Picture(NamedTuple):
    """A picture of one unit, or why there is none.

    Attributes:
        photo: What is kept of the picture, `(H, W, 3)` uint8 RGB; None where it could not be read.
        corner: Left and top edge of that in the whole picture, in pixels.
        reason: Empty, or why there is no picture.
    """

    photo: UInt8Array | None
    corner: tuple[int, int]
    reason: str


class Face(NamedTuple):
    """A face that can be embedded.

    Attributes:
        place: Place of its unit in the block.
        photo: The clean picture, `(H, W, 3)` uint8 RGB.
        masked: The same with its mask; the clean one where it is no probe or takes no mask.
        mask: Where the mask is, `(H, W)` bool; None where there is none.
        five: Five points in `photo`, `(5, 2)` float32.
        probe: Whether it is masked and completed.
    """

    place: int
    photo: UInt8Array
    masked: UInt8Array
    mask: BoolArray | None
    five: FloatArray
    probe: bool


class Faces(NamedTuple):
    """The faces of a block of N units.

    Attributes:
        faces: Those that can be embedded, in order.
        flags: What happened to each unit, `(N,)` uint8, values of `Flag`.
        reasons: Why, by place of the unit.
        found: What the detector found now, by key of the cache.
    """

    faces: list[Face]
    flags: UInt8Array
    reasons: dict[int, str]
    found: dict[bytes, Landmarks]


def read_picture(job: Job, place: int) -> Picture:
    """Read the picture of a unit; of a picture with a face box, what lies around the box.

    NIST's pictures are whole photographs, of which a block in memory would be gigabytes.
    """
    try:
        photo = read_image(Path(job.paths[place]))
    except ImageError as error:
        return Picture(None, (0, 0), str(error))
    if np.isnan(job.box[place]).any():
        return Picture(photo, (0, 0), "")
    (left, top), (right, bottom) = _around(job.box[place], _ROOM, photo)
    if right - left < 2 or bottom - top < 2:
        return Picture(None, (0, 0), f"{job.paths[place]}: the face box lies outside the picture")
    return Picture(photo[top:bottom, left:right].copy(), (left, top), "")


def draw_mask(job: Job, place: int, settings: FeatureSettings) -> str:
    """Kind of a unit's mask: drawn by the hash of its file, so that copies of a picture wear the same."""
    return draw_kind(job.digest[place].tobytes().hex(), PROBE_ROLE, settings.seed, settings.kinds)


class FaceFinder:
    """Makes faces of pictures.

    The file's five points align a face; where the layout has none, the detector's do, found inside the face box. Mask
    points are the detector's where it sees the same face, and else those of an average face carried along by the five
    points (`maskfix.align.mask_points_from_five`).

    Args:
        parts: What the run is made of.
        settings: How features are made.
        cache: What the detector found in earlier runs; it is read only.
        layout: The canonical crop, to which every face must be alignable.
    """

    def __init__(self, parts: IjbParts, settings: FeatureSettings, cache: LandmarkCache, layout: CropLayout) -> None:
        self._detector, self._occluder = parts.detector, parts.occluder
        self._settings, self._cache, self._layout = settings, cache, layout

    def find(self, job: Job, pictures: list[Picture], run: Map = map) -> Faces:
        """Find points and put masks on.

        Args:
            job: The block.
            pictures: Of its units, in order.
            run: How the masks are put on, one after the other or in threads.
        """
        flags = np.zeros(len(pictures), dtype=np.uint8)
        reasons: dict[int, str] = {}
        landmarks, found = self._landmarks(job, pictures)

        def make(place: int) -> tuple[Face | None, Flag, str]:
            return self._make(job, place, pictures[place], landmarks.get(place))

        faces = []
        for place, (face, flag, reason) in enumerate(run(make, range(len(pictures)))):
            flags[place] = flag
            if reason:
                reasons[place] = reason
            if face is not None:
                faces.append(face)
        return Faces(faces, flags, reasons, found)

    def _landmarks(self, job: Job, pictures: list[Picture]) -> tuple[dict[int, Landmarks], dict[bytes, Landmarks]]:
        """What the detector finds where it is needed, by place, and what of it is new, by key."""
        keys: dict[int, bytes] = {}
        unknown: dict[bytes, int] = {}
        for place, picture in enumerate(pictures):
            if picture.photo is not None and (job.probe[place] or np.isnan(job.points[place]).any()):
                keys[place] = landmark_key(job, place)
                if self._cache.get(keys[place]) is None:
                    unknown.setdefault(keys[place], place)
        views = [_view(job.box[place], pictures[place]) for place in unknown.values()]
        seen = self._detector.detect([view for view, _ in views]) if views else []
        found = {
            key: _moved(landmarks, corner) for key, landmarks, (_, corner) in zip(unknown, seen, views, strict=True)
        }
        known = {place: found.get(key) or self._cache.get(key) for place, key in keys.items()}
        return {place: item for place, item in known.items() if item is not None}, found

    def _make(
        self, job: Job, place: int, picture: Picture, landmarks: Landmarks | None
    ) -> tuple[Face | None, Flag, str]:
        """One face, or why there is none."""
        if picture.photo is None:
            return None, Flag.UNREADABLE, picture.reason
        five = job.points[place]
        if np.isnan(five).any():
            if landmarks is None or landmarks.five is None:
                return None, Flag.NO_FACE, (landmarks and landmarks.reason) or "no face found"
            five = landmarks.five
        try:
            align(picture.photo, five, self._layout)
        except InputError as error:
            return None, Flag.NO_FACE, str(error)
        face = Face(place, picture.photo, picture.photo, None, five, bool(job.probe[place]))
        if not face.probe:
            return face, Flag(0), ""
        points = _mask_points(five, landmarks)
        flag = Flag(0) if points is not None else Flag.ESTIMATED
        try:
            points = mask_points_from_five(five) if points is None else points
            occluded = self._occluder.occlude(face.photo, points, draw_mask(job, place, self._settings))
        except InputError as error:
            return face, flag | Flag.NOT_MASKED, str(error)
        return face._replace(masked=occluded.image, mask=occluded.mask), flag, ""


def landmark_key(job: Job, place: int) -> bytes:
    """Key of a unit in the cache of landmarks: the file's hash; with a face box, that of both.

    The points kept under the second are those in what `read_picture` keeps of the picture.
    """
    digest, box = job.digest[place].tobytes(), job.box[place]
    return digest if np.isnan(box).any() else hashlib.sha256(digest + box.tobytes()).digest()


def _around(box: NDArray[Any], room: float, photo: UInt8Array) -> tuple[tuple[int, int], tuple[int, int]]:
    """A face box and some room around it, in longer sides of the box, cut to the picture: both corners."""
    low, size = box[:2].astype(np.float64), box[2:].astype(np.float64)
    margin = room * size.max()
    most = np.array(photo.shape[1::-1])
    first = np.floor(low - margin).clip(0, most).astype(int)
    last = np.ceil(low + size + margin).clip(0, most).astype(int)
    return (int(first[0]), int(first[1])), (int(last[0]), int(last[1]))


def _view(box: NDArray[Any], picture: Picture) -> tuple[UInt8Array, tuple[int, int]]:
    """What the detector sees of a picture, and where that begins in it."""
    photo = picture.photo
    if photo is None:
        raise InputError("a picture that cannot be read has no face")
    if np.isnan(box).any():
        return photo, (0, 0)
    moved = box - np.array([*picture.corner, 0, 0])
    (left, top), (right, bottom) = _around(moved, _DETECTED, photo)
    if right - left < 2 or bottom - top < 2:
        return photo, (0, 0)
    return np.ascontiguousarray(photo[top:bottom, left:right]), (left, top)


def _moved(landmarks: Landmarks, corner: tuple[int, int]) -> Landmarks:
    """Landmarks in a picture, found in a part of it; without their mesh."""
    shift = np.array(corner, dtype=np.float32)
    five = None if landmarks.five is None else landmarks.five + shift
    mask = None if landmarks.mask is None else landmarks.mask + shift
    return Landmarks(five, mask, None, landmarks.score, landmarks.reason)


def _mask_points(five: FloatArray, landmarks: Landmarks | None) -> FloatArray | None:
    """The detector's mask points, if it has any and means the same face."""
    if landmarks is None or landmarks.mask is None or landmarks.five is None:
        return None
    return landmarks.mask if same_face(landmarks.five, five) else None
