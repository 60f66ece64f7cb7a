"""attach finds faces that the application's detector misses for what hides them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import maskfix
from maskfix.base import InputError, UInt8Array
from maskfix.plugin.attaching import GUESSING_THRESHOLD
from tests.plugin.worlds import batches, by_place, green_deoccluder

pytest.importorskip("insightface")


class BlindToGreen:
    """The application's own detector, which sees no face on a photograph that shows much green."""

    def __init__(self, detector: Any) -> None:
        self.detector = detector
        self.guessed = 0

    def detect(self, img: UInt8Array, **kwargs: Any) -> tuple[Any, Any]:
        boxes, points = self.detector.detect(img, **kwargs)
        green = (img[..., 1].astype(int) - img[..., [0, 2]].max(-1) > 127).mean() > 0.005
        return (boxes[:0], points[:0]) if green else (boxes, points)

    def guess(self, img: UInt8Array) -> tuple[Any, Any]:
        self.guessed += 1
        boxes, points = self.detector.guess(img)
        return boxes, points


class Threshold:
    """A detector in the manner of insightface's, that finds by its `det_thresh`."""

    def __init__(self, detector: BlindToGreen) -> None:
        self.detector, self.det_thresh, self.asked = detector, 0.5, []

    def detect(self, img: UInt8Array, **kwargs: Any) -> tuple[Any, Any]:
        self.asked.append(self.det_thresh)
        if self.det_thresh < 0.5:
            boxes, points = self.detector.detector.detect(img)
            return boxes[::-1], points[::-1]
        return self.detector.detect(img, **kwargs)


def nothing() -> tuple[Any, Any]:
    return np.zeros((0, 5), np.float32), np.zeros((0, 5, 2), np.float32)


@pytest.fixture
def blinded(app: Any, monkeypatch: pytest.MonkeyPatch) -> BlindToGreen:
    detector = BlindToGreen(app.det_model)
    monkeypatch.setattr(app, "det_model", detector)
    return detector


@pytest.fixture
def masked_bgr(masked: UInt8Array) -> UInt8Array:
    return np.ascontiguousarray(masked[..., ::-1])


def test_found_by_its_completion(app: Any, blinded: BlindToGreen, masked_bgr: UInt8Array) -> None:
    [known] = blinded.detector.detect(masked_bgr)[1]
    assert app.get(masked_bgr) == []
    maskfix.attach(app, deoccluder=green_deoccluder(), refine=False)
    [face] = app.get(masked_bgr)
    eyes = np.linalg.norm(known[1] - known[0])
    assert np.abs(face.kps - known)[:2].max() < 0.1 * eyes
    assert face.completion.used
    assert 0 < face.det_score <= 1
    assert face.bbox[0] < face.kps[:, 0].min() < face.kps[:, 0].max() < face.bbox[2]
    # As if the detector had found it there.
    maskfix.detach(app)
    again = type(face)(bbox=face.bbox, kps=face.kps, det_score=face.det_score)
    maskfix.wrap(app.models["recognition"], deoccluder=green_deoccluder()).get(masked_bgr, again)
    np.testing.assert_allclose(face.embedding, again.embedding, atol=1e-4)


def test_arguments_are_passed_on(app: Any, blinded: BlindToGreen, masked_bgr: UInt8Array) -> None:
    maskfix.attach(app, deoccluder=green_deoccluder())
    both = np.ascontiguousarray(np.hstack([masked_bgr, np.roll(masked_bgr, 3, 0)]))
    # Here each is seen while the other is green still.
    blinded.detect = lambda img, **_: blinded.detector.detect(img) if (img != both).any() else nothing()  # type: ignore[method-assign]
    assert len(app.get(both)) == 2
    assert len(app.get(both, max_num=1)) == len(app.get(both, 1, "max")) == 1
    assert len(app.get(both, det_metric="max")) == 2


@pytest.mark.parametrize("settings", [{"hidden": False}, {"mode": "observe"}])
def test_not_looked_for(app: Any, blinded: BlindToGreen, masked_bgr: UInt8Array, settings: Any) -> None:
    maskfix.attach(app, deoccluder=green_deoccluder(), **settings)
    assert app.get(masked_bgr) == []
    assert blinded.guessed == 0


def test_not_asked_where_a_face_is_found(
    app: Any, blinded: BlindToGreen, face: UInt8Array, both_bgr: UInt8Array, expected: list[Any]
) -> None:
    maskfix.attach(app, deoccluder=green_deoccluder())
    assert len(app.get(np.ascontiguousarray(face[..., ::-1]))) == 1
    assert blinded.guessed == 0
    assert len(by_place(expected)) == 2


class TestBeside:
    """A bare face at the left, which the detector finds, and a hidden one at the right."""

    @pytest.fixture
    def group(self, blinded: BlindToGreen, face: UInt8Array, masked_bgr: UInt8Array) -> UInt8Array:
        width, whole = face.shape[1], blinded.detect

        def detect(img: UInt8Array, max_num: int = 0, **_: Any) -> tuple[Any, Any]:
            boxes, points = blinded.detector.detect(img)
            seen = (points[..., 0].mean(1) < width) | (len(whole(img)[0]) > 0)
            count = max_num or len(boxes)
            return boxes[seen][:count], points[seen][:count]

        blinded.detect = detect  # type: ignore[method-assign]
        return np.ascontiguousarray(np.hstack([face[..., ::-1], masked_bgr]))

    def test_looked_for_where_it_is_asked_for(self, app: Any, face: UInt8Array, group: UInt8Array) -> None:
        maskfix.attach(app, deoccluder=green_deoccluder())
        [alone] = app.get(group)
        maskfix.detach(app)
        maskfix.attach(app, deoccluder=green_deoccluder(), hidden="beside")
        first, second = app.get(group)
        assert first.kps[:, 0].max() < face.shape[1] < second.kps[:, 0].min()
        assert (first.completion.used, second.completion.used) == (False, True)
        np.testing.assert_array_equal(first.embedding, alone.embedding)

    def test_as_many_as_are_wanted(self, app: Any, blinded: BlindToGreen, group: UInt8Array) -> None:
        maskfix.attach(app, deoccluder=green_deoccluder(), hidden="beside")
        assert len(app.get(group, 1)) == len(app.get(group, max_num=1)) == 1
        # The one that is found is enough.
        assert blinded.guessed == 0
        assert len(app.get(group, 2)) == len(app.get(group, max_num=2)) == len(app.get(group, max_num=3)) == 2
        # The library's second argument may follow by its place.
        assert len(app.get(group, 1, "max")) == 1
        assert len(app.get(group, 2, "max")) == len(app.get(group, 0, "max")) == len(app.get(group)) == 2

    def test_unknown(self, app: Any) -> None:
        with pytest.raises(InputError, match="hidden: expected True, False or 'beside', got 'sometimes'"):
            maskfix.attach(app, deoccluder=green_deoccluder(), hidden="sometimes")  # type: ignore[arg-type]


def test_no_face(app: Any, blinded: BlindToGreen, masked_bgr: UInt8Array) -> None:
    maskfix.attach(app, deoccluder=green_deoccluder())
    assert app.get(np.full((200, 200, 3), 90, np.uint8)) == []
    assert blinded.guessed == 1
    # Guessed, and still not seen once completed.
    blinded.detect = lambda img, **_: nothing()  # type: ignore[method-assign]
    assert app.get(masked_bgr) == []


def test_insightfaces_own_detectors__a_copy_with_a_lower_threshold(
    app: Any, masked_bgr: UInt8Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = Threshold(BlindToGreen(app.det_model))
    monkeypatch.setattr(app, "det_model", detector)
    maskfix.attach(app, deoccluder=green_deoccluder(), refine=False)
    [face] = app.get(masked_bgr)
    assert face.completion.used
    assert detector.det_thresh == 0.5
    assert detector.asked == [0.5, GUESSING_THRESHOLD, 0.5]


@pytest.fixture
def pair(blinded: BlindToGreen, masked_bgr: UInt8Array) -> UInt8Array:
    """Two hidden faces, each of which is seen while the other is green still."""
    both = np.ascontiguousarray(np.hstack([masked_bgr, np.roll(masked_bgr, 3, 0)]))
    blinded.detect = lambda img, **_: blinded.detector.detect(img) if (img != both).any() else nothing()  # type: ignore[method-assign]
    return both


def test_beside__as_many_hidden_ones_as_there_is_room_for(
    app: Any, blinded: BlindToGreen, face: UInt8Array, pair: UInt8Array
) -> None:
    group = np.ascontiguousarray(np.hstack([face[..., ::-1], pair]))

    def detect(img: UInt8Array, max_num: int = 0, **_: Any) -> tuple[Any, Any]:
        boxes, points = blinded.detector.detect(img)
        seen = (points[..., 0].mean(1) < face.shape[1]) | (img != group).any()
        return boxes[seen][: max_num or None], points[seen][: max_num or None]

    blinded.detect = detect  # type: ignore[method-assign]
    maskfix.attach(app, deoccluder=green_deoccluder(), hidden="beside")
    assert len(app.get(group)) == 3
    assert len(app.get(group, 2)) == len(app.get(group, max_num=2)) == 2


def test_guesses_out_of_order__the_surest_first(app: Any, blinded: BlindToGreen, pair: UInt8Array) -> None:
    boxes, points = blinded.detector.detect(pair)
    boxes[:, 4] = 0.3, 0.6
    blinded.guess = lambda img: (boxes, points)  # type: ignore[method-assign]
    maskfix.attach(app, deoccluder=green_deoccluder(), refine=False)
    faces = app.get(pair)
    np.testing.assert_array_equal([face.bbox for face in faces], boxes[::-1, :4])
    assert [face.det_score for face in faces] == pytest.approx([0.6, 0.3])
    [surest] = app.get(pair, max_num=1)
    assert surest.det_score == pytest.approx(0.6)
    assert np.abs(surest.kps - points[1]).mean() < 10


def test_a_threshold_below_that_of_guesses_stays(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = Threshold(BlindToGreen(app.det_model))
    detector.det_thresh = GUESSING_THRESHOLD / 2
    monkeypatch.setattr(app, "det_model", detector)
    maskfix.attach(app, deoccluder=green_deoccluder())
    assert app.get(np.full((200, 200, 3), 90, np.uint8)) == []
    assert detector.asked == [GUESSING_THRESHOLD / 2] * 2


def test_a_detector_without_landmarks(app: Any, blinded: BlindToGreen, masked_bgr: UInt8Array) -> None:
    """Of what is guessed there is no completion, and what is found on one is no face."""
    boxes, points = blinded.detector.detect(masked_bgr)
    blinded.detect = lambda img, **_: (boxes, None) if (img != masked_bgr).any() else nothing()  # type: ignore[method-assign]
    blind = green_deoccluder()
    maskfix.attach(app, deoccluder=blind)
    blinded.guess = lambda img: (boxes, None)  # type: ignore[method-assign]
    assert app.get(masked_bgr) == []
    assert batches(blind) == []
    blinded.guess = lambda img: (boxes, points)  # type: ignore[method-assign]
    assert app.get(masked_bgr) == []
    assert batches(blind) == [1]
