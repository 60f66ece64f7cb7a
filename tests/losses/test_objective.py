"""Equations 13 to 15: what the terms are made of, how they add up, and what is left out."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from maskfix.base import InputError
from maskfix.losses import (
    ObjectiveWeights,
    Outputs,
    Targets,
    TextureTarget,
    completion_objective,
    texture_target_of,
)
from tests.reference import losses as reference

SIZE = 32
SCALES = 6


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outputs(count: int = 3) -> Outputs:
    sizes = [SIZE >> level for level in range(SCALES)]
    images = [draw(count, 3, size, size, seed=size) for size in sizes]
    return Outputs(
        images,
        [draw(count, 2, size, size, seed=100 + size) for size in sizes],
        4 * draw(count, 1, SIZE, SIZE, seed=9) - 2,
    )


def targets(count: int = 3) -> Targets:
    uv, visible = draw(count, 2, SIZE, SIZE, seed=2), draw(count, 1, SIZE, SIZE, seed=3) > 0.4
    return Targets(draw(count, 3, SIZE, SIZE, seed=1), uv, visible, (draw(count, 1, SIZE, SIZE, seed=4) > 0.5).double())


class Texture(nn.Module):
    """A small frozen network that counts the pictures it sees."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.first = nn.Parameter(
            torch.randn(4, 3, 3, 3, generator=generator, dtype=torch.float64), requires_grad=False
        )
        self.second = nn.Parameter(
            torch.randn(5, 4, 3, 3, generator=generator, dtype=torch.float64), requires_grad=False
        )
        self.calls: list[int] = []

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        self.calls.append(len(images))
        first = functional.conv2d(images, self.first.to(images.dtype), stride=2).tanh()
        second = functional.conv2d(first, self.second.to(images.dtype), stride=2).tanh()
        return functional.normalize(second.mean(dim=(2, 3))), [first, second]


def upscaled(images: Tensor, factor: int) -> Tensor:
    return functional.interpolate(images, scale_factor=factor, mode="bilinear") if factor > 1 else images


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


def test_objective__perceptual_term_on_the_maps_of_the_style_term() -> None:
    given, truth, network = outputs(), targets(), Texture()
    alone = ObjectiveWeights(style=0, identity=0, perceptual=0.3, texture_scales=(1,))
    terms = completion_objective(given, truth, alone, texture=network)
    ours, theirs = ([m.numpy() for m in network(image)[1]] for image in (given.images[0], truth.image))
    assert terms["perceptual"].item() == pytest.approx(reference.perceptual(ours, theirs), abs=1e-10)
    assert terms["texture"].item() == pytest.approx(0.3 * terms["perceptual"].item(), abs=1e-12)
    assert "style" not in terms
    viewed = completion_objective(given, truth, alone, texture=network, view=lambda images: images * 0)
    assert viewed["perceptual"].item() == terms["perceptual"].item()


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


@pytest.mark.parametrize("form", ["l2", "cosine"])
def test_objective__identity_form(form: Any) -> None:
    given, truth, network = outputs(), targets(), Texture()
    weights = ObjectiveWeights(identity_form=form, texture_scales=(1,))
    ours, theirs = network(given.images[0])[0].numpy(), network(truth.image)[0].numpy()
    twin = reference.identity if form == "l2" else reference.identity_cosine
    found = completion_objective(given, truth, weights, texture=network)["identity"]
    assert found.item() == pytest.approx(twin(ours, theirs), abs=1e-10)


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


def test_objective__texture_samples_are_the_first_rows() -> None:
    given, truth = outputs(), targets()
    two = [
        Outputs([x[:2] for x in given.images], [x[:2] for x in given.uv], given.occlusion_logits[:2]),
        Targets(*(x[:2] for x in truth)),
    ]
    expected = completion_objective(*two, texture=Texture())  # type: ignore[arg-type]
    network = Texture()
    terms = completion_objective(given, truth, ObjectiveWeights(texture_samples=2), texture=network)
    assert set(network.calls) == {2}
    for name in ("style", "identity"):
        assert terms[name].item() == pytest.approx(expected[name].item(), abs=1e-12)
    more = completion_objective(given, truth, ObjectiveWeights(texture_samples=50), texture=Texture())
    assert more["style"].item() == completion_objective(given, truth, texture=Texture())["style"].item()


def test_objective__known_target_is_not_made_again() -> None:
    given, truth, network = outputs(), targets(), Texture()
    expected = completion_objective(given, truth, texture=network)
    assert len(network.calls) == 6  # three scales of ours and of the truth
    known = texture_target_of(truth.image, [(SIZE >> k, SIZE >> k) for k in range(3)], network)
    network.calls.clear()
    found = completion_objective(given, truth, texture=network, texture_target=known)
    assert len(network.calls) == 3
    assert found["total"].item() == pytest.approx(expected["total"].item(), abs=1e-12)
    network.calls.clear()
    embedding_only = TextureTarget(known.embedding)
    found = completion_objective(
        given, truth, ObjectiveWeights(style=0), texture=network, texture_target=embedding_only
    )
    assert len(network.calls) == 3
    assert found["identity"].item() == pytest.approx(expected["identity"].item(), abs=1e-12)
    assert "style" not in found
    found = completion_objective(given, truth, texture=network, texture_target=embedding_only)
    assert found["total"].item() == pytest.approx(expected["total"].item(), abs=1e-12)


def test_objective__truth_is_embedded_without_gradient() -> None:
    modes: list[bool] = []
    network = Texture()

    def spy(images: Tensor) -> tuple[Tensor, list[Tensor]]:
        modes.append(torch.is_grad_enabled())
        embedding, maps = network(images)
        return embedding, maps

    completion_objective(outputs(), targets(), texture=spy)
    assert sorted(modes) == [False] * 3 + [True] * 3


def test_objective__known_target_is_what_is_compared_with() -> None:
    given, truth, network = outputs(), targets(), Texture()
    other = functional.normalize(draw(3, 5, seed=11))
    weights = ObjectiveWeights(style=0, texture_scales=(1,))
    found = completion_objective(given, truth, weights, texture=network, texture_target=TextureTarget(other))
    expected = reference.identity(network(given.images[0])[0].numpy(), other.numpy())
    assert found["identity"].item() == pytest.approx(expected, abs=1e-10)


def test_objective__view_changes_identity_only() -> None:
    given, truth, network = outputs(), targets(), Texture()
    weights = ObjectiveWeights(texture_scales=(1,))
    plain = completion_objective(given, truth, weights, texture=network)
    viewed = completion_objective(given, truth, weights, texture=network, view=lambda images: images.flip(3))
    expected = reference.identity(network(given.images[0].flip(3))[0].numpy(), network(truth.image)[0].numpy())
    assert viewed["identity"].item() == pytest.approx(expected, abs=1e-10)
    assert viewed["style"].item() == plain["style"].item()


def test_objective__contrast_against_numpy() -> None:
    """InfoNCE of unit vectors, whatever the network's lengths; alone it needs no identity weight."""
    given, truth, network = outputs(), targets(), Texture()
    strangers = functional.normalize(draw(7, 5, seed=21) - 0.5, dim=1)
    weights = ObjectiveWeights(style=0, identity=0, contrast=2, contrast_temperature=0.3, texture_scales=(1, 2))
    terms = completion_objective(
        given, truth, weights, texture=network, texture_target=TextureTarget(strangers=strangers)
    )
    finest = [given.images[0], functional.interpolate(given.images[1], scale_factor=2, mode="bilinear")]
    key = functional.normalize(network(truth.image)[0], dim=1).numpy()
    queries = [functional.normalize(network(image)[0], dim=1).numpy() for image in finest]
    expected = np.mean([reference.info_nce(query, key, strangers.numpy(), 0.3) for query in queries])
    assert terms["contrast"].item() == pytest.approx(expected, abs=1e-10)
    assert terms["texture"].item() == pytest.approx(2 * expected, abs=1e-10)
    assert "identity" not in terms


def test_objective__contrast_needs_strangers() -> None:
    weights = ObjectiveWeights(contrast=1, texture_scales=(1,))
    with pytest.raises(InputError, match="strangers"):
        completion_objective(outputs(), targets(), weights, texture=Texture())


def test_objective__compose_changes_texture_terms_alone_and_comes_before_the_view() -> None:
    """Composing is done at the finest size, so that a coarser completion too gets visible pixels."""
    given, truth, network = outputs(), targets(), Texture()
    weights = ObjectiveWeights(texture_scales=(1, 2), perceptual=1.0)
    visible = draw(3, 3, SIZE, SIZE, seed=31)

    def compose(images: Tensor) -> Tensor:
        return torch.lerp(visible, images, truth.occlusion)

    finest = [given.images[0], functional.interpolate(given.images[1], scale_factor=2, mode="bilinear")]
    by_hand = given._replace(images=[compose(image) for image in finest] + list(given.images[2:]))
    # The second is at the finest size already here, so that it must be compared with maps of its coarser target.
    known = texture_target_of(truth.image, [(SIZE, SIZE), (SIZE // 2, SIZE // 2)], network)
    expected = completion_objective(
        by_hand, truth, dataclasses.replace(weights, reconstruction=0), texture=network, texture_target=known
    )
    plain = completion_objective(given, truth, weights, texture=network)
    composed = completion_objective(given, truth, weights, texture=network, compose=compose)
    for name in ("style", "perceptual", "identity"):
        assert composed[name].item() == pytest.approx(expected[name].item(), abs=1e-10)
        assert composed[name].item() != pytest.approx(plain[name].item(), abs=1e-4)
    for name in ("reconstruction", "correspondence", "occlusion"):
        assert composed[name].item() == plain[name].item()
    seen: list[Tensor] = []

    def view(images: Tensor) -> Tensor:
        seen.append(images)
        return images

    completion_objective(given, truth, weights, texture=network, compose=compose, view=view)
    torch.testing.assert_close(seen[0], by_hand.images[0])
    torch.testing.assert_close(seen[1], by_hand.images[1])


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
