"""The early look is fitted to what the network sees, and its limit lets nothing occluded pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from maskfix.base import DatasetError, InputError, UInt8Array, WeightsError
from maskfix.data import open_store
from maskfix.deocclude import Deoccluder
from maskfix.occlude import Occluder
from maskfix.occlude.kinds import TEMPLATES
from maskfix.restore import CLEAN_COVERAGE, PREFIX, CompletionNetwork, EarlyLook, create_network
from maskfix.train import early as fitting
from maskfix.train import release
from maskfix.train.config import ViewConfig
from maskfix.train.early import Lessons, draw_picture, estimate, fit_early_look, learn
from maskfix.train.release import add_early_look
from maskfix.train.views import OccludedViews
from maskfix.weights import WeightsRow, add_to_manifest, file_sha256, load_weights, read_manifest, save_weights
from tests.train.test_views_masks import write_templates


def views_of(store: Path) -> OccludedViews:
    return OccludedViews(open_store(store), ViewConfig(clean=0.0), [Occluder()])


def seeing_network() -> CompletionNetwork:
    """Random weights, with an occlusion map that is part of the picture in some pictures and empty in others."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = create_network("tiny").eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(2)
    for name, value in made.state_dict().items():
        if name.endswith("running_mean"):
            value.copy_(torch.randn(value.shape, generator=generator) / 10)
    made.decoder.occlusion.weight.mul_(60)
    return made


def centred(network: CompletionNetwork, pictures: UInt8Array, quantile: float) -> CompletionNetwork:
    """The network with the bias of its occlusion map such that this share of the pixels is visible."""
    batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        logits = network.decoder(batch, network.encoder(batch), False).occlusion
        network.decoder.occlusion.bias -= logits.quantile(quantile)  # type: ignore[operator]
    return network


@pytest.fixture(scope="module")
def network(store: Path) -> CompletionNetwork:
    return centred(seeing_network(), np.array(open_store(store).crops), 0.97)


class TestPictures:
    def test_drawn_from_the_generator_alone(self, store: Path) -> None:
        views = views_of(store)
        first, again, other = (draw_picture(views, 3, 4, np.random.default_rng(seed)) for seed in (7, 7, 8))
        assert first.shape == (64, 64, 3)
        assert first.dtype == np.uint8
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_every_kind_comes_up(self, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen = []
        for name in ("slip_mask", "cut_off", "put_behind"):
            taken = getattr(fitting, name)
            monkeypatch.setattr(fitting, name, lambda *a, n=name, f=taken: seen.append(n) or f(*a))
        generator = np.random.default_rng(0)
        for _ in range(60):
            draw_picture(views_of(store), 0, 1, generator)
        counts = {name: seen.count(name) for name in ("slip_mask", "cut_off", "put_behind")}
        assert all(counts.values())
        assert 12 <= 60 - len(seen) <= 36, "about two in five are clean"


class TestLearn:
    def test_cells_and_coverage_by_hand(self, network: CompletionNetwork, store: Path) -> None:
        crops = np.array(open_store(store).crops[:20])
        lessons = learn(network, crops)
        occluded = Deoccluder(network, device="cpu").complete(crops).occlusion > 0.5
        np.testing.assert_allclose(lessons.coverage, occluded.mean((1, 2)), atol=1e-3)
        np.testing.assert_allclose(lessons.occlusion, occluded.reshape(20, 4, 16, 4, 16).mean((2, 4)), atol=5 / 256)
        assert lessons.maps.shape == (20, 12 + 16 + 16, 4, 4)


class TestFit:
    def test_is_a_logistic_regression(self) -> None:
        """Shares as targets are the same as both answers, each with its weight: what scikit-learn takes."""
        generator = torch.Generator().manual_seed(0)
        look = EarlyLook(create_network("tiny").config)
        maps = torch.rand(12, len(look.weight), 4, 4, generator=generator) * torch.logspace(-1, 1, 44)[:, None, None]
        true = torch.randn(44, generator=generator) / torch.logspace(-1, 1, 44)
        shares = torch.sigmoid(torch.einsum("nchw,c->nhw", maps, true) - 1)
        chunks = [Lessons(maps[part], shares[part], torch.ones(len(maps[part]))) for part in (slice(5), slice(5, 12))]
        fitting._fit_probe(look, chunks)

        cells, answers = maps.permute(0, 2, 3, 1).reshape(-1, 44).double().numpy(), shares.flatten().double().numpy()
        scale = np.sqrt((cells**2).mean(0))
        count = len(cells)
        known = LogisticRegression(C=44 / (2 * count * fitting._PENALTY), max_iter=500, tol=1e-6).fit(
            np.concatenate([cells / scale] * 2),
            np.repeat([1, 0], count),
            sample_weight=np.concatenate([answers, 1 - answers]),
        )
        expected = 1 / (1 + np.exp(-known.decision_function(cells / scale)))
        ours = 1 / (1 + np.exp(-(cells @ look.weight.double().numpy() + float(look.bias))))
        np.testing.assert_allclose(ours, expected, atol=0.01)
        assert np.abs(expected - 0.5).mean() > 0.1, "there is something to learn"

    def test_channels_that_never_fire_weigh_nothing(self) -> None:
        look = EarlyLook(create_network("tiny").config)
        maps = torch.rand(10, 44, 4, 4, generator=torch.Generator().manual_seed(0))
        maps[:, 5] = 0
        fitting._fit_probe(look, [Lessons(maps, maps[:, 0], maps[:, 0].mean((1, 2)))])
        assert look.weight[5] == 0
        assert look.weight[0] > 0

    def test_fine_maps_are_thinned__each_cell_in_its_turn(self) -> None:
        cells = torch.arange(256.0).reshape(1, 1, 16, 16)
        lessons = Lessons(cells.expand(2, 3, 16, 16), cells[0].expand(2, 16, 16) / 256, torch.ones(2))
        kept = [fitting._thin(lessons, number) for number in range(5)]
        assert kept[0].maps.shape == (2, 3, 8, 8)
        for part in kept:
            assert part.maps.untyped_storage().nbytes() == part.maps.nbytes, "nothing else is held"
            torch.testing.assert_close(part.maps[:, 0] / 256, part.occlusion)
        assert sorted(torch.cat([part.maps[0, 0].flatten() for part in kept[:4]]).tolist()) == list(range(256))
        torch.testing.assert_close(kept[4].maps, kept[0].maps)
        coarse = Lessons(torch.rand(2, 3, 8, 8), torch.rand(2, 8, 8), torch.ones(2))
        torch.testing.assert_close(fitting._thin(coarse, 3), coarse)

    @pytest.mark.parametrize(("occluded", "limit"), [([0.012, 0.3], 0.006), ([0.5, 0.9], CLEAN_COVERAGE / 2)])
    def test_limit_by_hand(self, occluded: list[float], limit: float) -> None:
        """Half the lowest estimate among the occluded, or half of what counts as clean."""
        look = EarlyLook(create_network("tiny").config)
        look.weight[0] = 1
        estimates = torch.tensor([0.001, 0.005, 0.4, *occluded])
        maps = torch.zeros(5, 44, 4, 4)
        maps[:, 0] = torch.logit(estimates)[:, None, None]
        coverage = torch.tensor([0.0, CLEAN_COVERAGE, 0.0, CLEAN_COVERAGE + 0.001, 1.0])
        lessons = Lessons(maps, torch.zeros(5, 4, 4), coverage)
        figures = fitting._set_limit(look, (Lessons(*(column[i : i + 2] for column in lessons)) for i in (0, 2, 4)))
        torch.testing.assert_close(estimate(look, maps), estimates)
        assert float(look.limit) == pytest.approx(limit, rel=1e-3)
        assert figures.limit == float(look.limit)
        assert figures.lowest == pytest.approx(min(occluded))
        assert figures.pictures == 5
        assert figures.passed == pytest.approx(2 / 3)

    def test_on_faces(self, network: CompletionNetwork, store: Path) -> None:
        views, told = views_of(store), []
        look, figures = fit_early_look(
            network, views, np.arange(16), np.arange(16, 24), 60, progress=lambda *done: told.append(done)
        )
        again, _ = fit_early_look(network, views, np.arange(16), np.arange(16, 24), 60)
        torch.testing.assert_close(look.state_dict(), again.state_dict(), rtol=0, atol=0)
        assert told[0] == (16, 80)
        assert told[-1] == (80, 80)
        assert figures.pictures == 20
        assert 0 < figures.limit <= figures.lowest / 2 * 1.001
        # It has learnt something: on the pictures that it was fitted to, estimates rise with what the network sees.
        chunks = [part for _, part in fitting._learnt(network, views, np.arange(16), 60, np.random.default_rng([0, 0]))]
        estimates = torch.cat([estimate(look, part.maps) for part in chunks])
        assert np.corrcoef(estimates, torch.cat([part.coverage for part in chunks]))[0, 1] > 0.3

    def test_errors(self, network: CompletionNetwork, store: Path) -> None:
        views, none = views_of(store), np.arange(0)
        with pytest.raises(InputError, match="none held out"):
            fit_early_look(network, views, np.arange(4), none)
        blind = seeing_network()
        blind.decoder.occlusion.weight.zero_()
        blind.decoder.occlusion.bias.fill_(-9.0)  # type: ignore[operator]
        with pytest.raises(InputError, match="the network finds nothing occluded"):
            fit_early_look(blind, views, np.arange(16), np.arange(16, 24), 16)


class TestRelease:
    @pytest.fixture
    def folder(self, network: CompletionNetwork, tmp_path: Path) -> Path:
        folder = tmp_path / "weights"
        folder.mkdir()
        row = save_weights(folder / "tiny.a.safetensors", network.state_dict(), "tiny")
        fields = row.__dict__ | {"licence": "CC0", "scores": {"x": 1}, "training": {"config": {"held_out": 0.4}}}
        add_to_manifest(WeightsRow(**fields), folder)
        return folder

    def test_into_the_file(self, folder: Path, store: Path) -> None:
        before, [old] = load_weights(folder / "tiny.a.safetensors")[0], read_manifest(folder)
        assert Deoccluder.from_pretrained(folder / old.file, device="cpu").clean_coverage is None
        later = save_weights(folder / "tiny.b.safetensors", before, "tiny")
        add_to_manifest(later, folder)
        figures = add_early_look("tiny.a", store, folder, pictures=48)
        row, newest = read_manifest(folder)
        assert newest == later, "the newest release stays the newest"
        assert row.sha256 == file_sha256(folder / row.file) != old.sha256
        assert (row.licence, row.scores, row.training["config"]) == ("CC0", {"x": 1}, {"held_out": 0.4})
        assert row.training["early_look"]["limit"] == pytest.approx(figures.limit, abs=1e-5)
        assert "early_look.limit" in (folder / "tiny.a.md").read_text(encoding="utf-8")
        after, _ = load_weights(folder / row.file)
        own = {name: value for name, value in after.items() if not name.startswith(PREFIX)}
        torch.testing.assert_close(own, before, rtol=0, atol=0)
        assert float(after[f"{PREFIX}limit"]) == figures.limit, "the limit is kept as it was set"
        assert Deoccluder.from_pretrained(folder / row.file, device="cpu").clean_coverage == CLEAN_COVERAGE
        add_early_look("tiny.a", store, folder, pictures=48)
        again = read_manifest(folder)[0]
        assert replace(again, sha256=row.sha256) == row, "once more changes nothing but the order of the header"

    def test_killed_between_file_and_manifest__it_goes_on(
        self, folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole, [row] = load_weights(folder / "tiny.a.safetensors")[0], read_manifest(folder)

        def killed(*_: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(release, "replace_in_manifest", killed)
            with pytest.raises(KeyboardInterrupt):
                add_early_look("tiny.a", store, folder, pictures=48)
        with pytest.raises(WeightsError, match="the manifest says"):
            load_weights(folder / row.file)
        add_early_look("tiny.a", store, folder, pictures=48)
        again, _ = load_weights(folder / row.file)
        torch.testing.assert_close({name: again[name] for name in whole}, whole, rtol=0, atol=0)
        # A file that is simply another one is not taken.
        save_weights(folder / row.file, whole, "tiny", {"replaces": "0" * 64})
        with pytest.raises(WeightsError, match="the manifest says"):
            add_early_look("tiny.a", store, folder, pictures=48)

    def test_errors(self, folder: Path, store_128: Path, store: Path) -> None:
        with pytest.raises(InputError, match=r"tiny\.b: not in .*manifest\.json; known: tiny\.a"):
            add_early_look("tiny.b", store, folder)
        with pytest.raises(DatasetError, match="crops of 128 pixels, the network wants 64"):
            add_early_look("tiny.a", store_128, folder)

    def test_masks_of_a_folder_as_well(
        self, folder: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The fit draws masks from the templates that it is given, beside this project's own."""
        sources = []

        def noted(network: CompletionNetwork, views: OccludedViews, *faces: Any, **named: Any) -> Any:
            sources.append([occluder.source.name for occluder in views.occluders])
            return fit_early_look(network, views, *faces, **named)

        monkeypatch.setattr(release, "fit_early_look", noted)
        (tmp_path / "cut").mkdir()
        templates = write_templates(tmp_path / "cut", TEMPLATES)
        figures = [add_early_look("tiny.a", store, folder, given, pictures=48) for given in (None, templates)]
        assert sources == [["drawn"], ["drawn", "folder:cut"]]
        assert figures[0] != figures[1]
