"""`python -m benchmarks.html_report`: finished runs as one web page that needs nothing else, not even a network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import html_view as view
from benchmarks.html_pictures import cut_face, find_pictures, to_jpeg
from benchmarks.html_run import RunFiles, check_report, find_runs, from_run
from benchmarks.html_scores import WrongPairs
from benchmarks.report import FILES
from maskfix import __version__
from maskfix.base import DependencyError, InputError, UInt8Array, replacing
from maskfix.cli.shared import one_line_errors
from maskfix.metrics import RocCurve
from maskfix.plot import ScoreHistogramDisplay

__all__ = ["PAGE", "RunFiles", "find_runs", "from_run", "html", "write_html_report"]

PAGE = "report.html"
"""The page that a benchmark writes beside its report."""

_FOLDER = Path(__file__).resolve().parent
_PANEL_WIDTH = 1100


def write_html_report(
    reports: Sequence[Mapping[str, Any]],
    curves: Sequence[Mapping[str, RocCurve]],
    out: str | Path,
    *,
    histograms: Sequence[ScoreHistogramDisplay | None] = (),
    panels: Sequence[UInt8Array | None] = (),
    wrong: Sequence[WrongPairs | None] = (),
    thumbnails: Sequence[Mapping[str, UInt8Array] | None] = (),
    title: str = "",
) -> Path:
    """Write one or several runs as one self-contained HTML file: no style, script, font or picture is loaded.

    All numbers are those of the reports, unrounded in each `data` element's value. All text is escaped, and the page's
    content security policy lets no script run but its own, so names of files from outside cannot do harm.

    Args:
        reports: Report of each run, as `report.json` holds it; operating points at any rates.
        curves: ROC curves of each run by method, best thinned (`maskfix.plot.thinning.thinned_curve`); empty for none.
        out: File ending in .html; it appears whole or not at all.
        histograms: Score histograms of each run; none where empty.
        panels: Example panel of each run, `(H, W, 3)` uint8 RGB; equal ones are shown once.
        wrong: Wrong decisions of each run.
        thumbnails: For each run pictures by name, `(H, W, 3)` uint8 RGB, to stand beside failures of that name.
        title: Heading; made of the protocols' names when empty.

    Returns:
        The path written.

    Raises:
        InputError: If there is no report, or the suffix of `out` or the number of curves, histograms, panels, wrong
            decisions or thumbnails is another.
        DatasetError: If a report lacks what every report has.
        DependencyError: If jinja2 is not installed.
    """
    out = Path(out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{out}: a page is kept in a .html file")
    if not reports:
        raise InputError("report: expected at least one run, got none")
    for place, report in enumerate(reports, start=1):
        check_report(f"report {place}", report)
    empty: tuple[None, ...] = (None,) * len(reports)
    parts: dict[str, Sequence[Any]] = {
        "curves": curves or empty,
        "histograms": histograms or empty,
        "panels": panels or empty,
        "wrong": wrong or empty,
        "thumbnails": thumbnails or empty,
    }
    for name, given in parts.items():
        if len(given) != len(reports):
            raise InputError(f"{name}: expected one for each of {len(reports)} reports, got {len(given)}")
    labels = view.run_labels(reports)
    thumbs = [
        {name: to_jpeg(cut_face(picture, None))[0] for name, picture in (pictures or {}).items()}
        for pictures in parts["thumbnails"]
    ]
    values = {
        **_tables(reports, labels),
        "title": title or _title(reports),
        "curves": view.curve_data(reports, labels, [drawn or {} for drawn in parts["curves"]], view.all_rates(reports)),
        "histograms": [
            view.histogram_view(report, label, display)
            for report, label, display in zip(reports, labels, parts["histograms"], strict=True)
            if display is not None
        ],
        "panels": _panels(labels, parts["panels"]),
        "wrong": [
            view.wrong_view(label, item, own)
            for label, item, own in zip(labels, parts["wrong"], thumbs, strict=True)
            if item is not None
        ],
        "failures": view.failure_view(reports, labels, thumbs),
    }
    text = _render(values)
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return out


def html(folders: Sequence[str | Path], out: str | Path, *, pictures: str | Path | None = None) -> Path:
    """Write the page of finished runs from their folders.

    Args:
        folders: Folders that benchmarks wrote: with a report.json, or with such folders in them. Files that they wrote
            beside such folders are left out, so that a shell's `runs/lfw/*` will do.
        out: File ending in .html.
        pictures: Folder of the data set's pictures, for thumbnails beside failures; where each run says that they
            lay, if they still do, when None.

    Returns:
        The path written.

    Raises:
        InputError: If no folder is given, or `pictures` is none.
        DatasetError: If a folder holds no report or a file is damaged.
    """
    paths = [Path(folder) for folder in folders]
    found = [run for path in paths if path.name not in (PAGE, *FILES) or path.is_dir() for run in find_runs(path)]
    if not found:
        raise InputError("report: expected at least one folder of a run, got none")
    runs = [from_run(folder) for folder in found]
    return write_html_report(
        [run.report for run in runs],
        [run.curves for run in runs],
        out,
        histograms=[run.histogram for run in runs],
        panels=[run.panel for run in runs],
        wrong=[run.wrong for run in runs],
        thumbnails=[_thumbnails(run, pictures) for run in runs],
    )


def _thumbnails(run: RunFiles, pictures: str | Path | None) -> dict[str, UInt8Array]:
    """Thumbnails of one run's failures."""
    folder = Path(pictures) if pictures else run.folder
    if folder is None or (not pictures and not folder.is_dir()):
        return {}
    return find_pictures(folder, run.pictures)


def _tables(reports: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, Any]:
    """Everything of the page that comes from the reports alone."""
    order, rates, extras = view.all_methods(reports), view.all_rates(reports), view.extra_columns(reports)
    runs = [
        view.run_view(report, label, rates, order, list(extras)) for report, label in zip(reports, labels, strict=True)
    ]
    rows = [row for run in runs for row in run["rows"]]
    dates = sorted({str(report.get("created", "")) for report in reports} - {""})
    return {
        "subtitle": _subtitle(reports),
        "cards": view.cards(reports, labels, order),
        "rates": [{"label": view.rate_label(float(rate))} for rate in rates],
        "extras": [{"label": label} for label in extras.values()],
        "with_accuracy": int(any(row["accuracy"]["mean"] is not None for row in rows)),
        "with_differences": any(run["changes"] for run in runs),
        "runs": runs,
        "footer": f"maskfix {__version__}; runs of {' to '.join(dict.fromkeys((dates[0], dates[-1])))}"
        if dates
        else "",
    }


def _title(reports: Sequence[Mapping[str, Any]]) -> str:
    names = dict.fromkeys(str(report["protocol"].get("name", report["benchmark"])) for report in reports)
    return f"Faces completed before verification: {' and '.join(names)}"


def _subtitle(reports: Sequence[Mapping[str, Any]]) -> str:
    """The runs in a line: how many comparisons, which completion, which masks."""
    parts = [
        [_count(report["protocol"]) for report in reports],
        [_sample(report["protocol"]) for report in reports],
        [f"completion by {report['weights']['name']}" for report in reports if report.get("weights")],
        [f"masks from {report['masks']['source']}" for report in reports if report.get("masks")],
    ]
    return "; ".join(" / ".join(dict.fromkeys(filter(None, part))) for part in parts if any(part))


def _count(protocol: Mapping[str, Any]) -> str:
    """How many comparisons a protocol has, in words."""
    key = next((key for key in ("comparisons", "pairs") if key in protocol), "")
    return f"{protocol[key]:,} {key}" if key else ""


def _sample(protocol: Mapping[str, Any]) -> str:
    """What a protocol was drawn from, where it is a sample."""
    sample = protocol.get("sample")
    return f"a sample of {sample['subjects']:,} of {sample['of_subjects']:,} subjects" if sample else ""


def _panels(labels: Sequence[str], panels: Sequence[UInt8Array | None]) -> list[dict[str, Any]]:
    """Panels as pictures, equal ones once: recognisers of one run share theirs."""
    shown: dict[str, dict[str, Any]] = {}
    for label, panel in zip(labels, panels, strict=True):
        if panel is None:
            continue
        source, (width, height) = to_jpeg(panel, _PANEL_WIDTH)
        entry = shown.setdefault(source, {"source": source, "width": width, "height": height, "names": []})
        entry["names"].append(label)
    return [{**entry, "label": ", ".join(entry["names"])} for entry in shown.values()]


def _render(values: Mapping[str, Any]) -> str:
    """Fill the template in."""
    try:
        import jinja2
    except ImportError as error:
        raise DependencyError("jinja2 is needed for web pages; install it with: pip install jinja2") from error
    from markupsafe import Markup

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER), autoescape=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["points"] = view.points
    script = (_FOLDER / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = {
        # Our own files, not to be escaped; the policy names the script by its hash.
        "style": Markup((_FOLDER / "report.css").read_text(encoding="utf-8")),  # noqa: S704
        "script": Markup(script),  # noqa: S704
        "script_hash": Markup(f"sha256-{digest}"),  # noqa: S704
    }
    return environment.get_template("report.html.jinja").render(**own, **values)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    run: Annotated[list[Path], typer.Argument(help="Folders that benchmarks.lfw or benchmarks.ijbc wrote.")],
    out: Annotated[Path, typer.Option(help="The page, a .html file.")] = Path(PAGE),
    pictures: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the data set's pictures, for thumbnails beside failures; where a run of benchmarks.ijbc "
            "had them when left out."
        ),
    ] = None,
) -> None:
    """One or several finished runs as one web page: tables, curves, histograms, examples, failures, settings."""
    with one_line_errors():
        print(html(run, out, pictures=pictures))


if __name__ == "__main__":
    app()
