"""insightface without a downloaded pack: facenet-pytorch's MTCNN, whose weights come in its wheel, as its detector."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskfix.align.mtcnn import MtcnnDetector
from maskfix.base import DependencyError, EmbedderError, FloatArray


class MtcnnForInsightFace:
    """facenet-pytorch's MTCNN with the interface that FaceAnalysis wants of a detector.

    Args:
        device: `cpu` or `cuda`.
    """

    taskname = "detection"

    def __init__(self, device: str = "cpu") -> None:
        self._detector = MtcnnDetector(device)

    def prepare(self, ctx_id: int, **kwargs: Any) -> None:
        """Take over `det_thresh`; MTCNN makes its own sizes, and stays on its device."""
        self._detector.min_confidence = float(kwargs.get("det_thresh", self._detector.min_confidence))

    def detect(
        self, img: NDArray[Any], input_size: Any = None, max_num: int = 0, metric: str = "default"
    ) -> tuple[FloatArray, FloatArray]:
        """Find faces.

        Args:
            img: `(H, W, 3)` uint8 BGR.
            input_size: Not used.
            max_num: Keep at most so many faces; all when 0.
            metric: Which to keep: `max` the largest, `default` the large and central.

        Returns:
            Boxes with scores `(N, 5)` and five points `(N, 5, 2)`, float32, best score first.
        """
        boxes, scores, points = self._detector.detect_all(np.ascontiguousarray(img[..., ::-1]))
        order = np.argsort(-scores, kind="stable")
        if 0 < max_num < len(order):
            order = order[np.argsort(-_worth(boxes[order], img.shape, metric), kind="stable")[:max_num]]
        return np.column_stack([boxes, scores])[order].astype(np.float32), points[order]

    def guess(self, img: NDArray[Any]) -> tuple[FloatArray, FloatArray]:
        """Where faces may be that `detect` misses, see `maskfix.align.Guesser`; as `detect` gives them.

        Args:
            img: `(H, W, 3)` uint8 BGR.
        """
        boxes, scores, points = self._detector.guess_all(np.ascontiguousarray(img[..., ::-1]))
        return np.column_stack([boxes, scores]).astype(np.float32), points


def _worth(boxes: NDArray[np.float64], shape: tuple[int, ...], metric: str) -> NDArray[np.float64]:
    """By what insightface chooses among faces: area, less twice the squared distance from the centre by default."""
    area = np.prod(boxes[:, 2:4] - boxes[:, :2], axis=1)
    if metric == "max":
        return np.asarray(area)
    centre = (boxes[:, :2] + boxes[:, 2:4]) / 2 - [shape[1] // 2, shape[0] // 2]
    return np.asarray(area - 2.0 * (centre**2).sum(1))


def pack_free_analysis(recogniser: str | Path, device: str = "cpu", **kwargs: Any) -> Any:
    """A FaceAnalysis of insightface that needs no pack: MTCNN finds the faces, an ONNX file of yours embeds them.

    Args:
        recogniser: ONNX file of an ArcFace recogniser.
        device: Where MTCNN runs, `cpu`, `cuda` or `cuda:N`.
        kwargs: Passed on to insightface's `get_model`, such as `providers`.

    Returns:
        The application, prepared.

    Raises:
        EmbedderError: If the file is missing or no recogniser.
        DependencyError: If insightface is not installed.
    """
    try:
        from insightface.app import FaceAnalysis
        from insightface.model_zoo import get_model
    except ImportError as error:
        raise DependencyError(f"insightface cannot be imported ({error}); pip install insightface") from error
    path = Path(recogniser).expanduser()
    if not path.is_file():
        raise EmbedderError(f"{path}: no such ONNX file; give the path of an ArcFace recogniser")
    kwargs.setdefault("providers", ["CPUExecutionProvider"])
    model = get_model(str(path), **kwargs)
    if getattr(model, "taskname", None) != "recognition":
        raise EmbedderError(f"{path}: insightface takes it for {getattr(model, 'taskname', 'nothing')}, no recogniser")
    detector = MtcnnForInsightFace(device)
    with tempfile.TemporaryDirectory() as folder:
        # FaceAnalysis wants a detection model in its folder before anything else can be put in its place.
        _write_stand_in(Path(folder) / "detector.onnx")
        app = FaceAnalysis(folder, **kwargs)
    app.models = {"detection": detector, "recognition": model}
    app.det_model, app.model_dir = detector, str(path.parent)
    app.prepare(ctx_id=0 if device.startswith("cuda") else -1)
    return app


def _write_stand_in(path: Path) -> None:
    """An ONNX file with the nine outputs by which insightface knows a detector with landmarks; it detects nothing."""
    import onnx
    from onnx import TensorProto, helper

    names = [f"out{index}" for index in range(9)]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], [name]) for name in names],
        "stand_in",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 640, 640])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 640, 640]) for name in names],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, str(path))
