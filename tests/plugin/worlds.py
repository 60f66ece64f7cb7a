"""A completing network whose behaviour is known, and photographs for it: pure green is taken for an occlusion.

The libraries in these tests are the real ones; only the completing network is a stand-in, so that what is gated and
what is painted can be computed by hand.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor, nn

import maskfix
from maskfix.align import LandmarkReader
from maskfix.base import UInt8Array
from maskfix.deocclude import Deoccluder
from maskfix.restore import EarlySight
from maskfix.restore.config import CONFIGS
from maskfix.restore.decoder import Decoded

PAINT = (180, 130, 110)
GREEN = (0, 255, 0)


class GreenNetwork(nn.Module):
    """Takes green pixels for occluded and paints everything in one colour; counts its calls."""

    def __init__(self, size: int = 128) -> None:
        super().__init__()
        self.config = CONFIGS["cadf_small_128" if size == 128 else "cadf_base_256"]
        self.batches: list[int] = []
        self.threads: set[int] = set()

    def forward(self, picture: Tensor, every_scale: bool = True) -> Decoded:
        self.batches.append(len(picture))
        self.threads.add(threading.get_ident())
        red, green, blue = picture.unbind(1)
        occlusion = torch.where(green - torch.maximum(red, blue) > 0.5, 20.0, -20.0)[:, None]
        image = torch.tensor(PAINT, device=picture.device).view(1, 3, 1, 1).expand_as(picture) / 255
        return Decoded([image], [torch.zeros_like(picture)], [torch.zeros_like(picture[:, :2])], occlusion)


def green_deoccluder(size: int = 128, reader: LandmarkReader | None = None) -> Deoccluder:
    return Deoccluder(GreenNetwork(size), device="cpu", reader=reader)  # type: ignore[arg-type]


class Thirds(nn.Module):
    """A recogniser of crops in [-1, 1]: the mean colours of the upper, middle and lower third, scaled.

    Args:
        give: What comes out, made of the embedding.
    """

    def __init__(self, give: Callable[[Tensor], Any] = lambda embedding: embedding) -> None:
        super().__init__()
        self.give = give
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, img: Tensor, gain: float = 1.0) -> Any:
        return self.give(gain * self.scale * nn.functional.adaptive_avg_pool2d(img, (3, 1)).flatten(1))

    def wrapped(self, **settings: Any) -> Any:
        """The same behind a seam that completes what is green."""
        look: dict[str, Any] = {"layout": "arcface_112", "value_range": "symmetric"}
        return maskfix.wrap(self, deoccluder=green_deoccluder(), **look | settings)


class EarlyGreenNetwork(GreenNetwork):
    """The same in two halves, for an early look: what is encoded is where the picture is green."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded: list[int] = []

    def encoder(self, picture: Tensor) -> list[Tensor]:
        self.encoded.append(len(picture))
        return [picture]

    def decoder(self, picture: Tensor, features: list[Tensor], every_scale: bool = True) -> Decoded:
        return self(features[0], every_scale)


class EarlyGreenLook(nn.Module):
    """Clean, to this early look, is a picture whose first row shows no green."""

    def forward(self, features: list[Tensor]) -> EarlySight:
        first = features[0][:, :, :1]
        green = (first[:, 1] - torch.maximum(first[:, 0], first[:, 2]) > 0.5).any(2).any(1)
        occlusion = torch.where(green, 0.5, 0.001)[:, None, None, None].expand(-1, 1, 8, 8)
        return EarlySight(occlusion, occlusion.mean((1, 2, 3)), ~green)


def early_green_deoccluder(reader: LandmarkReader | None = None) -> Deoccluder:
    return Deoccluder(EarlyGreenNetwork(), device="cpu", early=EarlyGreenLook(), reader=reader)  # type: ignore[arg-type]


def batches(deoccluder: Deoccluder) -> list[int]:
    """How many crops each call of the network was given."""
    return deoccluder._runner.network.batches  # type: ignore[no-any-return, attr-defined]


def painted(before: NDArray[Any], canonical: NDArray[Any] | None = None) -> UInt8Array:
    """What becomes of an RGB canonical crop: green, grown by the rim of two pixels, gets the paint."""
    seen = np.asarray(before if canonical is None else canonical, np.int64)
    green = seen[..., 1] - np.maximum(seen[..., 0], seen[..., 2]) > 127.5
    rim = ndimage.binary_dilation(green, np.ones((5, 5)))
    return np.where(rim[..., None], np.uint8(PAINT), before).astype(np.uint8)


def with_chin(photo: UInt8Array, five: NDArray[Any]) -> UInt8Array:
    """The photograph with a green block over the mouth and the chin."""
    masked = photo.copy()
    eyes = float(np.linalg.norm(five[1] - five[0]))
    (left, _), (right, _) = five[3], five[4]
    top = int(five[2:, 1].mean())
    masked[top : int(top + 1.1 * eyes), int(left - 0.2 * eyes) : int(right + 0.2 * eyes)] = GREEN
    return masked


def by_place(faces: list[Any]) -> list[Any]:
    return sorted(faces, key=lambda face: float(face.bbox[0]))


def crop_112(img: UInt8Array, face: Any) -> UInt8Array:
    from insightface.utils import face_align

    return np.asarray(face_align.norm_crop(img, face.kps, 112))


def completed_112(img: UInt8Array, face: Any) -> UInt8Array:
    """By hand, with insightface's own crops: its crop of 128 is the canonical one, that of 112 lies inside."""
    from insightface.utils import face_align

    seen = face_align.norm_crop(img, face.kps, 128)[:112, 8:120, ::-1]
    return np.ascontiguousarray(painted(crop_112(img, face)[..., ::-1], seen)[..., ::-1])
