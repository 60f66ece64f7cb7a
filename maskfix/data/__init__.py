"""Face folders, prepared face stores, splits and dense-correspondence targets."""

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
from maskfix.data.faces import FaceStore, list_pictures, open_store, write_layout
from maskfix.data.splits import held_out

__all__ = [
    "CanonicalFace",
    "FaceStore",
    "canonical_face",
    "correspondence_target",
    "cylindrical_unwrap",
    "decode_correspondence",
    "held_out",
    "list_pictures",
    "mean_face",
    "open_store",
    "rasterise",
    "triangles_from_edges",
    "write_layout",
]
