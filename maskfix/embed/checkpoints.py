"""Foreign checkpoints of torch: read safely, unwrapped to a state dict, and put into a network key by key."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maskfix.base import EmbedderError
from maskfix.weights import SUFFIX, load_weights

MAX_BYTES = 2**30
"""Larger checkpoints are refused before they are read; those of LightCNN and FaceNet have some 130 MB."""

#: Put before every key by torch's DataParallel.
_PREFIX = "module."


def is_path(text: str) -> bool:
    """Whether a text names a file rather than something in a list: it has a suffix, a separator, or is there."""
    return text.endswith((".pth", ".pt", ".tar", SUFFIX)) or "/" in text or "\\" in text or Path(text).is_file()


def read_state(source: str | Path) -> tuple[dict[str, Tensor], str]:
    """The state dict of a checkpoint.

    Files of torch are read with `weights_only`, so nothing in them is executed. `{"state_dict": ...}` is unwrapped,
    `module.` stripped, half precision widened.

    Args:
        source: Path of a torch file (`.pth`, `.pth.tar`, `.pt`) or of a `.safetensors` file of maskfix.

    Returns:
        Tensors on the CPU by key, and the sha256 of the file's bytes.

    Raises:
        EmbedderError: If the file is missing, too large, damaged, something else, or holds more than tensors.
        WeightsError: If a `.safetensors` file is missing, damaged, or not the one that its manifest lists.
    """
    if str(source).endswith(SUFFIX):
        tensors, row = load_weights(Path(source))
        return _plain(Path(source), tensors), row.sha256
    path = Path(source).expanduser()
    if not path.is_file():
        raise EmbedderError(f"{path}: no such checkpoint file")
    if path.stat().st_size > MAX_BYTES:
        raise EmbedderError(f"{path}: larger than {MAX_BYTES} bytes, no checkpoint of a recogniser")
    # Read once, so that what is hashed is what is loaded.
    blob = path.read_bytes()
    return _plain(path, _unpickle(path, blob)), hashlib.sha256(blob).hexdigest()


def _unpickle(path: Path, blob: bytes) -> Any:
    """What a torch file holds."""
    head = blob[:512].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise EmbedderError(
            f"{path}: a web page, no checkpoint; Google Drive shows one before large files, so fetch it in a browser"
        )
    if head.startswith(b"version https://git-lfs"):
        raise EmbedderError(f"{path}: a Git LFS pointer, no checkpoint; fetch the file itself with git lfs pull")
    try:
        return torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch names the class that it refuses after "GLOBAL"; without one the bytes are no pickle at all.
        if "GLOBAL" in str(error):
            raise EmbedderError(
                f"{path}: holds more than tensors and is not executed; if you trust it, save torch.load(path, "
                "weights_only=False)['state_dict'] to a file of its own and give that"
            ) from error
        raise _damaged(path, error) from error
    except Exception as error:  # zip reader, pickle and storages raise errors of many kinds
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> EmbedderError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0][:100]
    return EmbedderError(f"{path}: damaged, or no checkpoint of torch ({first}); fetch it again")


def _plain(path: Path, loaded: Any) -> dict[str, Tensor]:
    """The tensors of a checkpoint by key."""
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping) or not loaded:
        raise EmbedderError(f"{path}: holds no state dict (a mapping of names to tensors)")
    odd = next(
        (key for key, value in loaded.items() if not isinstance(key, str) or not isinstance(value, Tensor)), None
    )
    if odd is not None:
        raise EmbedderError(f"{path}: holds no state dict, entry {odd!r} is no tensor")
    prefix = _PREFIX if all(key.startswith(_PREFIX) for key in loaded) else ""
    return {
        key.removeprefix(prefix): value.float() if value.is_floating_point() else value for key, value in loaded.items()
    }


def build_loaded(make: Callable[[], nn.Module], state: Mapping[str, Tensor], path: str | Path, what: str) -> nn.Module:
    """Build a network around a state dict that must fit it key by key.

    No weights are drawn at random on the way: that would cost time and move torch's global generator.

    Args:
        make: Builds the network.
        state: Tensors by key; missing `num_batches_tracked` counters, which old torch did not write, are allowed.
        path: Where they come from, for messages.
        what: Name of the network, for messages.

    Returns:
        The network in evaluation mode, frozen.

    Raises:
        EmbedderError: If a key is missing or too many, a shape or kind of number differs, or a number is not finite.
    """
    with torch.device("meta"):
        network = make()
    parts = network.state_dict()
    wanted = {key: value.shape for key, value in parts.items()}
    missing = [key for key in wanted if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in wanted]
    for keys, complaint in ((missing, "it lacks"), (extra, "it has")):
        if keys:
            more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise EmbedderError(f"{path}: does not fit {what}: {complaint} {keys[0]!r}{more}")
    for key, value in state.items():
        if value.shape != wanted[key]:
            raise EmbedderError(
                f"{path}: does not fit {what}: {key!r} has shape {tuple(value.shape)}, not {tuple(wanted[key])}"
            )
        plain = value.layout == torch.strided and value.device.type == "cpu"
        if not plain or value.is_complex() or value.is_floating_point() != parts[key].is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise EmbedderError(f"{path}: does not fit {what}: {key!r} is no dense tensor of real numbers ({kind})")
        if not bool(torch.isfinite(value).all()):
            raise EmbedderError(f"{path}: {key!r} holds NaN or infinity; fetch the file again")
    network.load_state_dict(dict(state), assign=True)
    return network.eval().requires_grad_(False)
