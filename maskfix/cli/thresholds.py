"""The shipped decision thresholds: read from thresholds.json, which `python -m benchmarks.thresholds` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from maskfix.base import InputError

TABLE = Path(__file__).with_name("thresholds.json")
"""A row a recogniser, each with its name, the sha256 of its weights, and the data that it was calibrated on."""

RATES = ("0.01", "0.001")
"""False match rates that thresholds are shipped for, as the table spells them."""


class Threshold(NamedTuple):
    """A decision threshold and what is known of it.

    Attributes:
        value: A pair is accepted iff its cosine similarity is greater.
        fmr: False match rate that it was calibrated at; None for a threshold of the user's own.
        data: What it was calibrated on, in words.
        impostors: Impostor pairs behind it; 0 for a threshold of the user's own.
        completed: Measured `(fmr, fnmr)` at this threshold where the probes were masked and completed, None if not
            measured.
    """

    value: float
    fmr: float | None = None
    data: str = "given with --threshold"
    impostors: int = 0
    completed: tuple[float, float] | None = None


def find_threshold(name: str, sha256: str, fmr: float = 0.001, table: Path = TABLE) -> Threshold | None:
    """The shipped threshold of a recogniser.

    Args:
        name: Name of the recogniser, `Embedder.name`.
        sha256: Hash of its weights, `Embedder.sha256`; a file of the same name with other weights has no threshold.
        fmr: False match rate on clean pairs, 0.01 or 0.001.
        table: The table.

    Returns:
        The threshold, or None where none was measured for these weights.

    Raises:
        InputError: If no threshold is shipped for that rate.

    Example:
        >>> find_threshold("nobody", "0" * 64) is None
        True
    """
    key = f"{fmr:g}"
    if key not in RATES:
        raise InputError(f"fmr: thresholds are shipped for {' and '.join(RATES)}, got {fmr:g}; or give --threshold")
    rows: list[dict[str, Any]] = json.loads(table.read_text(encoding="utf-8"))["thresholds"]
    for row in rows:
        if (row["embedder"], row["sha256"]) == (name, sha256):
            point = row["points"][key]
            return Threshold(
                value=point["threshold"],
                fmr=point["fmr"],
                data=row["data"],
                impostors=row["impostors"],
                completed=(point["completed"]["fmr"], point["completed"]["fnmr"]),
            )
    return None
