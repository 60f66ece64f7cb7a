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

**Margin over strangers** is by how many standard deviations the cosine of a masked or completed face to its own clean
picture exceeds its cosines to those of the other measured faces. A completion that makes all faces alike raises the
similarity and not the margin.

Where a photograph ends inside its crop, a store holds its reflection, which no photograph of a user shows and which a
network can read what is under the mask from. `--surroundings edge` (the default) replaces it by the colours of the
photograph's edge before the mask is put on, and figures inside the mask are those of the photograph's part of it.

`--mask-detector` asks a mask detector that others trained (`benchmarks.mask_detector`) whether it still sees a mask on
completed faces, and how often it sees one on clean ones.

`--unseen` measures every face of a store of other photographs than the training data, made by `maskfix prepare`. Whole
photographs of heads, background and all, foretold what runs would gain on LFW where UTKFace's own held-out faces did
not (`weights/training/runs.md`).
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
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.groups import best_shares, choose_faces, make_tables, summarise, summarise_groups
from benchmarks.heldout_figures import SURROUNDINGS, check_surroundings, heldout_figures
from benchmarks.lfw import Bars
from benchmarks.mask_detector import NAME, MaskDetector
from benchmarks.report import check_out, commit_of_checkout, describe_source, package_versions, peak_rss_bytes
from benchmarks.restorer import load_restorer
from maskfix.base import InputError, check_range, replacing, resolve_device
from maskfix.cli.shared import one_line_errors
from maskfix.data import open_store
from maskfix.embed.factory import load
from maskfix.occlude import PAPER_KINDS, open_occluder
from maskfix.weights import WeightsRow

HELD_OUT = 0.02
"""Share of the faces to take where the weights do not say what they were trained without."""


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
        surroundings: See `heldout_figures`.
        trim: See `heldout_figures`.
        unseen: Whether no face of the store was trained on, so that all of them are measured: photographs of another
            source than the training data.
    """

    seed: int = 0
    limit: int | None = None
    held_out: float | None = None
    kinds: tuple[str, ...] = ()
    composed: bool = True
    replicates: int = 1000
    batch_size: int = 32
    surroundings: str = "edge"
    trim: float = 0.0
    unseen: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers out of range and unknown surroundings.

        Raises:
            InputError: If something is out of range.
        """
        check_range("seed", self.seed, 0, 2**63)
        check_range("replicates", self.replicates, 0, 1_000_000)
        check_range("batch size", self.batch_size, 1, 4096)
        check_surroundings(self.surroundings)
        check_range("trim", self.trim, 0, 0.4)
        if self.unseen and self.held_out is not None:
            raise InputError("unseen: measures every face of the store; leave --held-out out")
        if self.trim and self.surroundings == "reflection":
            raise InputError("trim: needs other surroundings than the reflection, which is the photograph's own")


def run(
    faces: Path,
    weights: str,
    embedder: Sequence[str],
    *,
    templates: Path | None = None,
    settings: HeldoutSettings | None = None,
    mask_detector: Path | None = None,
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
        mask_detector: File of a mask detector, see `benchmarks.mask_detector`; none is asked when None.
        device: `auto`, `cpu` or `cuda`.
        console: Where progress is drawn; the error stream when None.

    Raises:
        MaskfixError: On any bad input.
    """
    settings, console = settings or HeldoutSettings(), console or Console(stderr=True)
    place = resolve_device(device)
    store = open_store(faces)
    occluder = open_occluder(templates, settings.kinds)
    with console.status("loading networks"):
        restorer = load_restorer(weights, place, settings.batch_size)
        embedders = [load(spec, device, settings.batch_size) for spec in embedder]
        detector = MaskDetector(mask_detector, device, settings.batch_size) if mask_detector else None
    row = restorer.weights or WeightsRow("unnamed", "unknown", "", "0" * 64, 0)
    share = 1.0 if settings.unseen else _share(row, settings.held_out)
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
            surroundings=settings.surroundings,
            trim=settings.trim,
            mask_detector=detector,
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
        "mask_detector": None if detector is None else {"name": NAME, "sha256": detector.sha256},
        "masks": {**describe_source(occluder.source), "kinds": list(settings.kinds or PAPER_KINDS)},
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
    surroundings: Annotated[
        str, typer.Option(help=f"What stands around photographs that end inside the crop: {', '.join(SURROUNDINGS)}.")
    ] = "edge",
    trim: Annotated[float, typer.Option(help="Largest share of the photograph that each side loses to those.")] = 0.0,
    mask_detector: Annotated[
        Path | None, typer.Option(help="mask-recognition's model.pth, to ask whether a mask is still seen.")
    ] = None,
    unseen: Annotated[bool, typer.Option("--unseen", help="The store is not of training: measure all of it.")] = False,
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
        settings = HeldoutSettings(
            seed, limit, held_out_share, tuple(kind or ()), composed, replicates, batch_size, surroundings, trim, unseen
        )
        report = run(
            faces,
            weights,
            embedder or [],
            templates=templates,
            settings=settings,
            mask_detector=mask_detector,
            device=device,
        )
        if json_path is not None:
            with replacing(json_path) as temporary:
                temporary.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    # Piped output has no width of its own; rich would fold everything at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 180)
    for table in make_tables(report):
        console.print(table)


if __name__ == "__main__":
    app()
