"""Equations 13 to 15: what the terms are made of, how they add up, and what is left out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from maskfix.base import InputError
from maskfix.losses import ObjectiveWeights, Outputs, Targets, TextureTarget, completion_objective
from tests.losses.objects import SCALES, SIZE, Texture, draw, outputs, targets, upscaled
from tests.reference import losses as reference


def test_objective__structure_twin() -> None:
    given, truth = outputs(), targets()
    rec, uv = [], []
    for level in range(SCALES):
        factor = 2**level
        clean, _ = reference.area(truth.image.numpy(), factor)
        rec.append(reference.reconstruction(given.images[level].numpy(), clean, None))
        field, share = reference.area(truth.uv.numpy(), factor, truth.uv_visible.double().numpy())
        uv.append(reference.correspondence(given.uv[level].numpy(), field, share))
    terms = completion_objective(given, truth)
    assert terms["reconstruction"].item() == pytest.approx(np.mean(rec), abs=1e-10)
    assert terms["correspondence"].item() == pytest.approx(np.mean(uv), abs=1e-10)
    structure = sum(6 * r + 0.1 * c for r, c in zip(rec, uv, strict=True)) / 6
    occlusion = reference.occlusion(given.occlusion_logits.numpy(), truth.occlusion.numpy(), 0.0)
    assert terms["structure"].item() == pytest.approx(structure, abs=1e-10)
    assert terms["occlusion"].item() == pytest.approx(occlusion, abs=1e-10)
    assert terms["texture"].item() == 0
    assert terms["total"].item() == pytest.approx(structure + occlusion, abs=1e-10)
    assert "style" not in terms
    assert "identity" not in terms


def test_objective__total_is_equations_13_to_15() -> None:
    given, truth, network = outputs(), targets(), Texture()
    style, identity = [], []
    embedding, _ = network(truth.image)
    for level in range(3):
        factor = 2**level
        ours, our_maps = network(upscaled(given.images[level], factor))
        clean = torch.from_numpy(reference.area(truth.image.numpy(), factor)[0])
        their_maps = network(upscaled(clean, factor))[1]
        style.append(reference.style([m.numpy() for m in our_maps], [m.numpy() for m in their_maps]))
        identity.append(reference.identity(ours.numpy(), embedding.numpy()))
    terms = completion_objective(given, truth, texture=network)
    assert terms["style"].item() == pytest.approx(np.mean(style), abs=1e-10)
    assert terms["identity"].item() == pytest.approx(np.mean(identity), abs=1e-10)
    texture = sum(240 * s + 0.1 * i for s, i in zip(style, identity, strict=True)) / 3
    assert terms["texture"].item() == pytest.approx(texture, abs=1e-8)
    structure = 6 * terms["reconstruction"] + 0.1 * terms["correspondence"]
    assert terms["total"].item() == pytest.approx((structure + texture + terms["occlusion"]).item(), abs=1e-8)


def test_objective__weights_multiply() -> None:
    weights = ObjectiveWeights(2.0, 3.0, 5.0, 7.0, 11.0, (2, 4), (3,))
    given, truth = outputs(), targets()
    terms = completion_objective(given, truth, weights, texture=Texture())
    expected = sum(
        factor * terms[name].item()
        for name, factor in zip(
            ("reconstruction", "correspondence", "style", "identity", "occlusion"), (2, 3, 5, 7, 11), strict=True
        )
    )
    assert terms["total"].item() == pytest.approx(expected, abs=1e-10)


def test_objective__defaults_are_the_papers() -> None:
    weights = ObjectiveWeights()
    assert (weights.reconstruction, weights.correspondence, weights.style, weights.identity) == (6, 0.1, 240, 0.1)
    assert weights.structure_scales == (1, 2, 3, 4, 5, 6)
    assert weights.texture_scales == (1, 2, 3)
    assert (weights.occluded_weight, weights.identity_form) == (1, "l2")


def test_objective__scale_one_is_the_outermost() -> None:
    weights = ObjectiveWeights(structure_scales=(1,), occlusion=0)
    given, truth = outputs(), targets()
    perfect = given._replace(images=[truth.image, *given.images[1:]], uv=[truth.uv, *given.uv[1:]])
    assert completion_objective(perfect, truth, weights)["total"].item() == 0
    assert completion_objective(given, truth, weights)["total"].item() > 0.1


def test_objective__perfect_outputs_cost_nothing() -> None:
    truth, network = targets(), Texture()
    sizes = [SIZE >> level for level in range(SCALES)]
    images = [functional.adaptive_avg_pool2d(truth.image, size) for size in sizes]
    uv = [torch.where(truth.uv_visible, 0.3, 0.8).double().expand(-1, 2, -1, -1)]
    truth = truth._replace(uv=uv[0])
    flat = [torch.full((3, 2, size, size), 0.3, dtype=torch.float64) for size in sizes]
    logits = torch.where(truth.occlusion > 0.5, 40.0, -40.0).double()
    weights = ObjectiveWeights(texture_scales=(1, 2, 3))
    terms = completion_objective(Outputs(images, flat, logits), truth, weights, texture=network)
    for name in ("reconstruction", "correspondence", "style", "occlusion"):
        assert terms[name].item() == pytest.approx(0, abs=1e-7), name
    # The identity truth is the sharp picture at every scale: blurred scales cannot reach it.
    one = dataclasses.replace(weights, texture_scales=(1,))
    assert completion_objective(Outputs(images, flat, logits), truth, one, texture=network)["identity"].item() == 0
    assert terms["identity"].item() > 0


def test_objective__occluded_weight() -> None:
    given, truth = outputs(), targets()
    weights = ObjectiveWeights(structure_scales=(1, 2), occluded_weight=5.0)
    expected = []
    for level in (0, 1):
        clean, _ = reference.area(truth.image.numpy(), 2**level)
        share, _ = reference.area(truth.occlusion.numpy(), 2**level)
        expected.append(reference.reconstruction(given.images[level].numpy(), clean, 1 + 4 * share))
    assert completion_objective(given, truth, weights)["reconstruction"].item() == pytest.approx(
        np.mean(expected), abs=1e-10
    )
    nothing = truth._replace(occlusion=torch.zeros_like(truth.occlusion))
    plain = completion_objective(given, nothing, dataclasses.replace(weights, occluded_weight=1.0))
    weighted = completion_objective(given, nothing, weights)
    assert weighted["reconstruction"].item() == pytest.approx(plain["reconstruction"].item(), abs=1e-12)


def test_objective__zero_weights_are_not_computed() -> None:
    given, truth, network = outputs(), targets(), Texture()
    weights = ObjectiveWeights(correspondence=0, style=0, identity=0, occlusion=0)
    terms = completion_objective(given._replace(uv=[]), truth, weights, texture=network)
    assert set(terms) == {"reconstruction", "structure", "texture", "total"}
    assert network.calls == []


def test_objective__masks_all_zero() -> None:
    given, truth = outputs(), targets()
    empty = torch.zeros_like(truth.occlusion)
    leaves = [tensor.requires_grad_() for tensor in (*given.images, *given.uv, given.occlusion_logits)]
    truth = truth._replace(uv_visible=empty.bool(), occlusion=empty, uv=torch.full_like(truth.uv, torch.nan))
    terms = completion_objective(
        given, truth, ObjectiveWeights(occluded_weight=0.0, occlusion_dice=1.0), texture=Texture()
    )
    terms["total"].backward()
    assert terms["correspondence"].item() == 0
    assert all(math.isfinite(value.item()) for value in terms.values())
    assert all(leaf.grad is not None and torch.isfinite(leaf.grad).all() for leaf in leaves)


def test_objective__gradient_reaches_every_selected_output() -> None:
    given, truth, network = outputs(), targets(), Texture()
    images, uv = ([tensor.requires_grad_() for tensor in tensors] for tensors in (given.images, given.uv))
    weights = ObjectiveWeights(structure_scales=(1, 3), texture_scales=(2,))
    completion_objective(given, truth, weights, texture=network)["total"].backward()
    assert [image.grad is not None for image in images] == [True, True, True, False, False, False]
    assert [field.grad is not None for field in uv] == [True, False, True, False, False, False]
    assert network.first.grad is None


def test_objective__gradcheck() -> None:
    truth, network = Targets(*(tensor[:1, ..., :8, :8] for tensor in targets())), Texture()
    shapes = [(1, 3, 8, 8), (1, 3, 4, 4), (1, 2, 8, 8), (1, 2, 4, 4), (1, 1, 8, 8)]
    leaves = [draw(*shape, seed=20 + index).requires_grad_() for index, shape in enumerate(shapes)]
    weights = ObjectiveWeights(structure_scales=(1, 2), texture_scales=(1, 2), occluded_weight=3.0, occlusion_dice=0.5)

    def total(*given: Tensor) -> Tensor:
        return completion_objective(Outputs(given[:2], given[2:4], given[4]), truth, weights, texture=network)["total"]

    assert torch.autograd.gradcheck(total, leaves)


def test_objective__autocast() -> None:
    given, truth, network = outputs(), targets(), Texture()

    def cast(tensors: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
        return [tensor.to(dtype).requires_grad_() for tensor in tensors]

    half = Outputs(
        cast(given.images, torch.bfloat16), cast(given.uv, torch.bfloat16), given.occlusion_logits.bfloat16()
    )
    single = Targets(truth.image.float(), truth.uv.float(), truth.uv_visible, truth.occlusion.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = completion_objective(half, single, texture=network)
    assert all(value.dtype == torch.float32 for value in terms.values())
    expected = completion_objective(given, truth, texture=Texture())
    for name in ("reconstruction", "correspondence", "occlusion", "identity"):
        assert terms[name].item() == pytest.approx(expected[name].item(), rel=0.05), name
    terms["total"].backward()
    assert all(leaf.grad is not None and torch.isfinite(leaf.grad).all() for leaf in half.images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"style": -1.0}, "'style'.*-1"),
        ({"occlusion": math.inf}, "'occlusion'"),
        ({"structure_scales": ()}, "structure_scales"),
        ({"structure_scales": (0, 1)}, "structure_scales"),
        ({"texture_scales": (1, 1)}, "texture_scales"),
        ({"identity_form": "angle"}, "known: l2, cosine"),
        ({"texture_samples": 0}, "texture_samples"),
    ],
)
def test_weights__refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ObjectiveWeights(**arguments)


def test_objective__refuses() -> None:
    given, truth = outputs(), targets()
    with pytest.raises(InputError, match=r"images: scale 6 .* gives 2"):
        completion_objective(given._replace(images=given.images[:2]), truth)
    with pytest.raises(InputError, match="no term"):
        completion_objective(given, truth, ObjectiveWeights(reconstruction=0, correspondence=0, occlusion=0))
    with pytest.raises(InputError, match="one list per texture scale"):
        completion_objective(given, truth, texture=Texture(), texture_target=TextureTarget(None, [[]]))
    with pytest.raises(InputError, match="one shape"):
        completion_objective(given, Targets(*(tensor[:1] for tensor in truth)))
