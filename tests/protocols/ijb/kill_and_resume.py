"""Runs over the small set in processes that are killed; a script, because a process with torch at work must not fork.

Called with a folder, it writes whole.npz (a run that was left alone) and resumed-N.npz (runs killed at various points
and gone on with), and prints at which points each was killed.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np

from maskfix.occlude import View, drawn_templates
from protocols.ijb import FeatureSettings, IjbSettings, TemplateSet, extract_features, state
from tests.protocols.ijb.small import load_networks, read_small

# What takes long and starts no threads is done before the processes part.
for name in ("onnx", "onnxruntime", "torch", "maskfix.deocclude", "maskfix.embed.onnx_network"):
    importlib.import_module(name)

SETTINGS = IjbSettings(FeatureSettings(batch_size=2, kinds=("N95",), fuse=0.5), save_seconds=0)
Trap = Callable[[], Callable[[str, int, int], None]]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def never() -> Callable[[str, int, int], None]:
    return lambda *_: None


def after(units: int) -> Trap:
    """Die once so many units are done and saved."""

    def told(stage: str, done: int, total: int) -> None:
        if stage == "units" and done == units:
            die()

    return lambda: told


def while_saving(times: int) -> Trap:
    """Die in the middle of a saving: half of the file is written."""

    def prepare() -> Callable[[str, int, int], None]:
        count = 0
        whole = np.savez

        def half(path: Any, **arrays: Any) -> None:
            nonlocal count
            whole(path, **arrays)
            count += "state" in Path(path).name
            if count == times:
                os.truncate(path, os.path.getsize(path) // 2)
                die()

        state.np.savez = half  # type: ignore[assignment]
        return lambda *_: None

    return prepare


def before_saving(times: int) -> Trap:
    """Die when a block is added but not saved."""

    def prepare() -> Callable[[str, int, int], None]:
        count, save = 0, state.RunState.save

        def counted(self: state.RunState, path: Path) -> None:
            nonlocal count
            count += 1
            if count == times:
                die()
            save(self, path)

        state.RunState.save = counted  # type: ignore[method-assign]
        return lambda *_: None

    return prepare


def play(data: TemplateSet, root: Path, folder: Path, trap: Trap, out: Path) -> int:
    """Run in a process of its own; gives the signal that ended it, 0 for none."""
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            sys.exit(f"a run failed with {os.WEXITSTATUS(status)}")
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    try:
        made = extract_features(
            data,
            load_networks(root),
            folder=folder,
            cache=folder / "cache",
            settings=SETTINGS,
            progress=trap(),
        )
        arrays = {"gallery": made.templates[0].gallery, "flags": made.flags, "figures": made.figures}
        arrays |= {"embedded": made.embedded[0], "resumed": np.array(made.resumed), **made.templates[0].probe}
        np.savez(out, **arrays)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(3)
    os._exit(0)


RUNS: tuple[tuple[Trap, ...], ...] = (
    (after(8),),
    (before_saving(1), after(4), while_saving(1), before_saving(2)),
    (after(9),),
)


def main(root: Path) -> None:
    cv2.setNumThreads(0)
    for view in get_args(View):
        drawn_templates().get("N95", view)
    data = read_small(root)
    if play(data, root, root / "whole", never, root / "whole.npz"):
        sys.exit("the run that was left alone was killed")
    for number, traps in enumerate(RUNS):
        folder = root / f"run-{number}"
        for trap in traps:
            if play(data, root, folder, trap, root / "none.npz") != signal.SIGKILL:
                sys.exit(f"run {number} was not killed")
        if play(data, root, folder, never, root / f"resumed-{number}.npz"):
            sys.exit(f"run {number} did not end")
        print(len(traps), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
