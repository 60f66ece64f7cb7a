"""All faces of a photograph, for the commands: found by MTCNN, their landmarks by the detector of the benchmarks."""

from __future__ import annotations

import numpy as np

from maskfix.align import LandmarkDetector, load_detector
from maskfix.align.base import main_face
from maskfix.align.mtcnn import MtcnnDetector
from maskfix.base import DoubleArray, FloatArray, UInt8Array
from maskfix.deocclude import Deoccluder

#: A face is looked at again in a window of so many times its box: room for the short-range mesh, and for nobody else.
_WINDOW = 2.0
#: Points that lie further from MTCNN's than this share of the box's side are those of another face.
_SAME_FACE = 0.25


class _EveryFace(MtcnnDetector):
    """MTCNN that keeps all faces it finds."""

    def find(self, photo: UInt8Array) -> tuple[DoubleArray, FloatArray]:
        """Boxes `(N, 4)` and five points `(N, 5, 2)` of all faces, the main one first, then from large to small."""
        kept, _, five = self.detect_all(photo)
        if not len(kept):
            return kept, five
        area = (kept[:, 2] - kept[:, 0]) * (kept[:, 3] - kept[:, 1])
        area[main_face(kept, photo.shape[1], photo.shape[0])] = np.inf
        order = np.argsort(-area, kind="stable")
        return kept[order], five[order]


class FaceFinder:
    """Finds every face of a photograph.

    MTCNN finds the faces, whatever their number and size. The benchmarks, and so the shipped thresholds, have their
    landmarks from another detector where mediapipe is installed: that one then looks at each face again, in a window
    around it, and MTCNN's points stay where it sees nothing. Where MTCNN finds no face at all (it is trained without
    masks), the other detector is asked about the whole photograph; `find_hidden` then looks for what both miss.

    Args:
        detector: Detector of the landmarks: `auto`, `mesh` or `mtcnn`, see `maskfix.align.load_detector`.
        device: `cpu` or `cuda`, for MTCNN.

    Raises:
        InputError: If the detector is unknown.
        DependencyError: If the package behind it is not installed.
    """

    def __init__(self, detector: str = "auto", device: str = "cpu") -> None:
        chosen = load_detector(detector, device)
        self._every = _EveryFace(device)
        self._fine: LandmarkDetector | None = None if chosen.name == "mtcnn" else chosen
        self.name = chosen.name
        self.version = chosen.version

    def find_hidden(self, photo: UInt8Array, blind: Deoccluder) -> FloatArray:
        """As `find`, and after these faces those that completion brings out, see `Deoccluder.find_hidden`.

        Args:
            photo: `(H, W, 3)` uint8 RGB.
            blind: What completes.
        """
        points = self.find(photo)
        return np.concatenate([points, blind.find_hidden(photo, self._every.guess, self.find, points)])

    def find(self, photo: UInt8Array) -> FloatArray:
        """Five points of each face.

        Args:
            photo: `(H, W, 3)` uint8 RGB.

        Returns:
            `(N, 5, 2)` float32 ArcFace points in pixels; the largest face near the centre comes first. N is 0 where no
            face was found.
        """
        boxes, points = self._every.find(photo)
        if self._fine is None:
            return points
        if not len(boxes):
            [found] = self._fine.detect([photo])
            return points if found.five is None else np.asarray(found.five, np.float32)[None]
        windows = [_window(box, photo) for box in boxes]
        seen = self._fine.detect([photo[y0:y1, x0:x1] for x0, y0, x1, y1 in windows])
        sides = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
        for row, (face, (x0, y0, _, _)) in enumerate(zip(seen, windows, strict=True)):
            if face.five is None:
                continue
            moved = face.five + np.array([x0, y0], np.float32)
            if np.linalg.norm(moved - points[row], axis=1).mean() <= _SAME_FACE * sides[row]:
                points[row] = moved
        return points


def _window(box: DoubleArray, photo: UInt8Array) -> tuple[int, int, int, int]:
    """A square around a box, cut to the photograph: x0, y0, x1, y1."""
    centre = (box[:2] + box[2:]) / 2
    half = _WINDOW * max(box[2] - box[0], box[3] - box[1]) / 2
    low = np.clip(np.floor(centre - half), 0, None).astype(int)
    high = np.minimum(np.ceil(centre + half), photo.shape[1::-1]).astype(int)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])
