"""Puts a mask on a face: each half warped by its own perspective map, composited with real alpha."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from maskfix.base import LONGEST_SIDE, DoubleArray, FloatArray, InputError, Occluded, UInt8Array, check_photo
from maskfix.occlude.kinds import MaskKind, parse_kind
from maskfix.occlude.quads import OUTLINE, check_points, choose_view, half_maps, shoelace
from maskfix.occlude.sources import TemplateSource, View, drawn_templates, folder_templates

COLOUR_WEIGHT = 0.5
"""Share of the colour in `cloth#rrggbb` (MaskTheFace, `--color_weight`)."""

NEUTRAL_LUMINANCE = 135.0
"""Mean luminance (Rec. 601, 0 to 255) of a well-lit face; on such a face a template keeps its own brightness."""

BRIGHTNESS_EXPONENT = 0.75
"""Below 1, so that skin tone moves the mask less than the light does."""

BRIGHTNESS_RANGE = (0.5, 1.25)
"""Bounds of the factor that matches the mask's brightness to the face."""

_LUMA = np.array([0.299, 0.587, 0.114])
_LEVELS_PER_OCTAVE = 2
_MAX_LEVEL = 14
_PAD = 2
# How far a mask may reach beyond the box of its six points, in sizes of that box: bounds the region that is warped.
_REACH = 0.75


class _Mip(NamedTuple):
    """A template at one level: premultiplied RGBA float32, points in pixels of that level, value of its highlights."""

    image: FloatArray
    points: DoubleArray
    peak: float


class _Region(NamedTuple):
    """The part of the photo that is composited: columns [left, right), rows [top, bottom)."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def empty(self) -> bool:
        return self.left >= self.right or self.top >= self.bottom


class Occluder:
    """Puts synthetic masks on photographs, deterministically.

    Args:
        source: Where the templates come from; this project's own drawings when None.

    Example:
        >>> face = np.full((64, 64, 3), 150, dtype=np.uint8)
        >>> points = np.array([[10, 30], [32, 24], [54, 30], [14, 46], [32, 60], [50, 46]], dtype=np.float32)
        >>> result = Occluder().occlude(face, points, "N95")
        >>> result.image.shape, bool(result.mask[42, 32]), bool(result.mask[4, 4])
        ((64, 64, 3), True, False)
    """

    def __init__(self, source: TemplateSource | None = None) -> None:
        self.source: TemplateSource = drawn_templates() if source is None else source
        self._mips: dict[tuple[str, View, int], _Mip] = {}

    def kind(self, name: str) -> MaskKind:
        """What the name of a kind means with these templates, see `parse_kind`.

        Raises:
            InputError: If the source has no such template.
        """
        return parse_kind(name, self.source.templates)

    def check_kinds(self, names: Iterable[str]) -> None:
        """Refuse kinds that these templates cannot give, before any picture is looked at.

        Raises:
            InputError: If the source lacks the template of one.
        """
        for name in names:
            self.kind(name)

    def occlude(self, photo: UInt8Array, points: FloatArray, kind: str) -> Occluded:
        """Put one mask on one face.

        The left half (a, b, e, d) and the right half (b, c, f, e) have a perspective map each, continued beyond the six
        points for edges and ear loops. Near the line b-e the two maps blend into one another, so the surface is
        continuous. The mask's colour is multiplied by the face's mean luminance over `NEUTRAL_LUMINANCE`, damped and
        bounded (`BRIGHTNESS_EXPONENT`, `BRIGHTNESS_RANGE`) and never so far that a bright mask drowns in white. Then
        alpha * mask + (1 - alpha) * photo.

        Args:
            photo: `(H, W, 3)` uint8 RGB; not changed.
            points: Mask points a..f, `(6, 2)`, x and y in pixels of the photo; they may lie outside of it.
            kind: One of the source's templates, or `cloth#rrggbb`; see `parse_kind`.

        Returns:
            The photo with the mask, its alpha and its binary mask; where alpha is 0 the photo is bit-identical.

        Raises:
            InputError: If the photo is not uint8 RGB, the source lacks the kind, or the points are degenerate.
            DatasetError: If the template's picture is damaged.
        """
        check_photo("photo", photo)
        target = check_points(points)
        parsed = self.kind(kind)
        mip = self._mip(parsed.template, choose_view(target), target)
        height, width = photo.shape[:2]
        image = photo.copy()
        alpha = np.zeros((height, width), dtype=np.float32)
        region = _region(target, height, width)
        if max(region.right - region.left, region.bottom - region.top) > LONGEST_SIDE:
            raise InputError(f"photo: a mask of more than {LONGEST_SIDE} pixels across; scale the photo down first")
        if not region.empty:
            layer = _warp(mip, target, region)
            opacity = np.clip(layer[..., 3], 0.0, 1.0)
            gain = min(brightness_gain(photo, target), _headroom(mip, parsed))
            colour = _tint(layer[..., :3], opacity, parsed) * np.float32(gain)
            window = (slice(region.top, region.bottom), slice(region.left, region.right))
            # Rounding before the alpha is applied keeps the result between the photo and the mask's colour.
            below = photo[window].astype(np.float32)
            over = np.minimum(colour, 255.0 * opacity[..., None])
            mixed = over + (1.0 - opacity[..., None]) * below
            image[window] = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
            alpha[window] = opacity
        return Occluded(image, alpha, alpha >= 0.5)

    def _mip(self, template: str, view: View, target: DoubleArray) -> _Mip:
        """The template at about the photo's scale, made once per level."""
        full = self.source.get(template, view)
        source = full.points.astype(np.float64)
        outline = list(OUTLINE)
        ratio = np.sqrt(shoelace(source[outline]) / shoelace(target[outline]))
        level = int(np.clip(np.rint(_LEVELS_PER_OCTAVE * np.log2(max(ratio, 1.0))), 0, _MAX_LEVEL))
        key = (template, view, level)
        if key not in self._mips:
            self._mips[key] = _shrink(full.image, source, 2.0 ** (-level / _LEVELS_PER_OCTAVE))
        return self._mips[key]


def open_occluder(templates: str | Path | None = None, kinds: Iterable[str] = ()) -> Occluder:
    """An occluder of the templates of a folder, for what takes them as an option.

    Args:
        templates: Folder in MaskTheFace's layout; this project's own drawings when None.
        kinds: Kinds that it must have.

    Raises:
        DatasetError: If the folder is missing or broken, see `folder_templates`.
        InputError: If it lacks the template of a kind.
    """
    occluder = Occluder(None if templates is None else folder_templates(templates))
    occluder.check_kinds(kinds)
    return occluder


def brightness_gain(photo: UInt8Array, points: DoubleArray) -> float:
    """Factor that matches a mask's brightness to the face it lies on.

    Args:
        photo: `(H, W, 3)` uint8 RGB.
        points: a..f, `(6, 2)`, in pixels of the photo.

    Returns:
        `(mean luminance inside a..f / NEUTRAL_LUMINANCE) ** BRIGHTNESS_EXPONENT`, bounded to `BRIGHTNESS_RANGE`;
        1 where no part of the face lies inside the photo. White masks on dark photographs so become grey.
    """
    height, width = photo.shape[:2]
    low = np.clip(np.floor(points.min(axis=0)), 0, [width, height]).astype(int)
    high = np.clip(np.ceil(points.max(axis=0)) + 1, 0, [width, height]).astype(int)
    if (low >= high).any():
        return 1.0
    patch = photo[low[1] : high[1], low[0] : high[0]]
    inside = np.zeros(patch.shape[:2], dtype=np.uint8)
    cv2.fillPoly(inside, [np.rint(points[list(OUTLINE)] - low).astype(np.int32)], 1)
    if not inside.any():
        return 1.0
    luminance = float(np.dot(cv2.mean(patch, mask=inside)[:3], _LUMA))
    return float(np.clip((luminance / NEUTRAL_LUMINANCE) ** BRIGHTNESS_EXPONENT, *BRIGHTNESS_RANGE))


def _shrink(image: UInt8Array, points: DoubleArray, scale: float) -> _Mip:
    """Premultiply a template, shrink it by area averaging and pad it, so that its border is soft."""
    rgba = image.astype(np.float32)
    rgba[..., 3] /= 255.0
    rgba[..., :3] *= rgba[..., 3:]
    height, width = image.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if scale < 1.0:
        rgba = cv2.resize(rgba, size, interpolation=cv2.INTER_AREA)
    factor = np.array([size[0] / width, size[1] / height]) if scale < 1.0 else np.ones(2)
    padded = cv2.copyMakeBorder(rgba, _PAD, _PAD, _PAD, _PAD, cv2.BORDER_CONSTANT, value=(0.0, 0.0, 0.0, 0.0))
    solid = image[image[..., 3] > 128][:, :3]
    peak = float(np.percentile(solid.max(axis=1), 95)) if len(solid) else 255.0
    # Pixel centres: (x + 0.5) scales, x does not.
    return _Mip(padded, (points + 0.5) * factor - 0.5 + _PAD, peak)


def _headroom(mip: _Mip, kind: MaskKind) -> float:
    """Largest brightness factor that keeps folds and seams of a bright mask from drowning in white; at least 1."""
    peak = mip.peak
    if kind.rgb is not None:
        peak = (1.0 - COLOUR_WEIGHT) * peak + COLOUR_WEIGHT * max(kind.rgb)
    return max(1.0, 250.0 / max(peak, 1.0))


def _region(target: DoubleArray, height: int, width: int) -> _Region:
    """The box of the six points, grown by `_REACH` of its size and cut to the photo."""
    low, high = target.min(axis=0), target.max(axis=0)
    margin = _REACH * (high - low) + 2.0
    left, top = np.clip(np.floor(low - margin), 0, [width, height]).astype(int)
    right, bottom = np.clip(np.ceil(high + margin) + 1, 0, [width, height]).astype(int)
    return _Region(int(left), int(top), int(right), int(bottom))


def _warp(mip: _Mip, target: DoubleArray, region: _Region) -> FloatArray:
    """Warp a template onto the region; `(h, w, 4)` float32 premultiplied RGBA, alpha in [0, 1]."""
    columns = np.arange(region.left, region.right, dtype=np.float32)[None, :]
    rows = np.arange(region.top, region.bottom, dtype=np.float32)[:, None]
    left, right = half_maps(target, mip.points)
    share = _right_share(target, columns, rows)
    left_x, left_y = _apply(left, columns, rows)
    right_x, right_y = _apply(right, columns, rows)
    map_x = left_x + share * (right_x - left_x)
    map_y = left_y + share * (right_y - left_y)
    return np.asarray(
        cv2.remap(mip.image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(0, 0, 0, 0)),
        dtype=np.float32,
    )


def _right_share(target: DoubleArray, columns: FloatArray, rows: FloatArray) -> FloatArray:
    """Share of the right half's map: 0 left of the line b-e, 1 right of it, a smooth step in a zone around it.

    The zone ends well before the nearest cheek point, so a, c, d and f lie under their own half's map alone; at b and e
    the two maps agree. All six points therefore map exactly.
    """
    along = target[4] - target[1]
    normal = np.array([along[1], -along[0]]) / max(float(np.hypot(*along)), 1e-6)
    distances = (target[[0, 2, 3, 5]] - target[1]) @ normal
    reach = 0.5 * float(np.abs(distances).min())
    zone = max(reach, 0.5)
    offset = float(target[1] @ normal)
    signed = np.float32(normal[0]) * columns + (np.float32(normal[1]) * rows - np.float32(offset))
    step = np.clip(signed * np.float32(0.5 / zone) + np.float32(0.5), 0.0, 1.0)
    return np.asarray(step * step * (3.0 - 2.0 * step), dtype=np.float32)


def _apply(matrix: DoubleArray, columns: FloatArray, rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Apply a perspective map to a grid; points beyond its horizon go far outside of the template."""
    m = matrix.astype(np.float32)
    # Near the horizon the depth is clamped: x and y become huge and nothing of the template shows there.
    depth = np.maximum(m[2, 0] * columns + (m[2, 1] * rows + m[2, 2]), np.float32(1e-3))
    inverse = 1.0 / depth
    x = (m[0, 0] * columns + (m[0, 1] * rows + m[0, 2])) * inverse
    y = (m[1, 0] * columns + (m[1, 1] * rows + m[1, 2])) * inverse
    # remap wants coordinates that fit its integer arithmetic.
    return np.clip(x, -1e4, 3e4), np.clip(y, -1e4, 3e4)


def _tint(colour: FloatArray, opacity: FloatArray, kind: MaskKind) -> FloatArray:
    """Mix a kind's colour into premultiplied RGB: 0.5 template + 0.5 colour."""
    if kind.rgb is None:
        return colour
    paint = np.asarray(kind.rgb, dtype=np.float32) * np.float32(COLOUR_WEIGHT)
    return np.asarray((1.0 - COLOUR_WEIGHT) * colour + paint * opacity[..., None], dtype=np.float32)
