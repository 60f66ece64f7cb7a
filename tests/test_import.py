"""The front door: quick to import, loads nothing heavy, and its names lead somewhere."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import maskfix


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def best_of_three(code: str) -> float:
    """Shortest wall time of three processes, in seconds: what the machine does besides only adds to it."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        run(code)
        times.append(time.perf_counter() - start)
    return min(times)


def test_import_costs_next_to_nothing() -> None:
    assert best_of_three("import maskfix") - best_of_three("pass") < 0.3


def test_import_loads_nothing_heavy() -> None:
    heavy = ("torch", "cv2", "numpy", "PIL", "mediapipe", "insightface", "onnxruntime", "matplotlib", "pandas")
    assert run(f"import sys, maskfix; print([name for name in {heavy} if name in sys.modules])") == "[]"


@pytest.mark.parametrize("room", ["base", "align", "data"])
def test_importing_a_room_loads_no_network_library(room: str) -> None:
    heavy = ("torch", "mediapipe", "facenet_pytorch", "matplotlib")
    assert run(f"import sys, maskfix.{room}; print([name for name in {heavy} if name in sys.modules])") == "[]"


def test_public_names() -> None:
    assert set(maskfix.__all__) | {"__version__"} == set(dir(maskfix))
    for name in maskfix.__all__:
        value = getattr(maskfix, name)
        assert value.__name__ == name
        assert value.__module__.startswith("maskfix.")
        assert vars(maskfix)[name] is value, "a second use must not import again"


@pytest.mark.parametrize(
    "name", ["CropLayout", "deepface.install", "embed.session_options", "face_recognition.last", "plugin.MODES"]
)
def test_reached_after_import_of_the_package_alone(name: str) -> None:
    assert run(f"import maskfix; print(bool(maskfix.{name}))") == "True"


def test_unknown_name_lists_the_public_ones() -> None:
    with pytest.raises(
        AttributeError, match="'maskfix' has no attribute 'Recogniser'; public: load_detector, Occluder"
    ):
        _ = maskfix.Recogniser
