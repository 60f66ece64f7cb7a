"""The ablation: what each variant lacks, that it is trained and measured like the others, and that nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from benchmarks import ablation, ablation_runs
from benchmarks.ablation import BASE, app, format_ablation, run_ablation
from benchmarks.ablation_runs import VARIANTS, Job, as_columns, weight_variants
from maskfix.base import InputError
from maskfix.restore import CONFIGS, NetworkConfig, create_network
from maskfix.train.checkpoint import read_checkpoint, save_checkpoint
from maskfix.train.completion import CHECKPOINT, LOG
from maskfix.train.config import CompletionConfig, load_config
from maskfix.weights import file_sha256
from tests.protocols.worlds import MiddleEmbedder
from tests.train.runs import differences, logged
from tests.train.stores import write_store

TINY = NetworkConfig(
    size=64, widths=(8, 8, 12, 12, 16, 16), kernels=(3,) * 6, full_width=8, fusion_width=6, projection=16
)
# So slow that the weights stay what they started from.
CONFIG = """
network = "tiny"
batch_size = 3
learning_rate = 1e-9
held_out = 0.3
validate_every = 0
checkpoint_seconds = 0
[objective]
identity = 0
style = 0
"""
FIGURES = ["psnr", "psnr_masked", "ssim", "sharpness", "recovered|middle", "recovered|other"]
RUNS = {*VARIANTS, "uv-0.5"} - {"no-compositing"}


@pytest.fixture(scope="module", autouse=True)
def world() -> Iterator[None]:
    """A network named `tiny` and two recognisers that read one colour; one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CONFIGS, "tiny", TINY)
        patch.setattr(ablation, "load", lambda spec, *_: MiddleEmbedder(spec, {"middle": 64}.get(spec, 112)))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with faces, a configuration, and an encoder whose weights nobody else has."""
    folder = tmp_path_factory.mktemp("ablation-data")
    write_store(folder / "faces", 64)
    (folder / "base.toml").write_text(CONFIG)
    encoder = {key: value + 3 for key, value in create_network("tiny").encoder.state_dict().items()}
    save_checkpoint(folder / "siamese.pt", {"encoder": encoder, "step": 7})
    return folder


def arguments(data: Path, out: Path) -> list[str]:
    words = ["--faces", data / "faces", "--encoder", data / "siamese.pt", "--config", data / "base.toml"]
    words += ["--out", out, "--json", out.with_suffix(".json"), "--judge", "middle", "--judge", "other"]
    words += ["--steps", 2, "--device", "cpu", "--workers", 0, "--replicates", 20]
    return [str(word) for word in words]


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole ablation."""
    out = tmp_path_factory.mktemp("ablation") / "out"
    done = call(*arguments(data, out), "--uv-weights", "0.5,0,0.1")
    assert done.exit_code == 0, done.output
    return out


def report_of(out: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(out.with_suffix(".json").read_text())
    return report


def test_main__rows_of_table_6(finished: Path) -> None:
    report = report_of(finished)
    parts = [(row["siamese"], row["fusion"], row["correspondence"] > 0) for row in report["rows"][:8]]
    assert parts == [
        (False, False, False),
        (True, False, False),
        (False, True, False),
        (False, False, True),
        (True, True, False),
        (True, False, True),
        (False, True, True),
        (True, True, True),
    ]
    assert [(row["name"], row["occlusion_head"], row["composed"]) for row in report["rows"][7:]] == [
        ("full", True, True),
        ("no-occlusion-head", False, False),
        ("no-compositing", True, False),
    ]
    for row in report["rows"] + report["curve"]:
        assert list(row["figures"]) == list(row["minus_full"]) == FIGURES
        assert row["training_seconds"] > 0
        for figure in row["figures"].values():
            assert figure["ci95"][0] <= figure["ci95"][1]
    assert set(map(str, report["rows"][7]["minus_full"].values())) == {"{'value': 0.0, 'ci95': [0.0, 0.0]}"}
    assert report["rows"][0]["minus_full"]["psnr"]["value"] != 0
    assert [point["correspondence"] for point in report["curve"]] == [0, 0.1, 0.5]
    assert [point["run"] for point in report["curve"]] == ["siamese-daf", "full", "uv-0.5"]


def test_main__record_and_files(data: Path, finished: Path) -> None:
    report = report_of(finished)
    assert (report["steps"], report["batch_size"], report["samples"], report["missing"]) == (2, 3, 6, [])
    assert report["encoder"] == {"sha256": file_sha256(data / "siamese.pt"), "steps": 7}
    assert [judge["name"] for judge in report["judges"]] == ["middle", "other"]
    assert report["data"]["training"] + report["data"]["held_out"] == 24
    assert report["config"]["learning_rate"] == 1e-9
    assert {path.name for path in finished.iterdir() if path.is_dir()} == RUNS
    assert (finished / "uv-weights.png").stat().st_size > 10_000
    assert (finished / "ablation.md").read_text() == format_ablation(report) + "\n"


def test_main__each_run_lacks_what_its_name_says(data: Path, finished: Path) -> None:
    encoder = read_checkpoint(data / "siamese.pt")["encoder"]
    name = "levels.0.0.conv.weight"
    for run in RUNS:
        variant = VARIANTS.get(run) or replace_weight(0.5)
        state, rows = read_checkpoint(finished / run / CHECKPOINT), logged(finished / run / LOG)
        assert len(rows) == state["step"] == 2
        same = torch.allclose(state["network"]["encoder." + name], encoder[name], atol=1e-5)
        assert same == variant.siamese
        assert ("decoder.fusions.0.transform.2.weight" in state["network"]) == variant.fusion
        # Checkpoints of the full network say nothing of fusion, as those did that are older than the choice.
        assert state["config"].get("fusion", True) == variant.fusion
        assert ("fusion" in state["config"]) != variant.fusion
        assert ("correspondence" in rows[0]) == (variant.correspondence != 0)
        assert ("occlusion" in rows[0]) == variant.occlusion
        objective = state["config"]["objective"]
        assert objective["correspondence"] == (0.1 if variant.correspondence is None else variant.correspondence)
        assert state["config"]["seed"] == 0


def replace_weight(weight: float) -> Any:
    return VARIANTS["full"]._replace(correspondence=weight)


def test_main__same_batches(finished: Path) -> None:
    """Networks of one start that hardly learn have the same occlusion loss at each step if the batches are the same."""
    first = [logged(finished / run / LOG) for run in ("siamese-daf", "full", "uv-0.5")]
    losses = np.array([[row["occlusion"] for row in rows] for rows in first])
    np.testing.assert_allclose(losses, losses[:1].repeat(3, axis=0), rtol=1e-5)


def test_main__second_call_does_nothing_again(data: Path, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = report_of(finished)
    monkeypatch.setattr(ablation_runs, "train_completion", forbidden)
    monkeypatch.setattr(ablation_runs, "heldout_figures", forbidden)
    done = call(*arguments(data, finished), "--uv-weights", "0,0.1,0.5")
    assert done.exit_code == 0, done.output
    assert {**report_of(finished), "created": 0, "command": 0} == {**before, "created": 0, "command": 0}


def forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("called again")


def job(data: Path, out: Path, **changes: Any) -> Job:
    base = load_config(CompletionConfig, data / "base.toml", {"steps": 2})
    plain = Job(base, data / "faces", data / "siamese.pt", out, {"middle": MiddleEmbedder()}, workers=0, replicates=5)
    return replace(plain, **changes)


def test_run__killed_between_variants(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is measured is in the report; the next run takes the rest only."""
    trained: list[str] = []
    train = ablation_runs.train_completion

    def third_breaks(config: Any, faces: Any, folder: Path, **options: Any) -> Path:
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(folder.name)
        return train(config, faces, folder, **options)

    monkeypatch.setattr(ablation_runs, "train_completion", third_breaks)
    target = tmp_path / "report.json"
    work, names = job(data, tmp_path / "out"), ["plain", "uv"]
    with pytest.raises(KeyboardInterrupt):
        run_ablation(work, names, [], target)
    assert trained == ["full", "plain"]
    partial = json.loads(target.read_text())
    assert [row["name"] for row in partial["rows"]] == ["plain", "full"]
    assert partial["missing"] == ["uv"]
    assert "Not finished: uv." in format_ablation(partial)
    trained[:] = []
    report = run_ablation(work, names, [], target)
    assert trained == ["uv"]
    assert [row["name"] for row in report["rows"]] == ["plain", "uv", "full"]
    assert (report["rows"][0], report["rows"][2]) == tuple(partial["rows"])
    assert not (tmp_path / "out" / "uv-weights.png").exists()


def test_run__killed_within_a_run(data: Path, finished: Path, tmp_path: Path) -> None:
    def breaks(stage: str, done: int, total: int) -> None:
        assert (stage, total) == ("full", 2)
        if done == 1:
            raise KeyboardInterrupt

    work = job(data, tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        run_ablation(work, [], [], tmp_path / "report.json", breaks)
    seen: list[tuple[str, int, int]] = []
    run_ablation(work, [], [], tmp_path / "report.json", lambda *step: seen.append(step))
    assert [step for step in seen if step[0] == "full"] == [("full", 2, 2)]
    assert seen[-1][0] == "full: figures"
    resumed, unbroken = (read_checkpoint(folder / "full" / CHECKPOINT) for folder in (tmp_path / "out", finished))
    assert differences(resumed, unbroken) == []


def test_run__composed_or_not_and_the_same_faces(
    data: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variants about the occlusion head are judged by the network's own picture; other judges look anew."""
    calls = []
    taken = ablation_runs.heldout_figures

    def recorded(restorer: Any, store: Any, faces: Any, *parts: Any, **options: Any) -> Any:
        calls.append((options["composed"], options["seed"], faces.tolist()))
        return taken(restorer, store, faces, *parts, **options)

    monkeypatch.setattr(ablation_runs, "heldout_figures", recorded)
    monkeypatch.setattr(ablation_runs, "train_completion", forbidden)
    work = job(data, finished, limit=3)
    report = run_ablation(work, ["no-occlusion-head", "no-compositing", "plain"], [], tmp_path / "r.json")
    assert sorted(composed for composed, _, _ in calls) == [False, False, True, True]
    assert {seed for _, seed, _ in calls} == {0}
    assert len({tuple(faces) for _, _, faces in calls}) == 1
    assert report["data"]["held_out"] == len(calls[0][2]) == 3
    rows = {row["name"]: row for row in report["rows"]}
    assert rows["no-compositing"]["run"] == "full"
    assert rows["no-compositing"]["figures"] != rows["full"]["figures"]


class InTheLoss(MiddleEmbedder):
    def __init__(self, path: Path) -> None:
        super().__init__("in the loss")
        self.sha256 = file_sha256(path)


def with_objective(work: Job, **weights: float) -> dict[str, Any]:
    return {"base": replace(work.base, objective=replace(work.base.objective, **weights))}


def identity_judge(work: Job) -> dict[str, Any]:
    return {"identity": work.faces / "records.csv", "judges": {"x": InTheLoss(work.faces / "records.csv")}}


def shard_judge(work: Job) -> dict[str, Any]:
    path = work.out.parent / "faceres.bin"
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(b"weights")
    return {"more_identity": (path.with_suffix(".json"),), "judges": {"x": InTheLoss(path)}}


REFUSED: dict[str, tuple[Callable[[Job], dict[str, Any]], list[str], list[float], str]] = {
    "variant": (lambda _: {}, ["fast"], [], "variant: 'fast' is unknown; known: plain, siamese"),
    "weight twice": (lambda _: {}, [], [0.1, 0.1], "each weight once"),
    "negative weight": (lambda _: {}, [], [-1], "uv-weights: expected a number"),
    "no judge": (lambda _: {"judges": {}}, [], [], "judge: give at least one"),
    "one name": (lambda _: {"judges": {"a": MiddleEmbedder(), "b": MiddleEmbedder()}}, [], [], "each once"),
    "judge is the identity network": (identity_judge, [], [], "judge: x stands in the loss"),
    "judge is another identity network": (shard_judge, [], [], "judge: x stands in the loss"),
    "no correspondence": (lambda work: with_objective(work, correspondence=0), [], [], "above 0"),
    "no occlusion": (lambda work: with_objective(work, occlusion=0), [], [], "above 0"),
    "no fusion": (lambda work: {"base": replace(work.base, fusion=False)}, [], [], "needs fusion"),
    "no face": (lambda _: {"limit": 0}, [], [], "limit 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_run__refused_before_anything_is_written(data: Path, tmp_path: Path, case: str) -> None:
    changes, names, weights, message = REFUSED[case]
    work = job(data, tmp_path / "runs" / "out")
    with pytest.raises(InputError, match=message):
        run_ablation(replace(work, **changes(work)), names, weights, tmp_path / "report.json")
    assert not (tmp_path / "runs" / "out").exists()
    assert not (tmp_path / "report.json").exists()


def test_run__other_settings_need_another_folder(data: Path, finished: Path, tmp_path: Path) -> None:
    work = job(data, finished)
    other = tmp_path / "other.pt"
    save_checkpoint(other, {"encoder": {}, "step": 8})
    for changes, message in (
        ({"base": replace(work.base, steps=3)}, "another steps;"),
        ({"encoder": other}, "another encoder;"),
        ({"base": replace(work.base, seed=1, learning_rate=1.0)}, "another learning_rate, seed;"),
    ):
        with pytest.raises(InputError, match=message):
            run_ablation(replace(work, **changes), [], [], tmp_path / "report.json")
    # How often it saves is nobody's business.
    run_ablation(replace(work, base=replace(work.base, checkpoint_seconds=9)), [], [], tmp_path / "report.json")


def test_main__errors_are_one_line(data: Path, tmp_path: Path) -> None:
    for words, message in ((["--uv-weights", "0,much"], "expected numbers"), (["--variants", "fast"], "is unknown")):
        done = call(*arguments(data, tmp_path / "out"), *words)
        assert done.exit_code == 2
        [line] = [line for line in done.stderr.splitlines() if line.strip()]
        assert line.startswith("error: ")
        assert message in line
        assert not done.stdout


def test_base__is_a_configuration() -> None:
    config = load_config(CompletionConfig, None, {**BASE, "steps": 5, "seed": None})
    assert (config.network, config.batch_size, config.steps, config.seed) == ("cadf_small_128", 16, 5, 0)
    assert (config.texture_start, config.perturb_identity, config.schedule) == (0, True, "cosine")
    assert config.objective.identity_form == "cosine"
    assert config.objective.correspondence > 0


def test_weight_variants__share_runs() -> None:
    base = load_config(CompletionConfig, None, dict(BASE))
    found = weight_variants([0, 0.1, 0.25], base)
    assert [variant.key for variant in found.values()] == [("siamese-daf", True), ("full", True), ("uv-0.25", True)]
    assert found[0.25].config(base) == replace(base, objective=replace(base.objective, correspondence=0.25))


def test_as_columns__dictionaries_by_name() -> None:
    class Figures:
        def _asdict(self) -> dict[str, Any]:
            return {"image": ("a", "b"), "psnr": np.ones(2), "similarity_after": {"j": np.zeros(2)}}

    found = as_columns(Figures())  # type: ignore[arg-type]
    assert list(found) == ["image", "psnr", "similarity_after|j"]
    assert found["image"].tolist() == ["a", "b"]


def test_evaluation_key__all_that_a_judge_declares(tmp_path: Path) -> None:
    """Kept figures of one ONNX file are not those of the same file read with another range."""
    (tmp_path / "x.pt").write_bytes(b"x")
    faces: Any = SimpleNamespace(held_out=np.arange(2), record={"masks": {}})

    def key(declared: str) -> str:
        judge = MiddleEmbedder()
        judge.declared = declared  # type: ignore[attr-defined]
        job: Any = SimpleNamespace(judges={"a": judge}, base=SimpleNamespace(seed=0))
        return ablation_runs._evaluation_key(job, faces, tmp_path / "x.pt")

    assert key("range=0.0..1.0") == key("range=0.0..1.0") != key("range=-1.0..1.0")
