"""The README's Python runs as it stands, and no page for people links to what is not there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from maskfix.base import read_image, write_image
from maskfix.weights import list_weights

ROOT = Path(__file__).parents[1]


def code_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.skipif(not list_weights(), reason="no released weights in this checkout")
def test_readme__code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skimage import data

    photo = np.asarray(data.astronaut(), np.uint8)
    write_image(tmp_path / "portrait.png", photo)
    monkeypatch.chdir(tmp_path)
    blocks = code_blocks()
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})  # noqa: S102 - the README is ours
    assert read_image(tmp_path / "completed.png").shape == photo.shape


def test_readme__names_commands_that_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^    make (\w+)", text, re.M))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert targets
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)
    for path in re.findall(r"weights/training/\w+\.toml", text):
        assert (ROOT / path).is_file(), path


def pages() -> list[Path]:
    return [page for place in ("*.md", "weights/**/*.md", "benchmarks/**/*.md") for page in ROOT.glob(place)]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_pages__link_to_what_is_there(page: Path) -> None:
    """In a clean clone, that is: what `.gitignore` keeps out is missing there alone."""
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing
