"""Synthetic masks on faces: kinds by name, two sources of templates, a renderer, seeded draws, a manifest."""

from maskfix.occlude.draws import draw_kind, generator_for
from maskfix.occlude.kinds import PAPER_KINDS, TEMPLATES, MaskKind, parse_kind
from maskfix.occlude.manifest import OcclusionRecord, read_manifest, write_manifest
from maskfix.occlude.renderer import Occluder, open_occluder
from maskfix.occlude.sources import Template, TemplateSource, View, drawn_templates, folder_templates, source_sha256

__all__ = [
    "PAPER_KINDS",
    "TEMPLATES",
    "MaskKind",
    "Occluder",
    "OcclusionRecord",
    "Template",
    "TemplateSource",
    "View",
    "draw_kind",
    "drawn_templates",
    "folder_templates",
    "generator_for",
    "open_occluder",
    "parse_kind",
    "read_manifest",
    "source_sha256",
    "write_manifest",
]
