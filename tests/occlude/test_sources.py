from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskfix.base import DatasetError
from maskfix.occlude import TEMPLATES, Template, View, drawn_templates, folder_templates, source_sha256
from maskfix.occlude.kinds import parse_kind
from maskfix.occlude.quads import asymmetry, in_order
from maskfix.occlude.sources import mirrored
from tests.occlude.samples import NO_SHARED, SHARED_TEMPLATES

POINTS = "mask_a: 2, 4\nmask_b: 10, 1\nmask_c: 18, 4\nmask_d: 3, 10\nmask_e: 10, 15\nmask_f: 17, 10\n"
VIEWS: tuple[View, ...] = ("front", "left", "right")


def _folder(root: Path, cfg: str) -> Path:
    (root / "templates").mkdir(parents=True, exist_ok=True)
    image = np.zeros((16, 20, 4), dtype=np.uint8)
    image[4:12, 5:15] = (9, 8, 7, 255)
    image[4:12, 5:8] = (200, 8, 7, 255)
    Image.fromarray(image).save(root / "templates" / "x.png")
    (root / "masks.cfg").write_text(cfg)
    return root


def test_folder_templates__reads_pictures_and_points(tmp_path: Path) -> None:
    folder = _folder(tmp_path, f"[cloth]\ntemplate: masks/templates/x.png\n{POINTS}\n[empty]\n")
    source = folder_templates(folder)
    template = source.get("cloth", "front")
    assert template.image.shape == (16, 20, 4)
    assert template.image[6, 10].tolist() == [9, 8, 7, 255]
    assert template.points[1].tolist() == [10.0, 1.0]
    assert source.templates == ("cloth",)
    with pytest.raises(DatasetError, match="no template 'N95'; it has: cloth"):
        source.get("N95", "front")


def test_folder_templates__missing_side_is_the_other_mirrored_or_the_front(tmp_path: Path) -> None:
    section = f"template: masks/templates/x.png\n{POINTS}"
    source = folder_templates(_folder(tmp_path, f"[cloth]\n{section}\n[N95]\n{section}\n[N95_left]\n{section}"))
    assert np.array_equal(source.get("cloth", "left").image, source.get("cloth", "front").image)
    left, right = source.get("N95", "left"), source.get("N95", "right")
    assert np.array_equal(right.image, left.image[:, ::-1])
    assert in_order(right.points)


def test_source_sha256__tells_folders_of_one_name_apart(tmp_path: Path) -> None:
    cfg = f"[cloth]\ntemplate: templates/x.png\n{POINTS}"
    one, same, moved, painted = (_folder(tmp_path / name / "masks", cfg) for name in "abcd")
    (moved / "masks.cfg").write_text(cfg.replace("10, 15", "10, 14"))
    Image.new("RGBA", (20, 16), (1, 2, 3, 255)).save(painted / "templates" / "x.png")
    (same / "readme.txt").write_text("no template")
    hashes = [source_sha256(folder_templates(folder)) for folder in (one, same, moved, painted)]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3
    assert source_sha256(drawn_templates()) is None
    source = folder_templates(one)
    (one / "templates" / "x.png").unlink()
    with pytest.raises(DatasetError, match=r"masks: cannot be read .*x\.png"):
        source_sha256(source)


@pytest.mark.parametrize(
    "value", ["masks/templates/x.png", "templates/x.png", "other/root/templates/x.png", "  templates/x.png "]
)
def test_folder_templates__path_prefixes(tmp_path: Path, value: str) -> None:
    folder = _folder(tmp_path / "any_name", f"[cloth]\ntemplate: {value}\n{POINTS}")
    assert folder_templates(folder).get("cloth", "front").image.shape == (16, 20, 4)


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        (f"[cloth]\ntemplate: masks/templates/y.png\n{POINTS}", r"\[cloth\] names masks/templates/y.png, which is not"),
        (f"[cloth]\ntemplate: ../secret.png\n{POINTS}", "relative path inside the folder"),
        (f"[cloth]\ntemplate: /etc/passwd\n{POINTS}", "relative path inside the folder"),
        (f"[cloth]\ntemplate:\n{POINTS}", "relative path inside the folder"),
        (
            f"[cloth]\ntemplate: x.png\n{POINTS}".replace("x.png", "templates/x.png").replace("mask_b: 10, 1", ""),
            "mask_b",
        ),
        (f"[cloth]\ntemplate: templates/x.png\n{POINTS}".replace("10, 15", "10; 15"), "mask_e should be 'x, y'"),
        (f"[cloth]\ntemplate: templates/x.png\n{POINTS}".replace("10, 15", "nan, 15"), "do not form"),
        (f"[cloth]\ntemplate: templates/x.png\n{POINTS}".replace("mask_a: 2", "mask_a: 19"), "do not form"),
        ("template: before any section", "cannot be read"),
        ("", "names no template"),
        ("[empty]\n", "names no template"),
    ],
)
def test_folder_templates__bad_cfg(tmp_path: Path, cfg: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        folder_templates(_folder(tmp_path, cfg))
    assert "\n" not in str(caught.value)


def test_folder_templates__missing_folder_or_cfg(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such folder"):
        folder_templates(tmp_path / "nowhere")
    with pytest.raises(DatasetError, match=r"holds no masks\.cfg"):
        folder_templates(tmp_path)


def test_folder_templates__link_out_of_the_folder(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "in", f"[cloth]\ntemplate: templates/link.png\n{POINTS}")
    (tmp_path / "out.png").write_bytes((folder / "templates" / "x.png").read_bytes())
    (folder / "templates" / "link.png").symlink_to(tmp_path / "out.png")
    with pytest.raises(DatasetError, match="which is not in"):
        folder_templates(folder)


def test_folder_templates__damaged_or_huge_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _folder(tmp_path, f"[cloth]\ntemplate: templates/x.png\n{POINTS}")
    whole = (folder / "templates" / "x.png").read_bytes()
    (folder / "templates" / "x.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatasetError, match=r"x\.png: truncated or damaged"):
        folder_templates(folder).get("cloth", "front")
    (folder / "templates" / "x.png").write_text("no picture")
    with pytest.raises(DatasetError, match="not a picture"):
        folder_templates(folder).get("cloth", "front")
    (folder / "templates" / "x.png").write_bytes(whole)
    monkeypatch.setattr("maskfix.occlude.sources.MAX_TEMPLATE_PIXELS", 100)
    with pytest.raises(DatasetError, match="20x16 is too large"):
        folder_templates(folder).get("cloth", "front")


def test_mirrored__twice_is_the_same() -> None:
    template = drawn_templates().get("N95", "right")
    back = mirrored(mirrored(template))
    assert np.array_equal(back.image, template.image)
    assert np.abs(back.points - template.points).max() < 1e-4


@pytest.mark.skipif(not SHARED_TEMPLATES.is_dir(), reason=NO_SHARED)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_folder_templates__masktheface_points_are_in_order(name: str, view: View) -> None:
    template = folder_templates(SHARED_TEMPLATES).get(name, view)
    assert in_order(template.points)
    _check_side(template, view)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_drawn_templates__look_like_masks(name: str, view: View) -> None:
    template = drawn_templates().get(name, view)
    assert in_order(template.points)
    _check_side(template, view)
    alpha = template.image[..., 3]
    assert not alpha[[0, -1]].any()
    assert not alpha[:, [0, -1]].any()
    # A soft edge: some pixels are partly covered, most are not.
    assert 0.005 < ((alpha > 0) & (alpha < 255)).mean() < 0.08
    assert 0.25 < (alpha > 128).mean() < 0.7
    # Folds and shading: the body is not one flat colour.
    luminance = template.image[..., :3].mean(axis=2)[alpha > 250]
    assert luminance.std() / luminance.mean() > 0.015
    # The bridge of the nose and the chin are covered a little inside their points.
    for point, step in ((template.points[1], 6), (template.points[4], -6)):
        assert alpha[round(float(point[1])) + step, round(float(point[0]))] > 250


def test_drawn_templates__unknown_and_kept() -> None:
    source = drawn_templates()
    assert source is drawn_templates()
    assert source.name == "drawn"
    assert source.get("N95", "front") is source.get("N95", "front")
    with pytest.raises(DatasetError, match="there are: surgical"):
        source.get("gas", "front")
    assert {parse_kind(name).template for name in TEMPLATES} == set(TEMPLATES)


def _check_side(template: Template, view: View) -> None:
    value = asymmetry(template.points.astype(np.float64))
    if view == "front":
        assert abs(value) < 0.12
    else:
        assert (value < -0.2) if view == "left" else (value > 0.2)
