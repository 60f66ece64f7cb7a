"""A wrapped model inside the real deepface; `make test-deepface` runs this in an environment of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from maskfix import deepface as ours
from maskfix.base import InputError, UInt8Array
from maskfix.deocclude import Deoccluder
from maskfix.restore import create_network

DeepFace = pytest.importorskip(
    "deepface.DeepFace", reason="deepface is not installed here; make test-deepface runs these", exc_type=ImportError
)
modeling = pytest.importorskip("deepface.modules.modeling", exc_type=ImportError)
config = pytest.importorskip("deepface.config.threshold", exc_type=ImportError)

REGISTRY = modeling.AVAILABLE_MODELS["facial_recognition"]


def blind(bias: float) -> Deoccluder:
    """A random network that takes everything (bias 20) or nothing (bias -20) for occluded."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = create_network("cadf_small_128")
    with torch.no_grad():
        network.decoder.occlusion.weight.zero_()
        network.decoder.occlusion.bias.fill_(bias)  # type: ignore[union-attr]
    return Deoccluder(network, device="cpu")


@pytest.fixture(scope="module")
def occluded() -> Deoccluder:
    return blind(20)


@pytest.fixture(scope="module")
def visible() -> Deoccluder:
    return blind(-20)


@pytest.fixture(autouse=True)
def colours() -> Iterator[None]:
    """Deepface with one model more, and as it was afterwards."""
    before, thresholds = dict(REGISTRY), dict(config.thresholds)
    REGISTRY["Colours"] = {"any": "tests.deepface_environment.colour_model.ColourClient"}
    config.thresholds["Colours"] = {"cosine": 0.01, "euclidean": 0.1, "euclidean_l2": 0.1, "angular": 0.1}
    yield
    for live, saved in ((REGISTRY, before), (config.thresholds, thresholds)):
        live.clear()
        live.update(saved)
    getattr(modeling, "cached_models", {}).get("facial_recognition", {}).clear()


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
    hook = occluded._network.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
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
