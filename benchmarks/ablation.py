"""`python -m benchmarks.ablation`: what each part of the method is worth (the paper's Table 6 and figure 9)."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.ablation_runs import (
    VARIANTS,
    Faces,
    Job,
    Measured,
    Variant,
    measure,
    open_faces,
    weight_variants,
    write_json,
)
from benchmarks.ablation_table import RECOVERED, compare, format_ablation, masked_figures
from benchmarks.lfw import Bars
from benchmarks.options import Device, Templates
from benchmarks.report import commit_of_checkout, package_versions
from maskfix.base import InputError, check_choice, check_range, replacing, resolve_device
from maskfix.cli.shared import one_line_errors
from maskfix.embed.factory import load
from maskfix.metrics import Interval
from maskfix.plot.curve import WeightCurveDisplay
from maskfix.train.config import CompletionConfig, load_config
from protocols import Progress

__all__ = ["BASE", "app", "format_ablation", "run_ablation"]

BASE: Mapping[str, Any] = {
    "network": "cadf_small_128",
    "batch_size": 16,
    "learning_rate": 1e-3,
    "schedule": "cosine",
    "warmup": 100,
    "precision": "bf16-mixed",
    "perturb_identity": True,
    "average": 0.998,
    "validate_every": 0,
    "objective": {
        "style": 0.0,
        "identity": 0.5,
        "identity_form": "cosine",
        "texture_scales": [1],
        "texture_samples": 8,
        "occluded_weight": 5.0,
    },
}
"""What all variants share unless --config says otherwise; the rest is the paper's."""


def run_ablation(
    job: Job, names: Sequence[str], weights: Sequence[float], target: Path, progress: Progress | None = None
) -> dict[str, Any]:
    """Train and measure the variants; a killed run goes on where it was.

    The report is written anew after each variant; `missing` names those that it does not have yet. Beside the runs
    stand `ablation.md` and, with two weights or more, `uv-weights.png`.

    Args:
        job: What all variants share.
        names: Of `VARIANTS`; the full one is always among them.
        weights: Weights of the correspondence loss for the curve; none for no curve.
        target: JSON file of the report.
        progress: Called with the name of the run, steps done, steps in all.

    Returns:
        The report.

    Raises:
        InputError: If a name is unknown, the base configuration already lacks a part, a judge stands in the loss, or
            the folder holds runs of other settings.
        MaskfixError: If the faces, templates, encoder or identity networks cannot be used.
    """
    for name in names:
        check_choice("variant", name, VARIANTS)
    objective = job.base.objective
    if not (job.base.fusion and objective.correspondence and objective.occlusion):
        raise InputError("ablation: the base configuration needs fusion, and correspondence and occlusion above 0")
    rows = [variant for name, variant in VARIANTS.items() if name in {*names, "full"}]
    curve = weight_variants(weights, job.base)
    faces = open_faces(job)
    found: dict[tuple[str, bool], Measured] = {}
    report: dict[str, Any] = {}
    # The full one first: all others are compared with it.
    for variant in sorted([*rows, *curve.values()], key=lambda variant: variant.key[0] != "full"):
        if variant.key not in found:
            found[variant.key] = measure(job, faces, variant, progress)
            report = build_report(job, faces, found, rows, curve)
            write_json(target, report)
    if len(curve) > 1:
        draw_curve(report).save(job.out / "uv-weights.png")
    with replacing(job.out / "ablation.md") as temporary:
        temporary.write_text(format_ablation(report) + "\n", encoding="utf-8")
    return report


def build_report(
    job: Job,
    faces: Faces,
    found: Mapping[tuple[str, bool], Measured],
    rows: Sequence[Variant],
    curve: Mapping[float, Variant],
) -> dict[str, Any]:
    """Put the report together from what is measured so far; the full variant must be.

    Args:
        job: What all variants share.
        faces: What figures were taken on.
        found: What is known of each variant, by its key.
        rows: Variants of the table.
        curve: Variants of the curve, by weight.
    """
    base, full = job.base, found["full", True]

    def row(variant: Variant) -> dict[str, Any]:
        config, known = variant.config(base), found[variant.key]
        return {
            "name": variant.name,
            "run": variant.key[0],
            "siamese": variant.siamese,
            "fusion": config.fusion,
            "correspondence": config.objective.correspondence,
            "occlusion_head": variant.occlusion,
            "composed": variant.composed,
            "training_seconds": round(known.seconds, 1),
            **compare(known.columns, full.columns, base.seed, job.replicates),
        }

    return {
        "format": 1,
        "benchmark": "ablation",
        "steps": base.steps,
        "batch_size": base.batch_size,
        "samples": base.steps * base.batch_size,
        "seed": base.seed,
        "replicates": job.replicates,
        "data": {"training": faces.training, "held_out": len(faces.held_out)},
        **faces.record,
        "judges": [
            {"spec": spec, "name": judge.name, "sha256": judge.sha256, "dimension": int(judge.dimension)}
            for spec, judge in job.judges.items()
        ],
        "masked": masked_figures(full.columns, base.seed, job.replicates),
        "rows": [row(variant) for variant in rows if variant.key in found],
        "curve": [row(variant) for _, variant in sorted(curve.items()) if variant.key in found],
        "missing": sorted({variant.name for variant in [*rows, *curve.values()] if variant.key not in found}),
        "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "commit": commit_of_checkout(),
        "versions": package_versions(),
        "platform": _machine(job.device),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _machine(device: str) -> dict[str, Any]:
    """Where this runs."""
    import torch

    name = (
        torch.cuda.get_device_name(device) if device.startswith("cuda") else platform.processor() or platform.machine()
    )
    return {"system": platform.platform(), "cpus": os.cpu_count() or 0, "device": device, "processor": name}


def draw_curve(report: Mapping[str, Any]) -> WeightCurveDisplay:
    """PSNR and the judges' recovered similarity over the weight of the correspondence loss (the paper's figure 9)."""
    points = report["curve"]

    def line(name: str, scale: float = 1) -> list[Interval]:
        figures = [point["figures"][name] for point in points]
        return [Interval(*(scale * x for x in (f["value"], *(f["ci95"] or [f["value"]] * 2)))) for f in figures]

    return WeightCurveDisplay(
        weights=[point["correspondence"] for point in points],
        panels={
            "PSNR (dB)": {"": line("psnr")},
            "PSNR inside the mask (dB)": {"": line("psnr_masked")},
            "Recovered similarity (%)": {
                judge["name"]: line(RECOVERED + judge["name"], 100) for judge in report["judges"]
            },
        },
        marked=report["config"]["objective"]["correspondence"],
    )


def run(
    faces: Path,
    encoder: Path,
    out: Path,
    target: Path,
    judge: Sequence[str],
    *,
    steps: int,
    config: Path | None = None,
    templates: Path | None = None,
    identity: Path | None = None,
    more_identity: Sequence[Path] = (),
    variants: Sequence[str] = tuple(VARIANTS),
    uv_weights: Sequence[float] = (),
    limit: int | None = None,
    seed: int | None = None,
    device: str = "auto",
    workers: int = 1,
    replicates: int = 1000,
) -> dict[str, Any]:
    """Load what `run_ablation` needs, and run it with progress bars; see the command's options.

    Raises:
        MaskfixError: On any bad input.
    """
    check_range("replicates", replicates, 0, 1_000_000)
    place = resolve_device(device)
    overrides = {"steps": steps, "seed": seed}
    base = load_config(CompletionConfig, config, overrides if config else {**BASE, **overrides})
    console = Console(stderr=True)
    with console.status("loading networks"):
        judges = {spec: load(spec, device) for spec in judge}
    job = Job(
        base,
        faces,
        encoder,
        out,
        judges,
        templates=templates,
        identity=identity,
        more_identity=tuple(more_identity),
        limit=limit,
        device=place,
        workers=workers,
        replicates=replicates,
    )
    with Bars(console) as bars:
        return run_ablation(job, variants, uv_weights, target, bars)


def _words(text: str) -> list[str]:
    """What commas separate."""
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[float]:
    """Numbers that commas separate."""
    try:
        return [float(word) for word in _words(text)]
    except ValueError as error:
        raise InputError(f"uv-weights: expected numbers separated by commas, got {text!r}") from error


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    faces: Annotated[Path, typer.Option(help="Store that maskfix prepare wrote.")],
    encoder: Annotated[Path, typer.Option(help="Stage 1's siamese.pt.")],
    steps: Annotated[int, typer.Option(help="Steps that each variant is trained.")],
    out: Annotated[
        Path, typer.Option(help="Folder of the runs, one folder a variant; a killed command goes on there.")
    ],
    json_file: Annotated[Path, typer.Option("--json", help="File of the report, written anew after each variant.")],
    judge: Annotated[
        list[str],
        typer.Option(
            help="Recogniser that takes the figures and stands in no loss: human:PATH.json, arcface:PATH.onnx or "
            "dlib; repeat it for several."
        ),
    ],
    identity: Annotated[Path | None, typer.Option(help="MobileFaceNet as ONNX, for the identity term.")] = None,
    more_identity: Annotated[
        list[Path] | None, typer.Option(help="faceres.json or mobileface.json, for the identity term as well.")
    ] = None,
    templates: Templates = None,
    config: Annotated[
        Path | None, typer.Option(help="Stage 2's TOML for all variants; this module's BASE without it.")
    ] = None,
    variants: Annotated[
        str, typer.Option(help="Which, separated by commas; the full one is always among them.")
    ] = ",".join(VARIANTS),
    uv_weights: Annotated[
        str, typer.Option(help="Weights of the correspondence loss for the curve; empty for no curve.")
    ] = "0,0.05,0.1,0.2,0.5,1",
    limit: Annotated[int | None, typer.Option(help="Take figures on so many held-out faces only.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything; the configuration's without it.")] = None,
    device: Device = "auto",
    workers: Annotated[int, typer.Option(help="Processes that make batches.")] = 1,
    replicates: Annotated[int, typer.Option(help="Draws of the bootstrap over faces; 0 for no intervals.")] = 1000,
) -> None:
    """Train the method without its parts, each variant equally long from the same seed, and compare the results.

    Figures are taken on held-out faces of the training data. Differences to the full variant are over the same faces
    and masks.
    """
    with one_line_errors():
        report = run(
            faces,
            encoder,
            out,
            json_file,
            judge,
            steps=steps,
            config=config,
            templates=templates,
            identity=identity,
            more_identity=more_identity or (),
            variants=_words(variants),
            uv_weights=_numbers(uv_weights),
            limit=limit,
            seed=seed,
            device=device,
            workers=workers,
            replicates=replicates,
        )
    print(f"{format_ablation(report)}\n\nreport: {json_file}")


if __name__ == "__main__":
    app()
