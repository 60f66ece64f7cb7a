"""What each process of `test_distributed` runs under torchrun: training commands, and checks of what lies below them.

`python -m torch.distributed.run --standalone --nproc-per-node 2 distributed_worker.py JOBS.json`: jobs are lists of a
command's words by name; what became of them is written to results.RANK.json beside the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskfix.base import MaskfixError
from maskfix.cli.app import app
from maskfix.restore import CONFIGS
from maskfix.train import completion, siamese
from maskfix.train.batch_norm import WholeBatchNorm2d, synchronise_norms
from maskfix.train.loop import make_fabric
from maskfix.train.parallel import Processes
from tests.train.conftest import TINY
from tests.train.runs import MeanColour

RANK = int(os.environ.get("RANK", "0"))


def refuse(*_: Any, **__: Any) -> Any:
    """Stands for whatever the first process alone does."""
    raise AssertionError("another process than the first one writes or validates")


def remembering(make: Callable[..., Any], made: list[Any]) -> Callable[..., Any]:
    """The same maker, which keeps what it makes."""

    def call(*arguments: Any, **named: Any) -> Any:
        made.append(make(*arguments, **named))
        return made[-1]

    return call


def digest(made: list[Any]) -> str:
    """Of every tensor of the last networks made, to the bit."""
    found = hashlib.sha256()
    for thing in made:
        module = getattr(thing, "network", thing)
        for name, value in module.state_dict().items():
            found.update(name.encode() + value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def check_norm(fabric: Any) -> dict[str, float]:
    """Largest differences between a norm over two processes and one over the whole batch, in float64."""
    torch.manual_seed(0)
    x, weight = torch.randn(6, 3, 5, 4, dtype=torch.float64) * 3 + 100, torch.randn(6, 3, 5, 4, dtype=torch.float64)
    whole = nn.Sequential(nn.BatchNorm2d(3)).double()
    with torch.no_grad():
        whole[0].weight.uniform_(0.5, 2)
        whole[0].bias.normal_()
    shared = nn.Sequential(nn.BatchNorm2d(3)).double()
    shared.load_state_dict(whole.state_dict())
    parameters = list(shared.parameters())
    synchronise_norms(shared, fabric)
    processes = Processes(fabric)
    rows = processes.rows(6)
    assert isinstance(shared[0], WholeBatchNorm2d)
    one, two = x.clone().requires_grad_(), x[rows].clone().requires_grad_()
    expected, found = whole(one), shared(two)
    (expected.sin() * weight).mean().backward()
    (found.sin() * weight[rows]).mean().backward()
    assert one.grad is not None
    assert two.grad is not None
    processes.average_gradients(shared.parameters())
    pairs: dict[str, tuple[Any, Any]] = {
        "output": (found, expected[rows]),
        # The gradient of the sum of both processes' losses, each the mean over its half.
        "gradient": (two.grad, 2 * one.grad[rows]),
        "weight": (shared[0].weight.grad, whole[0].weight.grad),
        "bias": (shared[0].bias.grad, whole[0].bias.grad),
        "running mean": (shared[0].running_mean, whole[0].running_mean),
        "running variance": (shared[0].running_var, whole[0].running_var),
        "batches": (shared[0].num_batches_tracked, whole[0].num_batches_tracked),
        "evaluated": (shared.eval()(two), whole.eval()(one)[rows]),
    }
    differences = {name: float((a - b).detach().abs().max()) for name, (a, b) in pairs.items()}
    same = all(a is b for a, b in zip(parameters, shared.parameters(), strict=True))
    return differences | {"other parameters": float(not same)}


def check_processes(fabric: Any) -> dict[str, Any]:
    """What passes between two processes."""
    processes = Processes(fabric)
    network = nn.Linear(2, 1)
    network.weight.grad = torch.tensor([[RANK, 10.0 + RANK]])
    network.bias.grad = torch.tensor([4.0 * RANK])
    processes.average_gradients(network.parameters())
    try:
        processes.check_step(3 + RANK, Path("out/x.pt"))
    except MaskfixError as error:
        message = str(error)
    processes.check_step(7, Path("out/x.pt"))
    return {
        "rows": [processes.rows(8).start, processes.rows(8).stop],
        "share": processes.share(torch.tensor([1.0, 3.0 * RANK, 0.0])).tolist(),
        "gathered": processes.gather(torch.tensor([[RANK, 0.0], [RANK, 1.0]])).tolist(),
        "average": processes.average({"a": 1.0 + RANK, "b": 0.1}),
        "gradients": [*network.weight.grad.flatten().tolist(), *network.bias.grad.tolist()],
        "steps": message,
    }


def run(words: list[str]) -> dict[str, Any]:
    """Run a training command; returns its error and a digest of the networks that it left."""
    made: list[Any] = []
    kept = {
        (module, name): getattr(module, name)
        for module, name in (
            (siamese, "SiameseNetwork"),
            (completion, "create_network"),
            (completion, "average_of"),
            (completion, "Adversary"),
        )
    }
    for (module, name), make in kept.items():
        setattr(module, name, remembering(make, made))
    try:
        app(words, standalone_mode=False)
    except MaskfixError as error:
        return {"error": str(error)}
    finally:
        for (module, name), make in kept.items():
            setattr(module, name, make)
    return {"digest": digest(made), "networks": len(made)}


def main(jobs: Path) -> None:
    """Run every job."""
    torch.set_num_threads(1)
    CONFIGS["tiny"] = TINY
    completion.load_texture = lambda *_: MeanColour()  # type: ignore[assignment, return-value]
    if RANK:
        for module in (siamese, completion):
            for name in ("save_checkpoint", "append_log", "trim_log", "drop_leftovers"):
                setattr(module, name, refuse)
        completion.validate = refuse
    fabric = make_fabric("32-true", "cpu")
    results: dict[str, Any] = {"norm": check_norm(fabric), "processes": check_processes(fabric)}
    for name, words in json.loads(jobs.read_text()).items():
        results[name] = run(words)
    jobs.with_name(f"results.{RANK}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
