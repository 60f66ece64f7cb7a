"""Every picture embedded once a role: clean, masked, completed, and clean after completion.

Only pixels change between the methods. Each photograph is masked, and completed, as a whole picture, and is then
aligned with the landmarks of the clean photograph; so a difference between methods is never one of detection (the
convention of the paper and of the Self-restrained Triplet Loss benchmark).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from maskfix.align import align
from maskfix.base import (
    BoolArray,
    Completion,
    CropLayout,
    EmbedderError,
    FloatArray,
    InputError,
    UInt8Array,
    canonical_layout,
    read_image,
)
from maskfix.embed import unit_rows
from maskfix.embed.base import Embedder
from maskfix.metrics import laplacian_variance, psnr, ssim
from maskfix.occlude import Occluder, OcclusionRecord, draw_kind, parse_kind
from protocols.base import Progress, Restorer, silent
from protocols.pictures import PROBE_ROLE, Clock, EmbeddedPictures, Example, Pictures, ProbeSettings
from protocols.prefetch import ahead

_UNIT_TOLERANCE = 1e-3


class _Ready(NamedTuple):
    """A photograph with a face, read; a probe (`record` is not None) is masked as well.

    Attributes:
        row: Row of the picture.
        photo: The clean photograph.
        masked: The same with its mask; the clean one where the mask could not be put on.
        mask: Where the mask is, `(H, W)` bool.
        record: What was put on it; None for a gallery picture.
    """

    row: int
    photo: UInt8Array
    masked: UInt8Array
    mask: BoolArray
    record: OcclusionRecord | None


def embed_pictures(
    pictures: Pictures,
    *,
    occluder: Occluder,
    restorer: Restorer,
    embedders: Sequence[Embedder],
    settings: ProbeSettings,
    examples: Sequence[int] = (),
    progress: Progress = silent,
) -> EmbeddedPictures:
    """Read, mask, complete, align and embed all pictures, batch by batch; only vectors and figures are kept.

    A picture that is gallery here and probe there has one clean embedding for both. Pictures without a face have no
    embedding under any method. A probe that cannot be masked keeps its clean pixels as its masked ones, goes through
    the completion like all others, and is marked in `unmasked`.

    Args:
        pictures: What to embed.
        occluder: Puts the masks on.
        restorer: Completes photographs.
        embedders: Recognisers; they share masks and completions.
        settings: How the probes are made.
        examples: Rows of probes whose crops are wanted for a panel; those without a face are left out.
        progress: Told about the pictures, as stage `pictures`.

    Raises:
        ImageError: If a picture cannot be read.
        InputError: If `restorer` gives another number of photographs back.
        EmbedderError: If an embedder gives arrays of another shape than it says.
    """
    return _Pass(pictures, occluder, restorer, embedders, settings, examples).run(progress)


class _Pass:
    """One pass over the pictures."""

    def __init__(
        self,
        pictures: Pictures,
        occluder: Occluder,
        restorer: Restorer,
        embedders: Sequence[Embedder],
        settings: ProbeSettings,
        examples: Sequence[int],
    ) -> None:
        self.pictures, self.settings = pictures, settings
        self.occluder, self.restorer, self.embedders = occluder, restorer, embedders
        self.canonical = canonical_layout(restorer.size)
        self.wanted = {row: place for place, row in enumerate(examples)}
        face = np.array([landmarks.ok for landmarks in pictures.landmarks], dtype=np.bool_)
        self.out = EmbeddedPictures.empty(face, settings.methods, [embedder.dimension for embedder in embedders])

    def run(self, progress: Progress) -> EmbeddedPictures:
        """Do everything."""
        out, probe = self.out, self.pictures.probe
        for row in np.flatnonzero(probe & ~out.face):
            out.records.append(self._record(int(row), self.pictures.landmarks[row].reason or "no face found"))
        # Probes together, so that the batches of the completing network are full.
        rows = np.flatnonzero(out.face)
        rows = rows[np.argsort(probe[rows], kind="stable")]
        step = self.settings.batch_size
        batches = [rows[start : start + step].tolist() for start in range(0, len(rows), step)]
        ready = ahead(batches, self._prepare, self.settings.workers)
        done = 0
        progress("pictures", done, len(rows))
        while True:
            with Clock(out.seconds, "read and mask (waiting)"):
                batch = next(ready, None)
            if batch is None:
                break
            self._embed_batch(batch)
            done += len(batch)
            progress("pictures", done, len(rows))
        self._fuse()
        places = {picture: place for place, picture in enumerate(self.pictures.ids)}
        out.records.sort(key=lambda record: places[record.image])
        out.examples.sort(key=lambda example: self.wanted[example.picture])
        return out

    def _kind(self, row: int) -> str:
        return draw_kind(self.pictures.ids[row], PROBE_ROLE, self.settings.seed, self.settings.kinds)

    def _record(self, row: int, reason: str) -> OcclusionRecord:
        kind, points = self._kind(row), self.pictures.landmarks[row].mask
        image, seed = self.pictures.ids[row], self.settings.seed
        return OcclusionRecord(image, PROBE_ROLE, kind, parse_kind(kind).colour, seed, points, not reason, reason)

    def _prepare(self, row: int) -> _Ready:
        """Read one photograph and put its mask on; runs in a thread and changes nothing that is shared."""
        photo = read_image(self.pictures.paths[row])
        nothing = np.zeros(photo.shape[:2], dtype=np.bool_)
        if not self.pictures.probe[row]:
            return _Ready(row, photo, photo, nothing, None)
        points = self.pictures.landmarks[row].mask
        if points is None:
            return _Ready(row, photo, photo, nothing, self._record(row, "the detector gave no mask points"))
        try:
            occluded = self.occluder.occlude(photo, points, self._kind(row))
        except InputError as error:
            return _Ready(row, photo, photo, nothing, self._record(row, str(error)))
        return _Ready(row, photo, occluded.image, occluded.mask, self._record(row, ""))

    def _embed_batch(self, batch: list[_Ready]) -> None:
        """All methods of one batch."""
        self._embed("clean", batch, [item.photo for item in batch])
        probes = [item for item in batch if item.record is not None]
        if not probes:
            return
        for item in probes:
            if item.record is not None:
                self.out.records.append(item.record)
                self.out.unmasked[item.row] = not item.record.ok
        self._embed("masked", probes, [item.masked for item in probes])
        completed, completion = self._restore(probes, [item.masked for item in probes])
        self._embed("completed", probes, completed)
        with Clock(self.out.seconds, "picture metrics"):
            self._judge(probes, completed, completion)
        if self.settings.clean_completed:
            again, harmless = self._restore(probes, [item.photo for item in probes])
            self._embed("clean_completed", probes, again)
            rows = [item.row for item in probes]
            self.out.figures["clean_coverage"][rows] = harmless.coverage
            before, after = (self._crops(probes, p, self.canonical) for p in ([item.photo for item in probes], again))
            self.out.figures["clean_psnr"][rows] = psnr(after, before)

    def _fuse(self) -> None:
        """Mix the embeddings of the masked and the completed face."""
        share = self.settings.fuse
        if share is None:
            return
        for vectors, valid in zip(self.out.vectors, self.out.valid, strict=True):
            vectors["fused"][:] = unit_rows(share * vectors["completed"] + (1 - share) * vectors["masked"])
            valid["fused"][:] = valid["completed"] & valid["masked"]
            vectors["fused"][~valid["fused"]] = 0

    def _five(self, batch: Sequence[_Ready]) -> FloatArray:
        """The five points of each photograph, `(N, 5, 2)`."""
        return np.asarray([self.pictures.landmarks[item.row].five for item in batch], dtype=np.float32)

    def _restore(self, batch: Sequence[_Ready], photos: list[UInt8Array]) -> tuple[list[UInt8Array], Completion]:
        """Complete whole photographs."""
        with Clock(self.out.seconds, "complete"):
            restored, completion = self.restorer.restore_batch(photos, self._five(batch))
        self.out.counts["faces completed"] += len(photos)
        if len(restored) != len(photos) or len(completion.coverage) != len(photos):
            raise InputError(f"restorer: expected {len(photos)} photographs back, got {len(restored)}")
        return restored, completion

    def _crops(self, batch: Sequence[_Ready], photos: Sequence[UInt8Array], layout: CropLayout) -> UInt8Array:
        """Crops of photographs by the landmarks of their clean originals, `(N, S, S, 3)`."""
        return np.stack([align(photo, five, layout)[0] for photo, five in zip(photos, self._five(batch), strict=True)])

    def _embed(self, method: str, batch: Sequence[_Ready], photos: Sequence[UInt8Array]) -> None:
        """Embed photographs with every recogniser."""
        rows = np.array([item.row for item in batch])
        with Clock(self.out.seconds, "align"):
            layouts = {embedder.layout for embedder in self.embedders}
            crops = {layout: self._crops(batch, photos, layout) for layout in layouts}
        self.out.counts[method] += len(batch)
        for place, embedder in enumerate(self.embedders):
            with Clock(self.out.seconds, f"embed {embedder.name}"):
                vectors = np.asarray(embedder.embed(crops[embedder.layout]), dtype=np.float32)
            if vectors.shape != (len(batch), embedder.dimension):
                raise EmbedderError(
                    f"{embedder.name}: expected vectors of shape {(len(batch), embedder.dimension)}, "
                    f"got {vectors.shape}; this is no recogniser"
                )
            # A recogniser that gives zeros or nan for a crop failed on it.
            unit = np.abs(np.linalg.norm(vectors, axis=1) - 1) <= _UNIT_TOLERANCE
            self.out.vectors[place][method][rows[unit]] = vectors[unit]
            self.out.valid[place][method][rows[unit]] = True

    def _judge(self, batch: Sequence[_Ready], completed: Sequence[UInt8Array], completion: Completion) -> None:
        """Compare completed and masked crops with the clean ones, and keep the crops of examples."""
        rows, figures = [item.row for item in batch], self.out.figures
        clean = self._crops(batch, [item.photo for item in batch], self.canonical)
        masked = self._crops(batch, [item.masked for item in batch], self.canonical)
        inside = self._mask_crops(batch)
        made = self._crops(batch, completed, self.canonical)
        for prefix, crops in (("", made), ("masked_", masked)):
            figures[f"{prefix}psnr"][rows] = psnr(crops, clean)
            figures[f"{prefix}psnr_inside"][rows] = psnr(crops, clean, inside)
            figures[f"{prefix}ssim"][rows] = ssim(crops, clean)
        with np.errstate(divide="ignore", invalid="ignore"):
            figures["sharpness"][rows] = laplacian_variance(made, inside) / laplacian_variance(clean, inside)
        figures["coverage"][rows] = completion.coverage
        figures["true_coverage"][rows] = inside.mean(axis=(1, 2))
        for place, row in enumerate(rows):
            if row in self.wanted:
                own = (completion.images[place], completion.occlusion[place], completion.uv[place])
                arrays = (array.copy() for array in (clean[place], masked[place], *own))
                self.out.examples.append(Example(row, self._kind(row), *arrays))

    def _mask_crops(self, batch: Sequence[_Ready]) -> BoolArray:
        """The masks in the canonical crop, `(N, S, S)` bool."""
        grey = [np.repeat(item.mask[..., None].astype(np.uint8) * 255, 3, axis=2) for item in batch]
        return np.asarray(self._crops(batch, grey, self.canonical)[..., 0] >= 128, dtype=np.bool_)
