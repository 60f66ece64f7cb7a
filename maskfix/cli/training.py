"""`maskfix train`: one command a training run; each continues from its checkpoint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from maskfix.base import MaskfixError
from maskfix.cli.options import ConfigFile, Device, Faces, RunFolder, Steps, Templates, Workers
from maskfix.cli.shared import BAD_INPUT, make_progress

app = typer.Typer(
    help="Train the completion network (siamese, then completion), a recogniser, the reader of landmarks.",
    no_args_is_help=True,
)


@app.command()
def siamese(
    faces: Faces,
    out: RunFolder,
    config: ConfigFile = None,
    templates: Templates = None,
    steps: Steps = None,
    device: Device = "auto",
    workers: Workers = 1,
) -> None:
    """Stage 1: contrastive pre-training of the encoder; continues from its checkpoint."""
    from maskfix.train.config import SiameseConfig, load_config
    from maskfix.train.siamese import train_siamese

    settings = load_config(SiameseConfig, config, {"steps": steps})
    with _Progress("stage 1", settings.steps) as progress:
        path = train_siamese(settings, faces, out, templates, device, workers, progress)
    progress.say(f"checkpoint: {path}")


@app.command()
def completion(
    faces: Faces,
    out: RunFolder,
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
    steps: Steps = None,
    device: Device = "auto",
    workers: Workers = 1,
) -> None:
    """Stage 2: the whole network on the paper's objective; continues from its checkpoint."""
    from maskfix.train.completion import train_completion
    from maskfix.train.config import CompletionConfig, load_config

    settings = load_config(CompletionConfig, config, {"steps": steps})
    with _Progress("stage 2", settings.steps) as progress:
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


@app.command()
def recogniser(
    faces: Faces,
    out: Annotated[Path, typer.Option(help="folder for checkpoint, log and the teachers' embeddings")],
    teacher: Annotated[list[str], typer.Option(help="recogniser to learn from, such as dlib; repeat it for several")],
    config: Annotated[Path | None, typer.Option(help="TOML with a DistillationConfig; defaults when left out")] = None,
    templates: Templates = None,
    device: Device = "auto",
    workers: Workers = 1,
    steps: Steps = None,
) -> None:
    """Distil recognisers into a LightCNN of one's own; no names of people are needed."""
    from maskfix.train.config import DistillationConfig, load_config
    from maskfix.train.distillation import train_recogniser

    settings = load_config(DistillationConfig, config, {"steps": steps})
    with _Progress("distillation", settings.steps) as progress:
        path = train_recogniser(
            settings, faces, out, teacher, templates=templates, device=device, workers=workers, progress=progress
        )
    progress.say(f"checkpoint: {path}")


@app.command()
def landmarks(
    faces: Faces,
    out: RunFolder,
    config: ConfigFile = None,
    templates: Templates = None,
    steps: Steps = None,
    device: Device = "auto",
    workers: Workers = 1,
) -> None:
    """The network that finds a masked face in a crop cut askew; continues from its checkpoint."""
    from maskfix.train.config import load_config
    from maskfix.train.landmark_config import LandmarkConfig
    from maskfix.train.landmarks import train_landmarks

    settings = load_config(LandmarkConfig, config, {"steps": steps})
    with _Progress("landmarks", settings.steps) as progress:
        path = train_landmarks(settings, faces, out, templates, device, workers, progress)
    progress.say(f"checkpoint: {path}")


def _rank(name: str) -> int:
    """This process's place among those that torchrun started; 0 without torchrun."""
    return int(os.environ[name]) if "TORCHELASTIC_RUN_ID" in os.environ else 0


class _Progress:
    """A progress bar over training steps; a context manager that is called after each step.

    Of the processes that torchrun starts the first one shows it, and the first one of each machine says what is wrong.
    """

    def __init__(self, description: str, total: int) -> None:
        self._progress = make_progress()
        self._task = self._progress.add_task(description, total=total)
        self._description = description
        self._shown = _rank("RANK") == 0

    def __enter__(self) -> _Progress:
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
