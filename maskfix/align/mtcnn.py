"""MTCNN of facenet-pytorch; its weights come in the wheel."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from importlib.metadata import version
from typing import Any

import numpy as np

from maskfix.align.base import main_face, mask_points_from_five, nothing
from maskfix.base import (
    DependencyError,
    DoubleArray,
    FloatArray,
    Landmarks,
    UInt8Array,
    check_photo,
    resolve_device,
)

#: Thresholds of MTCNN's three stages, and the step of its picture pyramid, where it only has to guess. Chosen on 63
#: masked UTKFace photographs, held out from training, on which it finds no face by its own (0.6, 0.7, 0.7 and 0.709):
#: `Deoccluder.find_hidden` finds 51 of these so.
_GUESSING = ((0.4, 0.4, 0.3), 0.8)

#: Shortest side, in pixels, that MTCNN is given.
_SMALLEST = 32


class MtcnnDetector:
    """MTCNN as a `LandmarkDetector`.

    Photographs are handed over one by one: facenet-pytorch's batches want equal sizes and fail on a picture without a
    face (facenet-pytorch issue 224).

    Args:
        device: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`.
        min_confidence: Faces below this score in [0, 1] count as no face.

    Raises:
        InputError: If the device is not there.
        DependencyError: If facenet-pytorch is not installed.
    """

    name = "mtcnn"

    def __init__(self, device: str = "cpu", min_confidence: float = 0.7) -> None:
        try:
            import torch
            from facenet_pytorch import MTCNN
        except ImportError as error:
            raise DependencyError(f"detector mtcnn: pip install facenet-pytorch==2.5.3 ({error})") from error
        place = resolve_device(device)
        self.version = version("facenet-pytorch")
        self.min_confidence = min_confidence
        # It draws weights at random before it loads its own; that would move the user's generator.
        with torch.random.fork_rng(devices=[]):
            self._mtcnn = MTCNN(keep_all=True, device=place, min_face_size=30)

    def detect(self, photos: Sequence[UInt8Array]) -> list[Landmarks]:
        """Find the main face of each photograph; see `LandmarkDetector.detect`."""
        return [self._detect_one(photo) for photo in photos]

    def detect_all(self, photo: UInt8Array) -> tuple[DoubleArray, DoubleArray, FloatArray]:
        """Find every face of one photograph whose score reaches `min_confidence`.

        Args:
            photo: `(H, W, 3)` uint8 RGB.

        Returns:
            Boxes `(N, 4)` left, top, right, bottom in pixels, scores `(N,)` in [0, 1], and five points `(N, 5, 2)`, in
            MTCNN's order; N is 0 where there is no face, or no side of 32 pixels.

        Raises:
            InputError: If it is no photograph.
        """
        check_photo("photo", photo)
        boxes, scores, points = self._run(photo) if min(photo.shape[:2]) >= _SMALLEST else (None, None, None)
        if boxes is None or not len(boxes):
            return np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2), np.float32)
        certain = np.asarray(scores, np.float64)
        keep = certain >= self.min_confidence
        return np.asarray(boxes, np.float64)[keep], certain[keep], np.asarray(points, np.float32)[keep]

    def guess(self, photo: UInt8Array) -> FloatArray:
        """Where faces may be, by thresholds at which MTCNN sees many things; see `Guesser.guess`.

        Args:
            photo: `(H, W, 3)` uint8 RGB.

        Returns:
            `(M, 5, 2)` float32 points in pixels, best score first.

        Raises:
            InputError: If it is no photograph.
        """
        return self.guess_all(photo)[2]

    def guess_all(self, photo: UInt8Array) -> tuple[DoubleArray, DoubleArray, FloatArray]:
        """As `guess`, with boxes and scores as `detect_all` gives them.

        Args:
            photo: `(H, W, 3)` uint8 RGB.

        Raises:
            InputError: If it is no photograph.
        """
        guessing = copy(self)
        guessing.min_confidence, guessing._mtcnn = 0.0, copy(self._mtcnn)
        guessing._mtcnn.thresholds, guessing._mtcnn.factor = list(_GUESSING[0]), _GUESSING[1]
        boxes, scores, points = guessing.detect_all(photo)
        order = np.argsort(-scores, kind="stable")
        return boxes[order], scores[order], points[order]

    def _detect_one(self, photo: UInt8Array) -> Landmarks:
        check_photo("photo", photo)
        if min(photo.shape[:2]) < _SMALLEST:
            return nothing("picture smaller than 32 pixels")
        boxes, scores, points = self._run(photo)
        if boxes is None or not len(boxes):
            return nothing()
        keep = np.flatnonzero(np.asarray(scores, np.float64) >= self.min_confidence)
        if not len(keep):
            return nothing("only faces below the confidence threshold found")
        best = int(keep[main_face(np.asarray(boxes)[keep], photo.shape[1], photo.shape[0])])
        five = np.asarray(points[best], np.float32)
        return Landmarks(five, mask_points_from_five(five), None, float(scores[best]), "")

    def _run(self, photo: UInt8Array) -> tuple[Any, Any, Any]:
        import torch

        # Inside of a caller's autocast to bfloat16 its boxes could not be made arrays of.
        with torch.inference_mode(), torch.autocast(torch.device(self._mtcnn.device).type, enabled=False):
            return self._mtcnn.detect(photo, landmarks=True)  # type: ignore[no-any-return]
