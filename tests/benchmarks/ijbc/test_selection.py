"""What a data set is called: IJB-C only where it is, or where somebody says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.ijbc.selection import NAME_FILE, OFFICIAL, Selection, SetSize, data_set_name
from tests.protocols.ijb.small import write_small

SMALL = SetSize(12, 8, 15)


@pytest.mark.parametrize("name", ["IJB-B", "IJB-C"])
def test_name__by_its_numbers(tmp_path: Path, name: str) -> None:
    assert data_set_name(tmp_path, OFFICIAL[name]) == name
    for place in range(3):
        size = list(OFFICIAL[name])
        size[place] -= 1
        assert data_set_name(tmp_path, SetSize(*size)) == tmp_path.name


def test_name__own_file_first(tmp_path: Path) -> None:
    (tmp_path / NAME_FILE).write_text("drawn templates\nmore\n")
    assert data_set_name(tmp_path, OFFICIAL["IJB-C"]) == "drawn templates"
    for useless in (b"\n", b"\xff\xfe\x00", b"a\x1b[2Jb\n"):
        (tmp_path / NAME_FILE).write_bytes(useless)
        assert data_set_name(tmp_path, SMALL) == tmp_path.name


@pytest.mark.parametrize("folder", ["IJB-C", "ijbc", "IJB_B"])
def test_name__a_folder_is_no_evidence(tmp_path: Path, folder: str) -> None:
    assert data_set_name(tmp_path / folder, SMALL) == f"{folder} (not of its full size)"
    assert data_set_name(tmp_path / folder, OFFICIAL["IJB-C"]) == "IJB-C"


def test_read__name_sample_and_option(tmp_path: Path) -> None:
    write_small(tmp_path / "set")
    chosen = Selection(tmp_path / "set").read(0)
    assert (chosen.name, chosen.official, chosen.layout, chosen.sample) == ("set", False, "community", None)
    declared = Selection(tmp_path / "set", subjects=2, name="IJB-C").read(0)
    assert (declared.name, declared.official) == ("IJB-C", False)
    assert declared.sample == {"subjects": 2, "of_subjects": 3, "of_templates": 8, "seed": 0}


def test_read__official_by_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_small(tmp_path / "set")
    monkeypatch.setitem(OFFICIAL, "IJB-C", SMALL)
    assert Selection(tmp_path / "set").read(0)[3:] == ("IJB-C", True)
    assert Selection(tmp_path / "set", subjects=2).read(0)[3:] == ("IJB-C", False)
    (tmp_path / "set" / NAME_FILE).write_text("LFW templates\n")
    assert Selection(tmp_path / "set").read(0)[3:] == ("LFW templates", False)
