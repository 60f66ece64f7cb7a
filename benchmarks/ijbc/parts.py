"""The networks of a run by name, to be loaded in this process or in workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskfix.base import InputError, check_choice, resolve_device
from maskfix.weights import WeightsRow
from protocols.ijb import IjbParts


@dataclass(frozen=True)
class PartNames:
    """What a run is made of, by name; it can be sent to workers.

    Attributes:
        embedders: Spec of each recogniser.
        weights: Name or path of the completing network's weights.
        templates: Folder of mask templates in MaskTheFace's layout; this project's own drawings when None.
        detector: `auto`, `mesh` or `mtcnn`.
        device: `auto`, `cpu` or `cuda`.
        batch_size: Crops that go through a network at once.
    """

    embedders: tuple[str, ...]
    weights: str = "cadf_small_128"
    templates: Path | None = None
    detector: str = "auto"
    device: str = "auto"
    batch_size: int = 64

    def check(self, kinds: Sequence[str]) -> None:
        """Check what is cheap to check.

        Args:
            kinds: Mask kinds that the templates should give.

        Raises:
            InputError: If a name or a kind is unknown, or a recogniser is missing or given twice.
            DatasetError: If the folder of templates is none.
        """
        from maskfix.align import list_detectors
        from maskfix.occlude import open_occluder

        check_choice("detector", self.detector, list_detectors())
        resolve_device(self.device)
        if not self.embedders or len(set(self.embedders)) < len(self.embedders):
            raise InputError("embedder: give at least one, and each once")
        open_occluder(self.templates, kinds)

    def load(self) -> IjbParts:
        """Load everything.

        Raises:
            MaskfixError: If something is unknown, missing or damaged.
        """
        from maskfix.align import load_detector
        from maskfix.deocclude import Deoccluder
        from maskfix.embed.factory import load
        from maskfix.occlude import open_occluder

        place = resolve_device(self.device)
        embedders = [load(spec, device=self.device, batch_size=self.batch_size) for spec in self.embedders]
        restorer = Deoccluder.from_pretrained(self.weights, device=place, batch_size=self.batch_size)
        return IjbParts(
            load_detector(self.detector, device=place),
            open_occluder(self.templates),
            restorer,
            restorer.weights or WeightsRow("unnamed", "unknown", "", "0" * 64, 0),
            embedders,
        )
