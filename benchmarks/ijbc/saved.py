"""Features, scores and pairs of a finished run on disk, from which every figure is drawn again without pictures."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.base import UNREADABLE_ARRAYS, BoolArray, DatasetError, FloatArray
from maskfix.plot.template_scores import load_template_scores, map_row
from protocols import METHODS
from protocols.ijb import Ids, TemplateFeatures, TemplatePairs, TemplateSet

TEMPLATES = "templates.npz"
PICTURES = "pictures.npz"
_PAIRS = {"gallery": np.int32, "probe": np.int32, "same": np.bool_}


class SavedRun(NamedTuple):
    """What is needed to compute every figure again.

    Attributes:
        scores: Scores of P pairs under each method, `(P,)` float32, mapped from files.
        pairs: The pairs, by place of their templates.
        templates: Template ids, `(T,)` int32.
        subject: Subject of each template, `(T,)` int32; -1 where unknown.
        is_probe: Whether a template is a probe, `(T,)` bool.
    """

    scores: dict[str, FloatArray]
    pairs: TemplatePairs
    templates: Ids
    subject: Ids
    is_probe: BoolArray


class TemplatePictures(NamedTuple):
    """The first picture of each template.

    Attributes:
        folder: Folder of the pictures as it was when the run was made.
        image: Picture file of each template, relative to the folder, `(T,)` text.
        box: Face box as x, y, width, height in pixels, `(T, 4)` float32; nan where the data set has none.
    """

    folder: Path
    image: NDArray[np.str_]
    box: FloatArray


def save_run(
    folder: Path, data: TemplateSet, features: TemplateFeatures, pairs: TemplatePairs, scores: dict[str, FloatArray]
) -> None:
    """Write `features/METHOD.npy` (and `gallery.npy`), `scores/METHOD.npy`, `pairs/*.npy` and two .npz files.

    Args:
        folder: Where to write; the files are not renamed into place, so it should be one that is.
        data: The set.
        features: Features of its templates.
        pairs: The pairs that were scored.
        scores: Their scores under each method, float32.
    """
    for name in ("features", "scores", "pairs"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for name, values in {"gallery": features.gallery, **features.probe}.items():
        np.save(folder / "features" / f"{name}.npy", values)
    for name, values in scores.items():
        np.save(folder / "scores" / f"{name}.npy", values)
    for name, kind in _PAIRS.items():
        np.save(folder / "pairs" / f"{name}.npy", np.asarray(getattr(pairs, name), dtype=kind))
    np.savez(folder / TEMPLATES, id=data.templates, subject=data.subject, is_probe=data.is_probe)
    _, first = np.unique(data.row_template, return_index=True)
    boxes = data.rows.box
    np.savez_compressed(
        folder / PICTURES,
        folder=np.array(str(data.pictures.resolve())),
        image=data.rows.image[first].astype(np.str_),
        box=np.full((len(first), 4), np.nan, np.float32) if boxes is None else boxes[first],
    )


def load_run(folder: Path) -> SavedRun:
    """Read what `save_run` wrote for the methods that the report beside it names, scores and pairs mapped into memory.

    Raises:
        DatasetError: If a file is missing or damaged, or files do not belong together; the message names it.
    """
    found = load_template_scores(folder)
    names = [name for name in METHODS if name in found.scores] + [name for name in found.scores if name not in METHODS]
    gallery, probe = (
        map_row(folder / "pairs" / f"{name}.npy", "int32", found.same.size) for name in ("gallery", "probe")
    )
    try:
        with np.load(folder / TEMPLATES, allow_pickle=False) as file:
            templates, subject, is_probe = file["id"], file["subject"], file["is_probe"]
    except UNREADABLE_ARRAYS as error:
        raise DatasetError(f"{folder / TEMPLATES}: missing or damaged ({error}); run the benchmark again") from error
    if any(side.min(initial=0) < 0 or side.max(initial=-1) >= len(templates) for side in (gallery, probe)):
        raise DatasetError(f"{folder}: pairs and {TEMPLATES} are not of one run; run the benchmark again")
    pairs = TemplatePairs(gallery=gallery, probe=probe, same=found.same)
    return SavedRun({name: found.scores[name] for name in names}, pairs, templates, subject, is_probe)


def load_pictures(folder: Path, templates: int) -> TemplatePictures | None:
    """Read which picture stands for each template; None where a run of an older version did not say, or damaged.

    Args:
        folder: Folder of the run.
        templates: Number of its templates.
    """
    try:
        with np.load(folder / PICTURES, allow_pickle=False) as file:
            found = TemplatePictures(Path(str(file["folder"])), file["image"], file["box"])
    except UNREADABLE_ARRAYS:
        return None
    fits = found.image.shape == (templates,) and found.image.dtype.kind == "U" and found.box.shape == (templates, 4)
    return found if fits else None
