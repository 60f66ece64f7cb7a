"""The seams: completion before the recogniser of insightface, facenet-pytorch, LightCNN, any module or ONNX file.

Everything is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskfix.plugin.arrays import CompletedCallable, CompletedEmbedder, CompletedSession
    from maskfix.plugin.attaching import attach, detach
    from maskfix.plugin.base import (
        GATE_THRESHOLD,
        MODES,
        Completer,
        FaceCompletion,
        SeamResult,
        SeamSettings,
        embed_by_mode,
    )
    from maskfix.plugin.crops import COLOURS, VALUE_RANGES, CropFormat
    from maskfix.plugin.insightface import CompletedRecogniser
    from maskfix.plugin.outputs import mix_embeddings
    from maskfix.plugin.pack_free import MtcnnForInsightFace, pack_free_analysis
    from maskfix.plugin.torch_modules import CompletedModule, CompletionStage, box_landmarks
    from maskfix.plugin.wrapping import stage, wrap

_HOME = {
    "arrays": ("CompletedCallable", "CompletedEmbedder", "CompletedSession"),
    "base": (
        "GATE_THRESHOLD",
        "MODES",
        "Completer",
        "FaceCompletion",
        "SeamResult",
        "SeamSettings",
        "embed_by_mode",
    ),
    "crops": ("COLOURS", "VALUE_RANGES", "CropFormat"),
    "attaching": ("attach", "detach"),
    "insightface": ("CompletedRecogniser",),
    "outputs": ("mix_embeddings",),
    "pack_free": ("MtcnnForInsightFace", "pack_free_analysis"),
    "torch_modules": ("CompletedModule", "CompletionStage", "box_landmarks"),
    "wrapping": ("stage", "wrap"),
}
_LAZY = {name: f"maskfix.plugin.{module}" for module, names in _HOME.items() for name in names}

__all__ = [
    "COLOURS",
    "GATE_THRESHOLD",
    "MODES",
    "VALUE_RANGES",
    "CompletedCallable",
    "CompletedEmbedder",
    "CompletedModule",
    "CompletedRecogniser",
    "CompletedSession",
    "Completer",
    "CompletionStage",
    "CropFormat",
    "FaceCompletion",
    "MtcnnForInsightFace",
    "SeamResult",
    "SeamSettings",
    "attach",
    "box_landmarks",
    "detach",
    "embed_by_mode",
    "mix_embeddings",
    "pack_free_analysis",
    "stage",
    "wrap",
]


if not TYPE_CHECKING:
    # To type checkers this function would make every name of the room, misspelt ones too, Any.

    def __getattr__(name: str) -> Any:
        """Import a public name on first use."""
        if name not in _LAZY:
            raise AttributeError(f"module 'maskfix.plugin' has no attribute {name!r}")
        return getattr(import_module(_LAZY[name]), name)
