"""`python -m benchmarks.html_report`: finished runs as one web page that needs nothing else, not even a network."""

from __future__ import annotations

import base64
import hashlib
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import html_view as view
from benchmarks.html_run import RunFiles, WrongPairs, check_report, find_runs, from_run, picture_names
from maskfix import __version__
from maskfix.base import DependencyError, InputError, MaskfixError, UInt8Array, read_image, replacing
from maskfix.metrics import RocCurve
from maskfix.plot import ScoreHistogramDisplay

__all__ = ["RunFiles", "find_runs", "from_run", "html", "write_html_report"]

_FOLDER = Path(__file__).resolve().parent
_PANEL_WIDTH, _THUMB = 1100, 96
_SUFFIXES = ("", ".jpg", ".png", ".jpeg", ".JPG")


def write_html_report(
    reports: Sequence[Mapping[str, Any]],
    curves: Sequence[Mapping[str, RocCurve]],
    out: str | Path,
    *,
    histograms: Sequence[ScoreHistogramDisplay | None] = (),
    panels: Sequence[UInt8Array | None] = (),
    wrong: Sequence[WrongPairs | None] = (),
    thumbnails: Mapping[str, UInt8Array] | None = None,
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
        thumbnails: Pictures by name, `(H, W, 3)` uint8 RGB, to stand beside failures of that name.
        title: Heading; made of the protocols' names when empty.

    Returns:
        The path written.

    Raises:
        InputError: If there is no report, or the suffix of `out` or the number of curves, histograms, panels or wrong
            decisions is another.
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
    }
    for name, given in parts.items():
        if len(given) != len(reports):
            raise InputError(f"{name}: expected one for each of {len(reports)} reports, got {len(given)}")
    labels = view.run_labels(reports)
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
            view.wrong_view(label, item) for label, item in zip(labels, parts["wrong"], strict=True) if item is not None
        ],
        "failures": view.failure_view(reports, labels),
        "thumbnails": {name: _jpeg(_thumb(picture))[0] for name, picture in (thumbnails or {}).items()},
    }
    text = _render(values)
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return out


def html(folders: Sequence[str | Path], out: str | Path, *, pictures: str | Path | None = None) -> Path:
    """Write the page of finished runs from their folders.

    Args:
        folders: Folders that benchmarks wrote: with a report.json, or with such folders in them.
        out: File ending in .html.
        pictures: Folder of the data set's pictures, for thumbnails beside failures; none when None.

    Returns:
        The path written.

    Raises:
        InputError: If no folder is given.
        DatasetError: If a folder holds no report or a file is damaged.
    """
    found = [run for folder in folders for run in find_runs(Path(folder))]
    if not found:
        raise InputError("report: expected at least one folder of a run, got none")
    runs = [from_run(folder) for folder in found]
    thumbnails = find_pictures(Path(pictures), picture_names(runs)) if pictures else {}
    return write_html_report(
        [run.report for run in runs],
        [run.curves for run in runs],
        out,
        histograms=[run.histogram for run in runs],
        panels=[run.panel for run in runs],
        wrong=[run.wrong for run in runs],
        thumbnails=thumbnails,
    )


def find_pictures(folder: Path, names: Sequence[str]) -> dict[str, UInt8Array]:
    """Pictures of a folder by their names in a report; those that are missing, damaged or outside it are left out.

    Args:
        folder: Folder of the pictures.
        names: Paths below it, with or without a suffix.

    Raises:
        InputError: If the folder is none.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of the pictures")
    root = folder.resolve()
    pictures = {}
    for name in names:
        for suffix in _SUFFIXES:
            path = (root / f"{name}{suffix}").resolve()
            if path.is_relative_to(root) and path.is_file():
                try:
                    pictures[name] = read_image(path)
                except MaskfixError:
                    continue
                break
    return pictures


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
        [f"completion by {report['weights']['name']}" for report in reports if report.get("weights")],
        [f"masks from {report['masks']['source']}" for report in reports if report.get("masks")],
    ]
    return "; ".join(" / ".join(dict.fromkeys(filter(None, part))) for part in parts if any(part))


def _count(protocol: Mapping[str, Any]) -> str:
    """How many comparisons a protocol has, in words."""
    key = next((key for key in ("comparisons", "pairs") if key in protocol), "")
    return f"{protocol[key]:,} {key}" if key else ""


def _panels(labels: Sequence[str], panels: Sequence[UInt8Array | None]) -> list[dict[str, Any]]:
    """Panels as pictures, equal ones once: recognisers of one run share theirs."""
    shown: dict[str, dict[str, Any]] = {}
    for label, panel in zip(labels, panels, strict=True):
        if panel is None:
            continue
        source, (width, height) = _jpeg(panel, _PANEL_WIDTH)
        entry = shown.setdefault(source, {"source": source, "width": width, "height": height, "names": []})
        entry["names"].append(label)
    return [{**entry, "label": ", ".join(entry["names"])} for entry in shown.values()]


def _thumb(picture: UInt8Array) -> UInt8Array:
    """The middle square of a picture."""
    height, width = picture.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return picture[top : top + side, left : left + side]


def _jpeg(picture: UInt8Array, width: int = _THUMB) -> tuple[str, tuple[int, int]]:
    """A picture as data URI, at most so wide, and its size."""
    from PIL import Image

    image = Image.fromarray(picture)
    if image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}", image.size


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
    out: Annotated[Path, typer.Option(help="The page, a .html file.")] = Path("report.html"),
    pictures: Annotated[
        Path | None, typer.Option(help="Folder of the data set's pictures, for thumbnails beside failures.")
    ] = None,
) -> None:
    """One or several finished runs as one web page: tables, curves, histograms, examples, failures, settings."""
    try:
        print(html(run, out, pictures=pictures))
    except (MaskfixError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from error


if __name__ == "__main__":
    app()
