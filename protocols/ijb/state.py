"""What a run over templates has done so far: sums of templates and what failed, saved whole, resumed to the bit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.base import UNREADABLE_ARRAYS, BoolArray, DatasetError, FloatArray, InputError, UInt8Array, replacing
from maskfix.score import TemplatePooling
from protocols.base import Integers
from protocols.ijb.extract import FIGURES, BlockResult
from protocols.ijb.settings import FeatureSettings
from protocols.ijb.templates import TemplateSet
from protocols.ijb.units import Units

STATE_FORMAT = 1
"""Raised whenever an older state would be gone on with wrongly."""

_WAY_OUT = "repeat with the same settings, or start anew with --fresh"


class TemplateFeatures(NamedTuple):
    """Unit features of templates by one embedder; a row of zeros stands for a template without any.

    Attributes:
        gallery: Of the G gallery templates, `(G, D)` float32, in the order of the set's templates.
        probe: Of the H probe templates under each method, `(H, D)` float32.
    """

    gallery: FloatArray
    probe: dict[str, FloatArray]


class RunState:
    """Pools the features of units into templates, block by block, and can be saved between two blocks.

    Rows are pooled in the order of their units (`Units.order`). The clean features of all rows go into one pooling; the
    other methods' hold the rows of probe templates only, so the gallery is embedded once and shared.

    Args:
        data: The templates.
        units: Their units.
        dimensions: Length of the features of each embedder.
        settings: How features are made.
        about: What the run is known by (`protocols.ijb.settings.describe_run`); the data are added here.

    Attributes:
        units_done: Units that are done, always whole blocks.
        flags: What happened to each unit, `(U,)` uint8, values of `Flag`.
        figures: `(F, U)` float32 in the order of `FIGURES`; nan where there is none.
        embedded: For each embedder which units have a feature under each method, `(M, U)` bool.
        reasons: Why units failed, by unit.
        seconds: Time that each stage took, over all runs.
        sessions: By what each session worked, and the unit that it began at.
    """

    def __init__(
        self,
        data: TemplateSet,
        units: Units,
        dimensions: Sequence[int],
        settings: FeatureSettings,
        about: Mapping[str, Any],
    ) -> None:
        self._data, self._units, self._settings = data, units, settings
        self.about = {"format": STATE_FORMAT, "data": _hash_data(data, units), **about}
        count = len(units.image)
        self.units_done = 0
        self.flags: UInt8Array = np.zeros(count, dtype=np.uint8)
        self.figures: FloatArray = np.full((len(FIGURES), count), np.nan, dtype=np.float32)
        self.embedded: list[BoolArray] = [np.zeros((len(settings.methods), count), dtype=np.bool_) for _ in dimensions]
        self.reasons: dict[int, str] = {}
        self.seconds: dict[str, float] = {}
        self.sessions: list[tuple[int, str]] = []
        self._probe_row = data.is_probe[data.row_template]
        every = units.order
        probes = every[self._probe_row[every]]
        self._poolings = [
            {method: self._pooling(every if method == "clean" else probes, length) for method in settings.methods}
            for length in dimensions
        ]

    @property
    def blocks_done(self) -> int:
        """Blocks that are done."""
        return -(-self.units_done // self._settings.batch_size)

    @property
    def blocks(self) -> int:
        """Blocks in all."""
        return -(-len(self.flags) // self._settings.batch_size)

    def add(self, result: BlockResult) -> None:
        """Add the next block.

        Raises:
            InputError: If it is not the next one.
        """
        if result.number != self.blocks_done or self.units_done == len(self.flags):
            raise InputError(f"block {result.number} came where block {self.blocks_done} of {self.blocks} was due")
        first = self.units_done
        last = first + len(result.flags)
        part = slice(first, last)
        rows = self._units.order[self._units.start[first] : self._units.start[last]]
        for place, poolings in enumerate(self._poolings):
            self.embedded[place][:, part] = result.valid[place]
            for row, (method, pooling) in enumerate(poolings.items()):
                chosen = rows if method == "clean" else rows[self._probe_row[rows]]
                unit = self._units.row[chosen] - first
                pooling.add(result.features[place][row][unit], result.valid[place][row][unit])
        self.flags[part], self.figures[:, part] = result.flags, result.figures
        self.reasons |= {first + place: reason for place, reason in result.reasons.items()}
        for stage, spent in result.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
        self.units_done = last

    def features(self) -> list[TemplateFeatures]:
        """Features of the templates by each embedder."""
        probe = self._data.is_probe
        made = []
        for poolings in self._poolings:
            whole = {method: pooling.templates().features for method, pooling in poolings.items()}
            made.append(
                TemplateFeatures(whole["clean"][~probe], {method: values[probe] for method, values in whole.items()})
            )
        return made

    def save(self, path: Path) -> None:
        """Write everything; the file appears whole or not at all."""
        arrays: dict[str, NDArray[Any]] = {
            "about": np.array(json.dumps(self.about)),
            "units_done": np.array(self.units_done),
            "flags": self.flags,
            "figures": self.figures,
            "reasons": np.array(json.dumps({str(unit): reason for unit, reason in self.reasons.items()})),
            "seconds": np.array(json.dumps(self.seconds)),
            "sessions": np.array(json.dumps(self.sessions)),
        }
        for place, (poolings, embedded) in enumerate(zip(self._poolings, self.embedded, strict=True)):
            arrays[f"{place}.embedded"] = embedded
            for method, pooling in poolings.items():
                arrays |= {f"{place}.{method}.{name}": value for name, value in pooling.state_dict().items()}
        with replacing(path) as temporary:
            np.savez(temporary, **arrays)

    def load(self, path: Path) -> None:
        """Go on where a saved run was.

        Raises:
            InputError: If that run had other data, networks or settings; the message says which.
            DatasetError: If the file is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            about = json.loads(str(arrays["about"]))
        except UNREADABLE_ARRAYS as error:
            raise DatasetError(f"{path}: damaged, or no state of a run ({error}); start anew with --fresh") from error
        self._compare(path, about)
        try:
            self._restore(arrays)
        except (KeyError, ValueError) as error:
            raise DatasetError(f"{path}: damaged ({error}); start anew with --fresh") from error

    def _compare(self, path: Path, about: Mapping[str, Any]) -> None:
        """Check that a saved run is this one."""
        for name, now in json.loads(json.dumps(self.about)).items():
            then = about.get(name)
            if then == now:
                continue
            if name in ("data", "format"):
                what = "other rows, pictures or templates" if name == "data" else "another version of maskfix"
                raise InputError(f"{path}: this run was begun with {what}; {_WAY_OUT}")
            raise InputError(
                f"{path}: this run was begun with {name} {_text(then)}, now it is {_text(now)}; {_WAY_OUT}"
            )

    def _restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self.flags[:], self.figures[:] = arrays["flags"], arrays["figures"]
        self.reasons = {int(unit): reason for unit, reason in json.loads(str(arrays["reasons"])).items()}
        self.seconds = json.loads(str(arrays["seconds"]))
        # States of before do not say.
        self.sessions = [(int(unit), str(by)) for unit, by in json.loads(str(arrays.get("sessions", "[]")))]
        for place, poolings in enumerate(self._poolings):
            self.embedded[place][:] = arrays[f"{place}.embedded"]
            for method, pooling in poolings.items():
                prefix = f"{place}.{method}."
                pooling.load_state_dict(
                    {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
                )
        self.units_done = int(arrays["units_done"])

    def _pooling(self, rows: Integers, dimensions: int) -> TemplatePooling:
        """A pooling of some rows, in this order."""
        return TemplatePooling(
            self._data.row_template[rows],
            self._data.rows.media[rows],
            self._data.rows.score[rows],
            templates=len(self._data.templates),
            dimensions=dimensions,
            detector_score=self._settings.detector_score,
            keep_norm=self._settings.keep_norm,
        )


def _hash_data(data: TemplateSet, units: Units) -> str:
    """Hash of all that features depend on: pictures, points, boxes, templates, media, scores, sides."""
    digest = hashlib.sha256()
    parts: Iterable[NDArray[Any]] = (
        units.row, units.digest, units.points, units.box, data.rows.template, data.rows.media, data.rows.score,
        data.templates, data.is_probe,
    )  # fmt: skip
    for part in parts:
        digest.update(f"{part.shape} {part.dtype}".encode())
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()


def _text(value: Any) -> str:
    """A setting, short."""
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
