"""ArcFace recognisers as insightface loads them: any square ONNX recogniser, or the one of a model pack."""

from __future__ import annotations

import contextlib
import io
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from maskfix.base import (
    DependencyError,
    EmbedderError,
    FloatArray,
    InputError,
    UInt8Array,
    arcface_layout,
    check_choice,
    check_crops,
)
from maskfix.embed.base import unit_rows
from maskfix.weights import file_sha256

PACKS = ("buffalo_l", "buffalo_m", "buffalo_s", "buffalo_sc", "antelopev2")
"""Packs that insightface downloads by itself; for non-commercial research only."""

DEVICES = ("auto", "cpu", "cuda")


class ArcFaceEmbedder:
    """A recogniser over `insightface.model_zoo.get_model`.

    Args:
        source: Path of an ONNX file, or the name of a pack; the pack is fetched by insightface's own download into
            `~/.insightface/models` when it is not there.
        device: "auto", "cpu" or "cuda". CUDA is used where onnxruntime offers it; `device` then says what came of it.
        batch_size: Crops per call of the network, at least 1.

    Raises:
        EmbedderError: If there is no such file or pack, the file is damaged, or it is no recogniser.

    Attributes:
        name: `arcface:` and the file's stem or the pack's name.
        layout: ArcFace's crop at the network's input size.
        dimension: Length of the embedding.
        sha256: Hash of the ONNX file.
        device: "cpu" or "cuda", where the network runs.
        path: The ONNX file.
    """

    def __init__(self, source: str | Path, device: str = "auto", batch_size: int = 64) -> None:
        check_choice("device", device, DEVICES)
        if batch_size < 1:
            raise InputError(f"batch_size: expected at least 1, got {batch_size}")
        text = str(source)
        providers = _providers(device)
        if _is_path(text):
            self.path = Path(text).expanduser()
            self._model = _recogniser(self.path, providers)
            if self._model is None:
                raise EmbedderError(f"{self.path}: no face recogniser (one square RGB input, one vector out)")
            self.name = f"arcface:{self.path.stem}"
        else:
            self.path, self._model = _pack_recogniser(text, providers)
            self.name = f"arcface:{text}"
        self.sha256 = file_sha256(self.path)
        self.device = "cuda" if "CUDA" in self._model.session.get_providers()[0] else "cpu"
        self.layout = arcface_layout(int(self._model.input_size[0]))
        fixed = self._model.input_shape[0]
        #: Some exports take one batch size only; the last batch is then filled up.
        self._fixed = fixed if isinstance(fixed, int) and fixed > 0 else None
        self._batch_size = self._fixed or batch_size
        self.dimension = self._probe()

    def embed(self, crops: UInt8Array) -> FloatArray:
        """Embed N crops.

        Args:
            crops: `(N, S, S, 3)` uint8 RGB in `layout`; N may be 0.

        Returns:
            `(N, D)` float32 of unit length.

        Raises:
            InputError: If the crops have another shape or type.
            EmbedderError: If the network fails on them.
        """
        check_crops("crops", crops, self.layout.size)
        if len(crops) == 0:
            return np.zeros((0, self.dimension), dtype=np.float32)
        starts = range(0, len(crops), self._batch_size)
        return unit_rows(np.concatenate([self._run(crops[at : at + self._batch_size]) for at in starts]))

    def _run(self, crops: UInt8Array) -> FloatArray:
        """One batch through the network; insightface wants a list of BGR pictures."""
        missing = 0 if self._fixed is None else self._fixed - len(crops)
        filled = np.concatenate([crops, np.repeat(crops[-1:], missing, axis=0)]) if missing else crops
        crops_bgr = np.ascontiguousarray(filled[..., ::-1])
        try:
            vectors = np.asarray(self._model.get_feat(list(crops_bgr)))
        except Exception as error:  # onnxruntime has exceptions of its own, without a common base
            raise EmbedderError(f"{self.path}: the recogniser failed ({_first_line(error)})") from error
        if vectors.ndim != 2 or len(vectors) != len(filled) or not np.isfinite(vectors).all():
            raise EmbedderError(
                f"{self.path}: no face recogniser (expected {len(filled)} finite vectors, got shape {vectors.shape})"
            )
        return vectors[: len(crops)]

    def _probe(self) -> int:
        """Length of the embedding, from one grey crop: the file may leave it open."""
        size = self.layout.size
        return int(self._run(np.full((1, size, size, 3), 128, dtype=np.uint8)).shape[1])


def _is_path(text: str) -> bool:
    return text.endswith(".onnx") or "/" in text or "\\" in text or Path(text).is_file()


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


def _providers(device: str) -> list[str]:
    """The onnxruntime providers in order of preference."""
    try:
        import onnxruntime
    except ImportError as error:
        raise DependencyError("arcface recognisers need onnxruntime: pip install maskfix") from error
    if device == "cpu":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]
    if device == "cuda":
        warnings.warn(
            "this onnxruntime has no CUDA, the recogniser runs on the CPU; install onnxruntime-gpu instead of it",
            stacklevel=3,
        )
    return ["CPUExecutionProvider"]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep insightface's prints off standard output; its download bar goes to standard error and stays."""
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _insightface() -> Any:
    try:
        with _quiet():
            import insightface
    except ImportError as error:
        raise DependencyError(f"arcface recognisers need insightface: pip install maskfix ({error})") from error
    return insightface


def _recogniser(path: Path, providers: list[str]) -> Any:
    """What insightface makes of a file, or None where that is no recogniser.

    Raises:
        EmbedderError: If the file is missing, damaged or of a form that insightface refuses.
    """
    if path.suffix != ".onnx" or not path.is_file():
        raise EmbedderError(f"{path}: no such ONNX file; give the path of a recogniser or a pack ({', '.join(PACKS)})")
    zoo = _insightface().model_zoo
    try:
        with _quiet():
            # Not resolved: insightface takes only what ends in .onnx for a path, and a link's target may not.
            model = zoo.get_model(str(path.absolute()), providers=providers)
    except AssertionError as error:
        raise EmbedderError(f"{path}: no face recogniser (expected one output)") from error
    except Exception as error:  # onnxruntime and protobuf raise errors of their own kinds
        raise EmbedderError(f"{path}: damaged, or no ONNX recogniser ({_first_line(error)})") from error
    fits = getattr(model, "taskname", "") == "recognition" and hasattr(model, "get_feat")
    return model if fits else None


def _pack_recogniser(pack: str, providers: list[str]) -> tuple[Path, Any]:
    """The recogniser among a pack's files, downloaded by insightface where the pack is missing."""
    folder = Path("~/.insightface/models").expanduser() / pack
    if not folder.is_dir():
        _download(pack, folder)
    # Recognisers sort last in most packs; some archives nest their folder once more.
    for path in sorted(folder.rglob("*.onnx"), reverse=True):
        with contextlib.suppress(EmbedderError):
            model = _recogniser(path, providers)
            if model is not None:
                return path, model
    raise EmbedderError(f"{folder}: holds no recogniser that can be read; delete the folder to fetch the pack again")


def _download(pack: str, folder: Path) -> None:
    """Fetch a pack with insightface's own download; a failed one leaves nothing behind.

    Raises:
        EmbedderError: If the name is unknown or the download fails.
    """
    if pack not in PACKS:
        raise EmbedderError(f"pack {pack!r} is unknown and not in {folder.parent}; known: {', '.join(PACKS)}")
    storage = _insightface().utils.storage
    archive = folder.with_name(f"{pack}.zip")
    try:
        with _quiet():
            storage.ensure_available("models", pack, root=str(folder.parents[1]))
    except Exception as error:  # requests, zipfile and the library itself
        # insightface takes any folder for an installed pack, so half of one must not stay.
        shutil.rmtree(folder, ignore_errors=True)
        archive.unlink(missing_ok=True)
        raise EmbedderError(
            f"pack {pack}: download failed ({_first_line(error)}); fetch {pack}.zip from "
            f"https://github.com/deepinsight/insightface/releases/tag/model-zoo and unpack it into {folder}"
        ) from error
