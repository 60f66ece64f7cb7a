"""A wrapped model inside the real deepface; `make test-deepface` runs this in an environment of its own."""

from __future__ import annotations

import copy
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from maskfix import deepface as ours
from maskfix.base import InputError, UInt8Array
from maskfix.deocclude import Deoccluder
from tests.random_networks import biased_network

DeepFace = pytest.importorskip(
    "deepface.DeepFace", reason="deepface is not installed here; make test-deepface runs these", exc_type=ImportError
)
modeling = pytest.importorskip("deepface.modules.modeling", exc_type=ImportError)
config = pytest.importorskip("deepface.config.threshold", exc_type=ImportError)
confidence = pytest.importorskip("deepface.config.confidence", exc_type=ImportError)
minmax = pytest.importorskip("deepface.config.minmax", exc_type=ImportError)

REGISTRY = modeling.AVAILABLE_MODELS["facial_recognition"]


def blind(bias: float) -> Deoccluder:
    """A random network that takes everything (bias 20) or nothing (bias -20) for occluded."""
    return Deoccluder(biased_network(bias), device="cpu")


@pytest.fixture(scope="module")
def occluded() -> Deoccluder:
    return blind(20)


@pytest.fixture(scope="module")
def visible() -> Deoccluder:
    return blind(-20)


@pytest.fixture(autouse=True)
def colours() -> Iterator[None]:
    """Deepface with one model more, and as it was afterwards."""
    tables = (REGISTRY, config.thresholds, confidence.confidences, minmax.minmax_values)
    before = [dict(table) for table in tables]
    REGISTRY["Colours"] = {"any": "tests.deepface_environment.colour_model.ColourClient"}
    config.thresholds["Colours"] = {"cosine": 0.01, "euclidean": 0.1, "euclidean_l2": 0.1, "angular": 0.1}
    minmax.minmax_values["Colours"] = (0, 1)
    yield
    for live, saved in zip(tables, before, strict=True):
        live.clear()
        live.update(saved)
    cached().clear()


def cached() -> dict[str, Any]:
    """Models that deepface has built."""
    models: dict[str, Any] = getattr(modeling, "cached_models", {}).get("facial_recognition", {})
    return models


@pytest.fixture(scope="module")
def photo_bgr(astronaut: UInt8Array) -> UInt8Array:
    return np.ascontiguousarray(astronaut[:260, 100:360, ::-1])


@pytest.fixture(scope="module")
def crop_bgr(astronaut: UInt8Array) -> UInt8Array:
    return np.ascontiguousarray(astronaut[50:200, 150:300, ::-1])


def embedding(name: str, picture: Any, **more: Any) -> NDArray[Any]:
    [told] = DeepFace.represent(picture, model_name=name, detector_backend="skip", **more)
    return np.array(told["embedding"])


def test_verify(photo_bgr: UInt8Array, crop_bgr: UInt8Array, occluded: Deoccluder) -> None:
    name = ours.install("Colours", deoccluder=occluded, detector="mtcnn")
    assert name == "Colours+maskfix"
    result = DeepFace.verify(photo_bgr, photo_bgr, model_name=name, detector_backend="opencv")
    assert result["verified"] is True or bool(result["verified"])
    assert result["model"] == name
    assert result["threshold"] == 0.01
    assert ours.last.faces[0].used
    other = DeepFace.verify(photo_bgr, 255 - photo_bgr, model_name=name, enforce_detection=False)
    assert not other["verified"]


def test_unoccluded__to_the_bit(crop_bgr: UInt8Array, visible: Deoccluder) -> None:
    expected = embedding("Colours", crop_bgr)
    for mode in ("gate", "observe", "fuse"):
        name = ours.install("Colours", deoccluder=visible, detector="mtcnn", mode=mode)
        np.testing.assert_array_equal(embedding(name, crop_bgr), expected)
        assert ours.last.faces[0].coverage == 0


def test_modes(crop_bgr: UInt8Array, occluded: Deoccluder) -> None:
    original = embedding("Colours", crop_bgr)
    got = {}
    for mode in ("gate", "always", "observe", "fuse"):
        name = ours.install("Colours", deoccluder=occluded, detector="mtcnn", mode=mode, share=0.25)
        got[mode] = embedding(name, crop_bgr)
    told = ours.last.faces[0]
    np.testing.assert_array_equal(got["observe"], original)
    np.testing.assert_array_equal(got["gate"], got["always"])
    completed = got["always"]
    assert np.abs(completed - original).max() > 0.01
    lengths = np.linalg.norm(completed), np.linalg.norm(original)
    mixed = 0.25 * completed / lengths[0] + 0.75 * original / lengths[1]
    mixed *= (0.25 * lengths[0] + 0.75 * lengths[1]) / np.linalg.norm(mixed)
    np.testing.assert_allclose(got["fuse"], mixed, atol=1e-12)
    np.testing.assert_array_equal(told.completed, completed)


def test_completed_is_what_the_deoccluder_makes_of_the_crop(crop_bgr: UInt8Array, occluded: Deoccluder) -> None:
    import cv2

    from maskfix.align import load_detector

    name = ours.install("Colours", deoccluder=occluded, detector="mtcnn")
    small = cv2.resize(crop_bgr, (96, 96))
    [found] = load_detector("mtcnn").detect([small[..., ::-1]])
    restored = occluded.restore(np.ascontiguousarray(small[..., ::-1]), np.asarray(found.five))[..., ::-1]
    expected = (restored / 255).reshape(2, 48, 2, 48, 3).mean((1, 3)).ravel()
    np.testing.assert_allclose(embedding(name, small), expected, atol=1e-3)


def test_batch__one_call_of_each_network(crop_bgr: UInt8Array, occluded: Deoccluder) -> None:
    from tests.deepface_environment import colour_model

    name = ours.install("Colours", deoccluder=occluded, detector="mtcnn")
    calls: list[int] = []
    hook = occluded._runner.network.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    colour_model.batches.clear()
    try:
        told = DeepFace.represent([crop_bgr, crop_bgr], model_name=name, detector_backend="skip")
    finally:
        hook.remove()
    assert calls == colour_model.batches == [2]
    rows = [one[0]["embedding"] for one in told]
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-6)
    np.testing.assert_allclose(rows[0], embedding(name, crop_bgr), atol=1e-3)


def test_no_landmarks__as_it_came(occluded: Deoccluder) -> None:
    grey = np.full((100, 100, 3), 90, np.uint8)
    name = ours.install("Colours", deoccluder=occluded, detector="mtcnn")
    np.testing.assert_array_equal(embedding(name, grey), embedding("Colours", grey))
    assert ours.last.faces == (None,)


def test_normalization(crop_bgr: UInt8Array, visible: Deoccluder) -> None:
    name = ours.install("Colours", deoccluder=visible, detector="mtcnn")
    with pytest.raises(InputError, match="leave normalization at 'base' and give it to maskfix"):
        embedding(name, crop_bgr, normalization="ArcFace")
    name = ours.install("Colours", deoccluder=visible, detector="mtcnn", normalization="ArcFace")
    np.testing.assert_array_equal(embedding(name, crop_bgr), embedding("Colours", crop_bgr, normalization="ArcFace"))


def test_names() -> None:
    with pytest.raises(InputError, match="deepface model: 'Ark' is unknown; known: VGG-Face, "):
        ours.install("Ark")
    with pytest.raises(InputError, match="'Facenet' is deepface's own; choose another as_name"):
        ours.install("Colours", "Facenet")
    name = ours.install("Colours", "mine", thresholds={"cosine": 0.3})
    assert config.thresholds[name] == {"cosine": 0.3}
    with pytest.raises(InputError, match="'mine' is unknown"):
        ours.install("mine")
    ours.uninstall(name)
    assert "mine" not in REGISTRY
    assert "mine" not in config.thresholds
    for absent in ("mine", "Colours"):
        with pytest.raises(InputError, match="was not installed by maskfix"):
            ours.uninstall(absent)


def test_tables__as_for_the_model_itself(crop_bgr: UInt8Array, visible: Deoccluder) -> None:
    """Without a row of its own a model is refused (threshold), or quietly treated otherwise (the other tables)."""
    for model in ("Colours", "ArcFace"):
        name = ours.install(model, deoccluder=visible)
        assert config.thresholds[name] == config.thresholds[model]
        assert confidence.confidences.get(name) == confidence.confidences.get(model)
        assert minmax.minmax_values[name] == minmax.minmax_values[model]
    for more in ({"minmax_normalize": True}, {"l2_normalize": True}):
        np.testing.assert_array_equal(
            embedding("Colours+maskfix", crop_bgr, **more), embedding("Colours", crop_bgr, **more)
        )


def test_installed_again(crop_bgr: UInt8Array, occluded: Deoccluder, visible: Deoccluder) -> None:
    name = ours.install("Colours", deoccluder=occluded, detector="mtcnn")
    first, built = embedding(name, crop_bgr), cached()["Colours+maskfix"]
    assert ours.install("Colours", deoccluder=occluded, detector="mtcnn") == name
    np.testing.assert_array_equal(embedding(name, crop_bgr), first)
    assert cached()[name] is built, "the same settings build nothing anew"
    assert ours.install("Colours", deoccluder=visible, detector="mtcnn") == name
    np.testing.assert_array_equal(embedding(name, crop_bgr), embedding("Colours", crop_bgr))


def test_uninstall__deepface_as_it_was(crop_bgr: UInt8Array, visible: Deoccluder) -> None:
    def state() -> list[Any]:
        tables = (REGISTRY, config.thresholds, confidence.confidences, minmax.minmax_values)
        return [copy.deepcopy(dict(table)) for table in tables]

    embedding("Colours", crop_bgr)
    before, models = state(), dict(cached())
    name = ours.install("Colours", deoccluder=visible, detector="mtcnn")
    embedding(name, crop_bgr)
    assert state() != before
    ours.uninstall(name)
    assert state() == before
    assert cached() == models
    with pytest.raises(Exception, match=r"Invalid model_name passed - facial_recognition/Colours\+maskfix"):
        embedding(name, crop_bgr)


def test_after_tensorflow__nothing_aborts() -> None:
    """Deepface first, as in everybody's code: it imports tensorflow, after which triton would end the process."""
    code = """
        from deepface import DeepFace
        import sys
        assert "tensorflow" in sys.modules
        import maskfix.deepface
        import torchvision.models  # imports triton where it finds it
        print("alive")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("alive\n")
