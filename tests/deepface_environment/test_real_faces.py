"""Real photographs, a real recogniser and the released weights inside the real deepface, with its own detector."""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from maskfix import deepface as ours
from maskfix.align import load_detector
from maskfix.base import UInt8Array, read_image, write_image
from maskfix.deocclude import Deoccluder
from maskfix.occlude import Occluder
from maskfix.weights import list_weights

DeepFace = pytest.importorskip(
    "deepface.DeepFace", reason="deepface is not installed here; make test-deepface runs these", exc_type=ImportError
)
modeling = pytest.importorskip("deepface.modules.modeling", exc_type=ImportError)
config = pytest.importorskip("deepface.config.threshold", exc_type=ImportError)

pytestmark = pytest.mark.skipif(not list_weights(), reason="no released weights in this checkout")

MODEL = "MobileFaceNet"
#: One minus the cosine that lets 1 impostor pair of 1,000 in on LFW (maskfix/cli/thresholds.json).
THRESHOLD = 0.563
#: deepface cuts along the detector's box; the canonical crop reaches further, down to the chin.
SETTINGS: dict[str, Any] = {"detector_backend": "opencv", "expand_percentage": 30}


class Photos(NamedTuple):
    """Files: a person, the same one with a mask on another photograph, and somebody else."""

    clean: Path
    masked: Path
    other: Path


@pytest.fixture(scope="module")
def photos(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Photos:
    folder = shared / "data" / "lfw" / "lfw-deepfunneled"
    clean, second = (folder / "Antony_Leung" / f"Antony_Leung_000{number}.jpg" for number in (2, 3))
    photo = read_image(second)
    [found] = load_detector("mtcnn").detect([photo])
    assert found.mask is not None
    masked = tmp_path_factory.mktemp("photos") / "masked.png"
    write_image(masked, Occluder().occlude(photo, found.mask, "surgical_blue").image)
    return Photos(clean, masked, sorted((folder / "Colin_Powell").glob("*.jpg"))[0])


@pytest.fixture(scope="module")
def wrapped() -> Iterator[str]:
    """Deepface with MobileFaceNet, alone and behind maskfix, as it would be for one of deepface's own models."""
    registry = modeling.AVAILABLE_MODELS["facial_recognition"]
    registry[MODEL] = {"any": "tests.deepface_environment.onnx_model.MobileFaceNetClient"}
    config.thresholds[MODEL] = {"cosine": THRESHOLD}
    name = ours.install(MODEL, deoccluder="cadf_small_128", device="cpu")
    yield name
    ours.uninstall(name)
    del registry[MODEL], config.thresholds[MODEL]


def distance(first: Path, second: Path, model: str) -> tuple[bool, float]:
    told = DeepFace.verify(str(first), str(second), model_name=model, **SETTINGS)
    assert (told["model"], told["threshold"], told["similarity_metric"]) == (model, THRESHOLD, "cosine")
    assert bool(told["verified"]) == (told["distance"] <= THRESHOLD)
    return bool(told["verified"]), float(told["distance"])


def test_verify__masked_genuine_pair(photos: Photos, wrapped: str) -> None:
    plain, plain_distance = distance(photos.clean, photos.masked, MODEL)
    verified, completed_distance = distance(photos.clean, photos.masked, wrapped)
    [told] = ours.last.faces
    assert told is not None
    assert 0.1 < told.coverage < 0.4
    assert told.used
    assert not plain
    assert verified
    assert completed_distance < plain_distance - 0.05


def test_verify__impostors(photos: Photos, wrapped: str) -> None:
    for second in (photos.masked, photos.clean):
        verified, found = distance(photos.other, second, wrapped)
        assert not verified
        assert found > 0.7


def test_verify__clean_pair_as_without_maskfix(photos: Photos, wrapped: str) -> None:
    assert distance(photos.clean, photos.other, wrapped) == distance(photos.clean, photos.other, MODEL)


def embedding(picture: Path | UInt8Array, model: str, **settings: Any) -> Any:
    given = str(picture) if isinstance(picture, Path) else picture
    [told] = DeepFace.represent(given, model_name=model, **(settings or SETTINGS))
    vector = np.array(told["embedding"])
    return vector / np.linalg.norm(vector)


def test_represent(photos: Photos, wrapped: str) -> None:
    clean = embedding(photos.clean, wrapped)
    np.testing.assert_array_equal(clean, embedding(photos.clean, MODEL))
    masked, completed = embedding(photos.masked, MODEL), embedding(photos.masked, wrapped)
    assert clean @ completed > clean @ masked + 0.05
    together = DeepFace.represent([str(photos.clean), str(photos.masked)], model_name=wrapped, **SETTINGS)
    for [told], alone in zip(together, (clean, completed), strict=True):
        row = np.array(told["embedding"])
        assert row @ alone / np.linalg.norm(row) > 0.999


def test_find(photos: Photos, wrapped: str, tmp_path: Path) -> None:
    gallery = tmp_path / "gallery"
    for person, photo in (("leung", photos.clean), ("powell", photos.other)):
        (gallery / person).mkdir(parents=True)
        (gallery / person / "1.jpg").write_bytes(photo.read_bytes())
    found = {
        model: DeepFace.find(str(photos.masked), str(gallery), model_name=model, silent=True, **SETTINGS)
        for model in (MODEL, wrapped)
    }
    assert len(found[MODEL][0]) == 0, "masked, it is nobody's face"
    [rows] = found[wrapped]
    assert [Path(identity).parent.name for identity in rows["identity"]] == ["leung"]
    assert rows["distance"][0] == pytest.approx(distance(photos.clean, photos.masked, wrapped)[1], abs=1e-4)
    kept = sorted(path.name for path in gallery.glob("ds_model_*"))
    assert len(kept) == 2, "embeddings are kept by the name of the model"
    assert "ds_model_mobilefacenet+maskfix_detector" in kept[0]


def test_by_hand(photos: Photos, wrapped: str) -> None:
    """The steps that the module's documentation gives for use without a registry."""
    faces = DeepFace.extract_faces(str(photos.masked), align=True, **SETTINGS)
    crop = (faces[0]["face"] * 255).round().astype("uint8")
    [found] = load_detector().detect([crop])
    assert found.five is not None
    restored = Deoccluder.from_pretrained(device="cpu").restore(crop, found.five)
    by_hand = embedding(np.ascontiguousarray(restored[..., ::-1]), MODEL, detector_backend="skip")
    clean, masked = embedding(photos.clean, MODEL), embedding(photos.masked, MODEL)
    assert clean @ by_hand > clean @ masked + 0.05
    # The same colours as deepface's own crop has.
    box = faces[0]["facial_area"]
    photo = cv2.cvtColor(cv2.imread(str(photos.masked)), cv2.COLOR_BGR2RGB)
    there = photo[box["y"] : box["y"] + box["h"], box["x"] : box["x"] + box["w"]]
    np.testing.assert_allclose(crop.mean((0, 1)), there.mean((0, 1)), atol=12)


def test_example(
    photos: Photos, wrapped: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path(__file__).parents[2] / "examples" / "deepface_install.py"
    monkeypatch.setattr(sys, "argv", [script.name, str(photos.clean), str(photos.masked), "--model", MODEL])
    runpy.run_path(str(script), run_name="__main__")
    plain, completed, told = capsys.readouterr().out.splitlines()[-3:]
    assert re.fullmatch(rf"{MODEL}: verified (True|False), distance 0\.\d{{3}} of {THRESHOLD}", plain)
    assert re.fullmatch(rf"{re.escape(wrapped)}: verified True, distance 0\.\d{{3}} of {THRESHOLD}", completed)
    assert re.fullmatch(r"covered: [1-3]\d\.\d%, completed: True", told)
