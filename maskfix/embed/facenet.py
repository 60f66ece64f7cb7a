"""FaceNet as facenet-pytorch has it: InceptionResnetV1, 512 numbers per face, with its published weights or yours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maskfix.base import (
    DependencyError,
    EmbedderError,
    InputError,
    UInt8Array,
    check_choice,
    check_photo,
    check_shape,
    replacing,
    resolve_device,
)
from maskfix.embed.base import BatchEmbedder
from maskfix.embed.checkpoints import build_loaded, is_path, read_state
from maskfix.embed.layouts import FACENET_MARGIN, FACENET_SIZE, facenet_layout

_RELEASE = "https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"

WEIGHTS = {"vggface2": "20180402-114759-vggface2.pt", "casia-webface": "20180408-102900-casia-webface.pt"}
"""Weights that facenet-pytorch offers, with their files; it publishes no hashes."""

DIMENSION = 512
"""Length of the embedding."""

#: The classifier over the people of the training set; it is no part of the recogniser.
_CLASSIFIER = "logits."


class FaceNetEmbedder(BatchEmbedder):
    """facenet-pytorch's InceptionResnetV1 as a recogniser.

    Crops: users of facenet-pytorch cut by their detector's box. An embedder is given crops by five landmarks, which
    every detector of maskfix gives and a completed face keeps, so `layout` stands for that box by a fixed rule (see
    `maskfix.embed.layouts.facenet_layout`); the same landmarks always give the same crop. Where a box is at hand,
    `box_crop` cuts exactly as facenet-pytorch does, and `embed` takes that crop as well.

    Args:
        source: `vggface2` or `casia-webface`, looked for where facenet-pytorch keeps them and fetched there when
            missing; or the path of a state dict.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        batch_size: Crops per call of the network, at least 1.

    Raises:
        EmbedderError: If the name is unknown, the weights are missing and cannot be fetched, or the file is damaged or
            of another network.
        DependencyError: If facenet-pytorch is not installed.
        InputError: If the batch size is below 1 or the device is not there.

    Attributes:
        name: `facenet:` and the name of the weights or the file's stem.
        layout: A box of 160 pixels, not turned; `box_crop` cuts it as facenet-pytorch does.
        dimension: 512.
        sha256: Hash of the weights file.
        path: The weights file.
        network: The network, frozen; it takes RGB tensors `(N, 3, 160, 160)`, `(value - 127.5) / 128`.
    """

    dimension = DIMENSION

    def __init__(self, source: str | Path, device: str = "auto", batch_size: int = 64) -> None:
        super().__init__(batch_size)
        self._device = torch.device(resolve_device(device))
        text = str(source)
        if text in WEIGHTS:
            self.path, self.name = checkpoint_path(text), f"facenet:{text}"
            if not self.path.is_file():
                _fetch(text, self.path)
        elif is_path(text):
            self.path = Path(text).expanduser()
            self.name = f"facenet:{self.path.stem}"
        else:
            raise EmbedderError(f"facenet weights {text!r} are unknown; known: {', '.join(WEIGHTS)}, or a path")
        state, self.sha256 = read_state(self.path)
        state = {key: value for key, value in state.items() if not key.startswith(_CLASSIFIER)}
        self.network = build_loaded(_network_class(), state, self.path, "InceptionResnetV1").to(self._device)
        self.layout = facenet_layout()

    @torch.inference_mode()
    def _run(self, crops: UInt8Array) -> Tensor:
        # Copied: torch takes no arrays whose strides run backwards.
        pictures = torch.from_numpy(crops.copy()).to(self._device).permute(0, 3, 1, 2).float()
        with torch.autocast(self._device.type, enabled=False):  # a caller's would round the vectors
            embedded: Tensor = self.network((pictures - 127.5) / 128).cpu()
        return embedded


def box_crop(photo: UInt8Array, box: Sequence[float] | NDArray[Any]) -> UInt8Array:
    """The crop that facenet-pytorch cuts by a detection box: margin 14, whole pixels, stretched to 160x160, not turned.

    It is that of photographs given as arrays. PIL images facenet-pytorch stretches by another filter (bilinear instead
    of by area), which moves pixels by half a grey level on average.

    Args:
        photo: `(H, W, 3)` uint8 RGB.
        box: `(4,)` left, top, right, bottom in pixels, as `MTCNN.detect` gives it; what lies outside the photo is cut
            off.

    Returns:
        `(160, 160, 3)` uint8 RGB.

    Raises:
        InputError: If the photo is none, or the box has another shape, is not finite, or shows less than a pixel of it.
        DependencyError: If facenet-pytorch is not installed.
    """
    check_photo("photo", photo)
    sides = np.asarray(box, np.float64)
    check_shape("box", sides, (4,))
    low, high = np.maximum(sides[:2], 0), np.minimum(sides[2:], photo.shape[1::-1])
    if not np.isfinite(sides).all() or (high - low < 1).any():
        raise InputError(
            f"box: {sides.round(1).tolist()} shows nothing of a photo of {photo.shape[1]}x{photo.shape[0]}"
        )
    try:
        from facenet_pytorch.models.utils.detect_face import extract_face
    except ImportError as error:
        raise _absent(error) from error
    face = extract_face(photo, sides, FACENET_SIZE, FACENET_MARGIN)
    return np.ascontiguousarray(face.permute(1, 2, 0).numpy().astype(np.uint8))


def checkpoint_path(name: str) -> Path:
    """Where facenet-pytorch keeps weights: `$TORCH_HOME/checkpoints`, by default in `~/.cache/torch`.

    Args:
        name: `vggface2` or `casia-webface`.

    Raises:
        InputError: If the name is unknown.
        DependencyError: If facenet-pytorch is not installed.
    """
    try:
        from facenet_pytorch.models.inception_resnet_v1 import get_torch_home
    except ImportError as error:
        raise _absent(error) from error
    check_choice("facenet weights", name, WEIGHTS)
    return Path(get_torch_home()) / "checkpoints" / WEIGHTS[name]


def _absent(error: ImportError) -> DependencyError:
    return DependencyError(f"facenet needs facenet-pytorch: pip install facenet-pytorch==2.5.3 ({error})")


def _network_class() -> Any:
    try:
        from facenet_pytorch import InceptionResnetV1
    except ImportError as error:
        raise _absent(error) from error
    return InceptionResnetV1


def _fetch(name: str, path: Path) -> None:
    """Download weights to where facenet-pytorch would; what is no checkpoint is not kept.

    Raises:
        EmbedderError: If the download fails; the message says which file goes where.
    """
    url, temporary = _RELEASE + WEIGHTS[name], path
    try:
        with replacing(path) as temporary:
            torch.hub.download_url_to_file(url, str(temporary))
            read_state(temporary)
    except (OSError, ValueError, RuntimeError) as error:  # network, disk, and a checkpoint that is none
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].removeprefix(f"{temporary}: ")[:120]
        raise EmbedderError(
            f"facenet weights {name}: download failed ({reason}); fetch {url} and put it at {path} (about 110 MB; its "
            "authors publish no hash, maskfix reports the file's sha256)"
        ) from error
