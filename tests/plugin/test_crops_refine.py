"""Crops in which an occluded face lies askew are set right."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from maskfix import wrap
from maskfix.align import LandmarkReader
from maskfix.base import UInt8Array, arcface_layout
from maskfix.embed import load_layout
from maskfix.plugin import Completer, CropFormat, SeamSettings
from maskfix.plugin.crops import relate
from maskfix.plugin.wrapping import stage
from tests.plugin.worlds import GREEN, PAINT, early_green_deoccluder, green_deoccluder
from tests.readers import shifting_reader

RIGHT, DOWN = 6, -4


@pytest.fixture
def crops() -> UInt8Array:
    """Two smooth ArcFace crops, the second with a green block over the mouth."""
    noise = np.random.default_rng(0).integers(0, 256, (2, 14, 14, 3), dtype=np.uint8)
    pictures = np.stack([cv2.resize(small, (112, 112), interpolation=cv2.INTER_CUBIC) for small in noise])
    pictures[..., 1] = np.minimum(pictures[..., 1], pictures[..., 0])
    pictures[1, 70:100, 40:72] = GREEN
    return pictures


def completed(
    crops: UInt8Array, reader: LandmarkReader | None, layout: str = "arcface_112", **settings: object
) -> tuple[UInt8Array, object]:
    form = CropFormat(load_layout(layout), "byte", "byte")
    completer = Completer(green_deoccluder(reader=reader), SeamSettings(**settings), "cpu")  # type: ignore[arg-type]
    return form.complete(completer, crops)


def moved_back(crop: UInt8Array) -> UInt8Array:
    """The crop by hand, moved so that what was read lies where the layout has it."""
    shift = np.array([[1.0, 0, -RIGHT], [0, 1, -DOWN]])
    return np.asarray(cv2.warpAffine(crop, shift, (112, 112), borderMode=cv2.BORDER_REPLICATE), np.uint8)


def test_an_occluded_face_goes_where_the_layout_has_it(crops: UInt8Array) -> None:
    plain, _ = completed(crops, None)
    after, _ = completed(crops, shifting_reader(RIGHT, DOWN))
    np.testing.assert_array_equal(after[0], crops[0])
    expected = moved_back(plain[1])
    assert np.abs(expected.astype(int) - plain[1]).mean() > 5
    difference = np.abs(after[1].astype(int) - expected)
    # Within the crop to the bit; what comes in at its edge is the nearest pixel.
    assert difference[8:-8, 8:-8].max() <= 1
    assert (after[1][80 - DOWN - 3, 50 - RIGHT] == PAINT).all()


def test_read_at_the_readers_size(crops: UInt8Array) -> None:
    """A network of 256 pixels with the reader of 128 completes and moves a face as one of 128 does."""
    form = CropFormat(load_layout("arcface_112"), "byte", "byte")
    small, large = (
        form.complete(Completer(green_deoccluder(size, shifting_reader(RIGHT, DOWN))), crops) for size in (128, 256)
    )
    np.testing.assert_array_equal(large[0][0], crops[0])
    difference = np.abs(large[0][1].astype(int) - small[0][1]).max(-1)
    # Rims of the green differ, as the larger network sees them finer.
    assert (difference[8:-8, 8:-8] > 1).mean() < 0.06
    assert large[1].images.shape == (2, 256, 256, 3)


@pytest.mark.parametrize("mode", ["always", "observe", "fuse"])
def test_a_face_without_occlusion_stays_in_its_place(crops: UInt8Array, mode: str) -> None:
    plain, _ = completed(crops, None, mode=mode)
    after, _ = completed(crops, shifting_reader(RIGHT, DOWN), mode=mode)
    np.testing.assert_array_equal(after[0], plain[0])
    assert np.abs(after[1].astype(int) - moved_back(plain[1]))[8:-8, 8:-8].max() <= 1


def test_surely_clean__one_pass_of_the_encoder_and_nothing_read(crops: UInt8Array) -> None:
    crops[1, :12] = GREEN
    blind = early_green_deoccluder(shifting_reader(RIGHT, DOWN))
    form = CropFormat(load_layout("arcface_112"), "byte", "byte")
    after, result = form.complete(Completer(blind), crops)
    network: Any = blind._runner.network
    # One pass for both; the second face, cut anew, goes through the whole network.
    assert (network.encoded, network.batches) == ([2], [1])
    assert result.early is not None
    assert result.early.tolist() == [True, False]
    np.testing.assert_array_equal(after[0], crops[0])
    np.testing.assert_array_equal(after[1], completed(crops, shifting_reader(RIGHT, DOWN))[0][1])


def test_without(crops: UInt8Array) -> None:
    """Switched off, without a reader, and with landmarks of the caller's own."""
    plain, _ = completed(crops, None)
    np.testing.assert_array_equal(completed(crops, shifting_reader(RIGHT, DOWN), refine=False)[0], plain)
    form = CropFormat(load_layout("arcface_112"), "byte", "byte")
    completer = Completer(green_deoccluder(reader=shifting_reader(RIGHT, DOWN)))
    given, _ = form.complete(completer, crops, np.stack([arcface_layout(112).array] * 2))
    np.testing.assert_array_equal(given, plain)
    assert completed(crops[:0], shifting_reader(RIGHT, DOWN))[0].shape == (0, 112, 112, 3)


def test_a_crop_by_a_box_stays_in_its_place_and_is_completed_by_what_was_read() -> None:
    """FaceNet was trained on boxes: only the canonical crop, which the network looks at, is cut anew."""
    layout = load_layout("facenet")
    crops = np.full((1, 160, 160, 3), 90, np.uint8)
    crops[0, 100:140, 60:100] = GREEN
    plain, before = completed(crops, None, "facenet")
    after, result = completed(crops, shifting_reader(RIGHT, DOWN), "facenet")
    np.testing.assert_array_equal(after, plain)
    shown = [told.completion.occlusion[0] > 0.5 for told in (before, result)]  # type: ignore[attr-defined]
    inner = np.roll(shown[0], (-DOWN, -RIGHT), (0, 1))[20:-20, 20:-20]
    assert (shown[1][20:-20, 20:-20] == inner).mean() > 0.995
    assert relate(layout, shifting_reader().layout).shape == (2, 3)


def test_doors_pass_the_setting_on() -> None:
    def embed(batch: UInt8Array) -> UInt8Array:
        return batch

    for refine in (True, False):
        wrapped = wrap(embed, layout="arcface_112", value_range="byte", refine=refine)
        assert wrapped.completer.settings.refine is refine
        assert stage("arcface_112", "byte", refine=refine).completer.settings.refine is refine
    assert SeamSettings().refine
