"""Both stages in two gloo processes under torchrun: the same run as in one process, written once.

All tests share one launch, since starting processes is most of the work.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from maskfix.train import completion
from maskfix.train.checkpoint import read_checkpoint
from maskfix.train.completion import train_completion
from maskfix.train.config import CompletionConfig, SiameseConfig, load_config
from maskfix.train.siamese import train_siamese
from tests.train.runs import MeanColour, logged

SIAMESE = """
network = "tiny"
batch_size = 4
held_out = 0.3
queue = 7
batch_negatives = true
"""

COMPLETION = """
network = "tiny"
batch_size = 4
held_out = 0.3
texture_start = 1
perturb_identity = true
average = 0.9
adversarial = 0.3
validate_every = 2
[views]
clean = 0.3
[objective]
identity = 1.0
identity_form = "cosine"
texture_samples = 3
texture_scales = [1, 2]
occluded_weight = 5.0
occlusion_dice = 0.5
contrast = 0.2
"""

# The second process has no row for texture, and the texture terms alone reach the second scale.
UNEVEN = """
network = "tiny"
batch_size = 4
held_out = 0.3
texture_start = 1
average = 0.0
adversarial = 0.3
validate_every = 2
[objective]
correspondence = 0.0
structure_scales = [1, 3]
texture_samples = 2
texture_scales = [1, 2]
perceptual = 0.5
contrast = 0.2
"""


class Runs(NamedTuple):
    """What the launch left.

    Attributes:
        folder: Holds an output folder for each job.
        results: What the worker wrote, by rank.
        text: What the launch printed.
        store: The faces.
    """

    folder: Path
    results: list[dict[str, Any]]
    text: str
    store: Path


def settings(path: Path, steps: int) -> Any:
    """A configuration of this file."""
    kind: Any = SiameseConfig if path.stem == "siamese" else CompletionConfig
    return load_config(kind, path, {"steps": steps})


def alone(path: Path, steps: int, store: Path, out: Path) -> Path:
    """The same run in this process."""
    config = settings(path, steps)
    if isinstance(config, SiameseConfig):
        return train_siamese(config, store, out, device="cpu", workers=0)
    return train_completion(config, store, out, identity="stand-in.onnx", device="cpu", workers=0)


def words(stage: str, config: Path, steps: int, store: Path, out: Path, workers: int = 0) -> list[str]:
    """A training command."""
    given = ["--faces", store, "--out", out, "--config", config, "--steps", steps, "--workers", workers]
    more = ["--identity", "stand-in.onnx"] if stage == "completion" else []
    return ["train", stage, *map(str, given), "--device", "cpu", *more]


@pytest.fixture(scope="module", autouse=True)
def stand_in() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(completion, "load_texture", lambda *_: MeanColour())
        yield


@pytest.fixture(scope="module")
def runs(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Every job of this file, in one launch of two processes; beside them the same in this one, after 1 to 3 steps."""
    folder = tmp_path_factory.mktemp("distributed")
    jobs = {}
    for name, text in (("siamese", SIAMESE), ("completion", COMPLETION), ("uneven", UNEVEN)):
        config, odd = folder / f"{name}.toml", folder / f"{name}-odd.toml"
        config.write_text(text)
        odd.write_text(text.replace("batch_size = 4", "batch_size = 3"))
        stage = "siamese" if name == "siamese" else "completion"
        jobs[name] = words(stage, config, 2, store, folder / name, workers=int(stage == "siamese"))
        jobs[f"{name}-odd"] = words(stage, odd, 2, store, folder / "odd")
        for steps in (1, 2, 3) if name != "uneven" else (2,):
            path = alone(config, steps, store, folder / f"{name}-alone")
            shutil.copytree(path.parent, folder / f"{name}-alone-{steps}")
        if name != "uneven":
            shutil.copytree(folder / f"{name}-alone-1", folder / f"{name}-resumed")
            jobs[f"{name}-resumed"] = words(stage, config, 3, store, folder / f"{name}-resumed")
    half = folder / "half.toml"
    half.write_text('precision = "bf16-mixed"' + SIAMESE)
    jobs["half"] = words("siamese", half, 1, store, folder / "half")
    given = ["--faces", store, "--out", folder / "odd", "--teacher", "dlib"]
    jobs["recogniser"] = ["train", "recogniser", *map(str, given)]
    (folder / "jobs.json").write_text(json.dumps(jobs))
    worker = Path(__file__).with_name("distributed_worker.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", worker]
    done = subprocess.run(
        [*map(str, command), str(folder / "jobs.json")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = [json.loads((folder / f"results.{rank}.json").read_text()) for rank in range(2)]
    return Runs(folder, results, done.stdout, store)


@pytest.fixture(scope="module", params=["siamese", "completion"])
def stage(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["2", "resumed"])
def pair(stage: str, runs: Runs, request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """A run of two processes and one of one, as many steps long; the second pair's first step was done by one."""
    resumed = request.param == "resumed"
    found = runs.folder / (f"{stage}-resumed" if resumed else stage)
    return found / f"{stage}.pt", runs.folder / f"{stage}-alone-{3 if resumed else 2}" / f"{stage}.pt"


def flat(state: Any, place: str = "") -> dict[str, Any]:
    """A checkpoint's values by place."""
    if not isinstance(state, dict | list):
        return {place: state}
    found: dict[str, Any] = {}
    for key, value in state.items() if isinstance(state, dict) else enumerate(state):
        found |= flat(value, f"{place}/{key}")
    return found


def check_alike(two: Path, one: Path, tolerance: float) -> None:
    """Compare two checkpoints; what the discriminator learns has a test of its own."""
    found, expected = (flat(read_checkpoint(path)) for path in (two, one))
    assert found.keys() == expected.keys()
    for place, value in expected.items():
        if place.startswith("/adversary"):
            continue
        if isinstance(value, torch.Tensor):
            close = torch.allclose(found[place], value, rtol=1e-4, atol=tolerance)
            assert close, f"{place}: {(found[place] - value).abs().max()}"
        elif not place.endswith(("/steps", "/checkpoint_seconds")):
            assert found[place] == value, place


def check_logs_alike(two: Path, one: Path) -> None:
    """Compare what two runs say of their steps."""
    # A run's last step is validated, wherever it ends.
    found, expected = (
        [{key: value for key, value in row.items() if not key.startswith("val_")} for row in logged(path)]
        for path in (two, one)
    )
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)


def test_run__is_that_of_one_process(stage: str, pair: tuple[Path, Path]) -> None:
    """Stage 2 is taught by Adam, to which a gradient of nearly nothing says as much as any other: hence 2e-5.

    What the discriminator's last biases learn is of that kind throughout, see the next test.
    """
    check_alike(*pair, tolerance=2e-5)
    check_logs_alike(*(path.with_suffix(".jsonl") for path in pair))


def test_run__discriminator_learns_the_same(runs: Runs) -> None:
    """After its first step, Adam's memory is half of the gradient."""
    two, one = (read_checkpoint(runs.folder / name / "completion.pt") for name in ("completion", "completion-alone-2"))
    for number, state in one["adversary"]["optimiser"]["state"].items():
        found = two["adversary"]["optimiser"]["state"][number]
        scale = float(state["exp_avg"].abs().max())
        torch.testing.assert_close(found["exp_avg"], state["exp_avg"], rtol=0, atol=1e-4 * scale + 1e-7)
    for name, value in one["adversary"]["network"].items():
        if not name.endswith("bias"):
            torch.testing.assert_close(two["adversary"]["network"][name], value, rtol=0, atol=5e-5)


def test_run__networks_equal_to_the_bit_in_both_processes(runs: Runs) -> None:
    """Stage 1: both branches and the queue; stage 2: network, average and discriminator; bfloat16 too."""
    first, second = runs.results
    for name, networks in (
        ("siamese", 1),
        ("siamese-resumed", 1),
        ("half", 1),
        ("completion", 3),
        ("completion-resumed", 3),
        ("uneven", 3),
    ):
        assert first[name] == second[name]
        assert first[name]["networks"] == networks
    assert first["siamese"] != first["siamese-resumed"]


def test_queue__holds_the_keys_of_both_in_the_order_of_the_batch(runs: Runs) -> None:
    """Eight keys went round the end of a queue of seven."""
    two, one = (
        read_checkpoint(runs.folder / name / "siamese.pt")["network"] for name in ("siamese", "siamese-alone-2")
    )
    assert int(two["cursor"]) == int(one["cursor"]) == 1
    assert len(two["queue"]) == 7
    torch.testing.assert_close(two["queue"], one["queue"], rtol=0, atol=2e-6)
    assert torch.pdist(two["queue"]).min() > 1e-4


def test_run__second_process_without_texture_and_unused_heads(runs: Runs) -> None:
    two, one = (runs.folder / name / "completion.pt" for name in ("uneven", "uneven-alone-2"))
    check_alike(two, one, tolerance=5e-5)
    check_logs_alike(two.with_suffix(".jsonl"), one.with_suffix(".jsonl"))
    assert "perceptual" in logged(two.with_suffix(".jsonl"))[1]


def test_resume__two_processes_then_one(stage: str, runs: Runs, tmp_path: Path) -> None:
    shutil.copytree(runs.folder / stage, tmp_path / "on")
    resumed = alone(runs.folder / f"{stage}.toml", 3, runs.store, tmp_path / "on")
    straight = runs.folder / f"{stage}-alone-3" / resumed.name
    check_alike(resumed, straight, tolerance=2e-5)
    check_logs_alike(resumed.with_suffix(".jsonl"), straight.with_suffix(".jsonl"))


def test_run__one_writer(runs: Runs) -> None:
    """The second process's functions that write or validate are set to fail; what is left is what one run leaves."""
    for name, stage in (("siamese", "siamese"), ("completion", "completion"), ("uneven", "completion")):
        assert sorted(path.name for path in (runs.folder / name).iterdir()) == [f"{stage}.jsonl", f"{stage}.pt"]
        assert runs.text.count(f"checkpoint: {runs.folder / name / stage}.pt\n") == 1
    assert [row["step"] for row in logged(runs.folder / "siamese" / "siamese.jsonl")] == [1, 2]
    assert "val_psnr_masked" in logged(runs.folder / "completion" / "completion.jsonl")[1]


def test_run__batch_that_cannot_be_shared(runs: Runs) -> None:
    """Said once: the second process of a machine keeps quiet."""
    for name in ("siamese", "completion", "uneven"):
        assert runs.results[0][f"{name}-odd"] == {
            "error": "batch_size: 3 faces cannot be shared equally by 2 processes; choose a multiple of 2"
        }
        assert runs.results[1][f"{name}-odd"]["networks"] == 0
    assert not (runs.folder / "odd").exists()


def test_recogniser__refuses(runs: Runs) -> None:
    assert "a recogniser is distilled in one process" in runs.results[0]["recogniser"]["error"]


def test_norm__over_two_processes_is_that_of_the_whole_batch(runs: Runs) -> None:
    for result in runs.results:
        assert max(result["norm"].values()) < 1e-12


def test_processes__what_passes_between_them(runs: Runs) -> None:
    for rank, result in enumerate(runs.results):
        found = result["processes"]
        assert found["rows"] == [4 * rank, 4 * rank + 4]
        assert found["share"] == [1.0, 2.0 * rank, 0.0]
        assert found["gathered"] == [[0, 0], [0, 1], [1, 0], [1, 1]]
        assert found["average"] == pytest.approx({"a": 1.5, "b": 0.1})
        assert found["gradients"] == [0.5, 10.5, 2.0]
        assert found["steps"].startswith("out/x.pt: the processes found different checkpoints (steps [3, 4]);")
