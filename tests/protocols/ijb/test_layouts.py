"""Which layout a folder holds, and what is said when it holds none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskfix.base import DatasetError, InputError
from protocols.ijb.layouts import LAYOUTS, find_layout, read_ijb
from tests.protocols.ijb.world import TEMPLATES, write_community, write_flat, write_test1

WRITERS = {"community": write_community, "nist-flat": write_flat, "nist-test1": write_test1}


def test_layouts__one_of_each() -> None:
    assert set(WRITERS) == set(LAYOUTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_read_ijb__finds_the_layout(tmp_path: Path, layout: str) -> None:
    WRITERS[layout](tmp_path)
    assert find_layout(tmp_path) == layout
    found, named = read_ijb(tmp_path), read_ijb(str(tmp_path), layout=layout, cache=tmp_path / "caches")
    assert found.templates.tolist() == named.templates.tolist() == TEMPLATES
    assert np.isnan(found.rows.points).all() == (layout != "community")
    assert list((tmp_path / "caches").iterdir())


def test_read_ijb__several_layouts(tmp_path: Path) -> None:
    for write in WRITERS.values():
        write(tmp_path)
    assert find_layout(tmp_path) == "community"
    assert read_ijb(tmp_path).rows.box is None
    for layout in LAYOUTS[1:]:
        assert read_ijb(tmp_path, layout=layout).rows.box is not None
    with pytest.raises(InputError, match="known: community, nist-flat, nist-test1"):
        read_ijb(tmp_path, layout="nist")


def test_read_ijb__nothing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none: no such folder; give the folder of IJB-B or IJB-C"):
        read_ijb(tmp_path / "none")
    with pytest.raises(
        DatasetError, match=r"looked for meta/ijbc_face.*, protocols/ijbc_1N.*test1/enroll_templates\.csv"
    ):
        read_ijb(tmp_path)
    for layout in LAYOUTS:
        with pytest.raises(DatasetError, match="is neither IJB-B nor IJB-C, looked for"):
            read_ijb(tmp_path, layout=layout)


def test_read_ijb__folder_above(tmp_path: Path) -> None:
    write_community(tmp_path / "IJBC")
    with pytest.raises(DatasetError, match=r"give .*/IJBC$"):
        read_ijb(tmp_path)


def test_read_ijb__without_pictures(tmp_path: Path) -> None:
    write_community(tmp_path, pictures=False)
    with pytest.raises(DatasetError, match=r"loose_crop/1\.jpg: picture named by .* and 23 more"):
        read_ijb(tmp_path)
    assert read_ijb(tmp_path, pictures=False).templates.tolist() == TEMPLATES
