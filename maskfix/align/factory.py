"""Landmark detectors by name."""

from __future__ import annotations

import importlib.util

from maskfix.align.base import LandmarkDetector
from maskfix.base import check_choice

_NAMES = ("auto", "mesh", "mtcnn")


def list_detectors() -> tuple[str, ...]:
    """Names that `load_detector` knows.

    Example:
        >>> list_detectors()
        ('auto', 'mesh', 'mtcnn')
    """
    return _NAMES


def load_detector(name: str = "auto", device: str = "cpu") -> LandmarkDetector:
    """Make a landmark detector.

    Args:
        name: `mesh` (MediaPipe, 468 points), `mtcnn` (facenet-pytorch, five points), or `auto`: mesh where mediapipe
            is installed, else mtcnn.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; used by mtcnn.

    Raises:
        InputError: If the name is unknown or the device is not there.
        DependencyError: If the package behind it is not installed.
    """
    check_choice("detector", name, _NAMES)
    if name == "auto":
        name = "mesh" if importlib.util.find_spec("mediapipe") else "mtcnn"
    if name == "mesh":
        from maskfix.align.mesh import MeshDetector

        return MeshDetector()
    from maskfix.align.mtcnn import MtcnnDetector

    return MtcnnDetector(device)
