"""maskfix: completes occluded faces before face verification.

The public names, in the order of the flow: find and align a face, complete it, embed it with the recogniser at hand.
Everything is imported on first use, so `import maskfix` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # For type checkers: with __getattr__ alone every name, misspelt ones too, would be Any to them.
    from maskfix import deepface as deepface
    from maskfix import embed as embed
    from maskfix import face_recognition as face_recognition
    from maskfix import plugin as plugin
    from maskfix.align import load_detector
    from maskfix.base import Completion, CropLayout, MaskfixError, read_image, write_image
    from maskfix.deocclude import Deoccluder
    from maskfix.occlude import Occluder
    from maskfix.plugin.attaching import attach, detach
    from maskfix.plugin.wrapping import wrap

__version__ = "0.1.0"

_PUBLIC = {
    "load_detector": "maskfix.align",
    "Occluder": "maskfix.occlude",
    "Deoccluder": "maskfix.deocclude",
    "Completion": "maskfix.base",
    "CropLayout": "maskfix.base",
    "attach": "maskfix.plugin.attaching",
    "detach": "maskfix.plugin.attaching",
    "wrap": "maskfix.plugin.wrapping",
    "MaskfixError": "maskfix.base",
    "read_image": "maskfix.base",
    "write_image": "maskfix.base",
}

# Modules that users call by their dotted name, such as `maskfix.face_recognition.face_encodings`.
_MODULES = ("deepface", "embed", "face_recognition", "plugin")

__all__ = [
    "Completion",
    "CropLayout",
    "Deoccluder",
    "MaskfixError",
    "Occluder",
    "attach",
    "detach",
    "load_detector",
    "read_image",
    "wrap",
    "write_image",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a public name or module on first use."""
        if name in _MODULES:
            return importlib.import_module(f"maskfix.{name}")
        if name not in _PUBLIC:
            raise AttributeError(f"module 'maskfix' has no attribute {name!r}; public: {', '.join(_PUBLIC)}")
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*_PUBLIC, "__version__"])
