"""`wrap`: one door for every recogniser, whatever library it comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskfix.base import CropLayout, InputError
from maskfix.deocclude import Deoccluder
from maskfix.embed import Embedder, load_layout
from maskfix.plugin.arrays import CompletedCallable, CompletedEmbedder, CompletedSession
from maskfix.plugin.base import GATE_THRESHOLD, Completer, SeamSettings
from maskfix.plugin.crops import COLOURS, VALUE_RANGES, CropFormat
from maskfix.plugin.insightface import CompletedRecogniser
from maskfix.plugin.torch_modules import CompletedModule, CompletionStage, grey_layout, is_facenet

_SEAMS = (CompletedRecogniser, CompletedModule, CompletedSession, CompletedCallable, CompletedEmbedder)


def wrap(
    recogniser: Any,
    *,
    layout: CropLayout | str | None = None,
    value_range: str | None = None,
    network_range: str | None = None,
    colour: str | None = None,
    mode: str = "gate",
    threshold: float = GATE_THRESHOLD,
    share: float = SeamSettings.share,
    deoccluder: Deoccluder | str | Path | None = None,
    device: str = "auto",
    refine: bool = True,
) -> Any:
    """Put the completion before a recogniser; what comes back is used as the recogniser was.

    Args:
        recogniser: An insightface recogniser, facenet-pytorch's InceptionResnetV1, a LightCNN, any `nn.Module`, an
            onnxruntime session, a function from crops to embeddings, or an embedder of `maskfix.embed`.
        layout: Where the five landmarks lie in the recogniser's crops: a `CropLayout` or a name such as `arcface_112`,
            `lightcnn` or `facenet`. Not needed for insightface, InceptionResnetV1 and embedders, which fix it.
        value_range: The numbers that the caller gives: `unit` [0, 1], `symmetric` [-1, 1], `fixed_standard`
            (byte - 127.5) / 128, or `byte` 0..255. Known for `lightcnn` (`unit`) and InceptionResnetV1
            (`fixed_standard`), else to be declared.
        network_range: The numbers that the recogniser takes, where they differ: the seam converts. InceptionResnetV1
            always takes `fixed_standard` unless said otherwise, so `value_range="byte"` suits
            `MTCNN(post_process=False)`.
        colour: `rgb`, `bgr` or `grey`; `grey` for `lightcnn`, else `rgb`. For `grey` the seam takes RGB crops: it
            completes in colour and greys afterwards.
        mode: `gate`, `always`, `observe` or `fuse`, see `SeamSettings`.
        threshold: Coverage in [0, 1] above which a face counts as occluded.
        share: Share of the completed face in `fuse`, in [0, 1].
        deoccluder: Name or path of the weights, or a Deoccluder; `cadf_small_128` when None. Loaded on first use.
        device: `cpu`, `cuda`, `cuda:N`, or `auto`, which follows the recogniser.
        refine: Whether occluded faces are looked for in their crops, since a detector can only guess nose and mouth
            under a mask, and set right: moved, turned and scaled to where `layout` has them. Switch it off where crops
            were cut by landmarks that no mask has misled.

    Returns:
        A `CompletedRecogniser`, `CompletedModule`, `CompletedSession`, `CompletedCallable` or `CompletedEmbedder`.

    Raises:
        InputError: If it is no recogniser, is wrapped already, or something is not declared, unknown or out of range.
    """
    completer = Completer(deoccluder, SeamSettings(mode, threshold, share, refine), device)
    if isinstance(recogniser, _SEAMS):
        raise InputError(f"recogniser: {type(recogniser).__name__} is wrapped already; wrap its `inner`")
    if isinstance(recogniser, type | CompletionStage):
        what = f"the class {recogniser.__name__}" if isinstance(recogniser, type) else "a stage of maskfix"
        raise InputError(f"recogniser: this is {what}; wrap the recogniser itself")
    if isinstance(getattr(recogniser, "models", None), dict):
        raise InputError("recogniser: this is an application with several models; use maskfix.attach(app)")
    fixed: dict[str, Any] = {
        "layout": layout,
        "value_range": value_range,
        "network_range": network_range,
        "colour": colour,
    }
    if all(hasattr(recogniser, name) for name in ("get_feat", "get", "input_size")):
        _refuse(fixed, "insightface")
        return CompletedRecogniser(recogniser, completer)
    if isinstance(recogniser, Embedder):
        _refuse(fixed, "an embedder of maskfix")
        return CompletedEmbedder(recogniser, completer)
    kind = _kind(recogniser)
    return kind(recogniser, completer, _format(recogniser, **fixed))


def stage(
    layout: CropLayout | str,
    value_range: str,
    *,
    network_range: str | None = None,
    colour: str = "rgb",
    mode: str = "gate",
    threshold: float = GATE_THRESHOLD,
    deoccluder: Deoccluder | str | Path | None = None,
    device: str = "auto",
    refine: bool = True,
) -> CompletionStage:
    """A stage to stand between a detector and a recogniser, such as `nn.Sequential(stage, resnet)`.

    Args:
        layout: As `wrap`.
        value_range: As `wrap`.
        network_range: As `wrap`; what comes out of the stage.
        colour: `rgb` or `bgr`.
        mode: `gate`, `always` or `observe`.
        threshold: As `wrap`.
        deoccluder: As `wrap`.
        device: As `wrap`; `auto` follows the crops.
        refine: As `wrap`.

    Raises:
        InputError: If something is unknown or out of range.
    """
    form = _format(None, layout, value_range, network_range, colour)
    return CompletionStage(Completer(deoccluder, SeamSettings(mode, threshold, refine=refine), device), form)


def _refuse(fixed: dict[str, Any], whose: str) -> None:
    given = [name for name, value in fixed.items() if value is not None]
    if given:
        raise InputError(f"{', '.join(given)}: fixed by {whose}; leave it out")


def _kind(recogniser: Any) -> Any:
    """Which seam a recogniser takes."""
    from torch import nn

    if isinstance(recogniser, nn.Module):
        return CompletedModule
    if hasattr(recogniser, "run") and hasattr(recogniser, "get_inputs"):
        return CompletedSession
    if callable(recogniser):
        return CompletedCallable
    raise InputError(
        f"recogniser: {type(recogniser).__name__} is none; known: insightface recognisers, nn.Module, onnxruntime "
        "sessions, functions from crops to embeddings"
    )


def _format(
    recogniser: Any,
    layout: CropLayout | str | None,
    value_range: str | None,
    network_range: str | None,
    colour: str | None,
) -> CropFormat:
    """How a recogniser holds its crops, from what is declared and what its library fixes."""
    from torch import nn

    facenet = isinstance(recogniser, nn.Module) and is_facenet(recogniser)
    if layout is None and not facenet:
        raise InputError("layout: say where the landmarks lie, such as layout='arcface_112', 'lightcnn' or CropLayout")
    place = load_layout("facenet" if layout is None else layout) if not isinstance(layout, CropLayout) else layout
    grey = grey_layout(place)
    given = value_range or ("fixed_standard" if facenet else "unit" if grey else None)
    if given is None:
        raise InputError(f"value_range: say which numbers the crops hold; known: {', '.join(VALUE_RANGES)}")
    taken = network_range or ("fixed_standard" if facenet else given)
    return CropFormat(place, given, taken, colour or (COLOURS[2] if grey else COLOURS[0]))
