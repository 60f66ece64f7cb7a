"""An attached insightface prepared anew, pickled and used by several threads."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import maskfix
from maskfix.base import UInt8Array
from maskfix.plugin.insightface import CompletedRecogniser
from tests.plugin.worlds import green_deoccluder


class TestElsewhere:
    def test_prepare_after_attach(self, app: Any, both_bgr: UInt8Array) -> None:
        maskfix.attach(app, deoccluder=green_deoccluder())
        settings = {"ctx_id": -1, "det_thresh": app.det_thresh}
        app.prepare(**settings)
        assert len(app.get(both_bgr)) == 2

    def test_pickle(self, app: Any, both_bgr: UInt8Array) -> None:
        maskfix.attach(app, deoccluder=green_deoccluder())
        expected = app.get(both_bgr)
        other = pickle.loads(pickle.dumps(app))  # noqa: S301 - our own bytes
        assert other is not app
        assert isinstance(other.models["recognition"], CompletedRecogniser)
        assert vars(other)["get"].app is other
        for one, two in zip(expected, other.get(both_bgr), strict=True):
            np.testing.assert_allclose(one.embedding, two.embedding, atol=1e-4)
            assert one.completion.used == two.completion.used
        maskfix.detach(other)
        assert "get" not in vars(other)

    def test_what_a_face_carries_can_be_pickled(self, app: Any, both_bgr: UInt8Array) -> None:
        """The face itself cannot, with insightface 2.1 alone no more than here."""
        maskfix.attach(app, deoccluder=green_deoccluder())
        completion = app.get(both_bgr)[0].completion
        other = pickle.loads(pickle.dumps(completion))  # noqa: S301
        np.testing.assert_array_equal(other.occlusion, completion.occlusion)

    def test_threads(self, app: Any, face: UInt8Array, masked: UInt8Array) -> None:
        """Each thread gets the faces of its own photograph."""
        photos = [np.ascontiguousarray(p[..., ::-1]) for p in (face, masked, np.hstack([masked, face]))] * 2
        maskfix.attach(app, deoccluder=green_deoccluder())
        serial = [app.get(photo) for photo in photos]
        with ThreadPoolExecutor(3) as pool:
            for one, other in zip(serial, pool.map(app.get, photos), strict=True):
                assert len(one) == len(other)
                for a, b in zip(one, other, strict=True):
                    np.testing.assert_array_equal(a.embedding, b.embedding)
                    assert a.completion.coverage == b.completion.coverage
