"""What the seams' tests share: faces, and the real libraries around them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import maskfix
from maskfix.align import align, load_detector
from maskfix.base import UInt8Array, arcface_layout
from maskfix.plugin import pack_free_analysis
from tests.plugin.worlds import by_place, with_chin


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks gain nothing from threads, and other processes lose by them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def face(astronaut: UInt8Array) -> UInt8Array:
    """The astronaut's head, `(250, 250, 3)` RGB."""
    return np.ascontiguousarray(astronaut[:250, 100:350])


@pytest.fixture(scope="session")
def five(face: UInt8Array) -> NDArray[np.float32]:
    """Her five points, by MTCNN."""
    [found] = load_detector("mtcnn").detect([face])
    assert found.five is not None
    return found.five


@pytest.fixture(scope="session")
def masked(face: UInt8Array, five: NDArray[np.float32]) -> UInt8Array:
    """Her head with a green block over mouth and chin."""
    return with_chin(face, five)


@pytest.fixture(scope="session")
def heads(face: UInt8Array, masked: UInt8Array, five: NDArray[np.float32]) -> torch.Tensor:
    """The clean and the masked head as ArcFace's crops, `(2, 3, 112, 112)` in [-1, 1]."""
    both = np.stack([align(photo, five, arcface_layout(112))[0] for photo in (face, masked)])
    return torch.from_numpy(both).permute(0, 3, 1, 2).float().div(127.5) - 1


@pytest.fixture(scope="session")
def recogniser_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real ArcFace network; a tiny ONNX file of the same interface where ../shared is not there."""
    from tests.embed.onnx_files import RECOGNISER, write_recogniser

    pytest.importorskip("insightface", reason="insightface is not installed")
    return RECOGNISER if RECOGNISER.is_file() else write_recogniser(tmp_path_factory.mktemp("onnx") / "tiny.onnx")


@pytest.fixture(scope="session")
def session_options() -> Any:
    """onnxruntime with one thread: the same bits at every call, and nothing that a fork could not copy."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return options


@pytest.fixture(scope="module")
def fresh(recogniser_path: Path, session_options: Any) -> Any:
    """A real FaceAnalysis, shared by the tests; each leaves it as it was."""
    return pack_free_analysis(recogniser_path, sess_options=session_options)


@pytest.fixture
def app(fresh: Any) -> Any:
    before = dict(vars(fresh)), list(fresh.models.items())
    yield fresh
    if not isinstance(vars(fresh).get("get"), type(None)):
        maskfix.detach(fresh)
    assert (dict(vars(fresh)), list(fresh.models.items())) == before


@pytest.fixture(scope="module")
def both_bgr(face: UInt8Array, masked: UInt8Array) -> UInt8Array:
    """A photograph of two heads, the right one masked."""
    return np.ascontiguousarray(np.hstack([face, masked])[..., ::-1])


@pytest.fixture(scope="module")
def expected(fresh: Any, both_bgr: UInt8Array) -> list[Any]:
    """What insightface alone makes of it, from left to right."""
    faces = fresh.get(both_bgr)
    assert len(faces) == 2, "MTCNN must find the masked head as well"
    return by_place(faces)
