"""`maskfix verify`: what it prints, writes and returns; weights here are random."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskfix.align import align
from maskfix.base import InputError, UInt8Array, read_image, write_image
from maskfix.cli import faces as faces_module
from maskfix.cli.faces import FaceFinder
from maskfix.cli.thresholds import TABLE, find_threshold
from maskfix.cli.verify import VerifySettings
from maskfix.deocclude import Deoccluder
from maskfix.embed import Embedder, load
from maskfix.weights import add_to_manifest, save_weights
from tests.cli.random_networks import called, save_random_weights
from tests.embed.checkpoint_files import lightcnn_state
from tests.readers import shifting_reader

pytestmark = pytest.mark.skipif(
    not (find_spec("dlib") and find_spec("face_recognition_models")),
    reason="needs dlib-bin and face-recognition-models",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, astronaut: UInt8Array) -> Path:
    """Pictures and weights."""
    path = tmp_path_factory.mktemp("verify")
    write_image(path / "a.png", astronaut[:300, 80:400])
    write_image(path / "b.png", astronaut[10:280, 100:380])
    face = astronaut[:260, 100:360]
    small = face[::2, ::2]
    group = np.full((260, 520, 3), 90, np.uint8)
    group[:, :260], group[60:190, 330:460] = face, small
    write_image(path / "group.png", group)
    write_image(path / "grey.png", np.full((120, 120, 3), 90, np.uint8))
    (path / "text.png").write_text("no picture")
    for bias in (20.0, -20.0):
        save_random_weights(path, bias)
    return path


@pytest.fixture(scope="module")
def shared_parts(folder: Path) -> dict[str, Any]:
    """The recogniser and the detectors, loaded once for all tests of this file."""
    return {"dlib": load("dlib"), "finder": FaceFinder()}


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch: pytest.MonkeyPatch, shared_parts: dict[str, Any]) -> None:
    monkeypatch.setattr(
        "maskfix.cli.verify.load", lambda spec, device: shared_parts["dlib"] if spec == "dlib" else load(spec, device)
    )
    monkeypatch.setattr("maskfix.cli.verify.FaceFinder", lambda *_: shared_parts["finder"])


def words(folder: Path, first: str, second: str, *more: object, bias: str = "-20") -> list[object]:
    weights = folder / f"cadf_small_128.bias{bias}.safetensors"
    base = ("--weights", weights, "--device", "cpu", "--embedder", "dlib")
    return ["verify", folder / first, folder / second, *base, *more]


def verified(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *arguments: Any,
    bias: str = "-20",
) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON object."""
    code = called(monkeypatch, *words(folder, *arguments, "--json", bias=bias))
    return code, json.loads(capsys.readouterr().out)


def test_same_person__lines_and_panel(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, *words(folder, "a.png", "b.png")) == 0
    lines = capsys.readouterr().out.splitlines()
    threshold = find_threshold("dlib", load("dlib").sha256)
    assert threshold is not None
    assert lines[0].startswith("similarity  0.9")
    assert lines[1] == (
        f"decision    same person: above {threshold.value:.4f} (set for a false match rate of 0.1% on LFW View 2, "
        "clean pairs, 3,000 impostors)"
    )
    assert lines[2:4] == [
        f"face {side}      {folder / name}: 0.0% covered, as it came" for side, name in (("A", "a.png"), ("B", "b.png"))
    ]
    assert lines[4].startswith("recogniser  dlib (sha256 ")
    assert lines[5] == "panel       runs/verify/panel.png"
    assert read_image("runs/verify/panel.png").std() > 20


def test_different_people__exit_code_1(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = verified(folder, monkeypatch, capsys, "a.png", "b.png", "--threshold", 0.9999)
    assert (code, told["same"]) == (1, False)
    assert told["threshold"]["value"] == 0.9999
    assert told["threshold"]["fmr"] is None
    assert told["panel"] is None


def test_rate__chooses_the_threshold(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [verified(folder, monkeypatch, capsys, "a.png", "b.png", "--fmr", rate)[1] for rate in (0.01, 0.001)]
    assert told[0]["threshold"]["value"] < told[1]["threshold"]["value"]
    assert [one["threshold"]["fmr"] for one in told] == [0.01, 0.001]


def by_hand(folder: Path, finder: FaceFinder, recogniser: Embedder, restorer: Deoccluder | None) -> Any:
    """Embeddings of both pictures, `(2, D)`; completed ones by the points found on the completed picture."""
    photos = [read_image(folder / name) for name in ("a.png", "b.png")]
    five = np.stack([finder.find(photo)[0] for photo in photos])
    if restorer is not None:
        five = restorer.refine(photos, five, finder.find)
        photos, _ = restorer.restore_batch(photos, five)
    crops = [align(photo, points, recogniser.layout)[0] for photo, points in zip(photos, five, strict=True)]
    return recogniser.embed(np.stack(crops)).astype(np.float64)


def test_modes__against_the_parts(
    folder: Path, shared_parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blind = Deoccluder.from_pretrained(folder / "cadf_small_128.bias+20.safetensors", device="cpu")
    finder, recogniser = shared_parts["finder"], shared_parts["dlib"]
    original, completed = (by_hand(folder, finder, recogniser, restorer) for restorer in (None, blind))
    mixed = 0.75 * completed + 0.25 * original
    mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
    expected = {"gate": completed, "always": completed, "observe": original, "fuse": mixed}
    assert abs(original[0] @ original[1] - completed[0] @ completed[1]) > 3e-6
    for mode, vectors in expected.items():
        _, told = verified(folder, monkeypatch, capsys, "a.png", "b.png", "--mode", mode, bias="+20")
        assert told["similarity"] == pytest.approx(vectors[0] @ vectors[1], abs=1e-6)
        assert told["similarity_original"] == pytest.approx(original[0] @ original[1], abs=1e-6)
        assert told["similarity_completed"] == pytest.approx(completed[0] @ completed[1], abs=1e-6)
        assert [face["completed"] for face in told["faces"]] == [mode != "observe"] * 2
        assert [face["coverage"] for face in told["faces"]] == [1, 1]


def test_both_completed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    panel = tmp_path / "deep" / "panel.pdf"
    assert called(monkeypatch, *words(folder, "a.png", "b.png", "--panel", panel, bias="+20")) == 0
    shown = capsys.readouterr().out
    assert "(without completion: 0.9" in shown
    assert "100.0% covered, completed\n" in shown
    assert "probes" not in shown, "the benchmark completes one face of a pair"
    assert panel.read_bytes()[:4] == b"%PDF"


def test_without_an_embedder__maskfixs_own_where_it_is_here(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("maskfix.weights.weights_folders", lambda: [tmp_path])
    add_to_manifest(
        save_weights(
            tmp_path / "landmarks_128.tiny.safetensors", shifting_reader()._network.state_dict(), "landmarks_128"
        ),
        tmp_path,
    )
    arguments = ["verify", folder / "a.png", folder / "b.png", "--json", "--device", "cpu"]
    arguments += ["--weights", folder / "cadf_small_128.bias-20.safetensors"]
    assert called(monkeypatch, *arguments) == 0
    assert json.loads(capsys.readouterr().out)["embedder"]["name"] == "dlib"
    released = save_weights(tmp_path / "lightcnn9.tiny.safetensors", lightcnn_state("lightcnn9"), "lightcnn9")
    add_to_manifest(released, tmp_path)
    # Random weights: nobody has measured a threshold for them.
    assert called(monkeypatch, *arguments) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["embedder"] == {"name": "lightcnn:lightcnn9.tiny", "sha256": released.sha256}
    assert (told["same"], told["threshold"]) == (None, None)
    assert [set(face) for face in told["faces"]] == [{"picture", "found", "number", "coverage", "completed"}] * 2


def test_several_faces__the_main_one_is_compared(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert called(monkeypatch, *words(folder, "a.png", "group.png", "--panel", tmp_path / "p.png")) == 0
    shown = capsys.readouterr().out
    chosen = "face 1 of 2 from the left (--face-b chooses another)"
    assert f"{folder / 'group.png'}: 0.0% covered, as it came; {chosen}" in shown
    assert f"{folder / 'a.png'}: 0.0% covered, as it came\n" in shown


def test_face__counted_from_the_left(
    folder: Path, shared_parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The small face first, so that the main one is the second from the left.
    write_image(folder / "turned.png", np.ascontiguousarray(read_image(folder / "group.png")[:, ::-1]))
    main, small = shared_parts["finder"].find(read_image(folder / "turned.png"))
    assert small[:, 0].mean() < main[:, 0].mean()
    compared: list[Any] = []
    refine = Deoccluder.refine
    monkeypatch.setattr(
        Deoccluder,
        "refine",
        lambda self, photos, five, *more: compared.append(five) or refine(self, photos, five, *more),
    )
    for more, expected in (((), main), (("--face-b", 2), main), (("--face-b", 1), small)):
        _, told = verified(folder, monkeypatch, capsys, "a.png", "turned.png", *more)
        np.testing.assert_allclose(compared.pop()[1], expected, atol=1e-3)
        assert [face["number"] for face in told["faces"]] == [1, 1 if expected is small else 2]
    # Who counts, counts the faces that no detector sees as well.
    shown = shared_parts["finder"].find
    monkeypatch.setattr(FaceFinder, "find", lambda self, photo: shown(photo)[:1])
    monkeypatch.setattr(Deoccluder, "find_hidden", lambda *_: small[None])
    verified(folder, monkeypatch, capsys, "turned.png", "a.png", "--face-a", 1)
    np.testing.assert_allclose(compared.pop()[0], small, atol=1e-3)


def test_unknown_weights_of_the_recogniser__similarity_but_no_decision(
    folder: Path,
    tmp_path: Path,
    shared_parts: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(shared_parts["dlib"], "sha256", "f" * 64)
    code, told = verified(folder, monkeypatch, capsys, "a.png", "b.png")
    assert (code, told["same"], told["threshold"]) == (2, None, None)
    assert told["similarity"] > 0.9
    assert called(monkeypatch, *words(folder, "a.png", "b.png", "--panel", tmp_path / "p.png")) == 2
    assert (
        "decision    none: no threshold is known for dlib with sha256 ffffffffffff; give one with --threshold"
        in capsys.readouterr().out
    )
    assert verified(folder, monkeypatch, capsys, "a.png", "b.png", "--threshold", 0.5)[0] == 0


@pytest.mark.parametrize(
    ("second", "more", "message"),
    [
        ("absent.png", (), "absent.png: no such picture"),
        ("text.png", (), "text.png: not a picture"),
        ("grey.png", (), "grey.png: no face found; choose a picture"),
        ("b.png", ("--mode", "sometimes"), "mode: 'sometimes' is unknown; known: gate, always, observe, fuse"),
        ("b.png", ("--fmr", 0.02), "fmr: thresholds are shipped for 0.01 and 0.001, got 0.02; or give --threshold"),
        ("b.png", ("--threshold", 3), "threshold: expected a number in [-1, 1], got 3.0"),
        ("b.png", ("--embedder", "clairvoyance"), "embedder 'clairvoyance' is unknown"),
        ("b.png", ("--face-a", 0), "face-a: expected 1 or more (faces are counted from the left), got 0"),
        ("b.png", ("--face-b", 2), "b.png: 1 face found, so there is no face 2 from the left"),
        ("grey.png", ("--face-b", 1), "grey.png: no faces found, so there is no face 1 from the left"),
        ("b.png", ("--panel", "panel.gif"), "panel.gif: figure format: 'gif' is unknown; known: png, pdf, svg"),
    ],
)
def test_bad_input__one_line_and_exit_code_2(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    second: str,
    more: tuple[object, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, *words(folder, "a.png", second, *more)) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert message in shown.err
    assert shown.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_panel_that_cannot_be_written__the_decision_is_told_all_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("a file where the default panel's folder would be")
    for more, code in (((), 0), (("--threshold", 0.9999), 1)):
        assert called(monkeypatch, *words(folder, "a.png", "b.png", *more)) == code
        shown = capsys.readouterr()
        assert "decision    " in shown.out
        assert "panel" not in shown.out
        assert shown.err.startswith("no panel written: runs/verify/panel.png: cannot be written (")
        assert shown.err.count("\n") == 1
    # Who names a panel wants it.
    asked = ("--panel", "/proc/none/panel.png")
    error = "error: /proc/none/panel.png: cannot be written (No such file or directory)\n"
    assert called(monkeypatch, *words(folder, "a.png", "b.png", *asked)) == 2
    shown = capsys.readouterr()
    assert "decision    same person" in shown.out
    assert shown.err == error
    assert called(monkeypatch, *words(folder, "a.png", "b.png", *asked, "--json")) == 2
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert (told["same"], told["panel"]) == (True, None)
    assert shown.err == error


@pytest.mark.parametrize("name", ["a.png", "b.png", "deep/../b.png", "link.png"])
def test_panel_over_a_picture__refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "deep").mkdir()
    pictures = {picture: (folder / picture).read_bytes() for picture in ("a.png", "b.png")}
    for picture, body in pictures.items():
        (tmp_path / picture).write_bytes(body)
    (tmp_path / "link.png").symlink_to("a.png")
    monkeypatch.chdir(tmp_path)
    assert called(monkeypatch, "verify", "a.png", "b.png", "--panel", tmp_path / name) == 2
    assert capsys.readouterr().err == (
        f"error: {tmp_path / name}: is a picture to compare; write the panel somewhere else\n"
    )
    assert {picture: (tmp_path / picture).read_bytes() for picture in pictures} == pictures


class TestThresholds:
    def test_key_is_name_and_hash(self, tmp_path: Path) -> None:
        [row] = [row for row in json.loads(TABLE.read_text())["thresholds"] if row["embedder"] == "dlib"]
        found = find_threshold("dlib", row["sha256"], 0.01)
        assert found is not None
        assert (found.value, found.fmr, found.impostors) == (row["points"]["0.01"]["threshold"], 0.01, 3000)
        assert find_threshold("dlib", "0" * 64) is None
        assert find_threshold("arcface:dlib", row["sha256"]) is None

    def test_settings_are_checked_before_anything_is_loaded(self) -> None:
        with pytest.raises(InputError, match="threshold"):
            VerifySettings(coverage=2)


class TestFaceFinder:
    def test_all_faces__main_one_first(self, folder: Path, shared_parts: dict[str, Any]) -> None:
        points = shared_parts["finder"].find(read_image(folder / "group.png"))
        assert points.shape == (2, 5, 2)
        assert points.dtype == np.float32
        (large, small) = (np.linalg.norm(five[1] - five[0]) for five in points)
        assert large == pytest.approx(2 * small, rel=0.15)
        # The small face is the large one at half its size.
        np.testing.assert_allclose(points[0] / 2 + [330, 60], points[1], atol=3)

    def test_points_come_from_the_detector_of_the_benchmarks(
        self, folder: Path, shared_parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        finder = shared_parts["finder"]
        if finder.name != "mesh":
            pytest.skip("mediapipe is not installed")
        photo = read_image(folder / "a.png")
        alone = finder._fine.detect([photo])[0].five
        np.testing.assert_allclose(finder.find(photo)[0], alone, atol=3)
        monkeypatch.setattr(faces_module, "_SAME_FACE", 0.0)
        _, mtcnn = finder._every.find(photo)
        np.testing.assert_array_equal(finder.find(photo), mtcnn)

    def test_find_hidden__after_those_that_are_found(
        self, folder: Path, shared_parts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        finder, photo = shared_parts["finder"], read_image(folder / "a.png")
        asked: list[Any] = []

        class Blind:
            def find_hidden(self, *arguments: Any) -> Any:
                asked.append(arguments)
                return np.ones((1, 5, 2), np.float32)

        blind: Any = Blind()
        seen = finder.find(photo)
        np.testing.assert_array_equal(finder.find_hidden(photo, blind), [*seen, np.ones((5, 2))])
        nothing = np.full((64, 64, 3), 90, np.uint8)
        np.testing.assert_array_equal(finder.find_hidden(nothing, blind), np.ones((1, 5, 2)))
        [(first, _, _, known), (picture, guess, find, none)] = asked
        assert first is photo
        np.testing.assert_array_equal(known, seen)
        assert picture is nothing
        assert none.shape == (0, 5, 2)
        np.testing.assert_array_equal(find(photo), seen)
        assert len(guess(photo)) >= 1

    def test_no_face(self, shared_parts: dict[str, Any]) -> None:
        for size in (10, 64):
            assert shared_parts["finder"].find(np.full((size, size, 3), 90, np.uint8)).shape == (0, 5, 2)
