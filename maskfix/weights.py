"""Trained weights: a manifest row per file, its hash checked on every load, safetensors only."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskfix.base import InputError, WeightsError, replacing

if TYPE_CHECKING:
    from torch import Tensor

MANIFEST = "manifest.json"
SUFFIX = ".safetensors"

MAX_BYTES = 4 * 2**30
"""Larger weights files are refused before they are read."""

#: Largest finite float16.
_HALF_MAX = 65504.0


@dataclass(frozen=True)
class WeightsRow:
    """One weights file and where it comes from.

    Attributes:
        name: `arch.tag`, such as `cadf_small_128.utkface`.
        arch: Name that `maskfix.restore.factory.create_network` takes.
        file: File name, in the folder of the manifest.
        sha256: Hash of the file, 64 hexadecimal digits.
        bytes: Size of the file.
        licence: Licence of the weights.
        data: What they were trained on.
        commit: Commit of this project that released them, which may be later than the one that trained them.
        training: Configuration and figures of the training run.
        scores: Measured results; rates are fractions in [0, 1].
        notes: What a user should know, such as limits.
    """

    name: str
    arch: str
    file: str
    sha256: str
    bytes: int
    licence: str = ""
    data: str = ""
    commit: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, Any] = field(default_factory=dict)
    notes: str = ""


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file, 64 hexadecimal digits.

    Raises:
        WeightsError: If the file cannot be read.
    """
    try:
        with Path(path).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error


def checkout_folder() -> Path:
    """The `weights` folder of a checkout, beside the package; it need not exist."""
    return Path(__file__).resolve().parents[1] / "weights"


def weights_folders() -> list[Path]:
    """Where weights are looked for, first come first served.

    `$MASKFIX_WEIGHTS`, then the folder inside the installed package, then that of the checkout.
    """
    own = os.environ.get("MASKFIX_WEIGHTS", "")
    folders = [Path(own).expanduser()] if own else []
    return [*folders, Path(__file__).resolve().parent / "_weights", checkout_folder()]


def read_manifest(folder: str | Path) -> list[WeightsRow]:
    """The rows of a folder's manifest; none where it has no manifest.

    Raises:
        WeightsError: If the manifest is damaged or a row lacks a field, has an unknown one or names a file elsewhere.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["weights"]
        return [_row(path, item) for item in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, WeightsError):
            raise
        raise WeightsError(f"{path}: damaged manifest ({error}); restore it from the repository") from error


def manifest_row(name: str, folder: str | Path) -> WeightsRow:
    """One row of a folder's manifest.

    Args:
        name: `arch.tag` of the row.
        folder: Weights folder with `manifest.json`.

    Raises:
        InputError: If the folder has no manifest, or the manifest no such row.
        WeightsError: If the manifest is damaged.
    """
    rows = {row.name: row for row in read_manifest(folder)}
    if not rows:
        raise InputError(f"{Path(folder) / MANIFEST}: names no weights; name the folder of a checkout")
    if name not in rows:
        raise InputError(f"{name}: not in {Path(folder) / MANIFEST}; known: {', '.join(rows)}")
    return rows[name]


def _row(path: Path, item: Mapping[str, Any]) -> WeightsRow:
    """One checked row."""
    unknown = set(item) - {entry.name for entry in fields(WeightsRow)}
    if unknown:
        raise WeightsError(f"{path}: row with unknown fields {', '.join(sorted(unknown))}; update maskfix")
    row = WeightsRow(**item)
    texts = (row.name, row.arch, row.file, row.sha256)
    if not all(isinstance(text, str) and text for text in texts) or not isinstance(row.bytes, int):
        raise WeightsError(f"{path}: row {row.name!r} lacks a name, arch, file, sha256 or bytes")
    if Path(row.file).name != row.file or not row.file.endswith(SUFFIX):
        raise WeightsError(f"{path}: row {row.name!r} must name a {SUFFIX} file of its own folder, not {row.file!r}")
    return row


def list_weights() -> list[WeightsRow]:
    """Every known row; where two folders hold one name, the first folder wins.

    Raises:
        WeightsError: If a manifest is damaged, or `$MASKFIX_WEIGHTS` is no folder.
    """
    return [row for _, row in _known()]


def _known() -> list[tuple[Path, WeightsRow]]:
    """Every known row with its folder; a mistyped one is told: other weights, of another licence, would stand in."""
    own = os.environ.get("MASKFIX_WEIGHTS", "")
    if own and not Path(own).expanduser().is_dir():
        raise WeightsError(f"MASKFIX_WEIGHTS: {own} is no folder; name one that holds weights, or unset it")
    found: dict[str, tuple[Path, WeightsRow]] = {}
    for folder in weights_folders():
        for row in read_manifest(folder):
            found.setdefault(row.name, (folder, row))
    return list(found.values())


def load_weights(name_or_path: str | Path) -> tuple[dict[str, Tensor], WeightsRow]:
    """Load weights by name or from a file; half-precision tensors come back as float32.

    Args:
        name_or_path: `arch.tag`; or the bare `arch`, which takes the last row of that architecture in the first
            folder that has one; or the path of a `.safetensors` file. A file that a manifest beside it lists is
            checked against that row; any other must carry `arch` in its header.

    Returns:
        The state dict and the row.

    Raises:
        WeightsError: If the name is unknown, or the file is missing, damaged or has another hash than its row.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(SUFFIX) or "/" in text or os.sep in text:
        path = Path(text).expanduser()
        listed = next((row for row in read_manifest(path.parent) if row.file == path.name), None)
    else:
        folder, listed = _find(text)
        path = folder / listed.file
    blob = _read(path)
    digest = hashlib.sha256(blob).hexdigest()
    if listed is not None and digest != listed.sha256:
        raise WeightsError(
            f"{path}: sha256 is {digest[:12]}..., the manifest says {listed.sha256[:12]}...; fetch the file again"
        )
    state, metadata = _parse(path, blob)
    return state, listed or _row_from_header(path, metadata, digest, len(blob))


def _find(name: str) -> tuple[Path, WeightsRow]:
    """The folder and row of a name or a bare architecture."""
    known = _known()
    exact = [pair for pair in known if pair[1].name == name]
    same_arch = [pair for pair in known if pair[1].arch == name]
    if exact:
        return exact[0]
    if same_arch:
        return [pair for pair in same_arch if pair[0] == same_arch[0][0]][-1]
    names = ", ".join(row.name for _, row in known) or "none"
    raise WeightsError(f"weights {name!r} are unknown; known: {names}; or give the path of a {SUFFIX} file")


def _read(path: Path) -> bytes:
    """The whole file, so that what is hashed is what is loaded."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file; set MASKFIX_WEIGHTS to the folder that holds it")
    if path.stat().st_size > MAX_BYTES:
        raise WeightsError(f"{path}: larger than {MAX_BYTES} bytes, no weights of maskfix")
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from error


def _parse(path: Path, blob: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and header of a safetensors file."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(blob)
        # Eight bytes of length, then JSON (the safetensors format); `load` has checked both.
        header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    except (SafetensorError, ValueError, KeyError) as error:
        raise WeightsError(f"{path}: damaged or no {SUFFIX} file ({error}); fetch it again") from error
    halves = (torch.float16, torch.bfloat16)
    state = {key: value.float() if value.dtype in halves else value for key, value in tensors.items()}
    return state, dict(header.get("__metadata__") or {})


def _row_from_header(path: Path, metadata: Mapping[str, str], digest: str, size: int) -> WeightsRow:
    """A row for a file that no manifest lists."""
    if not metadata.get("arch"):
        raise WeightsError(f"{path}: its header does not say which network it fits; write it with save_weights")
    return WeightsRow(
        name=path.name.removesuffix(SUFFIX),
        arch=metadata["arch"],
        file=path.name,
        sha256=digest,
        bytes=size,
        licence=metadata.get("licence", ""),
        data=metadata.get("data", ""),
        commit=metadata.get("commit", ""),
        training=_json_object(metadata.get("training", "{}")),
        scores=_json_object(metadata.get("scores", "{}")),
        notes=metadata.get("notes", ""),
    )


def _json_object(text: str) -> dict[str, Any]:
    """A header entry that should be a JSON object; anything else is kept as it stands."""
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    return value if isinstance(value, dict) else {"value": value}


def save_weights(
    path: str | Path,
    state_dict: Mapping[str, Tensor],
    arch: str,
    metadata: Mapping[str, Any] | None = None,
    half: bool = True,
) -> WeightsRow:
    """Write weights whole or not at all.

    Args:
        path: A `.safetensors` file; its name without the suffix becomes the row's name.
        state_dict: Tensors of any device; integers are kept as they are.
        arch: Name of the network, kept in the header.
        metadata: More for the header, such as `licence`, `data`, `commit`, `training` (a dict); what is no text is
            kept as JSON.
        half: Whether floating tensors are stored as float16, which halves the file.

    Returns:
        A row for `add_to_manifest`.

    Raises:
        WeightsError: If the suffix is another, a tensor holds NaN or does not fit into float16, or the file cannot be
            written.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    path = Path(path)
    if path.suffix != SUFFIX:
        raise WeightsError(f"{path}: weights are kept as {SUFFIX} only")
    tensors: dict[str, Tensor] = {}
    for key, value in state_dict.items():
        plain = value.detach().cpu()
        if plain.is_floating_point():
            limit = _HALF_MAX if half else torch.finfo(plain.dtype).max
            if plain.numel() and not bool((plain.abs() <= limit).all()):
                raise WeightsError(f"{path}: tensor {key!r} holds NaN, infinity or a value beyond {limit:g}")
            plain = plain.half() if half else plain
        # Cloned, since safetensors refuses tensors that share memory.
        tensors[key] = plain.clone().contiguous()
    header = {"arch": arch}
    for key, value in (metadata or {}).items():
        header[key] = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=header)
        except SafetensorError as error:
            # Not the system's own error, of which it is made.
            raise WeightsError(f"{path}: cannot be written ({error}); is the disk full?") from error
    return _row_from_header(path, header, file_sha256(path), path.stat().st_size)


def add_to_manifest(row: WeightsRow, folder: str | Path | None = None) -> None:
    """Add a row to the end of a folder's manifest, where the network's bare name finds it; one of its name goes.

    Args:
        row: The row; its file must lie in the folder.
        folder: The folder; that of the checkout when None.

    Raises:
        WeightsError: If the file is missing or has another hash, or the manifest is damaged.
    """
    folder = checkout_folder() if folder is None else Path(folder)
    _check_file(row, folder)
    _write_manifest(folder / MANIFEST, [*(old for old in read_manifest(folder) if old.name != row.name), row])


def replace_in_manifest(row: WeightsRow, folder: str | Path | None = None) -> None:
    """Put a row in the place of that of its name: what is said of weights changes, not which ones are the newest.

    Args:
        row: The row; its file must lie in the folder.
        folder: The folder; that of the checkout when None.

    Raises:
        InputError: If no row has its name.
        WeightsError: If the file is missing or has another hash, or the manifest is damaged.
    """
    folder = checkout_folder() if folder is None else Path(folder)
    _check_file(row, folder)
    manifest_row(row.name, folder)
    _write_manifest(folder / MANIFEST, [row if old.name == row.name else old for old in read_manifest(folder)])


def _check_file(row: WeightsRow, folder: Path) -> None:
    """Refuse a row that is none, or whose file is not the one that it is of."""
    _row(folder / MANIFEST, asdict(row))
    digest = file_sha256(folder / row.file)
    if digest != row.sha256:
        raise WeightsError(f"{folder / row.file}: sha256 is {digest[:12]}..., the row says {row.sha256[:12]}...")


def _write_manifest(path: Path, rows: Sequence[WeightsRow]) -> None:
    text = json.dumps({"weights": [asdict(row) for row in rows]}, indent=2, ensure_ascii=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
