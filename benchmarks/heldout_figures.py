"""Held-out faces masked, completed and embedded: what `benchmarks.heldout` and the ablation measure of each face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.groups import COLUMNS, HeldoutFigures
from benchmarks.mask_detector import MaskDetector
from maskfix.align import recrop
from maskfix.base import BoolArray, DoubleArray, EmbedderError, InputError, UInt8Array
from maskfix.data import FaceStore
from maskfix.embed.base import Embedder
from maskfix.metrics import laplacian_variance, psnr, ssim
from maskfix.occlude import PAPER_KINDS, Occluder, draw_kind
from maskfix.train.surroundings import KINDS, photograph_part, show_trimmed, surround_trimmed, trim_frame
from protocols.base import Progress, silent

if TYPE_CHECKING:
    from maskfix.deocclude import Deoccluder

ROLE = "heldout"
"""Role in the draw of the masks, so that a face wears the same kind whichever network is measured."""

SURROUNDINGS = ("reflection", *KINDS)
"""What may stand outside of photographs that end inside their crops: what the store holds, or other surroundings."""

_UNIT_TOLERANCE = 1e-3


def heldout_figures(
    restorer: Deoccluder,
    store: FaceStore,
    faces: NDArray[np.int64],
    occluder: Occluder,
    embedders: Sequence[Embedder],
    *,
    seed: int = 0,
    kinds: Sequence[str] = PAPER_KINDS,
    batch_size: int = 32,
    composed: bool = True,
    surroundings: str = "edge",
    trim: float = 0.0,
    mask_detector: MaskDetector | None = None,
    progress: Progress = silent,
) -> HeldoutFigures:
    """Mask, complete and embed faces of a store.

    Args:
        restorer: Completes canonical crops.
        store: Prepared faces.
        faces: Rows of the store to measure, `(M,)`, each a held-out one: see `groups.choose_faces`.
        occluder: Puts the masks on.
        embedders: Recognisers of different names; their crops are warped out of the canonical ones.
        seed: Seed of the masks' kinds; a face's mask depends on its name and this alone.
        kinds: Mask kinds to draw from.
        batch_size: Faces at a time.
        composed: Whether visible pixels are taken from the input, as a user gets them; otherwise the network's own
            picture is judged everywhere.
        surroundings: One of `SURROUNDINGS`; what is drawn for a face depends on its name and the seed alone.
        trim: Largest share of a photograph that each side loses to its surroundings beside the mask
            (`train.surroundings.trim_frame`): a crop whose edges follow from the hidden landmarks tells where they are.
            Under the mask stays the whole face, as far as the photograph goes.
        mask_detector: Says whether clean, masked and completed faces wear a mask; nobody is asked when None.
        progress: Told about the faces, as stage `faces`.

    Raises:
        InputError: If the crops have another size than the network's, two recognisers have one name, the occluder lacks
            a kind of mask, or the surroundings are unknown.
        EmbedderError: If a recogniser gives arrays of another shape than it says.
    """
    if store.size != restorer.size:
        raise InputError(f"store: crops of {store.size} pixels, the network wants {restorer.size}; prepare them anew")
    names = [embedder.name for embedder in embedders]
    if len(set(names)) < len(names):
        raise InputError(f"embedder: two have one name among {', '.join(names)}; name each once")
    check_surroundings(surroundings)
    occluder.check_kinds(kinds)
    faces = np.asarray(faces, dtype=np.int64)
    image = tuple(store.names[face] for face in faces)
    kind = tuple(draw_kind(name, ROLE, seed, kinds) for name in image)
    table = {name: np.full(len(faces), np.nan) for name in COLUMNS}
    vectors = {one.name: np.full((3, len(faces), one.dimension), np.nan) for one in embedders}
    mask_seen = {name: np.full(len(faces), np.nan) for name in ("clean", "masked", "completed")}
    progress("faces", 0, len(faces))
    for start in range(0, len(faces), batch_size):
        part = slice(start, start + batch_size)
        whole, seen, shown = _surrounded(store, faces[part], surroundings, seed, trim)
        clean, masked, mask = _put_on(occluder, whole, seen, np.array(store.points[faces[part]]), kind[part])
        completed = restorer.complete(masked, composed=composed).images
        worn = mask.any(axis=(1, 2))
        for name, values in _compare(clean, masked, completed, mask & shown).items():
            table[name][part] = np.where(worn, values, np.nan)
        table["coverage"][part] = mask.mean(axis=(1, 2))
        for embedder in embedders:
            found = np.stack(_embed(embedder, (clean, masked, completed)))
            vectors[embedder.name][:, part] = np.where(worn[:, None], found, np.nan)
        if mask_detector is not None:
            for name, images in zip(mask_seen, (clean, masked, completed), strict=True):
                mask_seen[name][part] = np.where(worn, mask_detector.see(images), np.nan)
        progress("faces", min(start + batch_size, len(faces)), len(faces))
    return HeldoutFigures(
        image,
        kind,
        **table,
        similarity_before={name: (truth * before).sum(axis=1) for name, (truth, before, _) in vectors.items()},
        similarity_after={name: (truth * after).sum(axis=1) for name, (truth, _, after) in vectors.items()},
        similarity_between={name: (before * after).sum(axis=1) for name, (_, before, after) in vectors.items()},
        margin_before={name: stranger_margins(before, truth) for name, (truth, before, _) in vectors.items()},
        margin_after={name: stranger_margins(after, truth) for name, (truth, _, after) in vectors.items()},
        mask_seen=mask_seen if mask_detector is not None else {},
    )


def check_surroundings(kind: str) -> None:
    """Refuse surroundings that are none.

    Raises:
        InputError: If `kind` is not one of `SURROUNDINGS`.
    """
    if kind not in SURROUNDINGS:
        raise InputError(f"surroundings: {kind!r} is unknown, known: {', '.join(SURROUNDINGS)}")


def _surrounded(
    store: FaceStore, faces: NDArray[np.int64], kind: str, seed: int, trim: float
) -> tuple[UInt8Array, UInt8Array, BoolArray]:
    """Clean crops in their surroundings, the same of trimmed photographs, and which pixels of the former count.

    Those count that show the photograph itself; all of them where the reflection is left.
    """
    crops = np.array(store.crops[faces])
    if kind == "reflection":
        return crops, crops, np.ones(crops.shape[:3], dtype=np.bool_)
    seen, parts = crops.copy(), []
    for place, face in enumerate(faces):
        generator = np.random.default_rng([seed, *store.names[face].encode()])
        other = np.asarray(store.crops[generator.integers(len(store))])
        frame = np.asarray(store.frames[face])
        # A generator of its own: the surroundings stay those that are drawn without.
        own = np.random.default_rng([seed, 1, *store.names[face].encode()])
        smaller = trim_frame(frame, trim, own) if trim > 0 else frame
        crops[place], seen[place] = surround_trimmed(crops[place], frame, smaller, other, generator, kind)
        parts.append(photograph_part(frame, store.size))
    return crops, seen, np.stack(parts)


def _put_on(
    occluder: Occluder, whole: UInt8Array, seen: UInt8Array, points: NDArray[np.float32], kinds: Sequence[str]
) -> tuple[UInt8Array, UInt8Array, BoolArray]:
    """Clean and masked crops and where the masks are; a face that takes no mask stays as seen, with an empty mask."""
    clean, masked, masks = seen.copy(), seen.copy(), np.zeros(seen.shape[:3], dtype=np.bool_)
    for place, kind in enumerate(kinds):
        try:
            picture, alpha, masks[place] = occluder.occlude(whole[place], points[place], kind)
        except InputError:
            continue
        clean[place], masked[place] = show_trimmed(whole[place], seen[place], picture, alpha)
    return clean, masked, masks


def _compare(clean: UInt8Array, masked: UInt8Array, completed: UInt8Array, mask: BoolArray) -> dict[str, DoubleArray]:
    """The picture figures of a batch."""
    figures = {}
    for suffix, images in (("", completed), ("_before", masked)):
        figures[f"psnr{suffix}"] = psnr(images, clean)
        figures[f"psnr_masked{suffix}"] = psnr(images, clean, mask)
        figures[f"ssim{suffix}"] = ssim(images, clean)
    with np.errstate(divide="ignore", invalid="ignore"):
        figures["sharpness"] = laplacian_variance(completed, mask) / laplacian_variance(clean, mask)
    return figures


def _embed(embedder: Embedder, methods: Sequence[UInt8Array]) -> list[DoubleArray]:
    """Unit vectors of canonical crops, `(N, D)` a method; nan where the recogniser gave no unit vector."""
    crops = np.concatenate(methods)
    vectors = np.asarray(embedder.embed(recrop(crops, embedder.layout)), dtype=np.float64)
    if vectors.shape != (len(crops), embedder.dimension):
        raise EmbedderError(
            f"{embedder.name}: expected vectors of shape {(len(crops), embedder.dimension)}, got {vectors.shape}"
        )
    unit = np.abs(np.linalg.norm(vectors, axis=1) - 1) <= _UNIT_TOLERANCE
    return np.split(np.where(unit[:, None], vectors, np.nan), len(methods))


def stranger_margins(probes: DoubleArray, gallery: DoubleArray) -> DoubleArray:
    """How far each probe's similarity to its own gallery picture stands out from that to all others.

    Args:
        probes: Unit vectors of masked or completed faces, `(M, D)`; a failed one is nan.
        gallery: Unit vectors of the same faces' clean pictures in the same order; a failed one is no stranger.

    Returns:
        `(M,)`: own cosine less the mean over strangers, in standard deviations of the strangers' cosines. nan where a
        vector is missing, or with fewer than two strangers that differ.

    Example:
        >>> gallery = np.eye(3)
        >>> stranger_margins(np.array([[0.0, 1.0, 0.0]]).repeat(3, axis=0), gallery).round(3)
        array([-1., nan, -1.])
    """
    valid = np.isfinite(gallery).all(axis=1)
    known = gallery[valid]
    own = (probes * gallery).sum(axis=1)
    # Sums over all of the gallery without the M x M table of cosines; a missing own picture is not among them.
    mine = np.where(valid, own, 0)
    strangers = np.maximum(len(known) - valid.astype(np.int64), 1)
    mean = (probes @ known.sum(axis=0) - mine) / strangers
    square = (((probes @ (known.T @ known)) * probes).sum(axis=1) - mine**2) / strangers
    variance = square - mean**2
    spread = np.sqrt(np.where(variance > 1e-12, variance, np.nan))
    return np.asarray((own - mean) / spread)
