"""The stand-in for face_recognition, against the real package on the same dlib."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import runpy
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from maskfix import face_recognition as ours
from maskfix.align import load_detector
from maskfix.base import DependencyError, ImageError, InputError, UInt8Array, read_image, write_image
from maskfix.deocclude import Deoccluder
from maskfix.occlude import Occluder
from maskfix.weights import list_weights, save_weights
from tests.random_networks import biased_network

pytestmark = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("dlib", "face_recognition_models", "face_recognition")),
    reason="needs dlib-bin, face-recognition-models and face_recognition (pip install --no-deps face_recognition)",
)

FUNCTIONS = (
    "batch_face_locations",
    "compare_faces",
    "face_distance",
    "face_encodings",
    "face_landmarks",
    "face_locations",
    "load_image_file",
)


@pytest.fixture(scope="module")
def real() -> ModuleType:
    """The package from PyPI. Its models want pkg_resources, which setuptools no longer has: one function stands in."""
    from PIL import ImageFile

    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("pkg_resources") is None:
            shim = ModuleType("pkg_resources")
            folder = Path(str(importlib.util.find_spec("face_recognition_models").origin)).parent  # type: ignore[union-attr]
            shim.resource_filename = lambda _package, name: str(folder / name)  # type: ignore[attr-defined]
            patch.setitem(sys.modules, "pkg_resources", shim)
        package = importlib.import_module("face_recognition")
    # The package makes Pillow read damaged pictures, for the whole process.
    ImageFile.LOAD_TRUNCATED_IMAGES = truncated
    return package


def blind(bias: float) -> Deoccluder:
    """A random network that takes everything (bias 20) or nothing (bias -20) for occluded."""
    return Deoccluder(biased_network(bias), device="cpu")


@pytest.fixture(scope="module")
def all_occluded() -> Deoccluder:
    return blind(20)


@pytest.fixture(scope="module")
def none_occluded() -> Deoccluder:
    return blind(-20)


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    yield
    ours.configure()


@pytest.fixture(scope="module")
def photo(astronaut: UInt8Array) -> UInt8Array:
    """The face and what is around it, `(240, 240, 3)`."""
    return np.ascontiguousarray(astronaut[0:240, 110:350])


@pytest.fixture(scope="module")
def places(real: Any, photo: UInt8Array) -> Any:
    found = real.face_locations(photo)
    assert len(found) == 1
    return found


@pytest.fixture(scope="module")
def clean(real: Any, photo: UInt8Array, places: Any) -> Any:
    return real.face_encodings(photo, places)


def five_points(real: ModuleType, picture: UInt8Array, places: Any) -> NDArray[np.float64]:
    """ArcFace's five of dlib's 68 points of the one face, by the package."""
    shown = {k: np.array(v, np.float64) for k, v in real.face_landmarks(picture, places)[0].items()}
    eyes = [shown["left_eye"].mean(0), shown["right_eye"].mean(0)]
    return np.array([*eyes, shown["nose_bridge"][3], shown["top_lip"][0], shown["top_lip"][6]])


def shape_of(real: ModuleType, picture: UInt8Array, places: Any) -> Any:
    """The shape by which the package cuts the one face out."""
    return real.api._raw_face_landmarks(picture, places, "small")[0]


class TestSameAsThePackage:
    @pytest.mark.parametrize("name", FUNCTIONS)
    def test_signature(self, real: Any, name: str) -> None:
        theirs, own = (inspect.signature(getattr(module, name)) for module in (real, ours))
        assert [(p.name, p.kind, p.default) for p in own.parameters.values()] == [
            (p.name, p.kind, p.default) for p in theirs.parameters.values()
        ]

    def test_nothing_is_missing(self, real: Any) -> None:
        theirs = {name for name, value in vars(real).items() if inspect.isfunction(value)}
        assert theirs == set(FUNCTIONS) <= set(ours.__all__)
        assert all(getattr(ours.api, name) is getattr(ours, name) for name in FUNCTIONS)

    def test_face_locations(self, photo: UInt8Array, places: Any) -> None:
        assert ours.face_locations(photo) == places

    def test_face_locations__cut_to_the_picture(self, real: Any, photo: UInt8Array, places: Any) -> None:
        top, right, bottom, left = places[0]
        cut = np.ascontiguousarray(photo[top + 8 : bottom - 4, left + 6 : right - 6])
        found = real.face_locations(cut, 1)
        assert ours.face_locations(cut, 1) == found

    def test_cnn(self, real: Any, photo: UInt8Array) -> None:
        small = np.ascontiguousarray(photo[20:220:2, 20:220:2])
        found = real.face_locations(small, 0, model="cnn")
        assert ours.face_locations(small, 0, model="cnn") == found
        assert ours.batch_face_locations([small, small], 0) == real.batch_face_locations([small, small], 0)

    @pytest.mark.parametrize("model", ["large", "small"])
    def test_face_landmarks(self, real: Any, photo: UInt8Array, places: Any, model: str) -> None:
        assert ours.face_landmarks(photo, places, model) == real.face_landmarks(photo, places, model)

    def test_face_landmarks__unknown_model(self, real: Any, photo: UInt8Array, places: Any) -> None:
        for module in (real, ours):
            with pytest.raises(ValueError, match="Invalid landmarks model type"):
                module.face_landmarks(photo, places, model="huge")

    def test_distances(self, real: Any) -> None:
        known = list(np.random.default_rng(0).normal(scale=0.05, size=(5, 128)))
        np.testing.assert_array_equal(ours.face_distance(known, known[2]), real.face_distance(known, known[2]))
        assert ours.face_distance([], known[0]).shape == real.face_distance([], known[0]).shape == (0,)
        assert ours.compare_faces(known, known[2], 0.7) == real.compare_faces(known, known[2], 0.7)
        assert ours.compare_faces(known, known[2])[2]

    @pytest.mark.parametrize("mode", ["RGB", "L"])
    def test_load_image_file(self, real: Any, photo: UInt8Array, tmp_path: Path, mode: str) -> None:
        write_image(tmp_path / "a.jpg", photo)
        np.testing.assert_array_equal(
            ours.load_image_file(tmp_path / "a.jpg", mode), real.load_image_file(tmp_path / "a.jpg", mode)
        )

    @pytest.mark.parametrize("suffix", [".jpg", ".png"])
    def test_load_image_file__cut_off(
        self, real: Any, photo: UInt8Array, tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / f"a{suffix}"
        write_image(path, photo)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        loaded = ours.load_image_file(path)
        with pytest.raises(ImageError, match="truncated"):
            read_image(path)
        # What importing the package does.
        monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
        np.testing.assert_array_equal(loaded, real.load_image_file(path))

    def test_pictures_that_dlib_does_not_take(self, real: Any, photo: UInt8Array, places: Any) -> None:
        for module in (real, ours):
            with pytest.raises((TypeError, RuntimeError)):
                module.face_encodings(photo[..., :2], places)

    def test_empty_picture(self, real: Any) -> None:
        for module in (real, ours):
            for size in ((0, 0, 3), (0, 9, 3)):
                assert module.face_locations(np.zeros(size, np.uint8)) == []
                assert module.face_encodings(np.zeros(size, np.uint8)) == []


class TestFaceEncodings:
    @pytest.mark.parametrize("model", ["small", "large"])
    @pytest.mark.parametrize("mode", ["gate", "fuse", "observe"])
    def test_unoccluded__to_the_bit(
        self, real: Any, photo: UInt8Array, places: Any, none_occluded: Deoccluder, model: str, mode: str
    ) -> None:
        ours.configure(none_occluded, mode)
        own = ours.face_encodings(photo, places, model=model)
        theirs = real.face_encodings(photo, places, model=model)
        assert type(own) is list
        assert [row.dtype for row in own] == [np.dtype(np.float64)]
        np.testing.assert_array_equal(own, theirs)
        assert not ours.last.faces[0].used

    def test_without_locations(self, photo: UInt8Array, none_occluded: Deoccluder, clean: Any) -> None:
        ours.configure(none_occluded)
        np.testing.assert_array_equal(ours.face_encodings(photo), clean)

    def test_occluded__is_the_encoding_of_the_completed_photo(
        self, real: Any, photo: UInt8Array, places: Any, all_occluded: Deoccluder, clean: Any
    ) -> None:
        ours.configure(all_occluded)
        [own] = ours.face_encodings(photo, places)
        guessed = five_points(real, photo, places)
        restored = all_occluded.restore(photo, five_points(real, all_occluded.restore(photo, guessed), places))
        # dlib cuts its chip by the landmarks of the completed picture.
        shape = shape_of(real, restored, places)
        expected = np.array(real.api.face_encoder.compute_face_descriptor(restored, shape, 1))
        assert np.linalg.norm(own - expected) < 0.02
        assert np.linalg.norm(own - clean[0]) > 0.1
        once = all_occluded.restore(photo, guessed)
        unrefined = real.api.face_encoder.compute_face_descriptor(once, shape_of(real, photo, places), 1)
        assert np.linalg.norm(own - np.array(unrefined)) > 0.05
        assert ours.last.faces[0].used
        assert ours.last.faces[0].coverage == 1

    def test_gate_threshold(self, photo: UInt8Array, places: Any, all_occluded: Deoccluder, clean: Any) -> None:
        ours.configure(all_occluded, threshold=1.0)
        np.testing.assert_array_equal(ours.face_encodings(photo, places), clean)

    def test_observe_and_fuse(self, photo: UInt8Array, places: Any, all_occluded: Deoccluder, clean: Any) -> None:
        ours.configure(all_occluded, "always")
        [completed] = ours.face_encodings(photo, places)
        ours.configure(all_occluded, "observe")
        [observed] = ours.face_encodings(photo, places)
        np.testing.assert_array_equal(observed, clean[0])
        np.testing.assert_array_equal(ours.last.faces[0].original, clean[0])
        np.testing.assert_array_equal(ours.last.faces[0].completed, completed)
        ours.configure(all_occluded, "fuse", share=0.25)
        [fused] = ours.face_encodings(photo, places)
        lengths = [np.linalg.norm(v) for v in (completed, clean[0])]
        direction = 0.25 * completed / lengths[0] + 0.75 * clean[0] / lengths[1]
        expected = direction / np.linalg.norm(direction) * (0.25 * lengths[0] + 0.75 * lengths[1])
        np.testing.assert_allclose(fused, expected, atol=1e-12)

    def test_several_faces__one_call_of_the_network(
        self, photo: UInt8Array, places: Any, all_occluded: Deoccluder
    ) -> None:
        ours.configure(all_occluded)
        top, right, bottom, left = places[0]
        both = np.concatenate([photo, photo[:, ::-1]], axis=1)
        width = photo.shape[1]
        two = [places[0], (top, 2 * width - left, bottom, 2 * width - right)]
        batches = []
        hook = all_occluded._runner.network.register_forward_pre_hook(lambda _, args: batches.append(len(args[0])))
        try:
            encodings = ours.face_encodings(both, two)
        finally:
            hook.remove()
        assert batches == [2, 2], "one call for both faces, one for what was found again"
        assert len(encodings) == len(ours.last.faces) == 2
        [alone] = ours.face_encodings(photo, places)
        assert np.linalg.norm(encodings[0] - alone) < 0.02

    def test_jitters(self, photo: UInt8Array, places: Any, none_occluded: Deoccluder, clean: Any) -> None:
        ours.configure(none_occluded)
        [jittered] = ours.face_encodings(photo, places, 3)
        assert 0 < np.linalg.norm(jittered - clean[0]) < 0.3

    def test_no_face(self, all_occluded: Deoccluder) -> None:
        ours.configure(all_occluded)
        grey = np.full((80, 80, 3), 99, np.uint8)
        assert ours.face_encodings(grey) == []
        assert ours.face_encodings(grey, []) == []
        assert ours.last.faces == ()

    @pytest.mark.parametrize("place", [(0, 0, 0, 0), (-9, -7, -9, -7), (90, 60, 40, 100)])
    def test_no_face_in_a_place__encoded_as_it_is(
        self, real: Any, photo: UInt8Array, places: Any, all_occluded: Deoccluder, place: Any
    ) -> None:
        ours.configure(all_occluded)
        [alone] = ours.face_encodings(photo, [place])
        np.testing.assert_array_equal(alone, real.face_encodings(photo, [place])[0])
        assert repr(ours.last) == "LastFaces(faces=(None,))"
        encodings = ours.face_encodings(photo, [place, places[0], place])
        np.testing.assert_array_equal(encodings[::2], [alone, alone])
        np.testing.assert_array_equal(encodings[1], ours.face_encodings(photo, places)[0])
        ours.face_encodings(photo, [place, *places])
        assert repr(ours.last).startswith("LastFaces(faces=(None, FaceCompletion(coverage=1.0, occluded=True, used=")

    def test_threads(self, photo: UInt8Array, places: Any, all_occluded: Deoccluder) -> None:
        ours.configure(all_occluded)
        [alone] = ours.face_encodings(photo, places)
        told: list[Any] = []

        def work(faces: int) -> None:
            rows = ours.face_encodings(photo, places * faces)
            told.append((faces, len(ours.last.faces), np.abs(np.array(rows) - alone).max()))

        threads = [threading.Thread(target=work, args=(n,)) for n in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(told)[0][:2] == (1, 1)
        assert sorted(told)[1][:2] == (2, 2)
        assert max(row[2] for row in told) < 1e-2


@pytest.mark.skipif(not list_weights(), reason="no released weights in this checkout")
class TestHidden:
    """A masked face that HOG misses, found where it is once it is completed."""

    @pytest.fixture(scope="class")
    def masked(self, photo: UInt8Array) -> UInt8Array:
        [found] = load_detector("mtcnn").detect([photo])
        assert found.mask is not None
        return np.ascontiguousarray(Occluder().occlude(photo, found.mask, "KN95").image)

    def test_found_where_the_bare_face_is(self, real: Any, masked: UInt8Array, places: Any) -> None:
        assert real.face_locations(masked) == []
        [found] = ours.face_locations(masked)
        assert np.abs(np.subtract(found, places[0])).max() <= 0.25 * (places[0][2] - places[0][0])

    def test_encoded_as_if_its_place_had_been_given(self, real: Any, masked: UInt8Array) -> None:
        assert real.face_encodings(masked) == []
        [encoding] = ours.face_encodings(masked)
        assert ours.last.faces[0].used
        [expected] = ours.face_encodings(masked, ours.face_locations(masked))
        np.testing.assert_array_equal(encoding, expected)

    @pytest.mark.parametrize("model", ["large", "small"])
    def test_landmarks_of_the_same_faces(self, real: Any, masked: UInt8Array, model: str) -> None:
        expected = real.face_landmarks(masked, ours.face_locations(masked), model)
        assert len(expected) == 1
        assert ours.face_landmarks(masked, model=model) == expected

    @pytest.mark.parametrize("settings", [{"hidden": False}, {"mode": "observe"}])
    def test_not_looked_for(self, masked: UInt8Array, settings: Any) -> None:
        ours.configure(**settings)
        assert ours.face_locations(masked) == []
        assert ours.face_encodings(masked) == []
        assert ours.face_landmarks(masked) == []
        ours.configure()
        assert len(ours.face_locations(masked)) == 1

    def test_beside_a_face_that_is_found(self, photo: UInt8Array, masked: UInt8Array, places: Any) -> None:
        group = np.ascontiguousarray(np.hstack([photo, masked]))
        assert len(ours.face_locations(group)) == len(ours.face_encodings(group)) == 1
        try:
            ours.configure(hidden="beside")
            bare, found = ours.face_locations(group)
            assert bare[1] < photo.shape[1] < found[3]
            moved = np.subtract(found, [0, photo.shape[1], 0, photo.shape[1]])
            assert np.abs(moved - places[0]).max() <= 0.25 * (places[0][2] - places[0][0])
            assert len(ours.face_encodings(group)) == len(ours.face_landmarks(group)) == 2
            assert [told.used for told in ours.last.faces] == [False, True]
        finally:
            ours.configure()
        with pytest.raises(InputError, match="hidden: expected True, False or 'beside'"):
            ours.configure(hidden="always")  # type: ignore[arg-type]

    def test_nothing_there(self, masked: UInt8Array) -> None:
        """Grey pictures are not completed; on what is no face nothing is found."""
        assert ours.face_locations(np.ascontiguousarray(masked[..., 0])) == []
        assert ours.face_locations(np.full((120, 120, 3), 90, np.uint8)) == []
        upside_down = np.ascontiguousarray(masked[::-1])
        assert ours.face_locations(upside_down) == []


class TestConfigure:
    def test_unknown_mode(self) -> None:
        with pytest.raises(InputError, match="mode: 'sometimes' is unknown; known: gate, always, observe, fuse"):
            ours.configure(mode="sometimes")

    def test_what_is_refused_changes_nothing(self) -> None:
        before = ours._COMPLETER, ours._HIDDEN
        for wrong in ({"mode": "x"}, {"device": "x"}, {"threshold": 2}, {"hidden": "x"}):
            with pytest.raises(InputError):
                ours.configure(**({"hidden": False} | wrong))  # type: ignore[arg-type]
            assert before == (ours._COMPLETER, ours._HIDDEN)

    def test_dlib_missing(self, monkeypatch: pytest.MonkeyPatch, photo: UInt8Array) -> None:
        ours._model.cache_clear()
        monkeypatch.setitem(sys.modules, "dlib", None)
        with pytest.raises(
            DependencyError, match=r"face_recognition needs dlib: pip install dlib-bin face-recognition-models"
        ):
            ours.face_locations(photo)


def test_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    weights = tmp_path / "cadf_small_128.random.safetensors"
    save_weights(weights, blind(20)._runner.network.state_dict(), "cadf_small_128")
    folder = Path(__file__).parents[1] / "examples"
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "argv", ["face_recognition_line.py", "--weights", str(weights)])
    runpy.run_path(str(folder / "face_recognition_line.py"), run_name="__main__")
    shown = capsys.readouterr().out
    assert "covered: 100.0%, completed: True" in shown
    assert shown.count("distance to the clean face") == 2
