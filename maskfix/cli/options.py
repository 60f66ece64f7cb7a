"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[str, typer.Option(help="auto, cpu or cuda")]
Templates = Annotated[
    Path | None, typer.Option(help="folder in MaskTheFace's layout (masks.cfg); maskfix's own drawings when left out")
]
Faces = Annotated[Path, typer.Option(help="folder that maskfix prepare wrote")]
RunFolder = Annotated[Path, typer.Option(help="folder for checkpoint and log")]
Steps = Annotated[int | None, typer.Option(help="steps in all; the configuration's when left out")]
Workers = Annotated[int, typer.Option(help="processes that make batches")]
ConfigFile = Annotated[Path | None, typer.Option(help="TOML file; the defaults when left out")]
