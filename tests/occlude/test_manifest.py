import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskfix.base import DatasetError
from maskfix.occlude import OcclusionRecord, read_manifest, write_manifest

_text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
_number = st.floats(width=32, allow_nan=False, allow_infinity=False)
_points = st.none() | st.lists(_number, min_size=12, max_size=12).map(
    lambda numbers: np.array(numbers, dtype=np.float32).reshape(6, 2)
)
_records = st.builds(
    OcclusionRecord,
    image=_text,
    role=_text,
    kind=_text,
    colour=st.none() | st.just("#dadad9"),
    seed=st.integers(),
    points=_points,
    ok=st.booleans(),
    reason=_text | st.just('no face, "really"\nnone'),
)


def _same(first: OcclusionRecord, second: OcclusionRecord) -> bool:
    if first.points is None or second.points is None:
        return first == second
    exact = second.points.dtype == np.float32 and first.points.tobytes() == second.points.tobytes()
    return exact and first._replace(points=None) == second._replace(points=None)


@given(records=st.lists(_records, max_size=4))
def test_round_trip__exact(tmp_path_factory: pytest.TempPathFactory, records: list[OcclusionRecord]) -> None:
    path = tmp_path_factory.mktemp("manifest") / "deep" / "masks.csv"
    write_manifest(path, records)
    back = read_manifest(path)
    assert len(back) == len(records)
    assert all(_same(first, second) for first, second in zip(records, back, strict=True))


def test_write_manifest__failing_records_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "masks.csv"
    record = OcclusionRecord("a", "probe", "N95", None, 0, None, False, "no face")
    write_manifest(path, [record])
    before = path.read_bytes()

    def broken() -> object:
        yield record
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_manifest(path, broken())  # type: ignore[arg-type]
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["masks.csv"]


def test_read_manifest__errors(tmp_path: Path) -> None:
    path = tmp_path / "masks.csv"
    with pytest.raises(DatasetError, match="no such manifest"):
        read_manifest(path)
    path.write_text("image,kind\na,N95\n")
    with pytest.raises(DatasetError, match="is no manifest"):
        read_manifest(path)
    write_manifest(path, [OcclusionRecord("a", "probe", "N95", None, 0, None, True, "")])
    good = path.read_text()
    for broken in (
        good + "a,b\n",
        good.replace(",yes,", ",maybe,"),
        good.replace(",0,yes", ",zero,yes"),
        good.replace("yes,,,", "yes,,1,"),
    ):
        path.write_text(broken)
        with pytest.raises(DatasetError, match=r"line [23] is broken"):
            read_manifest(path)
    path.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(DatasetError, match="is no manifest"):
        read_manifest(path)


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    record = OcclusionRecord(os.fsdecode(b"caf\xe9"), "probe", "N95", None, 0, None, False, "no face found")
    write_manifest(tmp_path / "m.csv", [record])
    assert read_manifest(tmp_path / "m.csv") == [record]
    assert b"caf\xe9" in (tmp_path / "m.csv").read_bytes()
