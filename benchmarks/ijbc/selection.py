"""Which templates a run takes, and what their data set is called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from protocols.ijb import TemplateSet, find_layout, read_ijb, sample_subjects

NAME_FILE = "name.txt"
"""File in a data set's folder whose first line is what the set is called; `make` writes it."""

_LONGEST = 80


class SetSize(NamedTuple):
    """How many rows, templates and pairs a data set has."""

    rows: int
    templates: int
    pairs: int


OFFICIAL = {"IJB-C": SetSize(469_375, 23_124, 15_658_489), "IJB-B": SetSize(227_630, 12_115, 8_010_270)}


class Selected(NamedTuple):
    """What `Selection.read` gives.

    Attributes:
        data: The templates.
        layout: Name of their layout.
        sample: `subjects`, `of_subjects`, `of_templates` and `seed` where they were drawn from more; None for all.
        name: What the data set is called in titles.
        official: Whether these are all of IJB-B or IJB-C, by their numbers.
    """

    data: TemplateSet
    layout: str
    sample: dict[str, int] | None
    name: str
    official: bool


@dataclass(frozen=True)
class Selection:
    """Which data are run.

    Attributes:
        root: Folder of IJB-B or IJB-C, or of a set in one of their layouts.
        layout: One of `protocols.ijb.LAYOUTS`; the first that the folder holds when None.
        subjects: Number of subjects drawn; all when None.
        max_templates: Upper bound of the number of templates; none when None.
        name: What the data set is called; as `data_set_name` finds it when None.
    """

    root: Path
    layout: str | None = None
    subjects: int | None = None
    max_templates: int | None = None
    name: str | None = None

    def read(self, seed: int) -> Selected:
        """Read the set and draw the sample.

        Args:
            seed: Seed of the sample.

        Raises:
            MaskfixError: If the folder holds no such set, or so many cannot be drawn.
        """
        whole = read_ijb(self.root, layout=self.layout)
        data = sample_subjects(whole, self.subjects, self.max_templates, seed)
        layout = self.layout or find_layout(self.root) or "unknown"
        size = SetSize(len(whole.rows.template), len(whole.templates), len(whole.pairs.same))
        found = data_set_name(self.root, size)
        name = self.name or found
        if data is whole:
            return Selected(data, layout, None, name, OFFICIAL.get(found) == size)
        drawn = {
            "subjects": int(data.subject.max()) + 1,
            "of_subjects": int(whole.subject.max()) + 1,
            "of_templates": len(whole.templates),
            "seed": seed,
        }
        return Selected(data, layout, drawn, name, False)


def data_set_name(root: Path, size: SetSize) -> str:
    """What a data set is called: by its own `name.txt`, as IJB-B or IJB-C if it has their numbers, or by its folder.

    File names are no evidence: every set in the community's layout has IJB-C's.

    Args:
        root: Folder of the set.
        size: Its numbers.

    Example:
        >>> data_set_name(Path("data/other"), SetSize(469_375, 23_124, 15_658_489))
        'IJB-C'
        >>> data_set_name(Path("data/other"), SetSize(3_000, 2_209, 105_000))
        'other'
    """
    try:
        with (root / NAME_FILE).open(encoding="utf-8") as stream:
            written = stream.readline(_LONGEST).strip()
    except (OSError, UnicodeDecodeError):
        written = ""
    if written.isprintable() and written:
        return written
    if known := [name for name, official in OFFICIAL.items() if official == size]:
        return known[0]
    folder = root.resolve().name or "templates"
    claims = folder.lower().replace("-", "").replace("_", "") in ("ijbb", "ijbc")
    return f"{folder} (not of its full size)" if claims else folder
