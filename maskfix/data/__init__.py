"""Face folders, prepared face stores, labels, splits and dense-correspondence targets."""

from maskfix.data.correspondence import (
    CanonicalFace,
    canonical_face,
    correspondence_target,
    cylindrical_unwrap,
    decode_correspondence,
    mean_face,
    rasterise,
    triangles_from_edges,
)
from maskfix.data.faces import FaceStore, list_pictures, open_store, whole_photographs, write_layout
from maskfix.data.labels import GROUPS, UNLABELLED, check_emphasis, emphasise, group_rows
from maskfix.data.splits import held_out

__all__ = [
    "GROUPS",
    "UNLABELLED",
    "CanonicalFace",
    "FaceStore",
    "canonical_face",
    "check_emphasis",
    "correspondence_target",
    "cylindrical_unwrap",
    "decode_correspondence",
    "emphasise",
    "group_rows",
    "held_out",
    "list_pictures",
    "mean_face",
    "open_store",
    "rasterise",
    "triangles_from_edges",
    "whole_photographs",
    "write_layout",
]
