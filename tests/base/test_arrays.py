"""What reading a damaged array file raises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskfix.base import UNREADABLE_ARRAYS


@pytest.mark.parametrize("compressed", [False, True])
def test_unreadable_arrays__any_byte_flipped_or_cut_off(tmp_path: Path, compressed: bool) -> None:
    """Whatever byte is damaged, reading gives arrays or one of these; some bytes give what numpy's own tests do not."""
    path = tmp_path / "x.npz"
    values = np.random.default_rng(0).normal(size=40)
    (np.savez_compressed if compressed else np.savez)(path, values=values, names=np.array(["a", "bc"]))
    whole = path.read_bytes()
    assert len(whole) < 2000
    raised = set()
    for place in range(len(whole)):
        for damaged in (whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :], whole[:place]):
            path.write_bytes(damaged)
            try:
                with np.load(path, allow_pickle=False) as file:
                    for name in file.files:
                        file[name]
            except UNREADABLE_ARRAYS as error:
                raised.add(type(error).__name__)
    assert {"BadZipFile", "NotImplementedError"} | ({"error"} if compressed else set()) <= raised
