"""Validation during training: what the network does on held-out faces, never on a test set."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from maskfix.restore import blend_weight
from maskfix.train.batches import BatchDataset, as_pictures
from maskfix.train.config import CompletionConfig
from maskfix.train.texture import Texture
from maskfix.train.views import OccludedViews

FACES = 256
_BATCH = 32


@torch.no_grad()
def validate(
    network: torch.nn.Module,
    views: OccludedViews,
    faces: NDArray[np.int64],
    config: CompletionConfig,
    fabric: Any,
    texture: Texture | None,
) -> dict[str, float]:
    """Complete the same masked held-out faces each time, as a user will, and compare them with the clean ones.

    Args:
        network: The network that would be released.
        views: Where faces and masks come from.
        faces: Indices of the held-out faces, one at least; the first 256 are used.
        config: Stage 2's configuration.
        fabric: Device and precision.
        texture: For the identity figures, or None.

    Returns:
        `val_psnr_masked` (dB inside the true mask, mean over faces), `val_coverage_error` (mean absolute error of the
        occluded share), and for each identity network and judge `val_identity_masked_NAME`, `val_identity_NAME` (mean
        cosine to the clean face before and after).
        A figure over masked faces is left out where no face drew a mask.
    """
    network.eval()
    size = min(_BATCH, len(faces))
    count = min(FACES, len(faces))
    data = BatchDataset(views, faces[:FACES], size, config.seed + 1)
    rows = [_figures(network, data[step], fabric, texture, count - step * size) for step in range(-(-count // size))]
    network.train()
    columns = {name: torch.cat([row[name] for row in rows]) for name in rows[0]}
    return {name: float(values.double().mean()) for name, values in columns.items() if len(values)}


def _figures(
    network: torch.nn.Module, batch: Any, fabric: Any, texture: Texture | None, count: int
) -> dict[str, torch.Tensor]:
    """Figures of the first `count` faces of a batch, each of those that it is known of."""
    batch = type(batch)(*(column[:count] for column in batch))
    clean, masked = as_pictures(batch.clean, fabric.device), as_pictures(batch.occluded, fabric.device)
    alpha = batch.alpha[:, None].to(fabric.device).float() / 255
    with fabric.autocast():
        decoded = network(masked, False)
    occlusion = torch.sigmoid(decoded.occlusion.float())
    image = torch.lerp(masked, decoded.images[0].float(), blend_weight(occlusion))
    worn = alpha.amax((1, 2, 3)) > 0
    error = ((image - clean).square() * (alpha > 0.5)).sum((1, 2, 3)) / (3 * (alpha > 0.5).sum((1, 2, 3)).clamp_min(1))
    figures = {
        "val_psnr_masked": -10 * torch.log10(error[worn].clamp_min(1e-8)),
        "val_coverage_error": ((occlusion > 0.5).float() - (alpha > 0.5).float()).mean((1, 2, 3)).abs(),
    }
    if texture is not None:
        truth, before, after = (texture.opinions(x.clamp(0, 1)) for x in (clean, masked, image))
        for name in truth:
            for label, given in ((f"val_identity_masked_{name}", before), (f"val_identity_{name}", after)):
                similar = functional.cosine_similarity(given[name].float(), truth[name].float())
                figures[label] = similar[worn]
    return {name: values.cpu() for name, values in figures.items()}
