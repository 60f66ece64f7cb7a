"""wrap on onnxruntime sessions, functions and maskfix's embedders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import maskfix
from maskfix.align import align
from maskfix.base import CropLayout, InputError, UInt8Array, arcface_layout
from maskfix.deocclude import Deoccluder
from maskfix.embed import Embedder, load
from maskfix.plugin import CompletedCallable, CompletedEmbedder, CompletedSession
from maskfix.plugin.arrays import completion_device
from tests.embed.gpu_session import SessionOnGpu
from tests.plugin.worlds import GreenNetwork, batches, green_deoccluder, painted

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def crops(face: UInt8Array, masked: UInt8Array, five: NDArray[Any]) -> UInt8Array:
    """The clean and the masked head, `(2, 112, 112, 3)` RGB."""
    return np.stack([align(photo, five, arcface_layout(112))[0] for photo in (face, masked)])


@pytest.fixture(scope="module")
def by_hand(crops: UInt8Array) -> UInt8Array:
    padded = np.pad(crops, ((0, 0), (0, 16), (8, 8), (0, 0)), mode="edge")
    return np.stack([painted(crop)[:112, 8:120] for crop in padded])


def blob(crops: UInt8Array) -> NDArray[np.float32]:
    return np.ascontiguousarray((crops.astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2))


@pytest.fixture(scope="module")
def session(recogniser_path: Path, session_options: Any) -> Any:
    return onnxruntime.InferenceSession(str(recogniser_path), session_options, providers=["CPUExecutionProvider"])


class TestSession:
    @pytest.mark.parametrize("layout", ["arcface_112", arcface_layout(112)])
    def test_run(self, session: Any, crops: UInt8Array, by_hand: UInt8Array, layout: CropLayout | str) -> None:
        blind = green_deoccluder()
        seam = maskfix.wrap(session, layout=layout, value_range="symmetric", deoccluder=blind)
        assert isinstance(seam, CompletedSession)
        [given] = session.get_inputs()
        [out] = seam.run(None, {given.name: blob(crops)})
        [alone] = session.run(None, {given.name: blob(crops)})
        [wanted] = session.run(None, {given.name: blob(by_hand)})
        np.testing.assert_array_equal(out[0], alone[0])
        np.testing.assert_allclose(out[1], wanted[1], atol=1e-5)
        assert np.abs(out[1] - alone[1]).max() > 1e-3
        assert batches(blind) == [2]
        assert [face.used for face in seam.last] == [False, True]

    def test_cuda_that_torch_does_not_have(self, crops: UInt8Array, monkeypatch: pytest.MonkeyPatch) -> None:
        """onnxruntime-gpu beside a torch for the CPU: completion runs on the CPU, as insightface's seam has it."""

        class OnCuda:
            def get_providers(self) -> list[str]:
                return ["CUDAExecutionProvider", "CPUExecutionProvider"]

            def get_inputs(self) -> list[Any]:
                return []

            def run(self, names: Any, feed: Any, options: Any = None) -> list[Any]:
                return [feed["x"].reshape(len(feed["x"]), -1)]

        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
        blind = green_deoccluder()
        monkeypatch.setattr("maskfix.deocclude.Deoccluder.from_pretrained", lambda name, device: blind)
        seam = maskfix.wrap(OnCuda(), layout="arcface_112", value_range="symmetric")
        [out] = seam.run(None, {"x": blob(crops)})
        assert [face.used for face in seam.last] == [False, True]
        assert len(out) == 2

    @pytest.mark.parametrize(
        ("number", "gpus", "device"), [(0, 1, "cuda"), (1, 2, "cuda:1"), (1, 1, "cpu"), (0, 0, "cpu")]
    )
    def test_completion_follows_to_the_gpu_that_torch_has_too(
        self, monkeypatch: pytest.MonkeyPatch, number: int, gpus: int, device: str
    ) -> None:
        monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
        assert completion_device(SessionOnGpu(str(number), "CUDAExecutionProvider")) == device

    def test_bytes_for_a_network_of_floats(self, session: Any, crops: UInt8Array) -> None:
        seam = maskfix.wrap(
            session,
            layout="arcface_112",
            value_range="byte",
            network_range="fixed_standard",
            deoccluder=green_deoccluder(),
        )
        name, planar = session.get_inputs()[0].name, np.ascontiguousarray(crops.transpose(0, 3, 1, 2))
        [out], [wanted] = (seam.run(None, {name: batch}) for batch in (planar, planar.astype(np.float32)))
        np.testing.assert_array_equal(out, wanted)

    def test_passes_through(self, session: Any) -> None:
        seam = maskfix.wrap(session, layout="arcface_112", value_range="symmetric", deoccluder=green_deoccluder())
        assert seam.get_inputs()[0].name == session.get_inputs()[0].name
        with pytest.raises(AttributeError):
            _ = seam.no_such_thing

    @pytest.mark.parametrize("mode", ["observe", "fuse"])
    def test_modes(self, session: Any, crops: UInt8Array, mode: str) -> None:
        seam = maskfix.wrap(
            session, layout="arcface_112", value_range="symmetric", mode=mode, deoccluder=green_deoccluder()
        )
        name = session.get_inputs()[0].name
        [out], [alone] = seam.run(None, {name: blob(crops)}), session.run(None, {name: blob(crops)})
        np.testing.assert_array_equal(out[0], alone[0])
        np.testing.assert_array_equal(seam.last[1].original, alone[1])
        assert (out[1] == alone[1]).all() == (mode == "observe")

    @pytest.mark.parametrize("name", ["run_with_ort_values", "run_with_iobinding", "io_binding", "run_async"])
    def test_what_runs_it_otherwise_is_refused(self, session: Any, name: str) -> None:
        """Nothing would be completed, and nobody told."""
        seam = maskfix.wrap(session, layout="arcface_112", value_range="symmetric", deoccluder=green_deoccluder())
        assert hasattr(seam, name)
        with pytest.raises(
            InputError, match=f"{name}: nothing is completed before it; call run, or inner.{name} to do"
        ):
            getattr(seam, name)(None, {})

    def test_several_inputs(self, session: Any, crops: UInt8Array) -> None:
        seam = maskfix.wrap(session, layout="arcface_112", value_range="symmetric", deoccluder=green_deoccluder())
        with pytest.raises(InputError, match="input_feed: expected the crops alone, got a, b"):
            seam.run(None, {"a": blob(crops), "b": blob(crops)})


class TestCallable:
    @pytest.mark.parametrize("last", [False, True])
    def test_call(self, crops: UInt8Array, by_hand: UInt8Array, last: bool) -> None:
        """Bytes, channels first or last; the function sees what the hand paints."""
        axes = (0, 1, 2, 3) if last else (0, 3, 1, 2)
        seam = maskfix.wrap(
            lambda x, factor=1: x.reshape(len(x), -1).astype(int) * factor,
            layout="arcface_112",
            value_range="byte",
            deoccluder=green_deoccluder(),
        )
        assert isinstance(seam, CompletedCallable)
        out = seam(crops.transpose(axes), factor=2)
        np.testing.assert_array_equal(out, by_hand.transpose(axes).reshape(2, -1).astype(int) * 2)
        np.testing.assert_array_equal(by_hand[0], crops[0])

    def test_clean_batch_is_handed_on_itself(self, crops: UInt8Array) -> None:
        seen: list[Any] = []
        batch = crops[:1]
        maskfix.wrap(seen.append, layout="arcface_112", value_range="byte", deoccluder=green_deoccluder())(batch)
        assert seen[0] is batch

    def test_precision_stays(self, crops: UInt8Array) -> None:
        seam = maskfix.wrap(
            lambda x: x, layout="arcface_112", value_range="unit", mode="always", deoccluder=green_deoccluder()
        )
        for dtype in (np.float16, np.float32, np.float64):
            assert seam((crops / 255).astype(dtype)).dtype == dtype

    def test_grey(self, face: UInt8Array, masked: UInt8Array, five: NDArray[Any]) -> None:
        from maskfix.embed import load_layout

        colour = np.stack([align(photo, five, load_layout("lightcnn"))[0] for photo in (face, masked)])
        seam = maskfix.wrap(lambda x: x, layout="lightcnn", deoccluder=green_deoccluder())
        out = seam((colour / 255).astype(np.float32).transpose(0, 3, 1, 2))
        assert out.shape == (2, 1, 128, 128)
        assert out.dtype == np.float32
        assert 0 <= out.min() < out.max() <= 1

    def test_grey_of_bytes(self) -> None:
        crops = np.random.default_rng(0).integers(0, 200, (2, 3, 128, 128), dtype=np.uint8)
        for taken, dtype in (("unit", np.float32), ("byte", np.uint8)):
            seam = maskfix.wrap(
                lambda x: x,
                layout="lightcnn",
                value_range="byte",
                network_range=taken,
                deoccluder=green_deoccluder(),
            )
            out = seam(crops)
            assert out.dtype == dtype
            np.testing.assert_array_equal(out, seam(crops.astype(np.float32)))
            assert out.max() > (0.5 if taken == "unit" else 100)

    def test_no_array(self) -> None:
        seam = maskfix.wrap(lambda x: x, layout="arcface_112", value_range="byte", deoccluder=green_deoccluder())
        with pytest.raises(InputError, match=r"crops: expected an array \(N, 3, S, S\), got list"):
            seam([1, 2])

    def test_no_recogniser(self) -> None:
        with pytest.raises(InputError, match=r"recogniser: int is none; known: insightface recognisers, nn\.Module"):
            maskfix.wrap(3, layout="arcface_112", value_range="byte")


class TestEmbedder:
    @pytest.fixture(scope="class")
    def arcface(self, recogniser_path: Path) -> Embedder:
        return load(f"arcface:{recogniser_path}", device="cpu")

    def test_is_an_embedder(self, arcface: Embedder, crops: UInt8Array, by_hand: UInt8Array) -> None:
        seam = maskfix.wrap(arcface, deoccluder=green_deoccluder())
        assert isinstance(seam, CompletedEmbedder)
        assert isinstance(seam, Embedder)
        assert seam.name == f"{arcface.name}+maskfix-gate"
        out, alone = seam.embed(crops), arcface.embed(crops)
        np.testing.assert_allclose(out[0], alone[0], atol=1e-6)
        np.testing.assert_allclose(out[1], arcface.embed(by_hand)[1], atol=1e-5)
        np.testing.assert_array_equal(seam.embed(crops[:1]), arcface.embed(crops[:1]))

    def test_fuse_stays_unit(self, arcface: Embedder, crops: UInt8Array) -> None:
        out = maskfix.wrap(arcface, mode="fuse", deoccluder=green_deoccluder()).embed(crops)
        np.testing.assert_allclose(np.linalg.norm(out, axis=1), 1, atol=1e-6)

    @pytest.mark.parametrize("mode", ["gate", "fuse"])
    def test_many_crops_in_parts(self, arcface: Embedder, crops: UInt8Array, mode: str) -> None:
        """The maps of all crops at once would take several times the memory of the crops."""
        blind = Deoccluder(GreenNetwork(), device="cpu", batch_size=1000)  # type: ignore[arg-type]
        seam = maskfix.wrap(arcface, mode=mode, deoccluder=blind)
        many = crops[[0] * 70 + [1]]
        out = seam.embed(many)
        assert batches(blind) == [64, 7]
        assert [face.used for face in seam.last] == [False] * 70 + [True]
        np.testing.assert_allclose(out[[0, -1]], seam.embed(crops), atol=1e-5)

    def test_layout_is_fixed(self, arcface: Embedder) -> None:
        with pytest.raises(InputError, match="value_range: fixed by an embedder of maskfix"):
            maskfix.wrap(arcface, value_range="byte")

    def test_no_crop(self, arcface: Embedder) -> None:
        seam = maskfix.wrap(arcface, deoccluder=green_deoccluder())
        assert seam.embed(np.zeros((0, 112, 112, 3), np.uint8)).shape == (0, arcface.dimension)
