"""The detectors, loaded once: each takes seconds to import."""

from __future__ import annotations

import pytest

from maskfix.align import LandmarkDetector, load_detector


@pytest.fixture(scope="session")
def mesh() -> LandmarkDetector:
    """MediaPipe's face mesh."""
    pytest.importorskip("mediapipe", reason="mediapipe is not installed: no mesh detector")
    return load_detector("mesh")


@pytest.fixture(scope="session")
def mtcnn() -> LandmarkDetector:
    """facenet-pytorch's MTCNN on the CPU."""
    return load_detector("mtcnn")
