"""What stands around a face: other surroundings in place of a photograph's own reflection.

Training pictures that are cut close to the face end inside the crop, and the store fills the rest with their
reflection. No photograph of a user looks so. A network that only ever saw reflections leans on them: where the mirrored
ring was replaced, weights trained without this lost 1 to 2.6 dB under the mask, where nothing had changed.
"""

from __future__ import annotations

import copy

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from maskfix.base import FloatArray, UInt8Array

KINDS = ("edge", "flat", "smooth", "texture", "person")
# The first and last look most like what surrounds a face; the second and third lend nothing to lean on.
_SHARES = (0.25, 0.1, 0.1, 0.15, 0.4)
_MARGIN = 4
# Straps are narrower than this share of a crop, mask bodies wider.
_STRAP = 0.07


def photograph_part(frame: FloatArray, size: int) -> NDArray[np.bool_]:
    """Where a crop shows the photograph itself.

    Args:
        frame: `(4, 2)` corners of the photograph in pixels of the crop.
        size: Side S of the crop.

    Returns:
        `(S, S)`; two pixels at the photograph's edge, which may show reflection in part, do not count.
    """
    # Drawn with a margin, so that an edge just outside of the crop counts too.
    inside = np.zeros((size + 2 * _MARGIN, size + 2 * _MARGIN), np.uint8)
    # Far corners of large photographs would leave the range of OpenCV's fixed-point numbers.
    corners = np.clip(frame, -4 * size, 5 * size) + _MARGIN
    cv2.fillConvexPoly(inside, np.rint(corners * 16).astype(np.int32), 1, shift=4)
    # OpenCV fills every pixel that the outline touches, and interpolation reaches one further.
    inside = cv2.erode(inside, np.ones((5, 5), np.uint8), borderType=cv2.BORDER_REPLICATE)
    return np.asarray(inside[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN] > 0)


def trim_frame(frame: FloatArray, most: float, generator: Generator) -> FloatArray:
    """Move each side of a photograph inwards by a random share of its width or height.

    Training pictures were cut by where eyes, mouth and chin are, so that their edges tell what a mask hides. Edges that
    lie elsewhere each time tell nothing.

    Args:
        frame: `(4, 2)` corners of the photograph, clockwise from the top left one.
        most: Largest share that a side loses, in [0, 0.4].
        generator: Source of the four draws.

    Returns:
        `(4, 2)` float32 corners of the smaller photograph.

    Example:
        >>> square = np.array([[0, 0], [10, 0], [10, 10], [0, 10]], np.float32)
        >>> trim_frame(square, 0.0, np.random.default_rng(0)).tolist() == square.tolist()
        True
    """
    left, top, right, bottom = generator.uniform(0, most, 4)
    shares = np.array([[left, top], [1 - right, top], [1 - right, 1 - bottom], [left, 1 - bottom]], np.float32)
    # A crop is a similarity of the photograph: two of its sides span the frame.
    return np.asarray(frame[0] + shares @ np.stack([frame[1] - frame[0], frame[3] - frame[0]]), np.float32)


def show_trimmed(
    crop: UInt8Array, trimmed: UInt8Array, masked: UInt8Array, alpha: FloatArray
) -> tuple[UInt8Array, UInt8Array]:
    """A masked face as its trimmed photograph shows it beside the mask; under the mask stays the whole face.

    Otherwise a network would learn that a chin may end anywhere under a mask, and paint a mean of chin and background.
    Straps are too thin to hide anything: what they lie on is the trimmed photograph.

    Args:
        crop: `(S, S, 3)` uint8, the face.
        trimmed: `(S, S, 3)` uint8, the same of a smaller photograph.
        masked: `(S, S, 3)` uint8, `crop` with a mask on.
        alpha: `(S, S)` opacity of the mask, in [0, 1].

    Returns:
        Clean and masked picture, `(S, S, 3)` uint8 each.
    """
    side = 1 + 2 * max(1, round(_STRAP * len(crop) / 2))  # odd: an opening by an even one moves the mask
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    hidden = cv2.morphologyEx((alpha >= 0.5).astype(np.uint8), cv2.MORPH_OPEN, kernel)[..., None] > 0
    clean = np.where(hidden, crop, trimmed)
    shift = (1 - alpha.astype(np.float32))[..., None] * (clean.astype(np.float32) - crop)
    return clean, np.asarray(np.clip(np.rint(masked + shift), 0, 255), np.uint8)


def surround(
    crop: UInt8Array, frame: FloatArray, other: UInt8Array, generator: Generator, kind: str | None = None
) -> UInt8Array:
    """Replace what lies outside of the photograph, which itself stays to the bit but for a seam of random softness.

    By kind: the nearest pixel of the edge, blurred; one colour; a smooth random field; texture of another picture;
    another face in the same place, hair, ears and all, its colours matched along the edge.

    Args:
        crop: `(S, S, 3)` uint8.
        frame: `(4, 2)` corners of the photograph in pixels of the crop.
        other: `(S, S, 3)` uint8, another face's crop.
        generator: Source of every draw; as many draws of a kind whatever the crop holds.
        kind: One of `KINDS`; drawn when None.

    Returns:
        `(S, S, 3)` uint8; the crop itself where all of it is photograph, or none.
    """
    size = crop.shape[0]
    drawn, softness = KINDS[generator.choice(len(KINDS), p=_SHARES)], generator.uniform(0, 2)
    inside = photograph_part(frame, size)
    around = _DRAWN[kind or drawn](crop, inside, other, generator)
    if inside.all() or not inside.any():
        return crop
    weight = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), 0.3 + softness)[..., None]
    # Soft towards the inside only: outside stands what must not show.
    weight = np.where(inside[..., None], np.clip(2 * weight - 1, 0, 1), 0)
    return np.asarray(np.rint(crop * weight + around * (1 - weight)), np.uint8)


def surround_trimmed(
    crop: UInt8Array,
    frame: FloatArray,
    smaller: FloatArray,
    other: UInt8Array,
    generator: Generator,
    kind: str | None = None,
) -> tuple[UInt8Array, UInt8Array]:
    """Other surroundings of a photograph and of what a trimmed one shows of it, the same draws for both.

    Args:
        crop: `(S, S, 3)` uint8.
        frame: `(4, 2)` corners of the photograph in pixels of the crop.
        smaller: The same of the trimmed photograph (`trim_frame`), or `frame` itself where nothing is trimmed.
        other: `(S, S, 3)` uint8, another face's crop.
        generator: Source of every draw.
        kind: One of `KINDS`; drawn when None.

    Returns:
        `(S, S, 3)` uint8 each; one array twice where nothing is trimmed.
    """
    if smaller is frame:
        crop = surround(crop, frame, other, generator, kind)
        return crop, crop
    twin = copy.deepcopy(generator)
    return surround(crop, frame, other, twin, kind), surround(crop, smaller, other, generator, kind)


def _edge(crop: UInt8Array, inside: NDArray[np.bool_], other: UInt8Array, generator: Generator) -> UInt8Array:
    """The colour of the photograph's nearest pixel, blurred."""
    blur = generator.uniform(1, 8)
    if not inside.any():
        return crop
    _, labels = cv2.distanceTransformWithLabels(
        (~inside).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colours = np.zeros((labels.max() + 1, 3), np.uint8)
    colours[labels[inside]] = crop[inside]
    return np.asarray(cv2.GaussianBlur(colours[labels], (0, 0), blur), np.uint8)


def _flat(crop: UInt8Array, inside: NDArray[np.bool_], other: UInt8Array, generator: Generator) -> UInt8Array:
    """One colour."""
    return np.broadcast_to(generator.integers(0, 256, 3).astype(np.uint8), crop.shape)


def _smooth(crop: UInt8Array, inside: NDArray[np.bool_], other: UInt8Array, generator: Generator) -> UInt8Array:
    """A coarse field of random colours, enlarged."""
    cells = int(generator.integers(2, 9))
    field = generator.integers(0, 256, (cells, cells, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(field, crop.shape[1::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def _texture(crop: UInt8Array, inside: NDArray[np.bool_], other: UInt8Array, generator: Generator) -> UInt8Array:
    """Another picture, rolled round so that no face stands where one would be expected."""
    rolled = np.roll(other, generator.integers(0, crop.shape[0], 2), (0, 1))
    return np.asarray(cv2.GaussianBlur(rolled, (0, 0), generator.uniform(0.3, 3)), np.uint8)


def _person(crop: UInt8Array, inside: NDArray[np.bool_], other: UInt8Array, generator: Generator) -> UInt8Array:
    """Another aligned face, mirrored or not, in the colours of the photograph along its edge."""
    mirrored = other[:, ::-1] if generator.random() < 0.5 else other
    band = inside & ~cv2.erode(inside.astype(np.uint8), np.ones((13, 13), np.uint8)).astype(np.bool_)
    if not band.any():
        return crop
    gain = (crop[band].mean(0) + 1) / (mirrored[band].mean(0) + 1)
    return np.asarray(np.clip(np.rint(mirrored * np.clip(gain, 0.33, 3)), 0, 255), np.uint8)


_DRAWN = {"edge": _edge, "flat": _flat, "smooth": _smooth, "texture": _texture, "person": _person}
