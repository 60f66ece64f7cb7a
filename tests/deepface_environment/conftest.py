"""deepface lives in an environment of its own (`make test-deepface`)."""

from __future__ import annotations

from importlib.util import find_spec

# Pytest imports every module for its doctests; the tests themselves say why they are skipped.
collect_ignore = [] if find_spec("deepface") else ["colour_model.py", "onnx_model.py"]
