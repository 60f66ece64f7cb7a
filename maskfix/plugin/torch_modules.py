"""The seam of torch recognisers: facenet-pytorch's InceptionResnetV1, LightCNN, any module that takes crops."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from maskfix.base import BoolArray, CropLayout, DoubleArray, InputError, check_shape
from maskfix.plugin.base import Completer, FaceCompletion, embed_by_mode
from maskfix.plugin.crops import CropFormat
from maskfix.plugin.last import LastResult
from maskfix.plugin.outputs import rebuild

Landmarks = NDArray[Any] | Tensor | None


class _Seam(nn.Module):
    """What a stage and a wrapped module share: crops in, lists and missing faces sorted out, a device to run on.

    Args:
        completer: The network and its settings.
        form: How the crops are held.
    """

    def __init__(self, completer: Completer, form: CropFormat) -> None:
        super().__init__()
        self.completer = completer
        self.form = form
        self._last = LastResult()

    @property
    def last(self) -> tuple[FaceCompletion, ...]:
        """What is told of the faces of this thread's last call, a `FaceCompletion` each, missing faces left out."""
        return self._last.faces

    # torch.compile cannot trace what is done in NumPy and in inference mode here; what is wrapped it still compiles.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _complete(self, x: Tensor, landmarks: Landmarks, device: torch.device) -> Any:
        """The crops as pictures, the same completed, and the result."""
        if not isinstance(x, Tensor):
            raise InputError(f"crops: expected a tensor (N, 3, S, S), got {type(x).__name__}")
        with torch.no_grad():
            pictures = self.form.decode(_numpy(x))
        points = _numpy(landmarks) if isinstance(landmarks, Tensor) else landmarks
        place = str(device) if device.type in ("cpu", "cuda") else "cpu"
        return pictures, *self.form.complete(self.completer, pictures, points, place)

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _replace(self, x: Tensor, pictures: Any, completed: Any, rows: BoolArray) -> Tensor:
        """The crops with those of `rows` completed; the very tensor where there are none."""
        if not rows.any():
            return x
        with torch.no_grad():
            chosen = torch.from_numpy(rows).to(x.device)
            numbers = self.form.encode(_numpy(x)[rows], pictures[rows], completed[rows])
            replaced = x.detach().clone()
            replaced[chosen] = torch.from_numpy(numbers).to(x)
        # Faces that pass as they are keep their gradients.
        return torch.where(chosen[:, None, None, None], replaced, x) if x.requires_grad else replaced


class CompletionStage(_Seam):
    """A stage between a detector and a recogniser: crops in, crops out, occluded faces completed.

    Modes are `gate`, `always` and `observe` (crops pass; `last` tells of them); `fuse` needs the recogniser, see
    `CompletedModule`.

    Args:
        completer: The network and its settings.
        form: How the crops are held; `network_range` is what comes out.

    Raises:
        InputError: If the mode is `fuse` or the crops are to be greyed.

    Example:
        >>> from maskfix.embed import load_layout
        >>> from maskfix.restore import create_network
        >>> from maskfix import Deoccluder
        >>> completer = Completer(Deoccluder(create_network("cadf_small_128"), device="cpu"))
        >>> stage = CompletionStage(completer, CropFormat(load_layout("facenet"), "fixed_standard", "fixed_standard"))
        >>> tuple(stage(torch.zeros(2, 3, 160, 160)).shape)
        (2, 3, 160, 160)
    """

    def __init__(self, completer: Completer, form: CropFormat) -> None:
        if completer.settings.mode == "fuse" or form.colour == "grey":
            raise InputError("stage: mode 'fuse' and grey crops need the recogniser itself; use maskfix.wrap")
        super().__init__(completer, form)

    def forward(self, x: Any, landmarks: Landmarks = None) -> Any:
        """Complete crops.

        Args:
            x: `(N, 3, S, S)` as declared; `(3, S, S)`; a list of either with None for missing faces; or None.
            landmarks: `(N, 5, 2)` in pixels of the crops, for all faces of all entries in turn; or None.

        Returns:
            As `x`, in the range that the recogniser takes.

        Raises:
            InputError: If shape or values are not as declared.
        """
        return _each(x, lambda batch: self._run(batch, landmarks))

    def _run(self, x: Tensor, landmarks: Landmarks) -> Tensor:
        pictures, completed, result = self._complete(x, landmarks, x.device)
        self._last.faces = tuple(self.completer.describe(result))
        converted: Tensor = self.form.convert(self._replace(x, pictures, completed, result.used))
        return converted


class CompletedModule(_Seam):
    """A recogniser with the completion before it; itself an `nn.Module`.

    Attributes of the recogniser are read and set through it (`classify`, ...); its parameters, `eval()` and `to()` are
    those of the recogniser. Where no face is completed, the recogniser is given the very tensor that came in. Gradients
    reach the recogniser's parameters, and the crops of faces that are not completed: a completed face, and crops that
    the seam greys, are constants to them.

    Args:
        module: The recogniser; it takes crops and gives embeddings `(N, D)`, or several outputs with the embedding
            last (LightCNN).
        completer: The network and its settings.
        form: How the crops are held.

    Attributes:
        inner: The wrapped recogniser; `inner.state_dict()` is unchanged.
    """

    inner: nn.Module

    def __init__(self, module: nn.Module, completer: Completer, form: CropFormat) -> None:
        super().__init__(completer, form)
        self.inner = module

    def __getattr__(self, name: str) -> Any:
        """Whatever the wrapped recogniser has."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__") or "inner" not in self.__dict__.get("_modules", {}):
                raise
            return getattr(self._modules["inner"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Settings of the recogniser are set there."""
        inner = self.__dict__.get("_modules", {}).get("inner")
        if inner is not None and name != "inner" and not _has(self, name) and hasattr(inner, name):
            setattr(inner, name, value)
        else:
            super().__setattr__(name, value)

    def forward(self, *args: Any, landmarks: Landmarks = None, **kwargs: Any) -> Any:
        """Embed crops.

        Args:
            args: First the crops: `(N, 3, S, S)` as declared; `(3, S, S)`, alone or in a list; a list with None for
                missing faces; or None. They may go by the name that the recogniser's own `forward` gives its first
                argument, too. What follows is passed on to the recogniser.
            landmarks: `(N, 5, 2)` ArcFace points in pixels of the crops, where they are known (`box_landmarks`). A crop
                by a box says only roughly where they lie: on 80 LFW faces the true points are 11 of 160 pixels from
                the assumed ones in the median, 27 in one of ten (turned and tilted heads).
            kwargs: Passed on to the recogniser.

        Returns:
            What the recogniser returns; for one crop `(3, S, S)` its row of that, or of each of several outputs; for a
            list, a list of embeddings with None for missing faces.

        Raises:
            InputError: If shape or values are not as declared, or logits were to be fused.
        """
        x, args, kwargs = self._take_crops(args, kwargs)
        if self.completer.settings.mode == "fuse" and getattr(self.inner, "classify", False):
            raise InputError("mode 'fuse' mixes embeddings, and classify=True gives logits; use gate or always")
        return _each(x, lambda batch: self._run(batch, landmarks, args, kwargs))

    def _take_crops(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """The crops among the arguments, and the others."""
        if args:
            return args[0], args[1:], kwargs
        name = next(iter(inspect.signature(self.inner.forward).parameters), "x")
        if name not in kwargs:
            raise InputError(f"crops: none are given; pass them first, or as {name}=")
        return kwargs[name], (), {key: value for key, value in kwargs.items() if key != name}

    def _run(self, x: Tensor, landmarks: Landmarks, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        own = next(self.inner.parameters(), None)
        pictures, completed, result = self._complete(x, landmarks, x.device if own is None else own.device)
        grey = self.form.colour == "grey"

        def embed(rows: BoolArray) -> Any:
            if grey:
                chosen = np.where(rows[:, None, None, None], completed, pictures)
                batch = torch.from_numpy(self.form.encode_grey(chosen)).to(x.device)
                # Whole numbers hold what a network takes only where that is bytes.
                if x.is_floating_point() or self.form.network_range == "byte":
                    batch = batch.to(x.dtype)
            else:
                batch = self.form.convert(self._replace(x, pictures, completed, rows))
            return self.inner(batch, *args, **kwargs)

        output, faces = embed_by_mode(self.completer, result, embed)
        self._last.faces = tuple(faces)
        return output


def _has(module: nn.Module, name: str) -> bool:
    """Whether a module has an attribute of its own, its class's included."""
    registered = (module.__dict__.get(kind, {}) for kind in ("_parameters", "_buffers", "_modules"))
    return name in module.__dict__ or hasattr(type(module), name) or any(name in names for names in registered)


def _numpy(tensor: Tensor) -> NDArray[Any]:
    """A tensor of any device and precision as an array of uint8 or float32."""
    plain = tensor.detach().cpu()
    array: NDArray[Any] = (plain if plain.dtype == torch.uint8 else plain.float()).numpy()
    return array


def _each(x: Any, run: Callable[[Tensor], Any]) -> Any:
    """Run a batch; a list's entries as one batch, taken apart again; None for missing faces stays None."""
    if x is None:
        return None
    if not isinstance(x, (list, tuple)):
        return _first(run(x[None])) if isinstance(x, Tensor) and x.ndim == 3 else run(x)
    present = [face for face in x if face is not None]
    if not present:
        return [None] * len(x)
    batch = torch.cat([face if face.ndim == 4 else face[None] for face in present])
    output = run(batch)
    if isinstance(output, (list, tuple)):
        raise InputError("crops: a list goes to recognisers with one output; give a tensor (N, 3, S, S)")
    parts = iter(torch.split(output, [len(face) if face.ndim == 4 else 1 for face in present]))
    rows = (None if face is None else next(parts) if face.ndim == 4 else next(parts)[0] for face in x)
    return list(rows)


def _first(output: Any) -> Any:
    """What a recogniser made of the first face of a batch, of each output where there are several."""
    return rebuild(output, [rows[0] for rows in output]) if isinstance(output, (list, tuple)) else output[0]


def box_landmarks(
    points: NDArray[Any], box: NDArray[Any], photo_size: tuple[int, int], size: int = 160, margin: int = 14
) -> DoubleArray:
    """Carry a detector's landmarks into the crop that facenet-pytorch cuts by its box, for `landmarks=` of a seam.

    Args:
        points: `(N, 5, 2)` in pixels of the photograph, as `MTCNN.detect(img, landmarks=True)` gives them.
        box: `(N, 4)` left, top, right, bottom in pixels, likewise.
        photo_size: Width and height of the photograph in pixels.
        size: The MTCNN's `image_size`.
        margin: The MTCNN's `margin`.

    Returns:
        `(N, 5, 2)` in pixels of the crops.

    Raises:
        InputError: If a shape differs.

    Example:
        >>> box_landmarks(np.full((1, 5, 2), 50.0), np.array([[20.0, 20, 80, 80]]), (100, 100), margin=0)[0, 0].round(1)
        array([80.8, 80.8])
    """
    five, sides = np.asarray(points, np.float64), np.asarray(box, np.float64)
    check_shape("points", five, (None, 5, 2))
    check_shape("box", sides, (len(five), 4))
    extra = margin / (size - margin) * (sides[:, 2:] - sides[:, :2]) / 2
    # facenet-pytorch cuts whole pixels, towards zero, and nothing outside the photograph.
    low = np.maximum(sides[:, :2] - extra, 0).astype(int)
    high = np.minimum(sides[:, 2:] + extra, photo_size).astype(int)
    if not (high > low).all():
        raise InputError("box: shows less than a pixel of the photo")
    factor = size / (high - low)
    moved: DoubleArray = (five - low[:, None] + 0.5) * factor[:, None] - 0.5
    return moved


def is_facenet(module: nn.Module) -> bool:
    """Whether a module is facenet-pytorch's InceptionResnetV1, or derived from it, compiled or not."""
    kinds = type(getattr(module, "_orig_mod", module)).__mro__
    return any(kind.__name__ == "InceptionResnetV1" and kind.__module__.startswith("facenet_pytorch") for kind in kinds)


def grey_layout(layout: CropLayout) -> bool:
    """Whether a layout is that of LightCNN, which takes grey crops."""
    return layout.name.startswith("lightcnn")
