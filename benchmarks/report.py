"""A finished run as files: report.json, table.md, scores.npz, masks.csv, ROC curves and a panel, all or nothing."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.schema import REPORT_FORMAT, validate_report
from benchmarks.table import describe, format_recognisers, format_table
from maskfix import __version__
from maskfix.align import LandmarkDetector
from maskfix.base import InputError
from maskfix.embed.base import Embedder
from maskfix.occlude import Occluder, TemplateSource, source_sha256, write_manifest
from maskfix.plot import CompletionPanelDisplay, RocDisplay
from maskfix.plot.saved import OVERLAID, SavedScores, save_scores
from maskfix.weights import WeightsRow
from protocols import Example, LfwDataset, LfwResult, LfwSettings, summarise

REPORT = "report.json"
FILES = ("scores.npz", "table.md", "roc.png", "roc.pdf", "panel.png", "masks.csv", REPORT)
"""What a run writes; the report comes last, so a folder that has one is whole."""

_ARRAYS = ("features", "scores", "pairs")
"""Folders of .npy files beside the report of `benchmarks.ijbc`, a file a method."""

_BESIDE_ARRAYS = (
    *("templates.npz", "pictures.npz", "roc.svg"),
    *(f"{figure}.{suffix}" for figure in ("det", "histogram") for suffix in ("png", "pdf", "svg")),
)
"""What `benchmarks.ijbc` writes for a recogniser besides `FILES`."""

_PACKAGES = (
    "numpy",
    "torch",
    "opencv-python",
    "pillow",
    "onnxruntime",
    "insightface",
    "mediapipe",
    "facenet-pytorch",
    "dlib-bin",
)


_ALIGNMENTS = {
    "clean": "landmarks of the clean picture for every method",
    "masked": "landmarks of the masked picture for the masked and the completed probe",
}


@dataclass(frozen=True)
class Parts:
    """What a run was made of.

    Attributes:
        dataset: The pictures and pairs.
        detector: What found the landmarks that place the masks.
        occluder: What put the masks on.
        weights: Where the completing network's weights come from.
        settings: How it was run.
        device: Where the completing network ran, `cpu` or `cuda`.
        aligner: What found the landmarks that pictures are cut out by; the detector when None.
        reader: Where the weights of what reads refined landmarks come from; None where none are refined, or without.
    """

    dataset: LfwDataset
    detector: LandmarkDetector
    occluder: Occluder
    weights: WeightsRow
    settings: LfwSettings
    device: str
    aligner: LandmarkDetector | None = None
    reader: WeightsRow | None = None


def build_report(parts: Parts, result: LfwResult, place: int, embedder: Embedder, spec: str) -> dict[str, Any]:
    """Put the report of one recogniser together and check it.

    Args:
        parts: What the run was made of.
        result: What it gave.
        place: Which of the run's recognisers.
        embedder: That recogniser.
        spec: What the user asked for to get it.

    Raises:
        InputError: If the report does not fit its schema.
        DependencyError: If jsonschema is not installed.
    """
    pairs, pictures, weights = parts.dataset.pairs, result.pictures, parts.weights
    aligner = parts.aligner or parts.detector
    report = {
        "format": REPORT_FORMAT,
        "benchmark": "lfw",
        "protocol": {
            "name": f"{parts.dataset.title}, clean gallery",
            "probe": parts.settings.side,
            "folds": len(np.unique(pairs.fold)),
            "pairs": len(pairs.same),
            "comparisons": len(result.trials.same),
            "dropped": result.dropped,
            "drop_failed": parts.settings.drop_failed,
            "pictures": len(pairs.pictures),
            "alignment": _ALIGNMENTS[parts.settings.probes.align],
        },
        "data": {
            "root": str(parts.dataset.root),
            "folder": parts.dataset.folder,
            "pairs_sha256": parts.dataset.pairs_sha256,
            "official": parts.dataset.official,
        },
        **result.figures[place],
        "completion": _completion(result),
        "failures": {
            "no_face": result.no_face,
            "not_masked": {
                record.image: record.reason
                for record in pictures.records
                if not record.ok and record.image not in result.no_face
            },
        },
        "embedder": {
            "spec": spec,
            "name": embedder.name,
            "sha256": embedder.sha256,
            "dimension": int(embedder.dimension),
            "layout": embedder.layout.name,
        },
        "weights": {key: getattr(weights, key) for key in ("name", "arch", "sha256", "licence", "data")},
        "masks": {**describe_source(parts.occluder.source), "kinds": list(parts.settings.probes.kinds)},
        "detector": {
            "name": parts.detector.name,
            "version": parts.detector.version,
            "detected": result.detected,
        },
        "aligner": {"name": aligner.name, "version": aligner.version},
        **({"reader": {"name": parts.reader.name, "sha256": parts.reader.sha256}} if parts.reader else {}),
        "settings": asdict(parts.settings),
        "seed": parts.settings.probes.seed,
        "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "commit": commit_of_checkout(),
        "versions": package_versions(),
        "platform": {"system": platform.platform(), "cpus": os.cpu_count() or 0, "device": parts.device},
        "counts": dict(pictures.counts),
        "seconds": {stage: round(seconds, 3) for stage, seconds in result.seconds.items()},
        "peak_rss_bytes": peak_rss_bytes(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    # As it will be read: tuples become lists, and numbers that JSON does not know are found here.
    plain: dict[str, Any] = json.loads(json.dumps(report, allow_nan=False))
    validate_report(plain)
    return plain


def describe_source(source: TemplateSource) -> dict[str, str]:
    """Where masks come from: `source`, its name, and `sha256`, the hash of its files, where it has any."""
    sha256 = source_sha256(source)
    return {"source": source.name} | ({} if sha256 is None else {"sha256": sha256})


def peak_rss_bytes() -> int:
    """Largest memory this process has held, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return peak if sys.platform == "darwin" else peak * 1024


def write_run(
    out: Path, parts: Parts, result: LfwResult, embedders: Sequence[Embedder], specs: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Write all files of a run: into `out`, or into a folder a recogniser below it where there are several.

    Several also get one table and one figure of all, `table.md`, `roc.png` and `roc.pdf` in `out`.

    Everything is written into a hidden folder beside `out` first and moved when it is whole.

    Args:
        out: The folder.
        parts: What the run was made of.
        result: What it gave.
        embedders: Its recognisers.
        specs: What the user asked for to get each of them.

    Returns:
        The report of each folder, by its name below `out` (`.` where there is one recogniser).

    Raises:
        MaskfixError: If a report does not fit its schema or a figure cannot be drawn; nothing is left behind.
    """
    folders = ["."] if len(embedders) == 1 else folder_names(embedders)
    reports = {}
    with staged(out) as stage:
        for place, (folder, embedder, spec) in enumerate(zip(folders, embedders, specs, strict=True)):
            report = build_report(parts, result, place, embedder, spec)
            _write_files(stage / folder, parts.dataset, result, place, report)
            reports[folder] = report
        if len(reports) > 1:
            _write_overview(stage, result, reports, parts.dataset.title)
    return reports


def folder_names(embedders: Sequence[Embedder]) -> list[str]:
    """A folder for each recogniser; recognisers of one name are told apart by their hashes.

    Raises:
        InputError: If one recogniser was given twice.
    """
    names = ["".join(c if c.isalnum() or c in "._-" else "-" for c in embedder.name) for embedder in embedders]
    full = [
        name if names.count(name) == 1 else f"{name}-{embedder.sha256[:8]}"
        for name, embedder in zip(names, embedders, strict=True)
    ]
    if len(set(full)) < len(full):
        raise InputError("embedder: the same recogniser is given twice; name each once")
    return full


def check_out(out: Path) -> None:
    """Check that a folder can be written, before minutes are spent on what should go into it.

    Raises:
        InputError: If `out` is a file, or its nearest folder cannot be written.
    """
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise InputError(f"{nearest}: is a file; give a folder for the report")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"{nearest}: cannot be written; give another folder for the report")


@contextlib.contextmanager
def staged(out: Path, *, anew: bool = True) -> Iterator[Path]:
    """Give a hidden folder beside `out`, and move its files into `out` when the block ends without an error.

    An old report is taken away first and the new one put in place last: at any moment a folder with a report.json is
    whole. What an earlier run wrote for methods that the new one has not goes with its report, and so does all that a
    run of a single recogniser wrote where the new run has several. A killed process leaves the hidden folder, which the
    next run clears away.

    Args:
        out: The folder to fill; files of other names in it stay.
        anew: Whether a new run comes. False where a run's own figures are written again: its old report stays until the
            new one takes its place, so that a killed process never leaves the run without.
    """
    stage = out.parent / f".{out.name}.unfinished"
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir(parents=True)
    try:
        yield stage
        files = sorted((path for path in stage.rglob("*") if path.is_file()), key=lambda path: path.name == REPORT)
        if anew:
            _clear(out, stage)
        for path in files:
            target = out / path.relative_to(stage)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _clear(out: Path, stage: Path) -> None:
    """Take the reports of an earlier run away, and what it wrote that the new one does not write again."""
    folders = [path.parent.relative_to(stage) for path in stage.rglob(REPORT)]
    single = (out / REPORT).is_file()
    for folder in folders:
        (out / folder / REPORT).unlink(missing_ok=True)
    arrays = [folder / name for folder in folders for name in _ARRAYS if (stage / folder / name).is_dir()]
    if folders and Path() not in folders:
        # The report first. A killed run left the others without it; what has commoner names is a run's beside one only.
        for name in (*reversed(FILES), *(_BESIDE_ARRAYS if single else ())):
            (out / name).unlink(missing_ok=True)
        arrays += [Path(name) for name in _ARRAYS] if single else []
    for folder in arrays:
        for path in (out / folder).glob("*.npy"):
            path.unlink()


def _write_files(folder: Path, dataset: LfwDataset, result: LfwResult, place: int, report: Mapping[str, Any]) -> None:
    """All files of one recogniser."""
    folder.mkdir(parents=True, exist_ok=True)
    trials, scores = result.trials, result.scores[place]
    names = np.array(dataset.pairs.pictures, dtype=np.str_)
    save_scores(
        folder / "scores.npz",
        SavedScores(
            scores,
            trials.same,
            trials.fold,
            names[trials.gallery],
            names[trials.probe],
            trials.gallery_person,
            trials.probe_person,
        ),
    )
    display = RocDisplay.from_scores({name: (values, trials.same) for name, values in scores.items()})
    display.plot(title=f"{dataset.title}, {report['embedder']['name']}")
    display.save(folder / "roc.png")
    display.save(folder / "roc.pdf")
    if result.pictures.examples:
        examples = result.pictures.examples
        draw_panel([dataset.pairs.pictures[example.picture] for example in examples], examples).save(
            folder / "panel.png"
        )
    write_manifest(folder / "masks.csv", result.pictures.records)
    (folder / "table.md").write_text(f"{describe(report)}\n{format_table(report)}\n", encoding="utf-8")
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / REPORT).write_text(text + "\n", encoding="utf-8")


def _write_overview(folder: Path, result: LfwResult, reports: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """One table and one figure of all recognisers, by their folders' names."""
    display = RocDisplay.from_recognisers(
        {
            name: {method: (scores[method], result.trials.same) for method in OVERLAID if method in scores}
            for name, scores in zip(reports, result.scores, strict=True)
        }
    )
    display.plot(title=title)
    display.save(folder / "roc.png")
    display.save(folder / "roc.pdf")
    weights = next(iter(reports.values()))["weights"]["name"]
    text = f"# LFW: {len(reports)} recognisers behind {weights}\n\n{format_recognisers(reports)}\n"
    (folder / "table.md").write_text(text, encoding="utf-8")


def draw_panel(pictures: Sequence[str], examples: Sequence[Example]) -> CompletionPanelDisplay:
    """Clean, masked, completed, occlusion, u and v of examples.

    Args:
        pictures: Name of each example's picture; the part behind the last slash is shown.
        examples: The examples, at least one.
    """
    columns = {
        "clean": np.stack([example.clean for example in examples]),
        "masked": np.stack([example.masked for example in examples]),
        "completed": np.stack([example.completed for example in examples]),
        "occlusion": np.stack([example.occlusion for example in examples]),
        "u": np.stack([example.uv[..., 0] for example in examples]),
        "v": np.stack([example.uv[..., 1] for example in examples]),
    }
    names = [picture.rpartition("/")[2] for picture in pictures]
    labels = [f"{name.replace('_', ' ')}\n{example.kind}" for name, example in zip(names, examples, strict=True)]
    return CompletionPanelDisplay(columns=columns, labels=labels)


def _completion(result: LfwResult) -> dict[str, float | None]:
    """Mean figures of the completions; coverage as fractions, PSNR in dB."""
    faces = result.pictures.counts["faces completed"]
    seconds = result.pictures.seconds.get("complete", 0.0)
    return {**summarise(result.pictures.figures), "restore_ms_per_face": 1000 * seconds / faces if faces else None}


def package_versions() -> dict[str, str]:
    """Versions of what the numbers depend on; packages that are not installed are left out."""
    versions = {"maskfix": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def commit_of_checkout() -> str | None:
    """The checkout's commit, with `+` where files differ from it; None outside a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        texts = [
            subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=20).stdout
            for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return texts[0].strip() + ("+" if texts[1].strip() else "")
