"""Recognisers behind one protocol; each is loaded on first use, so that importing this room is cheap."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from maskfix.embed.base import Embedder, RawEmbedder, describe_embedder, grey_crops, unit_rows
from maskfix.embed.factory import default_embedder, list_embedders, load

if TYPE_CHECKING:
    from maskfix.embed.arcface import ArcFaceEmbedder
    from maskfix.embed.dlib_resnet import DlibEmbedder, dlib_layout
    from maskfix.embed.facenet import FaceNetEmbedder, box_crop
    from maskfix.embed.layouts import facenet_layout, lightcnn_layout, list_layouts, load_layout
    from maskfix.embed.lightcnn import LightCnnEmbedder, create_lightcnn
    from maskfix.embed.mobilefacenet import MobileFaceNet
    from maskfix.embed.onnx_network import OnnxEmbedder
    from maskfix.embed.onnx_torch import OnnxTorchNetwork
    from maskfix.embed.sessions import reopen_sessions, session_options

_LAZY = {
    "ArcFaceEmbedder": "maskfix.embed.arcface",
    "DlibEmbedder": "maskfix.embed.dlib_resnet",
    "FaceNetEmbedder": "maskfix.embed.facenet",
    "LightCnnEmbedder": "maskfix.embed.lightcnn",
    "MobileFaceNet": "maskfix.embed.mobilefacenet",
    "OnnxEmbedder": "maskfix.embed.onnx_network",
    "OnnxTorchNetwork": "maskfix.embed.onnx_torch",
    "box_crop": "maskfix.embed.facenet",
    "create_lightcnn": "maskfix.embed.lightcnn",
    "dlib_layout": "maskfix.embed.dlib_resnet",
    "facenet_layout": "maskfix.embed.layouts",
    "lightcnn_layout": "maskfix.embed.layouts",
    "list_layouts": "maskfix.embed.layouts",
    "load_layout": "maskfix.embed.layouts",
    "reopen_sessions": "maskfix.embed.sessions",
    "session_options": "maskfix.embed.sessions",
}

__all__ = [
    "ArcFaceEmbedder",
    "DlibEmbedder",
    "Embedder",
    "FaceNetEmbedder",
    "LightCnnEmbedder",
    "MobileFaceNet",
    "OnnxEmbedder",
    "OnnxTorchNetwork",
    "RawEmbedder",
    "box_crop",
    "create_lightcnn",
    "default_embedder",
    "describe_embedder",
    "dlib_layout",
    "facenet_layout",
    "grey_crops",
    "lightcnn_layout",
    "list_embedders",
    "list_layouts",
    "load",
    "load_layout",
    "reopen_sessions",
    "session_options",
    "unit_rows",
]


if not TYPE_CHECKING:
    # To type checkers this function would make every name of the room, misspelt ones too, Any.

    def __getattr__(name: str) -> Any:
        """Import the module of a lazily exported name."""
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_LAZY[name]), name)
