"""Other surroundings: what changes, what stays, and what the draws depend on."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.random import default_rng
from scipy import ndimage

from maskfix.train import surroundings
from maskfix.train.surroundings import KINDS, photograph_part, show_trimmed, surround, surround_trimmed, trim_frame
from tests.train.stores import frame, smooth_pictures

SIZE = 64
CROP, OTHER = smooth_pictures(2, SIZE)


def test_photograph_part__against_a_warped_white_picture() -> None:
    corners = frame(SIZE)
    white = np.full((100, 100), 255, np.uint8)
    edges = np.array([[-0.5, -0.5], [99.5, -0.5], [99.5, 99.5], [-0.5, 99.5]], np.float32)
    shown = cv2.warpPerspective(white, cv2.getPerspectiveTransform(edges, corners), (SIZE, SIZE))
    part = photograph_part(corners, SIZE)
    assert (shown[part] == 255).all()
    assert part.sum() > 0.8 * (shown == 255).sum()


def test_photograph_part__far_corners_and_none() -> None:
    whole = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)
    assert photograph_part(1e6 * whole, SIZE).all()
    assert photograph_part(SIZE * whole + SIZE / 2, SIZE).all()
    assert not photograph_part(np.zeros((4, 2), np.float32) - 9, SIZE).any()


def test_trim_frame__each_side_moves_by_its_own_share() -> None:
    """Against the photograph's own pixels: corners given as shares of it, warped by the frame's similarity."""
    corners = frame(SIZE)
    unit = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    matrix = cv2.getAffineTransform(corners[:3], unit[:3])
    seen = []
    for seed in range(50):
        trimmed = trim_frame(corners, 0.3, default_rng(seed))
        assert (trimmed.shape, trimmed.dtype) == ((4, 2), np.float32)
        shares = trimmed @ matrix[:, :2].T + matrix[:, 2]
        left, top, right, bottom = shares[0, 0], shares[0, 1], 1 - shares[2, 0], 1 - shares[2, 1]
        np.testing.assert_allclose(shares[1], [1 - right, top], atol=1e-5)
        np.testing.assert_allclose(shares[3], [left, 1 - bottom], atol=1e-5)
        seen.append([left, top, right, bottom])
    low, high = np.min(seen, 0), np.max(seen, 0)
    assert (low > -1e-5).all()
    assert (low < 0.05).all()
    assert (high > 0.25).all()
    assert (high < 0.3).all()
    assert np.abs(np.corrcoef(np.array(seen).T) - np.eye(4)).max() < 0.4
    np.testing.assert_array_equal(trim_frame(corners, 0.3, default_rng(3)), trim_frame(corners, 0.3, default_rng(3)))


def test_show_trimmed__the_face_under_the_body_and_the_trimmed_one_beside_it() -> None:
    """A body of 24 pixels with a soft rim hides, a strap of 2 does not; both are blended over what they lie on."""
    generator = default_rng(0)
    crop, trimmed, mask = generator.integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.uint8)
    alpha = np.zeros((SIZE, SIZE), np.float32)
    alpha[20:44, 20:44] = 0.4
    alpha[22:42, 22:42] = 1
    alpha[30:32, :20] = 0.7
    masked = np.rint(alpha[..., None] * mask + (1 - alpha[..., None]) * crop).astype(np.uint8)
    clean, picture = show_trimmed(crop, trimmed, masked, alpha)
    # The opening rounds corners off; nothing is said of those.
    np.testing.assert_array_equal(clean[24:40, 22:42], crop[24:40, 22:42])
    np.testing.assert_array_equal(clean[22:42, 24:40], crop[22:42, 24:40])
    np.testing.assert_array_equal(clean[alpha < 0.5], trimmed[alpha < 0.5])
    np.testing.assert_array_equal(clean[30:32, :20], trimmed[30:32, :20])
    blended = alpha[..., None] * mask + (1 - alpha[..., None]) * clean
    assert np.abs(picture - blended).max() <= 1.5
    assert (picture.dtype, clean.dtype) == (np.uint8, np.uint8)


def test_show_trimmed__nothing_trimmed_nothing_changes() -> None:
    alpha = np.linspace(0, 1, SIZE * SIZE, dtype=np.float32).reshape(SIZE, SIZE)
    clean, picture = show_trimmed(CROP, CROP, OTHER, alpha)
    np.testing.assert_array_equal(clean, CROP)
    np.testing.assert_array_equal(picture, OTHER)


@pytest.mark.parametrize("kind", KINDS)
def test_surround__inside_stays_and_outside_changes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "_SHARES", [float(one == kind) for one in KINDS])
    inside = photograph_part(frame(SIZE), SIZE)
    deep = ndimage.binary_erosion(inside, iterations=7)
    found = [surround(CROP, frame(SIZE), OTHER, default_rng(seed)) for seed in range(4)]
    for one in found:
        assert (one.shape, one.dtype) == (CROP.shape, np.uint8)
        np.testing.assert_array_equal(one[deep], CROP[deep])
        assert np.abs(one[~inside].astype(int) - CROP[~inside]).mean() > 3
    assert not np.array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], surround(CROP, frame(SIZE), OTHER, default_rng(0)))


@pytest.mark.parametrize("kind", KINDS)
def test_surround__shows_nothing_of_the_reflection(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stood outside, the result is the same."""
    monkeypatch.setattr(surroundings, "_SHARES", [float(one == kind) for one in KINDS])
    inside = photograph_part(frame(SIZE), SIZE)
    changed = np.where(inside[..., None], CROP, 255 - CROP)
    for seed in range(4):
        one, two = (surround(crop, frame(SIZE), OTHER, default_rng(seed)) for crop in (CROP, changed))
        np.testing.assert_array_equal(one, two)


def test_surround__another_person_in_the_colours_of_the_edge() -> None:
    """A dark face with one white stripe at its left, beside a photograph that is twice as bright in red alone."""
    crop = np.full((SIZE, SIZE, 3), (120, 60, 60), np.uint8)
    other = np.full((SIZE, SIZE, 3), 60, np.uint8)
    other[:, :4] = 90
    outside = ~ndimage.binary_dilation(photograph_part(frame(SIZE), SIZE), iterations=3)
    plain = outside.copy()
    plain[:, :4] = plain[:, -4:] = False
    sides = []
    for seed in range(12):
        found = surround(crop, frame(SIZE), other, default_rng(seed), "person").astype(int)
        assert np.abs(found[plain] - (120, 60, 60)).max() <= 2
        left, right = found[5, 1], found[5, -2]
        sides.append(bool(left[0] > right[0]))
        assert np.abs(np.maximum(left, right) - (178, 90, 90)).max() <= 3
    assert 2 <= sum(sides) <= 10


def test_surround_trimmed__one_photograph_of_which_more_or_less_is_left() -> None:
    corners = frame(SIZE)
    smaller = trim_frame(corners, 0.3, default_rng(1))
    for seed in range(6):
        generator = default_rng(seed)
        whole, trimmed = surround_trimmed(CROP, corners, smaller, OTHER, generator)
        np.testing.assert_array_equal(whole, surround(CROP, corners, OTHER, default_rng(seed)))
        np.testing.assert_array_equal(trimmed, surround(CROP, smaller, OTHER, default_rng(seed)))
        fresh = default_rng(seed)
        one, same = surround_trimmed(CROP, corners, corners, OTHER, fresh)
        assert one is same
        np.testing.assert_array_equal(one, whole)
        assert generator.random() == fresh.random()


def test_surround__all_photograph_or_none() -> None:
    whole = np.array([[-9, -9], [99, -9], [99, 99], [-9, 99]], np.float32)
    for corners in (whole, whole + 500):
        for seed in range(8):
            np.testing.assert_array_equal(surround(CROP, corners, OTHER, default_rng(seed)), CROP)
