"""Configurations of both training stages: frozen dataclasses, read from TOML; defaults are the paper's."""

from __future__ import annotations

import dataclasses
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from maskfix.base import InputError, check_choice, check_range
from maskfix.data import check_emphasis
from maskfix.losses import ObjectiveWeights
from maskfix.occlude import parse_kind
from maskfix.restore import CONFIGS

Config = TypeVar("Config", bound="CommonConfig")


@dataclass(frozen=True)
class ViewConfig:
    """How training pictures are varied; nothing here reaches a test picture.

    Attributes:
        kinds: Mask kinds to draw from; the paper's nine when empty. Leave kinds out to measure unseen masks.
        random_cloth: Share of masks that are cloth of a random colour.
        drawn: Share of masks from this project's own templates, where a template folder is given as well.
        clean: Share of pictures without a mask, so that clean faces stay as they are.
        shift: Largest shift of the crop in pixels.
        turn: Largest rotation of the crop in degrees.
        scale: Largest relative change of scale.
        stretch: Largest logarithm of the factor by which height over width changes: longer and shorter faces.
        point_noise: Standard deviation of the mask points' displacement, in pixels.
        coarsest: Lowest factor of a random down-scaling (both of input and target), for cameras worse than the data's.
        coarsen_masks: Share of the faces scaled down whose mask is scaled down with them, as a camera sees it; the
            others' masks stay as sharp as drawn.
        light: Largest relative change of gain.
        pattern: Share of masks that get random stripes, blotches or folds on top.
        prints: Share of masks that are printed on, in strong colours or with a piece of another picture.
        valves: Share of masks with a valve or a pair of filters.
        surroundings: Share of faces that get other surroundings than the photograph's reflection, see
            `train.surroundings`.
        trim: Largest share of the photograph that each side loses to those surroundings beside the mask, see
            `train.surroundings.trim_frame` and `show_trimmed`.
        trim_whole: Share of the whole photographs (`data.whole_photographs`) that are trimmed too: where hair, ears and
            background are real, they need not be cut off. Photographs that end inside the crop always are.
    """

    kinds: tuple[str, ...] = ()
    random_cloth: float = 0.1
    drawn: float = 0.15
    clean: float = 0.08
    shift: float = 4.0
    turn: float = 6.0
    scale: float = 0.06
    stretch: float = 0.0
    point_noise: float = 1.2
    coarsest: float = 0.5
    coarsen_masks: float = 0.0
    light: float = 0.25
    pattern: float = 0.0
    prints: float = 0.0
    valves: float = 0.0
    surroundings: float = 0.0
    trim: float = 0.0
    trim_whole: float = 1.0

    def __post_init__(self) -> None:
        """Refuse numbers and names that mean nothing.

        Raises:
            InputError: If a share lies outside [0, 1], a size is negative, a mask kind is unknown, or pictures are
                trimmed and nothing is put in place of what was cut off.
        """
        shares = ("random_cloth", "drawn", "clean", "pattern", "prints", "valves", "surroundings", "coarsen_masks")
        for name in (*shares, "trim_whole"):
            check_range(name, getattr(self, name), 0, 1)
        for name in ("shift", "turn", "point_noise"):
            check_range(name, getattr(self, name), 0, 1000)
        check_range("scale", self.scale, 0, 0.9)
        check_range("stretch", self.stretch, 0, 0.5)
        check_range("coarsest", self.coarsest, 0.01, 1)
        check_range("light", self.light, 0, 0.9)
        check_range("trim", self.trim, 0, 0.4)
        if self.trim > 0 and self.surroundings == 0:
            raise InputError("trim: needs surroundings above 0, which stand where the photograph is cut off")
        for kind in self.kinds:
            parse_kind(kind)


@dataclass(frozen=True)
class CommonConfig:
    """What both stages share.

    Attributes:
        network: Name of the network.
        steps: Optimiser steps in all.
        batch_size: Faces a step, in all processes together; each takes an equal share.
        learning_rate: Initial, or highest, learning rate.
        schedule: `constant`, or `cosine` from `learning_rate` to a hundredth of it.
        warmup: Steps over which the learning rate rises from zero.
        seed: Seed of every draw, below 2**31.
        held_out: Share of faces kept for validation.
        precision: `32-true`, `bf16-mixed` or `auto`: bfloat16 where the device computes in it.
        checkpoint_seconds: Time between checkpoints.
        views: How training pictures are varied.
    """

    network: str = "cadf_small_128"
    steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 1e-4
    schedule: str = "constant"
    warmup: int = 0
    seed: int = 0
    held_out: float = 0.02
    precision: str = "32-true"
    checkpoint_seconds: float = 120.0
    views: ViewConfig = field(default_factory=ViewConfig)

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            InputError: If steps or batch size are below 1, a number is out of range, or a name is unknown.
        """
        check_choice("network", self.network, self.networks())
        if self.steps < 1 or self.batch_size < 1:
            raise InputError(f"steps and batch_size: expected at least 1, got {self.steps} and {self.batch_size}")
        check_choice("schedule", self.schedule, ("constant", "cosine"))
        check_range("learning_rate", self.learning_rate, 0, 1000)
        check_range("held_out", self.held_out, 0, 1)
        # Seeds of single steps are made of it, a million apart, and are numbers of 64 bits.
        check_range("seed", self.seed, 0, 2**31 - 1)
        for name in ("warmup", "checkpoint_seconds"):
            check_range(name, getattr(self, name), 0, sys.maxsize)

    @classmethod
    def networks(cls) -> tuple[str, ...]:
        """Names that `network` may have."""
        return tuple(CONFIGS)

    @property
    def size(self) -> int:
        """Side of the crops that the training reads, in pixels."""
        return CONFIGS[self.network].size


@dataclass(frozen=True)
class SiameseConfig(CommonConfig):
    """Stage 1 (paper section 3.1): SGD at 0.015, temperature 0.07, momentum 0.9, 65,536 keys.

    Attributes:
        optimiser: `sgd`, the paper's, or `adamw` or `muon` (see `train.muon`), which want a learning rate near 1e-3. Of
            encoders trained for as few steps as a CPU can take, SGD's makes stage 2 worse, Muon's made it better before
            the network was widened (`weights/training/runs.md`).
        temperature: Of InfoNCE (eq. 1).
        key_momentum: m of eq. 2.
        queue: Keys kept as negatives; at most half as many as there are faces, so that a face's own older keys seldom
            stand among its negatives (on average of every eighth face: epochs have orders of their own).
        batch_negatives: Whether the other keys of a query's own batch are negatives as well. The paper has earlier
            batches' alone, from which the own key can be told without looking at the face, by what all of a batch has
            in common: the weights of the moment, and the statistics of batch norm.
        apart: Whether the two views of a face are moved, mirrored and relit apart; the paper's are one picture.
        sgd_momentum: Of `sgd`; `adamw` has torch's betas.
        weight_decay: Of the optimiser; `muon` has none.
    """

    optimiser: str = "sgd"
    learning_rate: float = 0.015
    temperature: float = 0.07
    key_momentum: float = 0.9
    queue: int = 65536
    batch_negatives: bool = False
    apart: bool = False
    sgd_momentum: float = 0.9
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            InputError: As `CommonConfig`; or if the optimiser is unknown, or the temperature, a momentum or the queue
                is out of range.
        """
        super().__post_init__()
        check_choice("optimiser", self.optimiser, ("sgd", "adamw", "muon"))
        check_range("temperature", self.temperature, 1e-6, 1000)
        check_range("key_momentum", self.key_momentum, 0, 1 - 1e-9)
        check_range("sgd_momentum", self.sgd_momentum, 0, 1)
        check_range("weight_decay", self.weight_decay, 0, 1)
        check_range("queue", self.queue, 1, sys.maxsize)


@dataclass(frozen=True)
class AveragedConfig(CommonConfig):
    """What runs share whose weights are averaged and validated.

    Attributes:
        average: Decay of the moving average of the weights, which is what is released; 0 switches it off.
        validate_every: Steps between validations on the held-out faces; 0 switches them off.
        clip: Largest norm of the gradient; 0 switches clipping off.
    """

    average: float = 0.999
    validate_every: int = 500
    clip: float = 1.0

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            InputError: As `CommonConfig`; or if one of the numbers above is out of range.
        """
        super().__post_init__()
        check_range("average", self.average, 0, 1 - 1e-9)
        for name in ("validate_every", "clip"):
            check_range(name, getattr(self, name), 0, sys.maxsize)

    def validates(self, step: int) -> bool:
        """Whether the step after so many is followed by a validation; the last one always is."""
        return self.validate_every > 0 and (step + 1 == self.steps or (step + 1) % self.validate_every == 0)


@dataclass(frozen=True)
class CompletionConfig(AveragedConfig):
    """Stage 2 (paper section 3.4): Adam at 1e-4 and the objective of eqs. 10 to 15.

    Attributes:
        optimiser: `adam`, the paper's, or `muon`, see `train.muon`; both at a learning rate for Adam.
        objective: Weights and scales.
        texture_start: First step at which the texture terms count; before it the network learns structure alone.
        perturb_identity: Whether the identity network sees the completion composed with the visible pixels through
            random blur, shift and noise (`losses.random_view`), so that no pixel pattern is rewarded.
        mirror_texture: Whether the texture networks see mirrored pictures every second time, so that what one of them
            likes on one side of the face alone is not rewarded.
        compose_texture: Whether all texture terms see the completion composed with the visible pixels, as a user will:
            they then act under the mask alone.
        adversarial: Weight of a patch discriminator's verdict on occluded places (hinge loss), from `texture_start`
            on; 0 trains none.
        texture_in_turn: Whether each step asks one of the identity networks alone, in turn, for the texture terms:
            the same terms on average, and nearly twice the steps in an hour with two networks.
        identity_head: Weight of the encoder's own prediction of the clean face's embedding; 0 trains no such head.
        fusion: Whether the network has dual attention fusion; off for ablations only.
        emphasis: How much more often faces of a group are drawn, by UTKFace's group (`data.emphasise`); all alike when
            empty.
        whole: How many times as often whole photographs (`data.whole_photographs`) are drawn as those that end inside
            the crop.
    """

    optimiser: str = "adam"
    batch_size: int = 16
    objective: ObjectiveWeights = field(default_factory=ObjectiveWeights)
    texture_start: int = 0
    perturb_identity: bool = False
    mirror_texture: bool = False
    compose_texture: bool = False
    adversarial: float = 0.0
    texture_in_turn: bool = False
    identity_head: float = 0.0
    fusion: bool = True
    emphasis: Mapping[str, float] = field(default_factory=dict)
    whole: float = 1.0

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            InputError: As `AveragedConfig`; or if the optimiser is unknown, or `texture_start`, `adversarial`,
                `identity_head`, `whole` or a factor of `emphasis` is out of range, or a group of it is unknown.
        """
        super().__post_init__()
        check_emphasis(self.emphasis)
        check_range("whole", self.whole, 0.01, 100)
        check_choice("optimiser", self.optimiser, ("adam", "muon"))
        for name in ("texture_start", "adversarial", "identity_head"):
            check_range(name, getattr(self, name), 0, sys.maxsize)


@dataclass(frozen=True)
class DistillationConfig(AveragedConfig):
    """The distillation of recognisers into a LightCNN.

    Attributes:
        relational: Weight of the relational term; the cosine term weighs 1.
        views: `clean` is the share of views without a mask, half of them by default.
    """

    network: str = "lightcnn9"
    batch_size: int = 24
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    warmup: int = 100
    precision: str = "bf16-mixed"
    relational: float = 10.0
    views: ViewConfig = field(default_factory=lambda: ViewConfig(clean=0.5))

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing.

        Raises:
            InputError: As `AveragedConfig`; or if the relational term's weight is out of range.
        """
        super().__post_init__()
        check_range("relational", self.relational, 0, sys.maxsize)

    @classmethod
    def networks(cls) -> tuple[str, ...]:
        """Names that `network` may have."""
        return ("lightcnn9", "lightcnn29", "lightcnn29v2")

    @property
    def size(self) -> int:
        """Side of the canonical crops that the student's crops are cut from, in pixels."""
        return 128


def load_config(kind: type[Config], path: str | Path | None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a configuration from TOML.

    Args:
        kind: One of the configurations above.
        path: TOML file; the defaults when None.
        overrides: Top-level values that win over the file; those that are None are ignored.

    Raises:
        InputError: If the file is missing or no TOML, names a key that the configuration lacks, or gives a value of a
            wrong type or out of range.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"{path}: cannot read this configuration ({error})") from error
    values |= {key: value for key, value in (overrides or {}).items() if value is not None}
    built: Config = _build(kind, values, str(path or "configuration"))
    return built


def _build(kind: type[Any], values: Mapping[str, Any], place: str, start: Any = None) -> Any:
    """Make a dataclass, nested ones too, from plain values, and the rest as in `start`; refuse what does not fit."""
    hints = get_type_hints(kind)
    known = {item.name for item in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise InputError(f"{place}: unknown key {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    built = {}
    for key, value in values.items():
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping):
            default = next(item.default_factory for item in dataclasses.fields(kind) if item.name == key)
            built[key] = _build(hints[key], value, f"{place} [{key}]", None if default is MISSING else default())
        else:
            built[key] = tuple(value) if isinstance(value, list) else value
            if not _fits(built[key], hints[key]):
                raise InputError(f"{place}: {key}: expected {_described(hints[key])}, got {value!r}")
    try:
        return kind(**built) if start is None else dataclasses.replace(start, **built)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is of a field's type; whole numbers pass as floats, truth values as neither."""
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(item, get_args(hint)[0]) for item in value)
    if get_origin(hint) is Literal:
        return isinstance(value, str)
    if get_origin(hint) is UnionType:
        return any(_fits(value, choice) for choice in get_args(hint))
    if get_origin(hint) is Mapping:
        return isinstance(value, Mapping) and all(_fits(item, get_args(hint)[1]) for item in value.values())
    accepted = (int, float) if hint is float else hint
    return isinstance(value, accepted) and (hint is bool or not isinstance(value, bool))


def _described(hint: Any) -> str:
    """A field's type for a message."""
    if dataclasses.is_dataclass(hint):
        return "a table"
    if get_origin(hint) is Mapping:
        return f"a table of {_described(get_args(hint)[1])}"
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


def as_plain(config: CommonConfig) -> dict[str, Any]:
    """A configuration as plain dictionaries, lists and numbers, for checkpoints and reports."""
    return _plain(dataclasses.asdict(config))


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _plain(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value
        for key, value in values.items()
    }
