"""The three LightCNNs against a twin without modules, on synthetic checkpoints in the published format."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskfix.align import align, load_detector
from maskfix.base import EmbedderError, InputError, UInt8Array, WeightsError, read_image
from maskfix.embed.base import Embedder
from maskfix.embed.factory import load
from maskfix.embed.lightcnn import (
    LightCnnEmbedder,
    MaxFeatureMap,
    create_lightcnn,
    load_lightcnn,
    recognise_variant,
)
from maskfix.weights import add_to_manifest, save_weights
from tests.embed.checkpoint_files import PUBLISHED, lightcnn_checkpoint, lightcnn_state, save_as_python2
from tests.reference import lightcnn as slow

VARIANTS = tuple(PUBLISHED)
GROUPS = [
    (48, 48, 1),
    (48, 96, 3),
    (96, 96, 1),
    (96, 192, 3),
    (192, 192, 1),
    (192, 128, 3),
    (128, 128, 1),
    (128, 128, 3),
]
BLOCKS = [(c, c, 3) for c, times in ((48, 1), (96, 2), (192, 3), (128, 4)) for _ in range(2 * times)]
#: Written out by hand from the paper's tables, in millions and exactly.
COUNTS = {
    "lightcnn9": (5.48, slow.parameter_count([(1, 48, 5), *GROUPS], (8192, 512))),
    "lightcnn29": (12.57, slow.parameter_count([(1, 48, 5), *GROUPS, *BLOCKS], (8192, 512))),
    "lightcnn29v2": (10.48, slow.parameter_count([(1, 48, 5), *GROUPS, *BLOCKS], (8192, 256))),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One published checkpoint a variant."""
    folder = tmp_path_factory.mktemp("lightcnn")
    paths = {name: folder / f"{PUBLISHED[name][0]}_checkpoint.pth.tar" for name in VARIANTS}
    for name, path in paths.items():
        torch.save(lightcnn_checkpoint(name, lightcnn_state(name)), path)
    return paths


@pytest.fixture(scope="module")
def embedder(files: dict[str, Path]) -> LightCnnEmbedder:
    return LightCnnEmbedder(files["lightcnn9"], device="cpu")


def _crops(count: int, size: int = 128) -> UInt8Array:
    return np.random.default_rng(3).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def _faces(count: int) -> Tensor:
    return torch.rand(count, 1, 128, 128, generator=torch.Generator().manual_seed(1))


def _network(variant: str) -> nn.Module:
    with torch.device("meta"):
        network = create_lightcnn(variant)
    network.load_state_dict(lightcnn_state(variant), assign=True)
    return network.eval()


class TestNetworks:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_parameter_count(self, variant: str) -> None:
        with torch.device("meta"):
            network = create_lightcnn(variant)
        found = sum(parameter.numel() for parameter in network.parameters())
        millions, exact = COUNTS[variant]
        assert found == exact
        assert round(found / 1e6, 2) == millions
        assert f"{found:,} parameters" in str(network.__doc__)

    @pytest.mark.parametrize(
        ("variant", "keys"),
        [
            ("lightcnn9", {"features.0.filter.bias", "features.2.conv_a.filter.weight", "features.7.conv.filter.bias"}),
            ("lightcnn29", {"block1.0.conv1.filter.weight", "block4.3.conv2.filter.bias", "group3.conv_a.filter.bias"}),
            ("lightcnn29v2", {"conv1.filter.bias", "block3.2.conv1.filter.bias", "group4.conv.filter.bias", "fc.bias"}),
        ],
    )
    def test_published_keys(self, variant: str, keys: set[str]) -> None:
        state = lightcnn_state(variant)
        assert keys <= set(state)
        convolutions = len(GROUPS) + 1 + (0 if variant == "lightcnn9" else len(BLOCKS))
        assert len(state) == 2 * (convolutions + 1)

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_equals_its_twin_layer_by_layer(self, variant: str) -> None:
        network, state = _network(variant), lightcnn_state(variant)
        expected = getattr(slow, variant)(state, _faces(1))
        found: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            return lambda _module, _inputs, output: found.__setitem__(name, output)

        for name, module in network.named_modules():
            if name in expected and name:
                module.register_forward_hook(keep(name))
        with torch.inference_mode():
            embedding = network(_faces(1))
        assert set(found) == set(expected) - {""}
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-4)
        assert embedding.shape == (1, 256)
        torch.testing.assert_close(embedding, list(expected.values())[-1], rtol=1e-4, atol=1e-4)

    def test_max_feature_map_by_hand(self) -> None:
        layer = nn.Linear(1, 4, bias=False)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([[1.0], [-2.0], [3.0], [-4.0]]))
        # Channels 0 and 2 compete, 1 and 3 do.
        assert MaxFeatureMap(layer)(torch.tensor([[1.0], [-1.0]])).tolist() == [[3, -2], [-1, 4]]

    @pytest.mark.parametrize("shape", [(2, 6), (2, 4, 3, 5)])
    def test_gradient_in_training_is_that_of_evaluation(self, shape: tuple[int, ...]) -> None:
        both = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.double)
        weights = torch.randn(shape[0], shape[1] // 2, *shape[2:], generator=torch.Generator().manual_seed(1)).double()
        gradients = []
        for layer in (MaxFeatureMap(torch.nn.Identity()).train(), MaxFeatureMap(torch.nn.Identity()).eval()):
            x = both.clone().requires_grad_()
            found = layer(x)
            torch.testing.assert_close(found, both.unflatten(1, (2, -1)).amax(1))
            (found * weights).sum().backward()
            gradients.append(x.grad)
        torch.testing.assert_close(*gradients)

    @pytest.mark.parametrize("variant", VARIANTS)
    @pytest.mark.parametrize("shape", [(1, 3, 128, 128), (1, 1, 112, 112), (1, 128, 128)])
    def test_wrong_input(self, variant: str, shape: tuple[int, ...]) -> None:
        with torch.device("meta"), pytest.raises(InputError, match=r"faces: expected shape \(\*, 1, 128, 128\)"):
            create_lightcnn(variant)(torch.zeros(shape))

    def test_gradient_reaches_the_picture(self) -> None:
        faces = _faces(1).requires_grad_()
        _network("lightcnn9")(faces).sum().backward()
        assert faces.grad is not None
        assert float((faces.grad != 0).float().mean()) > 0.99

    def test_unknown_variant(self) -> None:
        with pytest.raises(InputError, match="variant: 'lightcnn4' is unknown; known: lightcnn9, lightcnn29, light"):
            create_lightcnn("lightcnn4")


class TestVariant:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_by_keys(self, variant: str) -> None:
        assert recognise_variant(lightcnn_state(variant)) == variant

    @pytest.mark.parametrize("keys", [set(), {"fc.weight"}, {"conv1.weight", "fc.weight"}, {"fc1.filter.weight"}])
    def test_none(self, keys: set[str]) -> None:
        assert recognise_variant(keys) is None


class TestPublishedFormat:
    @pytest.mark.parametrize("variant", VARIANTS)
    def test_loads_strictly(self, files: dict[str, Path], variant: str) -> None:
        network, found, sha256, name = load_lightcnn(files[variant])
        assert name == files[variant].name.removesuffix(".pth.tar")
        assert found == variant
        assert sha256 == hashlib.sha256(files[variant].read_bytes()).hexdigest()
        assert not network.training
        state = lightcnn_state(variant)
        assert set(network.state_dict()) == set(state)
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
        assert not any(parameter.requires_grad for parameter in network.parameters())

    @pytest.mark.parametrize("form", ["bare", "no module", "legacy", "python 2", "half"])
    def test_other_forms(self, tmp_path: Path, form: str) -> None:
        state = lightcnn_state("lightcnn9")
        path = tmp_path / "any.pth"
        whole = lightcnn_checkpoint("lightcnn9", state)
        if form == "python 2":
            save_as_python2(whole, path)
            assert b"U\x05epoch" in path.read_bytes()
        elif form == "legacy":
            torch.save(whole, path, _use_new_zipfile_serialization=False)
        elif form == "half":
            torch.save({key: value.half() for key, value in state.items()}, path)
        else:
            torch.save(dict(state) if form == "no module" else whole["state_dict"], path)
        network, variant, *_ = load_lightcnn(path)
        assert variant == "lightcnn9"
        for key, value in network.state_dict().items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, state[key], atol=1e-3 if form == "half" else 0, rtol=0)

    def test_loading_draws_nothing(self, files: dict[str, Path]) -> None:
        before = torch.random.get_rng_state()
        load_lightcnn(files["lightcnn9"])
        assert torch.equal(before, torch.random.get_rng_state())


class TestOwnWeights:
    def test_file_and_release(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        state = lightcnn_state("lightcnn9")
        row = save_weights(tmp_path / "lightcnn9.tiny.safetensors", state, "lightcnn9", half=True)
        by_path = load(f"lightcnn:{tmp_path / row.file}", device="cpu")
        assert (by_path.name, by_path.sha256) == ("lightcnn:lightcnn9.tiny", row.sha256)
        add_to_manifest(row, tmp_path)
        monkeypatch.setenv("MASKFIX_WEIGHTS", str(tmp_path))
        by_name = load("lightcnn:lightcnn9.tiny", device="cpu")
        assert (by_name.name, by_name.sha256) == ("lightcnn:lightcnn9.tiny", row.sha256)
        np.testing.assert_array_equal(by_name.embed(_crops(1)), by_path.embed(_crops(1)))

    def test_unknown_release(self) -> None:
        with pytest.raises(WeightsError, match=r"'lightcnn9\.nothing' are unknown; known: "):
            load_lightcnn("lightcnn9.nothing")

    def test_release_of_another_network(self, tmp_path: Path) -> None:
        save_weights(tmp_path / "other.safetensors", {"a": torch.zeros(2)}, "other")
        with pytest.raises(
            EmbedderError, match=r"other\.safetensors: no LightCNN-9, -29 or -29v2; its first keys are a"
        ):
            load_lightcnn(tmp_path / "other.safetensors")


class TestWrongNetworks:
    @pytest.fixture
    def state(self) -> dict[str, Tensor]:
        return dict(lightcnn_state("lightcnn9"))

    def check(self, tmp_path: Path, state: dict[str, Tensor], message: str) -> None:
        torch.save(state, tmp_path / "x.pth")
        with pytest.raises(EmbedderError, match=message) as raised:
            load_lightcnn(tmp_path / "x.pth")
        assert "\n" not in str(raised.value)

    def test_other_network(self, tmp_path: Path) -> None:
        other = {"layer1.weight": torch.zeros(2), "fc.weight": torch.zeros(2, 2)}
        self.check(tmp_path, other, "no LightCNN-9, -29 or -29v2; its first keys are layer1.weight, fc.weight")

    def test_lacks_a_key(self, tmp_path: Path, state: dict[str, Tensor]) -> None:
        del state["features.4.conv.filter.bias"]
        self.check(tmp_path, state, "does not fit lightcnn9: it lacks 'features.4.conv.filter.bias'$")

    def test_has_a_key_too_many(self, tmp_path: Path, state: dict[str, Tensor]) -> None:
        state |= {"extra": torch.zeros(1), "more": torch.zeros(1)}
        self.check(tmp_path, state, "does not fit lightcnn9: it has 'extra' and 1 more$")

    def test_takes_colour(self, tmp_path: Path, state: dict[str, Tensor]) -> None:
        state["features.0.filter.weight"] = torch.zeros(96, 3, 5, 5)
        self.check(tmp_path, state, r"'features.0.filter.weight' has shape \(96, 3, 5, 5\), not \(96, 1, 5, 5\)")

    def test_holds_nan(self, tmp_path: Path, state: dict[str, Tensor]) -> None:
        state["fc1.filter.bias"] = torch.full((512,), torch.nan)
        self.check(tmp_path, state, "'fc1.filter.bias' holds NaN or infinity")


class TestEmbed:
    def test_is_an_embedder(self, embedder: LightCnnEmbedder, files: dict[str, Path]) -> None:
        assert isinstance(embedder, Embedder)
        assert embedder.name == "lightcnn:LightCNN-9_checkpoint"
        assert (embedder.dimension, embedder.layout.name, embedder.variant) == (256, "lightcnn_128", "lightcnn9")
        assert embedder.sha256 == hashlib.sha256(files["lightcnn9"].read_bytes()).hexdigest()

    def test_equals_by_hand(self, embedder: LightCnnEmbedder) -> None:
        crops = _crops(2)
        grey = np.stack([cv2.cvtColor(crop[..., ::-1].copy(), cv2.COLOR_BGR2GRAY) for crop in crops])
        faces = torch.from_numpy(grey)[:, None] / 255
        by_hand = list(slow.lightcnn9(lightcnn_state("lightcnn9"), faces).values())[-1]
        expected = nn.functional.normalize(by_hand, dim=1).numpy()
        found = embedder.embed(crops)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
        raw = embedder.embed_raw(crops)
        np.testing.assert_allclose(raw, by_hand.numpy(), atol=1e-5 * float(by_hand.norm()))
        assert (np.abs(np.linalg.norm(raw, axis=1) - 1) > 0.01).all()

    def test_red_and_blue_are_not_swapped(self, embedder: LightCnnEmbedder) -> None:
        crops = _crops(1)
        crops[..., 0] //= 3
        first, second = embedder.embed(np.concatenate([crops, crops[..., ::-1]]))
        assert float(first @ second) < 0.9999

    def test_batches_do_not_matter(self, files: dict[str, Path], embedder: LightCnnEmbedder) -> None:
        small = LightCnnEmbedder(files["lightcnn9"], device="cpu", batch_size=2)
        np.testing.assert_allclose(small.embed(_crops(3)), embedder.embed(_crops(3)), atol=1e-5)

    def test_crops_that_cannot_be_written_to_and_run_backwards(self, embedder: LightCnnEmbedder) -> None:
        crops = _crops(2)[:, :, ::-1]
        crops.setflags(write=False)
        np.testing.assert_allclose(embedder.embed(crops), embedder.embed(crops.copy()), atol=1e-6)

    def test_no_crops(self, embedder: LightCnnEmbedder) -> None:
        assert embedder.embed(_crops(0)).shape == (0, 256)

    @pytest.mark.parametrize("crops", [_crops(1, 112), _crops(1)[..., 0], _crops(1).astype(np.float32)])
    def test_wrong_crops(self, embedder: LightCnnEmbedder, crops: Any) -> None:
        with pytest.raises(InputError, match="crops: expected"):
            embedder.embed(crops)

    def test_batch_size(self) -> None:
        with pytest.raises(InputError, match="batch_size: expected at least 1, got 0"):
            LightCnnEmbedder("x.pth", batch_size=0)


def test_aligned_real_faces(shared: Path, embedder: LightCnnEmbedder) -> None:
    """A second look at the crop finds the middles of eyes and mouth where LightCNN wants them."""
    detector = load_detector("mtcnn")
    paths = sorted((shared / "data" / "lfw").rglob("Colin_Powell_00*.jpg"))[:3]
    crops = []
    for path in paths:
        photo = read_image(path)
        five = detector.detect([photo])[0].five
        assert five is not None
        crops.append(align(photo, five, embedder.layout)[0])
    # The detector wants some room around a face.
    for found in detector.detect([np.pad(crop, ((64, 64), (64, 64), (0, 0))) for crop in crops]):
        assert found.five is not None
        middles = np.stack([found.five[:2].mean(0), found.five[3:].mean(0)]) - 64
        assert np.abs(middles - [[64, 40], [64, 88]]).max() < 4
    np.testing.assert_allclose(np.linalg.norm(embedder.embed(np.stack(crops)), axis=1), 1, atol=1e-6)
