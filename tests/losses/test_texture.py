"""Equation 14: what the texture terms compare, and what they see of a completed picture."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from maskfix.base import InputError
from maskfix.losses import ObjectiveWeights, Outputs, Targets, TextureTarget, completion_objective, texture_target_of
from tests.losses.objects import SIZE, Texture, draw, outputs, targets
from tests.reference import losses as reference


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


@pytest.mark.parametrize("form", ["l2", "cosine"])
def test_objective__identity_form(form: Any) -> None:
    given, truth, network = outputs(), targets(), Texture()
    weights = ObjectiveWeights(identity_form=form, texture_scales=(1,))
    ours, theirs = network(given.images[0])[0].numpy(), network(truth.image)[0].numpy()
    twin = reference.identity if form == "l2" else reference.identity_cosine
    found = completion_objective(given, truth, weights, texture=network)["identity"]
    assert found.item() == pytest.approx(twin(ours, theirs), abs=1e-10)


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


def test_objective__contrast_passes_over_the_own_face() -> None:
    """Row by row, also where only the first pictures have texture and the embedding is not known."""
    given, truth, network = outputs(), targets(), Texture()
    strangers = functional.normalize(draw(7, 5, seed=21) - 0.5, dim=1)
    own = draw(len(truth.image), 7, seed=22) > 0.6
    assert own[0].any()
    weights = ObjectiveWeights(style=0, identity=0, contrast=1, texture_scales=(1,), texture_samples=1)
    terms = completion_objective(
        given, truth, weights, texture=network, texture_target=TextureTarget(strangers=strangers, own=own)
    )
    key = functional.normalize(network(truth.image)[0], dim=1)[:1].numpy()
    query = functional.normalize(network(given.images[0])[0], dim=1)[:1].numpy()
    expected = reference.info_nce(query, key, strangers[~own[0]].numpy(), 0.07)
    assert terms["contrast"].item() == pytest.approx(expected, abs=1e-10)


def test_objective__contrast_needs_strangers() -> None:
    weights = ObjectiveWeights(contrast=1, texture_scales=(1,))
    with pytest.raises(InputError, match="strangers"):
        completion_objective(outputs(), targets(), weights, texture=Texture())


def test_objective__a_perfect_completion_costs_no_texture_at_any_scale() -> None:
    """Composed with the visible pixels or not: the coarse target is composed as the completion is."""
    given, truth, network = outputs(), targets(), Texture()
    coarse = [functional.avg_pool2d(truth.image, 2**k) for k in range(len(given.images))]
    weights = ObjectiveWeights(identity=0, perceptual=1, texture_scales=(1, 2, 3))
    for compose in (None, lambda images: torch.lerp(truth.image, images, truth.occlusion)):
        terms = completion_objective(given._replace(images=coarse), truth, weights, texture=network, compose=compose)
        assert terms["style"].item() == pytest.approx(0, abs=1e-12)
        assert terms["perceptual"].item() == pytest.approx(0, abs=1e-12)


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
    known = texture_target_of(truth.image, [(SIZE, SIZE), (SIZE // 2, SIZE // 2)], network, compose)
    expected = completion_objective(
        by_hand, truth, dataclasses.replace(weights, reconstruction=0), texture=network, texture_target=known
    )
    plain = completion_objective(given, truth, weights, texture=network)
    composed = completion_objective(given, truth, weights, texture=network, compose=compose)
    for name in ("style", "perceptual", "identity"):
        assert composed[name].item() == pytest.approx(expected[name].item(), abs=1e-10)
        assert composed[name].item() != pytest.approx(plain[name].item(), abs=1e-6)
    for name in ("reconstruction", "correspondence", "occlusion"):
        assert composed[name].item() == plain[name].item()
    seen: list[Tensor] = []

    def view(images: Tensor) -> Tensor:
        seen.append(images)
        return images

    completion_objective(given, truth, weights, texture=network, compose=compose, view=view)
    torch.testing.assert_close(seen[0], by_hand.images[0])
    torch.testing.assert_close(seen[1], by_hand.images[1])
