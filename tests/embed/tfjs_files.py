"""Graph models in TensorFlow.js's published format, written for tests."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def node(name: str, op: str, *inputs: str, stride: int = 1, padding: str = "VALID") -> dict[str, Any]:
    """One node; convolutions carry strides and padding as the format has them."""
    row: dict[str, Any] = {"name": name, "op": op, "input": list(inputs), "attr": {}}
    if "Conv" in op:
        row["attr"] = {
            "strides": {"list": {"i": ["1", str(stride), str(stride), "1"]}},
            "padding": {"s": base64.b64encode(padding.encode()).decode()},
        }
    return row


def write_graph(
    path: Path, nodes: Sequence[Mapping[str, Any]], weights: Mapping[str, NDArray[Any]], half: Sequence[str] = ()
) -> Path:
    """Write a model with its weights in two shards; constants named in `half` are stored as float16."""
    rows, data = [], b""
    for name, value in weights.items():
        dtype = "int32" if value.dtype.kind == "i" else "float32"
        row: dict[str, Any] = {"name": name, "shape": list(value.shape), "dtype": dtype}
        if name in half:
            row["quantization"] = {"dtype": "float16", "original_dtype": "float32"}
        data += value.astype(np.float16 if name in half else dtype).tobytes()
        rows.append(row)
    constants = [{"name": name, "op": "Const", "attr": {}} for name in weights]
    shards = [f"{path.stem}.1.bin", f"{path.stem}.bin"]
    for shard, part in zip(shards, (data[:6], data[6:]), strict=True):
        (path.parent / shard).write_bytes(part)
    manifest = [{"paths": shards, "weights": rows}]
    model = {
        "format": "graph-model",
        "modelTopology": {"node": [*constants, {"name": "x", "op": "Placeholder", "attr": {}}, *nodes]},
        "weightsManifest": manifest,
    }
    path.write_text(json.dumps(model))
    return path
