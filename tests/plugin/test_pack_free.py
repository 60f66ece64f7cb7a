from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskfix.base import EmbedderError, UInt8Array
from maskfix.plugin import MtcnnForInsightFace, pack_free_analysis
from tests.embed.onnx_files import save

insightface = pytest.importorskip("insightface")


@pytest.fixture(scope="module")
def detector() -> MtcnnForInsightFace:
    return MtcnnForInsightFace()


@pytest.fixture(scope="module")
def three_bgr(face: UInt8Array) -> UInt8Array:
    """Three heads: a large one at the left edge, a smaller one in the middle, a small one at the right."""
    import cv2

    canvas = np.zeros((300, 900, 3), np.uint8)
    for x, size in ((0, 250), (350, 200), (780, 120)):
        canvas[20 : 20 + size, x : x + size] = cv2.resize(face, (size, size))[..., ::-1]
    return canvas


def test_all_faces(detector: MtcnnForInsightFace, three_bgr: UInt8Array) -> None:
    boxes, points = detector.detect(three_bgr)
    assert boxes.shape == (3, 5)
    assert points.shape == (3, 5, 2)
    assert boxes.dtype == points.dtype == np.float32
    assert (np.diff(boxes[:, 4]) <= 0).all()
    for box, five in zip(boxes, points, strict=True):
        assert (five > box[:2]).all()
        assert (five < box[2:4]).all()


@pytest.mark.parametrize(("metric", "nearest"), [("max", 125), ("default", 450)])
def test_which_is_kept(detector: MtcnnForInsightFace, three_bgr: UInt8Array, metric: str, nearest: int) -> None:
    """The largest of all, or the large and central one, as insightface's own detectors choose."""
    [box], points = detector.detect(three_bgr, max_num=1, metric=metric)
    assert abs((box[0] + box[2]) / 2 - nearest) < 40
    assert points.shape == (1, 5, 2)


def test_nothing(detector: MtcnnForInsightFace) -> None:
    boxes, points = detector.detect(np.zeros((100, 100, 3), np.uint8))
    assert boxes.shape == (0, 5)
    assert points.shape == (0, 5, 2)


def test_threshold(three_bgr: UInt8Array) -> None:
    strict = MtcnnForInsightFace()
    strict.prepare(-1, det_thresh=1.0, input_size=(640, 640))
    assert len(strict.detect(three_bgr)[0]) < 3


def test_is_insightfaces_own_class(recogniser_path: Path, session_options: Any, three_bgr: UInt8Array) -> None:
    app = pack_free_analysis(recogniser_path, sess_options=session_options)
    assert type(app) is insightface.app.FaceAnalysis
    assert list(app.models) == ["detection", "recognition"]
    assert app.det_model is app.models["detection"]
    faces = app.get(three_bgr, max_num=2)
    assert len(faces) == 2
    assert np.linalg.norm(faces[0].normed_embedding) == pytest.approx(1)


def test_errors(tmp_path: Path) -> None:
    from onnx import helper

    with pytest.raises(EmbedderError, match=r"absent\.onnx: no such ONNX file"):
        pack_free_analysis(tmp_path / "absent.onnx")
    attributes = save(tmp_path / "x.onnx", [helper.make_node("Identity", ["x"], ["y"])], {}, ["n", 3, 96, 96], {"y": 4})
    with pytest.raises(EmbedderError, match=r"x\.onnx: insightface takes it for .*, no recogniser"):
        pack_free_analysis(attributes)
