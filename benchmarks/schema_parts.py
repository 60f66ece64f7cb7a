"""Pieces of JSON Schema (Draft 2020-12) that the reports of all benchmarks are made of, and their check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskfix.base import DependencyError, InputError


def object_of(properties: Mapping[str, Any], optional: tuple[str, ...] = (), extra: Any = False) -> dict[str, Any]:
    """An object whose properties are all required but the `optional` ones."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": extra,
    }


FRACTION = {"type": "number", "minimum": 0, "maximum": 1}
SIGNED = {"type": "number", "minimum": -1, "maximum": 1}
NUMBER_OR_NULL = {"type": ["number", "null"]}
FRACTION_OR_NULL = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
COUNT = {"type": "integer", "minimum": 0}
TEXT = {"type": "string"}
NAME = {"type": "string", "minLength": 1}
SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
CI = {
    "oneOf": [{"type": "null"}, {"type": "array", "items": FRACTION, "minItems": 2, "maxItems": 2}],
}
SIGNED_CI = {
    "oneOf": [{"type": "null"}, {"type": "array", "items": SIGNED, "minItems": 2, "maxItems": 2}],
}

POINT = object_of(
    {
        "tpr": FRACTION,
        "fpr": FRACTION,
        "threshold": NUMBER_OR_NULL,
        "accepted": COUNT,
        "resolvable": {"type": "boolean"},
        "nearest": FRACTION,
        "ci95": CI,
    }
)
TRANSFER = object_of({"threshold": NUMBER_OR_NULL, "fmr": FRACTION, "fnmr": FRACTION})
BY_CLASS = object_of({"genuine": COUNT, "impostor": COUNT})

BOOTSTRAP = {"oneOf": [{"type": "null"}, object_of({"subjects": COUNT, "replicates": COUNT})]}
COMPLETION = {"type": "object", "additionalProperties": NUMBER_OR_NULL}
FAILURES = object_of(
    {
        "no_face": {"type": "object", "additionalProperties": TEXT},
        "not_masked": {"type": "object", "additionalProperties": TEXT},
    }
)
EMBEDDER = {"spec": NAME, "name": NAME, "sha256": SHA256, "dimension": COUNT, "layout": NAME}
WEIGHTS = object_of({"name": NAME, "arch": NAME, "sha256": SHA256, "licence": TEXT, "data": TEXT})
KINDS = {"type": "array", "items": NAME, "minItems": 1}

PROVENANCE = {
    "settings": {"type": "object"},
    "seed": {"type": "integer"},
    "command": NAME,
    "commit": {"type": ["string", "null"]},
    "versions": {"type": "object", "additionalProperties": NAME, "required": ["maskfix", "python", "numpy"]},
    "seconds": {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
    "peak_rss_bytes": COUNT,
    "created": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T"},
}
"""How and when a run was made, the same in every report."""


def validate(report: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Check a report against a schema.

    Args:
        report: The report, as it will be written.
        schema: JSON Schema, Draft 2020-12.

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
    for problem in Draft202012Validator(dict(schema)).iter_errors(report):
        place = "/".join(str(part) for part in problem.absolute_path) or "the report"
        raise InputError(f"report: {place}: {problem.message[:200]}")
