"""Recognisers behind one protocol; each is loaded on first use, so that importing this room is cheap."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from maskfix.embed.base import Embedder, unit_rows
from maskfix.embed.factory import list_embedders, load

if TYPE_CHECKING:
    from maskfix.embed.arcface import ArcFaceEmbedder
    from maskfix.embed.dlib_resnet import DlibEmbedder, dlib_layout
    from maskfix.embed.mobilefacenet import MobileFaceNet

_LAZY = {
    "ArcFaceEmbedder": "maskfix.embed.arcface",
    "DlibEmbedder": "maskfix.embed.dlib_resnet",
    "MobileFaceNet": "maskfix.embed.mobilefacenet",
    "dlib_layout": "maskfix.embed.dlib_resnet",
}

__all__ = [
    "ArcFaceEmbedder",
    "DlibEmbedder",
    "Embedder",
    "MobileFaceNet",
    "dlib_layout",
    "list_embedders",
    "load",
    "unit_rows",
]


def __getattr__(name: str) -> Any:
    """Import the module of a lazily exported name."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
