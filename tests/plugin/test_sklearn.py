"""The transformers in scikit-learn's own hands: pipelines, cloning, grid search, and its estimator checks."""

from __future__ import annotations

import pickle
import runpy
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks, get_tags
from sklearn.utils.validation import check_is_fitted

from maskfix.base import CropLayout, FloatArray, InputError, UInt8Array, arcface_layout, canonical_layout
from maskfix.deocclude import Deoccluder
from maskfix.embed import unit_rows
from maskfix.plugin.sklearn import DeoccluderTransformer, EmbedderTransformer, recogniser_crops
from maskfix.restore import create_network
from maskfix.weights import save_weights
from tests.embed.onnx_files import write_recogniser


class Tiny(torch.nn.Module):
    """Makes red what is green and the other way round, where it takes a pixel for occluded.

    Args:
        size: Side of its pictures.
        bias: Everything is occluded (20), nothing (-20), or what is more red than blue (0).
    """

    def __init__(self, size: int = 128, bias: float = 0) -> None:
        super().__init__()
        self.config = SimpleNamespace(size=size)
        self.bias = bias

    def forward(self, pictures: torch.Tensor, every_scale: bool = True) -> Any:
        occlusion = 20 * (pictures[:, :1] - pictures[:, 2:]) + 2 * self.bias
        images = pictures[:, [1, 0, 2]]
        return SimpleNamespace(occlusion=occlusion, images=[images], alphas=[images], uvs=[images[:, :2]])


def tiny(size: int = 128, bias: float = 0) -> Deoccluder:
    return Deoccluder(cast(Any, Tiny(size, bias)), device="cpu")


class Colours:
    """A recogniser by mean colour."""

    name = "colours"
    layout: CropLayout = arcface_layout(112)
    dimension = 3
    sha256 = "0" * 64

    def embed(self, crops: UInt8Array) -> FloatArray:
        return unit_rows(crops.reshape(len(crops), -1, 3).mean(1) + 1)


@pytest.fixture(scope="module")
def occluded() -> Deoccluder:
    return tiny(bias=20)


@pytest.fixture(scope="module")
def visible() -> Deoccluder:
    return tiny(bias=-20)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "cadf_small_128.random.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(3)
        save_weights(path, create_network("cadf_small_128").state_dict(), "cadf_small_128")
    return path


@pytest.fixture(scope="module")
def crops() -> UInt8Array:
    """Eight noisy pictures, four mostly red and four mostly blue."""
    rng = np.random.default_rng(0)
    tint = np.array([[180, 40, 40], [40, 40, 180]])[np.arange(8) % 2]
    return np.clip(tint[:, None, None] + rng.integers(-30, 30, (8, 128, 128, 3)), 0, 255).astype(np.uint8)


class TestDeoccluderItself:
    def test_is_a_step(self, occluded: Deoccluder, crops: UInt8Array) -> None:
        pipeline = make_pipeline(occluded, EmbedderTransformer(Colours()), KNeighborsClassifier(1))
        assert pipeline.fit(crops, np.arange(8) % 2).score(crops, np.arange(8) % 2) == 1
        np.testing.assert_array_equal(occluded.fit(crops).transform(crops), occluded.complete(crops).images)

    def test_is_a_step_anywhere(self, occluded: Deoccluder, crops: UInt8Array) -> None:
        expected = occluded.complete(crops).images
        for steps in ([occluded], ["passthrough", occluded], ["passthrough", occluded, "passthrough"]):
            np.testing.assert_array_equal(make_pipeline(*steps).fit(crops).transform(crops), expected)
        check_is_fitted(occluded)
        tags = get_tags(occluded)
        assert not tags.requires_fit
        assert not tags.input_tags.two_d_array
        assert tags.transformer_tags.preserves_dtype == ["uint8"]

    def test_pipeline_with_it_is_cloned_and_pickled(self, occluded: Deoccluder, crops: UInt8Array) -> None:
        pipeline = make_pipeline(occluded, EmbedderTransformer(Colours()))
        expected = pipeline.fit_transform(crops)
        for copy in (clone(pipeline).fit(crops), pickle.loads(pickle.dumps(pipeline))):  # noqa: S301
            np.testing.assert_allclose(copy.transform(crops), expected, atol=1e-5)


class TestDeoccluderTransformer:
    def test_modes(self, occluded: Deoccluder, visible: Deoccluder, crops: UInt8Array) -> None:
        completed = occluded.complete(crops).images
        assert (completed != crops).mean() > 0.3
        cases = [
            (occluded, "gate", 0.04, completed),
            (occluded, "gate", 1.0, crops),
            (occluded, "always", 1.0, completed),
            (occluded, "observe", 0.04, crops),
            (visible, "gate", 0.04, crops),
        ]
        for blind, mode, threshold, expected in cases:
            made = DeoccluderTransformer(blind, mode, threshold).fit(crops)
            np.testing.assert_array_equal(made.transform(crops), expected)
        assert made.complete(crops).completion.coverage.tolist() == [0] * 8

    def test_by_name_of_weights__cloned_without_its_network(self, weights: Path, crops: UInt8Array) -> None:
        made = DeoccluderTransformer(str(weights), "always", device="cpu").fit(crops)
        copy = clone(made)
        assert copy.get_params() == made.get_params()
        assert not hasattr(copy, "completer_")
        assert len(pickle.dumps(made)) < 10_000
        again = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own
        np.testing.assert_array_equal(again.transform(crops[:2]), made.transform(crops[:2]))

    def test_set_params(self, occluded: Deoccluder, crops: UInt8Array) -> None:
        pipeline = make_pipeline(DeoccluderTransformer(occluded))
        pipeline.set_params(deoccludertransformer__mode="observe")
        np.testing.assert_array_equal(pipeline.fit_transform(crops), crops)

    def test_grid_search_over_modes(self, occluded: Deoccluder, crops: UInt8Array) -> None:
        pipeline = make_pipeline(
            DeoccluderTransformer(occluded), EmbedderTransformer(Colours()), KNeighborsClassifier(1)
        )
        search = GridSearchCV(pipeline, {"deoccludertransformer__mode": ["gate", "observe"]}, cv=2)
        search.fit(crops, np.arange(8) % 2)
        assert set(search.cv_results_["param_deoccludertransformer__mode"]) == {"gate", "observe"}
        assert search.cv_results_["mean_test_score"].tolist() == [1, 1]

    def test_what_comes_out_may_be_written_to(self, visible: Deoccluder, crops: UInt8Array) -> None:
        """Nothing is completed here, and the input must not come back as the output."""
        out = DeoccluderTransformer(visible).fit_transform(crops)
        np.testing.assert_array_equal(out, crops)
        assert not np.shares_memory(out, crops)

    def test_input_is_left_alone(self, occluded: Deoccluder, crops: UInt8Array) -> None:
        frozen = crops.copy()
        frozen.setflags(write=False)
        made = DeoccluderTransformer(occluded).fit(frozen)
        before = made.get_params()
        first, second = made.transform(frozen), made.transform(frozen[4:])
        np.testing.assert_array_equal(frozen, crops)
        assert np.abs(first[4:].astype(int) - second).max() <= 1
        assert made.get_params() == before
        assert set(vars(made)) == {*before, "completer_"}

    @pytest.mark.parametrize(
        ("more", "X", "message"),
        [
            ({"mode": "fuse"}, np.zeros((1, 128, 128, 3), np.uint8), "use EmbedderTransformer"),
            ({"mode": "never"}, np.zeros((1, 128, 128, 3), np.uint8), "mode: 'never' is unknown"),
            ({"threshold": 2}, np.zeros((1, 128, 128, 3), np.uint8), "threshold: expected a number in"),
            ({}, np.zeros((1, 112, 112, 3), np.uint8), r"X: expected shape \(\*, 128, 128, 3\)"),
            ({}, np.zeros((1, 128, 128, 3)), "X: expected dtype uint8"),
            ({}, [[1]], "X: expected a NumPy array of uint8, got list"),
        ],
    )
    def test_bad_input(self, occluded: Deoccluder, more: dict[str, Any], X: Any, message: str) -> None:  # noqa: N803
        with pytest.raises(InputError, match=message):
            DeoccluderTransformer(occluded, **more).fit(X)

    def test_not_fitted(self, crops: UInt8Array) -> None:
        with pytest.raises(NotFittedError):
            DeoccluderTransformer().transform(crops)
        with pytest.raises(NotFittedError):
            EmbedderTransformer().transform(crops)


class TestEmbedderTransformer:
    def test_alone(self, crops: UInt8Array) -> None:
        rows = EmbedderTransformer(Colours()).fit_transform(crops)
        # ArcFace's crop is columns 8..120 and rows 0..112 of the canonical one.
        np.testing.assert_allclose(rows, Colours().embed(crops[:, :112, 8:120]), atol=1e-6)
        assert EmbedderTransformer(Colours()).fit(crops).embed(crops)[1] == []

    def test_modes(self, occluded: Deoccluder, visible: Deoccluder, crops: UInt8Array) -> None:
        original = Colours().embed(crops[:, :112, 8:120]).astype(np.float64)
        images = occluded.complete(crops).images
        completed = Colours().embed(images[:, :112, 8:120]).astype(np.float64)
        mixed = 0.4 * completed + 0.6 * original
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        assert np.abs(completed - original).max() > 0.005
        for mode, expected in {"gate": completed, "always": completed, "observe": original, "fuse": mixed}.items():
            made = EmbedderTransformer(Colours(), occluded, mode, share=0.4).fit(crops)
            rows, told = made.embed(crops)
            assert rows.dtype == np.float32
            np.testing.assert_allclose(rows, expected, atol=1e-5)
            assert [face.used for face in told] == [mode != "observe"] * 8
        unmasked = EmbedderTransformer(Colours(), visible).fit_transform(crops)
        np.testing.assert_array_equal(unmasked, EmbedderTransformer(Colours()).fit_transform(crops))

    @pytest.mark.parametrize("kind", ["dlib", "onnx"])
    def test_pickled_when_fitted(self, kind: str, tmp_path: Path) -> None:
        """As joblib.dump does it; a network that cannot be pickled is opened again."""
        if kind == "dlib":
            pytest.importorskip("dlib")
            spec = kind
        else:
            file = write_recogniser(tmp_path / "tiny.onnx")
            spec = f"onnx:{file}?layout=arcface_112&range=0..1&colour=bgr"
        crops = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
        fitted = EmbedderTransformer(spec, device="cpu").fit(crops)
        again = pickle.loads(pickle.dumps(fitted))  # noqa: S301
        np.testing.assert_array_equal(again.transform(crops), fitted.transform(crops))

    def test_recogniser_crops(self) -> None:
        layout = canonical_layout(128)
        assert recogniser_crops(np.zeros((0, 128, 128, 3), np.uint8), layout).shape == (0, 128, 128, 3)
        noise = np.random.default_rng(1).integers(0, 256, (2, 128, 128, 3)).astype(np.uint8)
        np.testing.assert_array_equal(recogniser_crops(noise, layout), noise)

    def test_bad_recogniser(self, crops: UInt8Array) -> None:
        with pytest.raises(ValueError, match="embedder 'clairvoyance' is unknown"):
            EmbedderTransformer("clairvoyance").fit(crops)
        with pytest.raises(InputError, match="embedder: expected a spec or an Embedder, got NoneType"):
            EmbedderTransformer(cast(Any, None)).fit(crops)


CANNOT_APPLY = {
    "check_complex_data": "feeds a table of complex numbers and wants scikit-learn's words about it",
    "check_dtype_object": "feeds a table of objects",
    "check_estimator_sparse_array": "there are no sparse stacks of pictures",
    "check_estimator_sparse_matrix": "there are no sparse stacks of pictures",
    "check_estimator_sparse_tag": "there are no sparse stacks of pictures",
    "check_estimators_dtypes": "casts the pictures to float; they are uint8 by contract",
    "check_estimators_empty_data_messages": "feeds a table without columns",
    "check_estimators_nan_inf": "feeds tables with nan; uint8 has none",
    "check_fit2d_predict1d": "wants scikit-learn's words about a table of one dimension",
    "check_methods_subset_invariance": "takes a single row out and makes it a table",
    "check_n_features_in": "pictures have no n_features_in_",
    "check_n_features_in_after_fitting": "pictures have no n_features_in_",
    "check_transformer_data_not_an_array": "unpacks the shape of the input into two",
    "check_transformer_general": "unpacks the shape of the input into two",
}
"""Checks that want a table even when they are fed pictures; what they are about is tested above where it applies."""


class TabularDeoccluder(DeoccluderTransformer):
    """Says that it takes tables, since scikit-learn checks nothing at all otherwise."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


class TabularEmbedder(EmbedderTransformer):
    """The same of the recogniser."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


def as_pictures(_: Any, X: Any, **__: Any) -> UInt8Array:  # noqa: N803
    """A picture for each row of one of scikit-learn's tables: noise whose colour follows the row."""
    rows = np.nan_to_num(np.asarray(X, np.float64))
    colour = 127.5 + 100 * np.sin(rows @ np.arange(1, rows.shape[1] + 1)[:, None] + [0, 1, 2])
    noise = np.random.default_rng(5).uniform(-20, 20, (16, 16, 3))
    return np.asarray(colour[:, None, None] + noise, np.float64).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["itself", "completes", "embeds"])
def test_memory_is_that_of_some_crops(occluded: Deoccluder, crops: UInt8Array, kind: str) -> None:
    """And what comes of many is what comes of a few."""
    many = np.concatenate([crops] * 40)
    step: Any = {
        "itself": occluded,
        "completes": DeoccluderTransformer(occluded, "always"),
        "embeds": EmbedderTransformer(Colours(), occluded, "fuse"),
    }[kind]
    few = step.fit(crops).transform(crops)
    tracemalloc.start()
    found = step.transform(many)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(found, np.concatenate([few] * 40))
    assert peak < 3.5 * many.nbytes, "all maps at once are 8 times the crops"


def test_tables_of_embeddings_have_columns(crops: UInt8Array) -> None:
    embedder = EmbedderTransformer(Colours()).set_output(transform="pandas")
    table = embedder.fit_transform(crops)
    assert list(table.columns) == [f"embeddertransformer{place}" for place in range(3)]
    np.testing.assert_array_equal(table.to_numpy(), EmbedderTransformer(Colours()).fit_transform(crops))


@pytest.mark.parametrize(("made", "kept"), [(DeoccluderTransformer, ["uint8"]), (EmbedderTransformer, [])])
def test_tags(made: Any, kept: list[str]) -> None:
    tags = get_tags(made())
    assert not tags.input_tags.two_d_array
    assert tags.transformer_tags.preserves_dtype == kept
    assert tags.requires_fit


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["deoccluder", "embedder"])
def test_estimator_checks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of scikit-learn's checks, on pictures instead of its tables."""
    monkeypatch.setattr(estimator_checks, "_enforce_estimator_tags_X", as_pictures)
    blind = tiny(16)
    estimator = {"deoccluder": TabularDeoccluder(blind), "embedder": TabularEmbedder(Colours(), blind)}[name]
    state = np.random.get_state()  # noqa: NPY002 - the checks draw from NumPy's global generator
    try:
        results = estimator_checks.check_estimator(estimator, expected_failed_checks=CANNOT_APPLY, on_fail=None)
    finally:
        np.random.set_state(state)  # noqa: NPY002
    failed = [(result["check_name"], result["exception"]) for result in results if result["status"] == "failed"]
    assert failed == []
    # A check that passes must not be excused.
    assert {result["check_name"] for result in results if result["status"] == "xfail"} == set(CANNOT_APPLY)
    assert sum(result["status"] == "passed" for result in results) >= 30


def test_example(weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("dlib")
    folder = Path(__file__).parents[2] / "examples"
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "argv", ["sklearn_pipeline.py", "--weights", str(weights)])
    runpy.run_path(str(folder / "sklearn_pipeline.py"), run_name="__main__")
    assert "completed" in capsys.readouterr().out
