"""deepface with completion: a wrapped model in its registry, beside its own.

    from deepface import DeepFace
    import maskfix.deepface

    name = maskfix.deepface.install("ArcFace")                    # "ArcFace+maskfix"
    DeepFace.verify("a.jpg", "b.jpg", model_name=name, expand_percentage=30)

`verify`, `represent`, `find` and the others take the new name. deepface detects and crops as ever; the model then gets
each crop with its occlusions completed, if there are any. Everything about it is deepface's own: the network, its
input size, the distance, and the threshold, which was tuned on faces without masks: where masked faces are many,
choose it on your own and give it to `verify(threshold=...)` or `install(thresholds=...)`. `find` keeps the embeddings
of a folder in a file there, by the name of the model: to try other settings on one folder, give each an `as_name`.

deepface hands crops to its models, not landmarks, so a landmark detector looks for the five points in each crop. A
crop in which it finds none passes through untouched; `last.faces` has None for it, and a `FaceCompletion` for others.

Give the crops room: completion wants the whole chin, and deepface cuts at the detector's box. Of 19 genuine LFW pairs
with one face masked, MobileFaceNet verified 5 masked and 5 completed as deepface cuts by itself, 11 and 15 with
`expand_percentage=30`. And choose a detector that sees masked faces: `opencv` missed half of them.

By hand, without a registry, the same takes three steps; deepface's `skip` embeds a face as it is given:

    faces = DeepFace.extract_faces("a.jpg", expand_percentage=30)  # RGB, float in [0, 1]
    crop = (faces[0]["face"] * 255).round().astype("uint8")
    [found] = maskfix.load_detector().detect([crop])
    crop = maskfix.Deoccluder.from_pretrained().restore(crop, found.five)
    DeepFace.represent(crop[..., ::-1], model_name="ArcFace", detector_backend="skip")  # BGR

tensorflow, which deepface prefers where it is installed, and triton, which torch brings along, do not live in one
process if tensorflow comes first: triton ends it ("inconsistency in registered CommandLine options"). Importing this
module prevents that: triton is imported at once, or kept out where tensorflow is there already.

deepface is no dependency of maskfix; releases whose registry is `modeling.AVAILABLE_MODELS` are supported (checked with
0.0.103, which runs on tensorflow, PyTorch or onnxruntime).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskfix.align import Guesser, LandmarkDetector, find_with, load_detector
from maskfix.base import BoolArray, DependencyError, FloatArray, InputError, UInt8Array
from maskfix.deocclude import Deoccluder
from maskfix.plugin.base import GATE_THRESHOLD, Completer, SeamSettings, embed_by_mode
from maskfix.plugin.last import LastFaces
from maskfix.plugin.photograph import complete_photos, look_at

_TASK = "facial_recognition"
_SUFFIX = "+maskfix"
_PREFIX = "Installed"

#: Values may leave [0, 1] by so much: deepface resizes after it divides by 255.
_TOLERANCE = 1e-3


last = LastFaces()
"""What was made of the last faces that a wrapped model embedded, in each thread apart: `last.faces`, with None for a
face whose landmarks were not found."""

_installed: dict[str, type] = {}
"""Wrapped classes by the attribute of this module under which deepface finds them."""

_settings: dict[str, tuple[Any, ...]] = {}
"""What `install` was given, by the name that it returned."""

_count = itertools.count()

#: deepface's tables of numbers by name of a model; without a row in the first it refuses the model, without one in the
#: others it says 51% for every match and leaves embeddings as they are where they should be scaled.
_TABLES = {"config.threshold": "thresholds", "config.confidence": "confidences", "config.minmax": "minmax_values"}


if not TYPE_CHECKING:
    # To type checkers this function would make every name of the module, misspelt ones too, Any.

    def __getattr__(name: str) -> Any:
        """The class that deepface asks for by its path."""
        if name in _installed:
            return _installed[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def install(
    name: str = "ArcFace",
    as_name: str | None = None,
    *,
    deoccluder: Deoccluder | str | Path | None = None,
    mode: str = "gate",
    threshold: float = GATE_THRESHOLD,
    share: float = 0.75,
    device: str = "auto",
    detector: str = "auto",
    normalization: str = "base",
    thresholds: Mapping[str, float] | None = None,
) -> str:
    """Register a model of deepface a second time, with completion before it.

    Installed again with the same settings, nothing happens, so the call may stand where the name is wanted; with other
    settings under the same name, the newer ones count.

    Args:
        name: A model that deepface knows, such as `ArcFace`, `Facenet512` or `Dlib`.
        as_name: Name of the new model; `name` with `+maskfix` when None.
        deoccluder: Name or path of the completing network's weights, or a Deoccluder; the released weights when None.
        mode: `gate`, `always`, `observe` or `fuse`, see `maskfix.plugin.base.SeamSettings`.
        threshold: Coverage in [0, 1] above which a face counts as occluded.
        share: Share of the completed face in `fuse`, in [0, 1].
        device: Where the completing network runs: `auto`, `cpu`, `cuda` or `cuda:N`.
        detector: What finds the landmarks in deepface's crops: `auto`, `mesh` or `mtcnn`.
        normalization: deepface's own, applied after completion. Leave that of `verify` and `represent` at `base` then:
            a completing network needs pictures, and the wrapped model refuses what is none.
        thresholds: Distances below which two faces are one person's, by metric (`cosine`, `euclidean`,
            `euclidean_l2`, `angular`); those of `name` when None.

    Returns:
        The name to give as `model_name`.

    Raises:
        DependencyError: If deepface is not installed, or too old.
        InputError: If deepface knows no such model, the new name is one of its own, or a setting is out of range.
    """
    modeling = _deepface("modules.modeling")
    registry = getattr(modeling, "AVAILABLE_MODELS", {}).get(_TASK)
    if registry is None:
        raise DependencyError("deepface: this release has no modeling.AVAILABLE_MODELS; pip install -U deepface")
    new = f"{name}{_SUFFIX}" if as_name is None else as_name
    own = [known for known in registry if not _is_ours(registry[known])]
    if name not in own:
        raise InputError(f"deepface model: {name!r} is unknown; known: {', '.join(own)}")
    if new in own:
        raise InputError(f"deepface model: {new!r} is deepface's own; choose another as_name")
    chosen = None if thresholds is None else dict(thresholds)
    settings = (name, deoccluder, mode, threshold, share, device, detector, normalization, chosen)
    if new in registry and _settings.get(new) == settings:
        return new
    completer = Completer(deoccluder, SeamSettings(mode, threshold, share), device)
    made = _wrapped(name, new, _Crops(completer, detector, normalization))
    if new in registry:
        uninstall(new)
    _installed[made.__name__], _settings[new] = made, settings
    # Newer releases keep paths, by the engine that they are for; older ones the class itself.
    by_path = isinstance(registry[name], Mapping)
    registry[new] = dict.fromkeys(_engines(modeling), f"{__name__}.{made.__name__}") if by_path else made
    for table in _tables():
        if name in table:
            table[new] = table[name]
    known = _deepface("config.threshold").thresholds
    known[new] = dict(known.get(name, {}) if chosen is None else chosen)
    _forget(modeling, new)
    return new


def uninstall(as_name: str) -> None:
    """Take a wrapped model out of deepface's registry.

    Args:
        as_name: What `install` returned.

    Raises:
        InputError: If no such model was installed.
        DependencyError: If deepface is not installed.
    """
    modeling = _deepface("modules.modeling")
    registry = getattr(modeling, "AVAILABLE_MODELS", {}).get(_TASK, {})
    if not _is_ours(registry.get(as_name)):
        raise InputError(f"deepface model: {as_name!r} was not installed by maskfix")
    for attribute in [key for key, made in _installed.items() if _names(registry[as_name], key, made)]:
        del _installed[attribute]
    del registry[as_name]
    _settings.pop(as_name, None)
    for table in _tables():
        table.pop(as_name, None)
    _forget(modeling, as_name)


class _Crops:
    """Completes deepface's crops on their way into a model.

    Args:
        completer: The completing network and its settings.
        detector: Name of the landmark detector.
        normalization: What deepface does to the values afterwards.
    """

    def __init__(self, completer: Completer, detector: str, normalization: str) -> None:
        self._completer = completer
        self._detector: LandmarkDetector = load_detector(detector)
        self._normalization = normalization
        # MediaPipe's graph takes one picture at a time.
        self._lock = threading.Lock()

    def forward(self, inner: Any, img: NDArray[Any]) -> Any:
        """Embed a batch with a model of deepface.

        Args:
            inner: The model.
            img: `(N, H, W, 3)` or `(H, W, 3)` float BGR in [0, 1].

        Returns:
            What the model returns: a list of numbers for one face, a list of lists for several.

        Raises:
            InputError: If the values are no picture in [0, 1].
        """
        batch = np.asarray(img)
        batch = batch[None] if batch.ndim == 3 else batch
        if batch.ndim != 4 or batch.shape[3] != 3 or batch.min() < -_TOLERANCE or batch.max() > 1 + _TOLERANCE:
            raise InputError(
                f"deepface crops: expected (N, H, W, 3) in [0, 1], got shape {batch.shape} from {batch.min():.3g} to "
                f"{batch.max():.3g}; leave normalization at 'base' and give it to maskfix.deepface.install"
            )
        pictures = np.ascontiguousarray(np.rint(batch * 255).clip(0, 255).astype(np.uint8)[..., ::-1])
        found = self._find(list(pictures))
        rows = np.flatnonzero([points is not None for points in found])
        if not len(rows):
            last.faces = (None,) * len(batch)
            return inner.forward(self._normalized(img))
        five = np.array([found[row] for row in rows])
        photos = [pictures[row] for row in rows]
        restored, result = complete_photos(self._completer, photos, look_at(self._completer, photos, five))

        def embed(faces: BoolArray) -> NDArray[Any]:
            given = img if not faces.any() else _put(batch, pictures, restored, rows, faces)
            every[:] = [_rows(inner.forward(self._normalized(given)), len(batch))]
            return every[0][rows]

        every: list[NDArray[Any]] = []
        vectors, told = embed_by_mode(self._completer, result, embed)
        by_row = dict(zip(rows.tolist(), told, strict=True))
        last.faces = tuple(by_row.get(row) for row in range(len(batch)))
        # Faces without landmarks were embedded with the others, as they came.
        outcome = every[0].copy()
        outcome[rows] = vectors
        listed: list[Any] = outcome.tolist()
        return listed[0] if len(listed) == 1 else listed

    def _find(self, pictures: list[UInt8Array]) -> list[FloatArray | None]:
        """The five points of the face in each crop; where a mask hides it, as its completion tells."""
        detector = self._detector
        with self._lock:
            found = [face.five for face in detector.detect(pictures)]
            for row, points in enumerate(found):
                if points is None and isinstance(detector, Guesser):
                    blind = self._completer.deoccluder()
                    hidden = blind.find_hidden(pictures[row], detector.guess, find_with(self._detector))
                    found[row] = hidden[0] if len(hidden) else None
        return found

    def _normalized(self, img: NDArray[Any]) -> NDArray[Any]:
        """The values as the model was trained on them; deepface normalises picture by picture, in place."""
        if self._normalization == "base":
            return img
        normalise = _deepface("modules.preprocessing").normalize_input
        batch = img[None] if img.ndim == 3 else img
        return np.stack([normalise(one.copy(), self._normalization) for one in batch])


def _put(
    batch: NDArray[Any], pictures: UInt8Array, restored: list[UInt8Array], rows: NDArray[np.intp], faces: BoolArray
) -> NDArray[Any]:
    """A batch with some faces completed; numbers of pixels that did not change stay, to the bit."""
    result = batch.copy()
    for place in np.flatnonzero(faces):
        row = rows[place]
        changed = (restored[place] != pictures[row]).any(-1)
        result[row][changed] = restored[place][changed][:, ::-1] / 255
    return result


def _rows(embedding: Any, count: int) -> NDArray[Any]:
    """What a model returned as `(N, D)` float64."""
    return np.asarray(embedding, np.float64).reshape(count, -1)


def _prepare(model: Any, name: str, new: str, crops: _Crops) -> None:
    """Give a wrapped model what deepface wants to know of it; loads the model within."""
    model.inner = _deepface("modules.modeling").build_model(task=_TASK, model_name=name)
    model.crops = crops
    model.model = getattr(model.inner, "model", None)
    model.model_name = new
    model.input_shape, model.output_shape = model.inner.input_shape, model.inner.output_shape


def _wrapped(name: str, new: str, crops: _Crops) -> type:
    """A class of its own for a wrapped model, as deepface wants one."""
    attribute = f"{_PREFIX}{next(_count)}"
    members = {
        "__doc__": f"deepface's {name} behind maskfix.",
        "__module__": __name__,
        "__init__": lambda self: _prepare(self, name, new, crops),
        "forward": lambda self, img: self.crops.forward(self.inner, img),
    }
    return type(attribute, (_deepface("models.FacialRecognition").FacialRecognition,), members)


def _is_ours(entry: Any) -> bool:
    """Whether an entry of deepface's registry was put there by `install`."""
    return any(_names(entry, attribute, made) for attribute, made in _installed.items())


def _names(entry: Any, attribute: str, made: type) -> bool:
    """Whether an entry of deepface's registry, paths by engine or a class, is that of a wrapped class."""
    sources = entry.values() if isinstance(entry, Mapping) else (entry,)
    return any(source is made or source == f"{__name__}.{attribute}" for source in sources)


def _engines(modeling: Any) -> tuple[str, ...]:
    """The key under which deepface keeps models that run with every engine."""
    return (str(getattr(modeling, "ANY", "any")),)


def _forget(modeling: Any, name: str) -> None:
    """Drop a model that deepface has built already under a name."""
    getattr(modeling, "cached_models", {}).get(_TASK, {}).pop(name, None)


def _tables() -> list[dict[str, Any]]:
    """Those of `_TABLES` that this release of deepface has; older ones have fewer."""
    found = []
    for module, name in _TABLES.items():
        with contextlib.suppress(ImportError, AttributeError):
            found.append(getattr(importlib.import_module(f"deepface.{module}"), name))
    return found


def _deepface(module: str) -> Any:
    try:
        return importlib.import_module(f"deepface.{module}")
    except ImportError as error:
        raise DependencyError(
            f"deepface.{module} is missing ({error}); pip install deepface werkzeug, which maskfix does not depend on"
        ) from error


def _keep_one_llvm() -> None:
    """Let tensorflow and triton live in one process.

    Each holds an LLVM that registers its options under the same names, and triton aborts where it comes second; as the
    first it does no harm. torch imports triton where it finds it, and does without it but for `torch.compile` on a GPU.
    """
    if "triton" in sys.modules or not all(importlib.util.find_spec(name) for name in ("tensorflow", "triton")):
        return
    if "tensorflow" in sys.modules:
        sys.modules["triton"] = None  # type: ignore[assignment]  # the import system's mark of what is not to be had
    else:
        importlib.import_module("triton")


_keep_one_llvm()
