"""What is measured: data sets and protocols; import-safe, silent, no argument parsing (that is benchmarks/)."""

from protocols.base import PROBE_SIDES, PairList, Progress, Restorer, Trials, orient
from protocols.landmark_cache import LandmarkCache, find_landmarks
from protocols.lfw import LfwDataset, read_pairs
from protocols.pictures import METHODS, EmbeddedPictures, Example, Pictures, ProbeSettings, summarise
from protocols.probes import embed_pictures
from protocols.runner import LfwResult, LfwSettings, run_lfw
from protocols.verification import FPRS, evaluate, score_trials

__all__ = [
    "FPRS",
    "METHODS",
    "PROBE_SIDES",
    "EmbeddedPictures",
    "Example",
    "LandmarkCache",
    "LfwDataset",
    "LfwResult",
    "LfwSettings",
    "PairList",
    "Pictures",
    "ProbeSettings",
    "Progress",
    "Restorer",
    "Trials",
    "embed_pictures",
    "evaluate",
    "find_landmarks",
    "orient",
    "read_pairs",
    "run_lfw",
    "score_trials",
    "summarise",
]
