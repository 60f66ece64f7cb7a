"""The Deoccluder: what may change and what may not, whatever the network paints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from maskfix.align import align, invert_affine
from maskfix.base import InputError, UInt8Array, WeightsError, canonical_layout
from maskfix.deocclude import Deoccluder
from maskfix.restore import CompletionNetwork, create_network
from maskfix.weights import WeightsRow, add_to_manifest, save_weights
from tests.plugin.worlds import batches, green_deoccluder

FIVE = np.array([[210.0, 200.0], [262.0, 196.0], [238.0, 230.0], [216.0, 258.0], [260.0, 254.0]])
"""Five points of an upright face about 100 pixels wide."""


def network(bias: float | None = None, seed: int = 0) -> CompletionNetwork:
    """A network with random weights; with a bias, its occlusion map is that of the bias everywhere."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = create_network("cadf_small_128")
    with torch.no_grad():
        if bias is None:
            # A map that runs through the whole range from 0 to 1, smoothly enough to leave whole regions alone.
            made.decoder.occlusion.weight.mul_(200)
            made.decoder.occlusion.bias.fill_(1.2)
        else:
            made.decoder.occlusion.weight.zero_()
            made.decoder.occlusion.bias.fill_(bias)
    return made


def smooth(count: int, height: int = 128, width: int = 128, seed: int = 0) -> UInt8Array:
    """Random smooth pictures, `(count, height, width, 3)`."""
    noise = np.random.default_rng(seed).normal(size=(count, height, width, 3))
    blurred = ndimage.gaussian_filter(noise, (0, 9, 9, 0))
    low, high = blurred.min(), blurred.max()
    return np.asarray(255 * (blurred - low) / (high - low), np.uint8)


def blend(occlusion: Any) -> Any:
    """Weight of the completion: the map, grown by two pixels, rises from 0 at 0.25 to 1 at 0.6."""
    grown = np.stack([ndimage.maximum_filter(o, size=5, mode="constant", cval=0) for o in occlusion])
    return np.clip((grown - 0.25) / 0.35, 0, 1)


@pytest.fixture(scope="module")
def varied() -> Deoccluder:
    return Deoccluder(network(), device="cpu")


class TestComplete:
    @pytest.mark.parametrize("count", [0, 1, 3])
    def test_fields(self, varied: Deoccluder, count: int) -> None:
        crops = smooth(count) if count else np.zeros((0, 128, 128, 3), np.uint8)
        result = varied.complete(crops)
        assert result.images.dtype == np.uint8
        assert result.images.shape == crops.shape
        for name, shape in (("occlusion", (128, 128)), ("coverage", ()), ("alpha", (128, 128)), ("uv", (128, 128, 2))):
            value = getattr(result, name)
            assert value.shape == (count, *shape)
            assert value.dtype == np.float32
            assert value.flags.c_contiguous
            if count:
                assert 0 <= value.min() <= value.max() <= 1
        np.testing.assert_allclose(result.coverage, (result.occlusion > 0.5).mean((1, 2)), atol=1e-6)

    def test_random_map_is_a_fair_sample(self, varied: Deoccluder) -> None:
        """What the other tests rely on: the map leaves some pixels alone, blends some and replaces some."""
        weight = blend(varied.complete(smooth(2)).occlusion)
        assert (weight == 0).mean() > 0.02
        assert (weight == 1).mean() > 0.02
        assert ((weight > 0) & (weight < 1)).mean() > 0.02

    def test_visible_pixels_stay_to_the_bit(self, varied: Deoccluder) -> None:
        crops = smooth(3)
        result = varied.complete(crops)
        visible = blend(result.occlusion) == 0
        np.testing.assert_array_equal(result.images[visible], crops[visible])
        assert (result.images[~visible] != crops[~visible]).any(-1).mean() > 0.8

    def test_nothing_occluded(self) -> None:
        crops = smooth(2)
        result = Deoccluder(network(bias=-20.0), device="cpu").complete(crops)
        np.testing.assert_array_equal(result.images, crops)
        assert result.images is not crops
        assert result.coverage.tolist() == [0.0, 0.0]

    def test_everything_occluded(self) -> None:
        crops = smooth(2)
        made = network(bias=20.0)
        result = Deoccluder(made, device="cpu").complete(crops)
        with torch.no_grad():
            decoded = made(torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255)
        painted = (decoded.images[0] * 255).clamp(0, 255).permute(0, 2, 3, 1).numpy()
        assert np.abs(result.images - painted).max() <= 0.51
        assert result.coverage.tolist() == [1.0, 1.0]
        np.testing.assert_allclose(result.uv, decoded.uvs[0].permute(0, 2, 3, 1).numpy(), atol=1e-4)
        np.testing.assert_allclose(result.alpha, decoded.alphas[0].mean(1).numpy(), atol=1e-4)

    @pytest.mark.parametrize(("colour", "expected"), [(3.0, 255), (-3.0, 0)])
    def test_colours_beyond_the_range_do_not_wrap(self, colour: float, expected: int) -> None:
        made = network(bias=20.0)
        with torch.no_grad():
            made.decoder.fusions[0].transform[2].bias.fill_(60.0)
            made.decoder.fusions[0].to_image.bias.fill_(colour)
        assert (Deoccluder(made, device="cpu").complete(smooth(1)).images == expected).all()

    def test_blend_in_between(self) -> None:
        """A probability of 0.425 everywhere is half-way up the ramp from 0.25 to 0.6."""
        crops = smooth(1)
        logit = float(np.log(0.425 / 0.575))
        half = Deoccluder(network(bias=logit), device="cpu").complete(crops).images.astype(float)
        whole = Deoccluder(network(bias=20.0), device="cpu").complete(crops).images.astype(float)
        assert np.abs(half - (whole + crops) / 2).max() <= 1.01

    def test_batch_does_not_matter(self, varied: Deoccluder) -> None:
        crops = smooth(3)
        together = varied.complete(crops)
        small_steps = Deoccluder(network(), device="cpu", batch_size=2).complete(crops)
        alone = [varied.complete(crops[i : i + 1]) for i in range(3)]
        for index, one in enumerate(alone):
            for many in (together, small_steps):
                assert np.abs(many.images[index].astype(int) - one.images[0]).max() <= 1
                np.testing.assert_allclose(many.occlusion[index], one.occlusion[0], atol=1e-3)

    def test_input_is_left_alone(self, varied: Deoccluder) -> None:
        crops = smooth(1)
        kept = crops.copy()
        crops.setflags(write=False)
        varied.complete(crops)
        varied.complete(crops[:, :, ::-1])
        np.testing.assert_array_equal(crops, kept)

    def test_views_of_arrays(self, varied: Deoccluder) -> None:
        """BGR turned round, or a strided array, gives the same as its copy."""
        turned = smooth(1)[..., ::-1]
        np.testing.assert_array_equal(varied.complete(turned).images, varied.complete(turned.copy()).images)

    @pytest.mark.parametrize(
        ("crops", "message"),
        [
            (np.zeros((1, 128, 128, 3), np.float32), "crops: expected dtype uint8, got float32"),
            (np.zeros((1, 128, 128, 3), np.uint16), "crops: expected dtype uint8, got uint16"),
            (
                np.zeros((1, 112, 112, 3), np.uint8),
                r"crops: expected shape \(\*, 128, 128, 3\), got \(1, 112, 112, 3\)",
            ),
            (np.zeros((128, 128, 3), np.uint8), r"crops: expected shape \(\*, 128, 128, 3\), got \(128, 128, 3\)"),
            (np.zeros((1, 3, 128, 128), np.uint8), "crops: expected shape"),
            (np.zeros((1, 128, 128, 4), np.uint8), "crops: expected shape"),
            (np.zeros((1, 128, 128), np.uint8), "crops: expected shape"),
            ([[0]], "crops: expected a NumPy array of uint8, got list"),
            (torch.zeros(1, 128, 128, 3, dtype=torch.uint8), "crops: expected a NumPy array of uint8, got Tensor"),
        ],
    )
    def test_wrong_crops(self, varied: Deoccluder, crops: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            varied.complete(crops)


class TestRestore:
    def test_nothing_occluded(self) -> None:
        [photo] = smooth(1, 300, 420)
        restored = Deoccluder(network(bias=-20.0), device="cpu").restore(photo, FIVE - [0, 60])
        np.testing.assert_array_equal(restored, photo)
        assert restored is not photo

    def test_aligned_photo_is_completed_like_its_crop(self, varied: Deoccluder) -> None:
        """Blended once: a rim blended twice would keep a part of the mask."""
        [crop] = smooth(1, 128, 128)
        completion = varied.complete(crop[None])
        restored = varied.restore(crop, canonical_layout(128).array)
        weight = blend(completion.occlusion)[0]
        assert ((weight > 0.1) & (weight < 0.9)).mean() > 0.01
        assert np.abs(restored.astype(int) - completion.images[0]).max() <= 1
        assert (restored != crop).any()

    def test_outside_the_weight_nothing_changes(self, varied: Deoccluder) -> None:
        [photo] = smooth(1, 400, 420)
        restored = varied.restore(photo, FIVE)
        crop, matrix = align(photo, FIVE, canonical_layout(128))
        weight = blend(varied.complete(crop[None]).occlusion)[0]
        # Every pixel of the photo that a bilinear look-up cannot connect with a weight above 0.
        x, y = np.meshgrid(np.arange(420), np.arange(400))
        u, v = np.moveaxis(np.stack([x, y], 2) @ matrix[:, :2].T + matrix[:, 2], 2, 0)
        near = ndimage.maximum_filter(weight, size=3, mode="constant", cval=0) > 0
        inside = (u > -1) & (v > -1) & (u < 128) & (v < 128)
        touched = inside & near[np.clip(np.rint(v), 0, 127).astype(int), np.clip(np.rint(u), 0, 127).astype(int)]
        np.testing.assert_array_equal(restored[~touched], photo[~touched])
        assert touched.mean() < 0.6
        assert (restored[touched] != photo[touched]).any(-1).mean() > 0.3

    def test_everything_occluded_replaces_the_crop(self) -> None:
        [photo] = smooth(1, 400, 420)
        everything = Deoccluder(network(bias=20.0), device="cpu")
        restored = everything.restore(photo, FIVE)
        crop, matrix = align(photo, FIVE, everything.layout)
        image = everything.complete(crop[None]).images[0]
        u, v = 64, 70
        px, py = np.rint(invert_affine(matrix) @ [u, v, 1]).astype(int)
        assert np.abs(restored[py, px].astype(int) - image[v, u]).max() < 20
        assert (
            restored[py - 20 : py + 20, px - 20 : px + 20] != photo[py - 20 : py + 20, px - 20 : px + 20]
        ).mean() > 0.9

    def test_batch_of_different_sizes(self, varied: Deoccluder) -> None:
        photos = [smooth(1, 400, 420, seed=1)[0], smooth(1, 300, 500, seed=2)[0]]
        landmarks = np.stack([FIVE, FIVE - [20, 40]])
        restored, completion = varied.restore_batch(photos, landmarks)
        assert [r.shape for r in restored] == [p.shape for p in photos]
        assert completion.images.shape == (2, 128, 128, 3)
        for photo, five, one in zip(photos, landmarks, restored, strict=True):
            assert np.abs(varied.restore(photo, five).astype(int) - one).max() <= 1

    def test_bgr_turned_round(self, varied: Deoccluder) -> None:
        """`image[..., ::-1]` of OpenCV's pictures, whose strides run backwards."""
        [photo] = smooth(1, 400, 420)
        np.testing.assert_array_equal(
            varied.restore(photo[..., ::-1], FIVE), varied.restore(photo[..., ::-1].copy(), FIVE)
        )

    def test_no_photo(self, varied: Deoccluder) -> None:
        restored, completion = varied.restore_batch([], np.zeros((0, 5, 2)))
        assert restored == []
        assert completion.images.shape == (0, 128, 128, 3)

    def test_face_at_the_border(self, varied: Deoccluder) -> None:
        [photo] = smooth(1, 260, 250)
        assert varied.restore(photo, FIVE).shape == photo.shape

    @pytest.mark.parametrize(
        ("photo", "landmarks", "message"),
        [
            (np.zeros((64, 64), np.uint8), FIVE, "photo: expected uint8 RGB"),
            (np.zeros((64, 64, 4), np.uint8), FIVE, "photo: expected uint8 RGB"),
            (np.zeros((64, 64, 3), np.float64), FIVE, "photo: expected dtype uint8"),
            (np.zeros((64, 64, 3), np.uint8), FIVE[:4], r"landmarks: expected shape \(5, 2\), got \(4, 2\)"),
            (np.zeros((64, 64, 3), np.uint8), FIVE[None], r"landmarks: expected shape \(5, 2\), got \(1, 5, 2\)"),
            (np.zeros((64, 64, 3), np.uint8), FIVE.ravel(), "landmarks: expected shape"),
            (np.zeros((64, 64, 3), np.uint8), FIVE * np.nan, "landmarks: .* not finite"),
            (np.zeros((64, 64, 3), np.uint8), FIVE * 0, "landmarks: the face is 0 pixels large"),
            (np.zeros((64, 64, 3), np.uint8), FIVE / 512, "landmarks: the face is 0.12 pixels large; give points in"),
            (np.zeros((64, 64, 3), np.uint8), FIVE, "landmarks: all lie outside the photo of 64x64 pixels"),
            (np.zeros((64, 64, 3), np.uint8), None, "landmarks: is None, .* no face was found"),
        ],
    )
    def test_bad_input(self, varied: Deoccluder, photo: Any, landmarks: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            varied.restore(photo, landmarks)

    def test_more_photos_than_faces(self, varied: Deoccluder) -> None:
        with pytest.raises(InputError, match=r"landmarks: expected shape \(2, 5, 2\)"):
            varied.restore_batch([np.zeros((64, 64, 3), np.uint8)] * 2, FIVE[None])


class TestInit:
    @pytest.mark.parametrize(
        ("device", "message"),
        [
            ("gpu", "device: 'gpu' is unknown; known: auto, cpu, cuda, cuda:N"),
            ("meta", "device: 'meta' is not supported; known: auto, cpu"),
            ("cuda:99", "device: cuda:99 is asked for and there is none; use cpu or auto"),
        ],
    )
    def test_device(self, device: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            Deoccluder(network(), device=device)

    def test_auto_device(self) -> None:
        expected = "cuda" if torch.cuda.is_available() else "cpu"
        assert Deoccluder(network()).device.type == expected

    def test_batch_size(self) -> None:
        for wrong in (0, 1.5, "a"):
            with pytest.raises(InputError, match=f"batch_size: expected a whole number, at least 1, got {wrong!r}"):
                Deoccluder(network(), device="cpu", batch_size=wrong)  # type: ignore[arg-type]

    def test_eight_at_a_time_on_the_cpu(self) -> None:
        blind = green_deoccluder()
        assert blind.complete(np.zeros((17, 128, 128, 3), np.uint8)).coverage.shape == (17,)
        assert batches(blind) == [8, 8, 1]

    def test_evaluation_mode(self) -> None:
        made = network().train()
        blind = Deoccluder(made, device="cpu")
        assert not made.training
        assert (blind.size, blind.layout) == (128, canonical_layout(128))


class TestFromPretrained:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A weights folder with one release."""
        monkeypatch.setenv("MASKFIX_WEIGHTS", str(tmp_path))
        self.release(tmp_path, "cadf_small_128.test")
        return tmp_path

    @staticmethod
    def release(folder: Path, name: str, arch: str = "cadf_small_128") -> WeightsRow:
        row = save_weights(folder / f"{name}.safetensors", network(seed=3).state_dict(), arch)
        add_to_manifest(row, folder)
        return row

    def test_by_name_and_by_path(self, folder: Path) -> None:
        crops = smooth(1)
        expected = Deoccluder(network(seed=3), device="cpu").complete(crops)
        for name in ("cadf_small_128.test", folder / "cadf_small_128.test.safetensors"):
            blind = Deoccluder.from_pretrained(name, device="cpu")
            assert blind.weights is not None
            assert blind.weights.name == "cadf_small_128.test"
            np.testing.assert_allclose(blind.complete(crops).occlusion, expected.occlusion, atol=0.02)

    def test_the_users_generator_and_default_type_stay_out_of_it(self, folder: Path) -> None:
        crops = smooth(1)
        expected = Deoccluder.from_pretrained("cadf_small_128.test", device="cpu").complete(crops)
        before = torch.get_rng_state()
        torch.set_default_dtype(torch.float64)
        try:
            found = Deoccluder.from_pretrained("cadf_small_128.test", device="cpu").complete(crops)
        finally:
            torch.set_default_dtype(torch.float32)
        assert torch.equal(torch.get_rng_state(), before)
        np.testing.assert_array_equal(found.images, expected.images)

    def test_weights_from_before_the_expansions(self, folder: Path) -> None:
        """They give the pictures that they gave; weights that lack anything else are refused."""
        whole = network(seed=3)
        narrow = CompletionNetwork(replace(whole.config, encoder_expansions=(), decoder_expansions=()))
        state = {name: tensor for name, tensor in whole.state_dict().items() if ".expansions." not in name}
        narrow.load_state_dict(state)
        crops, path = smooth(1), folder / "cadf_small_128.old.safetensors"
        add_to_manifest(save_weights(path, state, "cadf_small_128", half=False), folder)
        found = Deoccluder.from_pretrained(path, device="cpu").complete(crops)
        expected = Deoccluder(narrow, device="cpu").complete(crops)
        np.testing.assert_allclose(found.occlusion, expected.occlusion, atol=1e-4)
        np.testing.assert_allclose(found.images, expected.images, atol=1)
        del state["decoder.occlusion.bias"]
        add_to_manifest(save_weights(path, state, "cadf_small_128", half=False), folder)
        with pytest.raises(WeightsError, match="does not fit network cadf_small_128"):
            Deoccluder.from_pretrained(path, device="cpu")

    def test_wrong_hash(self, folder: Path) -> None:
        path = folder / "cadf_small_128.test.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"sha256 is .* fetch the file again"):
            Deoccluder.from_pretrained("cadf_small_128.test", device="cpu")

    def test_unknown_name(self, folder: Path) -> None:
        with pytest.raises(WeightsError, match=r"'cadf_huge' are unknown; known: .*cadf_small_128\.test"):
            Deoccluder.from_pretrained("cadf_huge", device="cpu")

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match="no such weights file"):
            Deoccluder.from_pretrained(tmp_path / "absent.safetensors", device="cpu")

    def test_unknown_network(self, folder: Path) -> None:
        self.release(folder, "cadf_huge.test", arch="cadf_huge")
        with pytest.raises(WeightsError, match="made for network 'cadf_huge'; known: cadf_small_128, "):
            Deoccluder.from_pretrained("cadf_huge.test", device="cpu")

    def test_weights_of_another_network(self, folder: Path) -> None:
        self.release(folder, "cadf_base_128.test", arch="cadf_base_128")
        with pytest.raises(WeightsError, match="does not fit network cadf_base_128") as caught:
            Deoccluder.from_pretrained("cadf_base_128.test", device="cpu")
        assert "\n" not in str(caught.value)


def test_the_callers_network_can_still_be_trained() -> None:
    own = network(seed=3)
    Deoccluder(own, device="cpu").complete(smooth(1))
    assert all(weight.requires_grad for weight in own.parameters())


def test_complete__not_composed(varied: Deoccluder) -> None:
    """The network's own pictures, which composing blends into the input where the map says so."""
    crops = smooth(3)
    own, composed = varied.complete(crops, composed=False), varied.complete(crops)
    for name in ("occlusion", "coverage", "alpha", "uv"):
        np.testing.assert_array_equal(getattr(own, name), getattr(composed, name))
    weight = blend(composed.occlusion)[..., None]
    assert np.abs(crops + weight * (own.images - crops.astype(float)) - composed.images).max() <= 1.01
    assert (own.images != composed.images).any(-1).mean() > 0.05
