"""What a run is made from, by hash: it goes on from that alone, and its release says it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskfix.base import CheckpointError
from maskfix.occlude import folder_templates
from maskfix.weights import file_sha256


def run_sources(
    faces: str | Path,
    networks: Mapping[str, str] | None = None,
    teachers: Mapping[str, str] | None = None,
    templates: str | Path | None = None,
) -> dict[str, Any]:
    """Hashes of what a run is made from, and the commit that runs it.

    Args:
        faces: Folder that `maskfix prepare` wrote; the hash is that of its `records.csv`.
        networks: Hashes of the frozen networks in the loss, by name.
        teachers: Hashes of recognisers to learn from, by name.
        templates: Folder of mask templates.

    Returns:
        `faces` and `commit`; `templates`, a hash of the folder, None for maskfix's own; `networks` and `teachers`,
        where there are any.

    Raises:
        WeightsError: If `records.csv` cannot be read.
        DatasetError: If the templates cannot.
    """
    found: dict[str, Any] = {"faces": faces_sha256(faces), "commit": checkout_commit()}
    found["templates"] = folder_templates(templates).sha256 if templates else None
    named = {"networks": networks, "teachers": teachers}
    return found | {name: dict(hashes) for name, hashes in named.items() if hashes}


def faces_sha256(faces: str | Path) -> str:
    """Hash of a store of faces: that of its `records.csv`, which names all pictures and has the hash of each.

    Raises:
        WeightsError: If it cannot be read.
    """
    return file_sha256(Path(faces) / "records.csv")


def check_sources(path: str | Path, stored: Mapping[str, Any], running: Mapping[str, Any]) -> None:
    """Refuse to go on with a checkpoint that was made from other files.

    What only one of the two says is let pass: checkpoints of before say nothing. The commit may differ.

    Args:
        path: The checkpoint.
        stored: What it says of itself.
        running: What `run_sources` says now.

    Raises:
        CheckpointError: If faces, networks, teachers, templates or the start are others.
    """
    other = [key for key in stored.keys() & running.keys() if key != "commit" and stored[key] != running[key]]
    if other:
        raise CheckpointError(
            f"{path}: made from other {' and '.join(sorted(other))}; give those again, or choose another --out"
        )


def checkout_commit() -> str:
    """The checkout's commit, or `unknown` outside a checkout, be it inside another project's."""
    root = Path(__file__).resolve().parents[2]
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--show-toplevel", "HEAD"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    top, _, commit = found.stdout.strip().rpartition("\n")
    return commit if Path(top).resolve() == root else "unknown"
