"""The early look: what it computes, what it calls clean, and how it travels in a weights file."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from maskfix.restore import CONFIGS, PREFIX, EarlyLook, split_early_look
from maskfix.restore.early import FIRST_LEVEL, deep_maps

CONFIG = CONFIGS["cadf_small_128"]


def made_up_features(count: int = 2, name: str = "cadf_small_128") -> list[Tensor]:
    config, generator = CONFIGS[name], torch.Generator().manual_seed(3)
    return [
        torch.rand(count, width, config.size >> (level + 1), config.size >> (level + 1), generator=generator)
        for level, width in enumerate(config.widths)
    ]


def made_up_look(name: str = "cadf_small_128") -> EarlyLook:
    early = EarlyLook(CONFIGS[name])
    early.weight.copy_(torch.randn(len(early.weight), generator=torch.Generator().manual_seed(4)) / 10)
    early.bias.fill_(-1.5)
    return early


@pytest.mark.parametrize("name", list(CONFIGS))
def test_by_hand(name: str) -> None:
    """OpenCV enlarges every channel, NumPy weighs them: the other order, by another library."""
    features, early = made_up_features(name=name), made_up_look(name)
    side = CONFIGS[name].size // 16
    logits = np.full((2, side, side), -1.5)
    weights = np.split(early.weight.numpy(), np.cumsum(CONFIGS[name].widths[FIRST_LEVEL:])[:-1])
    for level, weight in zip(features[FIRST_LEVEL:], weights, strict=True):
        for face, maps in enumerate(level.numpy()):
            enlarged = np.stack([cv2.resize(channel, (side, side), interpolation=cv2.INTER_LINEAR) for channel in maps])
            logits[face] += np.tensordot(weight, enlarged, 1)
    sight = early(features)
    np.testing.assert_allclose(sight.occlusion[:, 0], 1 / (1 + np.exp(-logits)), atol=1e-5)
    np.testing.assert_allclose(sight.coverage, (1 / (1 + np.exp(-logits))).mean((1, 2)), atol=1e-5)


def test_weighing_and_enlarging_commute() -> None:
    """What is fitted on `deep_maps` is what is looked at later."""
    features, early = made_up_features(), made_up_look()
    logits = torch.einsum("nchw,c->nhw", deep_maps(features), early.weight) + early.bias
    torch.testing.assert_close(early(features).occlusion[:, 0], torch.sigmoid(logits), atol=1e-5, rtol=1e-5)


def test_clean_is_below_the_limit() -> None:
    features, early = made_up_features(3), made_up_look()
    assert early(features).clean.tolist() == [False] * 3, "without a limit nothing is clean"
    coverage = early(features).coverage
    early.limit.copy_(coverage.median())
    assert early(features).clean.tolist() == (coverage < coverage.median()).tolist()
    assert early(features).clean.sum() == 1


def test_nan_is_not_clean() -> None:
    features, early = made_up_features(1), made_up_look()
    early.limit.fill_(1.0)
    features[-1][0, 0] = torch.nan
    assert early(features).clean.tolist() == [False]


class TestSplit:
    def test_round_trip(self) -> None:
        early = made_up_look()
        early.limit.fill_(0.25)
        network = {"encoder.a": torch.ones(2), "decoder.b": torch.zeros(1)}
        own, found = split_early_look(
            network | {PREFIX + name: value for name, value in early.state_dict().items()}, CONFIG
        )
        assert own == network
        assert found is not None
        assert found.limit == 0.25
        torch.testing.assert_close(found(made_up_features()), early(made_up_features()))

    def test_none(self) -> None:
        own, found = split_early_look({"encoder.a": torch.ones(2)}, CONFIG)
        assert found is None
        assert list(own) == ["encoder.a"]

    @pytest.mark.parametrize("change", ["lacks", "other size"])
    def test_does_not_fit(self, change: str) -> None:
        state = {PREFIX + name: value for name, value in made_up_look().state_dict().items()}
        if change == "lacks":
            del state[f"{PREFIX}limit"]
        else:
            state[f"{PREFIX}weight"] = torch.zeros(3)
        with pytest.raises(RuntimeError, match="EarlyLook"):
            split_early_look(state, CONFIG)
