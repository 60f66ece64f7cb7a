"""`maskfix weights`: the list, and a card's text."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from maskfix.restore import create_network
from maskfix.weights import add_to_manifest, read_manifest, save_weights
from tests.cli.random_networks import called


def test_weights_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MASKFIX_WEIGHTS", str(tmp_path))
    row = save_weights(
        tmp_path / "cadf_small_128.listed.safetensors",
        create_network("cadf_small_128").state_dict(),
        "cadf_small_128",
        {"licence": "CC0"},
    )
    add_to_manifest(row, tmp_path)
    assert called(monkeypatch, "weights", "list") == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "listed" in line]
    assert line == f"cadf_small_128.listed  {row.bytes / 1e6:.1f} MB  sha256 {row.sha256}  CC0"


def test_weights_record__notes_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes are Markdown of several paragraphs; reports may be left out, and notes that are not given stay."""
    add_to_manifest(save_weights(tmp_path / "net.tag.safetensors", {"w": torch.zeros(3)}, "net", {}), tmp_path)
    notes = tmp_path / "notes.md"
    notes.write_text("**Weak** on profiles.\n\nNot for decisions.\n\n", encoding="utf-8")
    assert called(monkeypatch, "weights", "record", "net.tag", "--notes", notes, "--out", tmp_path) == 0
    assert read_manifest(tmp_path)[0].notes == "**Weak** on profiles.\n\nNot for decisions."
    assert called(monkeypatch, "weights", "record", "net.tag", "--out", tmp_path) == 0
    assert "## What to know\n\n**Weak** on profiles.\n\nNot for decisions.\n" in (tmp_path / "net.tag.md").read_text()


def test_weights_record__no_notes_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    add_to_manifest(save_weights(tmp_path / "net.tag.safetensors", {"w": torch.zeros(3)}, "net", {}), tmp_path)
    assert (
        called(monkeypatch, "weights", "record", "net.tag", "--notes", tmp_path / "absent.md", "--out", tmp_path) == 2
    )
    assert "absent.md" in capsys.readouterr().err
