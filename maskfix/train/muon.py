"""Muon for the network's matrices, Adam for the rest, under one learning rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from maskfix.base import DependencyError

_LEAST = 16


class MuonAndAdam(torch.optim.Adam):
    """Orthogonalised momentum (Jordan et al., 2024; `torch.optim.Muon`) for the weights that are matrices.

    Adam scales every weight by itself; Muon gives all directions of a matrix the same step, the rare ones too (what it
    was worth here is in weights/training/runs.md). A convolution counts as the matrix from all that its kernel sees to
    its outputs. Weights with fewer than 16 channels on either side (those that read or write a picture), norms, biases
    and positions are Adam's. Steps are scaled to those of Adam (`match_rms_adamw`); a learning rate for Adam will do.

    Args:
        network: Whose parameters to optimise.
        learning_rate: Of both.

    Raises:
        DependencyError: If this torch has no Muon, which came with 2.9.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(16, 16, 3), nn.Conv2d(16, 3, 1))
        >>> optimiser = MuonAndAdam(network, 1e-3)
        >>> [tuple(matrix.shape) for matrix in optimiser.matrices]
        [(16, 144)]
    """

    def __init__(self, network: nn.Module, learning_rate: float) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise DependencyError("optimiser muon: needs torch 2.9 or newer; pip install -U torch, or take adam")
        parameters = list(network.parameters())
        self._whole = [parameter for parameter in parameters if _is_matrix(parameter)]
        super().__init__([p for p in parameters if not _is_matrix(p)], lr=learning_rate)
        self._muon = torch.optim.Muon(
            [nn.Parameter(_as_matrix(parameter.data)) for parameter in self._whole],
            lr=learning_rate,
            weight_decay=0.0,
            adjust_lr_fn="match_rms_adamw",
        )

    @property
    def matrices(self) -> list[Tensor]:
        """Muon's parameters: views of the network's own."""
        found: list[Tensor] = self._muon.param_groups[0]["params"]
        return found

    def step(self, closure: Any = None) -> Any:
        """One step of both, at the learning rate of the first parameter group."""
        for group in self._muon.param_groups:
            group["lr"] = self.param_groups[0]["lr"]
        for parameter, matrix in zip(self._whole, self.matrices, strict=True):
            # Viewed anew: the parameter may have moved to another device since.
            matrix.data = _as_matrix(parameter.data)
            matrix.grad = None if parameter.grad is None else _as_matrix(parameter.grad, like=parameter)
        loss = super().step(closure)
        self._muon.step()  # type: ignore[no-untyped-call]
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients, those of the matrices' views too."""
        super().zero_grad(set_to_none)
        for parameter, matrix in zip(self._whole, self.matrices, strict=True):
            parameter.grad = matrix.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Both optimisers' states."""
        return {"adam": super().state_dict(), "muon": self._muon.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a checkpoint of both."""
        super().load_state_dict(state_dict["adam"])
        self._muon.load_state_dict(state_dict["muon"])


def _is_matrix(parameter: Tensor) -> bool:
    """Whether Muon is to step it: a linear layer or a convolution with channels enough on both sides."""
    return parameter.ndim in (2, 4) and min(parameter.shape[:2]) >= _LEAST


def _as_matrix(weight: Tensor, like: Tensor | None = None) -> Tensor:
    """A weight as `(outputs, all that they see)`: a view, whose columns lie as memory does.

    Args:
        weight: A weight, or its gradient.
        like: The weight whose columns a gradient is to follow.
    """
    like = weight if like is None else like
    if weight.ndim == 4 and like.is_contiguous(memory_format=torch.channels_last):
        return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
    return weight.reshape(len(weight), -1)
