"""Where the five points of a hidden face really are: read off its crop, from a detector's guess."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskfix.align.similarity import fit_layout, invert_affine, warp
from maskfix.base import (
    FloatArray,
    InputError,
    UInt8Array,
    WeightsError,
    canonical_layout,
    check_crops,
    check_photo,
    check_shape,
    resolve_device,
)
from maskfix.weights import WeightsRow, load_weights

if TYPE_CHECKING:
    from maskfix.align.landmark_network import LandmarkNetwork

READING_ROUNDS = 2
"""How often a photograph is cut anew and looked at again: of a face that was far off, the first crop shows a part."""

_BATCH = 64


class LandmarkReader:
    """Reads landmarks off crops of hidden faces; a detector only has to say roughly where a face is.

    Its points are those by which the face is cut out: eyes, nose and mouth of an average face, turned, scaled and
    shifted to where this one lies. How a face differs from the average they do not tell.

    Args:
        network: A landmark network; it is put into evaluation mode.
        weights: Where its weights come from.
        device: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`.

    Attributes:
        size: Side S of the crops in pixels.
        layout: The canonical crop layout at that size.
        weights: The manifest row of the weights.

    Example:
        >>> from maskfix.align.landmark_network import create_landmark_network
        >>> reader = LandmarkReader(create_landmark_network(), device="cpu")
        >>> reader.read(np.zeros((2, 128, 128, 3), np.uint8)).shape
        (2, 5, 2)
    """

    def __init__(self, network: LandmarkNetwork, weights: WeightsRow | None = None, device: str = "auto") -> None:
        import torch

        self.size = network.size
        self.layout = canonical_layout(self.size)
        self.weights = weights
        self.device = torch.device(resolve_device(device))
        self._network = network.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def from_pretrained(cls, name: str | Path = "landmarks_128", device: str = "auto") -> LandmarkReader:
        """Load released weights by name, or a `.safetensors` file by path; the hash is always checked.

        Args:
            name: `arch` or `arch.tag` from the weights' manifest, or a path.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.

        Raises:
            WeightsError: If the weights are unknown, missing, have a wrong hash or are those of another network.
            InputError: If the device is not there.
        """
        import torch

        from maskfix.align.landmark_network import NETWORKS, create_landmark_network

        state, row = load_weights(name)
        if row.arch not in NETWORKS:
            raise WeightsError(f"{name}: made for network {row.arch!r}; known: {', '.join(NETWORKS)}")
        # Nothing is drawn at random on the way: that would move the user's generator.
        with torch.device("meta"):
            network = create_landmark_network(row.arch)
        try:
            network.load_state_dict(state, assign=True)
        except RuntimeError as error:
            raise WeightsError(f"{name}: does not fit network {row.arch}; fetch the release again") from error
        return cls(network.float(), row, device)

    def read(self, crops: UInt8Array) -> FloatArray:
        """Landmarks of faces in crops.

        Args:
            crops: `(N, S, S, 3)` uint8 RGB, the face roughly where the canonical layout has it; N may be 0.

        Returns:
            `(N, 5, 2)` float32 ArcFace points in pixels of the crops.

        Raises:
            InputError: If type, shape or size differ.
        """
        import torch

        check_crops("crops", crops, self.size)
        found = [np.zeros((0, 5, 2), np.float32)]
        # A caller's autocast would round the points.
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False):
            for start in range(0, len(crops), _BATCH):
                # Copied: torch takes no array whose strides run backwards.
                batch = torch.from_numpy(np.array(crops[start : start + _BATCH], order="C")).to(self.device)
                found.append(self._network(batch.permute(0, 3, 1, 2).float() / 255).cpu().numpy())
        return np.concatenate(found)

    def correct(
        self, photos: Sequence[UInt8Array], landmarks: NDArray[Any], rounds: int = READING_ROUNDS
    ) -> FloatArray:
        """Landmarks of hidden faces in their photographs, from a guess.

        Args:
            photos: N pictures `(H, W, 3)` uint8 RGB, of any sizes.
            landmarks: `(N, 5, 2)` a detector's ArcFace points in pixels of each photo.
            rounds: How often a crop is cut by the points known so far and read.

        Returns:
            `(N, 5, 2)` float32 in pixels of each photo.

        Raises:
            InputError: If a photo or the landmarks have a wrong shape, or `rounds` is less than 1.
        """
        if rounds < 1:
            raise InputError(f"rounds: expected at least 1, got {rounds}")
        check_shape("landmarks", landmarks, (len(photos), 5, 2))
        for photo in photos:
            check_photo("photo", photo)
        points = np.array(landmarks, np.float32)
        for _ in range(rounds if len(photos) else 0):
            matrices = fit_layout(points, self.layout)
            crops = [warp(photo, matrix, self.size) for photo, matrix in zip(photos, matrices, strict=True)]
            points = self.follow(np.stack(crops), points)
        return points

    def follow(self, crops: UInt8Array, landmarks: NDArray[Any]) -> FloatArray:
        """One round of `correct`, where the crops are cut already.

        Args:
            crops: `(N, S, S, 3)` uint8 RGB, cut by `fit_layout(landmarks, layout)`.
            landmarks: `(N, 5, 2)` in pixels of each photo.

        Returns:
            `(N, 5, 2)` float32 in pixels of each photo.

        Raises:
            InputError: If a shape or type differs, or the points of a face coincide.
        """
        check_shape("landmarks", landmarks, (len(crops), 5, 2))
        points = self.read(crops)
        if not len(points):
            return points
        back = invert_affine(fit_layout(landmarks, self.layout))
        return np.asarray(points @ back[:, :, :2].transpose(0, 2, 1) + back[:, None, :, 2], np.float32)
