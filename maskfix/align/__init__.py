"""Landmark detectors behind one protocol, and the warp between a photograph and a canonical crop."""

from maskfix.align.again import Find, find_again, find_with, known_faces, same_faces
from maskfix.align.base import Guesser, LandmarkDetector, mask_points_from_five
from maskfix.align.factory import list_detectors, load_detector
from maskfix.align.reader import READING_ROUNDS, LandmarkReader
from maskfix.align.similarity import (
    align,
    estimate_similarity,
    fit_layout,
    invert_affine,
    paste,
    recrop,
    transform_points,
    warp,
)

__all__ = [
    "READING_ROUNDS",
    "Find",
    "Guesser",
    "LandmarkDetector",
    "LandmarkReader",
    "align",
    "estimate_similarity",
    "find_again",
    "find_with",
    "fit_layout",
    "invert_affine",
    "known_faces",
    "list_detectors",
    "load_detector",
    "mask_points_from_five",
    "paste",
    "recrop",
    "same_faces",
    "transform_points",
    "warp",
]
