"""wrap and stage on real torch recognisers: facenet-pytorch's InceptionResnetV1, LightCNN, a module of one's own."""

from __future__ import annotations

import pickle
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import maskfix
from maskfix.align import align
from maskfix.base import InputError, UInt8Array
from maskfix.embed import create_lightcnn, load_layout
from maskfix.plugin import CompletedModule, CompletionStage, box_landmarks, stage
from tests.plugin.worlds import batches, green_deoccluder
from tests.random_networks import biased_network
from tests.readers import shifting_reader

facenet_pytorch = pytest.importorskip("facenet_pytorch")


@pytest.fixture(scope="module")
def resnet() -> Any:
    """InceptionResnetV1 with random weights: its own cannot be downloaded everywhere."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return facenet_pytorch.InceptionResnetV1(classify=False, num_classes=5, pretrained=None).eval()


@pytest.fixture(scope="module")
def mtcnn() -> Any:
    return facenet_pytorch.MTCNN(image_size=160, margin=14)


@pytest.fixture(scope="module")
def x(mtcnn: Any, face: UInt8Array, masked: UInt8Array) -> Tensor:
    """The clean and the masked head as MTCNN gives them, `(2, 3, 160, 160)` in [-0.996, 0.996]."""
    both = [mtcnn(photo) for photo in (face, masked)]
    assert all(one is not None for one in both)
    return torch.stack(both)


def wrapped(module: nn.Module, **kwargs: Any) -> Any:
    return maskfix.wrap(module, deoccluder=green_deoccluder(), **kwargs)


def run(module: Any, *args: Any, **kwargs: Any) -> Any:
    with torch.no_grad():
        return module(*args, **kwargs)


class TestFacenet:
    def test_gate(self, resnet: Any, x: Tensor) -> None:
        seam = wrapped(resnet)
        assert isinstance(seam, nn.Module)
        alone, seen = run(resnet, x), run(seam, x)
        assert torch.equal(seen[0], alone[0])
        assert not torch.equal(seen[1], alone[1])
        assert [face.used for face in seam.last] == [False, True]
        assert batches(seam.completer.deoccluder()) == [2]

    def test_clean_batch_is_handed_on_itself(self, x: Tensor) -> None:
        seen = []

        class Net(facenet_pytorch.InceptionResnetV1):  # type: ignore[misc, name-defined]
            def forward(self, x: Tensor) -> Tensor:
                seen.append(x)
                return super().forward(x)  # type: ignore[no-any-return]

        batch = x[:1]
        run(wrapped(Net().eval()), batch)
        assert seen[0] is batch

    def test_what_the_network_sees(self, x: Tensor) -> None:
        """The paint where the green was, to the nearest byte; elsewhere MTCNN's own numbers, to the bit."""
        out = run(stage("facenet", "fixed_standard", deoccluder=green_deoccluder()), x)
        assert torch.equal(out[0], x[0])
        changed = (out[1] != x[1]).any(0)
        green = (x[1, 1] - torch.maximum(x[1, 0], x[1, 2])) > 1.5
        assert changed[green].float().mean() > 0.99
        assert changed.float().mean() < 2 * green.float().mean()
        inside = out[1][:, cv_eroded(green)]
        paint = (torch.tensor([180.0, 130, 110])[:, None] - 127.5) / 128
        assert ((inside - paint).abs() * 128 < 1.01).float().mean() > 0.99
        assert torch.equal(out[1][:, ~changed], x[1][:, ~changed])

    def test_bytes_by_declaration(self, resnet: Any, x: Tensor, face: UInt8Array, masked: UInt8Array) -> None:
        """MTCNN(post_process=False) gives 0..255: the seam standardises, and the embedding is the same."""
        plain = facenet_pytorch.MTCNN(image_size=160, margin=14, post_process=False)
        raw = torch.stack([plain(photo) for photo in (face, masked)])
        assert raw.max() > 200
        torch.testing.assert_close(run(wrapped(resnet, value_range="byte"), raw), run(wrapped(resnet), x))
        assert torch.equal(run(wrapped(resnet, value_range="byte"), raw)[0], run(resnet, x)[0])

    def test_never_by_guessing(self, resnet: Any, x: Tensor) -> None:
        with pytest.raises(InputError, match="not 'fixed_standard' as declared; say value_range='unit'"):
            wrapped(resnet)(x * 128 + 127.5)
        with pytest.raises(InputError, match="not 'byte' as declared"):
            wrapped(resnet, value_range="byte")(x)

    def test_classify(self, x: Tensor) -> None:
        net = facenet_pytorch.InceptionResnetV1(classify=True, num_classes=5).eval()
        seam = wrapped(net)
        assert seam.classify is True
        assert run(seam, x).shape == (2, 5)
        assert torch.equal(run(seam, x)[0], run(net, x)[0])
        seam.classify = False
        assert net.classify is False
        assert run(seam, x).shape == (2, 512)
        net.classify = True
        with pytest.raises(InputError, match="mode 'fuse' mixes embeddings, and classify=True gives logits"):
            wrapped(net, mode="fuse")(x)

    def test_missing_faces(self, resnet: Any, mtcnn: Any, x: Tensor, masked: UInt8Array) -> None:
        """MTCNN gives None where it finds nothing."""
        nothing = mtcnn(np.zeros((160, 160, 3), np.uint8))
        assert nothing is None
        seam = wrapped(resnet)
        assert seam(None) is None
        assert seam([None, None]) == [None, None]
        first, gap, second = run(seam, [x[0], nothing, mtcnn(masked)])
        assert gap is None
        expected = run(seam, x)
        torch.testing.assert_close(torch.stack([first, second]), expected)
        assert batches(seam.completer.deoccluder()) == [2, 2]

    def test_several_faces_an_entry(self, resnet: Any, x: Tensor) -> None:
        """MTCNN(keep_all=True) gives `(n, 3, 160, 160)` a photograph."""
        one, gap, two = run(wrapped(resnet), [x[:1], None, x])
        assert gap is None
        assert one.shape == (1, 512)
        assert two.shape == (2, 512)

    def test_landmarks(self, resnet: Any, mtcnn: Any, face: UInt8Array, masked: UInt8Array, x: Tensor) -> None:
        """Landmarks of the detector, carried into the crop, bring the crop to the canonical place."""
        boxes, _, points = mtcnn.detect(face, landmarks=True)
        carried = box_landmarks(points[:1].astype(float), boxes[:1].astype(float), (250, 250))
        # The crop shows the same colours there as the photograph.
        for (u, v), (px, py) in zip(carried[0], points[0], strict=True):
            shown = (x[0, :, round(v), round(u)] * 128 + 127.5).numpy()
            assert np.abs(shown - face[round(py), round(px)]).max() < 40
        seam = wrapped(resnet, mode="always")
        run(seam, x[:1], landmarks=carried)
        [told] = seam.last
        canonical, _ = align(face, points[0].astype(float), load_layout("canonical_128"))
        assert np.abs(told.crop[30:110, 20:108].astype(int) - canonical[30:110, 20:108]).mean() < 12
        assert torch.equal(run(seam, x[:1], landmarks=torch.from_numpy(carried)), run(seam, x[:1], landmarks=carried))

    def test_wrong_number_of_landmarks(self, resnet: Any, x: Tensor) -> None:
        with pytest.raises(InputError, match=r"landmarks: expected shape \(2, 5, 2\)"):
            wrapped(resnet)(x, landmarks=np.zeros((1, 5, 2)))

    @pytest.mark.parametrize("mode", ["observe", "fuse"])
    def test_both_are_kept(self, resnet: Any, x: Tensor, mode: str) -> None:
        seam, alone, gated = wrapped(resnet, mode=mode, share=0.6), run(resnet, x), run(wrapped(resnet), x)
        out = run(seam, x)
        assert torch.equal(out[0], alone[0])
        assert torch.equal(seam.last[1].original, alone[1])
        torch.testing.assert_close(seam.last[1].completed, gated[1])
        mixed = nn.functional.normalize(0.4 * alone[1] + 0.6 * gated[1], dim=0)
        torch.testing.assert_close(out[1], mixed if mode == "fuse" else alone[1])

    def test_precision_follows(self, x: Tensor) -> None:
        net = facenet_pytorch.InceptionResnetV1().eval().double()
        out = run(wrapped(net), x.double())
        assert out.dtype == torch.float64
        assert torch.equal(out[0], run(net, x.double())[0])

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    def test_inside_autocast(self, x: Tensor, dtype: torch.dtype) -> None:
        """The recogniser runs as its caller says, the completion at full precision."""
        blind = maskfix.Deoccluder(biased_network(20), device="cpu", reader=shifting_reader(3, 5))
        seam = maskfix.wrap(Mean(), layout="facenet", value_range="fixed_standard", deoccluder=blind)
        outside, told = run(seam, x), seam.last
        with torch.autocast("cpu", dtype):
            inside = run(seam, x)
        assert torch.equal(inside, outside)
        for ours, expected in zip(seam.last, told, strict=True):
            assert ours.occlusion.dtype == np.float32
            assert ours.coverage == expected.coverage
            np.testing.assert_array_equal(ours.occlusion, expected.occlusion)

    def test_gradients_reach_the_recogniser(self, resnet: Any, x: Tensor) -> None:
        wrapped(resnet)(x).sum().backward()
        gradient = resnet.last_linear.weight.grad
        assert gradient is not None
        assert gradient.abs().sum() > 0
        resnet.zero_grad()

    def test_gradients_reach_the_crops_of_faces_that_pass(self, x: Tensor) -> None:
        given = x.clone().requires_grad_()
        wrapped(Mean(), layout="facenet", value_range="fixed_standard")(given).sum().backward()
        assert given.grad is not None
        assert (given.grad[0] > 0).all()
        assert (given.grad[1] == 0).all()


def cv_eroded(mask: Tensor) -> Tensor:
    """A mask without its rim of three pixels, where resampling mixes."""
    return torch.from_numpy(cv2.erode(mask.numpy().astype(np.uint8), np.ones((7, 7), np.uint8)) > 0)


class TestStage:
    def test_between(self, resnet: Any, x: Tensor) -> None:
        between = stage("facenet", "fixed_standard", deoccluder=green_deoccluder())
        assert isinstance(between, CompletionStage)
        assert torch.equal(run(nn.Sequential(between, resnet), x), run(wrapped(resnet), x))
        assert between(None) is None

    def test_hook(self, x: Tensor) -> None:
        """No change where the network is called: a forward pre-hook."""
        net = facenet_pytorch.InceptionResnetV1().eval()
        expected = run(wrapped(net), x)
        between = stage("facenet", "fixed_standard", deoccluder=green_deoccluder())
        net.register_forward_pre_hook(lambda _, args: (between(args[0]),))
        assert torch.equal(run(net, x), expected)

    def test_converts(self, x: Tensor) -> None:
        between = stage("facenet", "fixed_standard", network_range="unit", deoccluder=green_deoccluder())
        torch.testing.assert_close(between(x)[0], (x[0] * 128 + 127.5) / 255)

    def test_observe_lets_pass(self, x: Tensor) -> None:
        between = stage("facenet", "fixed_standard", mode="observe", deoccluder=green_deoccluder())
        assert between(x) is x
        assert [face.occluded for face in between.last] == [False, True]

    def test_fuse_needs_the_recogniser(self) -> None:
        with pytest.raises(InputError, match=r"use maskfix\.wrap"):
            stage("facenet", "fixed_standard", mode="fuse")


class TestLightCnn:
    @pytest.fixture(scope="class")
    def net(self) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return create_lightcnn("lightcnn9").eval()

    @pytest.fixture(scope="class")
    def colour(self, face: UInt8Array, masked: UInt8Array, five: NDArray[Any]) -> UInt8Array:
        return np.stack([align(photo, five, load_layout("lightcnn"))[0] for photo in (face, masked)])

    def test_colour_in_grey_on(self, net: nn.Module, colour: UInt8Array) -> None:
        """The same bits as with OpenCV's grey picture through ToTensor, which is what users do."""
        grey = np.stack([cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY) for crop in colour])
        alone = run(net, torch.from_numpy(grey)[:, None].float().div(255))
        seam = wrapped(net, layout="lightcnn")
        out = run(seam, torch.from_numpy(colour).permute(0, 3, 1, 2).float().div(255))
        assert torch.equal(out[0], alone[0])
        assert (out[1] != alone[1]).any()

    def test_only_grey_at_hand(self, net: nn.Module) -> None:
        with pytest.raises(InputError, match="completion needs colour, and these are grey"):
            wrapped(net, layout="lightcnn")(torch.zeros(1, 1, 128, 128))

    @pytest.mark.parametrize("mode", ["gate", "observe", "fuse"])
    def test_as_its_authors_have_it(self, net: nn.Module, colour: UInt8Array, mode: str) -> None:
        """Their forward gives logits and then the embedding."""

        class Published(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net, self.fc2 = net, nn.Linear(256, 7)

            def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
                feature = self.net(x)
                return self.fc2(feature), feature

        x = torch.from_numpy(colour).permute(0, 3, 1, 2).float().div(255)
        seam = wrapped(Published(), layout="lightcnn", mode=mode)
        logits, feature = run(seam, x)
        assert logits.shape == (2, 7)
        assert feature.shape == (2, 256)
        torch.testing.assert_close(feature, run(wrapped(net, layout="lightcnn", mode=mode), x))
        alone = run(seam, x[1])
        assert isinstance(alone, tuple)
        torch.testing.assert_close(alone, (logits[1], feature[1]))

    def test_bytes(self, net: nn.Module, colour: UInt8Array) -> None:
        seam = wrapped(net, layout="lightcnn", value_range="byte", network_range="unit")
        pictures = torch.from_numpy(colour).permute(0, 3, 1, 2)
        assert torch.equal(run(seam, pictures), run(seam, pictures.float()))


class Mean(nn.Module):
    """A recogniser of one's own: the mean colour of each quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor, flip: bool = False) -> Tensor:
        return (self.pool(x.flip(-1) if flip else x) * self.scale).flatten(1)


class TestAnyModule:
    @pytest.fixture(scope="class")
    def crops(self, face: UInt8Array, masked: UInt8Array, five: NDArray[Any]) -> Tensor:
        both = np.stack([align(photo, five, load_layout("arcface_112"))[0] for photo in (face, masked)])
        return torch.from_numpy(both).permute(0, 3, 1, 2).float().div(127.5) - 1

    def test_is_the_module(self, crops: Tensor) -> None:
        own = Mean()
        seam = wrapped(own, layout="arcface_112", value_range="symmetric")
        assert seam.inner is own
        assert list(seam.inner.state_dict()) == list(own.state_dict())
        assert [p is q for p, q in zip(seam.parameters(), own.parameters(), strict=True)] == [True]
        seam.train()
        assert own.training
        seam.eval()
        assert not own.training
        assert seam.half() is seam
        assert own.scale.dtype == torch.float16
        seam.float()
        with pytest.raises(AttributeError, match="nothing_like_it"):
            _ = seam.nothing_like_it

    def test_arguments_pass(self, crops: Tensor) -> None:
        own = Mean()
        seam = wrapped(own, layout="arcface_112", value_range="symmetric")
        assert torch.equal(seam(crops, flip=True)[0], own(crops, flip=True)[0])
        assert torch.equal(seam(crops, True)[0], own(crops, True)[0])

    def test_bgr(self, crops: Tensor) -> None:
        rgb, bgr = (wrapped(Mean(), layout="arcface_112", value_range="symmetric", colour=c) for c in ("rgb", "bgr"))
        one, two = rgb(crops).view(2, 3, 4), bgr(crops.flip(1)).view(2, 3, 4).flip(1)
        torch.testing.assert_close(one, two)

    def test_input_is_left_alone(self, crops: Tensor) -> None:
        kept = crops.clone()
        wrapped(Mean(), layout="arcface_112", value_range="symmetric", mode="always")(crops)
        assert torch.equal(crops, kept)

    def test_pickle(self, crops: Tensor) -> None:
        seam = wrapped(Mean(), layout="arcface_112", value_range="symmetric")
        expected = seam(crops)
        other = pickle.loads(pickle.dumps(seam))  # noqa: S301 - our own bytes
        assert isinstance(other, CompletedModule)
        assert torch.equal(other(crops), expected)
        assert other.pool.output_size == 2

    @pytest.mark.parametrize(
        ("kwargs", "message"),
        [
            ({"value_range": "unit"}, "layout: say where the landmarks lie"),
            ({"layout": "arcface_112"}, "value_range: say which numbers the crops hold; known: unit, symmetric"),
            ({"layout": "arcface_112", "value_range": "0..1"}, "value_range: '0..1' is unknown"),
            ({"layout": "arcfce_112", "value_range": "unit"}, "crop layout: 'arcfce_112' is unknown"),
            ({"layout": "arcface_112", "value_range": "unit", "colour": "hsv"}, "colour: 'hsv' is unknown"),
            ({"layout": "arcface_112", "value_range": "unit", "mode": "off"}, "mode: 'off' is unknown"),
        ],
    )
    def test_undeclared(self, kwargs: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            maskfix.wrap(Mean(), **kwargs)

    @pytest.mark.parametrize("x", [np.zeros((1, 3, 112, 112), np.float32), "x"])
    def test_no_tensor(self, x: Any) -> None:
        with pytest.raises(InputError, match=r"crops: expected a tensor \(N, 3, S, S\)"):
            wrapped(Mean(), layout="arcface_112", value_range="unit")(x)


def test_where_facenets_crops_have_the_landmarks(shared: Any) -> None:
    """The places that the seam assumes: the truth lies 11 of 160 pixels off in the median over 80 LFW faces."""
    mtcnn = facenet_pytorch.MTCNN(margin=14, min_face_size=40)
    pictures = sorted((shared / "data" / "lfw" / "lfw-deepfunneled").glob("*/*_0001.jpg"))[::400]
    offsets = []
    for path in pictures:
        photo = maskfix.read_image(path)
        boxes, _, points = mtcnn.detect(photo, landmarks=True)
        if boxes is not None:
            carried = box_landmarks(points[:1].astype(float), boxes[:1].astype(float), photo.shape[1::-1])
            offsets.append(np.linalg.norm(carried[0] - load_layout("facenet").array, axis=1))
    assert len(offsets) >= 8
    assert np.median(offsets) < 16


def test_box_landmarks__box_without_a_pixel() -> None:
    with pytest.raises(InputError, match="box: shows less than a pixel"):
        box_landmarks(np.full((1, 5, 2), 3.0), np.array([[3.2, 3.2, 3.4, 3.4]]), (100, 100))
