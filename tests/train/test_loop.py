"""Learning rate, saving, opening the faces, the fabric."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from maskfix.base import DatasetError, InputError
from maskfix.train import loop
from maskfix.train.config import CommonConfig
from maskfix.train.loop import (
    Saver,
    fast_precision,
    launched_processes,
    learning_rate,
    make_fabric,
    open_views,
    set_learning_rate,
)


def test_learning_rate__constant() -> None:
    config = CommonConfig(learning_rate=0.3, steps=10)
    assert [learning_rate(config, step) for step in (0, 5, 9)] == [0.3] * 3


def test_learning_rate__warm_up() -> None:
    config = CommonConfig(learning_rate=1.0, steps=10, warmup=4)
    assert [learning_rate(config, step) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


def test_learning_rate__cosine() -> None:
    config = CommonConfig(learning_rate=2.0, steps=100, schedule="cosine")
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(2.0)
    assert rates[50] == pytest.approx(2 * (0.01 + 0.99 / 2))
    assert rates[25] == pytest.approx(2 * (0.01 + 0.99 * (1 + math.sqrt(0.5)) / 2))
    assert rates[100] == pytest.approx(0.02)
    assert rates == sorted(rates, reverse=True)
    assert learning_rate(config, 1000) == pytest.approx(0.02)


def test_learning_rate__cosine_with_warm_up() -> None:
    config = CommonConfig(learning_rate=1.0, steps=100, schedule="cosine", warmup=10)
    plain = CommonConfig(learning_rate=1.0, steps=100, schedule="cosine")
    assert learning_rate(config, 4) == pytest.approx(0.5 * learning_rate(plain, 4))
    assert learning_rate(config, 40) == learning_rate(plain, 40)


def test_set_learning_rate__every_group() -> None:
    first, second = (torch.nn.Parameter(torch.zeros(1)) for _ in range(2))
    optimiser = torch.optim.SGD([{"params": [first]}, {"params": [second], "lr": 5.0}], lr=1.0)
    set_learning_rate(optimiser, 0.25)
    assert [group["lr"] for group in optimiser.param_groups] == [0.25, 0.25]


def test_saver__by_time_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    saved: list[int] = []
    saver = Saver(saved.append, 10.0)
    for step, clock in ((1, 5.0), (2, 10.0), (3, 15.0), (4, 19.9), (5, 20.0), (6, 21.0)):
        now[0] = clock
        saver.maybe(step, last=step == 6)
    assert saved == [2, 5, 6]


def test_open_views__split_by_name(store: Path) -> None:
    config = CommonConfig(network="tiny", batch_size=2, held_out=0.3)
    views, training, validation = open_views(store, None, config)
    assert sorted([*training, *validation]) == list(range(24))
    assert 2 <= len(validation) < len(training)
    assert len(views.occluders) == 1
    again = open_views(store, None, config)
    np.testing.assert_array_equal(again[2], validation)
    # What a held-out face looks like is shown nowhere, not as surroundings nor as a print either.
    assert views.others.tolist() == training.tolist()


def test_open_views__wrong_size(store: Path) -> None:
    with pytest.raises(DatasetError, match="crops of 64 pixels, the network wants 128; prepare them with --size 128"):
        open_views(store, None, CommonConfig(batch_size=2))


def test_open_views__fewer_faces_than_a_batch(store: Path) -> None:
    with pytest.raises(DatasetError, match="fewer than one batch of 25"):
        open_views(store, None, CommonConfig(network="tiny", batch_size=25, held_out=0))


def test_open_views__missing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"crops\.npy.*maskfix prepare"):
        open_views(tmp_path, None, CommonConfig(network="tiny"))
    with pytest.raises(DatasetError, match=r"crops\.npy.*maskfix prepare"):
        open_views(tmp_path / "absent", None, CommonConfig(network="tiny"))


def test_open_views__no_templates(store: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"masks\.cfg"):
        open_views(store, tmp_path, CommonConfig(network="tiny", batch_size=2))


def test_make_fabric__unknown_names() -> None:
    with pytest.raises(InputError, match="device: 'tpu' is unknown; known: auto, cpu, cuda"):
        make_fabric("32-true", "tpu")
    # Gradients of 16-mixed would be clipped as they were scaled; Fabric takes the others too, and no step works.
    for precision in ("12-bit", "16-mixed", "16-true", "bf16-true", "64-true", "transformer-engine"):
        with pytest.raises(InputError, match=f"precision: '{precision}' is not supported; choose bf16-mixed, 32-true"):
            make_fabric(precision, "cpu")


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "32-true"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16-mixed"),
        ({"neon": True, "bf16": True}, "bf16-mixed"),
        ({}, "32-true"),
    ],
)
def test_fast_precision__what_the_cpu_computes_in(
    monkeypatch: pytest.MonkeyPatch, known: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert fast_precision(torch.device("cpu")) == expected
    assert make_fabric("auto", "cpu")._precision.precision == expected


@pytest.mark.parametrize("native", [False, True])
def test_fast_precision__older_torch(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native, raising=False)
    assert fast_precision(torch.device("cpu")) == ("bf16-mixed" if native else "32-true")


@pytest.mark.skipif(torch.cuda.is_available(), reason="cuda is there")
def test_make_fabric__no_cuda() -> None:
    with pytest.raises(InputError, match="cuda is asked for and there is none"):
        make_fabric("32-true", "cuda")


def test_launched_processes__only_under_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    assert launched_processes() == (1, 1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    assert launched_processes() == (8, 4)


def test_make_fabric__a_gpu_for_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TORCHELASTIC_RUN_ID", "run"), ("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(InputError, match="4 processes and 2 GPUs on this machine; start torchrun with --nproc-per-n"):
        make_fabric("32-true", "cuda")
    with pytest.raises(InputError, match="cuda:1 is one GPU for several processes; pass cuda"):
        make_fabric("32-true", "cuda:1")
