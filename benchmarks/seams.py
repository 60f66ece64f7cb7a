"""What the seam of insightface costs on an unmasked face, and how often its gate decides wrongly."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskfix.base import BoolArray, DoubleArray, FloatArray, InputError, UInt8Array, read_image
from maskfix.deocclude import Deoccluder
from maskfix.occlude import Occluder, draw_kind
from maskfix.plugin import GATE_THRESHOLD, attach, detach

_PROBE = "probe"


@dataclass(frozen=True, eq=False)
class Overhead:
    """Times of `app.get` before anything was attached, then without and with the seam, taken in turn.

    Attributes:
        untouched: Seconds before `attach` opened the application's sessions again, `(photos, rounds)`.
        alone: Seconds of the library alone, `(photos, rounds)`.
        attached: Seconds with the seam, `(photos, rounds)`.
        faces: Faces found in each photo, `(photos,)`.
        completed: How many of them the gate let through to the completion, `(photos,)`.
        early: How many the early look alone found clean, `(photos,)`.
    """

    untouched: DoubleArray
    alone: DoubleArray
    attached: DoubleArray
    faces: NDArray[np.int64]
    completed: NDArray[np.int64]
    early: NDArray[np.int64]

    @property
    def ratio(self) -> float:
        """Time with the seam over time without: the sums over the photos of each photo's median."""
        return float(np.median(self.attached, 1).sum() / np.median(self.alone, 1).sum())

    @property
    def quartiles(self) -> tuple[float, float]:
        """Quartiles of the same ratio, round by round."""
        low, high = np.percentile(self.attached.sum(0) / self.alone.sum(0), [25, 75])
        return float(low), float(high)

    def summary(self) -> dict[str, Any]:
        """The figures, ready for JSON; times in milliseconds a photo."""
        return {
            "ratio": round(self.ratio, 4),
            "ratio_quartiles": [round(value, 4) for value in self.quartiles],
            "untouched_ms": round(1000 * float(np.median(self.untouched, 1).mean()), 2),
            "alone_ms": round(1000 * float(np.median(self.alone, 1).mean()), 2),
            "attached_ms": round(1000 * float(np.median(self.attached, 1).mean()), 2),
            "photos": len(self.faces),
            "rounds": self.alone.shape[1],
            "faces": int(self.faces.sum()),
            "completed": int(self.completed.sum()),
            "early": int(self.early.sum()),
        }


def measure_overhead(
    app: Any,
    photos_bgr: Sequence[UInt8Array],
    deoccluder: Deoccluder,
    rounds: int = 15,
    warm_up: int = 2,
    clock: Callable[[], float] = time.perf_counter,
) -> Overhead:
    """Time `app.get` alone and attached, in turn within every round, so that both see the same machine.

    Before that it is timed as it is: from the first `attach` on its sessions spin no more between two calls, attached
    or not (see `maskfix.embed.session_options`), and both are faster.

    Args:
        app: A FaceAnalysis that is not attached; it is left so, its sessions opened again.
        photos_bgr: Photographs `(H, W, 3)` uint8 BGR with at least one face each, unmasked for the figure that counts.
        deoccluder: The completing network, loaded.
        rounds: How often every photo is timed.
        warm_up: Rounds before, not counted.
        clock: Gives seconds.

    Raises:
        InputError: If there is no photo or no round, or a photo has no face.
    """
    if not photos_bgr or rounds < 1:
        raise InputError("overhead: expected at least one photo and one round")
    times = np.zeros((3, len(photos_bgr), rounds + warm_up))
    faces, completed, early = np.zeros((3, len(photos_bgr)), np.int64)
    for turn in range(rounds + warm_up):
        for row, photo in enumerate(photos_bgr):
            times[2, row, turn] = _timed(app, photo, None, clock)[1]
    for turn in range(rounds + warm_up):
        for row, photo in enumerate(photos_bgr):
            # Who goes first alternates: the second finds the caches warm.
            for seam in (turn % 2, 1 - turn % 2):
                found, times[seam, row, turn] = _timed(app, photo, deoccluder if seam else None, clock)
                if seam:
                    faces[row] = len(found)
                    completed[row] = sum(face.completion.used for face in found)
                    early[row] = sum(face.completion.early for face in found)
            if not faces[row]:
                raise InputError(f"overhead: photo {row} has no face; choose another")
    kept = times[:, :, warm_up:]
    return Overhead(kept[2], kept[0], kept[1], faces, completed, early)


def _timed(app: Any, photo: UInt8Array, deoccluder: Deoccluder | None, clock: Callable[[], float]) -> tuple[Any, float]:
    if deoccluder is not None:
        attach(app, deoccluder=deoccluder)
    try:
        start = clock()
        found = app.get(photo)
        return found, clock() - start
    finally:
        if deoccluder is not None:
            detach(app)


@dataclass(frozen=True, eq=False)
class GateCheck:
    """What the gate did with clean and masked probes; faces that the detector did not find are left out and counted.

    Coverages are those by which the gate decided: the early look's estimates where it alone found a face clean.

    Attributes:
        clean: Coverage of the clean probes, `(N,)`.
        masked: Coverage of the same probes masked, `(N,)`.
        identical: Whether the clean probe's embedding is the unwrapped library's, to the bit, `(N,)`.
        completed: Whether the masked probe was completed, `(N,)`.
        early: Whether the early look alone found the clean and the masked probe clean, `(N, 2)`.
        missed: Probes in which no face was found.
        threshold: The gate's threshold.
    """

    clean: FloatArray
    masked: FloatArray
    identical: BoolArray
    completed: BoolArray
    early: BoolArray
    missed: int
    threshold: float

    def summary(self) -> dict[str, Any]:
        """The figures, ready for JSON; rates are fractions."""
        return {
            "threshold": self.threshold,
            "probes": len(self.clean),
            "no_face": self.missed,
            "clean_identical": float(self.identical.mean()),
            "masked_completed": float(self.completed.mean()),
            "clean_by_early_look": float(self.early[:, 0].mean()),
            "masked_missed_by_early_look": float(self.early[:, 1].mean()),
            "clean_completed_error": float((self.clean > self.threshold).mean()),
            "masked_passed_error": float((self.masked <= self.threshold).mean()),
            "clean_coverage_quantiles": _quantiles(self.clean),
            "masked_coverage_quantiles": _quantiles(self.masked),
        }


def _quantiles(values: FloatArray) -> dict[str, float]:
    wanted = (0, 1, 2, 50, 98, 99, 100)
    return {f"{q}%": round(float(v), 5) for q, v in zip(wanted, np.percentile(values, wanted), strict=True)}


def measure_gate(
    app: Any,
    paths: Sequence[Path],
    deoccluder: Deoccluder,
    occluder: Occluder,
    threshold: float = GATE_THRESHOLD,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> GateCheck:
    """Send probes through the attached recogniser, clean and masked, aligned by the clean picture's landmarks.

    Args:
        app: A FaceAnalysis that is not attached; it is left so.
        paths: The probes' pictures; each gets the mask that the LFW benchmark gives it.
        deoccluder: The completing network, loaded.
        occluder: Puts the masks on.
        threshold: The gate's threshold.
        seed: Seed of the masks.
        progress: Told how many of how many are done.

    Raises:
        InputError: If no probe shows a face.
    """
    from maskfix.align import mask_points_from_five

    library = app.models["recognition"]
    rows: list[tuple[float | bool, ...]] = []
    attach(app, deoccluder=deoccluder, threshold=threshold)
    try:
        seam = app.models["recognition"]
        for done, path in enumerate(paths):
            photo = read_image(path)
            picture = np.ascontiguousarray(photo[..., ::-1])
            _, points = app.det_model.detect(picture, max_num=1)
            progress(done + 1, len(paths))
            if not len(points):
                continue
            kind = draw_kind(f"{path.parent.name}/{path.stem}", _PROBE, seed)
            mask = occluder.occlude(photo, mask_points_from_five(points[0]), kind).image
            clean, masked, plain = (_face(points[0]) for _ in range(3))
            seam.get(picture, clean)
            seam.get(np.ascontiguousarray(mask[..., ::-1]), masked)
            library.get(picture, plain)
            same = bool(np.array_equal(clean.embedding, plain.embedding))
            told = clean.completion, masked.completion
            rows.append((*(one.coverage for one in told), same, told[1].used, *(one.early for one in told)))
    finally:
        detach(app)
    if not rows:
        raise InputError("gate: no face found in any probe")
    table = np.array(rows, np.float64)
    clean_coverage, masked_coverage = table[:, :2].T.astype(np.float32)
    identical, completed, *early = table[:, 2:].T > 0
    missed = len(paths) - len(rows)
    return GateCheck(clean_coverage, masked_coverage, identical, completed, np.stack(early, axis=1), missed, threshold)


def _face(kps: FloatArray) -> Any:
    from insightface.app.common import Face

    return Face(kps=kps)
