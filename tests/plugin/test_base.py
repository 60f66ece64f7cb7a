from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskfix.base import InputError, UInt8Array, WeightsError
from maskfix.deocclude import Deoccluder
from maskfix.plugin import GATE_THRESHOLD, MODES, Completer, SeamResult, SeamSettings, embed_by_mode
from maskfix.restore import CLEAN_COVERAGE, create_network
from maskfix.weights import save_weights
from tests.plugin.worlds import GREEN, PAINT, batches, early_green_deoccluder, green_deoccluder

SIDE = 128


def crops(*greens: int) -> UInt8Array:
    """Grey crops whose first so many rows are green."""
    pictures = np.full((len(greens), SIDE, SIDE, 3), 90, np.uint8)
    for picture, rows in zip(pictures, greens, strict=True):
        picture[:rows] = GREEN
    return pictures


class TestSettings:
    def test_defaults(self) -> None:
        assert (SeamSettings().mode, SeamSettings().threshold) == ("gate", GATE_THRESHOLD)
        assert MODES[0] == "gate"

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"mode": "off"}, "mode: 'off' is unknown; known: gate, always, observe, fuse"),
            ({"threshold": 1.5}, r"threshold: expected a number in \[0, 1\], got 1.5"),
            ({"share": -0.1}, r"share: expected a number in \[0, 1\]"),
            ({"threshold": float("nan")}, "threshold"),
        ],
    )
    def test_errors(self, kwargs: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            SeamSettings(**kwargs)


class TestComplete:
    @pytest.mark.parametrize(
        ("mode", "used"),
        [
            ("gate", [False, False, True]),
            ("fuse", [False, False, True]),
            ("always", [True] * 3),
            ("observe", [False] * 3),
        ],
    )
    def test_modes(self, mode: str, used: list[bool]) -> None:
        """Five of 128 rows are 0.039 of the crop, six are 0.047."""
        completer = Completer(green_deoccluder(), SeamSettings(mode))
        before = crops(0, 5, 6)
        result = completer.complete(before)
        assert result.used.tolist() == used
        for i, row in enumerate(result.used):
            np.testing.assert_array_equal(result.images[i], result.completion.images[i] if row else before[i])
        np.testing.assert_allclose(result.completion.coverage, [0, 5 / 128, 6 / 128])
        assert (result.completion.images[2, :8] == PAINT).all()

    def test_nothing_used_gives_the_very_input(self) -> None:
        before = crops(0, 0)
        assert Completer(green_deoccluder()).complete(before).images is before

    def test_threshold_is_exceeded_not_met(self) -> None:
        completer = Completer(green_deoccluder(), SeamSettings(threshold=0.25))
        assert completer.complete(crops(32, 33)).used.tolist() == [False, True]

    def test_one_network_call(self) -> None:
        blind = green_deoccluder()
        Completer(blind).complete(crops(*range(7)))
        assert batches(blind) == [7]

    def test_no_crop(self) -> None:
        assert Completer(green_deoccluder()).complete(crops()).used.shape == (0,)

    def test_unknown_device(self) -> None:
        with pytest.raises(InputError, match="device: 'tpu' is unknown"):
            Completer(device="tpu")


class TestEarlyLook:
    def test_what_is_surely_clean_is_not_decoded(self) -> None:
        blind = early_green_deoccluder()
        completer = Completer(blind)
        before = crops(0, 40, 0, 3)
        result = completer.complete(before)
        assert result.early is not None
        assert result.early.tolist() == [True, False, True, False]
        assert result.used.tolist() == [False, True, False, False]
        assert blind._runner.network.encoded == [4]
        assert batches(blind) == [2], "one call for all that are left"
        np.testing.assert_array_equal(result.images[[0, 2, 3]], before[[0, 2, 3]])
        assert (result.images[1, :40] == PAINT).all()
        plain = Completer(green_deoccluder()).complete(before)
        np.testing.assert_array_equal(result.images, plain.images)
        faces = completer.describe(result)
        assert [face.early for face in faces] == [True, False, True, False]
        assert [face.coverage for face in faces] == pytest.approx([0.001, 40 / 128, 0.001, 3 / 128])
        assert faces[0].occlusion == pytest.approx(np.full((SIDE, SIDE), 0.001))
        assert not faces[0].occluded
        np.testing.assert_array_equal(faces[0].crop, before[0])

    def test_a_face_prints_as_one_line(self) -> None:
        """What was done with it, and neither pixels nor embeddings."""
        completer = Completer(green_deoccluder(), SeamSettings("observe"))
        embeddings = np.zeros((1, 512), np.float32)
        [face] = completer.describe(completer.complete(crops(32)), embeddings, embeddings)
        assert repr(face) == "FaceCompletion(coverage=0.25, occluded=True, used=False, mode='observe', early=False)"

    @pytest.mark.parametrize("mode", ["always", "observe", "fuse"])
    def test_other_modes_take_the_whole_network(self, mode: str) -> None:
        blind = early_green_deoccluder()
        completer = Completer(blind, SeamSettings(mode))
        result = completer.complete(crops(0, 40))
        assert result.early is None
        assert batches(blind) == [2]
        assert not blind._runner.network.encoded
        assert [face.early for face in completer.describe(result)] == [False, False]

    @pytest.mark.parametrize(
        ("threshold", "asked"), [(CLEAN_COVERAGE, True), (CLEAN_COVERAGE - 1e-6, False), (0, False)]
    )
    def test_a_stricter_gate_does_not_ask(self, threshold: float, asked: bool) -> None:
        """What the early look calls clean may be occluded to such a gate."""
        blind = early_green_deoccluder()
        result = Completer(blind, SeamSettings(threshold=threshold)).complete(crops(0))
        assert (result.early is not None) is asked
        assert batches(blind) == ([] if asked else [1])

    def test_none_without_one(self) -> None:
        completer = Completer(green_deoccluder())
        result = completer.complete(crops(0))
        assert result.early is None
        assert not completer.describe(result)[0].early

    def test_a_threshold_of_the_gate_that_may_ask(self) -> None:
        assert CLEAN_COVERAGE <= GATE_THRESHOLD


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of the small network, with random numbers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = create_network("cadf_small_128")
    path = tmp_path_factory.mktemp("weights") / "cadf_small_128.random.safetensors"
    save_weights(path, made.state_dict(), "cadf_small_128")
    return path


class TestLoading:
    def test_lazy(self, tmp_path: Path) -> None:
        completer = Completer(tmp_path / "absent.safetensors")
        with pytest.raises(WeightsError, match="no such weights file"):
            completer.complete(crops(0))

    def test_loaded_once_for_all_threads(self, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        loads = []
        original = Deoccluder.from_pretrained

        def count(*args: Any, **kwargs: Any) -> Deoccluder:
            loads.append(args)
            return original(*args, **kwargs)

        monkeypatch.setattr(Deoccluder, "from_pretrained", count)
        completer = Completer(weights, device="cpu")
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: completer.deoccluder("cpu"), range(8)))
        assert len(loads) == 1
        assert len({id(one) for one in found}) == 1

    def test_follows_the_recogniser_unless_told(self, weights: Path) -> None:
        assert Completer(weights).deoccluder("cpu").device == torch.device("cpu")
        assert Completer(weights, device="cpu").deoccluder("cuda").device == torch.device("cpu")

    def test_pickle_leaves_the_network_behind(self, weights: Path) -> None:
        completer = Completer(weights, SeamSettings("always"), "cpu")
        expected = completer.complete(crops(9))
        data = pickle.dumps(completer)
        assert len(data) < 1000
        copy = pickle.loads(data)  # noqa: S301 - our own bytes
        assert copy.settings == completer.settings
        np.testing.assert_array_equal(copy.complete(crops(9)).images, expected.images)

    def test_a_deoccluder_travels_whole(self) -> None:
        copy = pickle.loads(pickle.dumps(Completer(green_deoccluder(), SeamSettings("always"))))  # noqa: S301
        assert copy.complete(crops(9)).used.tolist() == [True]


def _child(completer: Completer, before: UInt8Array, pipe: Any) -> None:
    result = completer.complete(before)
    pipe.send((result.images, result.used))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes(weights: Path, method: str) -> None:
    """After a fork the network that the parent loaded works on; a spawned child loads it anew."""
    completer = Completer(weights, SeamSettings("always"), "cpu")
    before = crops(30, 0)
    torch.set_num_threads(2)  # a pool of threads that the child will not have
    try:
        expected = completer.complete(before)
        context = multiprocessing.get_context(method)
        ours, theirs = context.Pipe()
        child = context.Process(target=_child, args=(completer, before, theirs))
        child.start()
        assert ours.poll(60), "the child gives no answer"
        images, used = ours.recv()
        child.join(30)
    finally:
        torch.set_num_threads(1)
    assert child.exitcode == 0
    assert used.tolist() == [True, True]
    assert np.abs(images.astype(int) - expected.images).max() <= 1


def test_threads_give_what_one_gives(weights: Path) -> None:
    completer = Completer(weights, SeamSettings("always"), "cpu")
    inputs = [np.random.default_rng(i).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8) for i in range(6)]
    serial = [completer.complete(one).images for one in inputs]
    with ThreadPoolExecutor(3) as pool:
        for one, other in zip(serial, pool.map(lambda x: completer.complete(x).images, inputs), strict=True):
            np.testing.assert_array_equal(one, other)


class TestEmbedByMode:
    @staticmethod
    def run(mode: str, outputs: int = 1) -> tuple[Any, list[Any], list[list[bool]]]:
        completer = Completer(green_deoccluder(), SeamSettings(mode, share=0.5))
        result: SeamResult = completer.complete(crops(0, 40))
        asked: list[list[bool]] = []

        def embed(rows: Any) -> Any:
            asked.append(rows.tolist())
            embedding = np.where(rows[:, None], [[0.0, 1.0]], [[1.0, 0.0]])
            return (embedding * 7, embedding) if outputs == 2 else embedding

        output, faces = embed_by_mode(completer, result, embed)
        return output, faces, asked

    @pytest.mark.parametrize(
        ("mode", "asked", "embedded"),
        [
            ("gate", [[False, True]], [[1, 0], [0, 1]]),
            ("always", [[True, True]], [[0, 1], [0, 1]]),
            ("observe", [[False, False], [True, True]], [[1, 0], [1, 0]]),
            ("fuse", [[False, False], [False, True]], [[1, 0], [0.5**0.5, 0.5**0.5]]),
        ],
    )
    def test_what_is_asked_and_given(self, mode: str, asked: list[list[bool]], embedded: list[list[float]]) -> None:
        output, faces, actual = self.run(mode)
        assert actual == asked
        np.testing.assert_allclose(output, embedded)
        assert [face.mode for face in faces] == [mode] * 2
        assert [face.occluded for face in faces] == [False, True]
        assert faces[1].coverage == pytest.approx(40 / 128)
        kept = mode in ("observe", "fuse")
        assert (faces[1].original is not None) is kept
        if kept:
            np.testing.assert_array_equal(faces[1].original, [1, 0])
            np.testing.assert_array_equal(faces[1].completed, [0, 1])

    def test_several_outputs(self) -> None:
        """The embedding is the last; the others are those of the completed face."""
        first, last = self.run("fuse", outputs=2)[0]
        np.testing.assert_allclose(last, [[1, 0], [0.5**0.5, 0.5**0.5]])
        np.testing.assert_allclose(first, [[7, 0], [0, 7]])

    def test_faces_hold_no_batch(self) -> None:
        """A face kept for long must not keep all others of its batch."""
        face = self.run("gate")[1][0]
        assert face.occlusion.base is None
        assert face.crop.base is None
        np.testing.assert_array_equal(face.crop_bgr, face.crop[..., ::-1])
