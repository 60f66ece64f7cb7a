"""JSON Schema (Draft 2020-12) of an IJB-B or IJB-C report."""

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
from protocols.figures import rate_key
from protocols.ijb import FPRS

REPORT_FORMAT = 1
"""Raised when a reader of older reports would misread a new one."""

_RATES = [rate_key(fpr) for fpr in FPRS]
_COST = {"type": ["number", "null"], "minimum": 0}
_POSITIVE = {"type": "integer", "minimum": 1}
_METHOD = object_of(
    {
        "auc": FRACTION,
        "auc_ci95": CI,
        "eer": FRACTION,
        "tpr_at_fpr": object_of(dict.fromkeys(_RATES, POINT)),
        "fmr_fnmr_at_clean_threshold": object_of(dict.fromkeys(_RATES, TRANSFER)),
        "cllr": _COST,
        "min_cllr": FRACTION,
        "n_genuine": _POSITIVE,
        "n_impostor": _POSITIVE,
        "failures": object_of({"gallery": BY_CLASS, "probe": BY_CLASS, "masking": BY_CLASS}),
    }
)
_DIFFERENCE = object_of(dict.fromkeys(["auc", *_RATES], object_of({"value": SIGNED, "ci95": SIGNED_CI})))
_RECOVERED = object_of(dict.fromkeys(["auc", *_RATES], NUMBER_OR_NULL))
_SIDE = object_of(
    {
        "rows": COUNT,
        "units": COUNT,
        "templates": COUNT,
        "unreadable": COUNT,
        "no_face": COUNT,
        "not_masked": COUNT,
        "estimated_mask_points": COUNT,
        "without_feature": {"type": "object", "additionalProperties": COUNT},
        "templates_without_feature": {"type": "object", "additionalProperties": COUNT},
    }
)
_SAMPLE = object_of({"subjects": COUNT, "of_subjects": COUNT, "of_templates": COUNT, "seed": {"type": "integer"}})

REPORT_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "maskfix template verification report",
    **object_of(
        {
            "format": {"const": REPORT_FORMAT},
            "benchmark": {"const": "ijbc"},
            "protocol": object_of(
                {
                    "name": NAME,
                    "layout": NAME,
                    "pairs": COUNT,
                    "comparisons": COUNT,
                    "dropped": COUNT,
                    "drop_failed": {"type": "boolean"},
                    "subjects": COUNT,
                    "templates": COUNT,
                    "rows": COUNT,
                    "units": COUNT,
                    "sample": {"oneOf": [{"type": "null"}, _SAMPLE]},
                    "alignment": NAME,
                    "detector_scores": {"type": "boolean"},
                },
                optional=("detector_scores",),
            ),
            "data": object_of({"root": NAME, "official": {"type": "boolean"}}),
            "methods": object_of({"clean": _METHOD, "masked": _METHOD, "completed": _METHOD}, extra=_METHOD),
            "recovered": _RECOVERED,
            "recovered_fused": _RECOVERED,
            "difference": object_of({"completed_minus_masked": _DIFFERENCE}, extra=_DIFFERENCE),
            "harmlessness": _DIFFERENCE,
            "bootstrap": BOOTSTRAP,
            "completion": COMPLETION,
            "rows": object_of({"gallery": _SIDE, "probe": _SIDE}),
            "failures": FAILURES,
            "embedder": object_of({**EMBEDDER, "lengths": {"enum": ["raw", "unit"]}}),
            "weights": WEIGHTS,
            "masks": object_of(
                {
                    "source": NAME,
                    "sha256": SHA256,
                    "kinds": KINDS,
                    "units": {"type": "object", "additionalProperties": COUNT},
                },
                optional=("sha256",),
            ),
            "detector": object_of({"name": NAME, "version": NAME}),
            "sessions": {"type": "array", "items": object_of({"first_unit": COUNT, "by": NAME})},
            **PROVENANCE,
            "platform": object_of({"system": NAME, "cpus": COUNT, "device": NAME, "workers": COUNT}),
        },
        optional=("harmlessness", "recovered_fused", "sessions"),
    ),
}
"""Rates are fractions in [0, 1], Cllr is in bits; None stands for what cannot be computed, never a made-up number."""


def validate_report(report: Mapping[str, Any]) -> None:
    """Check a report against `REPORT_SCHEMA`.

    Args:
        report: The report, as it will be written.

    Raises:
        InputError: If it does not fit; the message names the place.
        DependencyError: If jsonschema is not installed.
    """
    validate(report, REPORT_SCHEMA)
