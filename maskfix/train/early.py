"""Fits the early look: a logistic probe on the encoder's deep maps learns where the whole network sees occlusions.

No label is needed but the network's own occlusion map, so any network can be given an early look, whatever it was
trained on. What the probe is shown has to be more varied than what the network was trained with: masks that slipped,
cloth of any colour, things of any shape and colour before the face, faces at the edge of their photograph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from maskfix.base import InputError, UInt8Array
from maskfix.restore import CompletionNetwork
from maskfix.restore.early import CLEAN_COVERAGE, EarlyLook, deep_maps
from maskfix.train.obstacles import cut_off, put_behind, slip_mask
from maskfix.train.views import OccludedViews

PICTURES = 4800
"""Pictures that an early look is fitted to."""

_CLEAN, _MASKED, _CUT = 0.40, 0.75, 0.80
_MARGIN = 0.5
_PENALTY = 0.1
_BATCH = 16
_CELLS = 8


def draw_picture(views: OccludedViews, index: int, other: int, generator: Generator) -> UInt8Array:
    """A face as an early look may meet it: clean, masked, behind something else, or at the edge of its photograph.

    Args:
        views: Where faces and masks come from.
        index: The face.
        other: Another face, of whose picture things before the face are cut.
        generator: Where the draws come from.

    Returns:
        `(S, S, 3)` uint8 RGB.
    """
    face, draw = views.face(index, generator), generator.random()
    if draw < _CLEAN:
        return face.trimmed
    if draw < _MASKED:
        return views.occlude(slip_mask(face, generator), generator).picture
    if draw < _CUT:
        return cut_off(face.trimmed, generator)
    return put_behind(face.trimmed, np.asarray(views.store.crops[other]), generator)


class Lessons(NamedTuple):
    """What the whole network made of pictures.

    Attributes:
        maps: The encoder's deep maps, `(N, C, h, w)` float32.
        occlusion: Occluded share of each cell, `(N, h, w)` float32 in [0, 1].
        coverage: Occluded share of the picture, `(N,)` float32.
    """

    maps: Tensor
    occlusion: Tensor
    coverage: Tensor


# No `inference_mode`: a probe is fitted to these maps, and autograd takes no inference tensors.
@torch.no_grad()
def learn(network: CompletionNetwork, pictures: UInt8Array) -> Lessons:
    """Send pictures `(N, S, S, 3)` uint8 through the whole network."""
    device = next(network.parameters()).device
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for start in range(0, len(pictures), _BATCH):
        batch = torch.from_numpy(pictures[start : start + _BATCH]).to(device).permute(0, 3, 1, 2).float() / 255
        features = network.encoder(batch)
        occluded = (network.decoder(batch, features, False).occlusion > 0).float()
        maps = deep_maps(features)
        cells = functional.adaptive_avg_pool2d(occluded, maps.shape[-1])[:, 0]
        parts.append((maps.cpu(), cells.cpu(), occluded.mean((1, 2, 3)).cpu()))
    return Lessons(*(torch.cat(column) for column in zip(*parts, strict=True)))


class EarlyLookFigures(NamedTuple):
    """How an early look decides on faces that it was not fitted to.

    Attributes:
        limit: Estimated coverage below which it calls a face clean.
        pictures: Pictures that were asked about.
        passed: Share of the pictures clean by the whole network that it calls clean, in [0, 1].
        lowest: Lowest estimate among those occluded by the whole network (coverage above `CLEAN_COVERAGE`).
    """

    limit: float
    pictures: int
    passed: float
    lowest: float


def fit_early_look(
    network: CompletionNetwork,
    views: OccludedViews,
    training: NDArray[np.int64],
    held_out: NDArray[np.int64],
    pictures: int = PICTURES,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[EarlyLook, EarlyLookFigures]:
    """Fit an early look to a network, and set its limit by faces that neither has learnt from.

    The limit is half the lowest estimate among the held-out pictures of which the whole network finds more than
    `CLEAN_COVERAGE` occluded, at most half of that: none of them passes, by a factor of two. A picture with less on it
    has no say: a gate that goes by the early look passes it either way, and the lowest estimate would be its.

    Args:
        network: The network, in evaluation mode.
        views: Where faces and masks come from, see `early_views`.
        training: Faces to fit the probe to.
        held_out: Faces to set the limit by; a third as many pictures are drawn of them.
        pictures: Pictures to fit to.
        seed: Seed of every draw.
        progress: Told how many of how many pictures are done.

    Raises:
        InputError: If there are no faces, or no picture is occluded by the network's judgement.
    """
    if not len(training) or not len(held_out):
        raise InputError("early look: no faces to fit to, or none held out to set the limit by")
    counts = (pictures, max(1, pictures // 3))

    def learnt(part: int, faces: NDArray[np.int64]) -> Iterator[Lessons]:
        for done, chunk in _learnt(network, views, faces, counts[part], np.random.default_rng([seed, part])):
            progress(done + part * pictures, sum(counts))
            yield chunk

    early = EarlyLook(network.config)
    _fit_probe(early, [_thin(chunk, number) for number, chunk in enumerate(learnt(0, training))])
    return early, _set_limit(early, learnt(1, held_out))


def _learnt(
    network: CompletionNetwork, views: OccludedViews, faces: NDArray[np.int64], count: int, generator: Generator
) -> Iterator[tuple[int, Lessons]]:
    """What the network makes of pictures drawn of some faces, batch by batch, with the number done."""
    for start in range(0, count, _BATCH):
        pairs = generator.choice(faces, (min(_BATCH, count - start), 2))
        batch = np.stack([draw_picture(views, int(face), int(other), generator) for face, other in pairs])
        yield start + len(batch), learn(network, batch)


def _thin(lessons: Lessons, number: int) -> Lessons:
    """Of maps finer than `_CELLS` every second (third, ...) cell, starting elsewhere in every chunk: 3.1 GB at most."""
    step = max(1, lessons.maps.shape[-1] // _CELLS)
    down, right = divmod(number % step**2, step)
    maps, occlusion = (part[..., down::step, right::step].contiguous() for part in lessons[:2])
    return Lessons(maps, occlusion, lessons.coverage)


def _fit_probe(early: EarlyLook, lessons: Sequence[Lessons]) -> None:
    """Logistic regression of the cells' occluded shares on their maps, with a quadratic penalty, by L-BFGS.

    The lessons are read where they lie, chunk by chunk: they are too large to be copied.
    """
    if not any(bool((chunk.coverage > CLEAN_COVERAGE).any()) for chunk in lessons):
        raise InputError("early look: the network finds nothing occluded; train it first")
    cells = sum(chunk.occlusion.numel() for chunk in lessons)
    # Cells of all channels in one unit, so that one penalty suits all; a channel that never fires weighs nothing.
    squares = torch.stack([torch.einsum("nchw,nchw->c", chunk.maps, chunk.maps) for chunk in lessons])
    scale = (squares.sum(0) / cells).sqrt()
    unit = torch.where(scale > 1e-6, 1 / scale.clamp_min(1e-6), 0.0)
    weight, bias = (torch.zeros(size, requires_grad=True) for size in (len(unit), 1))
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=150, history_size=20, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = _PENALTY * weight.square().mean()
        value.backward()  # type: ignore[no-untyped-call]
        for chunk in lessons:
            logits = torch.einsum("nchw,c->nhw", chunk.maps, unit * weight) + bias
            part = functional.binary_cross_entropy_with_logits(logits, chunk.occlusion, reduction="sum") / cells
            part.backward()  # type: ignore[no-untyped-call]
            value = value + part.detach()
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    # Rounded as the weights file will, so that the limit is set for what is released.
    early.weight.copy_((unit * weight).detach().half())
    early.bias.copy_(bias.detach()[0].half())


@torch.no_grad()
def _set_limit(early: EarlyLook, lessons: Iterable[Lessons]) -> EarlyLookFigures:
    """Set the limit by the lowest estimate among occluded pictures."""
    # Of a chunk its estimates alone are kept.
    told = [(estimate(early, chunk.maps), chunk.coverage) for chunk in lessons]
    estimates, coverage = (torch.cat(column) for column in zip(*told, strict=True))
    occluded = coverage > CLEAN_COVERAGE
    if not bool(occluded.any()):
        raise InputError("early look: no held-out picture is occluded; hold out more faces")
    lowest = float(estimates[occluded].min())
    early.limit.fill_(_MARGIN * min(lowest, CLEAN_COVERAGE)).copy_(early.limit.half())
    passed = estimates[~occluded] < early.limit
    return EarlyLookFigures(float(early.limit), len(estimates), float(passed.float().mean()), lowest)


def estimate(early: EarlyLook, maps: Tensor) -> Tensor:
    """Estimated coverage `(N,)` from the deep maps of `Lessons`."""
    logits = torch.einsum("nchw,c->nhw", maps, early.weight) + early.bias
    return torch.sigmoid(logits).mean((1, 2))
