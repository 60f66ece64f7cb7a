"""What maskfix.deepface says and does without deepface; the real one is under tests/deepface_environment."""

from __future__ import annotations

import py_compile
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maskfix import deepface as ours
from maskfix.align.base import nothing
from maskfix.base import DependencyError, InputError, Landmarks, arcface_layout
from tests.plugin.worlds import GREEN, PAINT, green_deoccluder, with_chin


class Base:
    """Stands in for deepface's FacialRecognition."""


class Ark:
    """A model of deepface."""

    input_shape, output_shape, model = (32, 32), 3, None

    def forward(self, img: Any) -> Any:
        rows = np.atleast_2d(img.mean((1, 2))).tolist()
        return rows[0] if len(rows) == 1 else rows


@pytest.fixture
def old_deepface(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Deepface before 0.0.99: its registry holds the classes themselves."""
    modeling, threshold, minmax, recognition = (
        ModuleType(name) for name in ("modeling", "threshold", "minmax", "FacialRecognition")
    )
    registry: dict[str, Any] = {"facial_recognition": {"Ark": Ark}}
    cached: dict[str, Any] = {"facial_recognition": {}}

    def build_model(task: str, model_name: str) -> Any:
        models = cached[task]
        if model_name not in models:
            models[model_name] = registry[task][model_name]()
        return models[model_name]

    vars(modeling).update(AVAILABLE_MODELS=registry, cached_models=cached, build_model=build_model)
    vars(threshold).update(thresholds={"Ark": {"cosine": 0.5}})
    # It has this table, and not that of confidences.
    vars(minmax).update(minmax_values={"Ark": (-1, 1)})
    vars(recognition).update(FacialRecognition=Base)
    modules = {
        "deepface": ModuleType("deepface"),
        "deepface.modules": ModuleType("deepface.modules"),
        "deepface.modules.modeling": modeling,
        "deepface.config": ModuleType("deepface.config"),
        "deepface.config.threshold": threshold,
        "deepface.config.minmax": minmax,
        "deepface.models": ModuleType("deepface.models"),
        "deepface.models.FacialRecognition": recognition,
    }
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    blind_detector = SimpleNamespace(detect=lambda pictures: [SimpleNamespace(ok=False, five=None)] * len(pictures))
    monkeypatch.setattr(ours, "load_detector", lambda name: blind_detector)
    for kept in ("_installed", "_settings"):
        monkeypatch.setattr(ours, kept, {})
    return SimpleNamespace(
        modeling=modeling,
        registry=registry["facial_recognition"],
        thresholds=threshold.thresholds,
        minmax=minmax.minmax_values,
        cached=cached["facial_recognition"],
    )


def test_absent__says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("deepface", "deepface.modules", "deepface.modules.modeling"):
        monkeypatch.setitem(sys.modules, name, None)
    for call in (ours.install, lambda: ours.uninstall("ArcFace+maskfix")):
        with pytest.raises(
            DependencyError, match=r"deepface\.modules\.modeling is missing .*; pip install deepface werkzeug"
        ):
            call()


def test_too_old(old_deepface: Any) -> None:
    del old_deepface.modeling.AVAILABLE_MODELS
    with pytest.raises(DependencyError, match=r"no modeling\.AVAILABLE_MODELS; pip install -U deepface"):
        ours.install("Ark")


def test_registry_of_classes(old_deepface: Any) -> None:
    name = ours.install("Ark")
    assert list(old_deepface.registry) == ["Ark", "Ark+maskfix"]
    assert old_deepface.thresholds == {"Ark": {"cosine": 0.5}, "Ark+maskfix": {"cosine": 0.5}}
    built = old_deepface.modeling.build_model("facial_recognition", name)
    assert isinstance(built, Base)
    assert (built.model_name, built.input_shape, built.output_shape) == (name, (32, 32), 3)
    faces = np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)
    assert built.forward(faces) == Ark().forward(faces)
    assert built.forward(faces[:1]) == Ark().forward(faces[:1])
    assert ours.last.faces == (None,)
    assert repr(ours.last) == "LastFaces(faces=(None,))"


class BlindToGreen:
    """Finds the face of ArcFace's layout in every crop but those that show much green, and guesses it there."""

    five = arcface_layout(112).array.astype(np.float32)

    def detect(self, pictures: list[Any]) -> list[Landmarks]:
        green = [(picture == GREEN).all(-1).mean() > 0.02 for picture in pictures]
        return [nothing() if hidden else Landmarks(self.five, None, None, 1.0, "") for hidden in green]

    def guess(self, picture: Any) -> Any:
        return self.five[None] + 1


def test_a_face_that_the_mask_hides_from_the_detector(old_deepface: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "load_detector", lambda name: BlindToGreen())
    built = old_deepface.modeling.build_model("facial_recognition", ours.install("Ark", deoccluder=green_deoccluder()))
    clean = np.full((112, 112, 3), 90, np.uint8)
    faces = np.stack([clean, with_chin(clean, BlindToGreen.five), np.full_like(clean, GREEN)])
    given = faces[..., ::-1].astype(np.float32) / 255
    told = built.forward(given)
    first, second, third = ours.last.faces
    assert (first.used, second.used) == (False, True)
    # All green, it is completed too, and the detector then sees its face there.
    assert third is not None
    assert told[0] == Ark().forward(given)[0]
    # What was green has the colour of the completion: less green, more red.
    plain = Ark().forward(given)[1]
    assert told[1][1] < plain[1] - 0.02
    assert told[1][2] > plain[2] + 0.02


def test_installed_again__newer_settings_count(old_deepface: Any) -> None:
    name = ours.install("Ark")
    first = old_deepface.modeling.build_model("facial_recognition", name)
    ours.install("Ark", mode="always")
    second = old_deepface.modeling.build_model("facial_recognition", name)
    assert first is not second
    assert second.crops._completer.settings.mode == "always"


def test_installed_again__the_same_settings_change_nothing(old_deepface: Any) -> None:
    name = ours.install("Ark", mode="fuse", thresholds={"cosine": 0.3})
    first = old_deepface.modeling.build_model("facial_recognition", name)
    kept = dict(ours._installed)
    assert ours.install("Ark", mode="fuse", thresholds={"cosine": 0.3}) == name
    assert ours._installed == kept
    assert old_deepface.modeling.build_model("facial_recognition", name) is first
    assert ours.install("Ark", mode="fuse", thresholds={"cosine": 0.4}) == name
    assert old_deepface.thresholds[name] == {"cosine": 0.4}
    assert len(ours._installed) == len(kept), "what was replaced is let go"


def test_failed_again__what_was_installed_stays(old_deepface: Any) -> None:
    name = ours.install("Ark")
    first = old_deepface.modeling.build_model("facial_recognition", name)
    with pytest.raises(InputError, match="mode"):
        ours.install("Ark", mode="never")
    assert old_deepface.modeling.build_model("facial_recognition", name) is first


def test_uninstall__all_is_as_it_was(old_deepface: Any) -> None:
    def state() -> list[Any]:
        parts = (old_deepface.registry, old_deepface.thresholds, old_deepface.minmax, old_deepface.cached)
        return [dict(part) for part in (*parts, ours._installed, ours._settings)]

    before = state()
    names = [ours.install("Ark"), ours.install("Ark", "second", mode="always")]
    assert old_deepface.minmax == {"Ark": (-1, 1), "Ark+maskfix": (-1, 1), "second": (-1, 1)}
    for name in names:
        old_deepface.modeling.build_model("facial_recognition", name)
    ours.uninstall(names[0])
    assert "second" in old_deepface.registry
    assert old_deepface.modeling.build_model("facial_recognition", "second").crops._completer.settings.mode == "always"
    ours.uninstall(names[1])
    old_deepface.cached.pop("Ark")
    assert state() == before
    with pytest.raises(InputError, match="'second' was not installed by maskfix"):
        ours.uninstall("second")


@pytest.mark.parametrize("second", [False, True])
def test_triton__before_tensorflow_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, second: bool) -> None:
    for name in ("tensorflow", "triton"):
        (tmp_path / f"{name}.py").write_text("")
        # Set first, so that what is there now is put back in the end.
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    if second:
        import_module("tensorflow")
    ours._keep_one_llvm()
    assert (sys.modules["triton"] is None) == second
    assert ("tensorflow" in sys.modules) == second
    if second:
        with pytest.raises(ImportError):
            import_module("triton")
    else:
        import_module("tensorflow")


def test_classes_are_found_by_their_path(old_deepface: Any) -> None:
    ours.install("Ark")
    made = old_deepface.registry["Ark+maskfix"]
    assert getattr(ours, made.__name__) is made
    with pytest.raises(AttributeError, match="has no attribute 'InstalledNever'"):
        _ = ours.InstalledNever


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"mode": "never"}, "mode: 'never' is unknown"),
        ({"threshold": -1}, "threshold: expected a number in"),
        ({"device": "gpu"}, "device: 'gpu' is unknown"),
    ],
)
def test_bad_settings__nothing_is_registered(old_deepface: Any, more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ours.install("Ark", **more)
    assert list(old_deepface.registry) == ["Ark"]


@pytest.mark.parametrize(
    "faces", [np.full((1, 32, 32, 3), 200.0), np.full((1, 32, 32, 3), -0.5), np.zeros((1, 3, 32, 32))]
)
def test_values_that_are_no_picture(old_deepface: Any, faces: Any) -> None:
    built = old_deepface.modeling.build_model("facial_recognition", ours.install("Ark"))
    with pytest.raises(InputError, match=r"deepface crops: expected \(N, H, W, 3\) in \[0, 1\], got shape"):
        built.forward(faces)


def test_example_compiles(tmp_path: Path) -> None:
    source = Path(__file__).parents[1] / "examples" / "deepface_install.py"
    py_compile.compile(str(source), str(tmp_path / "compiled.pyc"), doraise=True)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the model itself is given, call by call."""
    batches: list[Any] = []
    forward = Ark.forward
    monkeypatch.setattr(Ark, "forward", lambda self, img: batches.append(img.copy()) or forward(self, img))
    return batches


def test_completed_pixels_are_bgr(old_deepface: Any, given: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "load_detector", lambda name: BlindToGreen())
    built = old_deepface.modeling.build_model("facial_recognition", ours.install("Ark", deoccluder=green_deoccluder()))
    # Not grey: the pixels beside the block are told apart too.
    masked = with_chin(np.full((112, 112, 3), (200, 90, 40), np.uint8), BlindToGreen.five)
    built.forward(masked[None, ..., ::-1].astype(np.float32) / 255)
    [[crop]] = given
    middle = tuple(BlindToGreen.five[3:].mean(0).astype(int)[::-1])
    assert tuple(masked[middle]) == GREEN
    np.testing.assert_allclose(crop[middle] * 255, PAINT[::-1], atol=1.01)
    restored = green_deoccluder().restore(masked, BlindToGreen.five)
    np.testing.assert_allclose(crop * 255, restored[..., ::-1], atol=1e-3)


@pytest.mark.parametrize("shape", [(2, 32, 32, 3), (32, 32, 3)])
def test_normalization__the_callers_pixels_stay(
    old_deepface: Any, given: list[Any], monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    def normalize_input(img: Any, normalization: str) -> Any:
        """As deepface does it: in place."""
        assert normalization == "ArcFace"
        img *= 255
        img -= 127.5
        img /= 128
        return img

    preprocessing = ModuleType("deepface.modules.preprocessing")
    vars(preprocessing).update(normalize_input=normalize_input)
    monkeypatch.setitem(sys.modules, preprocessing.__name__, preprocessing)
    built = old_deepface.modeling.build_model("facial_recognition", ours.install("Ark", normalization="ArcFace"))
    faces = np.random.default_rng(0).random(shape, dtype=np.float32)
    before = faces.copy()
    built.forward(faces)
    np.testing.assert_array_equal(faces, before)
    [batch] = given
    np.testing.assert_allclose(batch, (before.reshape(-1, 32, 32, 3) * 255 - 127.5) / 128, atol=1e-6)
