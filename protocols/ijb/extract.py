"""One block of units through the networks: features under each method, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from maskfix.align import align
from maskfix.base import (
    BoolArray,
    Completion,
    EmbedderError,
    FloatArray,
    InputError,
    Landmarks,
    UInt8Array,
    canonical_layout,
)
from maskfix.embed import unit_rows
from maskfix.embed.base import Embedder, RawEmbedder
from maskfix.metrics import psnr
from protocols.ijb.faces import Face, FaceFinder, Faces, Picture, draw_mask, read_picture
from protocols.ijb.settings import FeatureSettings, IjbParts
from protocols.ijb.units import Job
from protocols.landmark_cache import LandmarkCache
from protocols.pictures import Clock, Example

FIGURES = ("coverage", "true_coverage", "used", "psnr_inside", "masked_psnr_inside", "clean_coverage")
"""Figures of each probe unit, as in `protocols.EmbeddedPictures`; `used` is 1 where the completion was, else 0."""

_UNIT_TOLERANCE = 1e-3


class BlockResult(NamedTuple):
    """What became of a block of N units.

    Attributes:
        number: Place of the block.
        features: Of each embedder `(M, N, D)` float32, by method in the order of the settings; zeros where not valid.
        valid: Of each embedder which units have a feature under each method, `(M, N)` bool.
        flags: What happened to each unit, `(N,)` uint8, values of `Flag`.
        reasons: Why, by place of the unit in the block.
        figures: `(F, N)` float32 in the order of `FIGURES`, nan where a unit has none.
        found: What the detector found now, by key of the landmarks' cache.
        seconds: Time that each stage took.
    """

    number: int
    features: tuple[FloatArray, ...]
    valid: tuple[BoolArray, ...]
    flags: UInt8Array
    reasons: dict[int, str]
    figures: FloatArray
    found: dict[bytes, Landmarks]
    seconds: dict[str, float]


class Extractor:
    """Turns blocks of units into features.

    A block gives the same numbers whatever came before it, so blocks can be done in any order and place.

    Args:
        parts: The networks.
        settings: How features are made.
        cache: Landmarks of earlier runs; it is read only.
        workers: Threads that put masks on, and read pictures in `run`.
    """

    def __init__(self, parts: IjbParts, settings: FeatureSettings, cache: LandmarkCache, workers: int = 2) -> None:
        self._parts, self._settings = parts, settings
        self._layout = canonical_layout(parts.restorer.size)
        self._finder = FaceFinder(parts, settings, cache, self._layout)
        self._pool = ThreadPoolExecutor(workers)

    def run(self, job: Job, pictures: list[Picture] | None = None) -> BlockResult:
        """Do one block.

        Args:
            job: The block.
            pictures: Pictures of its units, where they are read already.

        Raises:
            EmbedderError: If an embedder gives arrays of another shape than it says.
            InputError: If the restorer gives another number of photographs back.
        """
        seconds: dict[str, float] = {}
        with Clock(seconds, "read"):
            if pictures is None:
                pictures = list(self._pool.map(lambda place: read_picture(job, place), range(len(job.paths))))
        with Clock(seconds, "find points and mask"):
            faces = self._finder.find(job, pictures, self._pool.map)
        block = _Block(self._parts, self._settings, len(job.paths), seconds)
        block.fill(faces.faces)
        return BlockResult(
            job.number,
            tuple(block.features),
            tuple(block.valid),
            faces.flags,
            faces.reasons,
            block.figures,
            faces.found,
            seconds,
        )

    def examples(self, job: Job) -> list[Example]:
        """Crops of the probes of a block for a panel, but of faces that failed; `picture` is the place in the block."""
        pictures = [read_picture(job, place) for place in range(len(job.paths))]
        faces: Faces = self._finder.find(job, pictures)
        probes = [face for face in faces.faces if face.probe]
        if not probes:
            return []
        crops = {
            name: np.stack([align(getattr(face, name), face.five, self._layout)[0] for face in probes])
            for name in ("photo", "masked")
        }
        _, made = self._parts.restorer.restore_batch([face.masked for face in probes], _five(probes))
        return [
            Example(
                face.place,
                draw_mask(job, face.place, self._settings),
                crops["photo"][row],
                crops["masked"][row],
                made.images[row],
                made.occlusion[row],
                made.uv[row],
            )
            for row, face in enumerate(probes)
        ]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()


class _Block:
    """Room for the features of one block, filled method by method."""

    def __init__(self, parts: IjbParts, settings: FeatureSettings, count: int, seconds: dict[str, float]) -> None:
        self.parts, self.settings, self.seconds = parts, settings, seconds
        self.layout = canonical_layout(parts.restorer.size)
        methods = len(settings.methods)
        self.features = [np.zeros((methods, count, e.dimension), dtype=np.float32) for e in parts.embedders]
        self.valid = [np.zeros((methods, count), dtype=np.bool_) for _ in parts.embedders]
        self.figures = np.full((len(FIGURES), count), np.nan, dtype=np.float32)

    def fill(self, faces: list[Face]) -> None:
        """All methods."""
        if faces:
            self._put("clean", faces, self._embed(faces, [face.photo for face in faces]))
        probes = [face for face in faces if face.probe]
        if not probes:
            return
        masked = self._embed(probes, [face.masked for face in probes])
        completed = self._embed(probes, self._complete(probes))
        self._put("masked", probes, masked)
        self._put("completed", probes, completed)
        if self.settings.fuse is not None:
            share = self.settings.fuse
            self._put("fused", probes, [_mix(one, two, share) for one, two in zip(completed, masked, strict=True)])
        if self.settings.clean_completed:
            again, harmless = self._restore(probes, [face.photo for face in probes])
            self._figure("clean_coverage", probes, harmless.coverage)
            kept = self._choose(harmless, [face.photo for face in probes], again)
            self._put("clean_completed", probes, self._embed(probes, kept))

    def _complete(self, probes: list[Face]) -> list[UInt8Array]:
        """Completed photographs of masked probes, and figures of them."""
        masked = [face.masked for face in probes]
        restored, completion = self._restore(probes, masked)
        self._figure("coverage", probes, completion.coverage)
        chosen = self._choose(completion, masked, restored)
        with Clock(self.seconds, "picture metrics"):
            self._figure("used", probes, [made is whole for made, whole in zip(chosen, restored, strict=True)])
            inside = self._inside(probes)
            self._figure("true_coverage", probes, inside.mean(axis=(1, 2)))
            clean = self._crops(probes, [face.photo for face in probes])
            self._figure("psnr_inside", probes, psnr(self._crops(probes, chosen), clean, inside))
            self._figure("masked_psnr_inside", probes, psnr(self._crops(probes, masked), clean, inside))
        return chosen

    def _choose(self, completion: Completion, before: list[UInt8Array], after: list[UInt8Array]) -> list[UInt8Array]:
        """Completed photographs; behind a gate, those as they were of which too little was taken for occluded."""
        if self.settings.mode == "always":
            return after
        used = completion.coverage > self.settings.threshold
        return [new if use else old for use, old, new in zip(used, before, after, strict=True)]

    def _restore(self, faces: list[Face], photos: list[UInt8Array]) -> tuple[list[UInt8Array], Completion]:
        with Clock(self.seconds, "complete"):
            restored, completion = self.parts.restorer.restore_batch(photos, _five(faces))
        if len(restored) != len(photos) or len(completion.coverage) != len(photos):
            raise InputError(f"restorer: expected {len(photos)} photographs back, got {len(restored)}")
        return restored, completion

    def _embed(self, faces: list[Face], photos: list[UInt8Array]) -> list[FloatArray]:
        """Vectors of photographs by each embedder: `(1, n, D)`, with flipping `(2, n, D)`."""
        with Clock(self.seconds, "align"):
            layouts = {embedder.layout for embedder in self.parts.embedders}
            crops = {
                layout: np.stack(
                    [align(photo, face.five, layout)[0] for photo, face in zip(photos, faces, strict=True)]
                )
                for layout in layouts
            }
        vectors = []
        for embedder in self.parts.embedders:
            sides = [crops[embedder.layout]]
            if self.settings.flip:
                sides.append(np.ascontiguousarray(sides[0][:, :, ::-1]))
            with Clock(self.seconds, f"embed {embedder.name}"):
                vectors.append(np.stack([_vectors(embedder, side) for side in sides]))
        return vectors

    def _put(self, method: str, faces: list[Face], vectors: list[FloatArray]) -> None:
        """Keep the features of a method: the sum of both sides; nothing where a side failed or they cancel out."""
        row = self.settings.methods.index(method)
        places = np.array([face.place for face in faces])
        for features, valid, sides in zip(self.features, self.valid, vectors, strict=True):
            lengths = np.linalg.norm(sides, axis=2)
            whole = sides.sum(axis=0)
            good = np.isfinite(lengths).all(axis=0) & (lengths > 0).all(axis=0) & (whole != 0).any(axis=1)
            features[row, places[good]] = whole[good]
            valid[row, places[good]] = True

    def _figure(self, name: str, faces: list[Face], values: Any) -> None:
        places = np.array([face.place for face in faces])
        self.figures[FIGURES.index(name), places] = values

    def _crops(self, faces: list[Face], photos: Sequence[UInt8Array]) -> UInt8Array:
        """Canonical crops, `(n, S, S, 3)`."""
        return np.stack([align(photo, face.five, self.layout)[0] for photo, face in zip(photos, faces, strict=True)])

    def _inside(self, faces: list[Face]) -> BoolArray:
        """The masks in the canonical crop, `(n, S, S)` bool."""
        grey = [
            np.zeros(face.photo.shape, np.uint8)
            if face.mask is None
            else np.repeat(face.mask[..., None].astype(np.uint8) * 255, 3, axis=2)
            for face in faces
        ]
        return np.asarray(self._crops(faces, grey)[..., 0] >= 128, dtype=np.bool_)


def _five(faces: list[Face]) -> FloatArray:
    """The five points of each face, `(n, 5, 2)`."""
    return np.asarray([face.five for face in faces], dtype=np.float32)


def _vectors(embedder: Embedder, crops: UInt8Array) -> FloatArray:
    """Vectors of crops, of their own length where the embedder gives them; nan where it failed on a crop."""
    raw = embedder if isinstance(embedder, RawEmbedder) else None
    vectors = np.array(raw.embed_raw(crops) if raw else embedder.embed(crops), dtype=np.float32)
    if vectors.shape != (len(crops), embedder.dimension):
        raise EmbedderError(
            f"{embedder.name}: expected vectors of shape {(len(crops), embedder.dimension)}, got {vectors.shape}; "
            "this is no recogniser"
        )
    if raw is None:
        unit = np.abs(np.linalg.norm(vectors, axis=1) - 1) <= _UNIT_TOLERANCE
        vectors[~unit] = np.nan
    return vectors


def _mix(completed: FloatArray, masked: FloatArray, share: float) -> FloatArray:
    """Directions mixed by share and brought to unit length, lengths mixed alike; nan where either failed."""
    lengths = [np.linalg.norm(side, axis=2, keepdims=True) for side in (completed, masked)]
    with np.errstate(invalid="ignore", divide="ignore"):
        between = share * completed / lengths[0] + (1 - share) * masked / lengths[1]
    shape = between.shape
    mixed = unit_rows(between.reshape(-1, shape[2])).reshape(shape)
    return np.asarray(mixed * (share * lengths[0] + (1 - share) * lengths[1]), dtype=np.float32)
