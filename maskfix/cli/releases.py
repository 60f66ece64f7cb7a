"""`maskfix weights`: what is released, and releases out of checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskfix.cli.options import Templates
from maskfix.cli.shared import make_progress

app = typer.Typer(help="List released weights, or make a release out of a checkpoint.", no_args_is_help=True)


@app.command("list")
def list_command() -> None:
    """List the released weights."""
    from maskfix.weights import list_weights

    for row in list_weights():
        typer.echo(f"{row.name}  {row.bytes / 1e6:.1f} MB  sha256 {row.sha256}  {row.licence}")


@app.command()
def release(
    checkpoint: Annotated[Path, typer.Argument(help="completion.pt, distillation.pt or landmarks.pt of a run")],
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


@app.command()
def early(
    name: Annotated[str, typer.Argument(help="arch.tag of a released file")],
    faces: Annotated[Path, typer.Option(help="folder that maskfix prepare wrote, best of the training faces")],
    templates: Templates = None,
    out: Annotated[Path, typer.Option(help="weights folder with manifest.json")] = Path("weights"),
) -> None:
    """Give a release an early look, so that faces which are surely clean cost the gate a fraction of the network."""
    _fit_early_look(name, faces, templates, out)


def _fit_early_look(name: str, faces: Path, templates: Path | None, out: Path) -> None:
    from maskfix.train.release import add_early_look

    with make_progress() as bar:
        task = bar.add_task("early look")
        figures = add_early_look(
            name, faces, out, templates, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    typer.echo(f"early look: {figures.passed:.1%} of clean pictures pass early, none of the occluded ones")


@app.command()
def mix(
    first: Annotated[Path, typer.Argument(help="completion.pt of a run")],
    second: Annotated[Path, typer.Argument(help="completion.pt of a run that began at the first, or where it began")],
    out: Annotated[Path, typer.Option("--out", "-o", help="checkpoint to write")],
    share: Annotated[float, typer.Option(help="the second's share, from 0 to 1")] = 0.5,
) -> None:
    """Average two runs' weights into a checkpoint to start from, or to release."""
    from maskfix.train.mix import mix_checkpoints

    typer.echo(f"written: {mix_checkpoints(first, second, share, out)}")


@app.command()
def record(
    name: Annotated[str, typer.Argument(help="arch.tag of a released file")],
    reports: Annotated[
        list[Path] | None, typer.Argument(help="report.json files of benchmarks.lfw or benchmarks.heldout")
    ] = None,
    notes: Annotated[
        Path | None, typer.Option(help="Markdown file of what a user should know; the card's stays when left out")
    ] = None,
    out: Annotated[Path, typer.Option(help="weights folder with manifest.json")] = Path("weights"),
) -> None:
    """Put a benchmark's headline figures on a release's card."""
    from maskfix.train.scores import record_scores

    record_scores(name, reports or (), out, None if notes is None else notes.read_text(encoding="utf-8").strip())
    typer.echo(f"written: {out / f'{name}.md'}")
