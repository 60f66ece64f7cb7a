"""Terms of two processes' halves of a batch, scaled: their mean and its gradient are the whole batch's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from maskfix.losses import ObjectiveWeights, Outputs, Targets, completion_objective, random_view
from maskfix.train.parallel import Processes
from maskfix.train.shares import own_texture_rows, view_of_own_rows, whole_batch_terms

WEIGHTS = ObjectiveWeights(
    style=3.0,
    perceptual=1.5,
    identity=2.0,
    occluded_weight=5.0,
    occlusion_dice=0.5,
    structure_scales=(1, 2),
    texture_scales=(1, 2),
)


class Half(Processes):
    """One of two processes, told what the other one's amounts are."""

    def __init__(self, rank: int, whole: Tensor) -> None:
        super().__init__()
        self.count, self.rank, self.whole = 2, rank, whole

    def share(self, amounts: Tensor) -> Tensor:
        return amounts / (self.whole / 2)


def whole_batch() -> tuple[Outputs, Targets]:
    """Four pictures; the second half is occluded more and shows less of the face."""
    generator = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    more = torch.tensor([0.1, 0.2, 0.6, 0.9])[:, None, None, None]
    targets = Targets(
        drawn(4, 3, 16, 16), drawn(4, 2, 16, 16), drawn(4, 1, 16, 16) > more, (drawn(4, 1, 16, 16) < more).float()
    )
    images = [drawn(4, 3, 16, 16).requires_grad_(), drawn(4, 3, 8, 8).requires_grad_()]
    uvs = [drawn(4, 2, 16, 16).requires_grad_(), drawn(4, 2, 8, 8).requires_grad_()]
    return Outputs(images, uvs, drawn(4, 1, 16, 16).requires_grad_()), targets


def texture(images: Tensor) -> tuple[Tensor, list[Tensor]]:
    return images.mean((2, 3)), [images]


def of_rows(rows: slice, outputs: Outputs, targets: Targets) -> tuple[Outputs, Targets]:
    """A process's part."""
    made = Outputs([x[rows] for x in outputs.images], [x[rows] for x in outputs.uv], outputs.occlusion_logits[rows])
    return made, Targets(*(x[rows] for x in targets))


@pytest.mark.parametrize("samples", [4, 3, 2, 1])
def test_terms__mean_over_processes_is_the_whole_batch(samples: int) -> None:
    weights = replace(WEIGHTS, texture_samples=samples)
    outputs, targets = whole_batch()
    leaves = [*outputs.images, *outputs.uv, outputs.occlusion_logits]
    expected = completion_objective(outputs, targets, weights, texture=texture)
    gradients = torch.autograd.grad(expected["total"], leaves)

    weight = 1 + 4 * targets.occlusion
    amounts = torch.stack([weight.sum(), targets.uv_visible.float().sum()])
    found: list[dict[str, Tensor]] = []
    for rank, rows in enumerate((slice(0, 2), slice(2, 4))):
        own, whole = own_texture_rows(weights, 4, rows)
        part, truth = of_rows(rows, outputs, targets)
        terms = completion_objective(
            part, truth, replace(weights, texture_samples=max(1, own)), texture=texture if own else None
        )
        zero = part.images[0].sum() * 0
        found.append(
            whole_batch_terms(terms, truth, weights, Half(rank, amounts), own * 2 / whole, lambda zero=zero: zero)
        )
    assert found[0].keys() == found[1].keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close((found[0][name] + found[1][name]) / 2, value)
    averaged = torch.autograd.grad((found[0]["total"] + found[1]["total"]) / 2, leaves)
    for ours, theirs in zip(averaged, gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_terms__one_process() -> None:
    terms = {"total": torch.ones(())}
    _, targets = whole_batch()
    assert whole_batch_terms(terms, targets, WEIGHTS, Processes(), 1.0, terms["total"].clone) is terms


def test_terms__no_texture_in_this_step() -> None:
    outputs, targets = whole_batch()
    terms = completion_objective(outputs, targets, WEIGHTS)
    found = whole_batch_terms(terms, targets, WEIGHTS, Half(0, torch.ones(2)), None, terms["total"].clone)
    assert found.keys() == terms.keys()
    assert float(found["texture"]) == 0


@pytest.mark.parametrize(
    ("samples", "rows", "expected"),
    [
        (None, slice(4, 8), (4, 8)),
        (6, slice(0, 4), (4, 6)),
        (6, slice(4, 8), (2, 6)),
        (3, slice(4, 8), (0, 3)),
        (99, slice(4, 8), (4, 8)),
        (6, slice(0, 8), (6, 6)),
    ],
)
def test_own_texture_rows(samples: int | None, rows: slice, expected: tuple[int, int]) -> None:
    assert own_texture_rows(ObjectiveWeights(texture_samples=samples), 8, rows) == expected


def test_view__of_own_rows_is_that_of_the_whole_batch() -> None:
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    whole = random_view(images, torch.Generator().manual_seed(2))
    for rows in (slice(0, 5), slice(0, 3), slice(3, 6)):
        generator = torch.Generator().manual_seed(2)
        found = view_of_own_rows(lambda x, generator=generator: random_view(x, generator), images[rows], rows, 5)
        torch.testing.assert_close(found, whole[rows])
