"""Lowest floor: types, guards, errors, crop layouts, reading and writing pictures. Imports no other room."""

from maskfix.base.arrays import UNREADABLE_ARRAYS
from maskfix.base.checks import (
    check_choice,
    check_crops,
    check_dtype,
    check_five,
    check_photo,
    check_range,
    check_shape,
)
from maskfix.base.devices import resolve_device
from maskfix.base.errors import (
    CheckpointError,
    DatasetError,
    DependencyError,
    EmbedderError,
    ImageError,
    InputError,
    MaskfixError,
    WeightsError,
)
from maskfix.base.images import LONGEST_SIDE, MAX_PIXELS, drop_leftovers, read_image, replacing, write_image
from maskfix.base.layouts import ARCFACE_112, CropLayout, arcface_layout, canonical_layout, insightface_layout
from maskfix.base.types import BoolArray, Completion, DoubleArray, FloatArray, Landmarks, Occluded, UInt8Array

__all__ = [
    "ARCFACE_112",
    "LONGEST_SIDE",
    "MAX_PIXELS",
    "UNREADABLE_ARRAYS",
    "BoolArray",
    "CheckpointError",
    "Completion",
    "CropLayout",
    "DatasetError",
    "DependencyError",
    "DoubleArray",
    "EmbedderError",
    "FloatArray",
    "ImageError",
    "InputError",
    "Landmarks",
    "MaskfixError",
    "Occluded",
    "UInt8Array",
    "WeightsError",
    "arcface_layout",
    "canonical_layout",
    "check_choice",
    "check_crops",
    "check_dtype",
    "check_five",
    "check_photo",
    "check_range",
    "check_shape",
    "drop_leftovers",
    "insightface_layout",
    "read_image",
    "replacing",
    "resolve_device",
    "write_image",
]
