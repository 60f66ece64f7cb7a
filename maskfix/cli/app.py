"""The sub-commands of `maskfix`; heavy imports wait until a command runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from maskfix import __version__
from maskfix.base import MaskfixError
from maskfix.cli.shared import BAD_INPUT, run, track

app = typer.Typer(
    help="Complete occluded faces before face verification.",
    no_args_is_help=True,
    add_completion=False,
    # Paragraphs fill the line; without markup they keep the breaks of their docstring.
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(help="Train a completion network: stage 1 siamese, stage 2 completion.", no_args_is_help=True)
weights_app = typer.Typer(help="List released weights, or make a release out of a checkpoint.", no_args_is_help=True)
app.add_typer(train_app, name="train")
app.add_typer(weights_app, name="weights")

Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
Templates = Annotated[
    Path | None, typer.Option(help="folder in MaskTheFace's layout (masks.cfg); maskfix's own drawings when left out")
]
ConfigFile = Annotated[Path | None, typer.Option(help="TOML file; the paper's settings when left out")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"maskfix {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print it, stop")
    ] = False,
) -> None:
    """Complete occluded faces before face verification."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder for the panel picture")] = Path("runs/demo"),
    photo: Annotated[
        Path | None, typer.Option(help="your own photograph; scikit-image's astronaut when left out")
    ] = None,
    weights: Annotated[str, typer.Option(help="released weights, or a .safetensors file")] = "cadf_small_128",
    embedder: Annotated[str, typer.Option(help="recogniser")] = "dlib",
    templates: Templates = None,
    device: Device = "auto",
) -> None:
    """Put each of the nine masks on one face, complete it, and compare what a recogniser makes of it."""
    from maskfix.cli.demo import run_demo

    run_demo(out, photo, weights, embedder, templates, device)


@app.command()
def verify(
    first: Annotated[Path, typer.Argument(metavar="A", help="picture with a face")],
    second: Annotated[Path, typer.Argument(metavar="B", help="picture with a face")],
    embedder: Annotated[
        str | None,
        typer.Option(
            help="recogniser, such as dlib or arcface:PATH.onnx; when left out lightcnn9, maskfix's own, or dlib where "
            "its weights are not here"
        ),
    ] = None,
    mode: Annotated[
        str, typer.Option(help="gate (complete occluded faces), always, observe (complete none) or fuse")
    ] = "gate",
    threshold: Annotated[
        float | None, typer.Option(help="similarity above which it is one person; the shipped one when left out")
    ] = None,
    fmr: Annotated[float, typer.Option(help="false match rate of the shipped threshold: 0.001 or 0.01")] = 0.001,
    weights: Annotated[str, typer.Option(help="released weights, or a .safetensors file")] = "cadf_small_128",
    detector: Annotated[str, typer.Option(help="landmarks: auto, mesh or mtcnn")] = "auto",
    panel: Annotated[
        Path | None,
        typer.Option(help="picture of both faces; runs/verify/panel.png when left out, none with --json"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
    device: Device = "auto",
) -> None:
    """Say whether two pictures show one person: exit code 0 same, 1 different, 2 error or no threshold known.

    Occluded faces are completed first. Of several faces on a picture, the largest near the centre is compared.
    """
    from maskfix.cli.verify import VerifySettings, run_verify

    settings = VerifySettings(
        embedder, mode, threshold=threshold, fmr=fmr, weights=weights, detector=detector, device=device
    )
    target = panel or (None if as_json else Path("runs/verify/panel.png"))
    raise typer.Exit(run_verify(first, second, settings, target, as_json))


@app.command()
def complete(
    inputs: Annotated[
        list[str], typer.Argument(metavar="IN...", help="picture, folder, quoted glob, or several pictures")
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="picture or folder to write; never an input")],
    mode: Annotated[str, typer.Option(help="gate (complete occluded faces) or always (every face)")] = "gate",
    workers: Annotated[int, typer.Option(help="processes; each loads the networks")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="write again what is there already")] = False,
    weights: Annotated[str, typer.Option(help="released weights, or a .safetensors file")] = "cadf_small_128",
    detector: Annotated[str, typer.Option(help="landmarks: auto, mesh or mtcnn")] = "auto",
    device: Device = "auto",
) -> None:
    """Complete the occluded faces of pictures; run again, it goes on where it was stopped.

    The tree of the inputs is mirrored, formats stay (.jpg, .png, .bmp, .webp, .tif; other files of a folder are passed
    over), pictures are turned upright by their EXIF tag. A picture without an occluded face is copied as it is. Exit
    code 0; 1 where a picture shows no face or cannot be used (they are listed in OUT/failures.csv); 2 on errors.
    """
    from maskfix.cli.complete import CompleteSettings, run_complete

    settings = CompleteSettings(mode, weights=weights, detector=detector, device=device)
    raise typer.Exit(run_complete(inputs, out, settings, workers, overwrite))


@app.command()
def prepare(
    images: Annotated[
        list[Path], typer.Option(help="folder of face photographs, searched to any depth; may be given more than once")
    ],
    out: Annotated[Path, typer.Option(help="folder for the prepared faces")],
    size: Annotated[int, typer.Option(help="side of the crops in pixels")] = 128,
    workers: Annotated[int | None, typer.Option(help="processes; one per CPU when left out")] = None,
) -> None:
    """Detect and align faces and make their correspondence targets; a killed run continues."""
    from maskfix.train.prepare import prepare_faces

    records = prepare_faces(images, out, size, workers, lambda done, total: track(done, total, "chunks of 256"))
    failed = records[~records["ok"]]
    typer.echo(
        f"{len(records) - len(failed)} faces prepared, {len(failed)} pictures failed (reasons in {out}/records.csv)"
    )


@train_app.command()
def siamese(
    faces: Annotated[Path, typer.Option(help="what maskfix prepare wrote")],
    out: Annotated[Path, typer.Option(help="folder for checkpoint and log")],
    config: ConfigFile = None,
    templates: Templates = None,
    steps: Annotated[int | None, typer.Option(help="optimiser steps in all")] = None,
    device: Device = "auto",
    workers: Annotated[int, typer.Option(help="processes that make batches")] = 1,
) -> None:
    """Stage 1: contrastive pre-training of the encoder; continues from its checkpoint."""
    from maskfix.train.config import SiameseConfig, load_config
    from maskfix.train.siamese import train_siamese

    settings = load_config(SiameseConfig, config, {"steps": steps})
    with _Steps("stage 1", settings.steps) as progress:
        path = train_siamese(settings, faces, out, templates, device, workers, progress)
    progress.say(f"checkpoint: {path}")


@train_app.command()
def completion(
    faces: Annotated[Path, typer.Option(help="what maskfix prepare wrote")],
    out: Annotated[Path, typer.Option(help="folder for checkpoint and log")],
    identity: Annotated[Path | None, typer.Option(help="MobileFaceNet as ONNX, for the identity term")] = None,
    more_identity: Annotated[
        list[str] | None,
        typer.Option(
            help="faceres.json, mobileface.json or FILE.onnx?layout=arcface_112, for the identity term as well"
        ),
    ] = None,
    judge: Annotated[list[str] | None, typer.Option(help="The same, for validation alone")] = None,
    encoder: Annotated[Path | None, typer.Option(help="stage 1's siamese.pt")] = None,
    start: Annotated[
        str | None, typer.Option(help="what to start from: another run's completion.pt, or released weights")
    ] = None,
    config: ConfigFile = None,
    templates: Templates = None,
    steps: Annotated[int | None, typer.Option(help="optimiser steps in all")] = None,
    device: Device = "auto",
    workers: Annotated[int, typer.Option(help="processes that make batches")] = 1,
) -> None:
    """Stage 2: the whole network on the paper's objective; continues from its checkpoint."""
    from maskfix.train.completion import train_completion
    from maskfix.train.config import CompletionConfig, load_config

    settings = load_config(CompletionConfig, config, {"steps": steps})
    with _Steps("stage 2", settings.steps) as progress:
        path = train_completion(
            settings,
            faces,
            out,
            templates=templates,
            identity=identity,
            encoder=encoder,
            start=start,
            device=device,
            workers=workers,
            progress=progress,
            more_identity=more_identity or (),
            judges=judge or (),
        )
    progress.say(f"checkpoint: {path}")


@train_app.command()
def recogniser(
    faces: Annotated[Path, typer.Option(help="folder that maskfix prepare wrote")],
    out: Annotated[Path, typer.Option(help="folder for checkpoint, log and the teachers' embeddings")],
    teacher: Annotated[list[str], typer.Option(help="recogniser to learn from, such as dlib; repeat it for several")],
    config: Annotated[Path | None, typer.Option(help="TOML with a DistillationConfig; defaults when left out")] = None,
    templates: Annotated[Path | None, typer.Option(help="mask templates in MaskTheFace's layout")] = None,
    device: Device = "auto",
    workers: Annotated[int, typer.Option(help="processes that make batches")] = 1,
    steps: Annotated[int | None, typer.Option(help="steps in all; the configuration's when left out")] = None,
) -> None:
    """Distil recognisers into a LightCNN of one's own; no names of people are needed."""
    from maskfix.train.config import DistillationConfig, load_config
    from maskfix.train.distillation import train_recogniser

    settings = load_config(DistillationConfig, config, {"steps": steps})
    with _Steps("distillation", settings.steps) as progress:
        path = train_recogniser(
            settings, faces, out, teacher, templates=templates, device=device, workers=workers, progress=progress
        )
    typer.echo(f"checkpoint: {path}")


@train_app.command()
def landmarks(
    faces: Annotated[Path, typer.Option(help="folder that maskfix prepare wrote")],
    out: Annotated[Path, typer.Option(help="folder for checkpoint and log")],
    config: ConfigFile = None,
    templates: Templates = None,
    steps: Annotated[int | None, typer.Option(help="optimiser steps in all")] = None,
    device: Device = "auto",
    workers: Annotated[int, typer.Option(help="processes that make batches")] = 1,
) -> None:
    """The network that finds a masked face in a crop cut askew; continues from its checkpoint."""
    from maskfix.train.config import load_config
    from maskfix.train.landmark_config import LandmarkConfig
    from maskfix.train.landmarks import train_landmarks

    settings = load_config(LandmarkConfig, config, {"steps": steps})
    with _Steps("landmarks", settings.steps) as progress:
        path = train_landmarks(settings, faces, out, templates, device, workers, progress)
    progress.say(f"checkpoint: {path}")


@weights_app.command("list")
def list_command() -> None:
    """List the released weights."""
    from maskfix.weights import list_weights

    for row in list_weights():
        typer.echo(f"{row.name}  {row.bytes / 1e6:.1f} MB  sha256 {row.sha256}  {row.licence}")


@weights_app.command()
def release(
    checkpoint: Annotated[Path, typer.Argument(help="stage 2's completion.pt")],
    name: Annotated[str, typer.Argument(help="arch.tag, for example cadf_small_128.utkface")],
    data: Annotated[str, typer.Option(help="what it was trained on, for the card")],
    licence: Annotated[str, typer.Option(help="what the training data allow")] = "non-commercial research only",
    out: Annotated[Path, typer.Option(help="weights folder with manifest.json")] = Path("weights"),
    faces: Annotated[
        Path | None, typer.Option(help="what maskfix prepare wrote: also fit an early look, see weights early")
    ] = None,
    templates: Templates = None,
) -> None:
    """Turn a checkpoint into released weights: fp16 safetensors, manifest row, model card."""
    from maskfix.train.release import release_checkpoint

    typer.echo(f"written: {release_checkpoint(checkpoint, name, data, licence, out)}")
    if faces is not None:
        _fit_early_look(name, faces, templates, out)


@weights_app.command()
def early(
    name: Annotated[str, typer.Argument(help="arch.tag of a released file")],
    faces: Annotated[Path, typer.Option(help="what maskfix prepare wrote, best the training faces")],
    templates: Templates = None,
    out: Annotated[Path, typer.Option(help="weights folder with manifest.json")] = Path("weights"),
) -> None:
    """Give a release an early look, so that faces which are surely clean cost the gate a fraction of the network."""
    _fit_early_look(name, faces, templates, out)


def _fit_early_look(name: str, faces: Path, templates: Path | None, out: Path) -> None:
    from maskfix.cli.shared import make_progress
    from maskfix.train.release import add_early_look

    with make_progress() as bar:
        task = bar.add_task("early look")
        figures = add_early_look(
            name, faces, out, templates, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    typer.echo(f"early look: {figures.passed:.1%} of clean pictures pass early, none of the occluded ones")


@weights_app.command()
def mix(
    first: Annotated[Path, typer.Argument(help="completion.pt of a run")],
    second: Annotated[Path, typer.Argument(help="completion.pt of a run that began at the first, or where it began")],
    out: Annotated[Path, typer.Option("--out", "-o", help="checkpoint to write")],
    share: Annotated[float, typer.Option(help="the second's share, from 0 to 1")] = 0.5,
) -> None:
    """Average two runs' weights into a checkpoint to start from, or to release."""
    from maskfix.train.mix import mix_checkpoints

    typer.echo(f"written: {mix_checkpoints(first, second, share, out)}")


@weights_app.command()
def record(
    name: Annotated[str, typer.Argument(help="arch.tag of a released file")],
    reports: Annotated[list[Path], typer.Argument(help="report.json files of benchmarks.lfw or benchmarks.heldout")],
    notes: Annotated[str | None, typer.Option(help="what a user should know; kept when left out")] = None,
    out: Annotated[Path, typer.Option(help="weights folder with manifest.json")] = Path("weights"),
) -> None:
    """Put a benchmark's headline figures on a release's card."""
    from maskfix.train.scores import record_scores

    record_scores(name, reports, out, notes)
    typer.echo(f"written: {out / f'{name}.md'}")


@app.command()
def roc(
    runs: Annotated[list[Path], typer.Argument(help="scores.npz files of saved runs, or their folders")],
    out: Annotated[Path, typer.Option("--out", "-o", help="figure to write: .png, .pdf or .svg")] = Path("roc.png"),
) -> None:
    """Overlay the ROC curves of saved runs in one figure."""
    from maskfix.plot.saved import overlay

    overlay(runs, out)
    typer.echo(f"written: {out}")


def _rank(name: str) -> int:
    """This process's place among those that torchrun started; 0 without torchrun."""
    return int(os.environ[name]) if "TORCHELASTIC_RUN_ID" in os.environ else 0


class _Steps:
    """A progress bar over training steps; a context manager that is called after each step.

    Of the processes that torchrun starts the first one shows it, and the first one of each machine says what is wrong.
    """

    def __init__(self, description: str, total: int) -> None:
        from maskfix.cli.shared import make_progress

        self._progress = make_progress()
        self._task = self._progress.add_task(description, total=total)
        self._description = description
        self._shown = _rank("RANK") == 0

    def __enter__(self) -> _Steps:
        if self._shown:
            self._progress.start()
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None and issubclass(kind, MaskfixError) and _rank("LOCAL_RANK") > 0:
            raise typer.Exit(BAD_INPUT)
        if kind is None:
            self._progress.stop()
        else:
            # After an error its one line says it all: the bar goes without a trace.
            self._progress.live.transient = True
            self._progress.live.stop()

    def __call__(self, step: int, figures: dict[str, float], /) -> None:
        shown = " ".join(
            f"{key} {figures[key]:.3f}" for key in ("loss", "found", "total", "identity") if key in figures
        )
        self._progress.update(self._task, completed=step, description=f"{self._description} {shown}")

    def say(self, line: str) -> None:
        """Print a line, once for all processes."""
        if self._shown:
            typer.echo(line)


def main() -> None:
    """Entry point of the `maskfix` command."""
    run(app)
