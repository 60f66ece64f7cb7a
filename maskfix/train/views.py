"""Training pictures: faces moved, mirrored, relit and put in other surroundings, with masks on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from maskfix.align import estimate_similarity, transform_points
from maskfix.base import FloatArray, UInt8Array, canonical_layout
from maskfix.data import FaceStore, whole_photographs
from maskfix.occlude import PAPER_KINDS, Occluder, open_occluder
from maskfix.train.config import ViewConfig
from maskfix.train.patterns import add_pattern
from maskfix.train.prints import add_print, add_valves
from maskfix.train.surroundings import show_trimmed, surround_trimmed, trim_frame

# Mirroring a face swaps a with c and d with f.
_MIRRORED = [2, 1, 0, 5, 4, 3]
# And eyes and mouth corners.
_MIRRORED_FIVE = [1, 0, 2, 4, 3]


class Face(NamedTuple):
    """One augmented face.

    Attributes:
        crop: `(S, S, 3)` uint8 RGB.
        points: `(6, 2)` float32 mask points in pixels.
        five: `(5, 2)` float32: the points by which the face is cut out as it was, in pixels; none is the face's own,
            they are the canonical layout's.
        correspondence: `(S, S, 2)` uint8, see `data.correspondence_target`.
        trimmed: `(S, S, 3)` uint8, the crop as it is seen where no mask is: of a smaller photograph if `trim` says so,
            else the crop itself.
        coarseness: Factor of the down-scaling that is still due, together with the mask, or None.
    """

    crop: UInt8Array
    points: FloatArray
    five: FloatArray
    correspondence: UInt8Array
    trimmed: UInt8Array
    coarseness: float | None = None


class Masked(NamedTuple):
    """One face with a mask on.

    Attributes:
        clean: `(S, S, 3)` uint8, what a completion should be.
        picture: `(S, S, 3)` uint8.
        alpha: `(S, S)` uint8, opacity of the mask times 255.
    """

    clean: UInt8Array
    picture: UInt8Array
    alpha: UInt8Array


class FaceDraw(NamedTuple):
    """How one face is varied.

    Attributes:
        matrix: `(2, 3)` affine map of pixels.
        mirrored: Whether left and right change places.
        gain: Factor of the light.
        gamma: Exponent of the light.
        grey: Whether the picture, one in twenty, loses its colour.
        coarseness: Factor of the down-scaling, or None to leave the picture as sharp as it is.
        with_mask: Whether the mask is scaled down with the face.
        surroundings: Seed of the surroundings, or None to leave the picture's own.
    """

    matrix: NDArray[np.float64]
    mirrored: bool
    gain: float
    gamma: float
    grey: bool
    coarseness: float | None
    with_mask: bool
    surroundings: int | None


class MaskDraw(NamedTuple):
    """One mask.

    Attributes:
        kind: Mask kind.
        source: Which occluder draws it.
        displacement: `(6, 2)` of the mask points, in pixels.
        pattern: Seed of the pattern on it, or None for none.
        printed: Seed of the print on it, or None for none.
        valves: Seed of its valves, or None for none.
    """

    kind: str
    source: int
    displacement: NDArray[np.float64]
    pattern: int | None
    printed: int | None = None
    valves: int | None = None


def open_occluders(templates: str | Path | None, config: ViewConfig) -> tuple[Occluder, ...]:
    """What puts masks on: this project's own templates, and those of a folder, if there is one.

    Args:
        templates: Folder in MaskTheFace's layout, or None.
        config: Whose kinds both must have.

    Raises:
        DatasetError: If the folder is missing or broken.
        InputError: If it lacks the template of a kind.
    """
    kinds = [*(config.kinds or PAPER_KINDS), *(["cloth"] if config.random_cloth else [])]
    return tuple(open_occluder(folder, kinds) for folder in (None, *([templates] if templates else [])))


class OccludedViews:
    """Draws augmented faces and masks for them.

    Args:
        store: Prepared faces.
        config: How to vary them.
        occluders: What puts masks on: the first by this project's own templates, the second, if any, by a folder's.
        others: Indices of the faces whose pictures may surround another one; all when None.
    """

    def __init__(
        self,
        store: FaceStore,
        config: ViewConfig,
        occluders: Sequence[Occluder],
        others: NDArray[np.int64] | None = None,
    ) -> None:
        self.store = store
        self.config = config
        self.occluders = tuple(occluders)
        self.kinds = config.kinds or PAPER_KINDS
        self.others = np.arange(len(store)) if others is None else others
        self.whole = whole_photographs(store.frames, store.size)

    def face(self, index: int, generator: Generator) -> Face:
        """One face, moved, mirrored, relit and coarsened at random."""
        drawn, size = self.draw_face(generator), self.store.size
        crop, points = np.asarray(self.store.crops[index]), np.asarray(self.store.points[index])
        coded = np.asarray(self.store.correspondence[index])
        crop, trimmed = self._surrounded(crop, index, drawn)
        matrix = drawn.matrix
        coded = cv2.warpAffine(coded, matrix, (size, size), flags=cv2.INTER_NEAREST)
        points, five = (placed @ matrix[:, :2].T + matrix[:, 2] for placed in (points, canonical_layout(size).array))
        if drawn.mirrored:
            coded = coded[:, ::-1].copy()
            coded[..., 0] = np.where(coded[..., 0] > 0, 256 - coded[..., 0].astype(np.int16), 0)
            points = (points * [-1, 1] + [size - 1, 0])[_MIRRORED]
            # The layout is not quite symmetric: a mirrored face would not be cut where the mirrored crop is.
            mirrored, layout = (five * [-1, 1] + [size - 1, 0])[_MIRRORED_FIVE], canonical_layout(size).array
            five = transform_points(estimate_similarity(layout, mirrored), layout)
        varied = _vary(crop, drawn)
        trimmed = varied if trimmed is crop else _vary(trimmed, drawn)
        placed, coarseness = (points.astype(np.float32), five.astype(np.float32)), drawn.coarseness
        return Face(varied, *placed, coded, trimmed, coarseness if drawn.with_mask else None)

    def _surrounded(self, crop: UInt8Array, index: int, drawn: FaceDraw) -> tuple[UInt8Array, UInt8Array]:
        """A crop with other surroundings, and the same of a smaller photograph; one object twice if not trimmed."""
        if drawn.surroundings is None:
            return crop, crop
        # A generator of its own: how much it gives depends on the face.
        generator = np.random.default_rng(drawn.surroundings)
        other = np.asarray(self.store.crops[self.others[generator.integers(len(self.others))]])
        frame = np.asarray(self.store.frames[index])
        smaller = trim_frame(frame, self.config.trim, generator) if self._trims(index, generator) else frame
        return surround_trimmed(crop, frame, smaller, other, generator)

    def _trims(self, index: int, generator: Generator) -> bool:
        """Whether a photograph is trimmed this time."""
        return self.config.trim > 0 and (not self.whole[index] or generator.random() < self.config.trim_whole)

    def draw_face(self, generator: Generator) -> FaceDraw:
        """Draw how one face is varied; the same draws whichever face it is."""
        light, surroundings = self.config.light, self.config.surroundings
        surrounded = surroundings > 0 and generator.random() < surroundings
        return FaceDraw(
            self._jitter(generator),
            mirrored=generator.random() < 0.5,
            gain=1 + generator.uniform(-light, light),
            gamma=float(np.exp(generator.uniform(-light, light))),
            grey=generator.random() < 0.05,
            coarseness=generator.uniform(self.config.coarsest, 1.0) if generator.random() < 0.5 else None,
            with_mask=self.config.coarsen_masks > 0 and generator.random() < self.config.coarsen_masks,
            surroundings=int(generator.integers(2**62)) if surrounded else None,
        )

    def occlude(self, face: Face, generator: Generator) -> Masked:
        """Put a random mask on a face, or none in a share of cases."""
        masked = self._put_on(face, self.draw_mask(generator))
        return Masked(*(coarsen(picture, face.coarseness) for picture in masked))

    def _put_on(self, face: Face, drawn: MaskDraw | None) -> Masked:
        """The face with the drawn mask, or as it is seen without one."""
        if drawn is None:
            return Masked(face.trimmed, face.trimmed, np.zeros(face.crop.shape[:2], np.uint8))
        points = face.points + drawn.displacement
        occluded = self.occluders[drawn.source].occlude(face.crop, points.astype(np.float32), drawn.kind)
        alpha = np.rint(occluded.alpha * 255).astype(np.uint8)
        picture = occluded.image
        if drawn.printed is not None:
            generator = np.random.default_rng(drawn.printed)
            other = np.asarray(self.store.crops[self.others[generator.integers(len(self.others))]])
            picture = add_print(picture, alpha, other, generator)
        if drawn.pattern is not None:
            picture = add_pattern(picture, alpha, np.random.default_rng(drawn.pattern))
        if drawn.valves is not None:
            picture, alpha = add_valves(picture, alpha, points, np.random.default_rng(drawn.valves))
        opacity = occluded.alpha if drawn.valves is None else alpha / np.float32(255)
        return Masked(*show_trimmed(face.crop, face.trimmed, picture, opacity), alpha)

    def draw_mask(self, generator: Generator) -> MaskDraw | None:
        """Draw one mask, or None for a face without one; the same draws whichever face it is for."""
        config = self.config
        if generator.random() < config.clean:
            return None
        kind = str(generator.choice(list(self.kinds)))
        if generator.random() < config.random_cloth:
            kind = "cloth#{:02x}{:02x}{:02x}".format(*generator.integers(0, 256, 3))
        own = len(self.occluders) == 1 or generator.random() < config.drawn
        displacement = generator.normal(0, config.point_noise, (6, 2))
        seeds = [self._seed(share, generator) for share in (config.pattern, config.prints, config.valves)]
        return MaskDraw(kind, 0 if own else 1, displacement, *seeds)

    @staticmethod
    def _seed(share: float, generator: Generator) -> int | None:
        """Draw a seed in a share of cases; nothing is drawn of what is never done, so that old runs stay theirs."""
        return int(generator.integers(2**62)) if share > 0 and generator.random() < share else None

    def _jitter(self, generator: Generator) -> NDArray[np.float64]:
        """A random small similarity about the middle of the crop, of a picture stretched or not."""
        config, middle = self.config, (self.store.size - 1) / 2
        turn, scale = generator.uniform(-config.turn, config.turn), generator.uniform(-config.scale, config.scale)
        matrix = np.asarray(cv2.getRotationMatrix2D((middle, middle), turn, 1 + scale), np.float64)
        matrix[:, 2] += generator.uniform(-config.shift, config.shift, 2)
        if config.stretch > 0:
            # Height over width changes by e^s, the area stays.
            half = generator.uniform(-config.stretch, config.stretch) / 2
            factors = np.exp([-half, half])
            matrix[:, 2] += matrix[:, :2] @ (middle * (1 - factors))
            matrix[:, :2] *= factors
        return matrix


def _vary(crop: UInt8Array, drawn: FaceDraw) -> UInt8Array:
    """Move, mirror and relight a crop as drawn, and coarsen it where that does not wait for the mask."""
    crop = cv2.warpAffine(crop, drawn.matrix, crop.shape[1::-1], borderMode=cv2.BORDER_REFLECT_101)
    crop = _relight(np.ascontiguousarray(crop[:, ::-1] if drawn.mirrored else crop), drawn)
    return crop if drawn.with_mask else coarsen(crop, drawn.coarseness)


def _relight(crop: UInt8Array, drawn: FaceDraw) -> UInt8Array:
    """Change gain and gamma; make some pictures grey."""
    table = np.clip(np.rint(255 * drawn.gain * (np.arange(256) / 255) ** drawn.gamma), 0, 255).astype(np.uint8)
    crop = cv2.LUT(crop, table)
    if drawn.grey:
        crop = np.repeat(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    return np.asarray(crop, np.uint8)


def coarsen(crop: UInt8Array, factor: float | None) -> UInt8Array:
    """Scale a crop down by area averaging and up again bilinearly.

    Args:
        crop: `(S, S, 3)` or `(S, S)` uint8.
        factor: Of the down-scaling, in (0, 1]; None leaves the crop as it is.

    Returns:
        The shape given, uint8.
    """
    if factor is None:
        return crop
    size = crop.shape[0]
    small = max(8, round(size * factor))
    return np.asarray(
        cv2.resize(cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA), (size, size)), np.uint8
    )
