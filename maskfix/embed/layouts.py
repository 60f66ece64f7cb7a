"""The crops that recognisers want, by name."""

from __future__ import annotations

import re

from maskfix.base import ARCFACE_112, CropLayout, InputError, arcface_layout, canonical_layout
from maskfix.embed.dlib_resnet import dlib_layout

#: LightCNN (Wu et al., 2018): side, row of the middle of the eyes, and how far below it the middle of the mouth lies.
_LIGHTCNN_SIZE, _LIGHTCNN_EYES, _LIGHTCNN_EYES_TO_MOUTH = 128, 40.0, 48.0

#: facenet-pytorch: side of the crop, and its margin in pixels of the crop, for the weights that it offers.
FACENET_SIZE, FACENET_MARGIN = 160, 14

#: Where facenet-pytorch's MTCNN puts its box around a face in the ArcFace layout of 112 pixels: centre and sides.
#: Medians over 198 UTKFace pictures, the centre's column made symmetric.
_BOX_CENTRE, _BOX_SIDES = (56.0, 62.8), (79.8, 105.9)

_NAMED = {"dlib_150": dlib_layout}


def lightcnn_layout() -> CropLayout:
    """LightCNN's crop of 128 pixels: middle of the eyes at (64, 40), middle of the mouth at (64, 88).

    The map is the similarity of these two points. LightCNN's authors turn the line of the eyes level instead, which
    puts the mouth at row 88 too but not always at column 64: on 30 LFW faces the two rules differ by 1.7 degrees in
    the median (3.5 in nine of ten), 1.4 pixels at the mouth.

    Example:
        >>> layout = lightcnn_layout()
        >>> ((layout.array[0] + layout.array[1]) / 2).round(6).tolist()
        [64.0, 40.0]
    """
    # The ArcFace face under the similarity that takes the two middles to their places, as complex numbers.
    face = [complex(x, y) for x, y in ARCFACE_112]
    eyes, mouth = (face[0] + face[1]) / 2, (face[3] + face[4]) / 2
    factor = complex(0, _LIGHTCNN_EYES_TO_MOUTH) / (mouth - eyes)
    places = [complex(_LIGHTCNN_SIZE / 2, _LIGHTCNN_EYES) + factor * (point - eyes) for point in face]
    points = tuple((place.real, place.imag) for place in places)
    return CropLayout(f"lightcnn_{_LIGHTCNN_SIZE}", _LIGHTCNN_SIZE, points, fit="midpoints")


def facenet_layout() -> CropLayout:
    """FaceNet's crop of 160 pixels, estimated from the five points: the detector's box with a margin of 14, not turned.

    facenet-pytorch cuts by the box of its detector, stretches it to a square and turns nothing. Landmarks know no box,
    so the box stands where that detector puts it on an average face; it moves with the face, and against a nose that
    points aside. Over 30 LFW faces it overlaps the detector's own by 0.89 (mean intersection over union). With a box at
    hand, cut by `maskfix.embed.facenet.box_crop` instead.

    Example:
        >>> facenet_layout().fit
        'box'
    """
    # The margin is counted in pixels of the crop, so the box itself fills all but it.
    scales = [(FACENET_SIZE - FACENET_MARGIN) / side for side in _BOX_SIDES]
    middle = (FACENET_SIZE - 1) / 2
    points = tuple(
        (middle + (x - _BOX_CENTRE[0]) * scales[0], middle + (y - _BOX_CENTRE[1]) * scales[1]) for x, y in ARCFACE_112
    )
    return CropLayout(f"facenet_{FACENET_SIZE}", FACENET_SIZE, points, fit="box")


_NAMED |= {f"lightcnn_{_LIGHTCNN_SIZE}": lightcnn_layout, f"facenet_{FACENET_SIZE}": facenet_layout}
_SCALED = {"arcface": arcface_layout, "canonical": canonical_layout}


def list_layouts() -> tuple[str, ...]:
    """Names that `load_layout` takes; SIZE stands for a number of pixels.

    Example:
        >>> list_layouts()
        ('arcface_SIZE', 'canonical_SIZE', 'dlib_150', 'lightcnn_128', 'facenet_160')
    """
    return (*(f"{name}_SIZE" for name in _SCALED), *_NAMED)


def load_layout(name: str) -> CropLayout:
    """A crop layout by its name.

    Args:
        name: One of `list_layouts()`, such as `arcface_112`; `dlib`, `lightcnn` and `facenet` stand for their one size.

    Raises:
        InputError: If the name is unknown, or the size impossible.

    Example:
        >>> load_layout("arcface_112") == arcface_layout(112)
        True
    """
    for known, make in _NAMED.items():
        if name in (known, known.partition("_")[0]):
            return make()
    found = re.fullmatch(r"([a-z]+)_([1-9][0-9]{0,3})", str(name))
    if found is None or found[1] not in _SCALED:
        raise InputError(f"crop layout: {name!r} is unknown; known: {', '.join(list_layouts())}")
    return _SCALED[found[1]](int(found[2]))
