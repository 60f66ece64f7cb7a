"""`attach` and `detach`: the completion put before the recogniser of an insightface FaceAnalysis, and taken away."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskfix.base import InputError, UInt8Array, check_choice
from maskfix.deocclude import Deoccluder
from maskfix.embed import reopen_sessions
from maskfix.plugin.base import GATE_THRESHOLD, Completer, SeamSettings
from maskfix.plugin.hidden import Hidden, check_hidden
from maskfix.plugin.insightface import COLLECTING, CompletedRecogniser

_TASK = "recognition"

GUESSING_THRESHOLD = 0.1
"""Score from which on insightface's detectors (0.5 by default) are heard where they find no face. Not chosen by
measurement: no pack was at hand."""


def attach(
    app: Any,
    *,
    mode: str = "gate",
    threshold: float = GATE_THRESHOLD,
    share: float = SeamSettings.share,
    deoccluder: Deoccluder | str | Path | None = None,
    device: str = "auto",
    reopen: bool = True,
    refine: bool = True,
    hidden: Hidden = True,
) -> Any:
    """Put the completion before the recogniser of an insightface FaceAnalysis.

    Detection, landmarks, gender and age go on seeing the photograph. Recognition sees the face completed, where the
    mode says so; the completion is made from the whole photograph, all faces in one call of the network. Every face
    carries `face.completion`, a `FaceCompletion`. Undone by `detach`. Behind a `get` of your own, or a subclass's, each
    face is completed by itself, on the picture that the library is given there.

    Under a mask a detector guesses nose and mouth, and recognition suffers from the crop that is cut askew. So the
    application's detector is asked again on the photograph with the occluded faces completed, and these are completed
    and cut out anew by what it finds (`refine`). `face.kps` stays what it was.

    Many a masked face a detector does not find at all. So where it finds no face on a photograph, it is asked with a
    lower threshold, and what it guesses then is a face if it finds it, at its own threshold, once it is completed
    (`hidden`, see `Deoccluder.find_hidden`; its `kps` are those found then, its `bbox` and `det_score` the guess's).
    Such faces come after those that the detector sees.

    Args:
        app: A `FaceAnalysis` with a recognition model.
        mode: `gate`, `always`, `observe` or `fuse`, see `SeamSettings`.
        threshold: Coverage in [0, 1] above which a face counts as occluded.
        share: Share of the completed face in `fuse`, in [0, 1].
        deoccluder: Name or path of the weights, or a Deoccluder; `cadf_small_128` when None. Loaded on first use.
        device: `cpu`, `cuda`, `cuda:N`, or `auto`: CUDA where the recogniser runs on it.
        reopen: Whether the application's sessions that run on the CPU are opened again, so that their threads sleep
            between two calls: they spin by default, and the completion takes twice the time then on two cores. They
            give the same to the bit, and stay so after `detach`.
        refine: Whether the landmarks of occluded faces are read anew, and found again after completion: one more
            detection a photograph with such faces, and one more call of the network.
        hidden: Whether faces are looked for that the detector misses under a mask: `True` where it finds none on a
            photograph, `"beside"` also beside those that it finds (for groups; unless `max_num` of them are found),
            `False` never. One more detection, with completion of what it guesses, for each photograph on which is
            looked. Never in `observe`, which changes nothing.

    Returns:
        `app` itself.

    Raises:
        InputError: If `app` is none, has no recognition model, is attached or its recogniser wrapped already, or a
            setting is out of range.
    """
    settings = SeamSettings(mode, threshold, share, refine)
    check_hidden(hidden)
    check_choice("reopen", reopen, (True, False))
    models = getattr(app, "models", None)
    if not isinstance(models, dict) or not callable(getattr(app, "get", None)):
        raise InputError(f"app: expected insightface's FaceAnalysis, got {type(app).__name__}; see maskfix.wrap")
    if isinstance(vars(app).get("get"), _AttachedGet):
        raise InputError("app: maskfix is attached already; call maskfix.detach(app) first")
    _check_get_stands(models)
    if isinstance(models.get(_TASK), CompletedRecogniser):
        raise InputError(
            f"app: its recogniser is wrapped already; put the bare one back first: app.models[{_TASK!r}] = "
            f"app.models[{_TASK!r}].recogniser"
        )
    if _TASK not in models:
        raise InputError(
            f"app: no recognition model among {', '.join(models) or 'no models'}; load one, for example with "
            "allowed_modules=['detection', 'recognition']"
        )
    if reopen:
        reopen_sessions(models.values())
    find = _FindWithApp(app) if hasattr(app, "det_model") else None
    seam = _AttachedRecogniser(models[_TASK], Completer(deoccluder, settings, device), find if refine else None)
    get = _AttachedGet(app, seam, find if hidden and mode != "observe" else None, hidden == "beside")
    models[_TASK] = seam
    app.get = get
    return app


def detach(app: Any) -> Any:
    """Take the completion out again: the application is what it was, with the very same recogniser.

    Args:
        app: A `FaceAnalysis` that `attach` was called on.

    Returns:
        `app` itself.

    Raises:
        InputError: If nothing is attached, or `app.get` was replaced since.
    """
    get = getattr(app, "__dict__", {}).get("get")
    if not isinstance(get, _AttachedGet):
        _check_get_stands(getattr(app, "models", None))
        raise InputError("app: maskfix is not attached; nothing to detach")
    # A recogniser that the user has put there since stays.
    if app.models.get(_TASK) is get.seam:
        app.models[_TASK] = get.seam.recogniser
    if get.previous is None:
        del app.get
    else:
        app.get = get.previous
    return app


def _check_get_stands(models: Any) -> None:
    """Refuse the models of an application that was attached and whose `get` is another by now."""
    if isinstance(models, dict) and isinstance(models.get(_TASK), _AttachedRecogniser):
        raise InputError(
            "app: app.get was replaced after maskfix.attach; put back the one that attach left there and call "
            "maskfix.detach(app) (a get of your own may be set before attach)"
        )


class _AttachedRecogniser(CompletedRecogniser):
    """What `attach` puts in place; its class tells it from what `maskfix.wrap` makes."""


class _AttachedGet:
    """Stands for `app.get` on one application: recognition waits until all faces of a photograph are found.

    Args:
        app: The application.
        seam: The recogniser that has been put in place.
        find: The application's detector, to look for hidden faces; None not to.
        beside: Whether to look beside faces that are found, too.
    """

    def __init__(self, app: Any, seam: CompletedRecogniser, find: _FindWithApp | None, beside: bool) -> None:
        self.app = app
        self.seam = seam
        self.find = find
        self.beside = beside
        self.previous = vars(app).get("get")

    @property
    def _plain(self) -> bool:
        """Whether the library's own `get` stands behind, which no user and no subclass has changed."""
        return self.previous is None and str(type(self.app).get.__module__).partition(".")[0] == "insightface"

    def __call__(self, img: NDArray[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Find the faces by the library's own `get`, then complete and embed them."""
        library = partial(type(self.app).get, self.app) if self.previous is None else self.previous
        faces = self._get(library, img, *args, **kwargs)
        # A `get` of the user's own may leave faces out on purpose, or show the detector another picture.
        if self.find is None or not self._plain or getattr(img, "dtype", None) != np.uint8:
            return faces
        if faces and not self.beside:
            return faces
        return [*faces, *self._beside(faces, self.find, img, *args, **kwargs)]

    def _beside(self, faces: list[Any], find: _FindWithApp, img: NDArray[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Hidden faces beside those that are found, as many as `max_num`, the library's own argument, has room for."""
        wanted = int(args[0] if args else kwargs.get("max_num", 0))
        if 0 < wanted <= len(faces):
            return []
        room = max(wanted - len(faces), 0)
        if args:
            args = (room, *args[1:])
        elif "max_num" in kwargs:
            kwargs["max_num"] = room
        hidden = self._hidden(img, find, np.array([face.kps for face in faces]).reshape(-1, 5, 2))
        if hidden is None:
            return []
        return self._get(partial(type(self.app).get, hidden), img, *args, **kwargs)

    def _get(self, library: Callable[..., list[Any]], img: NDArray[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """The library's faces, completed and embedded."""
        if not self._plain:
            # It may want a face's embedding at once, to sort by or to filter.
            return library(img, *args, **kwargs)
        pending: list[tuple[NDArray[Any], Any]] = []
        token = COLLECTING.set((self.seam, pending))
        try:
            faces = library(img, *args, **kwargs)
        finally:
            COLLECTING.reset(token)
        for photo in {id(photo): photo for photo, _ in pending}.values():
            self.seam.get_batch(photo, [face for seen, face in pending if seen is photo])
        return faces

    def _hidden(self, img: NDArray[Any], find: _FindWithApp, known: NDArray[Any]) -> Any:
        """The application with a detector that knows of the faces hidden on this photograph; None where none is."""
        boxes, points = find.guess(img)
        if not len(boxes):
            return None
        photo = np.ascontiguousarray(img[..., ::-1])
        five = self.seam.deoccluder.find_hidden(
            photo, lambda _: points, lambda seen: find(np.ascontiguousarray(seen[..., ::-1])), known
        )
        if not len(five):
            return None
        nearest = np.linalg.norm(five[:, None] - points[None], axis=3).mean(2).argmin(1)
        app = copy(self.app)
        app.det_model = _Known(boxes[nearest], five)
        return app


class _Known:
    """A detector that has found already.

    Args:
        boxes: `(N, 5)` boxes with scores.
        points: `(N, 5, 2)`.
    """

    def __init__(self, boxes: NDArray[Any], points: NDArray[Any]) -> None:
        self.boxes, self.points = boxes, points

    def detect(self, _img: NDArray[Any], max_num: int = 0, **_: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """What it has found, the surest first."""
        count = max_num or len(self.boxes)
        return self.boxes[:count], self.points[:count]


class _FindWithApp:
    """The faces of a photograph by an application's own detector, as a `maskfix.align.Find` of BGR pictures."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, img: UInt8Array) -> NDArray[Any]:
        """Ask as `FaceAnalysis.get` asks; a detector that gives no landmarks finds nothing."""
        points = self.app.det_model.detect(img, max_num=0, metric="default")[1]
        return np.zeros((0, 5, 2)) if points is None or not len(points) else np.asarray(points)

    def guess(self, img: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Boxes with scores `(M, 5)` and points `(M, 5, 2)` by a lower threshold, the surest first; M may be 0."""
        nothing, detector = (np.zeros((0, 5), np.float32), np.zeros((0, 5, 2), np.float32)), self.app.det_model
        if hasattr(detector, "guess"):
            boxes, points = detector.guess(img)
        elif hasattr(detector, "det_thresh"):
            # A copy shares the session, and other threads keep their threshold.
            detector = copy(detector)
            detector.det_thresh = min(detector.det_thresh, GUESSING_THRESHOLD)
            boxes, points = detector.detect(img, max_num=0, metric="default")
        else:
            return nothing
        if points is None or not len(points):
            return nothing
        order = np.argsort(-np.asarray(boxes)[:, 4], kind="stable")
        return np.asarray(boxes)[order], np.asarray(points)[order]
