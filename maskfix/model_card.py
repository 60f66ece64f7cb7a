"""Model cards, written from the manifest, so that a card cannot say anything else than the row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maskfix.base import replacing
from maskfix.weights import WeightsRow, checkout_folder, read_manifest

_LABELS = {
    "auc": "AUC",
    "0.01": "TPR@FPR=1%",
    "0.001": "TPR@FPR=0.1%",
    "fmr_at_clean_threshold": "FMR at the threshold of clean's 1%",
}
"""How cards call what the manifest has under a shorter name."""


_OURS = "# Weights\n\nWritten from `manifest.json`; do not edit by hand.\n\n"


def model_card(row: WeightsRow) -> str:
    """One weights file as a Markdown page.

    Args:
        row: The manifest row.

    Returns:
        Markdown, ending in a newline.

    Example:
        >>> print(model_card(WeightsRow("net.tag", "net", "net.tag.safetensors", "0" * 64, 12)).splitlines()[0])
        # net.tag
    """
    facts = {
        "Network": f"`{row.arch}`",
        "File": f"`{row.file}` ({row.bytes / 1e6:.1f} MB)",
        "SHA-256": f"`{row.sha256}`",
        "Licence": row.licence or "not stated",
        "Trained on": row.data or "not stated",
        "Commit": f"`{row.commit}`" if row.commit else "not stated",
    }
    parts = [f"# {row.name}", _table(facts, ("", ""))]
    if row.arch.startswith("lightcnn"):
        usage = f'from maskfix.embed import load\n\nrecogniser = load("lightcnn:{row.name}")'
    elif row.arch.startswith("landmarks"):
        usage = f'from maskfix.align import LandmarkReader\n\nreader = LandmarkReader.from_pretrained("{row.name}")'
    else:
        usage = f'from maskfix import Deoccluder\n\ndeoccluder = Deoccluder.from_pretrained("{row.name}")'
    parts += ["## Use", f"```python\n{usage}\n```"]
    if row.notes:
        parts += ["## What to know", row.notes]
    if row.scores:
        parts += ["## Scores", "Rates are fractions between 0 and 1; in brackets 95% intervals.", *_scores(row.scores)]
    if row.training:
        parts += ["## Training", _table(row.training, ("setting", "value"))]
    return "\n\n".join(parts) + "\n"


def write_cards(folder: str | Path | None = None) -> list[Path]:
    """Write one card per manifest row and a README.md that lists them, unless there is one of somebody else's.

    Args:
        folder: The folder of the manifest; that of the checkout when None.

    Returns:
        The files written, README.md last where it is ours; none where the folder has no manifest.

    Raises:
        WeightsError: If the manifest is damaged.
    """
    folder = checkout_folder() if folder is None else Path(folder)
    rows = read_manifest(folder)
    if not rows:
        return []
    written = [_write(folder / f"{row.name}.md", model_card(row)) for row in rows]
    heads = ["| name | network | MB | licence | trained on |", "|---|---|---|---|---|"]
    lines = [
        f"| [{row.name}]({row.name}.md) | {row.arch} | {row.bytes / 1e6:.1f} "
        f"| {_cell(row.licence)} | {_cell(row.data)} |"
        for row in rows
    ]
    readme = folder / "README.md"
    if readme.exists() and not readme.read_text(encoding="utf-8", errors="replace").startswith(_OURS):
        return written
    return [*written, _write(readme, _OURS + "\n".join([*heads, *lines]) + "\n")]


def _write(path: Path, text: str) -> Path:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _scores(scores: Mapping[str, Any]) -> Iterator[str]:
    """A heading, a table and the command of each measurement."""
    for title, values in scores.items():
        yield f"### {title}"
        if not isinstance(values, Mapping):
            yield str(values)
            continue
        single = {key: value for key, value in values.items() if not isinstance(value, Mapping) and key != "command"}
        if single:
            yield _table(single, ("measure", "value"))
        rows = {key: dict(_flat("", value)) for key, value in values.items() if isinstance(value, Mapping)}
        if rows:
            yield _grid(rows)
        if "command" in values:
            yield f"```\n{values['command']}\n```"


def _grid(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A table with a line for each row and a column for everything that one of them has."""
    columns = list(dict.fromkeys(key for values in rows.values() for key in values))
    lines: list[list[Any]] = [["", *(_LABELS.get(column, column) for column in columns)], ["---"] * (1 + len(columns))]
    for name, values in rows.items():
        shown = [f"{value:.4f}" if isinstance(value, float) else value for value in map(values.get, columns)]
        lines.append([name.replace("_", " "), *shown])
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _table(values: Mapping[str, Any], heads: tuple[str, str]) -> str:
    """A two-column table; nested dicts become dotted names."""
    lines = [f"| {heads[0]} | {heads[1]} |", "|---|---|"]
    return "\n".join(lines + [f"| {_cell(key)} | {_cell(value)} |" for key, value in _flat("", values)])


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value


def _cell(value: Any) -> str:
    """Text that does not break out of its table cell."""
    shown = "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return " ".join(shown.split()).replace("|", "\\|")
