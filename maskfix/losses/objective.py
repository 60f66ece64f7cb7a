"""The paper's objective over the decoder's scales (eqs. 13 to 15), with the occlusion head's term beside it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from maskfix.base import InputError, check_shape
from maskfix.losses.correspondence import correspondence_loss
from maskfix.losses.occlusion import occlusion_loss
from maskfix.losses.precision import full_precision, widen
from maskfix.losses.reconstruction import reconstruction_loss
from maskfix.losses.scales import area_average, average_visible, mean_of, select_scales, size_of
from maskfix.losses.texture import TextureNetwork, TextureTarget, texture_terms
from maskfix.losses.weights import PAPER_WEIGHTS, ObjectiveWeights


class Outputs(NamedTuple):
    """What the decoder gives at its scales, finest first: index 0 is the paper's scale 1, the outermost layer.

    Attributes:
        images: Completed pictures, each `(N, 3, h, w)` in [0, 1].
        uv: Dense correspondence, each `(N, 2, h, w)` in [0, 1].
        occlusion_logits: `(N, 1, H, W)` at the finest scale.
    """

    images: Sequence[Tensor]
    uv: Sequence[Tensor]
    occlusion_logits: Tensor


class Targets(NamedTuple):
    """The clean truth at the finest size.

    Attributes:
        image: `(N, 3, H, W)` in [0, 1].
        uv: `(N, 2, H, W)` in [0, 1]; ignored outside the face.
        uv_visible: `(N, 1, H, W)` bool or float: where the face is.
        occlusion: `(N, 1, H, W)` bool or float in [0, 1]: opacity of the occluder in the input.
    """

    image: Tensor
    uv: Tensor
    uv_visible: Tensor
    occlusion: Tensor


def completion_objective(
    outputs: Outputs,
    targets: Targets,
    weights: ObjectiveWeights = PAPER_WEIGHTS,
    *,
    texture: TextureNetwork | None = None,
    texture_target: TextureTarget | None = None,
    compose: Callable[[Tensor], Tensor] | None = None,
    view: Callable[[Tensor], Tensor] | None = None,
) -> dict[str, Tensor]:
    """The total objective of the completion network (paper eqs. 13 to 15) and its named terms.

    The target of a coarser scale is the area average of the fine one; (u, v) is averaged over face pixels only. For
    the texture terms a coarse completion is scaled up to the finest size bilinearly; its embedding is compared with
    the clean picture's, its maps with those of the clean picture taken through the same down and up scaling.

    Args:
        outputs: The decoder's predictions, finest first.
        targets: The clean truth at the finest size.
        weights: Weights, scales and options.
        texture: Frozen network behind the texture terms; without one they are left out.
        texture_target: What is known of the network's answer on the clean pictures; what is missing is computed
            without gradient.
        compose: What the texture terms see in place of a completed picture of the finest size, for example one with
            the visible pixels of the input, which a user will see.
        view: A random change of the completed pictures before the identity term (see `random_view`). With style
            or perceptual loss in use it costs a second pass of the network: those see unchanged pictures.

    Returns:
        Scalars: "reconstruction", "correspondence", "style", "perceptual", "identity", "contrast" (each unweighted,
        mean over its scales) and "occlusion" where they take part; "structure" and "texture", the two sums of eq. 15;
        "total", structure + texture + weighted occlusion.

    Raises:
        InputError: If a selected scale is missing, shapes do not fit, or no term is left.
    """
    terms = _structure_terms(outputs, targets, weights)
    if texture is not None:
        known = texture_target or TextureTarget()
        terms |= texture_terms(outputs.images, targets.image, weights, texture, known, compose, view)
    if weights.occlusion > 0:
        terms["occlusion"] = occlusion_loss(outputs.occlusion_logits, targets.occlusion, weights.occlusion_dice)
    if not terms:
        raise InputError("objective: no term is left; give a weight above 0, or a texture network for texture weights")
    zero = next(iter(terms.values())).new_zeros(())
    parts = {
        "structure": _weighted_sum(terms, weights, ("reconstruction", "correspondence"), zero),
        "texture": _weighted_sum(terms, weights, ("style", "perceptual", "identity", "contrast"), zero),
    }
    total = parts["structure"] + parts["texture"] + _weighted_sum(terms, weights, ("occlusion",), zero)
    return {**terms, **parts, "total": total}


def _structure_terms(outputs: Outputs, targets: Targets, weights: ObjectiveWeights) -> dict[str, Tensor]:
    """Terms of eq. 13, unweighted means over the scales P; only those with a weight."""
    terms = {}
    if weights.reconstruction > 0:
        chosen = select_scales("images", outputs.images, weights.structure_scales)
        terms["reconstruction"] = mean_of(
            [_reconstruction(image, targets, weights.occluded_weight) for image in chosen]
        )
    if weights.correspondence > 0:
        chosen = select_scales("uv", outputs.uv, weights.structure_scales)
        check_shape("uv target", targets.uv, (None, 2, None, None))
        fields = [(uv, *average_visible(targets.uv, targets.uv_visible, size_of(uv))) for uv in chosen]
        terms["correspondence"] = mean_of([correspondence_loss(*field) for field in fields])
    return terms


def _reconstruction(image: Tensor, targets: Targets, occluded_weight: float) -> Tensor:
    """Eq. 10 at one scale; pixels under the occluder weigh `occluded_weight`."""
    size = size_of(image)
    with full_precision(image):
        target = area_average(widen(targets.image), size)
        if occluded_weight == 1:
            return reconstruction_loss(image, target)
        weight = 1 + (occluded_weight - 1) * area_average(widen(targets.occlusion), size)
        return reconstruction_loss(image, target, weight)


def _weighted_sum(terms: dict[str, Tensor], weights: ObjectiveWeights, names: Sequence[str], zero: Tensor) -> Tensor:
    """Sum of the named terms that take part, each times its weight."""
    return sum((getattr(weights, name) * terms[name] for name in names if name in terms), start=zero)
