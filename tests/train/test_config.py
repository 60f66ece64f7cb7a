"""Configurations from TOML; the defaults are the paper's numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from maskfix.base import InputError
from maskfix.train.config import (
    CommonConfig,
    CompletionConfig,
    DistillationConfig,
    SiameseConfig,
    ViewConfig,
    as_plain,
    load_config,
)
from maskfix.train.landmark_config import LandmarkConfig

COMMITTED = Path(__file__).resolve().parents[2] / "weights" / "training"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults__paper_stage_1() -> None:
    config = load_config(SiameseConfig, None)
    assert config == SiameseConfig()
    assert (config.learning_rate, config.temperature, config.key_momentum, config.queue) == (0.015, 0.07, 0.9, 65536)


def test_defaults__paper_stage_2() -> None:
    config = load_config(CompletionConfig, None)
    assert config.learning_rate == 1e-4
    weights = config.objective
    assert (weights.reconstruction, weights.correspondence, weights.style, weights.identity) == (6, 0.1, 240, 0.1)
    assert weights.structure_scales == (1, 2, 3, 4, 5, 6)
    assert weights.texture_scales == (1, 2, 3)
    assert weights.identity_form == "l2"
    assert weights.occluded_weight == 1
    assert config.schedule == "constant"


def test_load_config__nested_tables_and_lists(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        steps = 7
        learning_rate = 1
        schedule = "cosine"
        perturb_identity = true
        [objective]
        style = 0.5
        texture_scales = [1, 2]
        texture_samples = 4
        [views]
        kinds = ["N95", "cloth#112233"]
        clean = 0
        [emphasis]
        Black = 2
        "65+" = 1.5
        """,
    )
    config = load_config(CompletionConfig, path)
    assert (config.steps, config.learning_rate, config.schedule, config.perturb_identity) == (7, 1.0, "cosine", True)
    assert config.objective.style == 0.5
    assert config.objective.reconstruction == 6
    assert config.objective.texture_scales == (1, 2)
    assert config.objective.texture_samples == 4
    assert config.views == ViewConfig(kinds=("N95", "cloth#112233"), clean=0)
    assert config.emphasis == {"Black": 2, "65+": 1.5}


def test_load_config__a_table_keeps_what_its_configuration_gives_it(tmp_path: Path) -> None:
    """One key of a table leaves the others as they are without the table."""
    path = written(tmp_path, "[views]\nlight = 0.3\n")
    for kind in (DistillationConfig, LandmarkConfig, CompletionConfig):
        assert load_config(kind, path).views == replace(kind().views, light=0.3)
    assert DistillationConfig().views.clean == 0.5


def test_load_config__overrides_win_unless_none(tmp_path: Path) -> None:
    path = written(tmp_path, "steps = 7\nseed = 3\n")
    config = load_config(SiameseConfig, path, {"steps": 9, "seed": None})
    assert (config.steps, config.seed) == (9, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepps = 3", "unknown key stepps; known: .*steps"),
        ("[objective]\nstile = 3", r"\[objective\]: unknown key stile; known: .*style"),
        ("temperature = 0.1", "unknown key temperature"),
        ("steps = 'many'", "steps: expected int, got 'many'"),
        ("steps = 2.5", "steps: expected int, got 2.5"),
        ("steps = true", "steps: expected int, got True"),
        ("learning_rate = '1e-4'", "learning_rate: expected float, got '1e-4'"),
        ("perturb_identity = 1", "perturb_identity: expected bool, got 1"),
        ("network = 3", "network: expected str, got 3"),
        ("objective = 5", "objective: expected a table, got 5"),
        ("emphasis = 5", "emphasis: expected a table of float, got 5"),
        ("[emphasis]\nBlack = 'more'", "emphasis: expected a table of float"),
        ("[emphasis]\nblack = 2", "emphasis: 'black' is unknown; known: male"),
        ("[emphasis]\nBlack = 20", "emphasis of Black: expected a number in"),
        ("[objective]\ntexture_scales = 2", r"texture_scales: expected tuple\[int, ...\], got 2"),
        ("[objective]\ntexture_scales = ['1']", "texture_scales: expected tuple"),
        ("[objective]\ntexture_samples = 'all'", r"texture_samples: expected int \| None, got 'all'"),
        ("[objective]\nidentity_form = 2", "identity_form: expected"),
        ("[objective]\nidentity_form = 'l1'", "'l1' is unknown"),
        ("[objective]\nstyle = -1", "'style'"),
        ("[views]\nkinds = ['scarf']", "'scarf' is unknown; known: surgical"),
        ("[views]\nclean = 1.5", "clean: expected a number in"),
        ("[views]\ncoarsest = 0", "coarsest: expected a number in"),
        ("[views]\ncoarsen_masks = 2", "coarsen_masks: expected a number in"),
        ("[views]\nstretch = 0.6", "stretch: expected a number in"),
        ("network = 'resnet'", "network: 'resnet' is unknown; known: cadf_small_128"),
        ("schedule = 'linear'", "schedule: 'linear' is unknown; known: constant, cosine"),
        ("steps = 0", "expected at least 1, got 0"),
        ("batch_size = 0", "expected at least 1"),
        ("learning_rate = nan", "learning_rate: expected a number in"),
        ("held_out = 2", "held_out: expected a number in"),
        ("seed = 100_000_000_000_000", r"seed: expected a number in \[0, 2147483647\], got 100000000000000"),
        ("average = 1", "average: expected a number in"),
        ("steps = ", "cannot read this configuration"),
        ("\x00", "cannot read this configuration"),
    ],
)
def test_load_config__refused(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError, match=message) as caught:
        load_config(CompletionConfig, path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "optimiser = 'lamb'",
        "temperature = 0",
        "key_momentum = 1",
        "queue = 0",
        "sgd_momentum = -0.1",
        "objective = 1",
        "clip = 1",
    ],
)
def test_load_config__refused_in_stage_1(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=text.partition(" ")[0]):
        load_config(SiameseConfig, written(tmp_path, text))


def test_load_config__missing_or_binary_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.toml: cannot read"):
        load_config(SiameseConfig, tmp_path / "absent.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"binary\.toml: cannot read"):
        load_config(SiameseConfig, tmp_path / "binary.toml")


def test_load_config__committed_files() -> None:
    assert load_config(SiameseConfig, COMMITTED / "siamese.toml").network == "cadf_small_128"
    assert load_config(CompletionConfig, COMMITTED / "completion.toml").network == "cadf_small_128"
    assert load_config(DistillationConfig, COMMITTED / "recogniser.toml").network == "lightcnn9"


def test_as_plain__survives_json() -> None:
    plain = as_plain(CompletionConfig(views=ViewConfig(kinds=("N95",))))
    assert json.loads(json.dumps(plain)) == plain
    assert plain["views"]["kinds"] == ["N95"]
    assert plain["objective"]["texture_scales"] == [1, 2, 3]
    assert as_plain(CommonConfig())["steps"] == 1000


def test_trim__needs_surroundings() -> None:
    with pytest.raises(InputError, match="trim: needs surroundings above 0"):
        ViewConfig(trim=0.1)
    with pytest.raises(InputError, match="trim: expected a number in"):
        ViewConfig(surroundings=1, trim=0.5)
    assert ViewConfig(surroundings=0.5, trim=0.1).trim == 0.1


def test_whole__out_of_range() -> None:
    with pytest.raises(InputError, match="whole: expected a number in"):
        CompletionConfig(whole=0.0)
    with pytest.raises(InputError, match="trim_whole: expected a number in"):
        ViewConfig(trim_whole=1.5)
