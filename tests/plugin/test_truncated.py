"""Pillow reading pictures that are cut off: in the thread that asks for it, and in no other."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from maskfix.base import ImageError, read_image, write_image
from maskfix.plugin.truncated import truncated_pictures


@pytest.fixture
def cut(tmp_path: Path) -> Path:
    """A JPEG of which the second half is missing."""
    path = tmp_path / "cut.jpg"
    write_image(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.fixture
def other() -> Iterator[ThreadPoolExecutor]:
    """Another thread, always the same."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


def load(path: Path) -> int:
    with Image.open(path) as picture:
        return np.array(picture).size


def test_other_threads_go_on_refusing_damage(cut: Path, other: ThreadPoolExecutor) -> None:
    with truncated_pictures():
        assert load(cut) == 64 * 64 * 3
        with pytest.raises(ImageError, match="truncated"):
            other.submit(read_image, cut).result()
    with pytest.raises(OSError, match="truncated"):
        load(cut)


def test_threads_that_overlap(cut: Path, other: ThreadPoolExecutor) -> None:
    """The first to come is the first to go, and the second is not disturbed; then all is as it was."""
    first, second = ExitStack(), ExitStack()
    first.enter_context(truncated_pictures())
    other.submit(second.enter_context, truncated_pictures()).result()
    first.close()
    with pytest.raises(OSError, match="truncated"):
        load(cut)
    assert other.submit(load, cut).result() == 64 * 64 * 3
    other.submit(second.close).result()
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("flag", [True, False])
def test_the_users_own_flag(flag: bool, other: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds in other threads and afterwards, after an error as well, and also when it is set meanwhile."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", flag)
    with truncated_pictures():
        assert other.submit(lambda: bool(ImageFile.LOAD_TRUNCATED_IMAGES)).result() is flag
    assert ImageFile.LOAD_TRUNCATED_IMAGES is flag
    with pytest.raises(OSError, match="No such file"), truncated_pictures():
        Image.open("missing.jpg")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is flag
    with truncated_pictures():
        ImageFile.LOAD_TRUNCATED_IMAGES = not flag
    assert ImageFile.LOAD_TRUNCATED_IMAGES is not flag
