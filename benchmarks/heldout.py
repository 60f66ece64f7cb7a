"""`python -m benchmarks.heldout`: masked and completed held-out training faces, for choosing between networks.

LFW is there to test with, and nothing may be chosen on it; so what is compared during development is measured here, on
the faces of the training data (UTKFace) that `maskfix.data.held_out` keeps out of training. They are completed as
canonical crops, as they lie in the store, without a detector and without pasting back.

**Recovered similarity** is mean(after - before) / mean(1 - before), where `before` is the cosine between the
embeddings of a masked face and of the same picture without its mask, and `after` that of the completed face: 0 where
completing changes nothing, 1 where the recogniser cannot tell the completed picture from the clean one. It is *not* the
recovered fraction of `benchmarks.lfw`: there, two different photographs of a person are compared with each other and
with strangers, and what is recovered is true accepts at a fixed false accept rate. Similarity to one's own picture
counts the picture's light and pose as much as its identity and says nothing about strangers; it ranks networks, and is
no claim about verification. UTKFace also has several pictures of some people, who may be on both sides of the split.
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.groups import (
    COLUMNS,
    HeldoutFigures,
    best_shares,
    choose_faces,
    make_tables,
    summarise,
    summarise_groups,
)
from benchmarks.lfw import Bars
from benchmarks.report import check_out, commit_of_checkout, package_versions, peak_rss_bytes
from maskfix.align import recrop
from maskfix.base import (
    BoolArray,
    CheckpointError,
    DoubleArray,
    EmbedderError,
    InputError,
    UInt8Array,
    check_range,
    replacing,
    resolve_device,
)
from maskfix.cli.shared import one_line_errors
from maskfix.data import FaceStore, open_store
from maskfix.embed.base import Embedder
from maskfix.embed.factory import load
from maskfix.metrics import laplacian_variance, psnr, ssim
from maskfix.occlude import PAPER_KINDS, Occluder, draw_kind, folder_templates, parse_kind
from maskfix.weights import WeightsRow, file_sha256
from protocols.base import Progress, silent

if TYPE_CHECKING:
    from maskfix.deocclude import Deoccluder

__all__ = ["HeldoutFigures", "choose_faces", "heldout_figures", "load_restorer", "run", "summarise"]

ROLE = "heldout"
"""Role in the draw of the masks, so that a face wears the same kind whichever network is measured."""

HELD_OUT = 0.02
"""Share of the faces to take where the weights do not say what they were trained without."""

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
        progress: Told about the faces, as stage `faces`.

    Raises:
        InputError: If the crops have another size than the network's, or two recognisers have one name.
        EmbedderError: If a recogniser gives arrays of another shape than it says.
    """
    if store.size != restorer.size:
        raise InputError(f"store: crops of {store.size} pixels, the network wants {restorer.size}; prepare them anew")
    names = [embedder.name for embedder in embedders]
    if len(set(names)) < len(names):
        raise InputError(f"embedder: two have one name among {', '.join(names)}; name each once")
    faces = np.asarray(faces, dtype=np.int64)
    image = tuple(store.names[face] for face in faces)
    kind = tuple(draw_kind(name, ROLE, seed, kinds) for name in image)
    table = {name: np.full(len(faces), np.nan) for name in COLUMNS}
    cosines = [{name: np.full(len(faces), np.nan) for name in names} for _ in range(3)]
    progress("faces", 0, len(faces))
    for start in range(0, len(faces), batch_size):
        part = slice(start, start + batch_size)
        clean = np.array(store.crops[faces[part]])
        masked, mask = _put_on(occluder, clean, np.array(store.points[faces[part]]), kind[part])
        completed = restorer.complete(masked, composed=composed).images
        worn = mask.any(axis=(1, 2))
        for name, values in _compare(clean, masked, completed, mask).items():
            table[name][part] = np.where(worn, values, np.nan)
        table["coverage"][part] = mask.mean(axis=(1, 2))
        for embedder in embedders:
            truth, before, after = _embed(embedder, (clean, masked, completed))
            for column, (one, other) in zip(cosines, ((truth, before), (truth, after), (before, after)), strict=True):
                column[embedder.name][part] = np.where(worn, (one * other).sum(axis=1), np.nan)
        progress("faces", min(start + batch_size, len(faces)), len(faces))
    return HeldoutFigures(
        image,
        kind,
        **table,
        similarity_before=cosines[0],
        similarity_after=cosines[1],
        similarity_between=cosines[2],
    )


def _put_on(
    occluder: Occluder, clean: UInt8Array, points: NDArray[np.float32], kinds: Sequence[str]
) -> tuple[UInt8Array, BoolArray]:
    """Masked crops and where their masks are; a face that takes no mask stays clean, with an empty mask."""
    masked, masks = clean.copy(), np.zeros(clean.shape[:3], dtype=np.bool_)
    for place, kind in enumerate(kinds):
        try:
            masked[place], _, masks[place] = occluder.occlude(clean[place], points[place], kind)
        except InputError:
            parse_kind(kind)  # an unknown kind is the caller's error, not the face's
    return masked, masks


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


def load_restorer(weights: str | Path, device: str = "auto", batch_size: int = 32) -> Deoccluder:
    """Load a network to measure.

    Args:
        weights: Name of a release, a `.safetensors` file, or a training checkpoint `completion.pt`, whose averaged
            weights are taken.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        batch_size: Crops that go through the network at once.

    Raises:
        WeightsError: If a release cannot be loaded.
        CheckpointError: If a checkpoint is damaged, is none of stage 2, or changes while it is read.
    """
    from maskfix.deocclude import Deoccluder

    if not str(weights).endswith(".pt"):
        return Deoccluder.from_pretrained(weights, device=device, batch_size=batch_size)
    from maskfix.restore import create_network
    from maskfix.train.averaging import averaged_weights
    from maskfix.train.checkpoint import read_checkpoint

    path = Path(weights)
    digest = file_sha256(path)
    state = read_checkpoint(path)
    # A run that is still going replaces its checkpoint: the hash must be that of what was loaded.
    if file_sha256(path) != digest:
        raise CheckpointError(f"{path}: replaced by its training run meanwhile; run the command again")
    try:
        config, step, arch = state["config"], int(state["step"]), state["config"]["network"]
        network = create_network(arch, config.get("fusion", True))
        network.load_state_dict(averaged_weights(state["average"]))
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: no checkpoint of stage 2, or of a network that has changed since") from error
    name = f"{path.absolute().parent.name}@{step}"
    row = WeightsRow(name, arch, path.name, digest, path.stat().st_size, training={"config": config, "step": step})
    return Deoccluder(network, row, device, batch_size)


@dataclass(frozen=True)
class HeldoutSettings:
    """How to run.

    Attributes:
        seed: Seed of the masks, of the faces drawn under a limit, and of the bootstrap.
        limit: Take only so many of the held-out faces; all when None.
        held_out: Share of the faces that is held out; that of the weights' training, or `HELD_OUT`, when None.
        kinds: Mask kinds to draw from; the paper's nine when empty.
        composed: See `heldout_figures`.
        replicates: Draws of the bootstrap.
        batch_size: Faces at a time.
    """

    seed: int = 0
    limit: int | None = None
    held_out: float | None = None
    kinds: tuple[str, ...] = ()
    composed: bool = True
    replicates: int = 1000
    batch_size: int = 32

    def __post_init__(self) -> None:
        """Refuse numbers out of range and unknown kinds.

        Raises:
            InputError: If something is out of range.
        """
        check_range("seed", self.seed, 0, 2**63)
        check_range("replicates", self.replicates, 0, 1_000_000)
        check_range("batch size", self.batch_size, 1, 4096)
        for kind in self.kinds:
            parse_kind(kind)


def run(
    faces: Path,
    weights: str,
    embedder: Sequence[str],
    *,
    templates: Path | None = None,
    settings: HeldoutSettings | None = None,
    device: str = "auto",
    console: Console | None = None,
) -> dict[str, Any]:
    """Measure one network and put its report together.

    Args:
        faces: Folder that `maskfix prepare` wrote.
        weights: See `load_restorer`.
        embedder: Spec of each recogniser, see `maskfix.embed.list_embedders`; none for picture figures alone.
        templates: Folder of mask templates in MaskTheFace's layout; this project's own drawings when None.
        settings: How to run.
        device: `auto`, `cpu` or `cuda`.
        console: Where progress is drawn; the error stream when None.

    Raises:
        MaskfixError: On any bad input.
    """
    settings, console = settings or HeldoutSettings(), console or Console(stderr=True)
    place = resolve_device(device)
    store = open_store(faces)
    occluder = Occluder(folder_templates(templates) if templates else None)
    with console.status("loading networks"):
        restorer = load_restorer(weights, place, settings.batch_size)
        embedders = [load(spec, device, settings.batch_size) for spec in embedder]
    row = restorer.weights or WeightsRow("unnamed", "unknown", "", "0" * 64, 0)
    share = _share(row, settings.held_out)
    chosen = choose_faces(store.names, share, settings.limit, settings.seed)
    start = time.perf_counter()
    with Bars(console) as bars:
        figures = heldout_figures(
            restorer,
            store,
            chosen,
            occluder,
            embedders,
            seed=settings.seed,
            kinds=settings.kinds or PAPER_KINDS,
            batch_size=settings.batch_size,
            composed=settings.composed,
            progress=bars,
        )
    seconds = time.perf_counter() - start
    with console.status("bootstrap"):
        found: dict[str, Any] = {
            "overall": summarise(figures, seed=settings.seed, replicates=settings.replicates),
            "fuse": best_shares(figures),
            **summarise_groups(figures, seed=settings.seed, replicates=settings.replicates),
        }
    return found | {
        "format": 1,
        "benchmark": "heldout",
        "data": {"store": str(faces), "faces": len(store), "held_out": share, "measured": len(chosen)},
        "weights": asdict(row),
        "embedders": [
            {key: getattr(one, key) for key in ("name", "sha256", "dimension")}
            | {"spec": spec, "layout": one.layout.name}
            for one, spec in zip(embedders, embedder, strict=True)
        ],
        "masks": {"source": occluder.source.name, "kinds": list(settings.kinds or PAPER_KINDS)},
        "settings": asdict(settings),
        "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "commit": commit_of_checkout(),
        "versions": package_versions(),
        "platform": {"system": platform.platform(), "cpus": os.cpu_count() or 0, "device": place},
        "seconds": round(seconds, 3),
        "peak_rss_bytes": peak_rss_bytes(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _share(row: WeightsRow, wanted: float | None) -> float:
    """The share of held-out faces, so that none of them was trained on as far as the weights say.

    Raises:
        InputError: If the wanted share is larger than the one that training left out.
    """
    trained = row.training.get("config", {}).get("held_out")
    if wanted is not None and trained is not None and wanted > trained:
        raise InputError(
            f"held-out share: {row.name} left out {trained} in training, {wanted} would hold trained faces"
        )
    return float(next(share for share in (wanted, trained, HELD_OUT) if share is not None))


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    faces: Annotated[Path, typer.Option(help="Folder that maskfix prepare wrote, of UTKFace for figures by group.")],
    weights: Annotated[
        str, typer.Option(help="Released name, .safetensors file, or a training run's completion.pt (its average).")
    ] = "cadf_small_128",
    embedder: Annotated[
        list[str] | None,
        typer.Option(help="arcface:PATH.onnx, dlib or human:PATH.json; repeat it for several at once."),
    ] = None,
    templates: Annotated[
        Path | None, typer.Option(help="Mask templates in MaskTheFace's layout; without it, maskfix's own drawings.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the report to this file.")] = None,
    limit: Annotated[int | None, typer.Option(help="Measure so many of the held-out faces, drawn at random.")] = None,
    held_out_share: Annotated[
        float | None, typer.Option("--held-out", help="Share that is held out; that of the weights' training if left.")
    ] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Mask kind to draw from; the paper's nine if left.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of masks, faces and bootstrap.")] = 0,
    composed: Annotated[
        bool, typer.Option(help="Judge what users get; --no-composed takes the network's own picture everywhere.")
    ] = True,
    replicates: Annotated[int, typer.Option(help="Draws of the bootstrap over faces; 0 for no intervals.")] = 1000,
    batch_size: Annotated[int, typer.Option(help="Faces a step.")] = 32,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Masked and completed held-out faces of the training data: picture figures and recovered similarity."""
    with one_line_errors():
        if json_path is not None:
            check_out(json_path.absolute().parent)
            if json_path.is_dir():
                raise InputError(f"{json_path}: is a folder; give a file for the report")
        settings = HeldoutSettings(seed, limit, held_out_share, tuple(kind or ()), composed, replicates, batch_size)
        report = run(faces, weights, embedder or [], templates=templates, settings=settings, device=device)
        if json_path is not None:
            with replacing(json_path) as temporary:
                temporary.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    # Piped output has no width of its own; rich would fold everything at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 180)
    for table in make_tables(report):
        console.print(table)


if __name__ == "__main__":
    app()
