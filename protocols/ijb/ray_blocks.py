"""Blocks of units on Ray Data: actors that hold the networks, on several processes, GPUs or machines."""

from __future__ import annotations

import importlib.util
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskfix.base import DependencyError, EmbedderError, check_range
from protocols.ijb.extract import BlockResult, Extractor
from protocols.ijb.settings import FeatureSettings, IjbParts
from protocols.ijb.transport import pack_job, pack_result, unpack_job, unpack_result
from protocols.ijb.units import Job
from protocols.landmark_cache import LandmarkCache

_RETRIES = 3


@dataclass(frozen=True)
class RayWorkers:
    """Does blocks on Ray: a cluster that runs already (`ray.init` finds it by RAY_ADDRESS), or this machine.

    Each block is a task of an actor. A block that fails, or whose actor dies, is tried again up to three times; a dead
    actor is started anew. The driver adds results in the order of the blocks, so that the features are those of a run
    in one process: to the bit where actors compute as this process does (same libraries, same kind of processor, as
    many threads; actors take over torch's number of threads from the driver), else to rounding. Pictures and the cache
    must lie at the same path on all machines.

    Args:
        load: Loads the networks in an actor; it is sent there, so it must be picklable.
        actors: Number of actors, from 1 to 4096.
        cpus: Processor cores that Ray sets aside for each.
        gpus: GPUs that Ray sets aside for each; a half lets two actors share one.
        threads: Threads that read and mask pictures in each.

    Raises:
        InputError: If a number is out of range.
        DependencyError: If Ray is not installed.
    """

    load: Callable[[], IjbParts]
    actors: int = 2
    cpus: float = 1.0
    gpus: float = 0.0
    threads: int = 2

    def __post_init__(self) -> None:
        """Refuse numbers out of range, and a missing Ray before anything is loaded."""
        check_range("ray actors", self.actors, 1, 4096)
        check_range("ray cpus", self.cpus, 0, 4096)
        check_range("ray gpus", self.gpus, 0, 64)
        check_range("threads", self.threads, 1, 256)
        if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
            raise DependencyError("Ray Data is needed for several workers: pip install 'ray[data]>=2.60' 'pyarrow<26'")

    def __call__(self, jobs: Iterator[Job], settings: FeatureSettings, cache: Path) -> Iterator[BlockResult]:
        """Do blocks; results come in the order of the jobs."""
        import ray
        import torch
        from ray.data import DataContext

        waiting = list(jobs)
        if not waiting:
            return
        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
        context = DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        # Errors of an actor that are no errors of a picture: a GPU out of memory, a disk that was away.
        context.retried_map_errors = True
        context.max_map_retries = _RETRIES
        attempts = ray.remote(num_cpus=0)(_Attempts).remote()
        blocks = ray.data.from_items([{"job": pack_job(job)} for job in waiting], override_num_blocks=len(waiting))
        done = blocks.map_batches(
            _Actor,
            batch_size=1,
            batch_format="numpy",
            zero_copy_batch=True,
            compute=ray.data.ActorPoolStrategy(size=self.actors, max_tasks_in_flight_per_actor=2),
            num_cpus=self.cpus,
            num_gpus=self.gpus or None,
            fn_constructor_kwargs={
                "load": self.load,
                "settings": settings,
                "cache": str(cache),
                "threads": self.threads,
                "torch_threads": torch.get_num_threads(),
                "attempts": attempts,
            },
        )
        for row in done.iter_rows():
            yield unpack_result(row["result"])


class _Attempts:
    """Counts how often each unfinished block was begun.

    Ray Data starts an actor that died anew and gives it the block that it died of, without end; a block that kills
    every process that touches it must stop the run at last.
    """

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, block: int, picture: str) -> None:
        """Count a block that is begun.

        Raises:
            EmbedderError: If it was begun too often.
        """
        self._begun[block] += 1
        if self._begun[block] > 1 + _RETRIES:
            raise EmbedderError(
                f"block {block}, from {picture} on: {1 + _RETRIES} workers failed at it; run without --ray, or with a "
                "smaller --batch-size, to see why"
            )

    def end(self, block: int) -> None:
        """Forget a block that is done: Ray may do it again for a machine that was lost with the result."""
        self._begun.pop(block, None)


class _Actor:
    """Holds the networks and does one block after the other."""

    def __init__(
        self,
        load: Callable[[], IjbParts],
        settings: FeatureSettings,
        cache: str,
        threads: int,
        torch_threads: int,
        attempts: Any,
    ) -> None:
        import torch

        torch.set_num_threads(torch_threads)
        self._attempts = attempts
        parts = load()
        self._extractor = Extractor(parts, settings, LandmarkCache(cache, parts.detector), threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Do the blocks of a batch."""
        return {"result": np.array([self._run(unpack_job(data)) for data in batch["job"]], dtype=object)}

    def _run(self, job: Job) -> bytes:
        """Do one block, unless it was begun too often."""
        import ray

        ray.get(self._attempts.begin.remote(job.number, job.paths[0]))
        result = pack_result(self._extractor.run(job))
        self._attempts.end.remote(job.number)
        return result
