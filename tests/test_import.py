"""The front door: quick to import, loads nothing heavy, and its names lead somewhere."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import maskfix


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_import_loads_python_alone() -> None:
    """No library at all, so that it costs next to nothing."""
    code = "import sys; before = set(sys.modules); import maskfix; print(*sorted(set(sys.modules) - before))"
    loaded = {name.partition(".")[0] for name in run(code).split()}
    assert "maskfix" in loaded
    assert loaded - sys.stdlib_module_names == {"maskfix"}


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


@pytest.mark.parametrize("name", ["", ".deepface", ".embed", ".plugin"])
def test_type_checkers_see_names_and_no_getattr(name: str) -> None:
    """A `__getattr__` that they see makes every name Any to them, misspelt ones too; what they see is what there is."""
    module = importlib.import_module(f"maskfix{name}")
    tree = ast.parse(Path(module.__file__ or "").read_text())
    guards = {ast.unparse(node.test): node.body for node in tree.body if isinstance(node, ast.If)}
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    hidden = [node.name for node in guards["not TYPE_CHECKING"] if isinstance(node, ast.FunctionDef)]
    assert "__getattr__" in hidden
    assert "__getattr__" not in functions
    imports = [node for node in (*tree.body, *guards.get("TYPE_CHECKING", ())) if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname or alias.name for node in imports for alias in node.names}
    assert set(getattr(module, "__all__", ())) <= seen
