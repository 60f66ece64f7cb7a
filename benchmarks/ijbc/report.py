"""A finished run over templates as files: report, tables, figures, and what they are drawn from, all or nothing."""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ijbc.saved import save_run
from benchmarks.ijbc.schema import REPORT_FORMAT, validate_report
from benchmarks.ijbc.selection import Selected
from benchmarks.ijbc.table import describe, format_table
from benchmarks.report import (
    REPORT,
    commit_of_checkout,
    describe_source,
    draw_panel,
    package_versions,
    peak_rss_bytes,
    staged,
)
from maskfix.base import BoolArray, FloatArray, InputError
from maskfix.embed.base import Embedder
from maskfix.occlude import draw_kind
from maskfix.plot import DetDisplay, RocDisplay, ScoreHistogramDisplay
from protocols import summarise
from protocols.ijb import (
    FIGURES,
    FPRS,
    Flag,
    IjbFeatures,
    IjbParts,
    IjbSettings,
    RawEmbedder,
    TemplateFailures,
    TemplatePairs,
    TemplateSet,
)

FORMATS = (".png", ".pdf", ".svg")
_MOST_NAMED = 200


@dataclass(frozen=True)
class RunFacts:
    """What a run was, beside its networks.

    Attributes:
        root: Folder of the data set.
        chosen: The templates that were run, and what they are of.
        settings: How it was run.
        device: Where the completing network ran.
        workers: Processes that held networks.
    """

    root: Path
    chosen: Selected
    settings: IjbSettings
    device: str
    workers: int = 1


def session_of(device: str) -> str:
    """By what features are made now: maskfix's version and commit, torch's version, device."""
    versions = package_versions()
    made = [f"maskfix {versions['maskfix']} at {commit_of_checkout() or 'no commit'}"]
    return ", ".join([*made, f"torch {versions.get('torch', 'none')}", device])


def find_failures(features: IjbFeatures, data: TemplateSet, place: int) -> TemplateFailures:
    """What is wrong with templates under one embedder.

    Args:
        features: What the pass over the pictures gave.
        data: The set.
        place: Which of the embedders.
    """
    bare_row = (features.flags[features.units.row] & Flag.NOT_MASKED) > 0
    bare = np.zeros(len(data.templates), dtype=np.bool_)
    bare[data.row_template[bare_row & data.is_probe[data.row_template]]] = True
    templates = features.templates[place]
    empty = {}
    for method, values in templates.probe.items():
        empty[method] = np.zeros(len(bare), dtype=np.bool_)
        empty[method][data.is_probe] = ~values.any(axis=1)
    gallery = np.zeros(len(bare), dtype=np.bool_)
    gallery[~data.is_probe] = ~templates.gallery.any(axis=1)
    return TemplateFailures(gallery, empty, bare)


def build_report(
    facts: RunFacts,
    parts: IjbParts,
    features: IjbFeatures,
    figures: Mapping[str, Any],
    failures: TemplateFailures,
    *,
    place: int,
    spec: str,
    dropped: int,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Put the report of one recogniser together and check it.

    Args:
        facts: What the run was.
        parts: Its networks.
        features: What the pass over the pictures gave.
        figures: What `protocols.ijb.evaluate_templates` gave, each method with its `failures`.
        failures: What is wrong with templates.
        place: Which of the recognisers.
        spec: What the user asked for to get it.
        dropped: Pairs left out.
        seconds: Time that each stage took.

    Raises:
        InputError: If the report does not fit its schema.
    """
    data, settings, embedder = facts.chosen.data, facts.settings, parts.embedders[place]
    report = {
        "format": REPORT_FORMAT,
        "benchmark": "ijbc",
        "protocol": {
            "name": f"{facts.chosen.name} 1:1",
            "layout": facts.chosen.layout,
            "pairs": len(data.pairs.same),
            "comparisons": len(data.pairs.same) - dropped,
            "dropped": dropped,
            "drop_failed": settings.drop_failed,
            "subjects": int(data.subject.max()) + 1,
            "templates": len(data.templates),
            "rows": len(data.rows.template),
            "units": len(features.flags),
            "sample": facts.chosen.sample,
            "alignment": "points of the clean picture for every method",
            # NIST's tables have no scores: all rows weigh the same there, whatever was asked for.
            "detector_scores": settings.features.detector_score and bool((data.rows.score != 1).any()),
        },
        "data": {"root": str(facts.root), "official": facts.chosen.official},
        **figures,
        "completion": summarise(
            {key: values.astype(np.float64) for key, values in zip(FIGURES, features.figures, strict=True)}
        ),
        "rows": {
            side: _count_side(features, data, failures, place, side, settings.features.methods)
            for side in ("gallery", "probe")
        },
        "failures": _named_failures(features),
        "embedder": {
            "spec": spec,
            "name": embedder.name,
            "sha256": embedder.sha256,
            "dimension": int(embedder.dimension),
            "layout": embedder.layout.name,
            "lengths": _lengths(embedder),
        },
        "weights": {key: getattr(parts.weights, key) for key in ("name", "arch", "sha256", "licence", "data")},
        "masks": {
            **describe_source(parts.occluder.source),
            "kinds": list(settings.features.kinds),
            "units": _count_kinds(features, settings),
        },
        "detector": {"name": parts.detector.name, "version": parts.detector.version},
        "settings": asdict(settings),
        "seed": settings.features.seed,
        "command": shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]]),
        "commit": commit_of_checkout(),
        "versions": package_versions(),
        "platform": {
            "system": platform.platform(),
            "cpus": os.cpu_count() or 0,
            "device": facts.device,
            "workers": facts.workers,
        },
        "sessions": [{"first_unit": unit, "by": by} for unit, by in features.sessions],
        "seconds": {stage: round(spent, 3) for stage, spent in seconds.items()},
        "peak_rss_bytes": peak_rss_bytes(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return check_report(report)


def check_report(report: Mapping[str, Any]) -> dict[str, Any]:
    """A report as it will be read, checked: tuples become lists, and numbers that JSON does not know are found here.

    Raises:
        InputError: If it does not fit its schema.
    """
    try:
        plain: dict[str, Any] = json.loads(json.dumps(report, allow_nan=False))
    except ValueError as error:
        raise InputError(f"report: a figure is not finite ({error})") from error
    validate_report(plain)
    return plain


def write_recogniser(
    folder: Path,
    facts: RunFacts,
    features: IjbFeatures,
    pairs: TemplatePairs,
    scores: dict[str, FloatArray],
    report: Mapping[str, Any],
    place: int,
) -> None:
    """Write all files of one recogniser: features, scores, pairs, figures, panel, table, report.

    Args:
        folder: Where to write, best inside `benchmarks.report.staged`.
        facts: What the run was.
        features: What the pass over the pictures gave.
        pairs: The pairs that were scored.
        scores: Their scores under each method.
        report: The report.
        place: Which of the recognisers.
    """
    save_run(folder, facts.chosen.data, features.templates[place], pairs, scores)
    draw_figures(folder, scores, pairs.same, report)
    if features.examples:
        names = [str(features.units.image[example.picture]) for example in features.examples]
        draw_panel(names, features.examples).save(folder / "panel.png")
    write_texts(folder, report)


def draw_figures(folder: Path, scores: Mapping[str, FloatArray], same: BoolArray, report: Mapping[str, Any]) -> None:
    """Draw ROC and DET curves and score histograms as png, pdf and svg."""
    pairs = {name: (values, same) for name, values in scores.items()}
    title = f"{report['protocol']['name']}, {report['embedder']['name']}"
    displays = {
        "roc": RocDisplay.from_scores(pairs, fprs=FPRS).plot(title=title),
        "det": DetDisplay.from_scores(pairs, fprs=FPRS).plot(title=title),
        "histogram": ScoreHistogramDisplay.from_scores(pairs),
    }
    for name, display in displays.items():
        for suffix in FORMATS:
            display.save(folder / f"{name}{suffix}")


def write_texts(folder: Path, report: Mapping[str, Any]) -> None:
    """Write table.md, then report.json: a folder that has one is whole."""
    (folder / "table.md").write_text(f"{describe(report)}\n{format_table(report)}\n", encoding="utf-8")
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / REPORT).write_text(text + "\n", encoding="utf-8")


def rewrite(folder: Path, scores: Mapping[str, FloatArray], same: BoolArray, report: Mapping[str, Any]) -> None:
    """Replace figures, table and report of a finished run; its web page is `run`'s and `figures`' to write."""
    with staged(folder, anew=False) as stage:
        draw_figures(stage, scores, same, report)
        write_texts(stage, report)


def _lengths(embedder: Embedder) -> str:
    """Whether vectors keep the length that the network gives them."""
    return "raw" if isinstance(embedder, RawEmbedder) else "unit"


def _count_side(
    features: IjbFeatures,
    data: TemplateSet,
    failures: TemplateFailures,
    place: int,
    side: str,
    methods: tuple[str, ...],
) -> dict[str, Any]:
    """What happened to the rows and templates of one side."""
    probe = side == "probe"
    unit = features.units.row[data.is_probe[data.row_template] == probe]
    flags = features.flags[unit]
    embedded = dict(zip(methods, features.embedded[place], strict=True))
    used = methods if probe else ("clean",)
    empty = failures.empty if probe else {"clean": failures.empty_gallery}
    return {
        "rows": len(unit),
        "units": len(np.unique(unit)),
        "templates": int((data.is_probe == probe).sum()),
        "unreadable": _count(flags, Flag.UNREADABLE),
        "no_face": _count(flags, Flag.NO_FACE),
        # A gallery row wears no mask, even where a probe row shows the same picture.
        "not_masked": _count(flags, Flag.NOT_MASKED) if probe else 0,
        "estimated_mask_points": _count(flags, Flag.ESTIMATED) if probe else 0,
        "without_feature": {method: int((~embedded[method][unit]).sum()) for method in used},
        "templates_without_feature": {method: int(empty[method].sum()) for method in used},
    }


def _count(flags: Any, flag: Flag) -> int:
    return int(((flags & flag) > 0).sum())


def _named_failures(features: IjbFeatures) -> dict[str, dict[str, str]]:
    """The first pictures that failed, with reasons; `rows` counts them all."""
    named: dict[str, dict[str, str]] = {"no_face": {}, "not_masked": {}}
    for unit, reason in sorted(features.reasons.items()):
        group = named["not_masked" if features.flags[unit] & Flag.NOT_MASKED else "no_face"]
        name = str(features.units.image[unit])
        if name in group:  # another face of that picture
            group[name] += "" if reason in group[name].split("; ") else f"; {reason}"
        elif len(group) < _MOST_NAMED:
            group[name] = reason
    return named


def _count_kinds(features: IjbFeatures, settings: IjbSettings) -> dict[str, int]:
    """How many units wear each kind of mask."""
    chosen, units = settings.features, features.units
    digests = units.digest[units.probe & ((features.flags & (Flag.UNREADABLE | Flag.NO_FACE | Flag.NOT_MASKED)) == 0)]
    drawn = (draw_kind(digest.tobytes().hex(), "probe", chosen.seed, chosen.kinds) for digest in digests)
    return dict(sorted(Counter(drawn).items()))
