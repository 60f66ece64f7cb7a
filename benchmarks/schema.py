"""JSON Schema (Draft 2020-12) of a verification report, and its check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskfix.base import DependencyError, InputError

REPORT_FORMAT = 1
"""Raised when a reader of older reports would misread a new one."""


def _object(properties: Mapping[str, Any], optional: tuple[str, ...] = (), extra: Any = False) -> dict[str, Any]:
    """An object whose properties are all required but the `optional` ones."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": extra,
    }


_FRACTION = {"type": "number", "minimum": 0, "maximum": 1}
_SIGNED = {"type": "number", "minimum": -1, "maximum": 1}
_NUMBER_OR_NULL = {"type": ["number", "null"]}
_FRACTION_OR_NULL = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_COUNT = {"type": "integer", "minimum": 0}
_TEXT = {"type": "string"}
_NAME = {"type": "string", "minLength": 1}
_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_CI = {
    "oneOf": [{"type": "null"}, {"type": "array", "items": _FRACTION, "minItems": 2, "maxItems": 2}],
}
_SIGNED_CI = {
    "oneOf": [{"type": "null"}, {"type": "array", "items": _SIGNED, "minItems": 2, "maxItems": 2}],
}

_POINT = _object(
    {
        "tpr": _FRACTION,
        "fpr": _FRACTION,
        "threshold": _NUMBER_OR_NULL,
        "accepted": _COUNT,
        "resolvable": {"type": "boolean"},
        "nearest": _FRACTION,
        "ci95": _CI,
    }
)
_TRANSFER = _object({"threshold": _NUMBER_OR_NULL, "fmr": _FRACTION, "fnmr": _FRACTION})
_BY_CLASS = _object({"genuine": _COUNT, "impostor": _COUNT})
_METHOD = _object(
    {
        "auc": _FRACTION,
        "auc_ci95": _CI,
        "eer": _FRACTION,
        "tpr_at_fpr": _object({"0.01": _POINT, "0.001": _POINT}),
        "fmr_fnmr_at_clean_threshold": _object({"0.01": _TRANSFER, "0.001": _TRANSFER}),
        "accuracy": _object({"mean": _FRACTION_OR_NULL, "se": _FRACTION_OR_NULL}),
        "n_genuine": {"type": "integer", "minimum": 1},
        "n_impostor": {"type": "integer", "minimum": 1},
        "failures": _object({"gallery": _BY_CLASS, "probe": _BY_CLASS, "masking": _BY_CLASS}),
    }
)
_DIFFERENCE_ROW = _object({"value": _SIGNED, "ci95": _SIGNED_CI})
_DIFFERENCE = _object({"auc": _DIFFERENCE_ROW, "0.01": _DIFFERENCE_ROW, "0.001": _DIFFERENCE_ROW})
_RECOVERED = _object({"auc": _NUMBER_OR_NULL, "0.01": _NUMBER_OR_NULL, "0.001": _NUMBER_OR_NULL})

REPORT_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "maskfix verification report",
    **_object(
        {
            "format": {"const": REPORT_FORMAT},
            "benchmark": {"const": "lfw"},
            "protocol": _object(
                {
                    "name": _NAME,
                    "probe": {"enum": ["second", "first", "both"]},
                    "folds": {"type": "integer", "minimum": 1},
                    "pairs": _COUNT,
                    "comparisons": _COUNT,
                    "dropped": _COUNT,
                    "drop_failed": {"type": "boolean"},
                    "pictures": _COUNT,
                    "alignment": _NAME,
                }
            ),
            "data": _object({"root": _NAME, "pairs_sha256": _SHA256, "official": {"type": "boolean"}}),
            "methods": _object(
                {"clean": _METHOD, "masked": _METHOD, "completed": _METHOD},
                extra=_METHOD,
            ),
            "recovered": _RECOVERED,
            "recovered_fused": _RECOVERED,
            "difference": _object({"completed_minus_masked": _DIFFERENCE}, extra=_DIFFERENCE),
            "harmlessness": _DIFFERENCE,
            "bootstrap": {
                "oneOf": [{"type": "null"}, _object({"subjects": _COUNT, "replicates": _COUNT})],
            },
            "completion": {"type": "object", "additionalProperties": _NUMBER_OR_NULL},
            "failures": _object(
                {
                    "no_face": {"type": "object", "additionalProperties": _TEXT},
                    "not_masked": {"type": "object", "additionalProperties": _TEXT},
                }
            ),
            "embedder": _object(
                {"spec": _NAME, "name": _NAME, "sha256": _SHA256, "dimension": _COUNT, "layout": _NAME}
            ),
            "weights": _object({"name": _NAME, "arch": _NAME, "sha256": _SHA256, "licence": _TEXT, "data": _TEXT}),
            "masks": _object({"source": _NAME, "kinds": {"type": "array", "items": _NAME, "minItems": 1}}),
            "detector": _object({"name": _NAME, "version": _NAME, "detected": _COUNT}),
            "settings": {"type": "object"},
            "seed": {"type": "integer"},
            "command": _NAME,
            "commit": {"type": ["string", "null"]},
            "versions": {"type": "object", "additionalProperties": _NAME, "required": ["maskfix", "python", "numpy"]},
            "platform": _object({"system": _NAME, "cpus": _COUNT, "device": _NAME}),
            "counts": {"type": "object", "additionalProperties": _COUNT},
            "seconds": {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
            "peak_rss_bytes": _COUNT,
            "created": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T"},
        },
        optional=("harmlessness", "recovered_fused"),
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
    try:
        from jsonschema import Draft202012Validator
    except ImportError as error:
        raise DependencyError(
            "jsonschema is needed to check reports; install it with: pip install jsonschema"
        ) from error
    for problem in Draft202012Validator(REPORT_SCHEMA).iter_errors(report):
        place = "/".join(str(part) for part in problem.absolute_path) or "the report"
        raise InputError(f"report: {place}: {problem.message[:200]}")
