"""The Deoccluder: photograph or crop in, the same without the occlusion out. Joins align, restore and weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from maskfix.align import Find, LandmarkReader, align, find_again, fit_layout, known_faces, paste
from maskfix.base import (
    BoolArray,
    Completion,
    FloatArray,
    InputError,
    UInt8Array,
    WeightsError,
    canonical_layout,
    check_crops,
    check_five,
    check_photo,
    check_shape,
    resolve_device,
)
from maskfix.restore import (
    CLEAN_COVERAGE,
    CompletionNetwork,
    EarlyLook,
    NetworkRunner,
    blend_weight,
    create_network,
    list_networks,
    load_narrower,
    split_early_look,
)
from maskfix.weights import WeightsRow, load_weights

Recut = Callable[[BoolArray], UInt8Array]
"""Cuts crops anew: given which of N crops, `(N,)` bool, it returns theirs, one for each that is True."""

GUESSES = 4
"""Guesses that `Deoccluder.find_hidden` tries a photograph, each for one completion and one detection."""


class Deoccluder:
    """Completes occluded faces, blind: nothing but the picture goes in.

    Args:
        network: A completion network; it is put into evaluation mode.
        weights: Where its weights come from, for reports.
        device: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`.
        batch_size: Crops that go through the network at once; bounds the memory (about 6 MB a crop at 128 pixels). None
            is 8 on the CPU, where larger batches leave its caches and cost a fifth more a crop, and 32 elsewhere.
        early: The network's early look, if it has one; see `complete_unless_clean`.
        reader: What reads the landmarks of hidden faces, for `refine` and the seams; None to go without. Its name or
            path is loaded on first use.

    Attributes:
        size: Side S of the canonical crop in pixels.
        layout: The canonical crop layout at that size.
        weights: The manifest row of the weights: name, sha256, licence.

    Example:
        >>> from maskfix.restore import create_network
        >>> blind = Deoccluder(create_network("cadf_small_128"), device="cpu")
        >>> result = blind.complete(np.zeros((2, 128, 128, 3), np.uint8))
        >>> result.images.shape, result.coverage.shape
        ((2, 128, 128, 3), (2,))
    """

    def __init__(
        self,
        network: CompletionNetwork,
        weights: WeightsRow | None = None,
        device: str = "auto",
        batch_size: int | None = None,
        early: EarlyLook | None = None,
        reader: LandmarkReader | str | Path | None = None,
    ) -> None:
        if batch_size is not None and not (isinstance(batch_size, int) and batch_size >= 1):
            raise InputError(f"batch_size: expected a whole number, at least 1, got {batch_size!r}")
        self.device = torch.device(resolve_device(device))
        self.weights = weights
        self.batch_size = batch_size or (8 if self.device.type == "cpu" else 32)
        self.size = network.config.size
        self.layout = canonical_layout(self.size)
        self._runner = NetworkRunner(network, self.device, self.batch_size, early)
        self._reader = reader

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "cadf_small_128",
        device: str = "auto",
        batch_size: int | None = None,
        reader: LandmarkReader | str | Path | None = "landmarks_128",
    ) -> Deoccluder:
        """Load released weights by name, or a `.safetensors` file by path; the hash is always checked.

        Args:
            name: `arch` or `arch.tag` from the weights' manifest, or a path.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            batch_size: Crops that go through the network at once; None as in the class.
            reader: As in the class.

        Raises:
            WeightsError: If the weights are unknown, missing, have a wrong hash or do not fit their network.
            InputError: If the device is not there.
        """
        state, row = load_weights(name)
        if row.arch not in list_networks():
            raise WeightsError(f"{name}: made for network {row.arch!r}; known: {', '.join(list_networks())}")
        # Nothing is drawn at random on the way: that would move the user's generator.
        with torch.device("meta"):
            network = create_network(row.arch)
        try:
            own, early = split_early_look(state, network.config)
            load_narrower(network, own)
        except RuntimeError as error:
            raise WeightsError(f"{name}: does not fit network {row.arch}; fetch the release again") from error
        return cls(network.float(), row, device, batch_size, early, reader)

    @property
    def reader(self) -> LandmarkReader | None:
        """What reads the landmarks of hidden faces, loaded now if it is not yet; None where there is none.

        Raises:
            WeightsError: If its weights are missing or damaged.
        """
        # Two threads may both load it on first use; either's will do.
        if self._reader is not None and not isinstance(self._reader, LandmarkReader):
            self._reader = LandmarkReader.from_pretrained(self._reader, str(self.device))
        return self._reader

    @property
    def clean_coverage(self) -> float | None:
        """Coverage up to which a face counts as clean to the early look, in [0, 1]; None without an early look."""
        return None if self._runner.early is None else CLEAN_COVERAGE

    def complete(self, crops: UInt8Array, composed: bool = True) -> Completion:
        """Complete crops in the canonical layout.

        Args:
            crops: `(N, S, S, 3)` uint8 RGB, S = `size`, five points where `layout` has them; N may be 0.
            composed: Whether `images` are completed crops, in which pixels that the network takes for visible are those
                of the input, to the bit. Otherwise they are the network's own pictures, visible pixels included, as
                they are wanted to judge the network.

        Returns:
            The completed crops, and what else the network made of them.

        Raises:
            InputError: If type, shape or size differ.
        """
        completion, own = self._runner.complete(crops)
        return completion if composed else completion._replace(images=own)

    def complete_unless_clean(self, crops: UInt8Array, recut: Recut | None = None) -> tuple[Completion, BoolArray]:
        """Complete crops, save those that the early look takes for surely clean: these cost the encoder alone.

        Of a face that is surely clean, `images` are the input; `occlusion` is the early look's own map, a cell for
        every 16 pixels, enlarged; `coverage` the mean of its cells, an estimate below `clean_coverage`; `alpha` is 0,
        since nothing is taken from the network; `uv`, which only the decoder knows, is NaN. All others are completed as
        by `complete`. Without an early look, all are.

        Args:
            crops: As `complete`.
            recut: Cuts the crops that are not surely clean anew before they are completed; called once, or not at all
                where there are none.

        Returns:
            What the network made of the crops, and which were surely clean, `(N,)` bool.

        Raises:
            InputError: If type, shape or size differ.
        """
        if self._runner.early is None:
            every = np.ones(len(crops), np.bool_)
            return self.complete(crops if recut is None or not len(crops) else recut(every)), ~every
        if recut is None:
            return self._runner.complete_unless_clean(crops)
        seen, clean = self._runner.look(crops)
        if not clean.all():
            seen.put(~clean, self.complete(recut(~clean)))
        return seen, clean

    def look_early(self, crops: UInt8Array) -> tuple[Completion, BoolArray]:
        """What the early look sees of crops, at the cost of the encoder.

        Args:
            crops: As `complete`.

        Returns:
            What `complete_unless_clean` says of a clean face, for every crop; and which surely are, `(N,)` bool.

        Raises:
            InputError: If type, shape or size differ, or the network has no early look (`clean_coverage` is None).
        """
        return self._runner.look(crops)

    def fit(self, crops: Any, y: Any = None) -> Self:
        """Nothing is learned, and both are ignored: `transform` makes a Deoccluder a step of scikit-learn's pipelines.

        Returns:
            Self. For parameters and modes, see `maskfix.plugin.sklearn.DeoccluderTransformer`.
        """
        return self

    def transform(self, crops: UInt8Array) -> UInt8Array:
        """The completed crops, `complete(crops).images`; of many, the maps of some only are held at a time.

        Args:
            crops: `(N, S, S, 3)` uint8 RGB.

        Raises:
            InputError: If type, shape or size differ.
        """
        check_crops("crops", crops, self.size)
        return np.concatenate([self.complete(crops[i : i + 64]).images for i in range(0, max(len(crops), 1), 64)])

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks of a step: pictures come in and go out, and nothing needs to be fitted."""
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        kept, pictures = TransformerTags(preserves_dtype=["uint8"]), InputTags(two_d_array=False)
        return Tags(None, TargetTags(required=False), kept, requires_fit=False, input_tags=pictures)

    def restore(self, photo: UInt8Array, landmarks: NDArray[Any]) -> UInt8Array:
        """Complete one face inside its photograph; only occluded pixels change.

        What lies outside the canonical crop (about one and a half eye distances around the nose) stays as it is.

        Args:
            photo: `(H, W, 3)` uint8 RGB.
            landmarks: `(5, 2)` ArcFace points in pixels of the photo.

        Returns:
            A new photo of the same size.

        Raises:
            InputError: If the photo or the landmarks have a wrong shape, or no face can stand where they say.
        """
        check_photo("photo", photo)
        check_five("landmarks", landmarks, photo)
        return self.restore_batch([photo], np.asarray(landmarks)[None])[0][0]

    def restore_batch(
        self, photos: Sequence[UInt8Array], landmarks: NDArray[Any]
    ) -> tuple[list[UInt8Array], Completion]:
        """Complete one face in each of several photographs.

        Args:
            photos: N pictures `(H, W, 3)` uint8 RGB, of any sizes.
            landmarks: `(N, 5, 2)` ArcFace points in pixels of each photo.

        Returns:
            N new photos, and what the network made of the canonical crops.

        Raises:
            InputError: If a photo or the landmarks have a wrong shape.
        """
        crops = self.cut(photos, landmarks)
        matrices = fit_layout(landmarks, self.layout)
        completion, own = self._runner.complete(crops)
        weights = blend_weight(torch.from_numpy(completion.occlusion)[:, None])[:, 0].numpy()
        # The network's own picture is pasted: the completed crop is blended already, and would be so twice.
        restored = [
            paste(photo, image, matrix, weight)
            for photo, image, matrix, weight in zip(photos, own, matrices, weights, strict=True)
        ]
        return restored, completion

    def refine(
        self,
        photos: Sequence[UInt8Array],
        landmarks: NDArray[Any],
        find: Find | None = None,
        threshold: float = CLEAN_COVERAGE,
    ) -> FloatArray:
        """Better landmarks of occluded faces; give them to `restore_batch` and to your recogniser.

        A detector guesses nose and mouth under a mask, and misses them by an eighth of the eye distance (MTCNN and
        MediaPipe, held-out faces); the crop is cut askew then, which costs a recogniser nearly as much as what the
        mask hides. So the landmarks are read anew by `reader`, which has seen masks; and with `find`, the detector is
        asked again about the completed face, on which it sees a nose and a mouth.

        Args:
            photos: N pictures `(H, W, 3)` uint8 RGB, of any sizes.
            landmarks: `(N, 5, 2)` ArcFace points in pixels of each photo.
            find: The detector that found them, see `maskfix.align.find_with`; None not to ask it again.
            threshold: Coverage in [0, 1] above which a face counts as occluded; others keep their points.

        Returns:
            `(N, 5, 2)` float32; the points of faces that are not occluded as they were.

        Raises:
            InputError: If a photo or the landmarks have a wrong shape.
            WeightsError: If the reader's weights are missing or damaged.
        """
        points, suspected = self.reread(photos, landmarks, threshold)
        refined = np.array(landmarks, np.float32)
        rows = np.flatnonzero(suspected)
        restored, completion = self.restore_batch([photos[row] for row in rows], points[rows])
        occluded = completion.coverage > threshold
        chosen = rows[occluded]
        refined[chosen] = points[chosen]
        if find is not None:
            refined[chosen] = find_again([restored[i] for i in np.flatnonzero(occluded)], refined[chosen], find)
        return refined

    def reread(
        self, photos: Sequence[UInt8Array], landmarks: NDArray[Any], threshold: float = CLEAN_COVERAGE
    ) -> tuple[FloatArray, BoolArray]:
        """Landmarks read anew by `reader`, of all faces that the early look does not take for surely clean.

        What is not surely clean may still be: look at the coverage before you use a point that has moved.

        Args:
            photos: N pictures `(H, W, 3)` uint8 RGB, of any sizes.
            landmarks: `(N, 5, 2)` ArcFace points in pixels of each photo.
            threshold: Coverage in [0, 1] above which a face will count as occluded; below `clean_coverage` the early
                look is not asked.

        Returns:
            Points `(N, 5, 2)` float32, the old ones where there is no reader, and which faces are not surely clean,
            `(N,)` bool.

        Raises:
            InputError: If a photo or the landmarks have a wrong shape.
            WeightsError: If the reader's weights are missing or damaged.
        """
        suspected, crops = np.ones(len(photos), np.bool_), self.cut(photos, landmarks)
        if self.clean_coverage is not None and threshold >= self.clean_coverage:
            suspected = ~self.look_early(crops)[1]
        points, reader, rows = np.array(landmarks, np.float32), self.reader, np.flatnonzero(suspected)
        if reader is not None and len(rows):
            points[rows] = reader.correct([photos[row] for row in rows], points[rows])
        return points, suspected

    def find_hidden(self, photo: UInt8Array, guess: Find, find: Find, known: NDArray[Any] | None = None) -> FloatArray:
        """Faces that a detector misses for what hides them.

        Where it may see faces, by thresholds that would not do by themselves, the landmarks are read anew and the face
        is completed; it is one if the detector, at its own thresholds, sees it there then. Of 63 held-out masked faces
        that MTCNN misses 51 are found so, and on 297 portraits whose face was painted over one that is none.

        Args:
            photo: `(H, W, 3)` uint8 RGB.
            guess: Where faces may be, the surest first, see `maskfix.align.Guesser`; the first `GUESSES` are tried.
            find: The detector, see `maskfix.align.find_with`.
            known: `(K, 5, 2)` faces of the photo that are found already: guesses of these are left out.

        Returns:
            `(M, 5, 2)` float32, the surest first, by `find` on the completion; M may be 0.

        Raises:
            InputError: If the photo, or what `guess` or `find` give, has a wrong shape.
            WeightsError: If the reader's weights are missing or damaged.
        """
        check_photo("photo", photo)
        points = np.asarray(guess(photo), np.float32)
        check_shape("guess", points, (None, 5, 2))
        if known is not None:
            points = points[~known_faces(known, points)[1]]
        points = points[:GUESSES]
        if self.reader is not None:
            points = self.reader.correct([photo] * len(points), points)
        restored, completion = self.restore_batch([photo] * len(points), points)
        faces = np.zeros((0, 5, 2), np.float32)
        for row in np.flatnonzero(completion.coverage > CLEAN_COVERAGE):
            face, seen = known_faces(find(restored[row]), points[row : row + 1])
            # Two guesses may be of one face.
            if seen.all() and not known_faces(faces, face)[1].any():
                faces = np.concatenate([faces, face])
        return faces

    def cut(self, photos: Sequence[UInt8Array], landmarks: NDArray[Any]) -> UInt8Array:
        """The canonical crop of one face in each of several photographs, as `complete` takes them.

        Args:
            photos: N pictures `(H, W, 3)` uint8 RGB, of any sizes.
            landmarks: `(N, 5, 2)` ArcFace points in pixels of each photo.

        Returns:
            `(N, S, S, 3)` uint8 RGB.

        Raises:
            InputError: If a photo or the landmarks have a wrong shape.
        """
        check_shape("landmarks", landmarks, (len(photos), 5, 2))
        for photo in photos:
            check_photo("photo", photo)
        crops = [align(photo, five, self.layout)[0] for photo, five in zip(photos, landmarks, strict=True)]
        return np.array(crops, np.uint8).reshape(-1, self.size, self.size, 3)
