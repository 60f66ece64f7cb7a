"""Crops of any recogniser to the canonical crop and back, and the numbers in which libraries hold pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskfix.align import LandmarkReader, estimate_similarity, invert_affine
from maskfix.base import (
    BoolArray,
    CropLayout,
    DoubleArray,
    FloatArray,
    InputError,
    UInt8Array,
    canonical_layout,
    check_choice,
    check_shape,
)
from maskfix.deocclude import Recut
from maskfix.embed import grey_crops
from maskfix.plugin.base import Completer, SeamResult

VALUE_RANGES = {
    "unit": (255.0, 0.0),
    "symmetric": (127.5, 127.5),
    "fixed_standard": (128.0, 127.5),
    "byte": (1.0, 0.0),
}
"""Scale and offset that turn a library's numbers x into 0..255: `scale * x + offset`. `unit` is [0, 1], `symmetric`
[-1, 1], `fixed_standard` facenet-pytorch's (byte - 127.5) / 128, `byte` 0..255."""

COLOURS = ("rgb", "bgr", "grey")
"""Order of the channels that a network takes; for `grey` the seam takes RGB and greys after completing."""

#: Levels by which a resampled picture may overshoot 0..255; a wrongly declared range is off by far more.
_OVERSHOOT = 16.0


def relate(layout: CropLayout, canonical: CropLayout, landmarks: NDArray[Any] | None = None) -> DoubleArray:
    """Affine map from a recogniser's crop to the canonical crop.

    Without landmarks, the face is taken to lie where the layout has it. Crops by a detector's box (`fit="box"`) have
    been stretched: x and y are scaled each by its own factor, which takes the layout's points exactly to the canonical
    ones. With landmarks, the layout's stretch is undone and the least-squares similarity of the five points follows.

    Args:
        layout: Where the recogniser's crop has the five points.
        canonical: The canonical crop.
        landmarks: `(N, 5, 2)` ArcFace points in pixels of each crop, or None.

    Returns:
        `(2, 3)`, or `(N, 2, 3)` with landmarks, float64.

    Raises:
        InputError: If the landmarks have another shape, coincide or are not finite.

    Example:
        >>> from maskfix.base import arcface_layout
        >>> relate(arcface_layout(112), canonical_layout(128)) + 0.0
        array([[1., 0., 8.],
               [0., 1., 0.]])
    """
    stretch = np.ones(2)
    if layout.fit == "box":
        stretch = canonical.array.std(0) / layout.array.std(0)
    points = layout.array if landmarks is None else np.asarray(landmarks, np.float64)
    if points.shape[-2:] != (5, 2):
        raise InputError(f"landmarks: expected shape (N, 5, 2), got {points.shape}")
    matrix = estimate_similarity(points * stretch, canonical.array)
    matrix[..., :2] *= stretch
    # Whole shifts stay whole: what is only moved is not resampled.
    return matrix.round(9)


def to_canonical(crops: UInt8Array, matrices: DoubleArray, size: int) -> UInt8Array:
    """Carry crops into the canonical crop; what lies outside a crop is the nearest pixel of its edge.

    Args:
        crops: `(N, H, W, 3)` uint8 RGB.
        matrices: `(2, 3)` or `(N, 2, 3)`, from `relate`.
        size: Side S of the canonical crop.

    Returns:
        `(N, S, S, 3)` uint8 RGB.
    """
    maps = np.broadcast_to(matrices, (len(crops), 2, 3))
    carried = [
        cv2.warpAffine(crop, matrix, (size, size), borderMode=cv2.BORDER_REPLICATE)
        for crop, matrix in zip(crops, maps, strict=True)
    ]
    return np.array(carried, np.uint8).reshape(-1, size, size, 3)


def from_canonical(crop: UInt8Array, before: UInt8Array, after: UInt8Array, matrix: DoubleArray) -> UInt8Array:
    """Put what the completion changed back into the crop that it came from.

    Args:
        crop: `(H, W, 3)` uint8, the recogniser's crop; it is not changed.
        before: `(S, S, 3)` uint8, the canonical crop before completion, in the crop's channel order.
        after: `(S, S, 3)` uint8, after it.
        matrix: `(2, 3)` from crop to canonical crop.

    Returns:
        `(H, W, 3)` uint8; pixels that the completion left alone are those of `crop`, to the bit.
    """
    changed = (before != after).any(-1).astype(np.float32)
    back, box = invert_affine(matrix).round(9), (crop.shape[1], crop.shape[0])
    weight = cv2.warpAffine(changed, back, box)[..., None]
    picture = cv2.warpAffine(np.ascontiguousarray(after), back, box, borderMode=cv2.BORDER_REPLICATE)
    base = crop.astype(np.float32)
    return np.asarray(np.rint(base + weight * (picture - base)), np.uint8)


@dataclass(frozen=True)
class CropFormat:
    """How a recogniser holds its crops; every item is declared by the caller, nothing is guessed from the numbers.

    Attributes:
        layout: Where the five points lie.
        value_range: What the caller gives, one of `VALUE_RANGES`.
        network_range: What the recogniser takes, likewise.
        colour: One of `COLOURS`.

    Raises:
        InputError: If a name is unknown.
    """

    layout: CropLayout
    value_range: str
    network_range: str
    colour: str = "rgb"

    def __post_init__(self) -> None:
        """Refuse unknown names."""
        check_choice("value_range", self.value_range, VALUE_RANGES)
        check_choice("network_range", self.network_range, VALUE_RANGES)
        check_choice("colour", self.colour, COLOURS)

    def decode(self, batch: NDArray[Any]) -> UInt8Array:
        """The pictures of a batch.

        Args:
            batch: `(N, 3, S, S)` or `(N, S, S, 3)` in `value_range`, RGB or BGR as declared (RGB for `grey`).

        Returns:
            `(N, S, S, 3)` uint8 RGB.

        Raises:
            InputError: If it is no batch of square colour crops, or its numbers cannot be of the declared range.
        """
        last = self._last(batch)
        if batch.dtype == np.uint8 and self.value_range != "byte":
            raise InputError(f"crops: uint8 values run from 0 to 255, and value_range {self.value_range!r} is declared")
        scale, offset = VALUE_RANGES[self.value_range]
        levels = batch if batch.dtype == np.uint8 else np.asarray(batch, np.float32) * scale + offset
        self._check_levels(batch, levels)
        pictures = levels if levels.dtype == np.uint8 else np.rint(levels).clip(0, 255).astype(np.uint8)
        pictures = pictures if last else pictures.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(pictures[..., ::-1] if self.colour == "bgr" else pictures)

    def _last(self, batch: NDArray[Any]) -> bool:
        """Whether the channels come last."""
        shape = tuple(batch.shape)
        if len(shape) == 4 and self.colour == "grey" and 1 in (shape[1], shape[3]):
            raise InputError(
                "crops: completion needs colour, and these are grey; give the colour crop (N, 3, H, W) that they were "
                "made of, the seam greys it after completing"
            )
        for last in (False, True):
            height, width, channels = (
                (shape[-3:] if last else (*shape[-2:], shape[-3])) if len(shape) == 4 else (0,) * 3
            )
            if channels == 3 and height == width >= 8:
                return last
        raise InputError(f"crops: expected square colour crops (N, 3, S, S), got shape {shape}")

    def _check_levels(self, batch: NDArray[Any], levels: NDArray[Any]) -> None:
        if batch.size == 0 or levels.dtype == np.uint8:
            return
        low, high = float(batch.min()), float(batch.max())
        whole = self.value_range != "byte" or high > 1 or bool((batch == np.rint(batch)).all())
        if not (levels.min() >= -_OVERSHOOT and levels.max() <= 255 + _OVERSHOOT and whole):
            raise InputError(
                f"crops: values run from {low:.3g} to {high:.3g}, not {self.value_range!r} as declared; say "
                f"value_range={' or '.join(repr(name) for name in VALUE_RANGES if name != self.value_range)}"
            )

    def encode(self, batch: NDArray[Any], before: UInt8Array, after: UInt8Array) -> NDArray[Any]:
        """A batch in which pixels that differ between two sets of pictures are those of the second.

        Args:
            batch: As `decode` took it; it is not changed.
            before: What `decode` made of it.
            after: The same, completed, `(N, S, S, 3)` uint8 RGB.

        Returns:
            As `batch`; numbers of pixels that do not differ are the same, to the bit.
        """
        scale, offset = VALUE_RANGES[self.value_range]
        changed = (before != after).any(-1, keepdims=True)
        pictures = after[..., ::-1] if self.colour == "bgr" else after
        if not self._last(batch):
            changed, pictures = changed.transpose(0, 3, 1, 2), pictures.transpose(0, 3, 1, 2)
        numbers = pictures if batch.dtype == np.uint8 else (pictures.astype(np.float32) - offset) / scale
        return np.where(changed, numbers, batch).astype(batch.dtype, copy=False)

    def encode_grey(self, pictures: UInt8Array) -> FloatArray:
        """Grey pictures `(N, 1, S, S)` float32 in the network's range, by OpenCV's weights and rounding."""
        scale, offset = VALUE_RANGES[self.network_range]
        # Divided as torchvision's ToTensor does it, so that both paths give the same bits.
        return (grey_crops(pictures)[:, None].astype(np.float32) - np.float32(offset)) / np.float32(scale)

    def convert(self, batch: Any) -> Any:
        """An array or tensor from the caller's range to the network's; itself where they are one.

        Whole numbers come out as float32, floats in their own precision.
        """
        if self.value_range == self.network_range:
            return batch
        if isinstance(batch, np.ndarray):
            batch = batch if np.issubdtype(batch.dtype, np.floating) else batch.astype(np.float32)
        elif not batch.is_floating_point():
            batch = batch.float()
        (scale, offset), (new_scale, new_offset) = (
            VALUE_RANGES[name] for name in (self.value_range, self.network_range)
        )
        levels = batch if (scale, offset) == (1.0, 0.0) else batch * scale + offset
        return (levels - new_offset) / new_scale

    def complete(
        self,
        completer: Completer,
        pictures: UInt8Array,
        landmarks: NDArray[Any] | None = None,
        device: str | None = None,
    ) -> tuple[UInt8Array, SeamResult]:
        """Complete crops by way of the canonical crop, in one call of the network.

        Without landmarks, and where the settings refine, those of faces that may be occluded are read off the canonical
        crops. An occluded face is completed by these, and its crop, if the layout goes by landmarks, cut anew: moved,
        turned and scaled to where the recogniser expects it. One by a detector's box (`fit="box"`) stays in place.

        Args:
            completer: The network and its settings.
            pictures: `(N, H, H, 3)` uint8 RGB in `layout`, at its size or scaled.
            landmarks: `(N, 5, 2)` in pixels of the crops, or None.
            device: Where the recogniser runs.

        Returns:
            The crops with completions where the seam may need them (elsewhere as they came), and the result on the
            canonical crops.

        Raises:
            InputError: If the landmarks have another shape.
        """
        if landmarks is not None:
            check_shape("landmarks", landmarks, (len(pictures), 5, 2))
        blind = completer.deoccluder(device)
        scaled = CropLayout(
            self.layout.name,
            pictures.shape[1],
            tuple(map(tuple, self.layout.array * (pictures.shape[1] / self.layout.size))),
            self.layout.fit,
        )
        frame = np.broadcast_to(relate(scaled, canonical_layout(blind.size), landmarks), (len(pictures), 2, 3))
        crops, matrices = to_canonical(pictures, frame, blind.size), frame.copy()
        reader = completer.reader(device) if landmarks is None else None
        recut = _recutting(pictures, crops, matrices, reader) if reader is not None else None
        result = completer.complete(crops.copy(), device, recut)
        wanted = np.ones_like(result.used) if completer.settings.mode == "observe" else result.used
        completed = pictures.copy()
        occluded = completer.occluded(result.completion.coverage)
        for i in np.flatnonzero(wanted):
            place, after = pictures[i], result.completion.images[i]
            if occluded[i] and reader is not None and self.layout.fit != "box":
                # Cut out anew: the face goes where the recogniser expects it.
                place, matrix = _recut(place, frame[i], matrices[i]), frame[i]
            else:
                matrix = matrices[i]
            completed[i] = from_canonical(place, crops[i], after, matrix)
        return completed, result


def _recutting(pictures: UInt8Array, crops: UInt8Array, matrices: DoubleArray, reader: LandmarkReader) -> Recut:
    """What cuts canonical crops anew, by the landmarks that are read off them.

    Args:
        pictures: `(N, H, H, 3)` uint8 RGB.
        crops: `(N, S, S, 3)` uint8 RGB, their canonical crops; those that are cut anew are written there.
        matrices: `(N, 2, 3)` from picture to crop; likewise.
        reader: What reads.
    """
    size = crops.shape[1]
    layout, factor = canonical_layout(size), size / reader.size

    def recut(rows: BoolArray) -> UInt8Array:
        # A reader has a size of its own; canonical crops of all sizes are one, scaled about its corner.
        shown = crops[rows] if factor == 1 else to_canonical(pictures[rows], matrices[rows] / factor, reader.size)
        moves = estimate_similarity(reader.read(shown) * factor, layout.array)
        moved = moves[:, :, :2] @ matrices[rows]
        moved[:, :, 2] += moves[:, :, 2]
        matrices[rows] = moved
        crops[rows] = to_canonical(pictures[rows], moved, size)
        return crops[rows]

    return recut


def _recut(picture: UInt8Array, frame: DoubleArray, matrix: DoubleArray) -> UInt8Array:
    """A recogniser's crop in which the face lies where `matrix` found it; beyond its edge is the nearest pixel."""
    back, wanted = invert_affine(frame), np.vstack([matrix, [0, 0, 1]])
    box = (picture.shape[1], picture.shape[0])
    return np.asarray(cv2.warpAffine(picture, back @ wanted, box, borderMode=cv2.BORDER_REPLICATE), np.uint8)
