"""IJB-B and IJB-C 1:1: readers of all layouts, and the run from pictures to features, scores and figures."""

from maskfix.embed.base import RawEmbedder
from protocols.ijb.evaluation import FPRS, TemplateFailures, evaluate_templates
from protocols.ijb.extract import FIGURES, Extractor
from protocols.ijb.faces import Flag
from protocols.ijb.layouts import LAYOUTS, find_layout, read_ijb
from protocols.ijb.ray_blocks import RayWorkers
from protocols.ijb.runner import IjbFeatures, extract_features, finish, score_templates
from protocols.ijb.settings import FeatureSettings, IjbParts, IjbSettings
from protocols.ijb.state import TemplateFeatures
from protocols.ijb.templates import FaceRows, Ids, TemplatePairs, TemplateSet, sample_subjects
from protocols.ijb.units import Units, find_units

__all__ = [
    "FIGURES",
    "FPRS",
    "LAYOUTS",
    "Extractor",
    "FaceRows",
    "FeatureSettings",
    "Flag",
    "Ids",
    "IjbFeatures",
    "IjbParts",
    "IjbSettings",
    "RawEmbedder",
    "RayWorkers",
    "TemplateFailures",
    "TemplateFeatures",
    "TemplatePairs",
    "TemplateSet",
    "Units",
    "evaluate_templates",
    "extract_features",
    "find_layout",
    "find_units",
    "finish",
    "read_ijb",
    "sample_subjects",
    "score_templates",
]
