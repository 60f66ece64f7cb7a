from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from benchmarks.other_masks import PACKAGES, WORN_POINTS, app, worn, write_templates
from maskfix.base import DependencyError
from maskfix.occlude import Occluder, folder_templates
from tests.occlude.samples import FRONT, grey


def test_write_templates__photographs_that_come_with_insightface(tmp_path: Path) -> None:
    kinds = write_templates("insightface", tmp_path / "masks")
    source = folder_templates(tmp_path / "masks")
    assert set(source.templates) == set(kinds) == set(PACKAGES["insightface"])
    occluder = Occluder(source)
    blue = None
    for kind in kinds:
        masked = occluder.occlude(grey(135), FRONT, kind)
        # Over nose, mouth and chin, under the eyes, and no corner of a rectangle sticks out.
        assert masked.mask[[50, 75, 100], 64].all(), kind
        assert not masked.mask[:38].any(), kind
        assert not masked.mask[98:, :45].any(), kind
        blue = masked.image[75, 64] if kind == "photo_blue" else blue
    assert blue is not None
    assert blue[2] > blue[0] + 40


def test_write_templates__drawings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "face_mask" / "images").mkdir(parents=True)
    (tmp_path / "face_mask" / "__init__.py").write_text("raise RuntimeError('this is not to be run')")
    for picture in PACKAGES["face_mask"].values():
        Image.new("RGBA", (201, 101), (9, 8, 7, 255)).save(tmp_path / "face_mask" / picture.file)
    write_templates("face_mask", tmp_path / "masks")
    source = folder_templates(tmp_path / "masks")
    template = source.get("print_red", "front")
    assert template.image.shape == (101, 201, 4)
    np.testing.assert_allclose(template.points[[0, 4]], [[24, 33], [100, 93]], atol=0.06)
    (tmp_path / "face_mask" / "images" / "red-mask.png").write_bytes(b"no picture")
    with pytest.raises(DependencyError, match=r"red-mask\.png: cannot be read"):
        write_templates("face_mask", tmp_path / "other")
    assert not (tmp_path / "other" / "masks.cfg").exists()


def test_worn__columns_are_stretched_between_the_two_edges() -> None:
    flat = np.zeros((100, 200, 4), dtype=np.uint8)
    flat[..., 0] = np.arange(100)[:, None]
    flat[..., 1] = np.arange(200)
    flat[..., 3] = 255
    bent = worn(flat)
    height, width = bent.shape[:2]
    assert (height, width) == (138, 184)
    for letter, (x, y) in zip("abcdef", WORN_POINTS, strict=True):
        column, row = round(x * (width - 1)), y * (height - 1)
        inside, outside = (2, -2) if letter in "abc" else (-2, 2)
        assert bent[round(row + inside), column, 3] == 255, letter
        assert row + outside < 0 or row + outside > height - 1 or bent[round(row + outside), column, 3] == 0, letter
    # The middle column is the whole flat one, its borders cut off; x stays where it was.
    middle = np.interp(np.linspace(0, 91, height), np.arange(92), np.arange(4, 96))
    np.testing.assert_allclose(bent[:, width // 2, 0], middle, atol=1)
    np.testing.assert_array_equal(bent[height // 2, :, 1], np.arange(8, 192))
    # No dark seam: where the mask shows at all its colour is the mask's.
    assert bent[..., 0][bent[..., 3] > 0].min() >= 4


BAD = {
    "package": (["--package", "masks"], "package: 'masks' is unknown; known: insightface, face_mask"),
    "not installed": (["--package", "face_mask"], "face_mask: not installed; pip install --no-deps face-mask==0.3.0"),
    "there already": ([], "holds masks.cfg already; give another folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_main__bad_input(tmp_path: Path, case: str) -> None:
    arguments, message = BAD[case]
    (tmp_path / "masks.cfg").write_text("")
    out = tmp_path if case == "there already" else tmp_path / "new"
    done = CliRunner().invoke(app, ["--out", str(out), *arguments])
    assert done.exit_code == 2
    assert message in done.stderr


def test_main__says_what_to_ask_for(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--out", str(tmp_path)])
    assert done.exit_code == 0
    assert "--kind photo_black --kind photo_blue --kind photo_green --kind photo_white" in done.stdout
