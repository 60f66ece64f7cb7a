"""Sizes of the completion networks."""

from __future__ import annotations

from dataclasses import dataclass

from maskfix.base import InputError

SCALES = 6
"""Decoder scales with a fusion module and a correspondence head: the last six (paper, section 3.4: P = {1..6})."""


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes that the paper leaves open; the base networks take them from DFNet.

    Attributes:
        size: Side of the input in pixels, a multiple of 2 ** len(widths).
        widths: Channels of the encoder's levels, each half the size of the one before.
        kernels: Side of each level's strided kernel.
        refine: Whether a second 3x3 convolution follows at each encoder level.
        full_width: Channels of the decoder at full size.
        fusion_width: Channels inside the fusion module's transformation A (eq. 7).
        reduction: r of the channel attention (eq. 4).
        projection: Length of the Siamese representation (stage 1).
        refined: Decoder levels (0 is full size) that a second convolution follows: the sizes at which features of a
            face take shape, where one convolution a level draws blocks.
        attended: Decoder levels that self-attention follows, before the refinement: what the visible part of a face
            says of the hidden part has half a picture to cross.
        encoder_expansions: How many `Expansion` blocks follow each level of the encoder, the finest (1/2 of the size)
            first; none where left empty.
        decoder_expansions: How many follow each level of the decoder, full size first, after attention and refinement.
        fusion: Whether dual attention fusion makes the pictures; without it, a plain head does (for ablations).
    """

    size: int
    widths: tuple[int, ...]
    kernels: tuple[int, ...]
    refine: bool = False
    full_width: int = 32
    fusion_width: int = 32
    reduction: int = 16
    projection: int = 128
    refined: tuple[int, ...] = ()
    attended: tuple[int, ...] = ()
    encoder_expansions: tuple[int, ...] = ()
    decoder_expansions: tuple[int, ...] = ()
    fusion: bool = True

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together.

        Raises:
            InputError: If kernels and widths differ in number, there are fewer levels than scales, the size cannot be
                halved often enough, a refined or attended level is none or named twice, or expansions are counted for
                more levels than there are or below nought.
        """
        levels = len(self.widths)
        if levels != len(self.kernels) or levels < SCALES:
            raise InputError(f"network: expected {SCALES} or more widths and as many kernels, got {levels}")
        if self.size % 2**levels:
            raise InputError(f"network: size {self.size} is no multiple of {2**levels}")
        for name in ("refined", "attended"):
            chosen = getattr(self, name)
            if len(set(chosen)) < len(chosen) or not set(chosen) <= set(range(levels)):
                raise InputError(f"{name}: expected distinct levels from 0 to {levels - 1}, got {chosen}")
        for name in ("encoder_expansions", "decoder_expansions"):
            counts = getattr(self, name)
            if len(counts) > levels or any(count < 0 for count in counts):
                raise InputError(f"{name}: expected counts from 0 on for {levels} levels at most, got {counts}")


CONFIGS: dict[str, NetworkConfig] = {
    "cadf_small_128": NetworkConfig(
        size=128,
        widths=(32, 64, 128, 192, 256, 256),
        kernels=(5, 3, 3, 3, 3, 3),
        refine=True,
        full_width=24,
        fusion_width=12,
        refined=(2, 3, 4),
        attended=(3, 4),
        encoder_expansions=(0, 0, 1),
        decoder_expansions=(0, 1, 2, 2),
    ),
    "cadf_base_128": NetworkConfig(size=128, widths=(64, 128, 256, 512, 512, 512, 512), kernels=(7, 5, 5, 3, 3, 3, 3)),
    "cadf_base_256": NetworkConfig(
        size=256, widths=(64, 128, 256, 512, 512, 512, 512, 512), kernels=(7, 5, 5, 3, 3, 3, 3, 3)
    ),
}
