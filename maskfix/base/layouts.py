"""Crop layouts: where the five points lie in a recogniser's square input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maskfix.base.checks import check_choice
from maskfix.base.errors import InputError
from maskfix.base.types import DoubleArray

#: ArcFace's reference points in a 112x112 crop (insightface, utils/face_align.py).
ARCFACE_112 = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)


FITS = ("points", "midpoints", "box")
"""The ways in which five landmarks can be brought to where a layout has them."""


@dataclass(frozen=True)
class CropLayout:
    """A square crop and where the five landmarks lie in it.

    Attributes:
        name: Short name, for reports and cache keys.
        size: Side of the crop in pixels.
        points: Five (x, y) points in pixels of the crop, in ArcFace order.
        fit: How a face is brought there, see `maskfix.align.fit_layout`. `points`: the similarity that fits the five
            points with least squares (ArcFace, dlib). `midpoints`: the similarity that puts the middle of the eyes and
            the middle of the mouth exactly there (LightCNN). `box`: a detector's box around the face, stretched to the
            square without turning it (FaceNet); `points` are then those of an upright face.
    """

    name: str
    size: int
    points: tuple[tuple[float, float], ...]
    fit: str = "points"

    def __post_init__(self) -> None:
        """Refuse layouts without exactly five points, of an impossible size or an unknown fit.

        Raises:
            InputError: If there are not five points, the size is below 8 pixels or the fit is unknown.
        """
        if len(self.points) != 5 or self.size < 8:
            raise InputError(
                f"crop layout {self.name!r}: expected 5 points and size >= 8, got {len(self.points)} and {self.size}"
            )
        check_choice(f"crop layout {self.name!r}: fit", self.fit, FITS)

    @property
    def array(self) -> DoubleArray:
        """The five points as `(5, 2)` float64."""
        return np.asarray(self.points, dtype=np.float64)


def arcface_layout(size: int) -> CropLayout:
    """The ArcFace layout scaled to `size` pixels, which most recognisers were trained on.

    Args:
        size: Side of the crop in pixels, at least 8.

    Example:
        >>> arcface_layout(224).points[2]
        (112.0504, 143.4732)
    """
    scale = size / 112
    return CropLayout(f"arcface_{size}", size, tuple((x * scale, y * scale) for x, y in ARCFACE_112))


def canonical_layout(size: int) -> CropLayout:
    """The canonical crop of maskfix: ArcFace's with a margin of a fourteenth at either side and a seventh below.

    This is the layout that insightface gives crops of 128 and 256 pixels. ArcFace's own crop ends at the chin, where
    most masks go on: completed there, a rim of mask stays for every recogniser that looks further down (dlib's chip,
    for one). The ArcFace crop lies inside it: columns 1/16 to 15/16, rows 0 to 7/8.

    Args:
        size: Side of the crop in pixels, at least 8.

    Example:
        >>> canonical_layout(256).points[2]
        (128.0504, 143.4732)
    """
    scale = size / 128
    return CropLayout(f"canonical_{size}", size, tuple(((x + 8) * scale, y * scale) for x, y in ARCFACE_112))


def insightface_layout(size: int) -> CropLayout | None:
    """The crop that `insightface.utils.face_align` cuts for a recogniser of this input size; None where it cuts none.

    Args:
        size: Side of the crop in pixels.

    Example:
        >>> insightface_layout(224) == arcface_layout(224), insightface_layout(256) == canonical_layout(256)
        (True, True)
        >>> insightface_layout(160) is None
        True
    """
    if size % 112 == 0:
        return arcface_layout(size)
    return canonical_layout(size) if size % 128 == 0 else None
