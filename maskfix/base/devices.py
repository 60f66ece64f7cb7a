"""Devices by name, for every door that takes one."""

from __future__ import annotations

from maskfix.base.errors import InputError


def resolve_device(name: str) -> str:
    """Where torch's networks run; torch is imported here and not before.

    Args:
        name: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`.

    Returns:
        `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: If the name means nothing to torch, or CUDA is asked for and absent.

    Example:
        >>> resolve_device("cpu")
        'cpu'
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device: {name!r} is unknown; known: auto, cpu, cuda, cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"device: {name!r} is not supported; known: auto, cpu, cuda, cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device: {name} is asked for and there is none; use cpu or auto")
    return name
