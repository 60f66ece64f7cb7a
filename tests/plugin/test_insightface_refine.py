"""attach asks insightface's detector again on the completed photograph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import maskfix
from maskfix.base import UInt8Array
from tests.plugin.worlds import (
    GREEN,
    PAINT,
    batches,
    by_place,
    completed_112,
    early_green_deoccluder,
    green_deoccluder,
)
from tests.readers import shifting_reader

pytest.importorskip("insightface")


class Watched:
    """A detector that keeps what it was shown, and moves the points that it finds on any picture but the first."""

    def __init__(self, detect: Any, shift: NDArray[np.float32] | None) -> None:
        self.detect, self.shift, self.seen = detect, shift, []

    def __call__(self, img: UInt8Array, **kwargs: Any) -> tuple[Any, Any]:
        self.seen.append(np.array(img))
        boxes, points = self.detect(self.seen[0], **kwargs)
        if len(self.seen) == 1:
            return boxes, points
        return boxes, None if self.shift is None else points + self.shift


class TestRefine:
    SHIFT = np.array([[0, 0], [0, 0], [1, 2], [-2, 3], [1, 3]], np.float32)

    @pytest.fixture
    def watch(self, app: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
        def replace(shift: NDArray[np.float32] | None = self.SHIFT) -> Watched:
            watched = Watched(app.det_model.detect, shift)
            monkeypatch.setattr(app.det_model, "detect", watched, raising=False)
            return watched

        return replace

    def test_cut_out_by_the_points_of_the_completed_photograph(
        self, app: Any, both_bgr: UInt8Array, expected: list[Any], watch: Any
    ) -> None:
        watched = watch()
        library = app.models["recognition"]
        maskfix.attach(app, deoccluder=green_deoccluder())
        clean, masked = by_place(app.get(both_bgr))
        np.testing.assert_array_equal(masked.kps, expected[1].kps)
        np.testing.assert_array_equal(masked.completion.landmarks, expected[1].kps + self.SHIFT)
        moved = type(masked)(dict(expected[1]) | {"kps": expected[1].kps + self.SHIFT})
        by_hand = library.get_feat(completed_112(both_bgr, moved)).flatten()
        assert by_hand @ masked.embedding / np.linalg.norm(by_hand) / np.linalg.norm(masked.embedding) > 0.999
        old = library.get_feat(completed_112(both_bgr, expected[1])).flatten()
        assert np.linalg.norm(by_hand - masked.embedding) < 0.2 * np.linalg.norm(old - masked.embedding)
        np.testing.assert_array_equal(clean.embedding, expected[0].embedding)
        assert clean.completion.landmarks is None
        photo, completed = watched.seen
        np.testing.assert_array_equal(photo[:, :250], completed[:, :250])
        green = [(p[..., 1].astype(int) - p[..., [0, 2]].max(-1) > 127).sum() for p in (photo, completed)]
        assert green[1] < 0.02 * green[0]

    def test_the_detector_is_asked_again_for_occluded_faces_alone(
        self, app: Any, face: UInt8Array, masked: UInt8Array, watch: Any
    ) -> None:
        blind = green_deoccluder()
        for heads, asked in (((face, face), 1), ((masked, masked), 2)):
            watched = watch()
            maskfix.attach(app, deoccluder=blind)
            assert len(app.get(np.ascontiguousarray(np.hstack(heads)[..., ::-1]))) == 2
            assert len(watched.seen) == asked
            maskfix.detach(app)
            app.det_model.detect = watched.detect
        assert batches(blind) == [2, 2, 2]

    def test_found_no_more(self, app: Any, both_bgr: UInt8Array, expected: list[Any], watch: Any) -> None:
        maskfix.attach(app, deoccluder=green_deoccluder(), refine=False)
        plain = by_place(app.get(both_bgr))[1]
        maskfix.detach(app)
        watched = watch(None)
        maskfix.attach(app, deoccluder=green_deoccluder())
        face = by_place(app.get(both_bgr))[1]
        assert len(watched.seen) == 2
        assert face.completion.landmarks is None
        np.testing.assert_array_equal(face.embedding, plain.embedding)

    def test_not_asked_to(self, app: Any, both_bgr: UInt8Array, watch: Any) -> None:
        watched = watch()
        maskfix.attach(app, deoccluder=green_deoccluder(), refine=False)
        assert by_place(app.get(both_bgr))[1].completion.used
        assert len(watched.seen) == 1

    def test_read_anew_before_completion(self, app: Any, both_bgr: UInt8Array, expected: list[Any], watch: Any) -> None:
        watched, library, reader = watch(None), app.models["recognition"], shifting_reader(2, -3)
        maskfix.attach(app, deoccluder=green_deoccluder(reader=reader))
        clean, masked = by_place(app.get(both_bgr))
        photo = np.ascontiguousarray(both_bgr[..., ::-1])
        [five] = reader.correct([photo], expected[1].kps[None])
        assert np.abs(five - expected[1].kps).min() > 1
        np.testing.assert_allclose(masked.completion.landmarks, five, atol=1e-3)
        by_hand = library.get_feat(completed_112(both_bgr, type(masked)(dict(expected[1]) | {"kps": five}))).flatten()
        assert by_hand @ masked.embedding / np.linalg.norm(by_hand) / np.linalg.norm(masked.embedding) > 0.999
        # The clean face was read as well, as nothing told that it is clean; it passes as the library has it.
        np.testing.assert_array_equal(clean.embedding, expected[0].embedding)
        assert clean.completion.landmarks is None
        assert len(watched.seen) == 2

    @pytest.mark.parametrize("mode", ["always", "observe"])
    def test_read_but_not_occluded__the_completion_stays_where_it_was_seen(
        self, app: Any, face: UInt8Array, five: NDArray[Any], monkeypatch: pytest.MonkeyPatch, mode: str
    ) -> None:
        """The library's crop is cut by the detector's points then, the completed one by those that were read."""
        spotted = face.copy()
        x, y = five[3:].mean(0).astype(int)
        spotted[y - 7 : y + 7, x - 10 : x + 10] = GREEN
        [kps] = (found.kps for found in app.get(np.ascontiguousarray(spotted[..., ::-1])))
        seen: list[UInt8Array] = []
        recogniser = app.models["recognition"]
        original = type(recogniser).get_feat
        monkeypatch.setattr(type(recogniser), "get_feat", lambda self, x: seen.append(x) or original(self, x))
        crops = []
        for reader in (None, shifting_reader(9, -6)):
            maskfix.attach(app, mode=mode, deoccluder=green_deoccluder(reader=reader), hidden=False)
            [told] = app.get(np.ascontiguousarray(spotted[..., ::-1]))
            maskfix.detach(app)
            assert not told.completion.occluded
            assert told.completion.coverage > 0
            np.testing.assert_array_equal(told.kps, kps)
            crops.append(seen[-1].astype(int))
        plain, read = crops
        paint = np.abs(plain[..., ::-1] - PAINT).sum(-1) < 12
        assert paint.sum() > 50
        # Two warps round the rim of the patch to either side.
        assert (np.abs(plain - read).sum(-1)[paint] < 12).mean() > 0.97
        assert (np.abs(plain - read).sum(-1) > 60).sum() < 0.1 * paint.sum()

    def test_read_at_the_readers_size(self, app: Any, both_bgr: UInt8Array, expected: list[Any]) -> None:
        """A network of 256 pixels with the reader of 128."""
        reader = shifting_reader(2, -3)
        seam = maskfix.wrap(app.models["recognition"], deoccluder=green_deoccluder(256, reader))
        masked = type(expected[1])(dict(expected[1]))
        seam.get(both_bgr, masked)
        [five] = reader.correct([np.ascontiguousarray(both_bgr[..., ::-1])], expected[1].kps[None])
        np.testing.assert_allclose(masked.completion.landmarks, five, atol=1e-3)
        assert masked.completion.crop.shape == (256, 256, 3)

    def test_surely_clean__one_pass_of_the_encoder_and_nothing_read(
        self, app: Any, both_bgr: UInt8Array, expected: list[Any]
    ) -> None:
        blind = early_green_deoccluder(shifting_reader(2, -3))
        maskfix.attach(app, deoccluder=blind)
        # Neither head is green in its first row, where this early look looks.
        faces = by_place(app.get(both_bgr))
        network: Any = blind._runner.network
        assert (network.encoded, network.batches) == ([2], [])
        for face, alone in zip(faces, expected, strict=True):
            np.testing.assert_array_equal(face.embedding, alone.embedding)
            assert face.completion.early
            assert face.completion.landmarks is None

    def test_neither_read_nor_found_again(self, app: Any, both_bgr: UInt8Array, watch: Any) -> None:
        watched = watch()
        maskfix.attach(app, deoccluder=green_deoccluder(reader=shifting_reader(2, -3)), refine=False)
        face = by_place(app.get(both_bgr))[1]
        assert face.completion.used
        assert face.completion.landmarks is None
        assert len(watched.seen) == 1

    def test_what_is_not_occluded_where_it_really_lies_passes_to_the_bit(
        self, app: Any, both_bgr: UInt8Array, expected: list[Any], watch: Any
    ) -> None:
        """The crop cut anew has the last word: seen askew, a clean face may look occluded."""
        blind, watched = green_deoccluder(), watch()
        network: Any = blind._runner.network
        see = network.forward

        def sees_nothing_once_points_are_found(picture: Any, every_scale: bool = True) -> Any:
            decoded = see(picture, every_scale)
            return decoded if len(watched.seen) < 2 else decoded._replace(occlusion=decoded.occlusion * 0 - 20)

        network.forward = sees_nothing_once_points_are_found
        maskfix.attach(app, deoccluder=blind)
        for face, known in zip(by_place(app.get(both_bgr)), expected, strict=True):
            told = face.completion
            assert (told.coverage, told.occluded, told.used, told.landmarks) == (0, False, False, None)
            np.testing.assert_array_equal(face.embedding, known.embedding)
        assert len(watched.seen) == 2
