"""Pooling by hand, against the slow twin, in any chunks, killed and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskfix.base import InputError, replacing
from maskfix.score import TemplatePooling, pair_scores, row_weights, templates
from tests.reference.templates import slow_templates

T, D = 12, 40


def face_list(seed: int, rows: int = 150) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Template, media and score of each row in mixed order, template 3 without a row; and features of all lengths."""
    rng = np.random.default_rng(seed)
    template = rng.choice(np.delete(np.arange(T), 3), size=rows)
    media = rng.integers(4, size=rows) * 1000
    features = rng.normal(size=(rows, D)) * rng.uniform(1, 30, size=(rows, 1))
    return template, media, rng.uniform(0.1, 1, rows).astype(np.float32), features.astype(np.float32)


def pool(
    rows: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], step: int, valid: Any = None, **options: Any
) -> templates.Templates:
    *columns, features = rows
    pooling = TemplatePooling(*columns, templates=T, dimensions=D, **options)
    for start in range(0, len(features), step):
        piece = slice(start, start + step)
        pooling.add(features[piece], None if valid is None else valid[piece])
    assert pooling.rows_done == pooling.rows == len(features)
    return pooling.templates()


class TestPooling:
    def test_by_hand(self) -> None:
        # Template 0: medium 7 has two rows, medium 8 one. Template 1 shares medium 7, but its row counts whole.
        pooling = TemplatePooling([0, 1, 0, 0], [7, 7, 8, 7], [0.5, 1.0, 1.0, 0.25], templates=3, dimensions=2)
        pooling.add(np.array([[8, 0], [0, 2], [0, 4], [8, 0]], np.float32))
        features, filled = pooling.templates()
        # ([4, 0] + [2, 0]) / 2 + [0, 4] = [3, 4]
        np.testing.assert_allclose(features, [[0.6, 0.8], [0, 1], [0, 0]], atol=1e-7)
        assert filled.tolist() == [True, True, False]

    def test_options_by_hand(self) -> None:
        rows = np.array([[8, 0], [0, 2]], np.float32)

        def direction(**options: bool) -> list[float]:
            pooling = TemplatePooling([0, 0], [1, 2], [0.5, 1.0], templates=1, dimensions=2, **options)
            pooling.add(rows)
            return (pooling.templates().features[0] / pooling.templates().features[0, 1]).tolist()

        assert direction() == pytest.approx([2, 1])
        assert direction(detector_score=False) == pytest.approx([4, 1])
        assert direction(keep_norm=False) == pytest.approx([0.5, 1])
        assert direction(keep_norm=False, detector_score=False) == pytest.approx([1, 1])

    @pytest.mark.parametrize("detector_score", [True, False])
    @pytest.mark.parametrize("keep_norm", [True, False])
    def test_equals_slow_twin(self, detector_score: bool, keep_norm: bool) -> None:
        rows = face_list(0)
        options = {"detector_score": detector_score, "keep_norm": keep_norm}
        features, filled = pool(rows, 17, **options)
        template, media, score, raw = rows
        np.testing.assert_allclose(features, slow_templates(raw, template, media, score, T, **options), atol=2e-6)
        assert filled.tolist() == [number != 3 for number in range(T)]
        assert features.dtype == np.float32

    @pytest.mark.parametrize("keep_norm", [True, False])
    @pytest.mark.parametrize("failures", [True, False])
    def test_chunks_change_no_bit(self, keep_norm: bool, failures: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = face_list(1)
        valid = np.arange(150) % 9 != 0 if failures else None
        whole = pool(rows, 150, valid, keep_norm=keep_norm).features
        for step in (1, 7, 64):
            assert pool(rows, step, valid, keep_norm=keep_norm).features.tobytes() == whole.tobytes()
        monkeypatch.setattr(templates, "_ROWS_AT_ONCE", 5)
        assert pool(rows, 64, valid, keep_norm=keep_norm).features.tobytes() == whole.tobytes()

    def test_killed_after_any_block(self, tmp_path: Path) -> None:
        *columns, features = rows = face_list(2)
        whole = pool(rows, 10).features

        def fresh() -> TemplatePooling:
            return TemplatePooling(*columns, templates=T, dimensions=D)

        for last in (0, 1, 7, 15):
            first = fresh()
            for block in range(last):
                first.add(features[10 * block : 10 * block + 10])
                with replacing(tmp_path / "state.npz") as temporary:
                    np.savez(temporary, **first.state_dict())
            # What came after the last save is lost with the process; another chunking goes on from there.
            if last < 15:
                first.add(features[10 * last : 10 * last + 3])
            second = fresh()
            if last:
                with np.load(tmp_path / "state.npz", allow_pickle=False) as state:
                    second.load_state_dict(state)
            assert second.rows_done == 10 * last
            while second.rows_done < second.rows:
                second.add(features[second.rows_done : second.rows_done + 4])
            assert second.templates().features.tobytes() == whole.tobytes()

    def test_state_is_a_copy_of_one_array(self) -> None:
        *columns, features = face_list(3)
        pooling = TemplatePooling(*columns, templates=T, dimensions=D)
        state = pooling.state_dict()
        pooling.add(features)
        assert not state["sums"].any()
        assert (state["sums"].shape, state["sums"].dtype) == ((T, D), np.float32)
        assert sum(value.nbytes for value in state.values()) < state["sums"].nbytes + 1000

    def test_state_of_another_run(self) -> None:
        template, media, score, _ = face_list(3)
        state = TemplatePooling(template, media, score, templates=T, dimensions=D).state_dict()
        others = [
            TemplatePooling(template, media, score, templates=T, dimensions=D, keep_norm=False),
            TemplatePooling(template, media, score, templates=T, dimensions=D, detector_score=False),
            TemplatePooling(template, media + np.arange(150), score, templates=T, dimensions=D),
            TemplatePooling(template[::-1], media, score, templates=T, dimensions=D),
            TemplatePooling(template, media, score, templates=T + 1, dimensions=D),
        ]
        for other in others:
            with pytest.raises(InputError, match="another list of faces"):
                other.load_state_dict(state)
        same = TemplatePooling(template, media, score, templates=T, dimensions=D)
        with pytest.raises(InputError, match="rows_done is missing"):
            same.load_state_dict({name: state[name] for name in ("sums", "list")})
        with pytest.raises(InputError, match="151 rows done of 150"):
            same.load_state_dict(state | {"rows_done": np.array(151)})

    def test_failed_rows(self) -> None:
        pooling = TemplatePooling([0, 0, 1], [1, 1, 1], np.ones(3), templates=2, dimensions=2)
        rows = np.array([[np.nan, 0], [3, 4], [np.inf, 0]], np.float32)
        pooling.add(rows, np.array([False, True, False]))
        features, filled = pooling.templates()
        np.testing.assert_allclose(features, [[0.6, 0.8], [0, 0]], rtol=1e-6)
        assert filled.tolist() == [True, False]
        scores = pair_scores(features[:1], features, np.array([0, 0]), np.array([0, 1]))
        assert scores.tolist() == [pytest.approx(1), -np.inf]

    @pytest.mark.parametrize(
        ("rows", "valid", "options", "message"),
        [
            (np.zeros((2, 2)), None, {}, "expected dtype float32"),
            (np.zeros((2, 3), np.float32), None, {}, r"expected shape \(\*, 2\)"),
            (np.ones((4, 2), np.float32), None, {}, "4 rows, but of 3 only 3 are left"),
            (np.array([[1, 1], [np.nan, 1]], np.float32), None, {}, "row 1 has length nan"),
            (np.array([[1, 1], [0, 0]], np.float32), None, {"keep_norm": False}, "row 1 has length 0"),
            (np.ones((2, 2), np.float32), np.ones(3, bool), {}, "valid"),
            (np.ones((2, 2), np.float32), np.ones(2), {}, "valid"),
        ],
    )
    def test_bad_rows_add_nothing(self, rows: Any, valid: Any, options: dict[str, bool], message: str) -> None:
        pooling = TemplatePooling([0, 0, 1], [1, 2, 3], [1, 1, 1], templates=2, dimensions=2, **options)
        with pytest.raises(InputError, match=message):
            pooling.add(rows, valid)
        assert pooling.rows_done == 0
        assert not pooling.state_dict()["sums"].any()

    @pytest.mark.parametrize(
        ("template", "media", "score", "message"),
        [
            ([0, 2], [0, 0], [1, 1], r"template: 2 at place 1 is outside \[0, 2\)"),
            ([0, -1], [0, 0], [1, 1], r"template: -1 at place 1"),
            ([0.0, 1.0], [0, 0], [1, 1], "template: expected integers"),
            ([0, 1], [0.0, 0], [1, 1], "media: expected integers"),
            ([0, 1], [0], [1, 1], "media: expected shape"),
            ([0, 1], [0, 0], [1], "score: expected shape"),
            ([0, 1], [0, 0], [1, np.nan], "score: row 1 has nan"),
            ([0, 1], [0, 0], [1, -0.5], "score: row 1 has -0.5"),
        ],
    )
    def test_bad_list(self, template: Any, media: Any, score: Any, message: str) -> None:
        with pytest.raises(InputError, match=message):
            TemplatePooling(template, media, score, templates=2, dimensions=2)

    def test_weights(self) -> None:
        weights = row_weights([1, 0, 1, 1, 0], [-5, 9, -5, 9, 9])
        assert weights.tolist() == [0.5, 0.5, 0.5, 1, 0.5]
        assert row_weights(np.zeros(0, int), np.zeros(0, int)).shape == (0,)
