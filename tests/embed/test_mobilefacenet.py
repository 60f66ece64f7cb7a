from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from maskfix.base import EmbedderError, InputError
from maskfix.embed.mobilefacenet import MobileFaceNet, _FrozenPReLU
from tests.embed.onnx_files import RECOGNISER, write_mobilefacenet, write_recogniser


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mobilefacenet(tmp_path_factory.mktemp("onnx") / "small.onnx")


@pytest.fixture(scope="module", params=["small", "real"])
def onnx_path(request: pytest.FixtureRequest, small: Path) -> Path:
    if request.param == "small":
        return small
    if not RECOGNISER.is_file():
        pytest.skip(f"{RECOGNISER} is not here")
    return RECOGNISER


def _faces(count: int, seed: int = 0) -> Tensor:
    """Smooth random pictures, nearer to photographs than white noise is."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return nn.functional.interpolate(coarse, size=112, mode="bilinear")


def _onnx_answer(path: Path, faces: Tensor) -> Any:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return session.run(None, {name: ((faces.numpy() * 255 - 127.5) / 128).astype(np.float32)})[0]


class TestFromOnnx:
    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_parity_with_onnxruntime(self, onnx_path: Path, layout: torch.memory_format) -> None:
        network = MobileFaceNet.from_onnx(onnx_path).to(memory_format=layout)
        faces = _faces(3)
        with torch.no_grad():
            ours = network(faces.contiguous(memory_format=layout))
        np.testing.assert_allclose(ours.numpy(), _onnx_answer(onnx_path, faces), atol=1e-4)
        assert ours.shape[1] == network.dimension

    def test_different_faces_differ(self, onnx_path: Path) -> None:
        vectors = MobileFaceNet.from_onnx(onnx_path)(_faces(2))
        assert float(vectors[0] @ vectors[1]) < 0.999

    def test_draws_nothing(self, small: Path) -> None:
        before = torch.get_rng_state()
        MobileFaceNet.from_onnx(small)
        assert torch.equal(torch.get_rng_state(), before)

    def test_frozen_and_in_evaluation_mode(self, small: Path) -> None:
        network = MobileFaceNet.from_onnx(small)
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(EmbedderError, match=r"none\.onnx: no such ONNX file"):
            MobileFaceNet.from_onnx(tmp_path / "none.onnx")

    @pytest.mark.parametrize("keep", [0, 100, 0.5])
    def test_truncated_file(self, small: Path, tmp_path: Path, keep: float) -> None:
        blob = small.read_bytes()
        cut = tmp_path / "cut.onnx"
        cut.write_bytes(blob[: int(keep * len(blob)) if keep < 1 else int(keep)])
        with pytest.raises(EmbedderError, match=r"cut\.onnx: ") as raised:
            MobileFaceNet.from_onnx(cut)
        assert "\n" not in str(raised.value)

    def test_another_network(self, tmp_path: Path) -> None:
        path = write_recogniser(tmp_path / "other.onnx")
        with pytest.raises(EmbedderError, match=r"other\.onnx: not the MobileFaceNet.*0 convolutions"):
            MobileFaceNet.from_onnx(path)

    def test_another_depth(self, tmp_path: Path) -> None:
        path = write_mobilefacenet(tmp_path / "deep.onnx", repeats=(4, 7, 2))
        with pytest.raises(EmbedderError, match="convolutions instead of 52"):
            MobileFaceNet.from_onnx(path)

    def test_stages_of_another_length(self, tmp_path: Path) -> None:
        path = write_mobilefacenet(tmp_path / "moved.onnx", repeats=(5, 5, 2))
        with pytest.raises(EmbedderError, match="convolution"):
            MobileFaceNet.from_onnx(path)

    def test_without_residual_sums(self, tmp_path: Path) -> None:
        path = write_mobilefacenet(tmp_path / "plain.onnx", residual=False)
        with pytest.raises(EmbedderError, match="residual"):
            MobileFaceNet.from_onnx(path)


class TestForward:
    def test_unit_length(self, onnx_path: Path) -> None:
        lengths = MobileFaceNet.from_onnx(onnx_path)(_faces(4)).norm(dim=1)
        torch.testing.assert_close(lengths, torch.ones(4))

    def test_one_pass_agrees_with_two(self, onnx_path: Path) -> None:
        network = MobileFaceNet.from_onnx(onnx_path)
        faces = _faces(2)
        embedding, maps = network.forward_features(faces)
        torch.testing.assert_close(embedding, network(faces))
        for one, two in zip(maps, network.features(faces), strict=True):
            torch.testing.assert_close(one, two)

    def test_feature_maps_lie_at_strides_2_4_8(self, onnx_path: Path) -> None:
        maps = MobileFaceNet.from_onnx(onnx_path).features(_faces(1))
        assert [tuple(m.shape[2:]) for m in maps] == [(56, 56), (28, 28), (14, 14)]

    def test_batch_independence(self, onnx_path: Path) -> None:
        network = MobileFaceNet.from_onnx(onnx_path)
        faces = _faces(3)
        alone = torch.cat([network(face[None]) for face in faces])
        torch.testing.assert_close(network(faces), alone, atol=1e-5, rtol=0)

    def test_wrong_size(self) -> None:
        with pytest.raises(InputError, match=r"faces: expected shape \(\*, 3, 112, 112\)"):
            MobileFaceNet()(torch.zeros(1, 3, 128, 128))

    @pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
    def test_autocast(self, onnx_path: Path, layout: torch.memory_format) -> None:
        network = MobileFaceNet.from_onnx(onnx_path).to(memory_format=layout)
        exact = _faces(2).requires_grad_()
        rough = _faces(2).contiguous(memory_format=layout).requires_grad_()
        target = nn.functional.normalize(torch.ones(network.dimension), dim=0)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            embedding = network(rough)
        assert embedding.dtype == torch.float32
        (embedding @ target).sum().backward()
        reference = network(exact)
        (reference @ target).sum().backward()
        assert float((embedding * reference).detach().sum(1).min()) > 0.99
        assert rough.grad is not None
        assert exact.grad is not None
        assert float(nn.functional.cosine_similarity(rough.grad.flatten(), exact.grad.flatten(), dim=0)) > 0.9


class TestGradient:
    def test_against_finite_differences(self, small: Path) -> None:
        network = MobileFaceNet.from_onnx(small).double()
        generator = torch.Generator().manual_seed(1)
        faces = _faces(1).double().requires_grad_()
        direction = torch.randn(faces.shape, generator=generator, dtype=torch.float64)
        target = torch.randn(16, generator=generator, dtype=torch.float64)

        def loss(x: Tensor) -> Tensor:
            embedding, maps = network.forward_features(x)
            return (embedding @ target).sum() + sum((m.square().mean() for m in maps), torch.zeros(()))

        (gradient,) = torch.autograd.grad(loss(faces), faces)
        step = 1e-7
        slope = (loss(faces + step * direction) - loss(faces - step * direction)) / (2 * step)
        assert float((gradient * direction).sum()) == pytest.approx(slope.item(), rel=1e-4)

    def test_reaches_every_pixel(self, onnx_path: Path) -> None:
        faces = _faces(2).requires_grad_()
        MobileFaceNet.from_onnx(onnx_path)(faces)[:, 0].sum().backward()
        assert faces.grad is not None
        assert torch.isfinite(faces.grad).all()
        assert float((faces.grad != 0).float().mean()) > 0.99

    def test_unfrozen_slopes_learn(self, small: Path) -> None:
        network = MobileFaceNet.from_onnx(small).requires_grad_(True)
        network(_faces(1))[:, 0].sum().backward()
        assert all(parameter.grad is not None for parameter in network.parameters())


class TestFrozenPReLU:
    def test_gradcheck(self) -> None:
        x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
        slope = torch.tensor([-0.5, 0.25, 1.5], dtype=torch.float64)
        assert torch.autograd.gradcheck(lambda value: _FrozenPReLU.apply(value, slope), (x,))

    def test_equals_torch(self) -> None:
        x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
        slope = torch.tensor([-0.5, 0.25, 1.5])
        torch.testing.assert_close(_FrozenPReLU.apply(x, slope), nn.functional.prelu(x, slope))
