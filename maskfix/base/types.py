"""The records that travel between the rooms: arrays with their shapes, units and ranges."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

UInt8Array = NDArray[np.uint8]
FloatArray = NDArray[np.float32]
DoubleArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class Landmarks(NamedTuple):
    """What a detector found on one photograph; an explicit result also where it found nothing.

    Attributes:
        five: ArcFace five points, `(5, 2)` float32, x and y in pixels of the photo: eye (image left), eye (image
            right), nose tip, mouth corner left, mouth corner right. None where no face was found.
        mask: The six mask points a..f, `(6, 2)` float32: a, b, c run along the mask's upper edge (image left, nose
            bridge, image right), d, e, f along its lower edge (image left, chin, image right). None where no face was.
        mesh: `(468, 3)` float32 MediaPipe face mesh, x and y in pixels, z in the same unit (smaller is nearer).
            None where the detector gives no mesh.
        score: Detector confidence in [0, 1]; 0 where no face was found.
        reason: Empty where a face was found, otherwise one line that says why not.
    """

    five: FloatArray | None
    mask: FloatArray | None
    mesh: FloatArray | None
    score: float
    reason: str

    @property
    def ok(self) -> bool:
        """Whether a face was found."""
        return self.five is not None


class Occluded(NamedTuple):
    """One photograph with a synthetic occluder on it.

    Attributes:
        image: `(H, W, 3)` uint8 RGB.
        alpha: Opacity of the occluder, `(H, W)` float32 in [0, 1].
        mask: Binary occlusion, `(H, W)` bool, True where alpha is at least 0.5.
    """

    image: UInt8Array
    alpha: FloatArray
    mask: BoolArray


class Completion(NamedTuple):
    """What the network made of N crops.

    Attributes:
        images: Completed crops, `(N, S, S, 3)` uint8 RGB; visible pixels are those of the input, to the bit.
        occlusion: Probability that a pixel was occluded, `(N, S, S)` float32 in [0, 1].
        coverage: Occluded share of the crop, `(N,)` float32 in [0, 1]: mean of `occlusion > 0.5`.
        alpha: Finest spatial attention map of the fusion module (paper eq. 7), mean over colour, `(N, S, S)` float32.
        uv: Dense correspondence (u, v) at full size, `(N, S, S, 2)` float32 in [0, 1].
    """

    images: UInt8Array
    occlusion: FloatArray
    coverage: FloatArray
    alpha: FloatArray
    uv: FloatArray

    def put(self, rows: BoolArray, part: Completion) -> None:
        """Write the completion of some crops over theirs, in place.

        Args:
            rows: Which crops, `(N,)` bool.
            part: Their completion, a row for each that is True.

        Raises:
            ValueError: If the numbers of rows differ, as NumPy says it.
        """
        columns: Iterable[tuple[NDArray[Any], NDArray[Any]]] = zip(self, part, strict=True)
        for whole, values in columns:
            whole[rows] = values
