"""ArcFace recognisers as insightface loads them: any square ONNX recogniser, or the one of a model pack."""

from __future__ import annotations

import contextlib
import copy
import io
import os
import shutil
import threading
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from maskfix.base import (
    CropLayout,
    DependencyError,
    EmbedderError,
    FloatArray,
    UInt8Array,
    insightface_layout,
)
from maskfix.embed.base import RawBatchEmbedder, fill_batch
from maskfix.embed.onnx_network import check_device, first_line, onnx_sha256, providers
from maskfix.embed.sessions import reopen_sessions, session_device
from maskfix.embed.unscaled import Output, unscaled_output

PACKS = {
    "buffalo_l": "w600k_r50.onnx",
    "buffalo_m": "w600k_r50.onnx",
    "buffalo_s": "w600k_mbf.onnx",
    "buffalo_sc": "w600k_mbf.onnx",
    "antelopev2": "glintr100.onnx",
    "raccoon_s": "the file that its manifest.json names",
    "raccoon_l": "the file that its manifest.json names",
}
"""Packs that insightface downloads by itself, and their recognisers; for non-commercial research only."""

#: `sys.stdout` is the whole process's: of two threads that swap it, the later would put the other's back for good.
_LOCK = threading.Lock()


class ArcFaceEmbedder(RawBatchEmbedder):
    """A recogniser over `insightface.model_zoo.get_model`.

    `embed_raw` gives unit vectors where a file scales them in a way that is not known (`unscaled.unscaled_output`).

    Args:
        source: Path of an ONNX file, or the name of a pack; the pack is fetched by insightface's own download into
            `models` of `insightface_root()` when it is not there.
        device: "auto", "cpu", "cuda" or "cuda:N". CUDA is used where onnxruntime offers it; `device` then says what
            came of it.
        batch_size: Crops per call of the network, at least 1; a network of one batch size keeps its own, and one that
            was exported for one face, whatever its input says, gets one at a time.

    Raises:
        EmbedderError: If there is no such file or pack, the file is damaged or no recogniser, or insightface aligns no
            pictures of the size of its input.

    Attributes:
        name: `arcface:` and the file's stem or the pack's name.
        layout: The crop that insightface cuts at the size of the network's input: ArcFace's at multiples of 112 pixels,
            the one with a margin (`canonical_layout`) at multiples of 128.
        dimension: Length of the embedding.
        sha256: Hash of the ONNX file; with weights in files beside it, the hash of all their hashes.
        device: "cpu", "cuda" or "cuda:N", where the network runs.
        path: The ONNX file.
    """

    def __init__(self, source: str | Path, device: str = "auto", batch_size: int = 64) -> None:
        check_device(device)
        super().__init__(batch_size)
        text = str(source)
        self._asked = text, device, batch_size
        order = providers(device)
        if _is_path(text):
            self.path = Path(text).expanduser()
            self._model = _recogniser(self.path, order)
            if self._model is None:
                raise EmbedderError(f"{self.path}: no face recogniser (one square RGB input, one vector out)")
            self.name = f"arcface:{self.path.stem}"
        else:
            self.path, self._model = _pack_recogniser(text, order)
            self.name = f"arcface:{text}"
        self.sha256 = onnx_sha256(self.path)
        self.device = session_device(self._model.session)
        self.layout = _layout(self.path, int(self._model.input_size[0]))
        self._ask_network(self._model.input_shape[0])

    def __reduce__(self) -> tuple[type[ArcFaceEmbedder], tuple[Any, ...]]:
        """A pickled copy opens the file where it is unpickled: a session cannot be pickled."""
        return type(self), self._asked

    def _run_raw(self, crops: UInt8Array) -> FloatArray:
        return self._run(crops, self._raw_model)

    @cached_property
    def _raw_model(self) -> Any:
        """The model, asked for the vectors before they are scaled where the file does that; opened on first use."""
        side = self.layout.size
        pictures = np.random.default_rng(0).uniform(-1, 1, (self._fixed or 2, 3, side, side)).astype(np.float32)
        own = Output(self._model.session, self._model.output_names[0])
        found = unscaled_output(self.path, own, {self._model.input_name: pictures})
        model = copy.copy(self._model)
        model.session, model.output_names = found.session, [found.name]
        return model

    def _run(self, crops: UInt8Array, model: Any = None) -> FloatArray:
        """One batch through the network, or another model of it; insightface wants a list of BGR pictures."""
        filled = fill_batch(crops, self._fixed)
        crops_bgr = np.ascontiguousarray(filled[..., ::-1])
        try:
            vectors = np.asarray((model or self._model).get_feat(list(crops_bgr)))
        except Exception as error:  # onnxruntime has exceptions of its own, without a common base
            raise EmbedderError(f"{self.path}: the recogniser failed ({first_line(error)})") from error
        if vectors.ndim != 2 or len(vectors) != len(filled) or not np.isfinite(vectors).all():
            raise EmbedderError(
                f"{self.path}: no face recogniser (expected {len(filled)} finite vectors, got shape {vectors.shape})"
            )
        return vectors[: len(crops)]


def _layout(path: Path, size: int) -> CropLayout:
    """The crop that insightface cuts for a recogniser of this input size."""
    layout = insightface_layout(size)
    if layout is None:
        raise EmbedderError(
            f"{path}: takes {size}x{size} pictures, and insightface aligns multiples of 112 or 128 only; where you "
            "know its crop, give onnx:PATH?layout=NAME"
        )
    return layout


def _is_path(text: str) -> bool:
    return text.endswith(".onnx") or "/" in text or "\\" in text or Path(text).is_file()


def insightface_root() -> Path:
    """Where insightface keeps its packs, in `models`: `$INSIGHTFACE_HOME`, else `~/.insightface`.

    insightface itself takes the folder as `root=` and knows no variable; this is the way to say it on a command line.
    """
    return Path(os.environ.get("INSIGHTFACE_HOME") or "~/.insightface").expanduser()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep insightface's prints off standard output; its download bar goes to standard error and stays."""
    with _LOCK, contextlib.redirect_stdout(io.StringIO()):
        yield


def _insightface() -> Any:
    try:
        with _quiet():
            import insightface
    except ImportError as error:
        raise DependencyError(
            f"arcface recognisers need insightface, which cannot be imported ({error}); pip install insightface"
        ) from error
    return insightface


def _recogniser(path: Path, order: list[Any]) -> Any:
    """What insightface makes of a file, or None where that is no recogniser.

    Raises:
        EmbedderError: If the file is missing, damaged or of a form that insightface refuses.
    """
    if path.suffix != ".onnx" or not path.is_file():
        problem = "its name does not end in .onnx" if path.is_file() else "no such ONNX file"
        raise EmbedderError(f"{path}: {problem}; give the path of a recogniser or a pack ({', '.join(PACKS)})")
    # Not resolved: insightface takes only what ends in .onnx for a path, and a link's target may not.
    return _get_model(path, str(path.absolute()), providers=order)


def _get_model(path: Path, name: str, **options: Any) -> Any:
    """Load with insightface, its errors told as ours; None where it makes something else than a recogniser."""
    zoo = _insightface().model_zoo
    try:
        with _quiet():
            model = zoo.get_model(name, **options)
    except AssertionError as error:
        raise EmbedderError(f"{path}: no face recogniser (expected one output)") from error
    except Exception as error:  # onnxruntime and protobuf raise errors of their own kinds
        raise EmbedderError(f"{path}: damaged, or no ONNX recogniser ({first_line(error)})") from error
    fits = getattr(model, "taskname", "") == "recognition" and hasattr(model, "get_feat")
    if not fits:
        return None
    reopen_sessions([model])
    return model


def _pack_recogniser(pack: str, order: list[Any]) -> tuple[Path, Any]:
    """The recogniser among a pack's files, downloaded by insightface where the pack is missing."""
    folder = insightface_root() / "models" / pack
    if not folder.is_dir():
        _download(pack, folder)
    declared = _declared_recogniser(folder, order)
    if declared is not None:
        return declared
    # Recognisers sort last in most packs; some archives nest their folder once more.
    for path in sorted(folder.rglob("*.onnx"), reverse=True):
        with contextlib.suppress(EmbedderError):
            model = _recogniser(path, order)
            if model is not None:
                return path, model
    known = f" (expected {PACKS[pack]})" if pack in PACKS else ""
    raise EmbedderError(
        f"{folder}: holds no recogniser that can be read{known}; delete the folder to fetch the pack again"
    )


def _declared_recogniser(folder: Path, order: list[Any]) -> tuple[Path, Any] | None:
    """The recogniser that a pack's manifest names, with its preprocessing; None where there is no manifest.

    Packs since insightface 2 say how values are scaled and which hash the file has; by path alone both would be lost.
    """
    with contextlib.suppress(ImportError):
        from insightface.model_zoo.package_manifest import has_model_package_manifest

        for path in sorted(folder.rglob("manifest.json")):
            if has_model_package_manifest(path.parent):
                model = _get_model(path, str(path.parent), providers=order, model_task="recognition")
                return (Path(model.model_file), model) if model is not None else None
    return None


def _download(pack: str, folder: Path) -> None:
    """Fetch a pack with insightface's own download; a failed one leaves nothing behind.

    Raises:
        EmbedderError: If the name is unknown or the download fails.
    """
    if pack not in PACKS:
        raise EmbedderError(f"pack {pack!r} is unknown and not in {folder.parent}; known: {', '.join(PACKS)}")
    storage = _insightface().utils.storage
    root = folder.parents[1]
    archive = folder.with_name(f"{pack}.zip")
    try:
        with _quiet():
            storage.ensure_available("models", pack, root=str(root))
    except Exception as error:  # requests, zipfile and the library itself
        # insightface takes any folder for an installed pack, so half of one must not stay.
        shutil.rmtree(folder, ignore_errors=True)
        archive.unlink(missing_ok=True)
        raise EmbedderError(
            f"pack {pack}: download failed ({first_line(error)}); where there is a network, run `insightface-cli "
            f"model.download {pack} --root {root}`, or fetch {pack}.zip from "
            f"https://github.com/deepinsight/insightface/releases/tag/model-zoo and unpack it into {folder} "
            f"(its recogniser is {PACKS[pack]})"
        ) from error
