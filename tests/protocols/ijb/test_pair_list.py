"""The pair list: values, every kind of damage with its line, and the cache."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from maskfix.base import DatasetError
from protocols.ijb import pair_list, tables
from protocols.ijb.pair_list import cache_path, read_matches, read_pair_list


@pytest.fixture(autouse=True, params=[None, 1, 3], ids=["whole", "spans", "few spans"])
def spans(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read files as they come, or in as many spans as there are processors, whatever their size."""
    if request.param:
        monkeypatch.setattr("protocols.ijb.tables._SPAN_BYTES", 1)
        monkeypatch.setattr("os.cpu_count", lambda: 2 * request.param)


FIELDS = (tables.Field("gallery", "id"), tables.Field("probe", "id"), tables.Field("label", "flag"))
GOOD = ["10 41 1", "10 42 0", "999999999 0 1", "20 41 0"]


def write(tmp_path: Path, text: str, name: str = "ijbc_template_pair_label.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def good(tmp_path: Path) -> Path:
    return write(tmp_path, "\n".join(GOOD) + "\n")


def test_read_pair_list__values_and_types(tmp_path: Path) -> None:
    pairs = read_pair_list(good(tmp_path))
    assert pairs.gallery.tolist() == [10, 10, 999999999, 20]
    assert pairs.probe.tolist() == [41, 42, 0, 41]
    assert pairs.same is not None
    assert pairs.same.tolist() == [True, False, True, False]
    assert [column.dtype for column in pairs if column is not None] == [np.int32, np.int32, np.bool_]


@pytest.mark.parametrize(
    "text",
    [
        "10 41 1\n20 41 0",  # no end of the last line
        "10 41 1\r\n20 41 0\r\n",
        "10\t41\t1\n20\t41\t0\n",
        "10  41 1 \n20 41 0\n",
        "\n10 41 1\n\n20 41 0\n\n\n",
    ],
)
def test_read_pair_list__harmless_variants(tmp_path: Path, text: str) -> None:
    pairs = read_pair_list(write(tmp_path, text))
    assert [None if column is None else column.tolist() for column in pairs] == [[10, 20], [41, 41], [True, False]]


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (1, "10 41", r"\.txt:1: expected 'gallery_template probe_template label \(0 or 1\)', got '10 41'; fetch"),
        (1, "10 41 1 0", r"\.txt:1: expected .*, got '10 41 1 0'"),
        (1, "t1 t2 label", r"\.txt:1: expected .*, got 't1 t2 label'"),
        (1, "10,41,1", r"\.txt:1: expected .*, got '10,41,1'"),
        (3, "10 41", r"\.txt:3: expected .*, got '10 41'"),
        (3, "10 41 1 0", r"\.txt:3: expected .*, got '10 41 1 0'"),
        (3, "10 41 2", r"\.txt:3: expected .*label \(0 or 1\)', got '10 41 2'"),
        (3, "10 41 -1", r"\.txt:3: .*got '10 41 -1'"),
        # 257 and 2**32 + 10 would wrap round to 1 and 10 in eight and 32 bits.
        (3, "10 41 257", r"\.txt:3: .*got '10 41 257'"),
        (3, "4294967306 41 1", r"\.txt:3: .*got '4294967306 41 1'"),
        (3, "99999999999999999999 41 1", r"\.txt:3: .*got '99999999999999999999 41 1'"),
        (3, "-10 41 1", r"\.txt:3: .*got '-10 41 1'"),
        (3, "10 nan 1", r"\.txt:3: .*got '10 nan 1'"),
        (3, '10 "41 1', r'\.txt:3: .*got \'10 "41 1\''),
        (3, "10  41 1", r"\.txt:3: .*got '10  41 1'"),
    ],
)
def test_read_pair_list__malformed(tmp_path: Path, line: int, text: str, message: str) -> None:
    lines = GOOD.copy()
    lines[line - 1] = text
    path = write(tmp_path, "\n".join(lines) + "\n")
    with pytest.raises(DatasetError, match=message) as caught:
        read_pair_list(path)
    assert "\n" not in str(caught.value)
    assert not cache_path(path).exists()


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_spans__cover_the_file_between_lines(tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.ijb.tables._SPAN_BYTES", 1)
    monkeypatch.setattr("os.cpu_count", lambda: count)
    text = "\n\n".join(f"{row} {row**3} 1" for row in range(40)) + "\n\n\n"
    path = write(tmp_path, text)
    parts = [text[start:stop] for start, stop in tables._spans(path, tables._without_header("0 0 1", FIELDS, " "))]
    assert "".join(parts) == text
    assert len(parts) == count
    assert all(part.startswith(tuple("123456789")) and part.endswith("\n") for part in parts[1:])


def test_read_pair_list__cut_off(tmp_path: Path) -> None:
    whole = "\n".join(GOOD) + "\n"
    for kept in (len(whole) - 2, len(whole) - 3, len(whole) - 5, len(whole) - 7):
        with pytest.raises(DatasetError, match=r"\.txt:4: the file is cut off, expected .*; fetch the list again"):
            read_pair_list(write(tmp_path, whole[:kept]))


def test_read_pair_list__damage_far_down_and_binary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.ijb.tables._BLOCK", 7)
    lines = [f"{row} {row + 100} {row % 2}" for row in range(50)]
    whole = read_pair_list(write(tmp_path, "\n".join(lines)))
    assert whole.probe.tolist() == [row + 100 for row in range(50)]
    lines[37] = "1 2 3"
    with pytest.raises(DatasetError, match=r"\.txt:38: expected .*, got '1 2 3'"):
        read_pair_list(write(tmp_path, "\n".join(lines)))
    path = tmp_path / "binary.txt"
    path.write_bytes(b"10 41 1\n" + bytes(range(256)))
    with pytest.raises(DatasetError, match=r"binary\.txt:2: "):
        read_pair_list(path)


def test_read_pair_list__missing_and_empty(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none\.txt: no such file; fetch the list again"):
        read_pair_list(tmp_path / "none.txt")
    for text in ("", "\n\n"):
        with pytest.raises(DatasetError, match=r"\.txt: is empty; fetch"):
            read_pair_list(write(tmp_path, text))


def test_read_matches__values_and_damage(tmp_path: Path) -> None:
    pairs = read_matches(write(tmp_path, "10,41\n20,42\n", "match.csv"))
    assert (pairs.gallery.tolist(), pairs.probe.tolist(), pairs.same) == ([10, 20], [41, 42], None)
    again = read_matches(tmp_path / "match.csv")
    assert (again.gallery.tolist(), again.probe.tolist(), again.same) == ([10, 20], [41, 42], None)
    for text, message in {
        "ENROLL_TEMPLATE_ID,VERIF_TEMPLATE_ID\n10,41\n": r"match\.csv:1: expected 'gallery_template,probe_template'",
        "10,41\n20,42,1\n": r"match\.csv:2: expected .*, got '20,42,1'",
        "10,41\n20,\n": r"match\.csv:2: expected .*, got '20,'",
    }.items():
        with pytest.raises(DatasetError, match=message):
            read_matches(write(tmp_path, text, "match.csv"))


@pytest.mark.parametrize("folder", [None, "cache/below"])
def test_cache__second_start_reads_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str | None) -> None:
    cache = None if folder is None else tmp_path / folder
    path = good(tmp_path)
    first = read_pair_list(path, cache)
    assert cache_path(path, cache).is_file()
    monkeypatch.setattr(pair_list, "read_table", lambda *_, **__: pytest.fail("the text was read again"))
    second = read_pair_list(path, cache)
    for one, other in zip(first, second, strict=True):
        assert one is not None
        assert other is not None
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)
        assert not one.flags.writeable
        assert not other.flags.writeable
        base = other
        while isinstance(base.base, np.ndarray):
            base = base.base
        assert isinstance(base, np.memmap)  # mapped, not read


def test_cache__hangs_on_size_time_head_and_tail(tmp_path: Path) -> None:
    path = good(tmp_path)
    read_pair_list(path)
    status = path.stat()

    def rewrite(lines: list[str], nanoseconds: int) -> list[int]:
        path.write_text("\n".join(lines) + "\n")
        os.utime(path, ns=(nanoseconds, nanoseconds))
        return read_pair_list(path).gallery.tolist()

    # Same size and time, other bytes.
    assert rewrite(["30 41 1", *GOOD[1:]], status.st_mtime_ns) == [30, 10, 999999999, 20]
    # Same bytes, other time: read again.
    before = cache_path(path).stat().st_ino
    assert rewrite(["30 41 1", *GOOD[1:]], status.st_mtime_ns + 10**9) == [30, 10, 999999999, 20]
    assert cache_path(path).stat().st_ino != before
    # Other size.
    assert rewrite(GOOD[:2], status.st_mtime_ns + 10**9) == [10, 10]
    # Two lists of one name in one folder of caches do not meet.
    (tmp_path / "b").mkdir()
    other = write(tmp_path / "b", "7 8 1\n")
    assert cache_path(path, tmp_path / "caches") != cache_path(other, tmp_path / "caches")


def test_cache__middle_of_a_large_file_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_list, "_ENDS", 8)
    path = write(tmp_path, "10 41 1\n20 42 0\n30 43 0\n")
    read_pair_list(path)
    path.write_text("10 41 1\n21 42 0\n30 43 0\n")
    os.utime(path, ns=(1, 1))
    assert read_pair_list(path).gallery.tolist() == [10, 21, 30]


@pytest.mark.parametrize("damage", ["empty", "short", "header", "text", "archive", "object"])
def test_cache__damaged_counts_as_none(tmp_path: Path, damage: str) -> None:
    path = good(tmp_path)
    wanted = read_pair_list(path).gallery.tolist()
    place = cache_path(path)
    data = place.read_bytes()
    if damage == "archive":
        with place.open("wb") as stream:
            np.savez(stream, a=np.zeros(3))
    elif damage == "object":
        np.save(place, np.zeros(32, dtype=np.int64))
    else:
        place.write_bytes({"empty": b"", "short": data[:-1], "header": data[:20], "text": b"x" * 300}[damage])
    assert read_pair_list(path).gallery.tolist() == wanted
    assert place.read_bytes() == data


def test_cache__other_columns_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path, "10,41\n20,42\n", "match.csv")
    read_matches(path)
    with pytest.raises(DatasetError, match=r"match\.csv:1"):
        read_pair_list(path)


def test_cache__where_nobody_may_write(tmp_path: Path) -> None:
    path = good(tmp_path)
    (tmp_path / "file").write_text("")
    assert read_pair_list(path, tmp_path / "file" / "below").probe.tolist() == [41, 42, 0, 41]
    assert [item.name for item in tmp_path.iterdir() if item.name.startswith(".")] == []


def test_cache__nine_bytes_a_pair(tmp_path: Path) -> None:
    path = good(tmp_path)
    read_pair_list(path)
    assert cache_path(path).stat().st_size == 128 + 32 + 9 * len(GOOD)
