"""Landmarks read off crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from maskfix import read_image
from maskfix.align import LandmarkReader, align, fit_layout, invert_affine, load_detector, transform_points
from maskfix.align.landmark_network import create_landmark_network
from maskfix.base import InputError, WeightsError, canonical_layout
from maskfix.occlude import PAPER_KINDS, Occluder, folder_templates
from maskfix.weights import list_weights, save_weights
from tests.readers import shifting_reader

LAYOUT = canonical_layout(128)
PHOTO = np.random.default_rng(0).integers(0, 256, (300, 320, 3)).astype(np.uint8)
FIVE = np.array([[110.0, 120.0], [162.0, 112.0], [139.0, 150.0], [122.0, 180.0], [164.0, 174.0]])


def expected(five: np.ndarray, right: float, down: float) -> np.ndarray:
    """Where a face lies whose crop by `five` shows it so many pixels aside."""
    back = invert_affine(fit_layout(five, LAYOUT))
    return transform_points(back, LAYOUT.array + np.array([right, down]))


def test_read__points_of_each_crop() -> None:
    crops = np.zeros((70, 128, 128, 3), np.uint8)
    points = shifting_reader(3, -5).read(crops)
    assert points.dtype == np.float32
    np.testing.assert_allclose(points, np.broadcast_to(LAYOUT.array + np.array([3, -5]), (70, 5, 2)), atol=1e-3)
    assert shifting_reader().read(crops[:0]).shape == (0, 5, 2)


@pytest.mark.parametrize("wrong", [np.zeros((1, 112, 112, 3), np.uint8), np.zeros((1, 128, 128, 3), np.float32)])
def test_read__refusals(wrong: np.ndarray) -> None:
    with pytest.raises(InputError, match="crops"):
        shifting_reader().read(wrong)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_read__inside_autocast(dtype: torch.dtype) -> None:
    crops = np.random.default_rng(1).integers(0, 256, (2, 128, 128, 3)).astype(np.uint8)
    network = create_landmark_network()
    with torch.no_grad():
        network.offsets.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(2))
    reader = LandmarkReader(network, device="cpu")
    with torch.autocast("cpu", dtype):
        inside = reader.read(crops)
    np.testing.assert_array_equal(inside, reader.read(crops))


def test_the_callers_network_can_still_be_trained() -> None:
    network = create_landmark_network()
    LandmarkReader(network, device="cpu").read(np.zeros((1, 128, 128, 3), np.uint8))
    assert all(weight.requires_grad for weight in network.parameters())


def test_correct__in_pixels_of_the_photograph_round_by_round() -> None:
    reader, other = shifting_reader(4, -6), FIVE * 1.2 - 30
    landmarks = np.stack([FIVE, other])
    once = reader.correct([PHOTO, PHOTO], landmarks, rounds=1)
    np.testing.assert_allclose(once, [expected(FIVE, 4, -6), expected(other, 4, -6)], atol=1e-2)
    twice = reader.correct([PHOTO, PHOTO], landmarks)
    np.testing.assert_allclose(twice[0], expected(expected(FIVE, 4, -6), 4, -6), atol=1e-2)
    assert np.abs(twice - once).max() > 3
    np.testing.assert_array_equal(landmarks[0], FIVE)
    assert reader.correct([], np.zeros((0, 5, 2))).shape == (0, 5, 2)


def test_follow__one_round_of_crops_that_are_there() -> None:
    reader = shifting_reader(4, -6)
    crops = np.stack([align(PHOTO, FIVE, LAYOUT)[0]] * 2)
    followed = reader.follow(crops, np.stack([FIVE, FIVE + 7]))
    np.testing.assert_allclose(followed, [expected(FIVE, 4, -6), expected(FIVE + 7, 4, -6)], atol=1e-2)
    with pytest.raises(InputError, match="landmarks"):
        reader.follow(crops, FIVE[None])


def test_correct__refusals() -> None:
    with pytest.raises(InputError, match="landmarks"):
        shifting_reader().correct([PHOTO], FIVE)
    with pytest.raises(InputError, match="rounds"):
        shifting_reader().correct([PHOTO], FIVE[None], rounds=0)
    with pytest.raises(InputError, match="photo"):
        shifting_reader().correct([PHOTO.astype(float)], FIVE[None])


def test_from_pretrained__a_file_of_another_network(tmp_path: Path) -> None:
    network = shifting_reader(1, 2)._network
    good = tmp_path / "landmarks_128.tiny.safetensors"
    save_weights(good, network.state_dict(), "landmarks_128")
    reader = LandmarkReader.from_pretrained(good, "cpu")
    assert reader.weights is not None
    assert reader.weights.arch == "landmarks_128"
    crop = np.zeros((1, 128, 128, 3), np.uint8)
    np.testing.assert_allclose(reader.read(crop)[0], LAYOUT.array + np.array([1, 2]), atol=0.01)
    save_weights(tmp_path / "a.safetensors", network.state_dict(), "cadf_small_128")
    with pytest.raises(WeightsError, match="made for network 'cadf_small_128'; known: landmarks_128"):
        LandmarkReader.from_pretrained(tmp_path / "a.safetensors", "cpu")
    part = {name: tensor for name, tensor in network.state_dict().items() if "hidden" not in name}
    save_weights(tmp_path / "b.safetensors", part, "landmarks_128")
    with pytest.raises(WeightsError, match="does not fit"):
        LandmarkReader.from_pretrained(tmp_path / "b.safetensors", "cpu")


def test_from_pretrained__the_users_generator_and_default_type_stay_out_of_it(tmp_path: Path) -> None:
    path = tmp_path / "landmarks_128.tiny.safetensors"
    save_weights(path, shifting_reader(1, 2)._network.state_dict(), "landmarks_128")
    before = torch.get_rng_state()
    torch.set_default_dtype(torch.float64)
    try:
        points = LandmarkReader.from_pretrained(path, "cpu").read(np.zeros((1, 128, 128, 3), np.uint8))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_allclose(points[0], LAYOUT.array + np.array([1, 2]), atol=0.01)


@pytest.mark.skipif(
    not any(row.arch == "landmarks_128" for row in list_weights()),
    reason="no released landmark weights in this checkout",
)
def test_real_faces__nearer_than_the_guess(shared: Path) -> None:
    """Masked LFW faces: the crop by MTCNN's guess, by the reader's points, and by those without a mask."""
    pytest.importorskip("mediapipe", reason="mediapipe, which places the masks, is not installed")
    folders = sorted((shared / "data/lfw/lfw-deepfunneled").iterdir())[5:700:35]
    photos = [read_image(sorted(folder.iterdir())[0]) for folder in folders]
    mesh, detector = load_detector("mesh"), load_detector("mtcnn")
    occluder = Occluder(folder_templates(shared / "data/masktheface"))
    clean, masked, guess = [], [], []
    for place, (photo, found) in enumerate(zip(photos, mesh.detect(photos), strict=True)):
        if found.mask is None or found.five is None:
            continue
        picture = occluder.occlude(photo, found.mask, PAPER_KINDS[place % 9]).image
        [seen] = detector.detect([picture])
        if seen.five is not None:
            clean.append(found.five)
            masked.append(picture)
            guess.append(seen.five)
    truth, given = np.stack(clean), np.stack(guess)
    read = LandmarkReader.from_pretrained(device="cpu").correct(masked, given)

    def askew(five: np.ndarray) -> np.ndarray:
        """How far the crop by these points shows each face from its place, in pixels of the crop."""
        return np.array(
            [
                np.linalg.norm(transform_points(matrix, points) - transform_points(true, points), axis=1).mean()
                for matrix, true, points in zip(fit_layout(five, LAYOUT), fit_layout(truth, LAYOUT), truth, strict=True)
            ]
        )

    assert len(truth) >= 12
    assert np.median(askew(read)) < 0.75 * np.median(askew(given))
    assert askew(read).max() < 6
    # Moved at random, faces are found again.
    moved = given + np.random.default_rng(0).uniform(-8, 8, (len(given), 1, 2)).astype(np.float32)
    found_again = LandmarkReader.from_pretrained(device="cpu").correct(masked, moved)
    assert np.median(askew(found_again)) < 0.5 * np.median(askew(moved))
