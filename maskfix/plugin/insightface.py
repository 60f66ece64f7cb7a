"""The seam of insightface: the recogniser that `attach` and `wrap` put in place of the library's own."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskfix.align import READING_ROUNDS, Find, align, fit_layout, invert_affine, paste, same_faces
from maskfix.base import (
    BoolArray,
    CropLayout,
    DoubleArray,
    InputError,
    UInt8Array,
    canonical_layout,
    check_photo,
    insightface_layout,
)
from maskfix.deocclude import Deoccluder, Recut
from maskfix.plugin.arrays import completion_device
from maskfix.plugin.base import (
    Completer,
    FaceCompletion,
    SeamResult,
    embed_by_mode,
    refuse_bypass,
)
from maskfix.plugin.crops import CropFormat, from_canonical, relate
from maskfix.plugin.last import LastResult

#: Faces with the photograph that each was found on, which an attached application's `get` is collecting, and the
#: recogniser that asked for it.
COLLECTING: ContextVar[tuple[Any, list[tuple[NDArray[Any], Any]]] | None] = ContextVar(
    "maskfix_collecting", default=None
)


class CompletedRecogniser:
    """An insightface recogniser with the completion before its `get` and `get_feat`; `forward` is refused.

    What does not embed is passed through.

    Args:
        recogniser: An `ArcFaceONNX`, or what has its `get`, `get_feat` and `input_size`.
        completer: The network and its settings.
        find: Finds the faces of a completed BGR photograph again, for `get` and `get_batch`; None to keep the points.

    Attributes:
        recogniser: The wrapped recogniser, untouched.
        completer: The network and its settings.
        find: As given.
        inner: The same as `recogniser`.
        last: What is told of the faces of this thread's last call, a `FaceCompletion` each.
    """

    _OWN = frozenset({"recogniser", "completer", "find", "_last"})

    def __init__(self, recogniser: Any, completer: Completer, find: Find | None = None) -> None:
        self.recogniser = recogniser
        self.completer = completer
        self.find = find
        self._last = LastResult()

    def __getattr__(self, name: str) -> Any:
        """Whatever the wrapped recogniser has."""
        # While a pickle is read, nothing is here yet; special methods are looked up on the class.
        if name.startswith("__") or name in self._OWN:
            raise AttributeError(name)
        if name == "forward":
            return refuse_bypass(name, "get_feat")
        return getattr(self.recogniser, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Settings of the recogniser are set there."""
        if name in self._OWN:
            object.__setattr__(self, name, value)
        else:
            setattr(self.recogniser, name, value)

    @property
    def last(self) -> tuple[FaceCompletion, ...]:
        """What is told of the faces of this thread's last call."""
        return self._last.faces

    @property
    def inner(self) -> Any:
        """The wrapped recogniser, as other seams call it."""
        return self.recogniser

    def get(self, img: NDArray[Any], face: Any) -> Any:
        """Embed one face of a photograph; sets `face.embedding` and `face.completion`.

        Args:
            img: `(H, W, 3)` uint8 BGR.
            face: Insightface's Face, with `kps`.

        Returns:
            The embedding, `(D,)`, not normalised; None while an attached application collects its faces.

        Raises:
            InputError: If the face has no landmarks or the photograph is none.
        """
        collecting = COLLECTING.get()
        if collecting is not None and collecting[0] is self:
            # Holds the embedding's place among the face's entries.
            face.embedding = None
            collecting[1].append((img, face))
            return None
        self.get_batch(img, [face])
        return face.embedding

    def get_batch(self, img: NDArray[Any], faces: Sequence[Any]) -> None:
        """Embed several faces of one photograph, completed in one call of the network; as `get`."""
        if not faces:
            self._last.faces = ()
            return
        _check_bgr("img", img)
        blind = self.completer.deoccluder(self._device())
        five = np.stack([_landmarks(face) for face in faces])
        before = _canonical(img, five, blind.layout)
        moved = np.zeros(len(faces), np.bool_)
        recut = self._recut(img, five, before, moved)
        result = self.completer.complete(before.copy(), self._device(), recut)
        if self.find is not None:
            moved |= self._refine(img, five, before, result, self.find)
        # Of a face that is not occluded, the detector's own points count. What was found anew has the last word.
        moved &= self.completer.occluded(result.completion.coverage)
        result = result._replace(used=self.completer.used(result.completion.coverage))
        completed = result.completion.images

        def embed(rows: BoolArray) -> NDArray[Any]:
            return np.stack(
                [
                    self._embed_completed(
                        img, five[i] if moved[i] else np.asarray(face.kps), five[i], before[i], completed[i]
                    )
                    if rows[i]
                    else np.asarray(self.recogniser.get(img, face))
                    for i, face in enumerate(faces)
                ]
            )

        embeddings, told = embed_by_mode(self.completer, result, embed)
        known = [
            replace(completion, landmarks=five[i].astype(np.float32)) if moved[i] else completion
            for i, completion in enumerate(told)
        ]
        for face, embedding, completion in zip(faces, embeddings, known, strict=True):
            face.embedding = embedding.copy()
            face.completion = completion
        self._last.faces = tuple(known)

    def _recut(self, img: NDArray[Any], five: DoubleArray, before: UInt8Array, moved: BoolArray) -> Recut | None:
        """What reads the points of faces anew and cuts these by them; None where the settings do without.

        Args:
            img: `(H, W, 3)` uint8 BGR.
            five: `(N, 5, 2)`; those that are read are written there.
            before: `(N, S, S, 3)` uint8 RGB, the canonical crops; those that are cut are written there.
            moved: `(N,)` bool; whose points are read is marked there.
        """
        reader, blind = self.completer.reader(self._device()), self.completer.deoccluder(self._device())
        if reader is None:
            return None

        def recut(rows: BoolArray) -> UInt8Array:
            # Cut here and not by the reader: the photograph is BGR, and is not turned around for a few crops.
            for _ in range(READING_ROUNDS):
                # A reader has a size of its own, whatever the completing network's.
                shown = before[rows] if reader.size == blind.size else _canonical(img, five[rows], reader.layout)
                five[rows] = reader.follow(shown, five[rows])
                before[rows] = _canonical(img, five[rows], blind.layout)
            moved[rows] = True
            return before[rows]

        return recut

    def _refine(
        self, img: NDArray[Any], five: DoubleArray, before: UInt8Array, result: SeamResult, find: Find
    ) -> BoolArray:
        """Find the points of occluded faces again on the completed photograph, and complete these faces anew.

        Args:
            img: `(H, W, 3)` uint8 BGR.
            five: `(N, 5, 2)`, changed in place.
            before: `(N, S, S, 3)` uint8 RGB, the canonical crops, changed in place.
            result: What the completer made of them, whose arrays are changed in place.
            find: What finds faces.

        Returns:
            Whose points have moved, `(N,)` bool.
        """
        moved = np.zeros(len(five), np.bool_)
        rows = np.flatnonzero(self.completer.occluded(result.completion.coverage))
        if not len(rows):
            return moved
        blind, photo_bgr = self.completer.deoccluder(self._device()), np.asarray(img)
        for row in rows:
            after = result.completion.images[row]
            changed = (after != before[row]).any(-1).astype(np.float32)
            photo_bgr = paste(photo_bgr, after[..., ::-1], fit_layout(five[row], blind.layout), changed)
        again = same_faces(find(photo_bgr), five[rows])
        moved[rows] = (again != five[rows].astype(np.float32)).any((1, 2))
        if moved.any():
            five[moved] = again[moved[rows]]
            before[moved] = _canonical(img, five[moved], blind.layout)
            second: Any = zip(result.completion, blind.complete(before[moved]), strict=True)
            for whole, part in second:
                whole[moved] = part
        return moved

    def _embed_completed(
        self, img: NDArray[Any], kps: NDArray[Any], five: DoubleArray, before: UInt8Array, after: UInt8Array
    ) -> NDArray[Any]:
        """Embed the library's own crop with the completion in it, where the network saw something to complete.

        Args:
            img: `(H, W, 3)` uint8 BGR.
            kps: `(5, 2)` the points that the recogniser's crop is cut by.
            five: `(5, 2)` the points that the canonical crop was cut by.
            before: `(S, S, 3)` uint8 RGB, the canonical crop before completion.
            after: `(S, S, 3)` uint8 RGB, after it.
        """
        from insightface.utils import face_align

        layout, canonical = self._layout(), canonical_layout(len(before))
        matrix = relate(layout, canonical)
        if not np.array_equal(kps, five):
            back = invert_affine(fit_layout(kps, layout))
            matrix = fit_layout(five, canonical) @ np.vstack([back, [0, 0, 1]])
        crop_bgr = face_align.norm_crop(img, landmark=kps, image_size=self.recogniser.input_size[0])
        crop_bgr = from_canonical(crop_bgr, before[..., ::-1], after[..., ::-1], matrix)
        return np.asarray(self.recogniser.get_feat(crop_bgr)).flatten()

    def get_feat(self, imgs: Any) -> Any:
        """Embed crops that are aligned already, in ArcFace's layout; `last` then tells of each.

        An ArcFace crop ends at the chin and the temples, the canonical crop goes on: what is not there is filled with
        the nearest pixel of the crop's edge.

        Args:
            imgs: One crop `(H, W, 3)` uint8 BGR, or a list of them; any size, resized as insightface does.

        Returns:
            `(N, D)`, not normalised.

        Raises:
            InputError: If a crop is no uint8 BGR picture; floats in [0, 1] are what deepface hands to insightface.
        """
        crops = list(imgs) if isinstance(imgs, (list, tuple)) else [imgs]
        if not crops:
            raise InputError("imgs: the list is empty; give at least one crop")
        for crop in crops:
            _check_bgr("imgs", crop)
        width, height = self.recogniser.input_size
        resized = [crop if crop.shape[:2] == (height, width) else cv2.resize(crop, (width, height)) for crop in crops]
        held = CropFormat(self._layout(), "byte", "byte", "bgr")
        pictures = held.decode(np.stack(resized))
        completed, result = held.complete(self.completer, pictures, device=self._device())

        def embed(rows: BoolArray) -> Any:
            if not rows.any():
                return self.recogniser.get_feat(imgs)
            chosen = [
                np.ascontiguousarray(after[..., ::-1]) if row else crop
                for row, crop, after in zip(rows, crops, completed, strict=True)
            ]
            return self.recogniser.get_feat(chosen)

        embeddings, faces = embed_by_mode(self.completer, result, embed)
        self._last.faces = tuple(faces)
        return embeddings

    @property
    def deoccluder(self) -> Deoccluder:
        """What completes, on the device of the recogniser; loaded now if it is not yet."""
        return self.completer.deoccluder(self._device())

    def _layout(self) -> CropLayout:
        """Where insightface puts the five points at the recogniser's input size."""
        width, height = self.recogniser.input_size
        layout = insightface_layout(int(width)) if width == height else None
        if layout is None:
            raise InputError(
                f"recogniser: input of {width}x{height}, and insightface aligns multiples of 112 or 128 only"
            )
        return layout

    def _device(self) -> str:
        """Where the recogniser runs."""
        session = getattr(self.recogniser, "session", None)
        return "cpu" if session is None else completion_device(session)


def _check_bgr(name: str, picture: Any) -> None:
    """Refuse what insightface would embed without a word and wrongly."""
    if isinstance(picture, np.ndarray) and picture.dtype != np.uint8:
        raise InputError(
            f"{name}: insightface takes uint8 BGR from 0 to 255, got {picture.dtype}; where the values lie in [0, 1], "
            "give (255 * picture).round().astype('uint8')"
        )
    check_photo(name, picture)


def _canonical(img: NDArray[Any], five: NDArray[Any], layout: CropLayout) -> UInt8Array:
    """Canonical crops of a BGR photograph, `(N, S, S, 3)` uint8 RGB."""
    crops_bgr = np.stack([align(img, points, layout)[0] for points in five])
    return np.ascontiguousarray(crops_bgr[..., ::-1])


def _landmarks(face: Any) -> NDArray[Any]:
    """A face's five points.

    Raises:
        InputError: If it has none.
    """
    if face.kps is None:
        raise InputError(
            "face.kps is None: completion and recognition are aligned by five landmarks; use a detector that gives "
            "them (insightface's SCRFD packs do), or embed aligned crops with get_feat"
        )
    return np.asarray(face.kps, np.float64)
