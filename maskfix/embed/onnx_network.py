"""Any ONNX recogniser whose crop, value range and channel order its user declares; nothing is guessed."""

from __future__ import annotations

import hashlib
import math
import re
import warnings
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from maskfix.base import (
    CropLayout,
    DependencyError,
    EmbedderError,
    InputError,
    UInt8Array,
    check_choice,
)
from maskfix.embed.base import RawBatchEmbedder, fill_batch, grey_crops
from maskfix.embed.layouts import list_layouts, load_layout
from maskfix.embed.sessions import session_device, session_options
from maskfix.embed.unscaled import Output, unscaled_output
from maskfix.weights import file_sha256

COLOURS = ("rgb", "bgr", "grey")
"""Channel orders that a network may want; grey is one channel, with OpenCV's weights."""

KEYS = ("layout", "range", "colour", "output")
"""What may stand behind the question mark of `onnx:PATH?...`."""

_TYPES: dict[str, Any] = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class OnnxEmbedder(RawBatchEmbedder):
    """A recogniser in an ONNX file.

    `embed_raw` gives unit vectors where a file scales them in a way that is not known (`unscaled.unscaled_output`).

    Args:
        path: The file. It takes one batch of pictures, channels first or last as its input says.
        layout: The crop that it was trained on.
        value_range: What the pixel values 0 and 255 become; (x - 127.5) / 127.5 is (-1, 1).
        colour: `rgb`, `bgr` or `grey`.
        output: Name of the output that is the embedding; needed where there are several.
        device: `auto`, `cpu`, `cuda` or `cuda:N`. CUDA is used where onnxruntime offers it; `device` then says what
            came of it.
        batch_size: Crops per call of the network, at least 1; a network of one batch size keeps its own, and one that
            was exported for one face, whatever its input says, gets one at a time.

    Raises:
        EmbedderError: If the file is missing, damaged, or does not take or give what is declared.
        InputError: If an argument is out of range or unknown.
        DependencyError: If onnxruntime is not installed.

    Attributes:
        name: `onnx:` and the file's stem.
        layout: As declared.
        dimension: Length of the embedding.
        sha256: Hash of the file; with weights in files beside it, the hash of all their hashes.
        device: "cpu", "cuda" or "cuda:N", where the network runs.
        path: The file.
        declared: Value range, channel order and output, in words.
    """

    def __init__(
        self,
        path: str | Path,
        layout: CropLayout,
        value_range: tuple[float, float] = (-1.0, 1.0),
        colour: str = "rgb",
        output: str | None = None,
        device: str = "auto",
        batch_size: int = 64,
    ) -> None:
        check_device(device)
        check_choice("colour", colour, COLOURS)
        super().__init__(batch_size)
        _check_range(value_range)
        self.path = Path(path).expanduser()
        self.layout, self.name = layout, f"onnx:{self.path.stem}"
        self._range, self._colour = value_range, colour
        self._asked = device, batch_size
        self._session = _open(self.path, providers(device))
        self.device = session_device(self._session)
        self._output = self._find_output(output)
        fixed = self._check_input()
        self.sha256 = onnx_sha256(self.path)
        self.declared = f"range={value_range[0]!r}..{value_range[1]!r} colour={colour} output={self._output}"
        self._ask_network(fixed)

    @classmethod
    def from_spec(cls, spec: str, device: str = "auto", batch_size: int = 64) -> OnnxEmbedder:
        """Load by a text such as `model.onnx?layout=arcface_112&range=0..1&colour=bgr`.

        Args:
            spec: The path; behind a question mark `layout` (needed, see `list_layouts`), `range` (LOW..HIGH, -1..1 when
                left out), `colour` (`rgb` when left out) and `output`.
            device: `auto`, `cpu`, `cuda` or `cuda:N`.
            batch_size: Crops per call of the network.

        Raises:
            EmbedderError: If a key is unknown, given twice or has an impossible value, or as the class.
            DependencyError: If onnxruntime is not installed.
        """
        path, options = parse_spec(spec)
        try:
            layout = load_layout(options["layout"])
            value_range = parse_range(options.get("range", "-1..1"))
            return cls(
                path, layout, value_range, options.get("colour", "rgb"), options.get("output"), device, batch_size
            )
        except InputError as error:
            raise EmbedderError(f"onnx:{spec}: {error}") from error

    def __reduce__(self) -> tuple[type[OnnxEmbedder], tuple[Any, ...]]:
        """A pickled copy opens the file where it is unpickled: a session cannot be pickled."""
        return type(self), (self.path, self.layout, self._range, self._colour, self._output, *self._asked)

    def _run_raw(self, crops: UInt8Array) -> NDArray[Any]:
        return self._run(crops, self._raw)

    @cached_property
    def _raw(self) -> Output:
        """The output before vectors are scaled to unit length, where the file does that; opened on first use."""
        shape = (self._fixed or 2, self.layout.size, self.layout.size, 3)
        noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        return unscaled_output(self.path, Output(self._session, self._output), {self._input: self._prepare(noise)})

    def _run(self, crops: UInt8Array, source: Output | None = None) -> NDArray[Any]:
        """One batch through the network, to its own output or another."""
        session, output = source or (self._session, self._output)
        filled = fill_batch(crops, self._fixed)
        try:
            vectors = np.asarray(session.run([output], {self._input: self._prepare(filled)})[0])
        except Exception as error:  # onnxruntime has exceptions of its own, without a common base
            raise EmbedderError(f"{self.path}: the recogniser failed ({first_line(error)})") from error
        shape = vectors.shape
        # (N, D), or (N, D, 1, 1) as pooling leaves it.
        if len(shape) < 2 or (len(shape) > 2 and math.prod(shape[2:]) != 1) or shape[0] != len(filled):
            raise EmbedderError(f"{self.path}: output {self._output!r} is no embedding, its shape is {shape}")
        if not np.isfinite(vectors).all():
            raise EmbedderError(f"{self.path}: the recogniser gave numbers that are not finite")
        return vectors.reshape(len(filled), -1)[: len(crops)]

    def _prepare(self, crops: UInt8Array) -> NDArray[Any]:
        """Crops as the network wants them."""
        if self._colour == "grey":
            picture = grey_crops(crops)[..., None]
        else:
            picture = crops[..., ::-1] if self._colour == "bgr" else crops
        low, high = self._range
        values = low + picture.astype(np.float32) * np.float32((high - low) / 255)
        if self._planar:
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values, dtype=self._dtype)

    def _check_input(self) -> int | str | None:
        """Compare the network's input with what is declared; gives its batch axis."""
        inputs = self._session.get_inputs()
        channels, size = (1 if self._colour == "grey" else 3), self.layout.size
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or inputs[0].type not in _TYPES:
            kinds = ", ".join(f"{item.type} {item.shape}" for item in inputs)
            raise EmbedderError(f"{self.path}: expected one input of float pictures, it has {kinds}")
        self._input, self._dtype = inputs[0].name, _TYPES[inputs[0].type]
        wanted = {True: (channels, size, size), False: (size, size, channels)}
        for planar, lengths in wanted.items():
            # A length that the file leaves open fits anything.
            if all(not isinstance(have, int) or have == want for have, want in zip(shape[1:], lengths, strict=True)):
                self._planar = planar
                return shape[0]  # type: ignore[no-any-return]
        raise EmbedderError(
            f"{self.path}: takes pictures of {shape[1:]}, not the {channels} channels of {size}x{size} that colour "
            f"{self._colour} and layout {self.layout.name} give"
        )

    def _find_output(self, name: str | None) -> str:
        names = [item.name for item in self._session.get_outputs()]
        if name is None and len(names) == 1:
            return str(names[0])
        if name is None or name not in names:
            problem = "has several outputs" if name is None else f"has no output {name!r}"
            raise EmbedderError(f"{self.path}: {problem}; say output=NAME, one of {', '.join(names)}")
        return name


def parse_spec(spec: str) -> tuple[Path, dict[str, str]]:
    """Split `PATH?key=value&...`.

    Raises:
        EmbedderError: If it is malformed, a key is unknown or given twice, or `layout` is missing.

    Example:
        >>> path, options = parse_spec("m.onnx?layout=dlib_150&range=0..1")
        >>> path.name, options
        ('m.onnx', {'layout': 'dlib_150', 'range': '0..1'})
    """
    path, _, query = spec.partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError as error:
        raise EmbedderError(f"onnx:{spec}: {error}; expected PATH?key=value&key=value") from error
    options = dict(pairs)
    unknown = sorted(set(options) - set(KEYS))
    if unknown:
        raise EmbedderError(f"onnx:{spec}: key {unknown[0]!r} is unknown; known: {', '.join(KEYS)}")
    if len(options) != len(pairs):
        raise EmbedderError(f"onnx:{spec}: a key is given twice")
    if "layout" not in options:
        raise EmbedderError(f"onnx:{spec}: says no layout; add ?layout=NAME, one of {', '.join(list_layouts())}")
    return Path(path).expanduser(), options


def parse_range(text: str) -> tuple[float, float]:
    """What the pixel values 0 and 255 become, from `LOW..HIGH`.

    Raises:
        InputError: If it is none: both finite, the lower first.

    Example:
        >>> parse_range("-1..1")
        (-1.0, 1.0)
    """
    low, _, high = text.partition("..")
    try:
        ends = float(low), float(high)
    except ValueError as error:
        raise InputError(f"range: expected LOW..HIGH such as 0..1, got {text!r}") from error
    _check_range(ends)
    return ends


def _check_range(ends: tuple[float, float]) -> None:
    """Refuse what is no range of values."""
    if not (all(math.isfinite(end) for end in ends) and ends[0] < ends[1]):
        raise InputError(f"value_range: expected two finite numbers, the lower first, got {ends}")


def _open(path: Path, order: list[Any]) -> Any:
    """An inference session, quiet about what it dislikes but can run.

    Raises:
        EmbedderError: If the file is missing or cannot be read.
    """
    import onnxruntime

    if not path.is_file():
        raise EmbedderError(f"{path}: no such ONNX file")
    options = session_options()
    # Errors arrive as exceptions; its own lines would only repeat them.
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=order)
    except Exception as error:  # onnxruntime has exceptions of its own, without a common base
        raise EmbedderError(f"{path}: damaged, or no ONNX file ({first_line(error)})") from error


def check_device(device: str) -> None:
    """Refuse a device that onnxruntime cannot be asked for; it may still be absent.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        InputError: If it is none of these.
    """
    if re.fullmatch(r"auto|cpu|cuda(:\d+)?", device) is None:
        raise InputError(f"device: {device!r} is unknown; known: auto, cpu, cuda, cuda:N")


def providers(device: str) -> list[Any]:
    """The onnxruntime providers in order of preference, as an inference session takes them.

    Args:
        device: `auto`, `cpu`, `cuda` or `cuda:N`; warns where CUDA is asked for and absent.

    Raises:
        DependencyError: If onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise DependencyError("ONNX recognisers need onnxruntime: pip install onnxruntime") from error
    kind, _, number = device.partition(":")
    if kind == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        chosen = ("CUDAExecutionProvider", {"device_id": int(number)}) if number else "CUDAExecutionProvider"
        return [chosen, "CPUExecutionProvider"]
    if kind == "cuda":
        warnings.warn(
            "this onnxruntime has no CUDA, the recogniser runs on the CPU; install onnxruntime-gpu instead of it",
            stacklevel=3,
        )
    return ["CPUExecutionProvider"]


def onnx_sha256(path: str | Path) -> str:
    """SHA-256 of a network in ONNX: that of its file or, where its weights lie in files beside it, of all their hashes.

    Args:
        path: An ONNX file that can be read; its graph, then its weight files in the order of their names.

    Raises:
        WeightsError: If a file is missing.
    """
    import onnx

    path = Path(path)
    graph = onnx.load(str(path), load_external_data=False).graph
    beside = {
        entry.value
        for tensor in graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    if not beside:
        return file_sha256(path)
    hashes = [file_sha256(path), *(file_sha256(path.parent / name) for name in sorted(beside))]
    return hashlib.sha256("".join(hashes).encode()).hexdigest()


def first_line(error: BaseException) -> str:
    """The first 120 characters of what an error says, or its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
