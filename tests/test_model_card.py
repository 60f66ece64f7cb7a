from __future__ import annotations

from pathlib import Path

import pytest
import torch

from maskfix.model_card import model_card, write_cards
from maskfix.weights import WeightsRow, add_to_manifest, checkout_folder, read_manifest, save_weights

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
    scores={
        "LFW, dlib": {
            "clean": {"auc": 0.9871234567, "0.01": 0.5, "accuracy": "0.96 | 0.01"},
            "completed_minus_masked": {"auc": "+0.1", "0.01": None},
            "command": "python -m benchmarks.lfw --data 'a b'",
        },
        "others": {"psnr": 30.123456, "command": "python"},
        "seen by": "one person",
    },
    notes="Weak on profiles.",
)


class TestModelCard:
    def test_says_what_the_row_says(self) -> None:
        text = model_card(ROW)
        for part in (
            "# net.a", "ab" * 32, "9.3 MB", "non-commercial", "abc123", "| stage 2.steps | 6000 |",
            "| stage 2.lr | 0.0001 |", "Weak on profiles.",
        ):  # fmt: skip
            assert part in text
        assert "UTKFace \\| all ages" in text

    def test_scores_are_tables_with_their_commands(self) -> None:
        text = model_card(ROW)
        first = """### LFW, dlib

|  | AUC | TPR@FPR=1% | accuracy |
| --- | --- | --- | --- |
| clean | 0.9871 | 0.5000 | 0.96 \\| 0.01 |
| completed minus masked | +0.1 |  |  |

```
python -m benchmarks.lfw --data 'a b'
```

### others

| measure | value |
|---|---|
| psnr | 30.1235 |

```
python
```

### seen by

one person
"""
        assert first in text

    def test_limits_stand_before_figures(self) -> None:
        text = model_card(ROW)
        places = [text.index(part) for part in ("## Use", "Weak on profiles.", "## Scores", "## Training")]
        assert places == sorted(places)

    @pytest.mark.parametrize("row", read_manifest(checkout_folder()), ids=lambda row: row.name)
    def test_committed_cards_are_those_of_the_manifest(self, row: WeightsRow) -> None:
        assert (checkout_folder() / f"{row.name}.md").read_text(encoding="utf-8") == model_card(row)

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

    def test_a_readme_of_somebody_elses_stays(self, tmp_path: Path) -> None:
        add_to_manifest(save_weights(tmp_path / "net.a.safetensors", {"w": torch.zeros(3)}, "net"), tmp_path)
        (tmp_path / "README.md").write_text("# My project\n")
        assert [path.name for path in write_cards(tmp_path)] == ["net.a.md"]
        assert (tmp_path / "README.md").read_text() == "# My project\n"
