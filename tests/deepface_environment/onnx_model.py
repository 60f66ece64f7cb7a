"""A real recogniser in deepface's own interface that needs no download: the MobileFaceNet beside the checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from deepface.models.FacialRecognition import FacialRecognition
from numpy.typing import NDArray

PATH = Path(__file__).resolve().parents[3] / "shared" / "models" / "mobilefacenet-arcface" / "mobilefacenet.onnx"


class MobileFaceNetClient(FacialRecognition):  # type: ignore[misc]
    """Takes BGR in [0, 1], as deepface gives it; the network wants RGB in [-1, 1]."""

    def __init__(self) -> None:
        self.model = onnxruntime.InferenceSession(PATH, providers=["CPUExecutionProvider"])
        self.model_name = "MobileFaceNet"
        self.input_shape = (112, 112)
        self.output_shape = 192

    def forward(self, img: NDArray[Any]) -> list[Any]:
        batch = img[None] if img.ndim == 3 else img
        tensor = np.ascontiguousarray((batch[..., ::-1] * 2 - 1).transpose(0, 3, 1, 2), np.float32)
        rows: list[Any] = self.model.run(None, {self.model.get_inputs()[0].name: tensor})[0].tolist()
        return rows[0] if len(rows) == 1 else rows
