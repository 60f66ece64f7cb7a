"""Ray Data against one process: the same features to the bit, also when an actor dies."""

from __future__ import annotations

import functools
import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from maskfix.base import DependencyError, EmbedderError, InputError, Landmarks
from protocols.ijb import FeatureSettings, IjbSettings, RayWorkers, extract_features, find_units
from protocols.ijb.extract import BlockResult
from protocols.ijb.ray_blocks import _Attempts
from protocols.ijb.transport import pack_job, pack_result, unpack_job, unpack_result
from protocols.ijb.units import make_job
from tests.protocols.ijb.small import load_dying, load_networks, plain_parts, read_small

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: .[ray]")


def test_transport__whole_and_without_pickle(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    five, mask = rng.random((5, 2), np.float32), rng.random((6, 2), np.float32)
    found = {b"a" * 32: Landmarks(five, mask, None, 0.25, ""), b"\0" * 32: Landmarks(None, None, None, 0.0, "no face")}
    result = BlockResult(
        3,
        (rng.random((2, 4, 3), np.float32), rng.random((2, 4, 5), np.float32)),
        (rng.random((2, 4)) > 0.5, rng.random((2, 4)) > 0.5),
        np.array([0, 1, 2, 0], np.uint8),
        {1: "p\0\0", 2: "é"},
        np.full((6, 4), np.nan, np.float32),
        found,
        {"embed": 0.5},
    )
    again = unpack_result(pack_result(result))
    assert (again.number, again.reasons, again.seconds) == (3, result.reasons, result.seconds)
    for ours, theirs in zip((*again.features, *again.valid), (*result.features, *result.valid), strict=True):
        assert np.array_equal(ours, theirs)
    assert list(again.found) == list(found)
    assert np.array_equal(again.found[b"a" * 32].mask, mask)  # type: ignore[arg-type]
    assert again.found[b"\0" * 32] == found[b"\0" * 32]
    data = read_small(tmp_path)
    job = make_job(find_units(data, tmp_path / "cache"), data.pictures, 1, 4)
    back = unpack_job(pack_job(job))
    assert (back.number, back.paths) == (job.number, job.paths)
    for ours, theirs in zip(back[2:], job[2:], strict=True):
        assert np.array_equal(ours, theirs, equal_nan=ours.dtype.kind == "f")


def test_workers__out_of_range_or_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="ray actors"):
        RayWorkers(plain_parts, actors=0)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(DependencyError, match=r"pip install 'ray\[data\]>="):
        RayWorkers(plain_parts)


def test_attempts__four_and_no_more() -> None:
    attempts = _Attempts()
    for _ in range(4):
        attempts.begin(7, "a.jpg")
        attempts.begin(8, "b.jpg")
    with pytest.raises(EmbedderError, match=r"block 7, from a\.jpg on: 4 workers failed at it"):
        attempts.begin(7, "a.jpg")
    attempts.end(8)
    attempts.begin(8, "b.jpg")


@pytest.fixture
def ray_here() -> Iterator[None]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@needs_ray
def test_ray__two_workers_give_what_one_process_gives(tmp_path: Path, ray_here: None) -> None:
    data = read_small(tmp_path / "data")
    settings = IjbSettings(FeatureSettings(batch_size=2, kinds=("N95",)), save_seconds=0)
    load = functools.partial(load_networks, tmp_path)
    single = extract_features(data, load(), folder=tmp_path / "one", cache=tmp_path / "c1", settings=settings)
    workers = RayWorkers(load, actors=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        spread = extract_features(
            data, load(), folder=tmp_path / "two", cache=tmp_path / "c2", settings=settings, workers=workers
        )
    assert [str(one.message) for one in caught if one.category.__name__ == "RayDeprecationWarning"] == []
    assert np.array_equal(single.templates[0].gallery, spread.templates[0].gallery)
    for method, values in single.templates[0].probe.items():
        assert np.array_equal(values, spread.templates[0].probe[method]), method
    assert np.array_equal(single.figures, spread.figures, equal_nan=True)
    assert np.array_equal(single.flags, spread.flags)
    # Landmarks that the actors found are kept by the driver.
    assert [path.name for path in (tmp_path / "c2").glob("landmarks-*")] == [
        path.name for path in (tmp_path / "c1").glob("landmarks-*")
    ]

    # An actor that is killed in the middle of a block: the block is done again.
    plain = IjbSettings(FeatureSettings(batch_size=4), save_seconds=0)
    expected = extract_features(data, plain_parts(), folder=tmp_path / "a", cache=tmp_path / "c3", settings=plain)
    marker = tmp_path / "died"
    made = extract_features(
        data,
        plain_parts(),
        folder=tmp_path / "b",
        cache=tmp_path / "c4",
        settings=plain,
        workers=RayWorkers(functools.partial(load_dying, marker), actors=2),
    )
    assert marker.exists()
    for method, values in expected.templates[0].probe.items():
        assert np.array_equal(values, made.templates[0].probe[method]), method
