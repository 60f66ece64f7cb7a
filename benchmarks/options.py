"""Options that several benchmark commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Weights = Annotated[str, typer.Option(help="Name or .safetensors file of the completing network.")]
Templates = Annotated[
    Path | None, typer.Option(help="Mask templates in MaskTheFace's layout; without it, maskfix's own drawings.")
]
Kind = Annotated[
    list[str] | None,
    typer.Option(help="Mask kinds to draw from, or templates of your own folder; repeat it. Else the paper's nine."),
]
Fuse = Annotated[
    float | None,
    typer.Option(help="Add a row: embeddings of the completed (this share) and masked face, mixed. From 0 to 1."),
]
CleanCompleted = Annotated[
    bool, typer.Option(help="Also send the clean probes through the completion, to show what that costs.")
]
DropFailed = Annotated[
    bool, typer.Option("--drop-failed", help="Leave out pairs in which anything failed instead of counting them.")
]
Replicates = Annotated[int, typer.Option(help="Draws of the subject bootstrap; 0 for no intervals.")]
Detector = Annotated[str, typer.Option(help="auto, mesh or mtcnn.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
