"""JSON Schema (Draft 2020-12) of a verification report, and its check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.schema_parts import (
    BOOTSTRAP,
    BY_CLASS,
    CI,
    COMPLETION,
    COUNT,
    EMBEDDER,
    FAILURES,
    FRACTION,
    FRACTION_OR_NULL,
    KINDS,
    NAME,
    NUMBER_OR_NULL,
    POINT,
    PROVENANCE,
    SHA256,
    SIGNED,
    SIGNED_CI,
    TRANSFER,
    WEIGHTS,
    object_of,
    validate,
)

REPORT_FORMAT = 1
"""Raised when a reader of older reports would misread a new one."""

_METHOD = object_of(
    {
        "auc": FRACTION,
        "auc_ci95": CI,
        "eer": FRACTION,
        "tpr_at_fpr": object_of({"0.01": POINT, "0.001": POINT}),
        "fmr_fnmr_at_clean_threshold": object_of({"0.01": TRANSFER, "0.001": TRANSFER}),
        "accuracy": object_of({"mean": FRACTION_OR_NULL, "se": FRACTION_OR_NULL}),
        "n_genuine": {"type": "integer", "minimum": 1},
        "n_impostor": {"type": "integer", "minimum": 1},
        "failures": object_of({"gallery": BY_CLASS, "probe": BY_CLASS, "masking": BY_CLASS}),
    }
)
_DIFFERENCE_ROW = object_of({"value": SIGNED, "ci95": SIGNED_CI})
_DIFFERENCE = object_of({"auc": _DIFFERENCE_ROW, "0.01": _DIFFERENCE_ROW, "0.001": _DIFFERENCE_ROW})
_RECOVERED = object_of({"auc": NUMBER_OR_NULL, "0.01": NUMBER_OR_NULL, "0.001": NUMBER_OR_NULL})

REPORT_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "maskfix verification report",
    **object_of(
        {
            "format": {"const": REPORT_FORMAT},
            "benchmark": {"const": "lfw"},
            "protocol": object_of(
                {
                    "name": NAME,
                    "probe": {"enum": ["second", "first", "both"]},
                    "folds": {"type": "integer", "minimum": 1},
                    "pairs": COUNT,
                    "comparisons": COUNT,
                    "dropped": COUNT,
                    "drop_failed": {"type": "boolean"},
                    "pictures": COUNT,
                    "alignment": NAME,
                }
            ),
            "data": object_of(
                {"root": NAME, "folder": NAME, "pairs_sha256": SHA256, "official": {"type": "boolean"}},
                optional=("folder",),
            ),
            "methods": object_of(
                {"clean": _METHOD, "masked": _METHOD, "completed": _METHOD},
                extra=_METHOD,
            ),
            "recovered": _RECOVERED,
            "recovered_refined": _RECOVERED,
            "recovered_fused": _RECOVERED,
            "difference": object_of({"completed_minus_masked": _DIFFERENCE}, extra=_DIFFERENCE),
            "harmlessness": _DIFFERENCE,
            "bootstrap": BOOTSTRAP,
            "completion": COMPLETION,
            "failures": FAILURES,
            "embedder": object_of(EMBEDDER),
            "weights": WEIGHTS,
            "masks": object_of({"source": NAME, "sha256": SHA256, "kinds": KINDS}, optional=("sha256",)),
            "detector": object_of({"name": NAME, "version": NAME, "detected": COUNT}),
            "aligner": object_of({"name": NAME, "version": NAME}),
            "reader": object_of({"name": NAME, "sha256": SHA256}),
            **PROVENANCE,
            "platform": object_of({"system": NAME, "cpus": COUNT, "device": NAME}),
            "counts": {"type": "object", "additionalProperties": COUNT},
        },
        optional=("harmlessness", "recovered_refined", "recovered_fused", "aligner", "reader"),
    ),
}
"""Rates are fractions in [0, 1]; None stands for what cannot be computed, never a made-up number."""


def validate_report(report: Mapping[str, Any]) -> None:
    """Check a report against `REPORT_SCHEMA`.

    Args:
        report: The report, as it will be written.

    Raises:
        InputError: If it does not fit; the message names the place.
        DependencyError: If jsonschema is not installed.
    """
    validate(report, REPORT_SCHEMA)
