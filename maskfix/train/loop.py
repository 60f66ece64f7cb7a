"""What both stages' loops share: the fabric, the learning rate, the faces to train on, when to save."""

from __future__ import annotations

import inspect
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from maskfix.base import DatasetError, DependencyError, InputError, MaskfixError, resolve_device
from maskfix.data import FaceStore, held_out, open_store
from maskfix.train.config import CommonConfig
from maskfix.train.views import OccludedViews, open_occluders

#: Of Fabric's: float16's gradients are scaled, and neither `clip` nor Muon knows by how much; weights that are not in
#: 32 bits have no place in checkpoints and releases.
_PRECISIONS = ("auto", "bf16-mixed", "bf16", "32-true", "32")


class Progress(Protocol):
    """Called after each step with the number of steps done and the latest figures."""

    def __call__(self, step: int, figures: dict[str, float], /) -> None:
        """Show progress."""
        ...


def launched_processes() -> tuple[int, int]:
    """How many processes torchrun started, in all and on this machine; one of one without torchrun."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 1, 1
    return int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])


def make_fabric(precision: str, device: str = "auto", unused: bool = False) -> Any:
    """Lightning Fabric: it places models and batches and runs mixed precision; under torchrun, DDP over its processes.

    Args:
        precision: `bf16-mixed`, `32-true` or `auto`, see `fast_precision`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`; with several processes a machine, each has a GPU of its own.
        unused: Whether some parameters may have no part in a step's loss, which DDP has to be told.

    Raises:
        InputError: If the device is unknown or the precision another, CUDA is asked for and absent, or there are
            fewer GPUs than processes.
        DependencyError: If lightning-fabric is not installed.
    """
    place = torch.device(resolve_device(device))
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies import DDPStrategy
    except ImportError as error:
        raise DependencyError(
            f"lightning-fabric cannot be imported ({error}); install maskfix with it, in its checkout: "
            "pip install '.[train]'"
        ) from error
    settings: dict[str, Any] = {"devices": 1 if place.index is None else [place.index]}
    count, here = launched_processes()
    if count > 1:
        _check_one_gpu_each(place, here)
        # Buffers are equal anyway, since every process works out the same statistics and keys.
        known = inspect.signature(torch.nn.parallel.DistributedDataParallel).parameters
        buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        strategy = DDPStrategy(find_unused_parameters=unused, **{buffers: False})
        settings = {"devices": here, "num_nodes": count // here, "strategy": strategy}
    if precision not in _PRECISIONS:
        raise InputError(f"precision: {precision!r} is not supported; choose bf16-mixed, 32-true or auto")
    chosen: Any = fast_precision(place) if precision == "auto" else precision
    fabric = Fabric(accelerator=place.type, precision=chosen, **settings)
    if count > 1:
        fabric.launch()
    return fabric


def fast_precision(device: torch.device) -> str:
    """Fabric's name of the faster precision: `bf16-mixed` where the device computes in bfloat16, else `32-true`.

    A CPU without it only imitates bfloat16, and a step takes three times as long as in 32 bits (measured on an Intel
    Xeon with AVX-512 and nothing newer). What torch does not tell of a CPU counts as not there.

    Args:
        device: Where to train.

    Example:
        >>> fast_precision(torch.device("cpu")) in ("bf16-mixed", "32-true")
        True
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # avx512_bf16 and amx_bf16 of x86, bf16 of Arm.
        native = any(known for name, known in _cpu_capabilities().items() if name.endswith("bf16"))
    return "bf16-mixed" if native else "32-true"


def _cpu_capabilities() -> dict[str, Any]:
    """What torch knows of the CPU's arithmetic, by name."""
    if hasattr(torch.cpu, "get_capabilities"):
        return dict(torch.cpu.get_capabilities())
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # older torch
    return {"avx512_bf16": asked is not None and asked()}


def _check_one_gpu_each(place: torch.device, processes: int) -> None:
    """Refuse processes that would have to share a GPU."""
    if place.type != "cuda":
        return
    if place.index is not None:
        raise InputError(f"device: {place} is one GPU for several processes; pass cuda, and each gets one of its own")
    if processes > torch.cuda.device_count():
        raise InputError(
            f"device: {processes} processes and {torch.cuda.device_count()} GPUs on this machine; "
            f"start torchrun with --nproc-per-node {torch.cuda.device_count()}"
        )


def learning_rate(config: CommonConfig, step: int) -> float:
    """Learning rate of one step: linear warm-up, then constant or cosine to a hundredth.

    Example:
        >>> learning_rate(CommonConfig(learning_rate=1.0, warmup=4), 1)
        0.5
    """
    rise = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    if config.schedule == "constant":
        return config.learning_rate * rise
    progress = min(1.0, step / max(1, config.steps))
    return config.learning_rate * rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def check_finite(step: int, checkpoint: Path, *values: float) -> None:
    """Stop a run before a loss that is no number reaches its checkpoint.

    Args:
        step: Steps done, this one included.
        checkpoint: File that the run would save to; what it holds stays.
        values: The loss, and the norm of its gradients where it is known.

    Raises:
        MaskfixError: If one is NaN or infinite.
    """
    if not all(map(math.isfinite, values)):
        raise MaskfixError(
            f"step {step}: the loss or its gradient is not finite, and {checkpoint} stays as it was; go on with other "
            "settings, such as a lower learning_rate, in another --out (stage 2: --start from this checkpoint)"
        )


def set_learning_rate(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate of all parameter groups."""
    for group in optimiser.param_groups:
        group["lr"] = value


def open_views(
    faces: str | Path, templates: str | Path | None, config: CommonConfig
) -> tuple[OccludedViews, NDArray[np.int64], NDArray[np.int64]]:
    """Open a prepared store and split it.

    Args:
        faces: Folder that `maskfix prepare` wrote.
        templates: Folder in MaskTheFace's layout, or None for this project's own templates alone.
        config: Which share is held out, and how faces are varied.

    Returns:
        The views, indices of the training faces, indices of the held-out faces.

    Raises:
        DatasetError: If the crops' size is not the network's, or fewer training faces remain than one batch.
        InputError: If the folder lacks a template that the views draw.
    """
    store: FaceStore = open_store(faces)
    size = config.size
    if store.size != size:
        raise DatasetError(
            f"{faces}: crops of {store.size} pixels, the network wants {size}; prepare them with --size {size}"
        )
    occluders = open_occluders(templates, config.views)
    apart = held_out(store.names, config.held_out)
    training, validation = np.flatnonzero(~apart), np.flatnonzero(apart)
    if len(training) < config.batch_size:
        raise DatasetError(f"{faces}: {len(training)} training faces, fewer than one batch of {config.batch_size}")
    return OccludedViews(store, config.views, occluders, training), training, validation


class Saver:
    """Saves when enough time has passed since the last save.

    Args:
        save: Saves the state after so many steps.
        seconds: Time between saves.
    """

    def __init__(self, save: Callable[[int], None], seconds: float) -> None:
        self._save = save
        self._seconds = seconds
        self._last = time.monotonic()

    def maybe(self, step: int, last: bool) -> None:
        """Save after `step` steps if it is time, or if these were the last."""
        if last or time.monotonic() - self._last >= self._seconds:
            self._save(step)
            self._last = time.monotonic()
