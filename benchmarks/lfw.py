"""`python -m benchmarks.lfw`: clean, masked and completed probes of LFW View 2 through a recogniser, into a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.progress import TaskID

from benchmarks.html_report import PAGE, html
from benchmarks.options import CleanCompleted, Detector, Device, DropFailed, Fuse, Kind, Replicates, Templates, Weights
from benchmarks.report import Parts, check_out, folder_names, write_run
from benchmarks.table import format_table
from maskfix.base import InputError, check_choice, resolve_device
from maskfix.cli.shared import make_progress, one_line_errors
from maskfix.occlude import PAPER_KINDS
from maskfix.weights import WeightsRow
from protocols import PROBE_SIDES, LfwDataset, LfwSettings, ProbeSettings, run_lfw

_STAGES = {"landmarks": "finding landmarks", "pictures": "masking, completing, embedding", "bootstrap": "bootstrap"}


class Bars:
    """Progress bars on the terminal's error stream, one a stage; nothing where that is no terminal.

    Args:
        console: Where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._bars = make_progress(console)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        """Start drawing."""
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing, also after an error."""
        self._bars.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Move a stage's bar; see `protocols.Progress`."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(_STAGES.get(stage, stage), total=total or None)
        self._bars.update(self._tasks[stage], completed=done)


def run(
    data: Path,
    embedder: list[str],
    out: Path,
    weights: str,
    *,
    templates: Path | None = None,
    settings: LfwSettings | None = None,
    limit_folds: int | None = None,
    detector: str = "auto",
    aligner: str | None = None,
    device: str = "auto",
    cache: Path | None = None,
    console: Console | None = None,
) -> None:
    """Run the benchmark and write its files.

    What is cheap to check is checked first: the data, the folder to write, the templates; then models are loaded.

    Args:
        data: LFW's folder.
        embedder: Spec of each recogniser.
        out: Folder for the report.
        weights: Name or path of the completing network's weights.
        templates: Folder of mask templates in MaskTheFace's layout; this project's own drawings when None.
        settings: How to run.
        limit_folds: Take only so many folds.
        detector: `auto`, `mesh` or `mtcnn`: places the masks.
        aligner: Likewise: finds the landmarks by which pictures are cut out; the detector when None.
        device: `auto`, `cpu` or `cuda`.
        cache: Folder for landmarks; `landmarks-cache` beside `out` when None.
        console: Where progress is drawn; the error stream when None.

    Raises:
        MaskfixError: On any bad input; nothing half-written is left behind.
    """
    from maskfix.align import list_detectors, load_detector
    from maskfix.occlude import open_occluder

    settings, console = settings or LfwSettings(), console or Console(stderr=True)
    check_choice("probe", settings.side, PROBE_SIDES)
    check_choice("detector", detector, list_detectors())
    if aligner is not None:
        check_choice("aligner", aligner, list_detectors())
    place = resolve_device(device)
    if not embedder or len(set(embedder)) < len(embedder):
        raise InputError("embedder: give at least one, and each once")
    dataset = LfwDataset(data, limit_folds)
    check_out(out)
    occluder = open_occluder(templates, settings.probes.kinds)
    with console.status("loading networks"):
        from maskfix.deocclude import Deoccluder
        from maskfix.embed.factory import load

        embedders = [load(spec, device=device, batch_size=settings.probes.batch_size) for spec in embedder]
        folder_names(embedders)  # two of one kind are found here, not after the run
        restorer = Deoccluder.from_pretrained(weights, device=place, batch_size=settings.probes.batch_size)
        finder = load_detector(detector, device=place)
        cutter = load_detector(aligner, device=place) if aligner else None
    folder = cache or out.parent / "landmarks-cache"
    with Bars(console) as bars:
        result = run_lfw(
            dataset,
            detector=finder,
            occluder=occluder,
            restorer=restorer,
            embedders=embedders,
            cache=folder,
            settings=settings,
            aligner=cutter,
            progress=bars,
        )
    if result.detected:
        console.print(
            f"landmarks of {result.detected} pictures took {result.seconds['landmarks']:.0f} s and are kept in {folder}"
        )
    if result.no_face:
        first = next(iter(result.no_face.values()))
        console.print(f"{len(result.no_face)} pictures without a usable face count as failures; the first: {first}")
    row = restorer.weights or WeightsRow("unnamed", "unknown", "", "0" * 64, 0)
    reader = restorer.reader.weights if settings.probes.align == "masked" and restorer.reader else None
    parts = Parts(dataset, finder, occluder, row, settings, place, cutter, reader)
    with console.status("drawing figures"):
        reports = write_run(out, parts, result, embedders, embedder)
        pictures = dataset.paths[0].parent.parent
        page = html([out / name for name in reports], out / PAGE, pictures=pictures)
    for name, report in reports.items():
        print(f"{report['embedder']['name']}\n\n{format_table(report)}\n\nreport: {out / name / 'report.json'}")
    print(f"page: {page}")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    data: Annotated[Path, typer.Option(help="LFW: pairs.txt and the pictures, in any of the usual layouts.")],
    embedder: Annotated[
        list[str],
        typer.Option(
            help="arcface:PATH.onnx, arcface:PACK, dlib, lightcnn9, facenet:NAME, lightcnn:FILE.pth, human:FILE.json "
            "or onnx:MODEL.onnx?layout=...; repeat it for several at once, for one table and one ROC figure of all."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for the report. Landmarks are found once and kept in landmarks-cache beside it, by file hash "
            "and detector."
        ),
    ],
    weights: Weights = "cadf_small_128",
    templates: Templates = None,
    probe: Annotated[
        str,
        typer.Option(help="Which side of a pair is the probe: second, first, or both (all 12,000 comparisons pooled)."),
    ] = "second",
    limit_folds: Annotated[int | None, typer.Option(help="Run the first so many folds only.")] = None,
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(help="Photographs per step.")] = 32,
    seed: Annotated[int, typer.Option(help="Seed of the masks, the bootstrap and the panel.")] = 0,
    drop_failed: DropFailed = False,
    clean_completed: CleanCompleted = True,
    kind: Kind = None,
    fuse: Fuse = None,
    detector: Detector = "auto",
    align: Annotated[
        str,
        typer.Option(
            help="clean: all methods are cut out by the clean picture's landmarks. masked: masked and completed probes "
            "by those found on the masked picture, as in use; adds a row of landmarks found again after completion."
        ),
    ] = "clean",
    aligner: Annotated[
        str | None, typer.Option(help="Detector of the landmarks that pictures are cut out by; --detector without it.")
    ] = None,
    replicates: Replicates = 1000,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for landmarks instead of landmarks-cache beside OUT.")
    ] = None,
) -> None:
    """Clean, masked and completed probes of LFW View 2 through one or more recognisers.

    The gallery picture is clean. Masks are put on whole photographs; the completion is pasted back into them; every
    method is aligned by the landmarks of the clean picture, so that only pixels differ, unless --align says otherwise.
    """
    with one_line_errors():
        kinds = tuple(kind) if kind else PAPER_KINDS
        probes = ProbeSettings(
            seed=seed, batch_size=batch_size, clean_completed=clean_completed, kinds=kinds, fuse=fuse, align=align
        )
        run(
            data,
            embedder,
            out,
            weights,
            templates=templates,
            settings=LfwSettings(probes, probe, drop_failed, replicates),
            limit_folds=limit_folds,
            detector=detector,
            aligner=aligner,
            device=device,
            cache=cache,
        )


if __name__ == "__main__":
    app()
