"""A small set in the community's layout whose pictures are flat colours: what a run over it must give is known.

Gallery templates 1, 2, 3 are red, green and blue. Probe 11 mixes colours in two media, so its feature can be worked out
by hand; 12 and 13 hold the same red picture under two names; 14 holds a gallery picture; 15 shows one picture twice.
Parts are those of `tests.protocols.worlds` (a recogniser that reads the middle's colour, a mask that paints all but the
first row green, a restorer that paints all in the colour of the first row), or a real completing network and a real
ONNX recogniser, both tiny and random (`load_networks`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maskfix.base import Completion, FloatArray, Occluded, UInt8Array, arcface_layout, write_image
from maskfix.weights import WeightsRow
from protocols.ijb import IjbParts, TemplateSet, read_ijb
from tests.protocols.ijb.world import write_lines
from tests.protocols.worlds import SIZE, FirstRowRestorer, FlatDetector, GreenOccluder, MiddleEmbedder, flat

RED, GREEN, BLUE = (200, 0, 0), (0, 200, 0), (0, 0, 200)
PICTURES = {
    "g1.png": RED,
    "g2.png": RED,
    "g3.png": GREEN,
    "g4.png": BLUE,
    "p1.png": RED,
    "p2.png": GREEN,
    "p3.png": BLUE,
    "p4.png": RED,
    "p6.png": BLUE,
}
"""Distinct pictures; p5.png is a copy of p4.png."""

ROWS = (
    ("g1.png", 1, 1, 1.0),
    ("g2.png", 1, 2, 0.9),
    ("g3.png", 2, 3, 1.0),
    ("g4.png", 3, 4, 1.0),
    ("p1.png", 11, 5, 0.5),
    ("p2.png", 11, 5, 1.0),
    ("p3.png", 11, 6, 0.8),
    ("p4.png", 12, 7, 0.7),
    ("p5.png", 13, 8, 0.9),
    ("g3.png", 14, 9, 0.6),
    ("p6.png", 15, 10, 1.0),
    ("p6.png", 15, 10, 1.0),
)
GALLERY, PROBES = (1, 2, 3), {11: 1, 12: 1, 13: 1, 14: 2, 15: 3}
PAIRS = [(gallery, probe) for gallery in GALLERY for probe in PROBES]
WEIGHTS = WeightsRow("flat_16.first_row", "flat_16", "flat.safetensors", "ab" * 32, 1, "CC0", "nothing")


def write_small(root: Path) -> Path:
    """Write the set; returns the folder of its pictures."""
    crops = root / "loose_crop"
    for number, (name, colour) in enumerate(PICTURES.items()):
        picture = flat(colour)
        picture[-1, -1] = (number, 9, 7)
        write_image(crops / name, picture)
    (crops / "p5.png").write_bytes((crops / "p4.png").read_bytes())
    five = " ".join(f"{value:.4f}" for value in arcface_layout(SIZE).array.ravel())
    meta = root / "meta"
    write_lines(meta / "ijbc_face_tid_mid.txt", [f"{image} {template} {media}" for image, template, media, _ in ROWS])
    write_lines(meta / "ijbc_name_5pts_score.txt", [f"{image} {five} {score}" for image, _, _, score in ROWS])
    write_lines(
        meta / "ijbc_template_pair_label.txt",
        [f"{gallery} {probe} {int(PROBES[probe] == gallery)}" for gallery, probe in PAIRS],
    )
    return crops


def read_small(root: Path) -> TemplateSet:
    write_small(root)
    return read_ijb(root)


class CountingOccluder(GreenOccluder):
    """Remembers what it put masks on: the pixel that tells pictures apart."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def occlude(self, photo: UInt8Array, points: FloatArray, kind: str) -> Occluded:
        self.seen.append(tuple(photo[-1, -1].tolist()))
        return super().occlude(photo, points, kind)


class CountingRestorer(FirstRowRestorer):
    """Counts the photographs it is given."""

    def __init__(self) -> None:
        self.seen = 0

    def restore_batch(
        self, photos: Sequence[UInt8Array], landmarks: NDArray[np.float32], /
    ) -> tuple[list[UInt8Array], Completion]:
        self.seen += len(photos)
        return super().restore_batch(photos, landmarks)


def plain_parts(embedder: MiddleEmbedder | None = None) -> IjbParts:
    embedders = [embedder or MiddleEmbedder()]
    return IjbParts(FlatDetector(), CountingOccluder(), CountingRestorer(), WEIGHTS, embedders)


def load_networks(folder: Path, seed: int = 0) -> IjbParts:
    """A real Deoccluder and a real ONNX recogniser, tiny and random, with this project's drawn masks."""
    import torch

    from maskfix.deocclude import Deoccluder
    from maskfix.embed.onnx_network import OnnxEmbedder
    from maskfix.occlude import Occluder
    from maskfix.restore import CompletionNetwork
    from maskfix.restore.config import NetworkConfig
    from tests.embed.onnx_files import write_recogniser

    config = NetworkConfig(size=64, widths=(4, 4, 8, 8, 8, 8), kernels=(3,) * 6, full_width=4, fusion_width=4)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = CompletionNetwork(config)
    with torch.no_grad():
        # Every pixel counts as occluded: the pictures are the network's own.
        network.decoder.occlusion.bias.fill_(9.0)
    path = folder / "tiny.onnx"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_recogniser(path, batch="n")
    weights = WeightsRow("tiny_64.random", "tiny_64", "", f"{seed:064x}", 0)
    embedder = OnnxEmbedder(path, arcface_layout(112), device="cpu")
    return IjbParts(FlatDetector(), Occluder(), Deoccluder(network, device="cpu"), weights, [embedder])


class DyingRestorer(FirstRowRestorer):
    """Kills its process at the first photographs that any process gives it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def restore_batch(
        self, photos: Sequence[UInt8Array], landmarks: NDArray[np.float32], /
    ) -> tuple[list[UInt8Array], Completion]:
        try:
            self.marker.touch(exist_ok=False)
        except FileExistsError:
            return super().restore_batch(photos, landmarks)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("unreachable")


def load_dying(marker: Path) -> IjbParts:
    return IjbParts(FlatDetector(), GreenOccluder(), DyingRestorer(marker), WEIGHTS, [MiddleEmbedder()])
