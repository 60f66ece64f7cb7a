"""Scores of template pairs: against the slow twin and the gather loop, in blocks, in threads; and memory."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from benchmarks.scoring_data import Pairs
from benchmarks.scoring_yardstick import gather_loop, loop_inputs
from maskfix.base import InputError
from maskfix.score import pair_scores, template_pairs
from tests.reference.templates import slow_pair_scores


def unit(rng: np.random.Generator, count: int, size: int = 40) -> np.ndarray:
    vectors = rng.normal(size=(count, size))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def blas_threads() -> int:
    return max(part["num_threads"] for part in threadpool_info() if part["user_api"] == "blas")


@pytest.fixture(params=["onednn", "numpy"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What multiplies: oneDNN, as torch has it here, or NumPy's BLAS, as where torch lacks it."""
    if request.param == "onednn" and not torch.backends.mkldnn.is_available():
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: request.param == "onednn")
    return str(request.param)


class TestPairScores:
    def test_by_hand(self) -> None:
        gallery = np.array([[1, 0], [0, 0]], np.float32)
        probe = np.array([[0, 1], [0.6, 0.8], [-1, 0]], np.float32)
        scores = pair_scores(gallery, probe, np.array([0, 1, 0, 0]), np.array([2, 0, 1, 0]))
        np.testing.assert_array_equal(scores, np.array([-1, -np.inf, 0.6, 0], np.float32))
        assert scores.dtype == np.float32

    @pytest.mark.parametrize("block_rows", [1, 7, 1000])
    @pytest.mark.parametrize("pairs_at_once", [3, 100_000])
    @pytest.mark.parametrize("in_order", [True, False])
    def test_equals_slow_twin(
        self, block_rows: int, pairs_at_once: int, in_order: bool, library: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rng = np.random.default_rng(0)
        gallery, probe = unit(rng, 30), unit(rng, 50)
        gallery[4], probe[9] = 0, 0
        rows = rng.integers(30, size=400).astype(np.int32), rng.integers(50, size=400).astype(np.int16)
        if in_order:
            rows = np.sort(rows[0]), rows[1]
        monkeypatch.setattr(template_pairs, "_BLOCK_BYTES", 4 * 50 * block_rows)
        monkeypatch.setattr(template_pairs, "_PAIRS_AT_ONCE", pairs_at_once)
        out = np.full(400, 7, np.float32)
        assert pair_scores(gallery, probe, *rows, out=out) is out
        np.testing.assert_allclose(out, slow_pair_scores(gallery, probe, *rows), atol=1e-6)

    @pytest.mark.parametrize("in_order", [True, False])
    def test_threads_change_no_bit(self, in_order: bool, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
        rng = np.random.default_rng(3)
        gallery, probe = unit(rng, 300, 512), unit(rng, 400, 512)
        rows = rng.integers(300, size=4000), rng.integers(400, size=4000)
        if in_order:
            rows = np.sort(rows[0]), rows[1]
        monkeypatch.setattr(template_pairs, "_BLOCK_BYTES", 4 * 400 * 32)
        monkeypatch.setattr(template_pairs, "_PAIRS_AT_ONCE", 1000)
        used: set[str] = set()
        cells = template_pairs._cells

        def watched(*arguments: Any) -> Any:
            used.add(threading.current_thread().name)
            assert (blas_threads() if library == "numpy" else torch.get_num_threads()) == 1
            time.sleep(0.001)
            return cells(*arguments)

        monkeypatch.setattr(template_pairs, "_cells", watched)
        found = []
        before = torch.get_num_threads()
        for threads in (1, 2):
            used.clear()
            torch.set_num_threads(threads)
            try:
                with threadpool_limits(threads, "blas"):
                    found.append(pair_scores(gallery, probe, *rows))
                    assert blas_threads() == threads
                assert torch.get_num_threads() == threads
            finally:
                torch.set_num_threads(before)
            assert len(used) == threads
        np.testing.assert_array_equal(*found)
        np.testing.assert_allclose(found[0], (gallery @ probe.T)[rows], atol=1e-6)

    def test_leaves_torch_alone(self) -> None:
        code = (
            "import sys, numpy as np; from maskfix.score import pair_scores; one = np.ones((1, 1), np.float32); "
            "print(pair_scores(one, one, np.zeros(1, int), np.zeros(1, int))[0], 'torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["1.0", "False"]

    @pytest.mark.filterwarnings("error")
    def test_read_only_and_strided_features(self, library: str) -> None:
        rng = np.random.default_rng(4)
        gallery, probe = unit(rng, 30), unit(rng, 50)
        rows = rng.integers(30, size=400), rng.integers(50, size=400)
        wanted = pair_scores(gallery, probe, *rows)
        gallery.setflags(write=False)
        backwards = np.asfortranarray(probe[::-1])[::-1]
        np.testing.assert_allclose(pair_scores(gallery, backwards, *rows), wanted, atol=1e-6)

    def test_coarse_products_elsewhere_leave_scores_exact(self) -> None:
        rng = np.random.default_rng(5)
        gallery, probe = unit(rng, 64, 512), unit(rng, 256, 512)
        rows = np.divmod(np.arange(64 * 256), 256)
        torch.set_float32_matmul_precision("medium")
        try:
            scores = pair_scores(gallery, probe, *rows)
        finally:
            torch.set_float32_matmul_precision("highest")
        wide = gallery.astype(np.float64) @ probe.T.astype(np.float64)
        np.testing.assert_allclose(scores, wide.ravel(), atol=1e-6)

    @pytest.mark.parametrize(
        ("count", "most", "sizes"), [(10, 4, [4, 4, 2]), (3531, 267, [253] * 13 + [242]), (4, 9, [4]), (0, 5, [])]
    )
    def test_blocks_of_one_size(self, count: int, most: int, sizes: list[int]) -> None:
        pieces = template_pairs._cut(count, most)
        assert [piece.stop - piece.start for piece in pieces] == sizes
        assert [place for piece in pieces for place in range(piece.start, piece.stop)] == list(range(count))

    def test_stays_in_range(self) -> None:
        rng = np.random.default_rng(1)
        vectors = unit(rng, 500, 512) * np.float32(1.0005)
        own = np.arange(500)
        assert (pair_scores(vectors, vectors, own, own) == 1).all()
        assert (pair_scores(vectors, -vectors, own, own) == -1).all()

    @pytest.mark.parametrize("kind", [np.int8, np.int16, np.int64, np.uint8])
    def test_rows_of_any_integer_type(self, kind: type) -> None:
        """Of more things than the type can count, each that it can name is there, and none below 0."""
        vectors = np.tile(np.eye(1, 2, dtype=np.float32), (40_000, 1))
        rows = np.array([0, 100, np.iinfo(np.int8).max], kind)
        assert (pair_scores(vectors, vectors, rows, rows) == 1).all()
        if np.iinfo(kind).min < 0:
            for low in (-1, -100, max(np.iinfo(kind).min, -30_000)):
                with pytest.raises(InputError, match=f"probe_rows: {low} at place 2"):
                    pair_scores(vectors, vectors, rows, np.array([0, 1, low], kind))

    def test_nothing_to_do(self) -> None:
        empty = np.zeros(0, np.int64)
        assert pair_scores(np.zeros((0, 4), np.float32), np.zeros((0, 4), np.float32), empty, empty).shape == (0,)
        assert pair_scores(np.zeros((2, 4), np.float32), np.zeros((3, 4), np.float32), empty, empty).shape == (0,)

    def test_memory_and_the_community_loop(self) -> None:
        rng = np.random.default_rng(2)
        gallery, probe = unit(rng, 600, 512), unit(rng, 3000, 512)
        cells = np.sort(rng.choice(600 * 3000, 400_000, replace=False))
        rows = (cells // 3000).astype(np.int32), (cells % 3000).astype(np.int32)
        out = np.empty(len(cells), np.float32)
        tracemalloc.start()
        pair_scores(gallery, probe, *rows, out=out)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 100e6
        inputs = loop_inputs(Pairs(*rows, np.zeros(len(cells), np.bool_)), gallery, probe, slice(0, 8000))
        loop = gather_loop(*inputs)
        np.testing.assert_allclose(out[:8000], loop, atol=1e-6)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"gallery_rows": [0, 2]}, r"gallery_rows: 2 at place 1 is outside \[0, 2\)"),
            ({"probe_rows": [-1, 0]}, r"probe_rows: -1 at place 0"),
            ({"probe_rows": [0]}, "probe_rows: expected shape"),
            ({"probe_rows": [0.0, 1.0]}, "probe_rows: expected integers"),
            ({"gallery_features": np.ones((2, 2), np.float32)}, "gallery_features: template 0 has length 1.414"),
            ({"probe_features": np.full((3, 2), np.nan, np.float32)}, "probe_features: template 0 has length nan"),
            ({"probe_features": np.zeros((3, 2))}, "probe_features: expected dtype float32"),
            ({"probe_features": np.zeros((3, 5), np.float32)}, "probe_features: expected shape"),
            ({"out": np.zeros(3, np.float32)}, "out: expected shape"),
            ({"out": np.zeros(2)}, "out: expected dtype float32"),
        ],
    )
    def test_bad_input(self, change: dict[str, Any], message: str) -> None:
        arguments = {
            "gallery_features": np.eye(2, dtype=np.float32),
            "probe_features": np.eye(3, 2, dtype=np.float32),
            "gallery_rows": [0, 1],
            "probe_rows": [0, 2],
        }
        with pytest.raises(InputError, match=message):
            pair_scores(**(arguments | change))  # type: ignore[arg-type]
