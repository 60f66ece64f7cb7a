"""MediaPipe face mesh: 468 points, reduced to the five of ArcFace and the six of a mask."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskfix.align.base import Guesser, at_height, main_face, nothing
from maskfix.align.mtcnn import MtcnnDetector
from maskfix.base import DependencyError, FloatArray, Landmarks, UInt8Array, check_photo, check_shape

# Corners of the eyes (their mean is the eye's centre), nose tip, mouth corners; "left" is the left of the image.
_LEFT_EYE, _RIGHT_EYE = (33, 133), (362, 263)
_NOSE_TIP, _MOUTH_LEFT, _MOUTH_RIGHT = 1, 61, 291
_BRIDGE, _LOWER_LIP, _CHIN = (6, 197), 17, 152
# The outline of the face from the temple to the chin.
_LEFT_JAW = (127, 234, 93, 132, 58, 172, 136, 150, 149, 176, 148, 152)
_RIGHT_JAW = (356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152)

#: Longest side that MediaPipe is shown, without its border: it ends the process at 32,768 pixels.
_LONGEST = 8192

#: Standard error is the whole process's, and a graph of MediaPipe takes one picture at a time.
_LOCK = threading.Lock()


def five_from_mesh(mesh: NDArray[Any]) -> FloatArray:
    """The ArcFace five points of a 468-point mesh.

    Args:
        mesh: `(468, 2)` or `(468, 3)` in pixels.

    Returns:
        `(5, 2)` float32 in pixels.
    """
    check_shape("mesh", mesh, (468, None))
    flat = np.asarray(mesh, np.float64)[:, :2]
    eyes = [flat[list(_LEFT_EYE)].mean(0), flat[list(_RIGHT_EYE)].mean(0)]
    return np.asarray([*eyes, flat[_NOSE_TIP], flat[_MOUTH_LEFT], flat[_MOUTH_RIGHT]], np.float32)


def mask_points_from_mesh(mesh: NDArray[Any]) -> FloatArray:
    """The six mask points a..f of a 468-point mesh, by the construction of MaskTheFace on the jaw line.

    a and c: jaw at the height of the nose tip; b: middle of the nose bridge; d and f: jaw at the height of the lower
    lip; e: chin. Heights are measured along the line from between the eyes to the chin, so a tilted head is no special
    case.

    Args:
        mesh: `(468, 2)` or `(468, 3)` in pixels.

    Returns:
        `(6, 2)` float32 in pixels.
    """
    check_shape("mesh", mesh, (468, None))
    flat = np.asarray(mesh, np.float64)[:, :2]
    between = flat[[*_LEFT_EYE, *_RIGHT_EYE]].mean(0)
    axis = (flat[_CHIN] - between) / max(float(np.linalg.norm(flat[_CHIN] - between)), 1e-9)
    left, right = flat[list(_LEFT_JAW)], flat[list(_RIGHT_JAW)]
    nose, lip = float(flat[_NOSE_TIP] @ axis), float(flat[_LOWER_LIP] @ axis)
    upper = [at_height(left, nose, axis), flat[list(_BRIDGE)].mean(0), at_height(right, nose, axis)]
    lower = [at_height(left, lip, axis), flat[_CHIN], at_height(right, lip, axis)]
    return np.asarray(upper + lower, np.float32)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep MediaPipe's C++ start-up lines off the terminal, one thread at a time; Python errors still come through."""
    with _LOCK:
        try:
            saved = os.dup(2)
        except OSError:  # A service without standard error: there is nothing to keep quiet.
            yield
            return
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, 2)
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(null)


class MeshDetector:
    """MediaPipe face mesh as a `LandmarkDetector`; weights come in the wheel of mediapipe 0.10.21.

    Threads may share one, or have one each; either way they detect one after the other.

    Args:
        min_confidence: Detections below this score in [0, 1] count as no face.
        margin: Border added on each side before detecting, as a share of the longer side: tightly cut pictures
            (UTKFace, crops) leave the short-range detector no room otherwise.

    Raises:
        DependencyError: If mediapipe is not installed.
    """

    name = "mesh"

    def __init__(self, min_confidence: float = 0.3, margin: float = 0.25) -> None:
        os.environ.setdefault("GLOG_minloglevel", "2")
        try:
            with _quiet():
                import mediapipe
                from mediapipe.python.solutions.face_mesh import FaceMesh
        except ImportError as error:
            # By itself it would take back numpy and protobuf, with which others of the same environment end.
            raise DependencyError(
                f"mediapipe cannot be imported ({error}); install maskfix with it, in its checkout: "
                "pip install '.[train]'"
            ) from error
        self.version = str(mediapipe.__version__)
        self.min_confidence = min_confidence
        self.margin = margin
        self._guesser: Guesser | None = None
        with _quiet():
            self._mesh = FaceMesh(static_image_mode=True, max_num_faces=3, min_detection_confidence=min_confidence)
            # The graph starts in threads of its own, which go on talking until it has seen a first picture.
            self._mesh.process(np.zeros((64, 64, 3), np.uint8))

    def detect(self, photos: Sequence[UInt8Array]) -> list[Landmarks]:
        """Find the main face of each photograph; see `LandmarkDetector.detect`."""
        return [self._detect_one(photo) for photo in photos]

    def guess(self, photo: UInt8Array) -> FloatArray:
        """Where faces may be that `detect` misses, as MTCNN guesses it, loaded on first use; see `Guesser.guess`.

        Of 66 held-out masked faces that MediaPipe misses it sees 63 once they are completed where MTCNN's guesses are,
        and 18 where its own are, at a sixth of its threshold.

        Args:
            photo: `(H, W, 3)` uint8 RGB.

        Returns:
            `(M, 5, 2)` float32 points in pixels, best score first.

        Raises:
            InputError: If it is no photograph.
        """
        if self._guesser is None:
            self._guesser = MtcnnDetector()
        return self._guesser.guess(photo)

    def _detect_one(self, photo: UInt8Array) -> Landmarks:
        check_photo("photo", photo)
        height, width = photo.shape[:2]
        share = min(1.0, _LONGEST / max(height, width))
        if share < 1:
            smaller = (max(1, round(width * share)), max(1, round(height * share)))
            photo = np.asarray(cv2.resize(photo, smaller, interpolation=cv2.INTER_AREA), np.uint8)
        pad = round(self.margin * max(photo.shape))
        for border in (0, pad):
            mesh = self._largest(photo, border)
            if mesh is not None:
                mesh = np.asarray(mesh / share, np.float32)
                return Landmarks(five_from_mesh(mesh), mask_points_from_mesh(mesh), mesh, 1.0, "")
        return nothing()

    def _largest(self, photo: UInt8Array, border: int) -> FloatArray | None:
        if border:
            photo = np.pad(photo, ((border, border), (border, border), (0, 0)))
        height, width = photo.shape[:2]
        with _quiet():
            # MediaPipe refuses views of pictures that cannot be written to.
            found = self._mesh.process(np.ascontiguousarray(photo)).multi_face_landmarks
        if not found:
            return None
        faces = np.array([[(p.x, p.y, p.z) for p in face.landmark[:468]] for face in found])
        # MediaPipe scales z like x: by the width of the picture.
        faces = faces * [width, height, width] - [border, border, 0]
        boxes = np.concatenate([faces[..., :2].min(1), faces[..., :2].max(1)], axis=1)
        chosen = faces[main_face(boxes, width - 2 * border, height - 2 * border)]
        return np.asarray(chosen, np.float32)
