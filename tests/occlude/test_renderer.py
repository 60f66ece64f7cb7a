from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskfix.base import DatasetError, FloatArray, InputError, UInt8Array
from maskfix.occlude import PAPER_KINDS, TEMPLATES, Occluder, folder_templates, open_occluder, renderer
from maskfix.occlude.renderer import BRIGHTNESS_RANGE, NEUTRAL_LUMINANCE, brightness_gain
from tests.occlude.samples import (
    FRONT,
    NO_SHARED,
    SHARED_TEMPLATES,
    coordinates_template,
    face_points,
    grey,
    soft_template,
)

NEUTRAL = round(NEUTRAL_LUMINANCE)
DRAWN = Occluder()


def _noise(seed: int, size: int = 128) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(points=face_points(), kind=st.sampled_from(PAPER_KINDS), seed=st.integers(0, 9))
def test_occlude__untouched_outside_and_deterministic(points: FloatArray, kind: str, seed: int) -> None:
    photo = _noise(seed)
    before = photo.copy()
    result = DRAWN.occlude(photo, points, kind)
    assert np.array_equal(photo, before)
    assert result.image.dtype == np.uint8
    assert result.alpha.dtype == np.float32
    assert result.mask.dtype == np.bool_
    assert result.image.shape == photo.shape
    assert result.alpha.shape == result.mask.shape == photo.shape[:2]
    assert 0.0 <= result.alpha.min() <= result.alpha.max() <= 1.0
    outside = result.alpha == 0
    assert np.array_equal(result.image[outside], photo[outside])
    assert np.array_equal(result.mask, result.alpha >= 0.5)
    again = Occluder().occlude(photo, points, kind)
    assert np.array_equal(again.image, result.image)
    assert np.array_equal(again.alpha, result.alpha)


@settings(max_examples=40, deadline=None)
@given(points=face_points(), value=st.integers(0, 255), rgb=st.tuples(*[st.integers(0, 230)] * 3))
def test_occlude__is_the_alpha_mixture(points: FloatArray, value: int, rgb: tuple[int, int, int]) -> None:
    # MaskTheFace adds mask and photo where alpha is partial: a bright seam. Here the mixture holds at every pixel.
    photo = grey(value)
    result = Occluder(soft_template(rgb)).occlude(photo, points, "N95")
    headroom = max(1.0, 250.0 / max(max(rgb), 1))
    colour = np.minimum(255.0, np.asarray(rgb) * min(brightness_gain(photo, points.astype(np.float64)), headroom))
    alpha = result.alpha[..., None].astype(np.float64)
    assert np.abs(result.image - (alpha * colour + (1.0 - alpha) * value)).max() <= 0.51
    assert (result.image <= np.maximum(value, colour) + 0.51).all()
    assert (result.image >= np.minimum(value, colour) - 0.51).all()


@settings(max_examples=60, deadline=None)
@given(points=face_points())
def test_occlude__halves_join_without_a_gap(points: FloatArray) -> None:
    result = Occluder(coordinates_template()).occlude(grey(NEUTRAL), points, "N95")
    middle = points[1] + np.linspace(0.05, 0.95, 60)[:, None] * (points[4] - points[1])
    pixels = np.rint(middle).astype(int)
    pixels = pixels[((pixels >= 0) & (pixels < 128)).all(axis=1)]
    assert (result.alpha[pixels[:, 1], pixels[:, 0]] > 0.999).all()


def test_occlude__surface_is_continuous_across_the_middle() -> None:
    # Unequal halves: their perspective maps disagree along b-e by several template pixels, so a hard switch between
    # them would tear the picture there. At this scale neighbours differ by less than one template pixel elsewhere.
    points = FRONT + np.array([[0, -25], [0, 0], [0, 20], [0, 8], [0, 0], [0, -4]], dtype=np.float32)
    result = Occluder(coordinates_template()).occlude(grey(NEUTRAL, 384), points * 3, "N95")
    inner = result.image[150:288, 150:230, :2].astype(int)
    assert np.abs(np.diff(inner, axis=1)).max() <= 2
    assert np.abs(np.diff(inner, axis=0)).max() <= 2
    assert (result.alpha[150:288, 150:230] > 0.999).all()


def test_occlude__any_template_of_the_source_is_a_kind() -> None:
    occluder = Occluder(coordinates_template())
    scarf, known = (occluder.occlude(grey(90), FRONT, kind) for kind in ("scarf", "N95"))
    assert scarf.mask.any()
    assert np.array_equal(scarf.image, known.image)


@pytest.mark.parametrize("scale", [2.0, 3.1])
def test_occlude__points_map_exactly(scale: float) -> None:
    source = coordinates_template()
    wanted = source.get("N95", "front").points
    points = np.rint(FRONT * scale)
    result = Occluder(source).occlude(grey(NEUTRAL, 420), points, "N95")
    shown = np.array([result.image[int(y), int(x), :2] for x, y in points])
    assert np.abs(shown - wanted).max() <= 1.0


def test_occlude__shrunk_template_still_maps_exactly() -> None:
    # A quarter of the size: the mip level's pixel centres must not shift.
    source = coordinates_template()
    wanted = source.get("N95", "front").points
    points = np.rint(wanted / 4 + 40)
    result = Occluder(source).occlude(grey(NEUTRAL), points, "N95")
    shown = np.array([result.image[int(y), int(x), :2] for x, y in points])
    # One pixel of the photo is four of the template; rounding the points moved them by up to half a photo pixel.
    assert np.abs(shown.astype(float) - wanted).max() <= 4.0


@pytest.mark.parametrize("shift", [(-60, 0), (70, 20), (0, 70), (0, -60), (500, 500), (-9e4, 9e4)])
def test_occlude__partly_or_wholly_outside(shift: tuple[float, float]) -> None:
    photo = _noise(1)
    result = DRAWN.occlude(photo, FRONT + np.asarray(shift, dtype=np.float32), "surgical")
    if max(np.abs(shift)) > 200:
        assert np.array_equal(result.image, photo)
        assert not result.mask.any()
    else:
        assert result.mask.any()


def test_occlude__same_crop_after_padding() -> None:
    # The region of interest is an optimisation: a larger photo around the same face gives the same pixels.
    photo = grey(120)
    padded = np.pad(photo, ((40, 40), (40, 40), (0, 0)), mode="edge")
    small = DRAWN.occlude(photo, FRONT, "KN95")
    large = DRAWN.occlude(padded, FRONT + 40, "KN95")
    assert np.abs(large.image[40:168, 40:168].astype(int) - small.image).max() <= 1
    assert np.abs(large.alpha[40:168, 40:168] - small.alpha).max() < 1e-3


@pytest.mark.parametrize("kind", PAPER_KINDS)
def test_occlude__covers_mouth_and_nose_but_not_the_eyes(kind: str) -> None:
    mask = DRAWN.occlude(grey(130), FRONT, kind).mask
    assert mask[62, 64]
    assert mask[85, 64]
    assert mask[98, 64]
    assert not mask[:38].any()
    assert not mask[116:].any()
    assert 0.1 < mask.mean() < 0.35


@pytest.mark.parametrize(("turn", "wider"), [(-14.0, "right"), (14.0, "left")])
def test_occlude__turned_head_shows_more_of_the_near_side(turn: float, wider: str) -> None:
    points = FRONT.copy()
    points[[1, 4], 0] += turn
    mask = DRAWN.occlude(grey(130), points, "KN95").mask
    middle = round(64 + turn)
    left, right = mask[:, :middle].sum(), mask[:, middle:].sum()
    assert (right > left) == (wider == "right")


def test_brightness_gain__follows_the_light_and_is_bounded() -> None:
    target = FRONT.astype(np.float64)
    gains = [brightness_gain(grey(value), target) for value in (0, 40, 90, NEUTRAL, 160, 255)]
    assert gains == sorted(gains)
    assert gains[0] == BRIGHTNESS_RANGE[0]
    assert gains[-1] == BRIGHTNESS_RANGE[1]
    assert gains[3] == pytest.approx(1.0, abs=1e-3)
    assert brightness_gain(grey(40), target + 500.0) == 1.0


def test_brightness_gain__looks_at_the_face_only() -> None:
    photo = grey(255)
    photo[45:105, 30:100] = 60
    assert brightness_gain(photo, FRONT.astype(np.float64)) < 0.65


def test_occlude__white_mask_on_dark_photo_is_darker() -> None:
    bright, dark = (DRAWN.occlude(grey(value), FRONT, "KN95") for value in (150, 50))
    assert dark.image[dark.mask].mean() < 0.7 * bright.image[bright.mask].mean()


def test_occlude__bright_mask_keeps_its_folds_on_a_bright_face() -> None:
    result = DRAWN.occlude(grey(250), FRONT, "KN95")
    inside = result.image[result.alpha > 0.99]
    assert (inside == 255).mean() < 0.25


def test_open_occluder__drawings_or_a_folder_that_has_the_kinds(tmp_path: Path) -> None:
    assert open_occluder(kinds=["N95", "cloth#010203"]).source.name == "drawn"
    with pytest.raises(InputError, match="'gas' is unknown; known: surgical"):
        open_occluder(None, ["N95", "gas"])
    with pytest.raises(DatasetError, match=r"holds no masks\.cfg"):
        open_occluder(tmp_path)


def test_occlude__errors() -> None:
    with pytest.raises(InputError, match="known: surgical"):
        DRAWN.occlude(grey(9), FRONT, "scarf")
    with pytest.raises(InputError, match=r"'cloth#333333' is unknown; known: N95, scarf$"):
        Occluder(coordinates_template()).check_kinds(["scarf", "cloth#333333"])
    with pytest.raises(InputError, match="photo"):
        DRAWN.occlude(grey(9)[..., 0], FRONT, "N95")
    with pytest.raises(InputError, match="square pixels"):
        DRAWN.occlude(grey(9), np.zeros((6, 2), dtype=np.float32), "N95")


def test_occlude__each_template_is_shrunk_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrinking is the long part of it: a mask takes about 1 ms where the template's size is kept."""
    shrunk = []
    shrink = renderer._shrink

    def counted(image: UInt8Array, points: FloatArray, scale: float) -> renderer._Mip:
        shrunk.append(scale)
        return shrink(image, points, scale)

    monkeypatch.setattr(renderer, "_shrink", counted)
    occluder = Occluder()
    for kind in PAPER_KINDS * 3:
        occluder.occlude(_noise(2), FRONT, kind)
    assert len(shrunk) == len(TEMPLATES)


EXPECTED = {
    "cloth#333333": (44, 44, 43),
    "cloth#515151": (59, 59, 58),
    "cloth#929292": (92, 91, 91),
    "cloth#dadad9": (128, 127, 127),
    "KN95": (234, 234, 234),
    "N95": (186, 183, 173),
    "surgical": (185, 185, 185),
    "surgical_blue": (116, 190, 225),
    "surgical_green": (116, 169, 171),
}


@pytest.mark.skipif(not SHARED_TEMPLATES.is_dir(), reason=NO_SHARED)
@pytest.mark.parametrize("kind", PAPER_KINDS)
def test_occlude__mean_colours_of_masktheface(kind: str) -> None:
    # On a neutral photo at the template's own scale nothing but the kind's colour is left.
    source = folder_templates(SHARED_TEMPLATES)
    template = source.get(kind.split("#")[0], "front")
    height, width = template.image.shape[:2]
    photo = np.full((height, width, 3), NEUTRAL, dtype=np.uint8)
    result = Occluder(source).occlude(photo, template.points, kind)
    mean = result.image[result.alpha > 0.5].mean(axis=0)
    assert np.abs(mean - EXPECTED[kind]).max() < 2.0


@pytest.mark.parametrize("kind", PAPER_KINDS)
def test_occlude__mean_colours_of_the_drawn_templates(kind: str) -> None:
    result = DRAWN.occlude(grey(NEUTRAL, 384), FRONT * 3, kind)
    mean = result.image[result.alpha > 0.5].mean(axis=0)
    assert np.abs(mean - EXPECTED[kind]).max() < 9.0


@pytest.mark.parametrize(("colour", "luminance"), [((250, 100, 0), 133.45), ((0, 100, 250), 87.2), ((0, 90, 0), 52.83)])
def test_brightness_gain__weighs_channels(colour: tuple[int, int, int], luminance: float) -> None:
    photo = np.broadcast_to(np.array(colour, np.uint8), (128, 128, 3))
    expected = max((luminance / NEUTRAL_LUMINANCE) ** 0.75, BRIGHTNESS_RANGE[0])
    assert brightness_gain(photo, FRONT.astype(np.float64)) == pytest.approx(expected)


@pytest.mark.parametrize("scale", [0.5, 0.25, 0.125])
def test_shrink__points_stay_where_they_are_in_the_picture(scale: float) -> None:
    image = np.zeros((80, 160, 4), np.uint8)
    image[16:40, 64:96] = 255
    mip = renderer._shrink(image, np.tile([79.5, 27.5], (6, 1)), scale)
    rows, columns = np.indices(mip.image.shape[:2])
    alpha = mip.image[..., 3] / mip.image[..., 3].sum()
    np.testing.assert_allclose(mip.points[0], [(alpha * columns).sum(), (alpha * rows).sum()], atol=1e-4)


def test_occlude__more_pixels_than_opencv_counts() -> None:
    photo = np.zeros((1100, 33_000, 3), np.uint8)
    with pytest.raises(InputError, match="photo: a mask of more than 32766 pixels across; scale the photo down first"):
        DRAWN.occlude(photo, FRONT * np.float32([250, 9]), "N95")
