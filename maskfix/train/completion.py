"""Stage 2: encoder, decoder and fusion trained together on the paper's objective (sections 3.4 and 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from maskfix.base import CheckpointError, InputError
from maskfix.data import decode_correspondence
from maskfix.losses import Outputs, Targets, TextureNetwork, completion_objective, random_view
from maskfix.restore import CompletionNetwork, create_network
from maskfix.train.adversary import Adversary
from maskfix.train.averaging import average_of, averaged_weights, averaging
from maskfix.train.checkpoint import (
    append_log,
    drop_leftovers,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
    trim_log,
)
from maskfix.train.config import CompletionConfig, as_plain
from maskfix.train.loop import Progress, Saver, learning_rate, make_fabric, open_views, set_learning_rate
from maskfix.train.texture import Texture, load_texture
from maskfix.train.validate import validate
from maskfix.train.views import Batch, BatchDataset, as_pictures, batches

CHECKPOINT = "completion.pt"
LOG = "completion.jsonl"


class _Parts(NamedTuple):
    """What one step needs."""

    config: CompletionConfig
    fabric: Any
    model: Any
    optimiser: torch.optim.Optimizer
    texture: Texture | None
    adversary: Adversary | None


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

    Args:
        config: Stage 2's configuration.
        faces: Folder that `maskfix prepare` wrote.
        out: Folder for `completion.pt` (checkpoint) and `completion.jsonl` (log).
        templates: Folder in MaskTheFace's layout, or None for this project's own templates.
        identity: The identity network as ONNX; may be left out only if identity and style weigh nothing.
        encoder: Stage 1's checkpoint, or None to start from random weights.
        start: Stage 2 checkpoint of another run whose averaged network to start from, with other settings.
        device: `auto`, `cpu` or `cuda`.
        workers: Processes that make batches.
        progress: Called after each step.
        more_identity: More networks for the identity term, see `train.texture.load_texture`.
        judges: Networks for validation alone.

    Returns:
        Path of the checkpoint; its `average` entry (`network` where averaging is off) is what is released.

    Raises:
        DatasetError: If the faces or templates cannot be used.
        CheckpointError: If a checkpoint is damaged or of another configuration.
        InputError: If the objective needs an identity network and none is given.
    """
    out = Path(out)
    fabric = make_fabric(config.precision, device)
    views, training, validation = open_views(faces, templates, config)
    texture = _texture(config, identity, more_identity, judges)
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        network = create_network(config.network, config.fusion).to(memory_format=torch.channels_last)
    average = average_of(network, config.average)
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    record = _record(config, texture)
    state = load_checkpoint(out / CHECKPOINT, record)
    if state is None:
        _start_from(encoder, start, network, average)
    adversary = Adversary(config.learning_rate, config.seed, fabric.device) if config.adversarial else None
    first = _restore(state, network, average, optimiser, out)
    if state is not None and adversary is not None:
        adversary.load_state_dict(state["adversary"])
    model, optimiser = fabric.setup(network, optimiser)
    average.to(fabric.device)
    if texture is not None:
        texture.to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    parts = _Parts(config, fabric, model, optimiser, texture, adversary)
    out.mkdir(parents=True, exist_ok=True)
    drop_leftovers(out / CHECKPOINT)

    def save(step: int) -> None:
        stored = {"config": record, "step": step, "network": network.state_dict(), "optimiser": optimiser.state_dict()}
        stored |= {"average": average.state_dict()}
        save_checkpoint(out / CHECKPOINT, stored | ({"adversary": adversary.state_dict()} if adversary else {}))

    saver = Saver(save, config.checkpoint_seconds)
    dataset = BatchDataset(views, training, config.batch_size, config.seed)
    for step, batch in enumerate(batches(dataset, first, config.steps, workers), first):
        figures = _step(parts, step, batch)
        # Early averages would remember the first, random weights for long; a short memory grows into the full one.
        average.multi_avg_fn = averaging(min(config.average, (1 + step) / (10 + step)))
        average.update_parameters(network)
        last = step + 1 == config.steps
        if config.validate_every and (last or (step + 1) % config.validate_every == 0) and len(validation):
            figures |= validate(released(average, network, config), views, validation, config, fabric, texture)
        append_log(out / LOG, {"step": step + 1, **figures})
        saver.maybe(step + 1, last)
        if progress:
            progress(step + 1, figures)
    return out / CHECKPOINT


def _record(config: CompletionConfig, texture: Texture | None) -> dict[str, Any]:
    """What a checkpoint says of its run; options that came later are left out where unused, so that old runs go on."""
    record = as_plain(config) | {
        "style_network": texture.style_network if texture else "none",
        "identity_networks": texture.identity_networks if texture else "none",
    }
    for table, name, default in (
        (record, "fusion", True),
        (record, "adversarial", 0.0),
        (record, "texture_in_turn", False),
        (record["objective"], "perceptual", 0.0),
    ):
        if table[name] == default:
            del table[name]
    return record


def released(average: AveragedModel, network: CompletionNetwork, config: CompletionConfig) -> torch.nn.Module:
    """The network that is validated and released: the moving average where there is one."""
    return average.module if config.average else network


def _texture(
    config: CompletionConfig,
    identity: str | Path | None,
    others: Sequence[str | Path],
    judges: Sequence[str | Path],
) -> Texture | None:
    """Load the texture networks where the objective needs them."""
    if not any((config.objective.identity, config.objective.style, config.objective.perceptual)):
        return None
    if identity is None:
        raise InputError(
            "identity network: the objective weighs identity, style or perceptual loss; pass --identity FILE.onnx"
        )
    return load_texture(identity, others, judges)


def _start_from(
    encoder: str | Path | None, start: str | Path | None, network: CompletionNetwork, average: AveragedModel
) -> None:
    """Take the whole network of another run, or the encoder that stage 1 trained."""
    if start is not None:
        _take(start, network, lambda state: averaged_weights(state["average"]))
    elif encoder is not None:
        _take(encoder, network.encoder, lambda state: state["encoder"])
    average.module.load_state_dict(network.state_dict())


def _take(path: str | Path, module: torch.nn.Module, pick: Callable[[dict[str, Any]], dict[str, Tensor]]) -> None:
    """Load a part of a checkpoint into a module."""
    state = read_checkpoint(path)
    try:
        module.load_state_dict(pick(state))
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: does not hold the weights that this run starts from") from error


def _restore(
    state: dict[str, Any] | None,
    network: CompletionNetwork,
    average: AveragedModel,
    optimiser: torch.optim.Optimizer,
    out: Path,
) -> int:
    """Load a checkpoint; returns the steps done."""
    trim_log(out / LOG, state["step"] if state else 0)
    if state is None:
        return 0
    network.load_state_dict(state["network"])
    average.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])


def targets_of(batch: Batch, device: torch.device) -> Targets:
    """What the objective compares with."""
    uv, visible = decode_correspondence(batch.correspondence.numpy())
    return Targets(
        image=as_pictures(batch.clean, device),
        uv=torch.from_numpy(uv).permute(0, 3, 1, 2).to(device),
        uv_visible=torch.from_numpy(visible)[:, None].to(device),
        occlusion=batch.alpha[:, None].to(device).float() / 255,
    )


def _step(parts: _Parts, step: int, batch: Batch) -> dict[str, float]:
    """One optimiser step; returns the terms of the objective."""
    config, fabric = parts.config, parts.fabric
    set_learning_rate(parts.optimiser, learning_rate(config, step))
    parts.model.train()
    picture, targets = as_pictures(batch.occluded, fabric.device), targets_of(batch, fabric.device)
    decoded = parts.model(picture)
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    texture: TextureNetwork | None = None
    adversary = None
    if step >= config.texture_start:
        texture, adversary = parts.texture, parts.adversary
    if parts.texture is not None and texture is not None and config.texture_in_turn:
        texture = parts.texture.one(step)

    def compose(images: Tensor) -> Tensor:
        # With the visible pixels, as a user will see it: a term on it acts under the mask alone.
        rows = slice(len(images))
        return torch.lerp(picture[rows], images, targets.occlusion[rows])

    with fabric.autocast():
        terms = completion_objective(
            Outputs([image.float() for image in decoded.images], decoded.uvs, decoded.occlusion),
            targets,
            config.objective,
            texture=texture,
            view=(lambda images: random_view(compose(images), generator)) if config.perturb_identity else None,
        )
        if adversary is not None:
            composed = compose(decoded.images[0].float()[: config.objective.texture_samples])
            real, covered = targets.image[: len(composed)], targets.occlusion[: len(composed)]
            terms["adversarial"] = adversary.term(composed, real, covered)
            terms["total"] = terms["total"] + config.adversarial * terms["adversarial"]
    parts.optimiser.zero_grad(set_to_none=True)
    fabric.backward(terms["total"])
    if config.clip:
        fabric.clip_gradients(parts.model, parts.optimiser, max_norm=config.clip)
    parts.optimiser.step()
    figures = {name: float(value.detach()) for name, value in terms.items()}
    if adversary is not None:
        figures["discriminator"] = adversary.learn(real, composed, covered, fabric.autocast())
    return figures
