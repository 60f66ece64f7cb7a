"""The functions of the face_recognition package, with occluded faces completed before they are encoded.

    import face_recognition                  becomes    from maskfix import face_recognition

Names, arguments and returned values are those of face_recognition 1.3 (Geitgey). It stands on the same dlib and the
same four model files, taken from `dlib-bin` and `face-recognition-models` (both installed by pip), so it needs no
build of dlib and no face_recognition. `face_encodings` differs for occluded faces only: with the gate, the
encodings of all others are those of the package, to the bit. Under a mask dlib guesses where nose and mouth are, so its
landmarks are asked for again on the completed face. `configure` chooses another mode; `last.faces` tells what
was made of the faces of the last call, in each thread apart.

dlib's detectors know no masks: of 233 held-out faces HOG misses 152 once they wear one. So where no face is found
`face_locations`, and `face_encodings` and `face_landmarks` without locations, look for faces that HOG finds once they
are completed (`Deoccluder.find_hidden`): 129 of these 152. `configure(hidden=False)` leaves that, and
`configure(hidden="beside")` also looks beside faces that are found. Locations from any other detector may be given as
`known_face_locations`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from maskfix.base import BoolArray, DependencyError, DoubleArray, UInt8Array
from maskfix.deocclude import Deoccluder
from maskfix.embed.dlib_resnet import models_folder
from maskfix.plugin.base import GATE_THRESHOLD, Completer, SeamSettings, embed_by_mode
from maskfix.plugin.hidden import Hidden, check_hidden
from maskfix.plugin.last import LastFaces
from maskfix.plugin.photograph import CompletedPhoto
from maskfix.plugin.truncated import truncated_pictures

#: The package's functions stand in its module `api`, and some code takes them from there.
api = sys.modules[__name__]

__all__ = [
    "api",
    "batch_face_locations",
    "compare_faces",
    "configure",
    "face_distance",
    "face_encodings",
    "face_landmarks",
    "face_locations",
    "last",
    "load_image_file",
]

Location = tuple[int, int, int, int]
"""A face: top, right, bottom, left in pixels."""


last = LastFaces()
"""What the last `face_encodings` of this thread made of its faces: `last.faces`, a `FaceCompletion` a face, None for a
place so small that nothing could be completed there."""

_SMALLEST = 8
"""Pixels of the longer side of a place in which a face is completed; HOG's own have 80, or 40 in a doubled picture."""

_COMPLETER = Completer()
_HIDDEN: Hidden = True

GUESSING_THRESHOLD = -1.0
"""What is added to the threshold of dlib's HOG detector where it only has to guess. Chosen on the 152 held-out faces
above (-0.6: 93 found); of 174 portraits whose face was painted over it found a face on none."""

#: Runs of dlib's 68 points, in the order of the package.
_LARGE: dict[str, tuple[range, ...]] = {
    "chin": (range(17),),
    "left_eyebrow": (range(17, 22),),
    "right_eyebrow": (range(22, 27),),
    "nose_bridge": (range(27, 31),),
    "nose_tip": (range(31, 36),),
    "left_eye": (range(36, 42),),
    "right_eye": (range(42, 48),),
    "top_lip": (range(48, 55), range(64, 59, -1)),
    "bottom_lip": (range(54, 60), range(48, 49), range(60, 61), range(67, 63, -1)),
}
#: The same for dlib's five points.
_SMALL: dict[str, tuple[range, ...]] = {
    "nose_tip": (range(4, 5),),
    "left_eye": (range(2, 4),),
    "right_eye": (range(2),),
}


def configure(
    deoccluder: Deoccluder | Completer | str | Path | None = None,
    mode: str = "gate",
    threshold: float = GATE_THRESHOLD,
    share: float = 0.75,
    device: str = "auto",
    hidden: Hidden = True,
) -> None:
    """Choose the completing network and the mode of `face_encodings`, for the whole process.

    Args:
        deoccluder: Name or path of weights, a Deoccluder, or a Completer (whose own settings then count); the released
            weights when None.
        mode: `gate`, `always`, `observe` or `fuse`, see `maskfix.plugin.base.SeamSettings`.
        threshold: Coverage in [0, 1] above which a face counts as occluded.
        share: Share of the completed face in `fuse`, in [0, 1].
        device: Where the completing network runs: `auto`, `cpu`, `cuda` or `cuda:N`.
        hidden: Whether faces are looked for that dlib misses for what hides them: `True` where it finds none on a
            picture, `"beside"` also beside those that it finds (for groups), `False` never. Never in `observe`.

    Raises:
        InputError: If the mode, the device or `hidden` is unknown, or a number out of range.

    Example:
        >>> configure(mode="always")
        >>> configure()
    """
    global _COMPLETER, _HIDDEN
    check_hidden(hidden)
    if isinstance(deoccluder, Completer):
        _COMPLETER = deoccluder
    else:
        _COMPLETER = Completer(deoccluder, SeamSettings(mode, threshold, share), device)
    # After all that may be refused, so that what is refused changes nothing.
    _HIDDEN = hidden


def face_encodings(
    face_image: UInt8Array,
    known_face_locations: Sequence[Location] | None = None,
    num_jitters: int = 1,
    model: str = "small",
) -> list[DoubleArray]:
    """The 128 numbers of each face of a picture, of occluded faces after their completion.

    Args:
        face_image: `(H, W, 3)` uint8 RGB.
        known_face_locations: Faces as (top, right, bottom, left); those of `face_locations` when None. Places of a few
            pixels are encoded as they are.
        num_jitters: Slightly moved copies of each face that are encoded and averaged.
        model: `small` (five points) or `large` (68): the landmarks by which dlib cuts its chip.

    Returns:
        An array `(128,)` float64 a face, as dlib gives it: not of unit length, compared by Euclidean distance.

    Raises:
        DependencyError: If dlib or its model files are not installed.
        WeightsError: If the weights of the completing network are missing or damaged.
        TypeError: From dlib, if the picture is no uint8 RGB.
    """
    every = _shapes(face_image, known_face_locations, model)
    encode = functools.partial(_encode, num_jitters=num_jitters)
    shapes = [shape for shape in every if _is_large(shape)]
    if not shapes or not _in_colour(face_image):
        # dlib has its own words for pictures that it does not take.
        last.faces = (None,) * len(every)
        return list(encode([face_image] * len(every), every))
    completed, refined = _complete(face_image, shapes, model)

    def embed(faces: BoolArray) -> DoubleArray:
        picture = completed.picture(faces)
        chosen = [again if seen else shape for seen, again, shape in zip(faces, refined, shapes, strict=True)]
        return np.stack(encode([picture if seen else face_image for seen in faces], chosen))

    encodings, faces = embed_by_mode(_COMPLETER, completed.result, embed)
    pairs = zip(encodings, faces, strict=True)
    told = [next(pairs) if _is_large(shape) else (encode([face_image], [shape])[0], None) for shape in every]
    last.faces = tuple(face for _, face in told)
    return [row.copy() for row, _ in told]


def _is_large(shape: Any) -> bool:
    """Whether a face can be completed: in a place of a few pixels dlib's points coincide."""
    return bool(max(shape.rect.width(), shape.rect.height()) >= _SMALLEST)


def _complete(picture: UInt8Array, shapes: Sequence[Any], model: str) -> tuple[CompletedPhoto, list[Any]]:
    """The faces completed by the landmarks that dlib sees on their completion; and those that it sees then.

    The rectangle of a face stays what it was. The shapes of faces that are not occluded do, too.
    """
    five = _five(picture, [shape.rect for shape in shapes])
    completed = CompletedPhoto(_COMPLETER, picture, five)
    occluded = _COMPLETER.occluded(completed.result.completion.coverage)
    if not occluded.any():
        return completed, list(shapes)
    # Two rounds: the first completion sat askew, so its landmarks only serve to make the second.
    five[occluded] = _five(completed.picture(occluded), [shapes[i].rect for i in np.flatnonzero(occluded)])
    completed = completed.moved_to(five)
    seen, predictor = completed.picture(occluded), _model("small" if model == "small" else "large")
    again = [predictor(seen, shape.rect) if hidden else shape for shape, hidden in zip(shapes, occluded, strict=True)]
    return completed, again


def _encode(pictures: Sequence[UInt8Array], shapes: Sequence[Any], num_jitters: int) -> list[DoubleArray]:
    """Encode each face in its own picture."""
    network = _model("recogniser")
    return [
        np.array(network.compute_face_descriptor(picture, shape, num_jitters))
        for picture, shape in zip(pictures, shapes, strict=True)
    ]


def _five(picture: UInt8Array, places: Sequence[Any]) -> DoubleArray:
    """ArcFace's five points of the faces in dlib's rectangles, `(N, 5, 2)`, as its 68 points tell."""
    points = np.array([_points(_model("large")(picture, place)) for place in places], np.float64).reshape(-1, 68, 2)
    eyes = [points[:, 36:42].mean(1), points[:, 42:48].mean(1)]
    return np.stack([*eyes, points[:, 30], points[:, 48], points[:, 54]], axis=1)


def face_locations(img: UInt8Array, number_of_times_to_upsample: int = 1, model: str = "hog") -> list[Location]:
    """Faces of a picture as (top, right, bottom, left), cut to the picture; see above for faces that dlib misses.

    Args:
        img: `(H, W, 3)` uint8 RGB or `(H, W)` uint8.
        number_of_times_to_upsample: How often the picture is doubled before; finds smaller faces.
        model: `hog`, or `cnn` (slower, finds more).

    Raises:
        DependencyError: If dlib or its model files are not installed.
    """
    found = [face.rect if model == "cnn" else face for face in _found(img, number_of_times_to_upsample, model)]
    hidden = _hidden(img, number_of_times_to_upsample, found)
    return [_location(face, img.shape) for face in (*found, *hidden)]


def batch_face_locations(
    images: Sequence[UInt8Array], number_of_times_to_upsample: int = 1, batch_size: int = 128
) -> list[list[Location]]:
    """Faces of several pictures of one size, by the CNN detector; see `face_locations`.

    Args:
        images: Pictures `(H, W, 3)` uint8 RGB of one size.
        number_of_times_to_upsample: How often the pictures are doubled before.
        batch_size: Pictures per call of the network.

    Raises:
        DependencyError: If dlib or its model files are not installed.
    """
    batches = _model("cnn")(images, number_of_times_to_upsample, batch_size=batch_size)
    return [[_location(face.rect, images[0].shape) for face in faces] for faces in batches]


def face_landmarks(
    face_image: UInt8Array, face_locations: Sequence[Location] | None = None, model: str = "large"
) -> list[dict[str, list[tuple[int, int]]]]:
    """Points of the features of each face, by the feature's name.

    Args:
        face_image: `(H, W, 3)` uint8 RGB or `(H, W)` uint8.
        face_locations: Faces as (top, right, bottom, left); those of `face_locations` when None.
        model: `large` (68 points) or `small` (5).

    Raises:
        ValueError: If the model is neither.
        DependencyError: If dlib or its model files are not installed.
    """
    shapes = _shapes(face_image, face_locations, model)
    if model not in ("large", "small"):
        raise ValueError("Invalid landmarks model type. Supported models are ['small', 'large'].")
    runs = _LARGE if model == "large" else _SMALL
    every = [_points(shape) for shape in shapes]
    return [{name: [points[i] for places in parts for i in places] for name, parts in runs.items()} for points in every]


def face_distance(face_encodings: Sequence[DoubleArray], face_to_compare: DoubleArray) -> DoubleArray:
    """Euclidean distance of each encoding to one; smaller means more alike.

    Args:
        face_encodings: N encodings `(128,)`.
        face_to_compare: One encoding `(128,)`.

    Returns:
        `(N,)` float64.

    Example:
        >>> face_distance([np.zeros(128)], np.ones(128)).round(2)
        array([11.31])
    """
    if len(face_encodings) == 0:
        return np.empty(0)
    return np.asarray(np.linalg.norm(face_encodings - face_to_compare, axis=1))


def compare_faces(
    known_face_encodings: Sequence[DoubleArray], face_encoding_to_check: DoubleArray, tolerance: float = 0.6
) -> list[np.bool_]:
    """Which known encodings lie within a distance of one.

    Args:
        known_face_encodings: N encodings `(128,)`.
        face_encoding_to_check: One encoding `(128,)`.
        tolerance: Largest distance of two pictures of one person. The usual 0.6 was found on faces without masks;
            where masked faces are many, choose it on your own.

    Example:
        >>> compare_faces([np.zeros(128)], np.zeros(128))
        [True]
    """
    return list(face_distance(known_face_encodings, face_encoding_to_check) <= tolerance)


def load_image_file(file: str | Path | IO[bytes], mode: str = "RGB") -> NDArray[np.uint8]:
    """A picture file as an array; as in the package, EXIF rotation is not applied, and a file that is cut off loads.

    Args:
        file: Path or open file.
        mode: `RGB`, or `L` for grey.
    """
    from PIL import Image

    with truncated_pictures(), Image.open(file) as picture:
        return np.array(picture.convert(mode) if mode else picture)


def _found(picture: UInt8Array, upsample: int, model: str) -> Any:
    return _model("cnn" if model == "cnn" else "hog")(picture, upsample)


def _hidden(picture: UInt8Array, upsample: int, known: Sequence[Any]) -> list[Any]:
    """Rectangles of the faces that HOG finds once they are completed, beside those that are known."""
    if not _HIDDEN or _COMPLETER.settings.mode == "observe" or not _in_colour(picture):
        return []
    if len(known) and _HIDDEN != "beside":
        return []
    hog = _model("hog")
    seen: list[tuple[DoubleArray, Any]] = []

    def guess(photo: UInt8Array) -> DoubleArray:
        places, scores, _ = hog.run(photo, upsample, GUESSING_THRESHOLD)
        return _five(photo, [places[i] for i in np.argsort(-np.array(scores), kind="stable")])

    def find(photo: UInt8Array) -> DoubleArray:
        places = list(hog(photo, upsample))
        points = _five(photo, places)
        seen.extend(zip(points, places, strict=True))
        return points

    faces = _COMPLETER.deoccluder().find_hidden(picture, guess, find, _five(picture, known))
    return [min(seen, key=lambda pair: float(np.abs(pair[0] - face).max()))[1] for face in faces]


def _in_colour(picture: Any) -> bool:
    colour = isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.shape[2:] == (3,)
    return colour and picture.size > 0


def _shapes(picture: UInt8Array, locations: Sequence[Location] | None, model: str) -> list[Any]:
    """The landmarks that dlib sees in each face; without locations, in the faces of `face_locations`."""
    if locations is None:
        boxes = list(_found(picture, 1, "hog"))
        boxes += [_rectangle(_location(face, picture.shape)) for face in _hidden(picture, 1, boxes)]
    else:
        boxes = [_rectangle(place) for place in locations]
    predictor = _model("small" if model == "small" else "large")
    return [predictor(picture, box) for box in boxes]


def _points(shape: Any) -> list[tuple[int, int]]:
    return [(part.x, part.y) for part in shape.parts()]


def _rectangle(location: Location) -> Any:
    top, right, bottom, left = location
    return _dlib().rectangle(left, top, right, bottom)


def _location(box: Any, shape: tuple[int, ...]) -> Location:
    return max(box.top(), 0), min(box.right(), shape[1]), min(box.bottom(), shape[0]), max(box.left(), 0)


_FILES = {
    "large": ("shape_predictor", "shape_predictor_68_face_landmarks.dat"),
    "small": ("shape_predictor", "shape_predictor_5_face_landmarks.dat"),
    "cnn": ("cnn_face_detection_model_v1", "mmod_human_face_detector.dat"),
    "recogniser": ("face_recognition_model_v1", "dlib_face_recognition_resnet_model_v1.dat"),
}


@functools.cache
def _model(name: str) -> Any:
    """One of dlib's networks, loaded once."""
    if name == "hog":
        return _dlib().get_frontal_face_detector()
    kind, file = _FILES[name]
    return getattr(_dlib(), kind)(str(models_folder() / file))


def _dlib() -> Any:
    try:
        import dlib
    except ImportError as error:
        raise DependencyError(
            f"face_recognition needs dlib: pip install dlib-bin face-recognition-models ({error})"
        ) from error
    return dlib
