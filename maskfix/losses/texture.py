"""Texture terms of the objective (paper eq. 14) and the seam of the frozen network behind them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from maskfix.base import InputError
from maskfix.losses.identity import identity_cosine_loss, identity_loss
from maskfix.losses.info_nce import info_nce
from maskfix.losses.perceptual import perceptual_loss
from maskfix.losses.precision import widen
from maskfix.losses.scales import area_average, enlarge, mean_of, select_scales, size_of
from maskfix.losses.style import style_loss
from maskfix.losses.weights import ObjectiveWeights


class TextureNetwork(Protocol):
    """A frozen network that gives the embedding of eq. 12 and the feature maps of eq. 11 in one pass.

    It must be in evaluation mode with its parameters frozen; gradients run through it to the pictures.
    """

    def __call__(self, images: Tensor, /) -> tuple[Tensor, Sequence[Tensor]]:
        """Embed pictures.

        Args:
            images: `(N, 3, H, W)` RGB in [0, 1] in the canonical crop; the network resizes to what it needs.

        Returns:
            Embedding `(N, D)` and a list of maps `(N, C, h, w)`, which may be empty where no style term is used.
        """
        ...


class TextureTarget(NamedTuple):
    """What the texture network makes of the clean pictures; give it where it is known, so that it is not made anew.

    Attributes:
        embedding: `(N, D)` of the clean picture at the finest size, the truth at every scale; None if not known.
        maps: One list of maps per texture scale, in the order of `texture_scales`; None if not known.
        strangers: `(K, D)` embeddings of other clean pictures, of unit length, for the contrast term.
        own: `(N, K)` bool, which of them are of the picture's own face, and so no strangers to it; None if none is.
    """

    embedding: Tensor | None = None
    maps: Sequence[Sequence[Tensor]] | None = None
    strangers: Tensor | None = None
    own: Tensor | None = None


def texture_target_of(
    image: Tensor,
    sizes: Sequence[tuple[int, int]],
    texture: TextureNetwork,
    compose: Callable[[Tensor], Tensor] | None = None,
) -> TextureTarget:
    """What a texture network makes of clean pictures, without gradient; precompute it where pictures come again.

    Args:
        image: `(N, 3, H, W)` in [0, 1], the clean pictures.
        sizes: (height, width) of the completion at each texture scale.
        texture: The frozen network.
        compose: What the completion is composed by before the network sees it: the coarse picture stands for one.

    Returns:
        The embedding of the picture itself, and maps of the picture at each of the sizes.
    """
    full = size_of(image)

    def coarse(size: tuple[int, int]) -> Tensor:
        shown = enlarge(area_average(image, size), full)
        return shown if compose is None else compose(shown)

    with torch.no_grad():
        embedding, own = texture(image)
        maps = [own if size == full else texture(coarse(size))[1] for size in sizes]
    return TextureTarget(embedding, maps)


def texture_terms(
    images: Sequence[Tensor],
    target: Tensor,
    weights: ObjectiveWeights,
    texture: TextureNetwork,
    known: TextureTarget,
    compose: Callable[[Tensor], Tensor] | None,
    view: Callable[[Tensor], Tensor] | None,
) -> dict[str, Tensor]:
    """Terms of eq. 14, unweighted means over the scales Q; only those with a weight."""
    if not _needs_maps(weights) and not _needs_embedding(weights):
        return {}
    rows = slice(weights.texture_samples)
    chosen = [image[rows] for image in select_scales("images", images, weights.texture_scales)]
    sizes = [size_of(image) for image in chosen]
    known = _complete_target(target[rows], sizes, weights, texture, _first(known, rows), compose)
    shown = [enlarge(image, size_of(target)) for image in chosen]
    if compose is not None:
        shown = [compose(image) for image in shown]
    embeddings, maps = _run_texture(shown, weights, texture, view)
    terms = {}
    if _needs_maps(weights):
        pairs = list(zip(maps, _present("maps", known.maps, len(maps)), strict=True))
        for name, compare_maps in (("style", style_loss), ("perceptual", perceptual_loss)):
            if getattr(weights, name) > 0:
                terms[name] = mean_of([compare_maps(ours, theirs) for ours, theirs in pairs])
    if weights.identity > 0 and known.embedding is not None:
        compare = identity_loss if weights.identity_form == "l2" else identity_cosine_loss
        terms["identity"] = mean_of([compare(embedding, known.embedding) for embedding in embeddings])
    if weights.contrast > 0 and known.embedding is not None:
        if known.strangers is None:
            raise InputError("texture target strangers: the contrast term needs them, got none")
        truth = functional.normalize(widen(known.embedding), dim=1)
        found = [functional.normalize(widen(embedding), dim=1) for embedding in embeddings]
        each = [info_nce(one, truth, known.strangers, weights.contrast_temperature, known.own) for one in found]
        terms["contrast"] = mean_of(each)
    return terms


def _needs_embedding(weights: ObjectiveWeights) -> bool:
    """Whether a term compares embeddings."""
    return weights.identity > 0 or weights.contrast > 0


def _needs_maps(weights: ObjectiveWeights) -> bool:
    """Whether a term compares feature maps."""
    return weights.style > 0 or weights.perceptual > 0


def _run_texture(
    images: Sequence[Tensor],
    weights: ObjectiveWeights,
    texture: TextureNetwork,
    view: Callable[[Tensor], Tensor] | None,
) -> tuple[list[Tensor], list[Sequence[Tensor]]]:
    """Embeddings (of views, where asked for) and maps (of the pictures themselves) of each scale's completion."""
    embeddings: list[Tensor] = []
    maps: list[Sequence[Tensor]] = []
    for image in images:
        if view is None:
            embedding, features = texture(image)
            embeddings.append(embedding)
            maps.append(features)
            continue
        if _needs_embedding(weights):
            embeddings.append(texture(view(image))[0])
        if _needs_maps(weights):
            maps.append(texture(image)[1])
    return embeddings, maps


def _complete_target(
    target: Tensor,
    sizes: Sequence[tuple[int, int]],
    weights: ObjectiveWeights,
    texture: TextureNetwork,
    known: TextureTarget,
    compose: Callable[[Tensor], Tensor] | None,
) -> TextureTarget:
    """Fill in what the terms need and `known` lacks; the network runs only for that."""
    lacks_maps = _needs_maps(weights) and known.maps is None
    lacks_embedding = _needs_embedding(weights) and known.embedding is None
    if not lacks_maps and not lacks_embedding:
        return known
    made = texture_target_of(target, sizes if lacks_maps else (), texture, compose)
    return TextureTarget(
        made.embedding if lacks_embedding else known.embedding,
        made.maps if lacks_maps else known.maps,
        known.strangers,
        known.own,
    )


def _first(known: TextureTarget, rows: slice) -> TextureTarget:
    """The chosen rows of what is known of the target."""
    embedding = None if known.embedding is None else known.embedding[rows]
    maps = None if known.maps is None else [[layer[rows] for layer in scale] for scale in known.maps]
    return TextureTarget(embedding, maps, known.strangers, None if known.own is None else known.own[rows])


def _present(name: str, values: Sequence[Sequence[Tensor]] | None, count: int) -> Sequence[Sequence[Tensor]]:
    """`values`, which must hold one entry per texture scale."""
    if values is None or len(values) != count:
        raise InputError(
            f"texture target {name}: expected one list per texture scale ({count}), got {len(values or ())}"
        )
    return values
