"""Every picture embedded once a role: clean, masked, completed, and clean after completion.

Only pixels change between the methods. Each photograph is masked, and completed, as a whole picture, and is then
aligned with the landmarks of the clean photograph; so a difference between methods is never one of detection (the
convention of the paper and of the Self-restrained Triplet Loss benchmark). With `ProbeSettings.align` "masked" it is
the other way round: masked probes are detected as a user's are, and every method has to do with what is found there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from maskfix.align import Guesser, LandmarkDetector, align, find_again, find_with
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
from maskfix.occlude import Occluder, OcclusionRecord, draw_kind
from protocols.base import HiddenFinder, Progress, Refiner, Restorer, silent
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
    aligner: LandmarkDetector | None = None,
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
        aligner: Finds the landmarks of masked photographs, where the settings align by them.
        examples: Rows of probes whose crops are wanted for a panel; those without a face are left out.
        progress: Told about the pictures, as stage `pictures`.

    Raises:
        ImageError: If a picture cannot be read.
        InputError: If `restorer` gives another number of photographs back, the occluder lacks a kind of mask, or the
            settings align by masked photographs and there is no aligner.
        EmbedderError: If an embedder gives arrays of another shape than it says.
    """
    if settings.align == "masked" and aligner is None:
        raise InputError("aligner: align='masked' needs a detector that finds the landmarks of masked photographs")
    occluder.check_kinds(settings.kinds)
    return _Pass(pictures, occluder, restorer, embedders, settings, aligner, examples).run(progress)


class _Pass:
    """One pass over the pictures."""

    def __init__(
        self,
        pictures: Pictures,
        occluder: Occluder,
        restorer: Restorer,
        embedders: Sequence[Embedder],
        settings: ProbeSettings,
        aligner: LandmarkDetector | None,
        examples: Sequence[int],
    ) -> None:
        self.pictures, self.settings, self.aligner = pictures, settings, aligner
        self.occluder, self.restorer, self.embedders = occluder, restorer, embedders
        self.canonical = canonical_layout(restorer.size)
        self.wanted = {row: place for place, row in enumerate(examples)}
        face = np.array([landmarks.ok for landmarks in pictures.landmarks], dtype=np.bool_)
        self.hidden = np.zeros(len(pictures.ids), np.bool_)
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
        return OcclusionRecord(
            image, PROBE_ROLE, kind, self.occluder.kind(kind).colour, seed, points, not reason, reason
        )

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
        self._embed("clean", batch, [item.photo for item in batch], self._five(batch))
        probes = [item for item in batch if item.record is not None]
        if not probes:
            return
        for item in probes:
            if item.record is not None:
                self.out.records.append(item.record)
                self.out.unmasked[item.row] = not item.record.ok
        seen, five, missed = self._seen(probes)
        self._embed_masked(seen, five)
        self._embed_hidden(missed)
        if self.settings.clean_completed:
            self._embed_clean_completed(probes)

    def _seen(self, probes: list[_Ready]) -> tuple[list[_Ready], FloatArray, list[_Ready]]:
        """The probes whose face is found with the mask on, the points that they are cut out by, and all others."""
        if self.settings.align == "clean" or self.aligner is None:
            return probes, self._five(probes), []
        with Clock(self.out.seconds, "landmarks of masked probes"):
            found = [landmarks.five for landmarks in self.aligner.detect([item.masked for item in probes])]
        self.out.counts["masked without a face"] += sum(five is None for five in found)
        pairs = list(zip(probes, found, strict=True))
        seen = [item for item, five in pairs if five is not None]
        points = np.asarray([five for five in found if five is not None], np.float32).reshape(-1, 5, 2)
        return seen, points, [item for item, five in pairs if five is None]

    def _embed_masked(self, probes: list[_Ready], five: FloatArray) -> None:
        """Masked probes as they are, completed, and completed with landmarks found again."""
        if not probes:
            return
        masked = [item.masked for item in probes]
        self._embed("masked", probes, masked, five)
        completed, completion = self._restore(masked, five)
        self._embed("completed", probes, completed, five)
        with Clock(self.out.seconds, "picture metrics"):
            self._judge(probes, completed, completion)
        if "refined" in self.settings.methods and self.aligner is not None:
            with Clock(self.out.seconds, "landmarks of completed probes"):
                find = find_with(self.aligner)
                if isinstance(self.restorer, Refiner):
                    five = self.restorer.refine(masked, five, find)
                else:
                    five = find_again(completed, five, find)
            completed, completion = self._restore(masked, five)
            self._embed("refined", probes, completed, five)
        self._show(probes, completion, five)

    def _embed_hidden(self, probes: list[_Ready]) -> None:
        """Probes on which no face is found with the mask on: refined alone, where completion brings the face out."""
        aligner, restorer = self.aligner, self.restorer
        if not (isinstance(restorer, HiddenFinder) and isinstance(aligner, LandmarkDetector)):
            return
        if not isinstance(aligner, Guesser) or "refined" not in self.settings.methods:
            return
        find, found = find_with(aligner), []
        with Clock(self.out.seconds, "faces missed under a mask"):
            for item in probes:
                faces = restorer.find_hidden(item.masked, aligner.guess, find)
                found += [(item, faces[0])] if len(faces) else []
        self.out.counts["masked, found by completion"] += len(found)
        if not found:
            return
        items, five = [item for item, _ in found], np.stack([points for _, points in found])
        completed, completion = self._restore([item.masked for item in items], five)
        self._embed("refined", items, completed, five)
        self.hidden[[item.row for item in items]] = True
        self._show(items, completion, five)

    def _embed_clean_completed(self, probes: list[_Ready]) -> None:
        """Clean probes after completion: what it costs where there is nothing to complete."""
        photos, five, rows = [item.photo for item in probes], self._five(probes), [item.row for item in probes]
        again, harmless = self._restore(photos, five)
        self._embed("clean_completed", probes, again, five)
        self.out.figures["clean_coverage"][rows] = harmless.coverage
        before, after = (self._crops(pictures, five, self.canonical) for pictures in (photos, again))
        self.out.figures["clean_psnr"][rows] = psnr(after, before)

    def _fuse(self) -> None:
        """Mix the embeddings of the masked and the completed face."""
        share = self.settings.fuse
        if share is None:
            return
        whole = "refined" if "refined" in self.settings.methods else "completed"
        for vectors, valid in zip(self.out.vectors, self.out.valid, strict=True):
            vectors["fused"][:] = unit_rows(share * vectors[whole] + (1 - share) * vectors["masked"])
            # A face that is found by its completion alone has no masked embedding to be mixed with.
            alone = self.hidden & valid[whole]
            vectors["fused"][alone] = vectors[whole][alone]
            valid["fused"][:] = valid[whole] & (valid["masked"] | alone)
            vectors["fused"][~valid["fused"]] = 0

    def _five(self, batch: Sequence[_Ready]) -> FloatArray:
        """The five points of each clean photograph, `(N, 5, 2)`."""
        return np.asarray([self.pictures.landmarks[item.row].five for item in batch], dtype=np.float32)

    def _restore(self, photos: list[UInt8Array], five: FloatArray) -> tuple[list[UInt8Array], Completion]:
        """Complete whole photographs."""
        with Clock(self.out.seconds, "complete"):
            restored, completion = self.restorer.restore_batch(photos, five)
        self.out.counts["faces completed"] += len(photos)
        if len(restored) != len(photos) or len(completion.coverage) != len(photos):
            raise InputError(f"restorer: expected {len(photos)} photographs back, got {len(restored)}")
        return restored, completion

    @staticmethod
    def _crops(photos: Sequence[UInt8Array], five: FloatArray, layout: CropLayout) -> UInt8Array:
        """Crops of photographs, `(N, S, S, 3)`."""
        return np.stack([align(photo, points, layout)[0] for photo, points in zip(photos, five, strict=True)])

    def _embed(self, method: str, batch: Sequence[_Ready], photos: Sequence[UInt8Array], five: FloatArray) -> None:
        """Embed photographs with every recogniser."""
        rows = np.array([item.row for item in batch])
        with Clock(self.out.seconds, "align"):
            layouts = {embedder.layout for embedder in self.embedders}
            crops = {layout: self._crops(photos, five, layout) for layout in layouts}
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
        """Compare completed and masked pictures with the clean ones, in the clean ones' crops."""
        rows, figures, five = [item.row for item in batch], self.out.figures, self._five(batch)
        photos, masks = [item.photo for item in batch], [item.masked for item in batch]
        clean, masked = (self._crops(pictures, five, self.canonical) for pictures in (photos, masks))
        inside = self._mask_crops(batch)
        made = self._crops(completed, five, self.canonical)
        for prefix, crops in (("", made), ("masked_", masked)):
            figures[f"{prefix}psnr"][rows] = psnr(crops, clean)
            figures[f"{prefix}psnr_inside"][rows] = psnr(crops, clean, inside)
            figures[f"{prefix}ssim"][rows] = ssim(crops, clean)
        with np.errstate(divide="ignore", invalid="ignore"):
            figures["sharpness"][rows] = laplacian_variance(made, inside) / laplacian_variance(clean, inside)
        figures["coverage"][rows] = completion.coverage
        figures["true_coverage"][rows] = inside.mean(axis=(1, 2))

    def _show(self, batch: Sequence[_Ready], completion: Completion, five: FloatArray) -> None:
        """Keep the examples, all of one in the crop that the network saw."""
        for place, item in enumerate(batch):
            if item.row in self.wanted:
                pair = [align(photo, five[place], self.canonical)[0] for photo in (item.photo, item.masked)]
                own = (completion.images[place], completion.occlusion[place], completion.uv[place])
                arrays = (array.copy() for array in (*pair, *own))
                self.out.examples.append(Example(item.row, self._kind(item.row), *arrays))

    def _mask_crops(self, batch: Sequence[_Ready]) -> BoolArray:
        """The masks in the canonical crop, `(N, S, S)` bool."""
        grey = [np.repeat(item.mask[..., None].astype(np.uint8) * 255, 3, axis=2) for item in batch]
        return np.asarray(self._crops(grey, self._five(batch), self.canonical)[..., 0] >= 128, dtype=np.bool_)
