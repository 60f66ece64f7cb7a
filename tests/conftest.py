"""Fixtures that every room may use, and the policy on seeds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from maskfix.base import UInt8Array

SHARED = Path(__file__).resolve().parents[2] / "shared"

# MediaPipe's and TensorFlow's C++ logs would drown the report of a failure.
os.environ.setdefault("GLOG_minloglevel", "2")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data sets and models beside the checkout."""
    if not (SHARED / "README.md").is_file():
        pytest.skip(f"{SHARED} is not here: no data sets, no models")
    return SHARED


@pytest.fixture(scope="session")
def astronaut() -> UInt8Array:
    """Scikit-image's photograph of Eileen Collins (NASA, public domain), `(512, 512, 3)`; it cannot be written to."""
    data = pytest.importorskip("skimage.data", reason="scikit-image, which ships the photograph, is not installed")
    photo = np.ascontiguousarray(data.astronaut())
    photo.setflags(write=False)
    return photo


def _torch_seed() -> int | None:
    """Seed of torch's global generator; None where torch is not imported yet."""
    torch = sys.modules.get("torch")
    return None if torch is None else int(torch.initial_seed())


@pytest.fixture(autouse=True)
def no_global_seed() -> Iterator[None]:
    """Nothing may leave a global seed behind: draws take a generator, or run inside `torch.random.fork_rng`."""
    torch_seed, numpy_state = _torch_seed(), np.random.get_state()[1]  # noqa: NPY002
    yield
    assert torch_seed in (None, _torch_seed()), "this test left a seed in torch's global generator"
    same = np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert same, "this test seeded NumPy's global generator or drew from it"
