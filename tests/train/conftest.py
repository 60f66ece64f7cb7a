"""A network and a store small enough to train within a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from maskfix.data import FaceStore, open_store
from maskfix.restore import CONFIGS, NetworkConfig
from tests.train.stores import write_store

TINY = NetworkConfig(
    size=64, widths=(8, 8, 12, 12, 16, 16), kernels=(3,) * 6, full_width=8, fusion_width=6, projection=16
)


@pytest.fixture(scope="module", autouse=True)
def tiny() -> Iterator[None]:
    """A network named `tiny`, known in this room's tests only; one thread, so that sums never change their order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CONFIGS, "tiny", TINY)
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 faces of 64 pixels."""
    return write_store(tmp_path_factory.mktemp("store64"), 64)


@pytest.fixture(scope="session")
def store_128(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 faces of 128 pixels, for the named networks."""
    return write_store(tmp_path_factory.mktemp("store128"), 128)


@pytest.fixture(scope="module")
def faces(store: Path) -> FaceStore:
    """The same, read."""
    return open_store(store)
