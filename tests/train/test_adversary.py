"""The discriminator of stage 2."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from maskfix.losses import ObjectiveWeights
from maskfix.train.adversary import Adversary, PatchDiscriminator
from maskfix.train.checkpoint import read_checkpoint
from maskfix.train.completion import LOG, train_completion
from maskfix.train.config import CompletionConfig
from maskfix.train.parallel import Processes
from tests.train.runs import logged


def pictures(seed: int) -> Tensor:
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


LOWER = torch.zeros(4, 1, 32, 32)
LOWER[:, :, 16:] = 1


def adversary(rate: float = 1e-2) -> Adversary:
    return Adversary(rate, 0, torch.device("cpu"))


EVERYWHERE = torch.ones(1, 1, 128, 128)


@pytest.mark.parametrize(("scale", "side"), [(0, 38), (1, 78)])
def test_discriminator__sizes_of_its_patches(scale: int, side: int) -> None:
    picture = torch.rand(1, 3, 128, 128).requires_grad_()
    scores = PatchDiscriminator().eval()(picture, EVERYWHERE).scores[scale]
    middle = scores.shape[2] // 2
    scores[0, 0, middle, middle].backward()
    assert picture.grad is not None
    rows = picture.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    assert rows[-1] - rows[0] + 1 == side


def test_discriminator__sees_the_occlusion_and_the_place() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = PatchDiscriminator().eval()
    grey = torch.full((1, 3, 128, 128), 0.5)
    inner = network(grey, EVERYWHERE).scores[0][0, 0, 4:12, 4:12]
    assert inner.std() > 1e-4
    assert (network(grey, EVERYWHERE * 0).scores[0][0, 0, 4:12, 4:12] - inner).abs().mean() > 1e-4


def test_learns_to_tell_noise_from_smooth() -> None:
    opponent = adversary()
    smooth = torch.linspace(0, 1, 32).expand(4, 3, 32, 32)
    losses = [opponent.learn(smooth, pictures(step), LOWER, contextlib.nullcontext()) for step in range(30)]
    assert losses[0] == pytest.approx(2, abs=0.5)
    assert losses[-1] < 0.5
    # The same target on both sides: only the verdict differs.
    assert opponent.term(pictures(99), smooth, LOWER) > opponent.term(smooth, smooth, LOWER) + 0.5


def test_term__is_the_verdict_and_matching_features() -> None:
    opponent = adversary()
    one, two = pictures(0), pictures(1)
    opponent.network.eval()
    found, wanted = opponent.network(one, LOWER), opponent.network(two, LOWER)
    # Patches of 8 and 16 pixels lie whole in the lower half or outside it.
    verdicts = [-score[:, :, score.shape[2] // 2 :].mean() for score in found.scores]
    shares = [
        ((a - b).abs().mean((1, 2, 3)) / b.abs().mean((1, 2, 3))).mean()
        for a, b in zip(found.features, wanted.features, strict=True)
    ]
    expected = sum(verdicts) / 2 + 2 * sum(shares) / 4
    torch.testing.assert_close(opponent.term(one, two, LOWER), expected)
    torch.testing.assert_close(opponent.term(one, one, LOWER), sum(verdicts) / 2)


def test_term_teaches_the_picture_alone() -> None:
    opponent = adversary()
    picture, real = pictures(0).requires_grad_(), pictures(1).requires_grad_()
    opponent.term(picture, real, LOWER).backward()
    assert picture.grad is not None
    assert picture.grad.any()
    assert real.grad is None
    assert all(p.grad is None for p in opponent.network.parameters())
    assert all(p.requires_grad for p in opponent.network.parameters())


class Half(Processes):
    """One of two processes, told the sum of both one's amounts; without it, it only notes its own."""

    def __init__(self, whole: Tensor | None = None) -> None:
        super().__init__()
        self.count, self.whole = 2, whole

    def share(self, amounts: Tensor) -> Tensor:
        self.amounts = amounts
        return amounts if self.whole is None else amounts / (self.whole / 2)


@pytest.mark.parametrize("cut", [2, 1, 4])
def test_term__mean_over_processes_is_that_of_all_pictures(cut: int) -> None:
    """Two processes with as many pictures, with more in the first, and with none in the second."""
    one, two, covered = pictures(0), pictures(1), LOWER * torch.tensor([1.0, 0.2, 0.7, 0.4])[:, None, None, None]
    expected = adversary()
    expected.network.eval()
    parts = [(one[rows], two[rows], covered[rows]) for rows in (slice(cut), slice(cut, 4))]
    halves = [Half(), Half()]
    for half, part in zip(halves, parts, strict=True):
        recorder = Adversary(1e-2, 0, torch.device("cpu"), half)
        recorder.network.eval()
        recorder.term(*part)
    whole = halves[0].amounts + halves[1].amounts
    opponents = [Adversary(1e-2, 0, torch.device("cpu"), Half(whole)) for _ in range(2)]
    found = []
    for opponent, part in zip(opponents, parts, strict=True):
        opponent.network.eval()
        found.append(opponent.term(*part))
    torch.testing.assert_close((found[0] + found[1]) / 2, expected.term(one, two, covered))


def test_seed_and_state() -> None:
    one, two = adversary(), adversary()
    smooth = pictures(5) * 0.1
    for _ in range(3):
        one.learn(smooth, pictures(1), LOWER, contextlib.nullcontext())
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    again = [a.learn(smooth, pictures(2), LOWER, contextlib.nullcontext()) for a in (one, two)]
    assert again[0] == again[1]
    torch.testing.assert_close(one.term(smooth, smooth, LOWER), two.term(smooth, smooth, LOWER))


def config(steps: int) -> CompletionConfig:
    return CompletionConfig(
        network="tiny",
        steps=steps,
        batch_size=3,
        texture_start=1,
        adversarial=0.5,
        validate_every=0,
        objective=ObjectiveWeights(style=0, identity=0, texture_samples=2),
    )


def test_train__with_a_discriminator_and_after_a_kill(store: Path, tmp_path: Path) -> None:
    whole = train_completion(config(4), store, tmp_path / "whole", device="cpu", workers=0)
    rows = logged(whole.with_name(LOG))
    assert ["discriminator" in row for row in rows] == [False, True, True, True]
    last = rows[-1]
    assert last["total"] == pytest.approx(last["structure"] + last["occlusion"] + 0.5 * last["adversarial"], rel=1e-4)

    often = dataclasses.replace(config(4), checkpoint_seconds=0.0)

    def kill(step: int, _: dict[str, float]) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_completion(often, store, tmp_path / "cut", device="cpu", workers=0, progress=kill)
    resumed = train_completion(often, store, tmp_path / "cut", device="cpu", workers=0)
    one, two = read_checkpoint(whole), read_checkpoint(resumed)
    for key, value in one["adversary"]["network"].items():
        torch.testing.assert_close(two["adversary"]["network"][key], value)
    for key, value in one["network"].items():
        torch.testing.assert_close(two["network"][key], value)


def test_learn__adam_with_little_momentum() -> None:
    """Its first averages hold half of the gradient and a hundredth of its square."""
    opponent = adversary()
    opponent.learn(pictures(0), pictures(1), LOWER, contextlib.nullcontext())
    for parameter, averages in opponent.optimiser.state.items():
        assert parameter.grad is not None
        torch.testing.assert_close(averages["exp_avg"], parameter.grad / 2)
        torch.testing.assert_close(averages["exp_avg_sq"], parameter.grad.square() / 100)
    assert len(opponent.optimiser.state) == len(list(opponent.network.parameters()))
