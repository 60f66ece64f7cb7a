"""Landmarks of many pictures, found once: a cache on disk, keyed by the picture's hash and the detector."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskfix.align import LandmarkDetector
from maskfix.base import UNREADABLE_ARRAYS, ImageError, Landmarks, read_image, replacing
from protocols.base import Progress, silent

CACHE_FORMAT = 1
"""Part of the file name; to be raised whenever detectors of this project change what they find."""

SAVE_EVERY_S = 10.0
"""Seconds after which new results are written: what a killed run loses at most."""

_BATCH = 16


class LandmarkCache:
    """Five points and mask points by the SHA-256 of the picture file; meshes are not kept.

    The file is rewritten whole and renamed, so a killed run leaves a cache that can be read. A damaged or foreign file
    counts as empty and is replaced: a cache holds nothing that cannot be found again.

    Args:
        folder: Where the file lies; it is made at the first save.
        detector: Whose results these are; its name and version are part of the file name.

    Attributes:
        path: The file.
    """

    def __init__(self, folder: str | Path, detector: LandmarkDetector) -> None:
        label = re.sub(r"[^A-Za-z0-9.]+", "-", f"{detector.name}-{detector.version}")
        self.path = Path(folder) / f"landmarks-{label}-{CACHE_FORMAT}.npz"
        self._found: dict[bytes, Landmarks] = _load(self.path)

    def __len__(self) -> int:
        return len(self._found)

    def get(self, digest: bytes) -> Landmarks | None:
        """What was found on the picture with this SHA-256 (32 bytes), or None where nobody looked yet."""
        return self._found.get(digest)

    def put(self, digest: bytes, landmarks: Landmarks) -> None:
        """Keep a result; it reaches the disk at the next `save`."""
        self._found[digest] = landmarks._replace(mesh=None)

    def save(self) -> None:
        """Write all results; the file appears whole or not at all. Without results nothing is written."""
        if not self._found:
            return
        results = list(self._found.values())
        found = np.array([item.ok for item in results], dtype=np.bool_)
        # Points that are not there are kept as zeros.
        five = np.array([np.zeros((5, 2)) if item.five is None else item.five for item in results], dtype=np.float32)
        mask = np.array([np.zeros((6, 2)) if item.mask is None else item.mask for item in results], dtype=np.float32)
        with replacing(self.path) as temporary:
            np.savez_compressed(
                temporary,
                sha256=np.frombuffer(b"".join(self._found), dtype=np.uint8).reshape(-1, 32),
                five=five.reshape(-1, 5, 2),
                mask=mask.reshape(-1, 6, 2),
                found=found,
                score=np.array([item.score for item in results], dtype=np.float64),
                reason=np.array([item.reason for item in results], dtype=np.str_),
            )


def _load(path: Path) -> dict[bytes, Landmarks]:
    """Read a cache; a missing or damaged one is empty."""
    try:
        with np.load(path, allow_pickle=False) as file:
            digests, five, mask = file["sha256"], file["five"], file["mask"]
            found, score, reason = file["found"], file["score"], file["reason"]
    except UNREADABLE_ARRAYS:
        return {}
    count = len(digests)
    shapes = [array.shape for array in (digests, five, mask, found, score, reason)]
    sound = shapes == [(count, 32), (count, 5, 2), (count, 6, 2), (count,), (count,), (count,)]
    if not sound or not np.isfinite(five).all() or not np.isfinite(mask).all():
        return {}
    return {
        digests[row].tobytes(): Landmarks(
            five[row] if found[row] else None,
            mask[row] if mask[row].any() else None,
            None,
            float(score[row]),
            str(reason[row]),
        )
        for row in range(count)
    }


class FoundLandmarks(NamedTuple):
    """Landmarks of all pictures, and what finding them took.

    Attributes:
        landmarks: One result for each picture, in order, without meshes.
        detected: How many pictures the detector looked at; the others came from the cache.
    """

    landmarks: list[Landmarks]
    detected: int


def find_landmarks(
    paths: Sequence[Path], detector: LandmarkDetector, cache: LandmarkCache, progress: Progress = silent
) -> FoundLandmarks:
    """Find the landmarks of picture files, asking the detector only about files that the cache does not know.

    Args:
        paths: Picture files; a file that occurs twice, or two files of the same bytes, are looked at once.
        detector: What finds them.
        cache: Results of earlier runs; saved every few seconds and at the end, also when this is broken off.
        progress: Told about the pictures the detector looks at, as stage `landmarks`.

    Returns:
        The results, `ok` False where no face was found or the file is damaged, with the reason.

    Raises:
        ImageError: If a picture is missing.
    """
    digests = [_digest(path) for path in paths]
    unknown = {digest: path for digest, path in zip(digests, paths, strict=True) if cache.get(digest) is None}
    if unknown:
        _detect(unknown, detector, cache, progress)
    return FoundLandmarks([_known(cache, digest) for digest in digests], len(unknown))


def _detect(unknown: dict[bytes, Path], detector: LandmarkDetector, cache: LandmarkCache, progress: Progress) -> None:
    """Ask the detector, batch by batch, and save now and then."""
    items = list(unknown.items())
    progress("landmarks", 0, len(items))
    saved = time.monotonic()
    try:
        for start in range(0, len(items), _BATCH):
            batch = items[start : start + _BATCH]
            photos = {}
            for digest, path in batch:
                try:
                    photos[digest] = read_image(path)
                except ImageError as error:
                    # Real data sets hold damaged files: they are counted as failures, like pictures without a face.
                    cache.put(digest, Landmarks(None, None, None, 0.0, str(error)))
            for digest, landmarks in zip(photos, detector.detect(list(photos.values())), strict=True):
                cache.put(digest, landmarks)
            progress("landmarks", start + len(batch), len(items))
            if time.monotonic() - saved > SAVE_EVERY_S:
                cache.save()
                saved = time.monotonic()
    finally:
        cache.save()


def _known(cache: LandmarkCache, digest: bytes) -> Landmarks:
    landmarks = cache.get(digest)
    if landmarks is None:  # every unknown picture was looked at just before
        raise ImageError(f"no landmarks for the picture with SHA-256 {digest.hex()}")
    return landmarks


def _digest(path: Path) -> bytes:
    """SHA-256 of a file, 32 bytes.

    Raises:
        ImageError: If the file cannot be read.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").digest()
    except OSError as error:
        raise ImageError(f"{path}: cannot be read ({error.strerror})") from error
