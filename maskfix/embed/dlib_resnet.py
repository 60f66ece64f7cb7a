"""dlib's face recogniser (King, 2017), with the weights that the face-recognition-models package ships."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from maskfix.base import CropLayout, DependencyError, EmbedderError, UInt8Array
from maskfix.embed.base import RawBatchEmbedder
from maskfix.weights import file_sha256

CHIP_SIZE = 150
"""Side of dlib's face chip in pixels."""

#: Margin on each side of the chip as a share of the face box (the default of dlib.get_face_chip).
PADDING = 0.25

#: ArcFace's five points in dlib's mean face, box units; an eye is the mean of its six points of the 68.
MEAN_FACE = (
    (0.22549, 0.21599),
    (0.75476, 0.21599),
    (0.490127, 0.515625),
    (0.254149, 0.780233),
    (0.726104, 0.780233),
)

_MODEL = "dlib_face_recognition_resnet_model_v1.dat"


def dlib_layout() -> CropLayout:
    """The crop that dlib's recogniser was trained on, `dlib.get_face_chip` at 150 pixels.

    Example:
        >>> [round(x, 1) for x in dlib_layout().points[0]]
        [47.5, 46.6]
    """
    scale = CHIP_SIZE / (1 + 2 * PADDING)
    points = tuple(((PADDING + x) * scale, (PADDING + y) * scale) for x, y in MEAN_FACE)
    return CropLayout(f"dlib_{CHIP_SIZE}", CHIP_SIZE, points)


class DlibEmbedder(RawBatchEmbedder):
    """dlib's ResNet-29: 128 numbers per face, scaled to unit length so that cosine compares them.

    Args:
        batch_size: Chips per call of the network, at least 1.

    Raises:
        DependencyError: If dlib or its weights are not installed.
        EmbedderError: If the weights file cannot be read.

    Attributes:
        name: "dlib".
        layout: dlib's 150-pixel chip.
        dimension: 128.
        sha256: Hash of the weights file.
        device: Always "cpu"; the wheel on PyPI has no CUDA.
        path: The weights file.
    """

    name = "dlib"
    dimension = 128
    device = "cpu"

    def __init__(self, batch_size: int = 64) -> None:
        super().__init__(batch_size)
        self.path = models_folder() / _MODEL
        if not self.path.is_file():
            raise EmbedderError(
                f"{self.path}: missing; reinstall with pip install --force-reinstall face-recognition-models"
            )
        self.layout = dlib_layout()
        self.sha256 = file_sha256(self.path)
        self._network = _open(self.path)

    def __reduce__(self) -> tuple[type[DlibEmbedder], tuple[int]]:
        """A pickled copy opens dlib's weights where it is unpickled: the network itself cannot be pickled."""
        return type(self), (self._batch_size,)

    def _run(self, crops: UInt8Array) -> Any:
        """One batch through the network."""
        return self._network.compute_face_descriptor(list(np.ascontiguousarray(crops)))


def models_folder() -> Path:
    """Where face-recognition-models keeps dlib's weights.

    The package is located, not imported: importing it needs pkg_resources, which current setuptools no longer has.

    Raises:
        DependencyError: If the package is not installed.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or spec.origin is None:
        raise DependencyError("dlib's recogniser needs its weights: pip install dlib-bin face-recognition-models")
    return Path(spec.origin).parent / "models"


def _open(path: Path) -> Any:
    try:
        import dlib
    except ImportError as error:
        raise DependencyError(
            f"dlib's recogniser needs dlib: pip install dlib-bin face-recognition-models ({error})"
        ) from error
    try:
        return dlib.face_recognition_model_v1(str(path))
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or ["unreadable"])[0]
        raise EmbedderError(
            f"{path}: damaged ({reason}); reinstall with pip install --force-reinstall face-recognition-models"
        ) from error
