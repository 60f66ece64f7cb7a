"""Stage 2: encoder, decoder and fusion trained together on the paper's objective (sections 3.4 and 4.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from maskfix.base import InputError
from maskfix.data import emphasise
from maskfix.losses import (
    Outputs,
    Targets,
    TextureNetwork,
    TextureTarget,
    completion_objective,
    random_view,
    texture_target_of,
)
from maskfix.restore import SCALES, CompletionNetwork, blend_weight, create_network
from maskfix.train.adversary import Adversary
from maskfix.train.averaging import average_of, update_average
from maskfix.train.batch_norm import synchronise_norms
from maskfix.train.batches import Batch, BatchDataset, as_pictures, batches
from maskfix.train.checkpoint import append_log, load_checkpoint, restore, run_folder, run_state, save_checkpoint
from maskfix.train.config import CompletionConfig, as_plain
from maskfix.train.identity_head import IdentityHead
from maskfix.train.loop import (
    Progress,
    Saver,
    check_finite,
    learning_rate,
    make_fabric,
    open_views,
    set_learning_rate,
)
from maskfix.train.muon import MuonAndAdam
from maskfix.train.parallel import Processes
from maskfix.train.shares import own_texture_rows, view_of_own_rows, whole_batch_terms
from maskfix.train.sources import run_sources
from maskfix.train.starting import describe_start, start_from
from maskfix.train.strangers import LENGTH, Strangers
from maskfix.train.texture import Texture, load_texture, texture_at
from maskfix.train.validate import validate

CHECKPOINT = "completion.pt"
LOG = "completion.jsonl"


class _Parts(NamedTuple):
    """What one step needs."""

    config: CompletionConfig
    checkpoint: Path
    fabric: Any
    processes: Processes
    rows: slice
    model: Any
    optimiser: torch.optim.Optimizer
    texture: Texture | None
    adversary: Adversary | None = None
    identity_head: IdentityHead | None = None
    strangers: Strangers | None = None


def train_completion(
    config: CompletionConfig,
    faces: str | Path,
    out: str | Path,
    templates: str | Path | None = None,
    identity: str | Path | None = None,
    encoder: str | Path | None = None,
    start: str | Path | None = None,
    device: str = "auto",
    workers: int = 1,
    progress: Progress | None = None,
    more_identity: Sequence[str | Path] = (),
    judges: Sequence[str | Path] = (),
) -> Path:
    """Train the completion network; continues from its checkpoint.

    Under torchrun each process takes an equal share of every batch. Gradients are averaged, batch norm sees the whole
    batch, and draws and means are the whole batch's, so that the run is that of one process but for rounding.

    Args:
        config: Stage 2's configuration.
        faces: Folder that `maskfix prepare` wrote.
        out: Folder for `completion.pt` (checkpoint) and `completion.jsonl` (log).
        templates: Folder in MaskTheFace's layout, or None for this project's own templates.
        identity: The identity network as ONNX; may be left out only if identity and style weigh nothing.
        encoder: Stage 1's checkpoint, or None to start from random weights.
        start: What to start from with other settings: another run's stage 2 checkpoint, whose averaged network is
            taken, or released weights, by name or as a `.safetensors` file. A network without this one's expansions
            (`restore.load_narrower`) will do.
        device: `auto`, `cpu` or `cuda`.
        workers: Processes that make batches.
        progress: Called after each step.
        more_identity: More networks for the identity term, see `train.texture.load_texture`.
        judges: Networks for validation alone.

    Returns:
        Path of the checkpoint; its `average` entry (`network` where averaging is off) is what is released.

    Raises:
        DatasetError: If the faces or templates cannot be used.
        CheckpointError: If a checkpoint is damaged or of another configuration, other faces, identity networks or
            another start, or if another process trains into `out`.
        MaskfixError: If a loss is not finite.
        WeightsError: If the released weights to start from are unknown or damaged.
        InputError: If the objective needs an identity network and none is given, or the processes that torchrun
            started cannot share a batch equally.
    """
    out = Path(out)
    fabric = make_fabric(config.precision, device, unused=_some_unused(config))
    processes = Processes(fabric)
    rows = processes.rows(config.batch_size)
    views, training, validation = open_views(faces, templates, config)
    texture = _texture(config, identity, more_identity, judges)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = create_network(config.network, config.fusion)
    # Before its optimiser is made: the state that a checkpoint gives follows the parameters as they are then.
    network.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = average_of(network, config.average)
    synchronise_norms(network, fabric)
    optimiser = _make_optimiser(config, network)
    record = _record(config, texture)
    sources = run_sources(faces, None if texture is None else texture.sha256, templates=templates)
    sources |= describe_start(encoder, start)
    state = load_checkpoint(out / CHECKPOINT, record, sources)
    if state is None:
        start_from(encoder, start, network, average)
    strangers = max(1, min(LENGTH, len(training) // 2))
    beside = _beside(config, network, texture, fabric.device, processes, strangers)
    first = restore(state, out / CHECKPOINT, {"network": network, "average": average, "optimiser": optimiser, **beside})
    processes.check_step(first, out / CHECKPOINT)
    model, optimiser = fabric.setup(network, optimiser)
    if texture is not None:
        texture.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    parts = _Parts(config, out / CHECKPOINT, fabric, processes, rows, model, optimiser, texture, **beside)

    def save(step: int) -> None:
        stated = {"network": network, "optimiser": optimiser, "average": average, **beside}
        save_checkpoint(out / CHECKPOINT, run_state(record, sources, step, **stated))

    saver = Saver(save, config.checkpoint_seconds)
    often = emphasise([views.store.names[face] for face in training], config.emphasis)
    often *= np.where(views.whole[training], config.whole, 1.0)
    dataset = BatchDataset(views, training, config.batch_size, config.seed, rows=rows, often=often)
    with run_folder(out / CHECKPOINT, out / LOG, first, processes.first):
        for step, batch in enumerate(batches(dataset, first, config.steps, workers, fabric.device), first):
            figures = _step(parts, step, batch)
            update_average(average, network, config.average, step)
            if not processes.first:
                continue
            if config.validates(step) and len(validation):
                figures |= validate(released(average, network, config), views, validation, config, fabric, texture)
            append_log(out / LOG, {"step": step + 1, **figures})
            saver.maybe(step + 1, last=step + 1 == config.steps)
            if progress:
                progress(step + 1, figures)
    processes.wait()
    return out / CHECKPOINT


def _some_unused(config: CompletionConfig) -> bool:
    """Whether the objective leaves some head of the network out, at some scale or altogether."""
    weights = config.objective
    whole = weights.reconstruction > 0 and weights.correspondence > 0 and weights.occlusion > 0
    return not whole or len(weights.structure_scales) < SCALES


def _record(config: CompletionConfig, texture: Texture | None) -> dict[str, Any]:
    """What a checkpoint says of its run; options that came later are left out where unused, so that old runs go on."""
    record = as_plain(config) | {
        "style_network": texture.style_network if texture else "none",
        "identity_networks": texture.identity_networks if texture else "none",
    }
    for table, name, default in (
        (record, "optimiser", "adam"),
        (record, "fusion", True),
        (record, "adversarial", 0.0),
        (record, "texture_in_turn", False),
        (record, "identity_head", 0.0),
        (record, "compose_texture", False),
        (record, "mirror_texture", False),
        (record, "emphasis", {}),
        (record, "whole", 1.0),
        (record["views"], "trim_whole", 1.0),
        (record["objective"], "perceptual", 0.0),
        (record["objective"], "contrast", 0.0),
        (record["objective"], "contrast_temperature", 0.07),
    ):
        if table[name] == default:
            del table[name]
    return record


def released(average: AveragedModel, network: CompletionNetwork, config: CompletionConfig) -> torch.nn.Module:
    """The network that is validated and released: the moving average where there is one."""
    return average.module if config.average else network


def _beside(
    config: CompletionConfig,
    network: CompletionNetwork,
    texture: Texture | None,
    device: torch.device,
    processes: Processes,
    strangers: int,
) -> dict[str, Any]:
    """What trains beside the network and has a place of its own in checkpoints, by that place's name."""
    found: dict[str, Any] = {}
    if config.adversarial:
        found["adversary"] = Adversary(config.learning_rate, config.seed, device, processes)
    if config.identity_head:
        if texture is None:
            raise InputError("identity_head: it learns from identity networks; give the objective's identity a weight")
        dimensions = texture.dimensions()
        found["identity_head"] = IdentityHead(network, dimensions, config.learning_rate, config.seed, device, processes)
    if config.objective.contrast and texture is not None:
        dimensions = texture.dimensions()
        asked = dimensions if config.texture_in_turn else [sum(dimensions)]
        found["strangers"] = Strangers(asked, config.seed, device, processes, strangers)
    return found


def _make_optimiser(config: CompletionConfig, network: CompletionNetwork) -> torch.optim.Optimizer:
    """The optimiser of the completion network."""
    if config.optimiser == "muon":
        return MuonAndAdam(network, config.learning_rate)
    return torch.optim.Adam(network.parameters(), lr=config.learning_rate)


def _texture(
    config: CompletionConfig,
    identity: str | Path | None,
    others: Sequence[str | Path],
    judges: Sequence[str | Path],
) -> Texture | None:
    """Load the texture networks where the objective needs them."""
    objective = config.objective
    if not any((objective.identity, objective.contrast, objective.style, objective.perceptual)):
        return None
    if identity is None:
        raise InputError(
            "identity network: the objective weighs identity, contrast, style or perceptual loss; "
            "pass --identity FILE.onnx"
        )
    return load_texture(identity, others, judges)


def targets_of(batch: Batch, device: torch.device) -> Targets:
    """What the objective compares with."""
    # Decoded where it is used, as `data.decode_correspondence` does: a quarter of the bytes travel to a GPU.
    coded = batch.correspondence.to(device, non_blocking=True).permute(0, 3, 1, 2)
    return Targets(
        image=as_pictures(batch.clean, device),
        uv=(coded.float() - 1).clamp_min(0) / 254,
        uv_visible=coded[:, :1] > 0,
        occlusion=batch.alpha[:, None].to(device).float() / 255,
    )


def _step(parts: _Parts, step: int, batch: Batch) -> dict[str, float]:
    """One optimiser step; returns the terms of the objective."""
    config, fabric, rows = parts.config, parts.fabric, parts.rows
    set_learning_rate(parts.optimiser, learning_rate(config, step))
    parts.model.train()
    picture, targets = as_pictures(batch.occluded, fabric.device), targets_of(batch, fabric.device)
    decoded = parts.model(picture)
    weight = blend_weight(targets.occlusion)
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    own, whole = own_texture_rows(config.objective, config.batch_size, rows)
    texture_scales = config.objective.texture_scales
    texture: TextureNetwork | None = None
    if parts.texture is not None and step >= config.texture_start:
        texture = texture_at(parts.texture, step, config.texture_in_turn, config.mirror_texture)
    adversary = parts.adversary if step >= config.texture_start else None

    def compose(images: Tensor) -> Tensor:
        # With the visible pixels, as a user will see it: a term on it acts under the mask and its rim alone. By the
        # bare opacity, soft edges would keep some of the mask, and the network would learn to paint against that.
        count = len(images)
        return torch.lerp(picture[:count], images, weight[:count])

    composed_texture = compose if config.compose_texture else None
    known = _texture_target(parts, step, targets, batch.face, texture if own else None, own, composed_texture)

    def view(images: Tensor) -> Tensor:
        shown = images if config.compose_texture else compose(images)
        return view_of_own_rows(lambda pictures: random_view(pictures, generator), shown, rows, whole)

    with fabric.autocast():
        terms = completion_objective(
            Outputs([image.float() for image in decoded.images], decoded.uvs, decoded.occlusion),
            targets,
            replace(config.objective, texture_samples=max(1, own)),
            texture=texture if own else None,
            texture_target=known,
            compose=composed_texture,
            view=view if config.perturb_identity else None,
        )
        textured = None if texture is None else own * parts.processes.count / whole
        terms = whole_batch_terms(
            terms,
            targets,
            config.objective,
            parts.processes,
            textured,
            lambda: torch.stack([decoded.images[scale - 1].sum() for scale in texture_scales]).sum() * 0,
        )
        if parts.identity_head is not None and textured is not None:
            terms["identity_head"] = (
                parts.identity_head.term(known.embedding, _asked(config, parts.identity_head, step)) * textured
            )
            terms["total"] = terms["total"] + config.identity_head * terms["identity_head"]
        if adversary is not None:
            composed = compose(decoded.images[0].float()[:own])
            real, covered = targets.image[: len(composed)], targets.occlusion[: len(composed)]
            terms["adversarial"] = adversary.term(composed, real, covered)
            terms["total"] = terms["total"] + config.adversarial * terms["adversarial"]
    parts.optimiser.zero_grad(set_to_none=True)
    fabric.backward(terms["total"])
    # Not by Fabric, which sees an optimiser's own groups alone, and Muon's matrices stand in none. With DDP every
    # process has the whole batch's gradients, and stops with the others.
    norm = torch.nn.utils.clip_grad_norm_(parts.model.parameters(), config.clip or math.inf)
    check_finite(step + 1, parts.checkpoint, float(norm))
    parts.optimiser.step()
    if textured is not None:
        _learn_beside(parts, step, known, batch.face, min(whole, rows.stop - rows.start))
    figures = {name: float(value.detach()) for name, value in terms.items()}
    if adversary is not None:
        figures["discriminator"] = adversary.learn(real, composed, covered, fabric.autocast())
    return parts.processes.average(figures)


def _asked(config: CompletionConfig, head: IdentityHead, step: int) -> list[int]:
    """The identity networks of one step, by number."""
    return [step % head.count] if config.texture_in_turn else list(range(head.count))


def _learn_beside(parts: _Parts, step: int, known: TextureTarget, faces: Tensor, rows: int) -> None:
    """What the clean faces' embeddings teach besides; `rows` is the most pictures with texture in any process."""
    if parts.identity_head is not None:
        parts.identity_head.learn()
    if parts.strangers is not None:
        parts.strangers.add(step, known.embedding, faces, rows)


def _texture_target(
    parts: _Parts,
    step: int,
    targets: Targets,
    faces: Tensor,
    texture: TextureNetwork | None,
    own: int,
    compose: Callable[[Tensor], Tensor] | None,
) -> TextureTarget:
    """What the texture network makes of the clean pictures, where more than the objective needs it: one pass."""
    if texture is None or (parts.identity_head is None and parts.strangers is None):
        return TextureTarget()
    side = targets.image.shape[2]
    sizes = [(side >> scale - 1, side >> scale - 1) for scale in parts.config.objective.texture_scales]
    known = texture_target_of(targets.image[:own], sizes, texture, compose)
    if parts.strangers is None:
        return known
    return known._replace(strangers=parts.strangers.of(step), own=parts.strangers.own(step, faces[:own]))
