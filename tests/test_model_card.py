from __future__ import annotations

from pathlib import Path

import torch

from maskfix.model_card import model_card, write_cards
from maskfix.weights import WeightsRow, add_to_manifest, save_weights

ROW = WeightsRow(
    name="net.a",
    arch="net",
    file="net.a.safetensors",
    sha256="ab" * 32,
    bytes=9_300_000,
    licence="non-commercial",
    data="UTKFace | all ages",
    commit="abc123",
    training={"stage 2": {"steps": 6000, "lr": 0.0001}},
    scores={"lfw": {"completed": {"auc": 0.9871234567}}},
    notes="Weak on profiles.",
)


class TestModelCard:
    def test_says_what_the_row_says(self) -> None:
        text = model_card(ROW)
        for part in (
            "# net.a", "ab" * 32, "9.3 MB", "non-commercial", "abc123", "| stage 2.steps | 6000 |",
            "| stage 2.lr | 0.0001 |", "| lfw.completed.auc | 0.987123 |", "Weak on profiles.",
        ):  # fmt: skip
            assert part in text
        assert "UTKFace \\| all ages" in text

    def test_empty_row(self) -> None:
        text = model_card(WeightsRow("net.a", "net", "net.a.safetensors", "0" * 64, 1))
        assert "not stated" in text
        assert "## Scores" not in text


class TestWriteCards:
    def test_one_card_each_and_a_list(self, tmp_path: Path) -> None:
        for name in ("net.a", "net.b"):
            row = save_weights(tmp_path / f"{name}.safetensors", {"w": torch.zeros(3)}, "net", {"licence": "CC0"})
            add_to_manifest(row, tmp_path)
        written = [path.name for path in write_cards(tmp_path)]
        assert written == ["net.a.md", "net.b.md", "README.md"]
        readme = (tmp_path / "README.md").read_text()
        assert "[net.a](net.a.md)" in readme
        assert "CC0" in readme

    def test_without_a_manifest(self, tmp_path: Path) -> None:
        assert write_cards(tmp_path) == []
        assert list(tmp_path.iterdir()) == []
