"""The protocol of landmark detectors, the choice among several faces, and mask points from five points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from maskfix.base import DoubleArray, FloatArray, Landmarks, UInt8Array, arcface_layout, check_shape

#: The six mask points a..f of an average face in the ArcFace 112 layout: median over 120 UTKFace and LFW pictures of
#: `mask_points_from_mesh` after the similarity warp, made symmetric.
MEAN_MASK_POINTS_112 = ((16.0, 75.1), (56.0, 56.2), (96.0, 75.1), (24.3, 98.2), (56.0, 116.8), (87.7, 98.2))

NO_FACE = "no face found"


@runtime_checkable
class LandmarkDetector(Protocol):
    """Finds one face a photograph: five points, six mask points, and a mesh where it has one.

    Attributes:
        name: Short name, for reports and cache keys.
        version: Version of the package that carries the weights.
    """

    name: str
    version: str

    def detect(self, photos: Sequence[UInt8Array]) -> list[Landmarks]:
        """Find the main face of each photograph.

        Args:
            photos: `(H, W, 3)` uint8 RGB pictures, of any sizes.

        Returns:
            As many results as photographs, in order; `reason` is set where no face was found.
        """
        ...


@runtime_checkable
class Guesser(Protocol):
    """What says where faces may be that it is not sure of: a detector with lower thresholds."""

    def guess(self, photo: UInt8Array, /) -> FloatArray:
        """Where faces may be on one photograph, the surest first.

        Args:
            photo: `(H, W, 3)` uint8 RGB.

        Returns:
            `(M, 5, 2)` ArcFace points in pixels; M may be 0. Many are of no face: see `Deoccluder.find_hidden`.
        """
        ...


def nothing(reason: str = NO_FACE) -> Landmarks:
    """The explicit result for a photograph without a usable face."""
    return Landmarks(None, None, None, 0.0, reason)


def main_face(boxes: NDArray[Any], width: int, height: int) -> int:
    """Index of the largest face near the centre: area minus twice the squared distance from the picture's centre.

    The weighting is the one facenet-pytorch calls `center_weighted_size`.

    Args:
        boxes: `(N, 4)` x1, y1, x2, y2 in pixels, N at least 1.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.

    Example:
        >>> main_face(np.array([[0, 0, 40, 40], [80, 80, 120, 120]]), 200, 200)
        1
    """
    boxes = np.asarray(boxes, np.float64)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    offset = (boxes[:, :2] + boxes[:, 2:]) / 2 - [width / 2, height / 2]
    return int(np.argmax(area - 2 * (offset**2).sum(1)))


def mask_points_from_five(five: NDArray[Any]) -> FloatArray:
    """Six mask points of an average face, carried along by the five landmarks.

    An affine map fits the average face to the five points, so that a turned head narrows the mask. This is what a
    detector without a mesh can offer; a mesh is better.

    Args:
        five: `(5, 2)` ArcFace points in pixels.

    Returns:
        `(6, 2)` float32 points a..f in pixels.
    """
    check_shape("landmarks", five, (5, 2))
    model = np.column_stack([arcface_layout(112).array, np.ones(5)])
    affine, *_ = np.linalg.lstsq(model, np.asarray(five, np.float64), rcond=None)
    return np.asarray(np.column_stack([MEAN_MASK_POINTS_112, np.ones(6)]) @ affine, np.float32)


def at_height(line: DoubleArray, height: float, axis: DoubleArray) -> DoubleArray:
    """Point where a polyline crosses a height along an axis; its nearer end where it does not reach that far.

    Args:
        line: `(P, 2)` points, ordered with growing height.
        height: Coordinate along `axis`.
        axis: Unit vector `(2,)` that points down the face.
    """
    along = np.maximum.accumulate(line @ axis)
    return np.array([np.interp(height, along, line[:, 0]), np.interp(height, along, line[:, 1])])
