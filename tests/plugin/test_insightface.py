"""attach, detach and wrap on the real insightface; the detector is this project's MTCNN in insightface's interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import maskfix
from maskfix.base import InputError, UInt8Array
from maskfix.embed.sessions import spins_on
from maskfix.plugin import FaceCompletion, pack_free_analysis
from tests.plugin.worlds import (
    batches,
    by_place,
    completed_112,
    crop_112,
    early_green_deoccluder,
    green_deoccluder,
    painted,
)

insightface = pytest.importorskip("insightface")


class TestSessions:
    @pytest.fixture
    def threaded(self, recogniser_path: Path) -> Any:
        options = pytest.importorskip("onnxruntime").SessionOptions()
        options.intra_op_num_threads = 2
        return pack_free_analysis(recogniser_path, sess_options=options)

    def test_spin_no_more_between_two_calls(self, threaded: Any, both_bgr: UInt8Array, expected: list[Any]) -> None:
        recogniser = threaded.models["recognition"]
        spinning = recogniser.session
        maskfix.attach(threaded, deoccluder=green_deoccluder())
        assert recogniser.session is not spinning
        assert not spins_on(recogniser.session)
        clean = by_place(threaded.get(both_bgr))[0]
        np.testing.assert_allclose(clean.embedding, expected[0].embedding, rtol=1e-4, atol=1e-4)
        maskfix.detach(threaded)
        assert threaded.models["recognition"] is recogniser

    def test_left_alone_on_request(self, threaded: Any) -> None:
        spinning = threaded.models["recognition"].session
        maskfix.attach(threaded, deoccluder=green_deoccluder(), reopen=False)
        assert threaded.models["recognition"].session is spinning
        assert spins_on(spinning)


class TestGate:
    def test_clean_face_to_the_bit_masked_face_completed(
        self, app: Any, both_bgr: UInt8Array, expected: list[Any]
    ) -> None:
        blind = green_deoccluder()
        assert maskfix.attach(app, deoccluder=blind) is app
        clean, masked = by_place(app.get(both_bgr))
        assert batches(blind) == [2, 1], "one call for all faces, one for those whose points were found again"
        np.testing.assert_array_equal(clean.embedding, expected[0].embedding)
        assert (masked.embedding != expected[1].embedding).any()
        for face, known in zip((clean, masked), expected, strict=True):
            np.testing.assert_array_equal(face.kps, known.kps)
            np.testing.assert_array_equal(face.bbox, known.bbox)
            assert face.embedding.shape == known.embedding.shape
            assert face.embedding.dtype == known.embedding.dtype

    def test_completed_crop_is_the_librarys_own_but_for_the_mask(
        self, app: Any, both_bgr: UInt8Array, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        seen = []
        recogniser = app.models["recognition"]
        original = type(recogniser).get_feat
        maskfix.attach(app, deoccluder=green_deoccluder(), refine=False)
        monkeypatch.setattr(type(recogniser), "get_feat", lambda self, x: seen.append(x) or original(self, x))
        clean, masked = by_place(app.get(both_bgr))
        # Rows run in the detector's order.
        first = app.get(both_bgr)[0]
        crops = seen[:2] if first.bbox[0] == clean.bbox[0] else seen[1::-1]
        np.testing.assert_array_equal(crops[0], crop_112(both_bgr, clean))
        by_hand = completed_112(both_bgr, masked)
        assert (by_hand != crop_112(both_bgr, masked)).any(-1).mean() > 0.05
        # The two warps may round a few pixels at the green's edge to either side.
        assert (crops[1] != by_hand).any(-1).mean() < 0.005

    def test_what_a_face_carries(self, app: Any, both_bgr: UInt8Array, expected: list[Any]) -> None:
        maskfix.attach(app, deoccluder=green_deoccluder())
        clean, masked = by_place(app.get(both_bgr))
        assert isinstance(masked.completion, FaceCompletion)
        assert (clean.completion.used, masked.completion.used) == (False, True)
        assert clean.completion.coverage == 0
        assert masked.completion.coverage == pytest.approx(float((masked.completion.occlusion > 0.5).mean()))
        assert masked.completion.crop.shape == (128, 128, 3)
        assert masked.completion.original is None
        # The order of a face's entries is insightface's, with ours at the end.
        assert list(masked) == [*expected[1], "completion"]

    def test_early_look(self, app: Any, both_bgr: UInt8Array, expected: list[Any]) -> None:
        """No green in the first row of either crop: both pass, neither is decoded, and the faces say so."""
        blind = early_green_deoccluder()
        maskfix.attach(app, deoccluder=blind)
        for face, known in zip(by_place(app.get(both_bgr)), expected, strict=True):
            np.testing.assert_array_equal(face.embedding, known.embedding)
            assert face.completion.early
            assert not face.completion.used
            assert face.completion.coverage == pytest.approx(0.001)
            assert face.completion.occlusion.shape == (128, 128)
        assert batches(blind) == []

    def test_threshold(self, app: Any, both_bgr: UInt8Array, expected: list[Any]) -> None:
        maskfix.attach(app, deoccluder=green_deoccluder(), threshold=0.9)
        for face, known in zip(by_place(app.get(both_bgr)), expected, strict=True):
            np.testing.assert_array_equal(face.embedding, known.embedding)
            assert not face.completion.used

    def test_arguments_of_get(self, app: Any, both_bgr: UInt8Array) -> None:
        for kwargs in ({"max_num": 1}, {"max_num": 1, "det_metric": "max"}):
            [known] = app.get(both_bgr, **kwargs)
            maskfix.attach(app, deoccluder=green_deoccluder())
            [face] = app.get(both_bgr, **kwargs)
            np.testing.assert_array_equal(face.bbox, known.bbox)
            maskfix.detach(app)

    def test_no_face(self, app: Any) -> None:
        maskfix.attach(app, deoccluder=green_deoccluder())
        assert app.get(np.zeros((64, 64, 3), np.uint8)) == []

    def test_other_models_see_the_photograph(self, app: Any, both_bgr: UInt8Array) -> None:
        """Landmarks, gender and age are given the same picture as before, and faces without embeddings."""
        seen = []

        class Other:
            def get(self, img: Any, face: Any) -> None:
                seen.append((img is both_bgr, face.embedding is None))

        app.models["genderage"] = Other()
        try:
            maskfix.attach(app, deoccluder=green_deoccluder())
            app.get(both_bgr)
            assert seen == [(True, True)] * 2
        finally:
            del app.models["genderage"]

    def test_an_error_leaves_nothing_behind(self, app: Any, both_bgr: UInt8Array, expected: list[Any]) -> None:
        """A call that fails half-way must not leave faces for the next one."""
        maskfix.attach(app, deoccluder=green_deoccluder())

        class Broken:
            def get(self, img: Any, face: Any) -> None:
                raise RuntimeError("broken")

        app.models["landmark"] = Broken()
        with pytest.raises(RuntimeError, match="broken"):
            app.get(both_bgr)
        del app.models["landmark"]
        assert len(app.get(both_bgr)) == 2
        face = type(expected[0])(dict(expected[0]))
        np.testing.assert_array_equal(app.models["recognition"].get(both_bgr, face), expected[0].embedding)


class TestModes:
    def test_always(self, app: Any, both_bgr: UInt8Array, expected: list[Any]) -> None:
        """With nothing to paint, the completed face is insightface's own crop, and so is its embedding."""
        maskfix.attach(app, mode="always", deoccluder=green_deoccluder())
        clean, masked = by_place(app.get(both_bgr))
        assert clean.completion.used
        assert masked.completion.used
        np.testing.assert_array_equal(clean.embedding, expected[0].embedding)

    def test_observe(self, app: Any, both_bgr: UInt8Array, expected: list[Any]) -> None:
        maskfix.attach(app, deoccluder=green_deoccluder())
        gated = by_place(app.get(both_bgr))
        maskfix.detach(app)
        maskfix.attach(app, mode="observe", deoccluder=green_deoccluder())
        for face, known, completed in zip(by_place(app.get(both_bgr)), expected, gated, strict=True):
            np.testing.assert_array_equal(face.embedding, known.embedding)
            np.testing.assert_array_equal(face.completion.original, known.embedding)
            np.testing.assert_array_equal(face.completion.completed, completed.embedding)
            assert not face.completion.used
        assert face.completion.occluded

    def test_fuse(self, app: Any, both_bgr: UInt8Array, expected: list[Any]) -> None:
        maskfix.attach(app, mode="fuse", share=0.6, deoccluder=green_deoccluder())
        clean, masked = by_place(app.get(both_bgr))
        np.testing.assert_array_equal(clean.embedding, expected[0].embedding)
        np.testing.assert_array_equal(masked.completion.original, expected[1].embedding)
        units = [e / np.linalg.norm(e) for e in (masked.completion.original, masked.completion.completed)]
        mixed = 0.4 * units[0] + 0.6 * units[1]
        np.testing.assert_allclose(masked.normed_embedding, mixed / np.linalg.norm(mixed), atol=1e-5)


class TestDetach:
    def test_bit_for_bit(self, app: Any, both_bgr: UInt8Array, expected: list[Any]) -> None:
        before, models, items = dict(vars(app)), app.models, list(app.models.items())
        state = dict(vars(app.models["recognition"]))
        maskfix.attach(app, deoccluder=green_deoccluder())
        app.get(both_bgr)
        assert maskfix.detach(app) is app
        assert dict(vars(app)) == before
        assert list(vars(app)) == list(before)
        assert app.models is models
        for (name, model), (old_name, old) in zip(app.models.items(), items, strict=True):
            assert name == old_name
            assert model is old
        assert vars(app.models["recognition"]) == state
        for face, known in zip(by_place(app.get(both_bgr)), expected, strict=True):
            np.testing.assert_array_equal(face.embedding, known.embedding)
            assert "completion" not in face

    def test_again(self, app: Any) -> None:
        for _ in range(2):
            maskfix.attach(app, deoccluder=green_deoccluder())
            maskfix.detach(app)

    def test_a_get_of_the_users_own_comes_back(self, app: Any, both_bgr: UInt8Array) -> None:
        original = app.get
        app.get = lambda img, **kwargs: original(img, **kwargs)[:1]
        own = app.get
        try:
            maskfix.attach(app, deoccluder=green_deoccluder())
            assert len(app.get(both_bgr)) == 1
            maskfix.detach(app)
            assert app.get is own
        finally:
            del app.get

    def test_a_recogniser_put_there_since_stays(self, app: Any) -> None:
        recogniser, other = app.models["recognition"], object()
        maskfix.attach(app, deoccluder=green_deoccluder())
        app.models["recognition"] = other
        maskfix.detach(app)
        assert app.models["recognition"] is other
        app.models["recognition"] = recogniser

    def test_nothing_attached(self, app: Any) -> None:
        for thing in (app, object()):
            with pytest.raises(InputError, match="not attached"):
                maskfix.detach(thing)


class TestAttachErrors:
    def test_twice(self, app: Any) -> None:
        maskfix.attach(app, deoccluder=green_deoccluder())
        with pytest.raises(InputError, match=r"attached already; call maskfix\.detach\(app\) first"):
            maskfix.attach(app)

    def test_wrapped_recogniser(self, app: Any) -> None:
        recogniser = app.models["recognition"]
        app.models["recognition"] = maskfix.wrap(recogniser, deoccluder=green_deoccluder())
        try:
            with pytest.raises(InputError, match="recogniser is wrapped already; put the bare one back") as caught:
                maskfix.attach(app)
            exec(str(caught.value).partition("first: ")[2])  # noqa: S102 - what the message says
            assert app.models["recognition"] is recogniser
            maskfix.detach(maskfix.attach(app, deoccluder=green_deoccluder()))
        finally:
            app.models["recognition"] = recogniser

    @pytest.mark.parametrize("refine", [True, False])
    def test_get_replaced_since(self, app: Any, refine: bool) -> None:
        recogniser, left = app.models["recognition"], maskfix.attach(app, refine=refine).get
        app.get = lambda img: left(img)
        for call in (maskfix.attach, maskfix.detach):
            with pytest.raises(InputError, match=r"app\.get was replaced after maskfix\.attach; put back the one"):
                call(app)
        app.get = left
        assert maskfix.detach(app).models["recognition"] is recogniser

    def test_no_recognition(self, app: Any) -> None:
        recogniser = app.models.pop("recognition")
        try:
            with pytest.raises(InputError, match="no recognition model among detection; load one"):
                maskfix.attach(app)
        finally:
            app.models["recognition"] = recogniser

    def test_no_application(self, app: Any) -> None:
        with pytest.raises(
            InputError, match=r"expected insightface's FaceAnalysis, got ArcFaceONNX; see maskfix\.wrap"
        ):
            maskfix.attach(app.models["recognition"])
        with pytest.raises(InputError, match=r"use maskfix\.attach"):
            maskfix.wrap(app)

    def test_settings(self, app: Any) -> None:
        with pytest.raises(InputError, match="mode: 'off' is unknown"):
            maskfix.attach(app, mode="off")
        assert "get" not in vars(app)

    def test_face_without_landmarks(self, app: Any, both_bgr: UInt8Array, monkeypatch: pytest.MonkeyPatch) -> None:
        detect = app.det_model.detect
        monkeypatch.setattr(app.det_model, "detect", lambda *a, **k: (detect(*a, **k)[0], None), raising=False)
        maskfix.attach(app, deoccluder=green_deoccluder())
        with pytest.raises(InputError, match=r"face\.kps is None: .* use a detector that gives them .* or .* get_feat"):
            app.get(both_bgr)


class TestRecogniser:
    @pytest.fixture
    def rec(self, fresh: Any) -> Any:
        return maskfix.wrap(fresh.models["recognition"], deoccluder=green_deoccluder())

    def test_get(self, rec: Any, fresh: Any, both_bgr: UInt8Array, expected: list[Any]) -> None:
        faces = [type(face)(dict(face)) for face in expected]
        clean, masked = (rec.get(both_bgr, face) for face in faces)
        np.testing.assert_array_equal(clean, expected[0].embedding)
        assert (masked != expected[1].embedding).any()
        assert faces[1].completion.used
        assert rec.last == (faces[1].completion,)
        rec.get_batch(both_bgr, faces)
        assert rec.last == tuple(face.completion for face in faces)
        maskfix.attach(fresh, deoccluder=green_deoccluder(), refine=False)
        np.testing.assert_array_equal(masked, by_place(fresh.get(both_bgr))[1].embedding)
        maskfix.detach(fresh)

    def test_get_feat(self, rec: Any, fresh: Any, both_bgr: UInt8Array, expected: list[Any]) -> None:
        """Crops that are aligned already: one, and a list, which stays one call of either network."""
        library = fresh.models["recognition"]
        clean, masked = (crop_112(both_bgr, face) for face in expected)
        np.testing.assert_array_equal(rec.get_feat(clean), library.get_feat(clean))
        assert [face.used for face in rec.last] == [False]
        by_hand = np.pad(masked, ((0, 16), (8, 8), (0, 0)), mode="edge")[..., ::-1]
        by_hand = np.ascontiguousarray(painted(by_hand)[:112, 8:120, ::-1])
        np.testing.assert_array_equal(rec.get_feat(masked), library.get_feat(by_hand))
        np.testing.assert_array_equal(rec.get_feat([clean, masked]), library.get_feat([clean, by_hand]))
        assert [face.used for face in rec.last] == [False, True]
        assert batches(rec.completer.deoccluder()) == [1, 1, 2]

    def test_get_feat_of_other_sizes(self, rec: Any, fresh: Any, both_bgr: UInt8Array, expected: list[Any]) -> None:
        """insightface resizes whatever it is given; so does the seam."""
        from insightface.utils import face_align

        clean, masked = (face_align.norm_crop(both_bgr, face.kps, 224) for face in expected)
        library = fresh.models["recognition"]
        np.testing.assert_array_equal(rec.get_feat([clean])[0], library.get_feat([clean])[0])
        assert (rec.get_feat(masked) != library.get_feat(masked)).any()
        small = cv2.resize(masked, (112, 112))
        np.testing.assert_allclose(rec.get_feat(masked), rec.get_feat(small), atol=1e-4)

    @pytest.mark.parametrize("mode", ["observe", "fuse"])
    def test_get_feat_keeps_both(self, fresh: Any, both_bgr: UInt8Array, expected: list[Any], mode: str) -> None:
        library = fresh.models["recognition"]
        rec = maskfix.wrap(library, mode=mode, deoccluder=green_deoccluder())
        crops = [crop_112(both_bgr, face) for face in expected]
        embeddings = rec.get_feat(crops)
        np.testing.assert_array_equal(np.stack([face.original for face in rec.last]), library.get_feat(crops))
        assert (rec.last[1].completed != rec.last[1].original).any()
        assert (embeddings[0] == library.get_feat(crops)[0]).all()
        assert (embeddings[1] == library.get_feat(crops)[1]).all() == (mode == "observe")

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_floats_are_refused(self, rec: Any, dtype: Any) -> None:
        """What deepface hands over: insightface alone would embed a black picture without a word."""
        with pytest.raises(InputError, match=r"takes uint8 BGR from 0 to 255, got float\d\d; .* in \[0, 1\], give"):
            rec.get_feat(np.full((112, 112, 3), 0.5, dtype))

    @pytest.mark.parametrize("crops", [np.zeros((2, 112, 112, 3), np.uint8), np.zeros((112, 112), np.uint8), "x"])
    def test_no_pictures(self, rec: Any, crops: Any) -> None:
        with pytest.raises(InputError, match="imgs: expected"):
            rec.get_feat(crops)

    def test_empty_list(self, rec: Any) -> None:
        with pytest.raises(InputError, match="imgs: the list is empty"):
            rec.get_feat([])

    def test_passes_through(self, rec: Any, fresh: Any) -> None:
        library = fresh.models["recognition"]
        assert rec.taskname == "recognition"
        assert rec.input_size == library.input_size
        assert rec.session is library.session
        assert rec.compute_sim(np.ones(4), np.ones(4)) == pytest.approx(1)
        rec.prepare(-1)
        with pytest.raises(AttributeError, match="no_such_thing"):
            _ = rec.no_such_thing
        rec.input_mean, old = 1.0, library.input_mean
        try:
            assert library.input_mean == 1.0
            assert "input_mean" not in vars(rec)
        finally:
            library.input_mean = old

    def test_wrapped_twice(self, rec: Any) -> None:
        with pytest.raises(InputError, match="CompletedRecogniser is wrapped already; wrap its `inner`"):
            maskfix.wrap(rec)
        assert rec.inner is rec.recogniser

    def test_forward_is_refused(self, rec: Any) -> None:
        """It takes what is normalised already, and nothing would be completed."""
        assert hasattr(rec, "forward")
        with pytest.raises(
            InputError, match=r"forward: nothing is completed before it; call get_feat, or inner\.forward"
        ):
            rec.forward(np.zeros((1, 3, 112, 112), np.float32))

    def test_layout_is_fixed(self, fresh: Any) -> None:
        with pytest.raises(InputError, match="layout, colour: fixed by insightface; leave it out"):
            maskfix.wrap(fresh.models["recognition"], layout="arcface_112", colour="bgr")
