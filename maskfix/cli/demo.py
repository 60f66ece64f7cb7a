"""`maskfix demo`: one photograph, nine masks, completed, and what a recogniser makes of it all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskfix.align import align, load_detector
from maskfix.base import Completion, DependencyError, ImageError, Landmarks, UInt8Array, read_image
from maskfix.deocclude import Deoccluder
from maskfix.embed import Embedder, load
from maskfix.occlude import PAPER_KINDS, open_occluder


def run_demo(
    out: Path, photo: Path | None, weights: str, embedder: str, templates: Path | None, device: str
) -> NDArray[np.float64]:
    """Mask, complete and embed one face; print a table and write a panel.

    Args:
        out: Folder for `panel.png`.
        photo: A photograph with one face, or None for scikit-image's astronaut (NASA, public domain).
        weights: Released weights, or a `.safetensors` file.
        embedder: Recogniser, see `embed.load`.
        templates: Folder in MaskTheFace's layout, or None for maskfix's own drawings.
        device: `auto`, `cpu` or `cuda`.

    Returns:
        Similarity to the clean face, `(9, 2)`: masked and completed, a row a kind.

    Raises:
        ImageError: If the photograph cannot be read or holds no face.
        DependencyError: If scikit-image or the recogniser's package is missing.
    """
    from rich.console import Console
    from rich.table import Table

    picture = read_image(photo) if photo else _astronaut()
    found = _find(picture, photo)
    recogniser = load(embedder, device)
    blind = Deoccluder.from_pretrained(weights, device)
    occluder = open_occluder(templates)
    masked = [occluder.occlude(picture, _mask_points(found), kind).image for kind in PAPER_KINDS]
    completed, completion = blind.restore_batch(masked, np.repeat(_five(found)[None], len(masked), axis=0))
    similarity = _similarities(recogniser, found, picture, masked, completed)

    table = Table(title=f"cosine similarity to the clean face ({recogniser.name})")
    for column in ("mask", "masked", "completed", "gain", "covered"):
        table.add_column(column, justify="left" if column == "mask" else "right")
    for kind, (before, after), covered in zip(PAPER_KINDS, similarity, completion.coverage, strict=True):
        table.add_row(kind, f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}", f"{covered:.0%}")
    mean = similarity.mean(0)
    table.add_row("mean", f"{mean[0]:.3f}", f"{mean[1]:.3f}", f"{mean[1] - mean[0]:+.3f}", "", style="bold")
    console = Console()
    console.print(table)
    console.print(f"panel: {_panel(out, found, blind, picture, masked, completion)}", soft_wrap=True)
    return similarity


def _astronaut() -> UInt8Array:
    """The public-domain portrait that scikit-image ships."""
    try:
        from skimage import data
    except ImportError as error:
        raise DependencyError("scikit-image is missing; install it with: pip install scikit-image") from error
    return np.asarray(data.astronaut(), np.uint8)


def _find(picture: UInt8Array, photo: Path | None) -> Landmarks:
    [found] = load_detector().detect([picture])
    if not found.ok:
        raise ImageError(f"{photo or 'astronaut'}: {found.reason}; choose a photograph with one clear face")
    return found


def _five(found: Landmarks) -> NDArray[Any]:
    return np.asarray(found.five)


def _mask_points(found: Landmarks) -> NDArray[Any]:
    return np.asarray(found.mask)


def _similarities(
    recogniser: Embedder,
    found: Landmarks,
    picture: UInt8Array,
    masked: list[UInt8Array],
    completed: list[UInt8Array],
) -> NDArray[np.float64]:
    """Cosine of each masked and completed picture to the clean one, `(len(masked), 2)`."""
    crops = np.stack([align(photo, _five(found), recogniser.layout)[0] for photo in (picture, *masked, *completed)])
    embeddings = recogniser.embed(crops).astype(np.float64)
    similarity: NDArray[np.float64] = (embeddings[1:] @ embeddings[0]).reshape(2, -1).T
    return similarity


def _panel(
    out: Path,
    found: Landmarks,
    blind: Deoccluder,
    picture: UInt8Array,
    masked: list[UInt8Array],
    completion: Completion,
) -> Path:
    """Write the panel: a row a kind; clean, masked, completed, occlusion, u, v."""
    from maskfix.plot import CompletionPanelDisplay

    crops = np.stack([align(photo, _five(found), blind.layout)[0] for photo in (picture, *masked)])
    clean = np.repeat(crops[:1], len(masked), axis=0)
    display = CompletionPanelDisplay.from_completion(clean, crops[1:], completion, labels=list(PAPER_KINDS))
    return display.save(out / "panel.png")
