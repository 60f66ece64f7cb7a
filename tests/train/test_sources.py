"""What a run is made from: by hash, so that it does not go on from something else of the same name."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from maskfix.base import CheckpointError
from maskfix.occlude import folder_templates
from maskfix.train import completion, distillation, landmarks, siamese, sources
from maskfix.train.checkpoint import read_checkpoint
from maskfix.train.sources import check_sources, checkout_commit, run_sources
from tests.train.test_device import completion_run, distillation_run, landmarks_run, siamese_run
from tests.train.test_distillation import Small
from tests.train.test_teachers import Bands

POINTS = (("a", 2, 4), ("b", 10, 1), ("c", 18, 4), ("d", 3, 10), ("e", 10, 15), ("f", 17, 10))


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    (tmp_path / "records.csv").write_text("a")
    return tmp_path


def test_run_sources__hashes_by_name(faces: Path) -> None:
    assert run_sources(faces) == {"faces": digest("a"), "commit": checkout_commit(), "templates": None}
    found = run_sources(faces, {"one": "b"}, {"dlib": "e"})
    assert (found["networks"], found["teachers"]) == ({"one": "b"}, {"dlib": "e"})
    assert "networks" not in run_sources(faces, {})
    (faces / "records.csv").write_text("b")
    assert run_sources(faces)["faces"] == digest("b")


def test_run_sources__templates_by_what_they_show(faces: Path, tmp_path: Path) -> None:
    """Two folders of one name are two sources: a run goes on with the masks that it began with."""
    points = "".join(f"mask_{letter}: {x}, {y}\n" for letter, x, y in POINTS)
    found = []
    for colour in ("red", "blue"):
        folder = tmp_path / colour / "masks"
        folder.mkdir(parents=True)
        (folder / "masks.cfg").write_text(f"[cloth]\ntemplate: x.png\n{points}")
        Image.new("RGBA", (20, 16), colour).save(folder / "x.png")
        found.append(run_sources(faces, templates=folder))
    assert found[0]["templates"] == folder_templates(tmp_path / "red" / "masks").sha256
    with pytest.raises(CheckpointError, match="made from other templates;"):
        check_sources("run.pt", *found)
    # Nor does it go on without the folder that it began with, or with one where it began without.
    for pair in ((run_sources(faces), found[0]), (found[0], run_sources(faces))):
        with pytest.raises(CheckpointError, match="made from other templates;"):
            check_sources("run.pt", *pair)


def test_check_sources__names_what_is_other() -> None:
    stored = {"faces": "1", "networks": {"one": "2"}, "commit": "3"}
    check_sources("run.pt", stored, stored | {"commit": "4"})
    # Checkpoints of before say nothing of it.
    check_sources("run.pt", {}, stored)
    check_sources("run.pt", stored, {})
    with pytest.raises(CheckpointError, match=r"run\.pt: made from other faces; give those again, or choose another"):
        check_sources("run.pt", stored, stored | {"faces": "2"})
    with pytest.raises(CheckpointError, match="made from other faces and networks;"):
        check_sources("run.pt", stored, {"faces": "2", "networks": {"one": "3"}})


def test_checkout_commit__is_gits(monkeypatch: pytest.MonkeyPatch) -> None:
    commit = checkout_commit()
    assert commit == "unknown" or len(commit) == 40

    def fails(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(subprocess, "run", fails)
    assert checkout_commit() == "unknown"


def test_checkout_commit__of_maskfix_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed inside another project's checkout it is not that project's commit."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    theirs = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.setattr(sources, "__file__", str(tmp_path / "maskfix" / "train" / "sources.py"))
    assert checkout_commit() == theirs
    inner = tmp_path / "venv" / "maskfix" / "train"
    inner.mkdir(parents=True)
    monkeypatch.setattr(sources, "__file__", str(inner / "sources.py"))
    assert checkout_commit() == "unknown"


@pytest.mark.parametrize(
    ("module", "start"),
    [
        (completion, completion_run),
        (siamese, siamese_run),
        (landmarks, landmarks_run),
        (distillation, distillation_run),
    ],
)
def test_train__goes_on_from_the_same_faces_alone(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    start: Callable[[Path, Path, str], None],
) -> None:
    monkeypatch.setattr(distillation, "create_lightcnn", lambda name: Small())
    monkeypatch.setattr(distillation, "load", lambda spec, device: Bands())
    monkeypatch.setattr(distillation, "DIMENSION", 3)
    store = request.getfixturevalue("store" if start in (completion_run, siamese_run) else "store_128")
    optimiser = "adamw" if module is siamese else "adam"
    start(store, tmp_path, optimiser)
    made_from = read_checkpoint(tmp_path / module.CHECKPOINT)["sources"]
    assert "templates" in made_from
    assert made_from["faces"] == digest((store / "records.csv").read_text(encoding="utf-8"))
    assert made_from.get("teachers") == ({"bands": Bands().sha256} if module is distillation else None)
    # What a run killed while it wrote its checkpoint left beside it.
    half = tmp_path / f".{Path(module.CHECKPOINT).stem}.maskfix-0123456789ab.pt"
    half.touch()
    start(store, tmp_path, optimiser)
    assert not half.exists()
    monkeypatch.setattr(module, "run_sources", lambda *_, **__: made_from | {"faces": "others"})
    with pytest.raises(CheckpointError, match=f"{module.CHECKPOINT}: made from other faces"):
        start(store, tmp_path, optimiser)
