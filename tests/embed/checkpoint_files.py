"""Checkpoints as they are published, with random weights."""

from __future__ import annotations

import functools
import pickle
import types
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from maskfix.embed.lightcnn import create_lightcnn
from tests.reference.lightcnn import random_state

#: Names in the field `arch`, and the classes of the training set.
PUBLISHED = {
    "lightcnn9": ("LightCNN-9", 79077),
    "lightcnn29": ("LightCNN-29", 79077),
    "lightcnn29v2": ("LightCNN-29v2", 80013),
}


@functools.cache
def lightcnn_state(variant: str, seed: int = 0) -> Mapping[str, Tensor]:
    """Random weights of the recogniser part; drawn once, so copy what is changed."""
    with torch.device("meta"):
        network = create_lightcnn(variant)
    return types.MappingProxyType(random_state({k: v.shape for k, v in network.state_dict().items()}, seed))


def lightcnn_checkpoint(variant: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the authors' training saves: the DataParallel's weights with their classifier, and where training stood."""
    arch, people = PUBLISHED[variant]
    # One number, seen as a whole matrix: a small file.
    full = {**state, "fc2.weight": torch.zeros(1).expand(people, 256)}
    if variant != "lightcnn29v2":
        full["fc2.bias"] = torch.zeros(people)
    weights = OrderedDict((f"module.{key}", value) for key, value in full.items())
    return {"epoch": 80, "arch": arch, "state_dict": weights, "prec1": 98.7}


class _Python2Pickler(pickle._Pickler):
    """Writes texts as Python 2 did, as bytes without a declared encoding."""

    dispatch: ClassVar[dict[Any, Any]] = dict(pickle._Pickler.dispatch)

    def save_str(self, text: str) -> None:
        data = text.encode("ascii")
        pickler: Any = self
        pickler.write(b"U" + bytes([len(data)]) + data)
        pickler.memoize(text)

    dispatch[str] = save_str


def save_as_python2(checkpoint: Any, path: Path) -> Path:
    """Write a file as torch below 1.6 under Python 2 did; the published LightCNN checkpoints are of that time."""
    module: Any = types.ModuleType("python2_pickle")
    module.Pickler, module.dump = _Python2Pickler, pickle.dump
    torch.save(checkpoint, path, pickle_module=module, _use_new_zipfile_serialization=False)
    return path
