"""A completion network run on crops, batch by batch: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskfix.base import BoolArray, Completion, InputError, UInt8Array, check_crops
from maskfix.restore.blend import blend_weight
from maskfix.restore.decoder import Decoded
from maskfix.restore.early import EarlyLook, EarlySight, unchanged
from maskfix.restore.network import CompletionNetwork


class NetworkRunner:
    """Runs a network in evaluation mode, a bounded number of crops at once.

    Args:
        network: A completion network; it is moved to the device and put into evaluation mode.
        device: Where it runs.
        batch_size: Crops that go through it at once.
        early: Its early look, if it has one.

    Attributes:
        network: The network.
        early: The early look, or None.
        size: Side S of the crops in pixels.

    Example:
        >>> from maskfix.restore import create_network
        >>> runner = NetworkRunner(create_network("cadf_small_128"), torch.device("cpu"), 8)
        >>> completion, own = runner.complete(np.zeros((2, 128, 128, 3), np.uint8))
        >>> completion.coverage.shape, own.shape
        ((2,), (2, 128, 128, 3))
    """

    def __init__(
        self, network: CompletionNetwork, device: torch.device, batch_size: int, early: EarlyLook | None = None
    ) -> None:
        self.size = network.config.size
        self.network = network.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.early = early.eval().to(device) if early is not None else None
        self._device = device
        self._batch_size = batch_size

    @torch.inference_mode()
    def complete(self, crops: UInt8Array) -> tuple[Completion, UInt8Array]:
        """Complete crops; the network's own pictures, visible pixels included, come second.

        Args:
            crops: `(N, S, S, 3)` uint8 RGB; N may be 0.

        Raises:
            InputError: If type, shape or size differ.
        """
        check_crops("crops", crops, self.size)
        chunks = []
        with self._full_precision():
            for part in self._parts(crops):
                source, picture = self._picture(crops[part])
                chunks.append(_compose(source, self.network(picture, every_scale=False)))
        if not chunks:
            return self._nothing(crops), crops.copy()
        return _join([completion for completion, _ in chunks]), np.concatenate([own for _, own in chunks])

    @torch.inference_mode()
    def complete_unless_clean(self, crops: UInt8Array) -> tuple[Completion, BoolArray]:
        """Complete crops that the early look does not call clean, from the maps that it looked at.

        Args:
            crops: As `complete`.

        Returns:
            The completions, of clean crops as `unchanged` has them; and which were clean, `(N,)` bool.

        Raises:
            InputError: If type, shape or size differ, or there is no early look.
        """
        check_crops("crops", crops, self.size)
        clean, chunks = np.zeros(len(crops), np.bool_), []
        with self._full_precision():
            for part in self._parts(crops):
                source, picture = self._picture(crops[part])
                features = self.network.encoder(picture)
                sight = self._look(features)
                clean[part] = seen = _array(sight.clean)
                if not seen.any():
                    decoded = self.network.decoder(picture, features, every_scale=False)
                    chunks.append(_compose(source, decoded)[0])
                    continue
                chunks.append(unchanged(crops[part], sight))
                if not seen.all():
                    rest = torch.from_numpy(~seen).to(self._device)
                    decoded = self.network.decoder(
                        picture[rest], [level[rest] for level in features], every_scale=False
                    )
                    chunks[-1].put(~seen, _compose(source[rest], decoded)[0])
        return _join(chunks) if chunks else self._nothing(crops), clean

    @torch.inference_mode()
    def look(self, crops: UInt8Array) -> tuple[Completion, BoolArray]:
        """What the early look sees, at the cost of the encoder.

        Args:
            crops: As `complete`.

        Returns:
            Every crop's completion as if it were clean, see `unchanged`; and which surely are, `(N,)` bool.

        Raises:
            InputError: If type, shape or size differ, or there is no early look.
        """
        check_crops("crops", crops, self.size)
        clean, chunks = np.zeros(len(crops), np.bool_), []
        with self._full_precision():
            for part in self._parts(crops):
                sight = self._look(self.network.encoder(self._picture(crops[part])[1]))
                clean[part] = _array(sight.clean)
                chunks.append(unchanged(crops[part], sight))
        return _join(chunks) if chunks else self._nothing(crops), clean

    def _look(self, features: list[Tensor]) -> EarlySight:
        """The early look at the encoder's maps."""
        if self.early is None:
            raise InputError("look: these weights have no early look; ask Deoccluder.clean_coverage first")
        sight: EarlySight = self.early(features)
        return sight

    def _full_precision(self) -> torch.autocast:
        """A context in which the caller's autocast is off: what is decided and given is the same inside of it."""
        return torch.autocast(self._device.type, enabled=False)

    def _parts(self, crops: UInt8Array) -> list[slice]:
        return [slice(start, start + self._batch_size) for start in range(0, len(crops), self._batch_size)]

    def _nothing(self, crops: UInt8Array) -> Completion:
        """The completion of no crop."""
        empty = np.zeros((0, self.size, self.size), np.float32)
        return Completion(crops.copy(), empty, empty[:, 0, 0], empty, np.zeros((*empty.shape, 2), np.float32))

    def _picture(self, crops: UInt8Array) -> tuple[Tensor, Tensor]:
        """Crops as the network takes them, `(N, 3, S, S)`: in 0..255 and in [0, 1]."""
        # Copied: torch warns of arrays that cannot be written to, and takes none whose strides run backwards.
        source = torch.from_numpy(np.array(crops, order="C")).to(self._device).permute(0, 3, 1, 2)
        return source, source.float() / 255


def _compose(source: Tensor, decoded: Decoded) -> tuple[Completion, UInt8Array]:
    """What was decoded as arrays: the completion, and the network's own pictures."""
    occlusion = torch.sigmoid(decoded.occlusion.float())
    weight = blend_weight(occlusion)
    restored = (decoded.images[0].float() * 255).clamp(0, 255)
    images = torch.lerp(source.float(), restored, weight).round().to(torch.uint8)
    completion = Completion(
        images=_array(images.permute(0, 2, 3, 1)),
        occlusion=_array(occlusion[:, 0]),
        coverage=_array((occlusion[:, 0] > 0.5).float().mean((1, 2))),
        alpha=_array(decoded.alphas[0].float().mean(1)),
        uv=_array(decoded.uvs[0].float().permute(0, 2, 3, 1)),
    )
    return completion, _array(restored.round().to(torch.uint8).permute(0, 2, 3, 1))


def _join(parts: Sequence[Completion]) -> Completion:
    """The completions of batches as one."""
    return parts[0] if len(parts) == 1 else Completion(*map(np.concatenate, zip(*parts, strict=True)))


def _array(tensor: Tensor) -> Any:
    """A contiguous NumPy array of a tensor."""
    return np.ascontiguousarray(tensor.cpu().numpy())
