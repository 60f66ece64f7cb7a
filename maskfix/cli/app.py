"""The sub-commands of `maskfix`; heavy imports wait until a command runs."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Annotated

import typer

from maskfix import __version__
from maskfix.base import MaskfixError
from maskfix.cli import releases, training
from maskfix.cli.options import Device, Templates
from maskfix.cli.shared import BAD_INPUT, run, track

app = typer.Typer(
    help="Complete occluded faces before face verification.",
    no_args_is_help=True,
    add_completion=False,
    # Paragraphs fill the line; without markup they keep the breaks of their docstring.
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.add_typer(training.app, name="train")
app.add_typer(releases.app, name="weights")


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
    face_a: Annotated[int | None, typer.Option(help="which face of A, counted from the left, from 1")] = None,
    face_b: Annotated[int | None, typer.Option(help="which face of B, likewise")] = None,
    device: Device = "auto",
) -> None:
    """Say whether two pictures show one person: exit code 0 same, 1 different, 2 error or no threshold known.

    Occluded faces are completed first. Of several faces on a picture, the largest near the centre is compared unless
    --face-a or --face-b says which.
    """
    from maskfix.cli.verify import VerifySettings, run_verify

    settings = VerifySettings(
        embedder,
        mode,
        threshold=threshold,
        fmr=fmr,
        weights=weights,
        detector=detector,
        device=device,
        numbers=(face_a, face_b),
    )
    target = panel or (None if as_json else Path("runs/verify/panel.png"))
    try:
        code = run_verify(first, second, settings, target, as_json, panel_needed=panel is not None)
    except (MaskfixError, OSError):
        raise
    except Exception:
        # Python would end with 1, which says that these are two people.
        traceback.print_exc()
        code = BAD_INPUT
    raise typer.Exit(code)


@app.command()
def complete(
    inputs: Annotated[
        list[str], typer.Argument(metavar="IN...", help="picture, folder, quoted glob, or several pictures")
    ],
    out: Annotated[str, typer.Argument(metavar="OUT", help="picture or folder/ to write; never an input")],
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


@app.command()
def roc(
    runs: Annotated[list[Path], typer.Argument(help="scores.npz files of saved runs, or their folders")],
    out: Annotated[Path, typer.Option("--out", "-o", help="figure to write: .png, .pdf or .svg")] = Path("roc.png"),
    method: Annotated[
        list[str] | None,
        typer.Option(help="curves to draw, such as fused; repeat it. Else clean, masked, completed and refined ones"),
    ] = None,
) -> None:
    """Overlay the ROC curves of saved runs in one figure."""
    from maskfix.plot.saved import OVERLAID, overlay

    overlay(runs, out, method or OVERLAID)
    typer.echo(f"written: {out}")


def main() -> None:
    """Entry point of the `maskfix` command."""
    run(app)
