"""One process's terms of the objective, scaled so that their mean over all processes is the whole batch's objective."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from maskfix.losses import ObjectiveWeights, Targets
from maskfix.train.parallel import Processes

_STRUCTURE = ("reconstruction", "correspondence")
_TEXTURE = ("style", "perceptual", "identity", "contrast")


def own_texture_rows(weights: ObjectiveWeights, batch_size: int, rows: slice) -> tuple[int, int]:
    """How many of the batch's first `texture_samples` rows are among a process's own, and how many there are in all.

    Example:
        >>> own_texture_rows(ObjectiveWeights(texture_samples=12), 16, slice(8, 16))
        (4, 12)
    """
    whole = min(weights.texture_samples or batch_size, batch_size)
    return max(0, min(rows.stop, whole) - rows.start), whole


def whole_batch_terms(
    terms: dict[str, Tensor],
    targets: Targets,
    weights: ObjectiveWeights,
    processes: Processes,
    textured: float | None,
    zero: Callable[[], Tensor],
) -> dict[str, Tensor]:
    """Scale what `losses.completion_objective` says of a process's rows; in one process nothing changes.

    Reconstruction and correspondence are means under weights that differ from picture to picture, the texture terms are
    means over the batch's first rows only: each is multiplied by the process's share of the denominator, which makes
    the mean over processes that of one process with the whole batch. The occlusion loss needs no scaling.

    Args:
        terms: Of this process's rows, without texture terms where none of its rows has any.
        targets: Of this process's rows.
        weights: The objective's, with `texture_samples` of the whole batch or of this process.
        processes: All of them.
        textured: This process's rows with texture terms over the mean of all processes' such rows; None where texture
            plays no part in this step.
        zero: Makes a 0 that hangs on the completed pictures of the texture terms' scales: a process without rows for
            texture runs through the same backward pass, in whose batch norms it meets the others.

    Returns:
        The same names in every process.
    """
    if processes.count == 1:
        return terms
    weight = 1 + (weights.occluded_weight - 1) * targets.occlusion.float()
    # Area averages keep sums: the share at the finest scale is the share at all of them.
    shares = processes.share(torch.stack([weight.sum(), targets.uv_visible.float().sum()]))
    scaled = {name: terms[name] * share for name, share in zip(_STRUCTURE, shares, strict=True) if name in terms}
    if textured is not None:
        wanted = [name for name in _TEXTURE if getattr(weights, name) > 0]
        scaled |= {name: terms[name] * textured if name in terms else zero() for name in wanted}
    if "occlusion" in terms:
        scaled["occlusion"] = terms["occlusion"]
    sums = {
        part: sum(
            (getattr(weights, name) * scaled[name] for name in names if name in scaled), start=weight.new_zeros(())
        )
        for part, names in (("structure", _STRUCTURE), ("texture", _TEXTURE), ("occlusion", ("occlusion",)))
    }
    total = sums["structure"] + sums["texture"] + sums.pop("occlusion")
    return scaled | sums | {"total": total}


def view_of_own_rows(view: Callable[[Tensor], Tensor], images: Tensor, rows: slice, whole: int) -> Tensor:
    """A random view of a process's pictures, drawn as if the whole batch's were there.

    Args:
        view: Draws for each picture in turn; changes none by another.
        images: `(N, 3, H, W)`, this process's.
        rows: Where they stand in the batch.
        whole: How many pictures one process would have drawn for.
    """
    before, after = rows.start, whole - rows.start - len(images)
    if before == after == 0:
        return view(images)
    return view(functional.pad(images, (0, 0, 0, 0, 0, 0, before, after)))[before : before + len(images)]
