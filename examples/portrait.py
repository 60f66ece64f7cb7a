"""The picture that the examples use when none is given: a portrait in the public domain, clean and masked."""

from __future__ import annotations

import numpy as np

from maskfix import Occluder, load_detector, read_image
from maskfix.base import UInt8Array


def masked_portrait(path: str | None = None, kind: str = "surgical_blue") -> tuple[UInt8Array, UInt8Array]:
    """A photograph and the same with a mask drawn on it, both `(H, W, 3)` uint8 RGB.

    Args:
        path: A photograph of a face; scikit-image's portrait of Eileen Collins (NASA, public domain) when None.
        kind: Kind of the mask.
    """
    if path is None:
        from skimage import data

        photo = np.ascontiguousarray(data.astronaut()[:300, 80:380])
    else:
        photo = read_image(path)
    [found] = load_detector("mtcnn").detect([photo])
    if found.mask is None:
        raise SystemExit(f"{path}: {found.reason}")
    return photo, Occluder().occlude(photo, found.mask, kind).image
