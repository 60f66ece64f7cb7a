"""`python -m benchmarks.ijbc run` and `figures`: templates clean, masked and completed through recognisers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from benchmarks.html_report import PAGE, find_runs, html
from benchmarks.ijbc.parts import PartNames
from benchmarks.ijbc.report import (
    RunFacts,
    build_report,
    check_report,
    find_failures,
    rewrite,
    session_of,
    write_recogniser,
)
from benchmarks.ijbc.saved import load_run
from benchmarks.ijbc.selection import Selection
from benchmarks.ijbc.table import describe, format_table
from benchmarks.lfw import Bars
from benchmarks.options import CleanCompleted, Detector, Device, DropFailed, Fuse, Kind, Replicates, Templates, Weights
from benchmarks.report import REPORT, check_out, folder_names, staged
from maskfix.base import DatasetError, check_choice, check_range, resolve_device
from maskfix.cli.shared import one_line_errors
from maskfix.occlude import PAPER_KINDS, generator_for
from protocols.base import Progress, silent
from protocols.ijb import (
    LAYOUTS,
    FeatureSettings,
    IjbFeatures,
    IjbParts,
    IjbSettings,
    RayWorkers,
    TemplateFailures,
    TemplatePairs,
    evaluate_templates,
    extract_features,
    finish,
    score_templates,
)
from protocols.pictures import Clock


def run(
    selection: Selection,
    names: PartNames,
    out: Path,
    *,
    settings: IjbSettings | None = None,
    ray_workers: int = 0,
    ray_gpus: float = 0.0,
    fresh: bool = False,
    cache: Path | None = None,
    console: Console | None = None,
) -> dict[str, dict[str, Any]]:
    """Run the benchmark and write its files; a run that was killed goes on.

    Args:
        selection: Which data.
        names: Which networks.
        out: Folder for the report; the unfinished run's state lies there too.
        settings: How to run; the defaults when None.
        ray_workers: Number of Ray actors; 0 for this process alone.
        ray_gpus: GPUs that Ray sets aside for each actor.
        fresh: Begin anew, whatever was saved.
        cache: Folder for hashes and landmarks; `landmarks-cache` beside `out` when None.
        console: Where progress is drawn; the error stream when None.

    Returns:
        The report of each folder, by its name below `out` (`.` where there is one recogniser).

    Raises:
        MaskfixError: On any bad input.
    """
    settings, console = settings or IjbSettings(), console or Console(stderr=True)
    names.check(settings.features.kinds)
    if selection.layout is not None:
        check_choice("layout", selection.layout, LAYOUTS)
    workers = _workers(names, settings, ray_workers, ray_gpus)
    check_out(out)
    chosen = selection.read(settings.features.seed)
    data, sample = chosen.data, chosen.sample
    if sample:
        console.print(
            f"sample: {sample['subjects']} of {sample['of_subjects']} subjects, {len(data.templates)} of "
            f"{sample['of_templates']} templates, {len(data.pairs.same)} pairs; intervals are those of the sample"
        )
    with console.status("loading networks"):
        parts = names.load()
        folders = ["."] if len(parts.embedders) == 1 else folder_names(parts.embedders)
    facts = RunFacts(selection.root, chosen, settings, resolve_device(names.device), max(1, ray_workers))
    with Bars(console) as bars:
        features = extract_features(
            data,
            parts,
            folder=out,
            cache=cache or out.absolute().parent / "landmarks-cache",
            settings=settings,
            workers=workers,
            fresh=fresh,
            session=session_of(facts.device),
            progress=bars,
        )
        if features.resumed:
            console.print(f"went on after {features.resumed} of {len(features.flags)} faces")
        if len(by := dict.fromkeys(by for _, by in features.sessions)) > 1:
            console.print(f"the features are of several makes, and so not those of one run to the bit: {'; '.join(by)}")
        reports = write_run(out, facts, parts, features, folders, names.embedders, bars)
    finish(out)
    return reports


def write_run(
    out: Path,
    facts: RunFacts,
    parts: IjbParts,
    features: IjbFeatures,
    folders: list[str],
    specs: tuple[str, ...],
    progress: Progress,
) -> dict[str, dict[str, Any]]:
    """Score, evaluate and write each recogniser; all files appear together."""
    failures = [find_failures(features, facts.chosen.data, place) for place in range(len(folders))]
    data = facts.chosen.data
    pairs = data.pairs
    if facts.settings.drop_failed:
        # The same pairs for all recognisers, so that their figures can be compared.
        kept = ~np.logical_or.reduce([found.any_of_pairs(pairs) for found in failures])
        pairs = TemplatePairs(pairs.gallery[kept], pairs.probe[kept], np.asarray(pairs.same[kept]))
    dropped = len(data.pairs.same) - len(pairs.same)
    reports = {}
    with staged(out) as stage:
        for place, (folder, spec) in enumerate(zip(folders, specs, strict=True)):
            seconds = dict(features.seconds)
            with Clock(seconds, "pair scores"):
                scores = score_templates(features.templates[place], data, pairs)
            with Clock(seconds, "figures and bootstrap"):
                figures = _evaluate(scores, pairs, data.subject, facts.settings, progress)
                _count_failures(figures, failures[place], pairs)
            report = build_report(
                facts,
                parts,
                features,
                figures,
                failures[place],
                place=place,
                spec=spec,
                dropped=dropped,
                seconds=seconds,
            )
            write_recogniser(stage / folder, facts, features, pairs, scores, report, place)
            reports[folder] = report
        html([stage / folder for folder in folders], stage / PAGE)
    return reports


def redraw(
    folder: Path, replicates: int | None = None, progress: Progress | None = None, name: str | None = None
) -> dict[str, Any]:
    """Compute and draw all figures of a finished run again, from its scores.

    Args:
        folder: Folder of one recogniser, with report.json.
        replicates: Draws of the subject bootstrap; as the run had them when None.
        progress: Told about the stage `figures`.
        name: What the data set is called in titles; as the run had it when None.

    Returns:
        The new report.

    Raises:
        DatasetError: If the folder holds no finished run or a file is damaged.
        InputError: If `replicates` is out of range.
    """
    path = folder / REPORT
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: missing or damaged ({error}); give a folder that a run wrote") from error
    report = check_report(report)
    count = report["settings"]["replicates"] if replicates is None else replicates
    check_range("replicates", count, 0, 1_000_000)
    saved = load_run(folder)
    settings = IjbSettings(FeatureSettings(seed=report["seed"]), replicates=count)
    figures = _evaluate(saved.scores, saved.pairs, saved.subject, settings, progress or silent)
    for key, method in figures["methods"].items():
        method["failures"] = report["methods"][key]["failures"]
    report["settings"]["replicates"] = count
    if name is not None:
        report["protocol"]["name"] = f"{name} 1:1"
    report = check_report({**report, **figures})
    rewrite(folder, saved.scores, saved.pairs.same, report)
    return report


def run_command(
    data: Annotated[Path, typer.Option(help="IJB-B or IJB-C, in the community's or one of NIST's layouts.")],
    embedder: Annotated[
        list[str], typer.Option(help="arcface:PATH.onnx, arcface:PACK, dlib, ...; repeat it for several at once.")
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for the report. A run that was killed goes on if it is started again.")
    ],
    weights: Weights = "cadf_small_128",
    templates: Templates = None,
    layout: Annotated[str | None, typer.Option(help=f"{', '.join(LAYOUTS)}; found by itself when left out.")] = None,
    name: Annotated[
        str | None,
        typer.Option(help="What the data set is called in titles, such as IJB-C; found by itself when left out."),
    ] = None,
    subjects: Annotated[int | None, typer.Option(help="Run a sample of so many subjects.")] = None,
    max_templates: Annotated[int | None, typer.Option(help="Run as many subjects as make so many templates.")] = None,
    detector_score: Annotated[bool, typer.Option(help="Weight faces by the detector's score (D1).")] = True,
    flip: Annotated[bool, typer.Option(help="Add the embedding of the mirrored face (F1).")] = True,
    keep_norm: Annotated[
        bool, typer.Option(help="Keep the length of each face's embedding, where the recogniser gives one.")
    ] = True,
    kind: Kind = None,
    seed: Annotated[int, typer.Option(help="Seed of masks, sample, bootstrap and panel.")] = 0,
    mode: Annotated[str, typer.Option(help="always, or gate: leave probes alone that look unmasked.")] = "always",
    threshold: Annotated[float, typer.Option(help="Covered share of the face that counts as masked, for gate.")] = 0.04,
    fuse: Fuse = None,
    clean_completed: CleanCompleted = False,
    drop_failed: DropFailed = False,
    replicates: Replicates = 1000,
    detector: Detector = "auto",
    device: Device = "auto",
    batch_size: Annotated[int, typer.Option(help="Faces per step.")] = 64,
    threads: Annotated[int, typer.Option(help="Threads that read and mask pictures.")] = 2,
    save_seconds: Annotated[float, typer.Option(help="Seconds between two savings of what is done.")] = 60.0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew instead of going on.")] = False,
    ray: Annotated[bool, typer.Option("--ray", help="Spread the faces over Ray actors (extra ray).")] = False,
    ray_workers: Annotated[int, typer.Option(help="Ray actors.")] = 2,
    ray_gpus: Annotated[float, typer.Option(help="GPUs for each Ray actor.")] = 0.0,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for hashes and landmarks instead of landmarks-cache beside OUT.")
    ] = None,
) -> None:
    """Clean, masked and completed probes of IJB-B or IJB-C 1:1 through one or more recognisers.

    The gallery is clean. Masks are put on pictures of probe templates; copies of a picture are done once and wear one
    mask. Every method is aligned by the points of the clean picture and weighted by its detector score, so that only
    pixels differ.
    """
    with one_line_errors():
        features = FeatureSettings(
            detector_score=detector_score,
            flip=flip,
            keep_norm=keep_norm,
            kinds=tuple(kind) if kind else PAPER_KINDS,
            seed=seed,
            mode=mode,
            threshold=threshold,
            fuse=fuse,
            clean_completed=clean_completed,
            batch_size=batch_size,
        )
        reports = run(
            Selection(data, layout, subjects, max_templates, name),
            PartNames(tuple(embedder), weights, templates, detector, device, batch_size),
            out,
            settings=IjbSettings(features, drop_failed, replicates, save_seconds, threads),
            ray_workers=ray_workers if ray else 0,
            ray_gpus=ray_gpus,
            fresh=fresh,
            cache=cache,
        )
    for folder, report in reports.items():
        print(f"{describe(report)}\n{format_table(report)}\n\nreport: {out / folder / REPORT}")
    print(f"page: {out / PAGE}")


def figures_command(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `run` wrote.")],
    replicates: Annotated[
        int | None, typer.Option(help="Draws of the subject bootstrap; as the run had them when left out.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What the data set is called in titles; as the run had it when left out.")
    ] = None,
) -> None:
    """Compute and draw the figures of a finished run again, and its web page, from its scores alone."""
    with one_line_errors():
        with Bars(Console(stderr=True)) as bars:
            reports = {path: redraw(path, replicates, bars, name) for path in find_runs(folder)}
        page = html(list(reports), folder / PAGE)
    for path, report in reports.items():
        print(f"{describe(report)}\n{format_table(report)}\n\nreport: {path / REPORT}")
    print(f"page: {page}")


def _workers(names: PartNames, settings: IjbSettings, actors: int, gpus: float) -> RayWorkers | None:
    return RayWorkers(names.load, actors, gpus=gpus, threads=settings.workers) if actors else None


def _evaluate(
    scores: Any, pairs: TemplatePairs, subject: Any, settings: IjbSettings, progress: Progress
) -> dict[str, Any]:
    # The same draws for every recogniser.
    rng = generator_for("bootstrap", "subjects", settings.features.seed)
    return evaluate_templates(scores, pairs, subject, rng=rng, replicates=settings.replicates, progress=progress)


def _count_failures(figures: dict[str, Any], failures: TemplateFailures, pairs: TemplatePairs) -> None:
    for name, method in figures["methods"].items():
        method["failures"] = failures.of_pairs(pairs, name).counts(pairs.same)
