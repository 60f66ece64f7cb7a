"""Subjects from genuine pairs, samples by subject, sides of a list."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from maskfix.base import DatasetError, InputError
from protocols.ijb import templates as module
from protocols.ijb.templates import (
    FaceRows,
    TemplatePairs,
    TemplateSet,
    check_one_to_one,
    find_places,
    number_subjects,
    rebuild_subjects,
    sample_subjects,
    take_templates,
)


def ints(*values: int) -> NDArray[np.int32]:
    return np.array(values, dtype=np.int32)


def union_find(pairs: list[tuple[int, int]], count: int) -> list[int]:
    """Independent twin of `rebuild_subjects`: merge label by label."""
    label = list(range(count))
    for one, other in pairs:
        old, new = label[other], label[one]
        label = [new if value == old else value for value in label]
    known = {place for pair in pairs for place in pair}
    order: dict[int, int] = {}
    return [order.setdefault(label[place], len(order)) if place in known else -1 for place in range(count)]


def make_set(seed: int = 0, subjects: int = 12, strangers: int = 7) -> TemplateSet:
    """A set whose ids tell all: subject s has gallery template 100 s, probes 100 s + 1...; strangers have 5000 + i."""
    rng = np.random.default_rng(seed)
    gallery = [100 * (subject + 1) for subject in range(subjects)]
    probes = [first + 1 + number for first in gallery for number in range(rng.integers(1, 5))]
    probes += [5000 + number for number in range(strangers)]
    ids = np.sort(np.array(gallery + probes, dtype=np.int32))
    template = rng.permutation(np.repeat(ids, 3))
    places = {int(template): place for place, template in enumerate(ids)}
    sides = [(one, other) for one in gallery for other in probes if one // 100 == other // 100 or rng.random() < 0.6]
    sides = [sides[place] for place in rng.permutation(len(sides))]
    pairs = TemplatePairs(
        ints(*(places[one] for one, _ in sides)),
        ints(*(places[other] for _, other in sides)),
        np.array([one // 100 == other // 100 for one, other in sides]),
    )
    count = len(template)
    rows = FaceRows(
        image=np.array([f"{row}.jpg" for row in range(count)], dtype=object),
        template=template,
        media=np.arange(count, dtype=np.int32),
        points=np.arange(count * 10, dtype=np.float32).reshape(-1, 5, 2),
        score=np.arange(count, dtype=np.float32),
        box=None,
    )
    is_probe = ids % 100 != 0
    is_probe[ids >= 5000] = True
    return TemplateSet(rows, ids, rebuild_subjects(pairs, len(ids)), pairs, is_probe, Path("pictures"))


def named_pairs(data: TemplateSet) -> list[tuple[int, int, bool]]:
    columns = data.templates[data.pairs.gallery], data.templates[data.pairs.probe], data.pairs.same
    return list(zip(*(column.tolist() for column in columns), strict=True))


def test_rebuild_subjects__by_hand() -> None:
    pairs = TemplatePairs(ints(4, 4, 0, 2), ints(1, 5, 3, 3), np.array([True, True, True, False]))
    assert rebuild_subjects(pairs, 7).tolist() == [0, 1, -1, 0, 1, 1, -1]


def test_rebuild_subjects__chains_over_both_sides() -> None:
    # 0-3, 1-3 and 1-4 are one person: templates joined through others.
    pairs = TemplatePairs(ints(0, 1, 1, 2), ints(3, 3, 4, 5), np.ones(4, dtype=np.bool_))
    assert rebuild_subjects(pairs, 6).tolist() == [0, 0, 1, 0, 0, 1]


def test_rebuild_subjects__equals_union_find() -> None:
    rng = np.random.default_rng(3)
    for count in (5, 40):
        sides = rng.integers(count, size=(2, count))
        same = rng.random(count) < 0.5
        found = rebuild_subjects(TemplatePairs(*sides.astype(np.int32), same), count)
        genuine = [(int(one), int(other)) for one, other in sides.T[same]]
        assert found.tolist() == union_find(genuine, count)
        assert found.dtype == np.int32


def test_rebuild_subjects__nothing_genuine() -> None:
    assert rebuild_subjects(TemplatePairs(ints(0), ints(1), np.array([False])), 2).tolist() == [-1, -1]


def test_number_subjects__order_of_first_template() -> None:
    assert number_subjects(ints(7, -1, 3, 7, 5), np.array([1, 0, 1, 1, 1], dtype=np.bool_)).tolist() == [0, -1, 1, 0, 2]


@pytest.mark.parametrize("limit", [1 << 24, 1])  # by table, by search
def test_find_places(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(module, "_TABLE_IDS", limit)
    places = find_places(ints(9, 0, 4, 10, 999_999_999, 5), ints(4, 5, 9))
    assert places.tolist() == [2, -1, 0, -1, -1, 1]
    assert places.dtype == np.int32


def test_find_places__large_ids_take_no_large_table() -> None:
    assert find_places(ints(999_999_999, 3, 4), ints(3, 999_999_999)).tolist() == [1, 0, -1]


def test_check_one_to_one() -> None:
    check_one_to_one(ints(1, 2), ints(3, 4), "list")
    with pytest.raises(DatasetError, match=r"^list: template 2 is both .*covariate lists \(test2\) are not 1:1"):
        check_one_to_one(ints(1, 2), ints(2, 3), "list")
    with pytest.raises(DatasetError, match=r"template 1 and 1 more is both"):
        check_one_to_one(ints(1, 2), ints(1, 2, 3), "list")
    with pytest.raises(DatasetError, match=r"columns look swapped: 3 templates in the first \(gallery\), 2 in"):
        check_one_to_one(ints(1, 2, 3), ints(4, 5), "list")


def test_row_template() -> None:
    data = make_set()
    assert np.array_equal(data.templates[data.row_template], data.rows.template)


def test_take_templates__equals_filtering_by_name() -> None:
    data = make_set(1)
    keep = np.random.default_rng(0).random(len(data.templates)) < 0.5
    kept = set(data.templates[keep].tolist())
    part = take_templates(data, keep)
    assert part.templates.tolist() == sorted(kept)
    assert named_pairs(part) == [pair for pair in named_pairs(data) if {pair[0], pair[1]} <= kept]
    rows = [row for row, template in enumerate(data.rows.template) if template in kept]
    assert part.rows.image.tolist() == [f"{row}.jpg" for row in rows]
    assert part.rows.media.tolist() == rows
    assert part.rows.score.tolist() == rows
    assert np.array_equal(part.rows.points, data.rows.points[rows])
    assert part.is_probe.tolist() == data.is_probe[keep].tolist()
    for column in (part.templates, part.subject, part.pairs.gallery, part.pairs.probe, part.rows.template):
        assert column.dtype == np.int32


def test_take_templates__boxes() -> None:
    data = make_set(2)
    box = np.arange(4 * len(data.rows.score), dtype=np.float32).reshape(-1, 4)
    data = data._replace(rows=data.rows._replace(box=box))
    keep = data.is_probe
    part = take_templates(data, keep)
    assert part.rows.box is not None
    assert np.array_equal(part.rows.box, box[keep[data.row_template]])


def test_sample_subjects__whole_subjects_and_their_share_of_strangers() -> None:
    data = make_set()
    for subjects in (4, 6, 11):
        sample = sample_subjects(data, subjects, seed=5)
        owners = {template // 100 for template in sample.templates.tolist() if template < 5000}
        assert len(owners) == subjects
        everything = [template for template in data.templates.tolist() if template // 100 in owners]
        assert [template for template in sample.templates.tolist() if template < 5000] == everything
        assert (sample.templates >= 5000).sum() == 7 * subjects // 12
        # Numbered anew, without gaps; strangers stay unknown.
        assert sorted(set(sample.subject.tolist())) == list(
            range(-1 if (sample.templates >= 5000).any() else 0, subjects)
        )
        assert ((sample.subject == -1) == (sample.templates >= 5000)).all()
        kept = set(sample.templates.tolist())
        assert named_pairs(sample) == [pair for pair in named_pairs(data) if {pair[0], pair[1]} <= kept]
        assert (sample.subject[sample.pairs.gallery] == sample.subject[sample.pairs.probe])[sample.pairs.same].all()


def test_sample_subjects__seed_decides_and_smaller_is_part_of_larger() -> None:
    data = make_set()
    small, large, again, other = (
        set(sample_subjects(data, count, seed=seed).templates.tolist())
        for count, seed in [(3, 1), (8, 1), (3, 1), (3, 2)]
    )
    assert small == again
    assert small < large
    assert small != other


def test_sample_subjects__all() -> None:
    data = make_set()
    assert sample_subjects(data) is data
    assert sample_subjects(data, 12) is data
    assert sample_subjects(data, 12, len(data.templates)) is data


def test_sample_subjects__max_templates() -> None:
    data = make_set()
    for most in range(12, len(data.templates) + 1):
        sample = sample_subjects(data, None, most, seed=3)
        count = int(sample.subject.max()) + 1
        assert len(sample.templates) <= most
        if count < 12:  # one subject more would not fit
            assert len(sample_subjects(data, count + 1, seed=3).templates) > most
    assert int(sample_subjects(data, 3, len(data.templates)).subject.max()) == 2  # both bounds hold
    assert int(sample_subjects(data, 11, 20).subject.max()) < 10


def test_sample_subjects__refused() -> None:
    data = make_set()
    for subjects in (0, 13):
        with pytest.raises(InputError, match=rf"subjects: expected a number from 1 to 12, got {subjects}"):
            sample_subjects(data, subjects)
    with pytest.raises(InputError, match=r"seed: expected a number in .*, got -1"):
        sample_subjects(data, 3, seed=-1)
    with pytest.raises(InputError, match="max templates: 1 is too few, the first subject drawn has"):
        sample_subjects(data, None, 1)
    bare = data._replace(pairs=TemplatePairs(*(column[data.pairs.same] for column in data.pairs)))
    with pytest.raises(InputError, match="no impostor pair is left among 2 of 12 subjects"):
        sample_subjects(bare, 2)
    unknown = data._replace(subject=np.full_like(data.subject, -1))
    with pytest.raises(InputError, match="from 1 to 0"):
        sample_subjects(unknown)
