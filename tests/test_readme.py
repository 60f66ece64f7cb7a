"""The Python of the pages runs as it stands, and no page for people links to what is not there."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from maskfix.base import read_image, write_image
from maskfix.weights import list_weights

ROOT = Path(__file__).parents[1]


def code_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.skipif(not list_weights(), reason="no released weights in this checkout")
@pytest.mark.parametrize("page", ["README.md", "examples/README.md"])
def test_pages__code_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from skimage import data

    photo = np.asarray(data.astronaut(), np.uint8)
    write_image(tmp_path / "portrait.png", photo)
    monkeypatch.chdir(tmp_path)
    blocks = code_blocks(page)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), {})  # noqa: S102 - the pages are ours
    written = tmp_path / "completed.png"
    assert written.exists() == (page == "README.md")
    assert not written.exists() or read_image(written).shape == photo.shape


def pages() -> list[Path]:
    places = ("*.md", "weights/**/*.md", "benchmarks/**/*.md", "examples/*.md")
    return [page for place in places for page in ROOT.glob(place)]


def test_pages__name_commands_and_settings_that_exist() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages())
    targets = set(re.findall(r"^    make (\w+)", text, re.M))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "demo" in targets
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)
    for path in re.findall(r"weights/training/[\w-]+\.toml", text):
        assert (ROOT / path).is_file(), path
    for module in set(re.findall(r"python -m (benchmarks\.\w+)", text)):
        place = ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), module


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_pages__link_to_what_is_there(page: Path) -> None:
    """In a clean clone, that is: what `.gitignore` keeps out is missing there alone."""
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]
    heads = [re.sub(r"[^\w -]", "", head).strip() for head in re.findall(r"^#+ (.*)", text, re.M)]
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= {head.lower().replace(" ", "-") for head in heads}
