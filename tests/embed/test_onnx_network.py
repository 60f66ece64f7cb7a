"""ONNX recognisers with declared layout, range, channel order and output."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper

from maskfix.base import EmbedderError, InputError, UInt8Array, arcface_layout
from maskfix.embed.base import Embedder, describe_embedder, unit_rows
from maskfix.embed.onnx_network import OnnxEmbedder, onnx_sha256, parse_spec, providers
from tests.embed.onnx_files import save

SIZE = 16
LAYOUT = arcface_layout(SIZE)


def write(
    path: Path,
    channels: int = 3,
    first: bool = True,
    outputs: int = 1,
    batch: int | str = "n",
    sides: tuple[int | str, int | str] = (SIZE, SIZE),
) -> tuple[Path, NDArray[np.float32]]:
    """All values of a picture times a random matrix; the axis of the channels is the first or the last."""
    matrix = np.random.default_rng(5).normal(size=(outputs, SIZE * SIZE * channels, 4)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["flat"])]
    nodes += [helper.make_node("MatMul", ["flat", f"w{i}"], [f"y{i}"]) for i in range(outputs)]
    weights: dict[str, NDArray[Any]] = {f"w{i}": matrix[i] for i in range(outputs)}
    shape: list[int | str] = [batch, channels, *sides] if first else [batch, *sides, channels]
    return save(path, nodes, weights, shape, {f"y{i}": 2 for i in range(outputs)}), matrix


def _crops(count: int, size: int = SIZE) -> UInt8Array:
    return np.random.default_rng(3).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def _spec(path: Path, **options: str) -> str:
    return f"{path}?" + "&".join(f"{key}={value}" for key, value in {"layout": LAYOUT.name, **options}.items())


class TestEmbed:
    @pytest.mark.parametrize("first", [True, False])
    @pytest.mark.parametrize("colour", ["rgb", "bgr", "grey"])
    @pytest.mark.parametrize("low_high", ["0..1", "-1..1", "0..255", "-0.99609375..0.99609375", "-.5...5"])
    def test_by_hand(self, tmp_path: Path, first: bool, colour: str, low_high: str) -> None:
        path, matrix = write(tmp_path / "m.onnx", 1 if colour == "grey" else 3, first)
        crops = _crops(3)
        if colour == "grey":
            pictures = np.stack([cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)[..., None] for crop in crops])
        else:
            pictures = crops[..., [2, 1, 0]] if colour == "bgr" else crops
        low, high = {"-.5...5": (-0.5, 0.5)}.get(low_high) or tuple(float(end) for end in low_high.split(".."))
        values = low + pictures / 255 * (high - low)
        flat = (values.transpose(0, 3, 1, 2) if first else values).reshape(3, -1)
        embedder = OnnxEmbedder.from_spec(_spec(path, colour=colour, range=low_high), device="cpu", batch_size=2)
        found = embedder.embed(crops)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, unit_rows(flat @ matrix[0]), atol=2e-5)

    def test_is_an_embedder(self, tmp_path: Path) -> None:
        path, _ = write(tmp_path / "m.onnx")
        embedder = OnnxEmbedder(path, LAYOUT)
        assert isinstance(embedder, Embedder)
        assert (embedder.name, embedder.dimension, embedder.layout, embedder.device) == ("onnx:m", 4, LAYOUT, "cpu")
        assert embedder.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_range_and_colour_left_out_are_arcfaces(self, tmp_path: Path) -> None:
        path, _ = write(tmp_path / "m.onnx")
        told = OnnxEmbedder.from_spec(_spec(path, range="-1..1", colour="rgb"))
        np.testing.assert_array_equal(OnnxEmbedder.from_spec(_spec(path)).embed(_crops(2)), told.embed(_crops(2)))

    def test_one_of_several_outputs(self, tmp_path: Path) -> None:
        path, matrix = write(tmp_path / "m.onnx", outputs=2)
        found = OnnxEmbedder.from_spec(_spec(path, output="y1", range="0..1")).embed(_crops(2))
        flat = (_crops(2) / 255).transpose(0, 3, 1, 2).reshape(2, -1)
        np.testing.assert_allclose(found, unit_rows(flat @ matrix[1]), atol=2e-5)

    def test_network_of_one_batch_size(self, tmp_path: Path) -> None:
        fixed = OnnxEmbedder(write(tmp_path / "a.onnx", batch=4)[0], LAYOUT).embed(_crops(6))
        free = OnnxEmbedder(write(tmp_path / "b.onnx")[0], LAYOUT).embed(_crops(6))
        np.testing.assert_allclose(fixed, free, atol=1e-6)

    def test_network_exported_for_one_face(self, tmp_path: Path) -> None:
        """The input leaves the batch open, a layer within does not."""
        path, _ = write(tmp_path / "free.onnx")
        model = onnx.load(path)
        length = 3 * SIZE * SIZE
        model.graph.node[0].CopyFrom(helper.make_node("Reshape", ["x", "shape"], ["flat"]))
        model.graph.initializer.append(helper.make_tensor("shape", onnx.TensorProto.INT64, [2], [1, length]))
        onnx.save(model, tmp_path / "one.onnx")
        one = OnnxEmbedder(tmp_path / "one.onnx", LAYOUT, batch_size=4).embed(_crops(3))
        np.testing.assert_allclose(one, OnnxEmbedder(path, LAYOUT).embed(_crops(3)), atol=1e-6)

    def test_open_sides(self, tmp_path: Path) -> None:
        path, _ = write(tmp_path / "m.onnx", sides=("h", "w"))
        assert OnnxEmbedder(path, LAYOUT).embed(_crops(2)).shape == (2, 4)

    def test_pooled_output(self, tmp_path: Path) -> None:
        path = save(
            tmp_path / "m.onnx", [helper.make_node("GlobalAveragePool", ["x"], ["y"])], {}, ["n", 3, 16, 16], {"y": 4}
        )
        found = OnnxEmbedder(path, LAYOUT, (0, 1)).embed(_crops(2))
        np.testing.assert_allclose(found, unit_rows(_crops(2).mean((1, 2))), atol=1e-5)

    def test_no_crops(self, tmp_path: Path) -> None:
        assert OnnxEmbedder(write(tmp_path / "m.onnx")[0], LAYOUT).embed(_crops(0)).shape == (0, 4)

    def test_wrong_crops(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"crops: expected shape \(\*, 16, 16, 3\)"):
            OnnxEmbedder(write(tmp_path / "m.onnx")[0], LAYOUT).embed(_crops(1, 32))

    def test_half_precision(self, tmp_path: Path) -> None:
        path, matrix = write(tmp_path / "m.onnx")
        model = onnx.load(str(path))
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
        model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(matrix[0].astype(np.float16), "w0"))
        onnx.save(model, str(tmp_path / "half.onnx"))
        half = OnnxEmbedder(tmp_path / "half.onnx", LAYOUT).embed(_crops(2))
        np.testing.assert_allclose(half, OnnxEmbedder(path, LAYOUT).embed(_crops(2)), atol=0.01)


class TestSpec:
    def test_options(self) -> None:
        path, options = parse_spec("/a b/m.onnx?layout=arcface_112&range=0..1&colour=bgr&output=y%201")
        assert str(path) == "/a b/m.onnx"
        assert options == {"layout": "arcface_112", "range": "0..1", "colour": "bgr", "output": "y 1"}

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ("", r"says no layout; add \?layout=NAME, one of arcface_SIZE"),
            ("?range=0..1", "says no layout"),
            ("?layout=arcface_16&color=bgr", "key 'color' is unknown; known: layout, range, colour, output"),
            ("?layout=arcface_16&layout=dlib_150", "a key is given twice"),
            ("?layout", "expected PATH"),
            ("?layout=arcface_16&&", "expected PATH"),
            ("?layout=face", "crop layout: 'face' is unknown; known: arcface_SIZE"),
            ("?layout=", "crop layout: '' is unknown"),
            ("?layout=arcface_16&range=1", "range: expected LOW..HIGH such as 0..1, got '1'"),
            ("?layout=arcface_16&range=a..b", "range: expected LOW..HIGH"),
            ("?layout=arcface_16&range=1..0", "value_range: expected two finite numbers, the lower first"),
            ("?layout=arcface_16&range=0..inf", "value_range: expected two finite numbers"),
            ("?layout=arcface_16&range=nan..1", "value_range: expected two finite numbers"),
            ("?layout=arcface_16&colour=yuv", "colour: 'yuv' is unknown; known: rgb, bgr, grey"),
            ("?layout=arcface_16&output=z", r"has no output 'z'; say output=NAME, one of y0"),
        ],
    )
    def test_wrong(self, tmp_path: Path, query: str, message: str) -> None:
        path, _ = write(tmp_path / "m.onnx")
        with pytest.raises(EmbedderError, match=message) as raised:
            OnnxEmbedder.from_spec(f"{path}{query}")
        assert "m.onnx" in str(raised.value)
        assert "\n" not in str(raised.value)


class TestWrongNetworks:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(EmbedderError, match=r"none\.onnx: no such ONNX file"):
            OnnxEmbedder(tmp_path / "none.onnx", LAYOUT)

    def test_damaged(self, tmp_path: Path) -> None:
        (tmp_path / "text.onnx").write_text("hello")
        with pytest.raises(EmbedderError, match=r"text\.onnx: damaged, or no ONNX file") as raised:
            OnnxEmbedder(tmp_path / "text.onnx", LAYOUT)
        assert "\n" not in str(raised.value)

    def test_several_outputs(self, tmp_path: Path) -> None:
        with pytest.raises(EmbedderError, match="has several outputs; say output=NAME, one of y0, y1"):
            OnnxEmbedder(write(tmp_path / "m.onnx", outputs=2)[0], LAYOUT)

    @pytest.mark.parametrize(("channels", "colour"), [(3, "grey"), (1, "rgb")])
    def test_other_channels(self, tmp_path: Path, channels: int, colour: str) -> None:
        path, _ = write(tmp_path / "m.onnx", channels)
        with pytest.raises(EmbedderError, match=f"of 16x16 that colour {colour} and layout arcface_16 give"):
            OnnxEmbedder(path, LAYOUT, colour=colour)

    def test_other_size(self, tmp_path: Path) -> None:
        with pytest.raises(EmbedderError, match=r"takes pictures of \[3, 16, 16\], not the 3 channels of 112x112"):
            OnnxEmbedder(write(tmp_path / "m.onnx")[0], arcface_layout(112))

    def test_gives_pictures(self, tmp_path: Path) -> None:
        path = save(tmp_path / "m.onnx", [helper.make_node("Sigmoid", ["x"], ["y"])], {}, ["n", 3, 16, 16], {"y": 4})
        with pytest.raises(EmbedderError, match=r"output 'y' is no embedding, its shape is \(1, 3, 16, 16\)"):
            OnnxEmbedder(path, LAYOUT)

    def test_takes_no_pictures(self, tmp_path: Path) -> None:
        path = save(tmp_path / "m.onnx", [helper.make_node("Sigmoid", ["x"], ["y"])], {}, ["n", 3], {"y": 2})
        with pytest.raises(EmbedderError, match="expected one input of float pictures"):
            OnnxEmbedder(path, LAYOUT)

    def test_not_finite(self, tmp_path: Path) -> None:
        nodes = [helper.make_node("Log", ["x"], ["l"]), helper.make_node("GlobalAveragePool", ["l"], ["y"])]
        path = save(tmp_path / "m.onnx", nodes, {}, ["n", 3, 16, 16], {"y": 4})
        with pytest.raises(EmbedderError, match="numbers that are not finite"):
            OnnxEmbedder(path, LAYOUT, (-2, -1))

    def test_fails_inside(self, tmp_path: Path) -> None:
        path, _ = write(tmp_path / "m.onnx", sides=("h", "w"))
        with pytest.raises(EmbedderError, match="the recogniser failed") as raised:
            OnnxEmbedder(path, arcface_layout(32))
        assert "\n" not in str(raised.value)

    @pytest.mark.parametrize("device", ["cuda:", "cuda:x", "cuda:-1", "cpu:0"])
    def test_no_device(self, device: str) -> None:
        with pytest.raises(InputError, match=f"device: '{device}' is unknown; known: auto, cpu, cuda, cuda:N"):
            OnnxEmbedder("x.onnx", LAYOUT, device=device)

    @pytest.mark.parametrize("options", [{"batch_size": 0}, {"device": "tpu"}, {"colour": "yuv"}])
    def test_wrong_arguments(self, options: dict[str, Any]) -> None:
        with pytest.raises(InputError, match=next(iter(options))):
            OnnxEmbedder("x.onnx", LAYOUT, **options)


class TestProviders:
    def test_one_of_several_gpus(self, monkeypatch: pytest.MonkeyPatch) -> None:
        both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: both)
        assert providers("auto") == providers("cuda") == both
        assert providers("cuda:1") == [("CUDAExecutionProvider", {"device_id": 1}), "CPUExecutionProvider"]
        assert providers("cpu") == ["CPUExecutionProvider"]

    def test_without_cuda(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CPUExecutionProvider"])
        with pytest.warns(UserWarning, match="has no CUDA, the recogniser runs on the CPU"):
            assert OnnxEmbedder(write(tmp_path / "m.onnx")[0], LAYOUT, device="cuda:1").device == "cpu"


class TestHash:
    def test_weights_in_files_beside_it_count(self, tmp_path: Path) -> None:
        path, _ = write(tmp_path / "m.onnx")
        apart = tmp_path / "apart.onnx"
        onnx.save(onnx.load(str(path)), str(apart), save_as_external_data=True, location="apart.data", size_threshold=0)
        before = onnx_sha256(apart)
        parts = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("apart.onnx", "apart.data")]
        assert before == hashlib.sha256("".join(parts).encode()).hexdigest()
        same = OnnxEmbedder(path, LAYOUT).embed(_crops(2))
        np.testing.assert_allclose(OnnxEmbedder(apart, LAYOUT).embed(_crops(2)), same, atol=1e-6)
        data = bytearray((tmp_path / "apart.data").read_bytes())
        data[0] ^= 1
        (tmp_path / "apart.data").write_bytes(data)
        assert onnx_sha256(apart) != before


def test_describe_embedder__all_that_was_declared(tmp_path: Path) -> None:
    """A killed run goes on with recognisers of the same description only."""
    path, _ = write(tmp_path / "m.onnx", outputs=2)
    specs: list[dict[str, str]] = [{"output": "y0"}, {"output": "y1"}]
    specs += [{"output": "y0", "range": "0..1"}, {"output": "y0", "range": "-1..2"}, {"output": "y0", "colour": "bgr"}]
    told = [describe_embedder(OnnxEmbedder.from_spec(_spec(path, **spec), device="cpu")) for spec in [*specs, specs[0]]]
    assert len(set(told)) == len(specs)
    assert told[-1] == told[0] == f"onnx:m {onnx_sha256(path)} arcface_16 raw range=-1.0..1.0 colour=rgb output=y0"


def test_parse_spec__home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell expands no ~ behind a colon."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_spec("~/m.onnx?layout=arcface_112")[0] == tmp_path / "m.onnx"
