"""Training batches: a function of (seed, step); rows are those of the whole batch whoever makes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from maskfix.base import InputError
from maskfix.data import FaceStore
from maskfix.train.batches import Batch, BatchDataset, as_pictures, batches
from maskfix.train.config import ViewConfig
from maskfix.train.views import OccludedViews
from tests.train.stores import smooth_pictures
from tests.train.view_batches import Recorder, dataset


def same(first: Batch, second: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class TestBatchDataset:
    def test_batch__function_of_seed_and_step(self, faces: FaceStore) -> None:
        data = dataset(faces)
        third, fourth = data[3], data[4]
        fresh = dataset(faces)
        assert same(fresh[4], fourth)
        assert same(fresh[3], third)
        assert not same(third, fourth)
        assert not same(dataset(faces, seed=1)[3], third)

    def test_batch__a_face_looks_different_each_time(self, faces: FaceStore) -> None:
        data = BatchDataset(dataset(faces).views, np.array([4]), 1, 0)
        first, second = data[0], data[1]
        assert isinstance(first, Batch)
        assert isinstance(second, Batch)
        assert not torch.equal(first.clean, second.clean)

    def test_batch__types(self, faces: FaceStore) -> None:
        batch = dataset(faces)[0]
        assert isinstance(batch, Batch)
        assert [tuple(x.shape) for x in batch[:4]] == [(3, 64, 64, 3), (3, 64, 64, 3), (3, 64, 64), (3, 64, 64, 2)]
        assert {x.dtype for x in batch[:4]} == {torch.uint8}
        assert batch.face.tolist() == dataset(faces).indices(0).tolist()

    def test_workers__same_batches(self, faces: FaceStore) -> None:
        data = dataset(faces, clean=0.0)
        ahead, plain = list(batches(data, 2, 5, workers=1)), list(batches(data, 2, 5, workers=0))
        assert len(ahead) == len(plain) == 3
        for step, (first, second) in enumerate(zip(ahead, plain, strict=True), 2):
            assert same(first, data[step])
            assert same(second, data[step])

    def test_batches__nothing_left_to_do(self, faces: FaceStore) -> None:
        assert list(batches(dataset(faces), 5, 5, workers=0)) == []

    @pytest.mark.parametrize(("device", "pinned"), [(None, False), ("cpu", False), ("cuda", True)])
    def test_batches__for_a_gpu_in_memory_that_it_reads_itself(
        self, faces: FaceStore, monkeypatch: pytest.MonkeyPatch, device: str | None, pinned: bool
    ) -> None:
        asked: list[dict[str, Any]] = []
        loader = torch.utils.data.DataLoader

        def noting(*given: Any, **named: Any) -> Any:
            asked.append(named)
            return loader(*given, **(named | {"pin_memory": False}))

        monkeypatch.setattr("maskfix.train.batches.DataLoader", noting)
        batches(dataset(faces), 0, 1, workers=0, device=None if device is None else torch.device(device))
        assert [one["pin_memory"] for one in asked] == [pinned]

    @pytest.mark.parametrize("size", [1, 3, 5, 24])
    def test_epoch__every_face_once(self, faces: FaceStore, size: int) -> None:
        data = dataset(faces, size=size)
        drawn = np.concatenate([data.indices(step) for step in range(-(-48 // size))])[:48]
        first, second = drawn[:24], drawn[24:]
        assert sorted(first) == sorted(second) == list(range(24))
        assert list(first) != list(second)

    def test_epoch__only_the_given_faces(self, faces: FaceStore) -> None:
        data = BatchDataset(dataset(faces).views, np.array([3, 7, 11]), 2, 0)
        assert sorted(np.concatenate([data.indices(step) for step in range(3)])) == [3, 3, 7, 7, 11, 11]

    def test_epoch__faces_in_proportion(self, faces: FaceStore) -> None:
        """Shares of 4, 1.6 and 0.4 of six places: 4, then 1 or 2, then 1 or none, as often as is due."""
        data = BatchDataset(dataset(faces).views, np.arange(6), 6, 0, often=np.array([10, 4, 1, 0, 0, 0.0]))
        counts = np.array([np.bincount(data.indices(epoch), minlength=6) for epoch in range(300)])
        assert set(counts[:, 0]) == {4}
        assert set(counts[:, 1]) == {1, 2}
        assert set(counts[:, 2]) == {0, 1}
        assert not counts[:, 3:].any()
        np.testing.assert_allclose(counts.mean(axis=0), [4, 1.6, 0.4, 0, 0, 0], atol=0.1)
        assert len({tuple(data.indices(epoch)) for epoch in range(10)}) > 5

    def test_epoch__equal_factors_change_nothing(self, faces: FaceStore) -> None:
        plain = dataset(faces, size=7)
        alike = BatchDataset(plain.views, plain.faces, 7, 0, often=np.full(24, 0.3))
        assert [list(alike.indices(step)) for step in range(9)] == [list(plain.indices(step)) for step in range(9)]

    def test_pairs__the_same_pictures_with_other_masks(self, faces: FaceStore) -> None:
        first, second = dataset(faces, pairs=True, clean=0.0)[1]
        assert not torch.equal(first.alpha, second.alpha)
        # What neither mask covers is the same to the bit: moved, mirrored, relit and coarsened alike.
        bare = ((first.alpha == 0) & (second.alpha == 0))[..., None]
        assert torch.equal(first.occluded * bare, second.occluded * bare)
        assert bare.float().mean() > 0.3

    def test_pairs__apart(self, faces: FaceStore) -> None:
        alike, apart = (
            BatchDataset(dataset(faces).views, np.arange(24), 3, 0, pairs=True, apart=apart)[1]
            for apart in (False, True)
        )
        assert isinstance(alike, tuple)
        assert isinstance(apart, tuple)
        assert same(alike[0], apart[0])
        assert not torch.equal(apart[0].clean, apart[1].clean)

    def test_pairs__start_as_the_batch_does(self, faces: FaceStore) -> None:
        """The first view is the batch that is made without pairs: faces, draws and masks."""
        single, pair = dataset(faces)[2], dataset(faces, pairs=True)[2]
        assert isinstance(single, Batch)
        assert isinstance(pair, tuple)
        assert same(pair[0], single)


def test_as_pictures__range_and_layout() -> None:
    images = torch.from_numpy(smooth_pictures(2, 64))
    images[0, 1, 2] = torch.tensor([0, 51, 255], dtype=torch.uint8)
    pictures = as_pictures(images, torch.device("cpu"))
    assert pictures.shape == (2, 3, 64, 64)
    torch.testing.assert_close(pictures[0, :, 1, 2], torch.tensor([0.0, 0.2, 1.0]))


@pytest.mark.parametrize("workers", [0, 1])
def test_batches__what_goes_wrong_is_told_as_it_is(faces: FaceStore, workers: int) -> None:
    """No worker's traceback in front of it."""
    views = OccludedViews(faces, ViewConfig(kinds=("N95",), clean=0.0, random_cloth=0.0), [Lacking()])  # type: ignore[list-item]
    found = batches(BatchDataset(views, np.arange(len(faces)), 2, 0), 0, 3, workers=workers)
    with pytest.raises(InputError) as told:
        next(found)
    assert str(told.value) == "mask kind: there is none"


def test_batches__fewer_workers_than_none(faces: FaceStore) -> None:
    with pytest.raises(InputError, match="workers"):
        batches(dataset(faces), 0, 1, workers=-1)


class Lacking:
    """An occluder without templates."""

    def occlude(self, *_: object) -> None:
        raise InputError("mask kind: there is none")


class TestRows:
    @pytest.mark.parametrize("rows", [slice(0, 2), slice(2, 4), slice(5, 6), slice(0, 6)])
    def test_rows__are_those_of_the_whole_batch(self, faces: FaceStore, rows: slice) -> None:
        whole = dataset(faces, size=6, clean=0.4, random_cloth=0.4)
        part = BatchDataset(whole.views, whole.faces, 6, 0, rows=rows)
        for step in range(4):
            expected = whole[step]
            assert isinstance(expected, Batch)
            assert same(part[step], Batch(*(x[rows] for x in expected)))  # type: ignore[arg-type]

    def test_rows__of_pairs(self, faces: FaceStore) -> None:
        whole = dataset(faces, size=4, pairs=True)
        part = BatchDataset(whole.views, whole.faces, 4, 0, pairs=True, rows=slice(2, 4))
        for expected, found in zip(whole[1], part[1], strict=True):
            assert same(found, Batch(*(x[2:] for x in expected)))

    def test_rows__no_picture_is_made_for_others(self, faces: FaceStore) -> None:
        views = OccludedViews(faces, ViewConfig(clean=0), [recorder := Recorder()])  # type: ignore[list-item]
        _ = BatchDataset(views, np.arange(len(faces)), 6, 0, rows=slice(4, 6))[0]
        assert len(recorder.kinds) == 2
