"""What a report says of failures; test_run.py reads whole ones."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.ijbc.report import _named_failures
from protocols.ijb import Flag


def test_failures__two_faces_of_one_picture() -> None:
    features: Any = SimpleNamespace(
        reasons={2: "no face found", 0: "the face lies outside", 1: "no face found", 3: "no face found", 4: "too dark"},
        flags=np.array([0, 0, 0, 0, Flag.NOT_MASKED]),
        units=SimpleNamespace(image=np.array(["a.jpg", "a.jpg", "a.jpg", "b.jpg", "a.jpg"])),
    )
    assert _named_failures(features) == {
        "no_face": {"a.jpg": "the face lies outside; no face found", "b.jpg": "no face found"},
        "not_masked": {"a.jpg": "too dark"},
    }
