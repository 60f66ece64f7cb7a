"""Blocks and their results as bytes, for workers on other machines; plain arrays, nothing is unpickled."""

from __future__ import annotations

import io
import json

import numpy as np

from maskfix.base import Landmarks
from protocols.ijb.extract import BlockResult
from protocols.ijb.units import Job


def pack_job(job: Job) -> bytes:
    """A block as the bytes of an .npz file: plain arrays, which Arrow carries as they are."""
    stream = io.BytesIO()
    np.savez(
        stream,
        number=np.array(job.number),
        paths=np.array(job.paths, dtype=np.str_),
        digest=job.digest,
        points=job.points,
        box=job.box,
        probe=job.probe,
    )
    return stream.getvalue()


def unpack_job(data: bytes) -> Job:
    """What `pack_job` packed."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return Job(
            int(file["number"]),
            tuple(file["paths"].tolist()),
            file["digest"],
            file["points"],
            file["box"],
            file["probe"],
        )


def pack_result(result: BlockResult) -> bytes:
    """A result as the bytes of an .npz file."""
    found = list(result.found.values())
    about = {
        "number": result.number,
        "reasons": {str(place): reason for place, reason in result.reasons.items()},
        "seconds": result.seconds,
        "landmarks": [[item.score, item.reason] for item in found],
    }
    stream = io.BytesIO()
    np.savez(
        stream,
        about=np.array(json.dumps(about)),
        flags=result.flags,
        figures=result.figures,
        keys=np.frombuffer(b"".join(result.found), dtype=np.uint8).reshape(-1, 32),
        five=_points([item.five for item in found], 5),
        mask=_points([item.mask for item in found], 6),
        **{f"features{place}": values for place, values in enumerate(result.features)},
        **{f"valid{place}": values for place, values in enumerate(result.valid)},
    )
    return stream.getvalue()


def unpack_result(data: bytes) -> BlockResult:
    """What `pack_result` packed."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    about = json.loads(str(arrays["about"]))
    count = sum(name.startswith("features") for name in arrays)
    found = {}
    for row, (score, reason) in enumerate(about["landmarks"]):
        five, mask = arrays["five"][row], arrays["mask"][row]
        found[arrays["keys"][row].tobytes()] = Landmarks(
            None if np.isnan(five).any() else five, None if np.isnan(mask).any() else mask, None, score, reason
        )
    return BlockResult(
        about["number"],
        tuple(arrays[f"features{place}"] for place in range(count)),
        tuple(arrays[f"valid{place}"] for place in range(count)),
        arrays["flags"],
        {int(place): reason for place, reason in about["reasons"].items()},
        arrays["figures"],
        found,
        about["seconds"],
    )


def _points(items: list[np.ndarray | None], count: int) -> np.ndarray:  # type: ignore[type-arg]
    """Points of each face, nan where there are none."""
    nothing = np.full((count, 2), np.nan, dtype=np.float32)
    stacked = [nothing if item is None else item for item in items]
    return np.asarray(stacked, dtype=np.float32).reshape(-1, count, 2)
