"""The early look in the Deoccluder: what is surely clean is not decoded, all else is completed as ever."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskfix.base import Completion, InputError, UInt8Array, WeightsError
from maskfix.deocclude import Deoccluder
from maskfix.restore import CLEAN_COVERAGE, PREFIX, CompletionNetwork, EarlyLook
from maskfix.weights import save_weights
from tests.test_deocclude import network, smooth


@pytest.fixture(scope="module")
def varied() -> Deoccluder:
    return Deoccluder(network(), device="cpu")


def made_up_look(network: CompletionNetwork) -> EarlyLook:
    """An early look that has not learnt anything: random weights, estimates that differ from face to face."""
    early = EarlyLook(network.config)
    early.weight.copy_(torch.randn(len(early.weight), generator=torch.Generator().manual_seed(6)))
    return early


def arrays(told: Any) -> list[Any]:
    """The arrays of a completion, alone or with which crops were clean."""
    return list(told) if isinstance(told, Completion) else [*told[0], told[1]]


class TestCompleteUnlessClean:
    @pytest.fixture
    def early(self, varied: Deoccluder) -> EarlyLook:
        return made_up_look(varied._runner.network)

    @pytest.fixture
    def asked(self, varied: Deoccluder, early: EarlyLook, monkeypatch: pytest.MonkeyPatch) -> Deoccluder:
        """The Deoccluder of the other tests with an early look."""
        monkeypatch.setattr(varied._runner, "early", early)
        return varied

    @staticmethod
    def estimates(blind: Deoccluder, early: EarlyLook, crops: UInt8Array) -> Any:
        """Coverage that the early look estimates, and its map of 8 cells a side."""
        with torch.no_grad():
            sight = early(blind._runner.network.encoder(torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255))
        return sight.coverage.numpy(), sight.occlusion[:, 0].numpy()

    def test_without_an_early_look(self, varied: Deoccluder) -> None:
        crops = smooth(2)
        completion, clean = varied.complete_unless_clean(crops)
        assert varied.clean_coverage is None
        assert clean.tolist() == [False, False]
        for ours, expected in zip(completion, varied.complete(crops), strict=True):
            np.testing.assert_array_equal(ours, expected)

    @pytest.mark.parametrize("batch_size", [2, 32])
    def test_some_are_clean(
        self, asked: Deoccluder, early: EarlyLook, batch_size: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        crops = smooth(5)
        coverage, cells = self.estimates(asked, early, crops)
        early.limit.fill_(float(np.median(coverage)) + 1e-6)
        monkeypatch.setattr(asked._runner, "_batch_size", batch_size)
        completion, clean = asked.complete_unless_clean(crops)
        np.testing.assert_array_equal(clean, coverage <= np.median(coverage))
        assert clean.sum() == 3
        np.testing.assert_array_equal(completion.images[clean], crops[clean])
        np.testing.assert_allclose(completion.occlusion[clean], cells[clean].repeat(16, 1).repeat(16, 2), atol=1e-5)
        np.testing.assert_allclose(completion.coverage[clean], completion.occlusion[clean].mean((1, 2)), atol=1e-5)
        assert (completion.alpha[clean] == 0).all()
        assert np.isnan(completion.uv[clean]).all()
        whole = asked.complete(crops)
        for ours, expected in zip(completion, whole, strict=True):
            assert ours.dtype == expected.dtype
            tolerance = 1 if ours.dtype == np.uint8 else 2e-4
            assert np.abs(ours[~clean].astype(float) - expected[~clean]).max() <= tolerance

    def test_a_face_that_is_not_clean_is_completed_as_ever(self, asked: Deoccluder) -> None:
        """One face alone: no sum runs in another order, so not a bit differs."""
        crops = smooth(1)
        completion, clean = asked.complete_unless_clean(crops)
        assert clean.tolist() == [False]
        for ours, expected in zip(completion, asked.complete(crops), strict=True):
            np.testing.assert_array_equal(ours, expected)

    def test_a_clean_face_is_not_decoded(
        self, asked: Deoccluder, early: EarlyLook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        early.limit.fill_(1.5)
        decoded: list[int] = []
        monkeypatch.setattr(
            asked._runner.network.decoder, "forward", lambda picture, *_args, **_: decoded.append(len(picture))
        )
        crops = smooth(2)
        completion, clean = asked.complete_unless_clean(crops)
        assert clean.all()
        assert not decoded
        np.testing.assert_array_equal(completion.images, crops)
        assert not np.shares_memory(completion.images, crops)

    def test_recut__once_and_for_all_that_are_not_clean(
        self, asked: Deoccluder, early: EarlyLook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        crops, others = smooth(5), np.ascontiguousarray(smooth(5)[:, ::-1])
        coverage, _ = self.estimates(asked, early, crops)
        early.limit.fill_(float(np.median(coverage)) + 1e-6)
        monkeypatch.setattr(asked._runner, "_batch_size", 2)
        rows: list[Any] = []

        def recut(suspected: Any) -> UInt8Array:
            rows.append(suspected)
            return others[suspected]

        completion, clean = asked.complete_unless_clean(crops, recut)
        [suspected] = rows
        np.testing.assert_array_equal(suspected, coverage > np.median(coverage))
        np.testing.assert_array_equal(clean, ~suspected)
        for ours, seen, anew in zip(
            completion, asked.look_early(crops)[0], asked.complete(others[suspected]), strict=True
        ):
            np.testing.assert_array_equal(ours[clean], seen[clean])
            np.testing.assert_array_equal(ours[suspected], anew)

    def test_recut__not_called_for_clean_faces(self, asked: Deoccluder, early: EarlyLook) -> None:
        early.limit.fill_(1.5)
        crops = smooth(2)
        completion, clean = asked.complete_unless_clean(crops, lambda _: pytest.fail("there is nothing to cut"))
        assert clean.all()
        np.testing.assert_array_equal(completion.images, crops)

    def test_recut__without_an_early_look(self, varied: Deoccluder) -> None:
        crops, others = smooth(2), np.ascontiguousarray(smooth(2)[:, ::-1])
        completion, clean = varied.complete_unless_clean(crops, lambda rows: others[rows])
        assert clean.tolist() == [False, False]
        np.testing.assert_array_equal(completion.images, varied.complete(others).images)
        nothing, _ = varied.complete_unless_clean(crops[:0], lambda _: pytest.fail("there is nothing to cut"))
        assert nothing.images.shape == (0, 128, 128, 3)

    def test_look_early__without_an_early_look(self, varied: Deoccluder) -> None:
        with pytest.raises(InputError, match="no early look"):
            varied.look_early(smooth(1))

    @pytest.mark.parametrize("ask", [Deoccluder.complete, Deoccluder.complete_unless_clean, Deoccluder.look_early])
    def test_inside_autocast(self, asked: Deoccluder, early: EarlyLook, ask: Callable[..., Any]) -> None:
        """Whoever runs a recogniser at half precision gets the very same completion, float32 as documented."""
        crops = smooth(2)
        early.limit.fill_(float(self.estimates(asked, early, crops)[0].mean()))
        outside = ask(asked, crops)
        with torch.autocast("cpu", torch.bfloat16):
            inside = ask(asked, crops)
        for ours, expected in zip(*map(arrays, (inside, outside)), strict=True):
            assert ours.dtype == expected.dtype
            np.testing.assert_array_equal(ours, expected)

    def test_no_crop(self, asked: Deoccluder) -> None:
        completion, clean = asked.complete_unless_clean(np.zeros((0, 128, 128, 3), np.uint8))
        assert clean.shape == (0,)
        assert completion.images.shape == (0, 128, 128, 3)

    def test_from_a_file(self, tmp_path: Path) -> None:
        made = network()
        early = made_up_look(made)
        early.limit.fill_(0.5)
        state = made.state_dict() | {PREFIX + name: value for name, value in early.state_dict().items()}
        path = tmp_path / "cadf_small_128.early.safetensors"
        save_weights(path, state, "cadf_small_128")
        blind = Deoccluder.from_pretrained(path, device="cpu")
        assert blind.clean_coverage == CLEAN_COVERAGE
        coverage, _ = self.estimates(blind, early, smooth(4))
        assert blind.complete_unless_clean(smooth(4))[1].tolist() == (coverage < 0.5).tolist()
        del state[f"{PREFIX}bias"]
        save_weights(path, state, "cadf_small_128")
        with pytest.raises(WeightsError, match=r"early\.safetensors: does not fit network cadf_small_128"):
            Deoccluder.from_pretrained(path, device="cpu")
