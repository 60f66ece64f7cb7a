"""Parts of `maskfix verify` that need no network: its lines, and which face a number means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskfix.base import ImageError, UInt8Array
from maskfix.cli.thresholds import Threshold
from maskfix.cli.verify import Face, Verification, _choose, describe


@pytest.mark.parametrize(
    ("mode", "completed", "told"),
    [("gate", 1, True), ("always", 1, True), ("gate", 0, False), ("gate", 2, False), ("fuse", 1, False)],
)
def test_says_what_the_threshold_did_to_completed_probes__where_that_was_measured(
    mode: str, completed: int, told: bool
) -> None:
    faces = Face("a.jpg", 1, 1, 0.2 * completed, completed > 0), Face("b.jpg", 1, 1, 0.2, completed > 1)
    known = Threshold(0.5, 0.001, "LFW", 3000, (0.002, 0.25))
    lines = describe(Verification(0.6, 0.4, 0.6, known, faces, ("dlib", "0" * 64), "cadf", mode))
    line = "let 0.20% of impostors in and turned 25.0% of genuine pairs away"
    assert any(line in shown for shown in lines) == told


class TestChoose:
    class Finder:
        """Two faces that are seen, and one further left that completion brings out."""

        def find_hidden(self, photo: UInt8Array, blind: Any) -> Any:
            return np.array([300, 500, 50], np.float32)[:, None, None] + np.zeros((3, 5, 2), np.float32)

    def test_a_number_means_the_same_face_always(self) -> None:
        parts: Any = (self.Finder(), np.zeros((9, 9, 3), np.uint8), Path("x.png"), None)
        main = _choose(*parts, None)
        assert (main.five[0, 0], main.number, main.found) == (300, 2, 3)
        for number, x in enumerate((50, 300, 500), 1):
            assert _choose(*parts, number).five[0, 0] == x
        with pytest.raises(ImageError, match=r"x\.png: 3 faces found, so there is no face 4 from the left"):
            _choose(*parts, 4)
