"""`python -m benchmarks.speed --seams`: what the seams cost, in turn with the libraries alone, as ratios."""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.report import commit_of_checkout, package_versions
from maskfix.base import InputError, UInt8Array, read_image, replacing, resolve_device
from maskfix.cli.shared import one_line_errors

FORMAT = "maskfix-speed-1"

LIMIT = 1.15
"""With the seam on an unmasked face, at most so much of the library's own time (issue 4)."""

_RECOGNISER = Path("../shared/models/mobilefacenet-arcface/mobilefacenet.onnx")


def run_seams(
    recogniser: Path | None,
    pack: str | None,
    photos: list[Path],
    weights: str,
    rounds: int,
    device: str,
    gate: Path | None = None,
    folds: int = 2,
    templates: Path | None = None,
) -> dict[str, Any]:
    """Measure the seam of insightface.

    Args:
        recogniser: ONNX file; with it, MTCNN finds the faces and no pack is needed.
        pack: Name of an installed insightface pack instead.
        photos: Photographs of unmasked faces; scikit-image's portrait when there are none.
        weights: Name or path of the completing network's weights.
        rounds: How often every photo is timed.
        device: `auto`, `cpu` or `cuda`.
        gate: LFW's folder, to check the gate on its probes as well.
        folds: How many of LFW's folds.
        templates: Folder of mask templates in MaskTheFace's layout; this project's own drawings when None.

    Returns:
        The figures, ready for JSON.

    Raises:
        MaskfixError: On any bad input.
    """
    from benchmarks.seams import measure_gate, measure_overhead
    from maskfix.deocclude import Deoccluder

    place = resolve_device(device)
    app = _application(recogniser, pack, place)
    blind = Deoccluder.from_pretrained(weights, device=place)
    pictures = [np.ascontiguousarray(photo[..., ::-1]) for photo in _photos(photos)]
    result: dict[str, Any] = {
        "insightface": measure_overhead(app, pictures, blind, rounds).summary(),
        "detector": type(app.det_model).__name__,
        "weights": blind.weights.name if blind.weights else "unnamed",
        "sizes": [list(picture.shape[1::-1]) for picture in pictures],
    }
    if gate is not None:
        from maskfix.occlude import open_occluder
        from protocols import LfwDataset

        dataset = LfwDataset(gate, folds)
        rows = sorted({int(row) for row in dataset.pairs.second})
        occluder = open_occluder(templates)
        with Console(stderr=True).status("checking the gate") as status:
            result["gate"] = measure_gate(
                app,
                [dataset.paths[row] for row in rows],
                blind,
                occluder,
                progress=lambda done, total: status.update(f"checking the gate: {done} of {total}"),
            ).summary()
    return result


def _application(recogniser: Path | None, pack: str | None, place: str) -> Any:
    if pack is not None:
        from insightface.app import FaceAnalysis

        app = FaceAnalysis(name=pack, allowed_modules=["detection", "recognition"])
        app.prepare(ctx_id=0 if place.startswith("cuda") else -1)
        return app
    from maskfix.plugin import pack_free_analysis

    return pack_free_analysis(recogniser or _RECOGNISER, "cuda" if place.startswith("cuda") else "cpu")


def _photos(paths: list[Path]) -> list[UInt8Array]:
    if paths:
        return [read_image(path) for path in paths]
    try:
        from skimage import data
    except ImportError as error:
        raise InputError("photo: give one, or install scikit-image, which ships a portrait") from error
    return [np.asarray(data.astronaut(), np.uint8)]


def format_result(result: dict[str, Any]) -> Table:
    """A table of the seams' figures; `untouched` is before `attach` opened sessions again."""
    table = Table(title="seams: milliseconds a photo, and attached over alone")
    for column in ("seam", "untouched", "alone", "attached", "ratio", "quartiles", f"<= {LIMIT}"):
        table.add_column(column, justify="left" if column == "seam" else "right")
    row = result["insightface"]
    low, high = row["ratio_quartiles"]
    table.add_row(
        "insightface",
        f"{row['untouched_ms']:.1f}",
        f"{row['alone_ms']:.1f}",
        f"{row['attached_ms']:.1f}",
        f"{row['ratio']:.2f}",
        f"{low:.2f} to {high:.2f}",
        "yes" if row["ratio"] <= LIMIT else "no",
    )
    return table


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    seams: Annotated[bool, typer.Option("--seams", help="Measure the seams.")] = False,
    recogniser: Annotated[
        Path | None, typer.Option(help=f"ONNX file of an ArcFace recogniser; {_RECOGNISER} when left out.")
    ] = None,
    pack: Annotated[
        str | None, typer.Option(help="An installed insightface pack, such as buffalo_l, instead of MTCNN and a file.")
    ] = None,
    photo: Annotated[
        list[Path] | None, typer.Option(help="Photograph of unmasked faces; repeat it. A portrait when left out.")
    ] = None,
    weights: Annotated[str, typer.Option(help="Name or .safetensors file of the network.")] = "cadf_small_128",
    rounds: Annotated[int, typer.Option(help="How often every photo is timed.")] = 60,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    gate: Annotated[Path | None, typer.Option(help="LFW's folder: also check the gate on clean and masked probes.")] = (
        None
    ),
    folds: Annotated[int, typer.Option(help="How many of LFW's folds the gate is checked on.")] = 2,
    templates: Annotated[Path | None, typer.Option(help="Mask templates in MaskTheFace's layout, for --gate.")] = None,
    json_out: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
) -> None:
    """Measure speed; --seams is what can be measured."""
    with one_line_errors():
        if not seams:
            raise InputError("speed: say what to measure: --seams")
        result = run_seams(recogniser, pack, photo or [], weights, rounds, device, gate, folds, templates)
        report = {
            "format": FORMAT,
            "seams": result,
            "limit": LIMIT,
            "command": " ".join(["python -m benchmarks.speed", *sys.argv[1:]]),
            "commit": commit_of_checkout(),
            "versions": package_versions(),
            "platform": {
                "system": platform.platform(),
                "cpus": os.cpu_count(),
                "load": [round(value, 2) for value in os.getloadavg()],
            },
        }
        if json_out is not None:
            with replacing(json_out) as temporary:
                temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        Console().print(format_result(result))
        if "gate" in result:
            print(json.dumps(result["gate"], indent=2))


if __name__ == "__main__":
    app()
