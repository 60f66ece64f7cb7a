"""Variants of the method: what each lacks, its training run, and its figures on the held-out faces."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.ablation_table import Columns
from benchmarks.groups import HeldoutFigures, choose_faces
from benchmarks.heldout_figures import heldout_figures
from benchmarks.report import describe_source
from benchmarks.restorer import load_restorer
from maskfix.base import UNREADABLE_ARRAYS, InputError, check_range, replacing
from maskfix.data import FaceStore
from maskfix.embed.base import Embedder, describe_embedder
from maskfix.occlude import PAPER_KINDS, Occluder
from maskfix.train.checkpoint import read_checkpoint
from maskfix.train.completion import CHECKPOINT, train_completion
from maskfix.train.config import CompletionConfig, as_plain
from maskfix.train.loop import open_views
from maskfix.train.sources import faces_sha256
from maskfix.train.texture import weights_sha256
from maskfix.weights import file_sha256
from protocols import Progress

SETTINGS = "settings.json"
SURROUNDINGS = "edge"
"""What stands around the held-out faces, see `benchmarks.heldout`."""
_SECONDS = "seconds.json"
_SAVE_SECONDS = 10.0


class Variant(NamedTuple):
    """The method without some of its parts.

    Attributes:
        name: Name in reports, and of the folder of its run unless `run` says otherwise.
        siamese: Whether the encoder starts from stage 1.
        fusion: Whether dual attention fusion makes the pictures.
        correspondence: Weight of the correspondence loss; the base configuration's when None.
        occlusion: Whether the occlusion head is trained.
        composed: Whether visible pixels are kept by that head when figures are taken.
        run: Variant whose trained weights it shares.
    """

    name: str
    siamese: bool = True
    fusion: bool = True
    correspondence: float | None = None
    occlusion: bool = True
    composed: bool = True
    run: str = ""

    @property
    def key(self) -> tuple[str, bool]:
        """Folder of the run and whether composed: variants that share both share their figures."""
        return self.run or self.name, self.composed

    def config(self, base: CompletionConfig) -> CompletionConfig:
        """The base configuration without what this variant lacks."""
        weight = base.objective.correspondence if self.correspondence is None else self.correspondence
        occlusion = base.objective.occlusion if self.occlusion else 0.0
        objective = replace(base.objective, correspondence=weight, occlusion=occlusion)
        return replace(base, fusion=self.fusion, objective=objective)


_ALL = (
    Variant("plain", siamese=False, fusion=False, correspondence=0.0),
    Variant("siamese", fusion=False, correspondence=0.0),
    Variant("daf", siamese=False, correspondence=0.0),
    Variant("uv", siamese=False, fusion=False),
    Variant("siamese-daf", correspondence=0.0),
    Variant("siamese-uv", fusion=False),
    Variant("daf-uv", siamese=False),
    Variant("full"),
    Variant("no-occlusion-head", occlusion=False, composed=False),
    Variant("no-compositing", composed=False, run="full"),
)
VARIANTS: Mapping[str, Variant] = {variant.name: variant for variant in _ALL}
"""By name: the eight columns of the paper's Table 6 in its order, and two about the occlusion head."""


def weight_variants(weights: Sequence[float], base: CompletionConfig) -> dict[float, Variant]:
    """The full variant at other weights of the correspondence loss; where `VARIANTS` has it already, that one.

    Raises:
        InputError: If a weight is negative or given twice.
    """
    if len(set(weights)) < len(weights):
        raise InputError("uv-weights: give each weight once")
    for weight in weights:
        check_range("uv-weights", weight, 0, 1e6)
    known = {0.0: VARIANTS["siamese-daf"], base.objective.correspondence: VARIANTS["full"]}
    return {weight: known.get(weight) or Variant(f"uv-{weight:g}", correspondence=weight) for weight in weights}


@dataclass(frozen=True)
class Job:
    """What all variants of an ablation share.

    Attributes:
        base: The full variant's configuration; its seed draws weights, batches, the held-out faces' masks and the
            bootstrap.
        faces: Store that `maskfix prepare` wrote.
        encoder: Stage 1's checkpoint.
        out: Folder of the runs, one folder each.
        judges: Embedders that take the figures, by what the user asked for to get them.
        templates: Folder in MaskTheFace's layout, or None for this project's own templates.
        identity: MobileFaceNet as ONNX, where the objective wants it.
        more_identity: More networks of the identity term.
        limit: Only so many held-out faces; all when None.
        device: Where to train and complete: `cpu`, `cuda` or `cuda:N`.
        workers: Processes that make batches.
        replicates: Draws of the bootstrap over faces.
    """

    base: CompletionConfig
    faces: Path
    encoder: Path
    out: Path
    judges: Mapping[str, Embedder]
    templates: Path | None = None
    identity: Path | None = None
    more_identity: tuple[Path, ...] = ()
    limit: int | None = None
    device: str = "cpu"
    workers: int = 1
    replicates: int = 1000


class Faces(NamedTuple):
    """Where figures are taken.

    Attributes:
        store: The prepared faces.
        training: How many of them train.
        held_out: Indices of those that figures are taken on.
        occluder: What masks them.
        record: What the runs depend on beside their variant, plain.
    """

    store: FaceStore
    training: int
    held_out: NDArray[np.int64]
    occluder: Occluder
    record: dict[str, Any]


class Measured(NamedTuple):
    """What is known of one variant.

    Attributes:
        columns: Its figures, face by face.
        seconds: What its training took, all sessions together.
    """

    columns: Columns
    seconds: float


def open_faces(job: Job) -> Faces:
    """Open faces and templates, and claim the folder of the runs for these settings.

    Raises:
        InputError: If no face is held out, a judge stands in the loss, or the folder has runs of other settings.
        DatasetError: If the faces or templates cannot be used.
        CheckpointError: If the encoder is no checkpoint.
    """
    views, training, _ = open_views(job.faces, job.templates, job.base)
    held_out = choose_faces(views.store.names, job.base.held_out, job.limit, job.base.seed)
    if len({judge.name for judge in job.judges.values()}) < len(job.judges) or not job.judges:
        raise InputError("judge: give at least one, and each once")
    identity = weights_sha256([*([job.identity] if job.identity else []), *job.more_identity])
    for spec, judge in job.judges.items():
        if judge.sha256 in identity.values():
            raise InputError(f"judge: {spec} stands in the loss; judge by networks that no loss term knows")
    occluder = views.occluders[-1]
    config = {key: value for key, value in as_plain(job.base).items() if key != "checkpoint_seconds"}
    record = {
        "config": config,
        "encoder": {"sha256": file_sha256(job.encoder), "steps": read_checkpoint(job.encoder).get("step")},
        "identity": identity,
        "faces_sha256": faces_sha256(job.faces),
        "masks": {**describe_source(occluder.source), "kinds": list(PAPER_KINDS)},
    }
    _claim(job.out, record)
    return Faces(views.store, len(training), held_out, occluder, record)


def _claim(out: Path, record: dict[str, Any]) -> None:
    """Write the settings of all runs below a folder, or check that they are those written there."""
    path = out / SETTINGS
    if not path.exists():
        write_json(path, record)
        return
    stored = json.loads(path.read_text(encoding="utf-8"))
    flat = [{**settings["config"], **settings} for settings in (stored, record)]
    other = sorted(key for key in flat[0].keys() | flat[1].keys() if flat[0].get(key) != flat[1].get(key))
    if other := [key for key in other if key != "config"]:
        raise InputError(f"{out}: holds runs of another {', '.join(other)}; restore that or choose another --out")


def measure(job: Job, faces: Faces, variant: Variant, progress: Progress | None = None) -> Measured:
    """Train a variant as far as it is not, and take its figures unless they are there.

    Args:
        job: What all variants share.
        faces: What `open_faces` gave.
        variant: Which one.
        progress: Called with the run's name, steps done, steps in all.

    Raises:
        MaskfixError: If training cannot go on; see `train_completion`.
    """
    config, folder = variant.config(job.base), job.out / variant.key[0]
    path, clock = folder / CHECKPOINT, _Clock(folder / _SECONDS)
    if not path.exists() or read_checkpoint(path)["step"] < config.steps:

        def tick(step: int, _figures: dict[str, float], /) -> None:
            clock.tick(step == config.steps)
            if progress:
                progress(variant.key[0], step, config.steps)

        train_completion(
            config,
            job.faces,
            folder,
            templates=job.templates,
            identity=job.identity,
            encoder=job.encoder if variant.siamese else None,
            device=job.device,
            workers=job.workers,
            progress=tick,
            more_identity=job.more_identity,
        )
    target = folder / ("heldout.npz" if variant.composed else "heldout-uncomposed.npz")
    key = _evaluation_key(job, faces, path)
    columns = _read_columns(target, key)
    if columns is None:
        figures = heldout_figures(
            load_restorer(path, job.device),
            faces.store,
            faces.held_out,
            faces.occluder,
            list(job.judges.values()),
            seed=job.base.seed,
            composed=variant.composed,
            surroundings=SURROUNDINGS,
            progress=_evaluating(variant, progress),
        )
        columns = as_columns(figures)
        with replacing(target) as temporary:
            np.savez_compressed(temporary, key=np.array(key), **columns)
    return Measured(columns, clock.total)


def _evaluating(variant: Variant, progress: Progress | None) -> Progress:
    """Progress of the evaluation under a name of its own."""
    return lambda _, done, total: progress(f"{variant.name}: figures", done, total) if progress else None


def as_columns(figures: HeldoutFigures) -> dict[str, NDArray[Any]]:
    """Figures as plain arrays; a dictionary's arrays are called `field|embedder`."""
    columns: dict[str, NDArray[Any]] = {}
    for field, value in figures._asdict().items():
        parts = (
            {f"{field}|{name}": part for name, part in value.items()} if isinstance(value, Mapping) else {field: value}
        )
        columns |= {name: np.asarray(part) for name, part in parts.items()}
    return columns


def _evaluation_key(job: Job, faces: Faces, checkpoint: Path) -> str:
    """What figures depend on; figures of another key are taken anew."""
    judges = [describe_embedder(judge) for judge in job.judges.values()]
    places = [int(place) for place in faces.held_out]
    return json.dumps([file_sha256(checkpoint), places, job.base.seed, judges, faces.record["masks"], SURROUNDINGS])


def _read_columns(path: Path, key: str) -> Columns | None:
    """Figures of an earlier session, if they are of this key."""
    try:
        with np.load(path, allow_pickle=False) as file:
            columns = {name: file[name] for name in file.files}
    except UNREADABLE_ARRAYS:
        return None
    return columns if str(columns.pop("key", "")) == key else None


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


class _Clock:
    """Adds this session's time to what earlier ones took; kept in a file, since sessions are killed.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = self._saved = time.monotonic()
        self.total: float = json.loads(path.read_text(encoding="utf-8")) if path.exists() else 0.0

    def tick(self, last: bool) -> None:
        """Count the time up to now, and save it every ten seconds and at the end."""
        now = time.monotonic()
        self.total += now - self._last
        self._last = now
        if last or now - self._saved >= _SAVE_SECONDS:
            write_json(self._path, self.total)
            self._saved = now
