"""What a run is known by."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from maskfix.base import UInt8Array, write_image
from maskfix.occlude import Occluder, folder_templates
from protocols.ijb.settings import FeatureSettings, describe_run
from tests.occlude.samples import grey
from tests.protocols.ijb.small import plain_parts
from tests.protocols.worlds import MiddleEmbedder

CFG = """[cloth]
template: x.png
mask_a: 2, 4
mask_b: 9, 1
mask_c: 18, 4
mask_d: 3, 9
mask_e: 9, 15
mask_f: 17, 9
"""


@pytest.mark.parametrize(("picture", "same"), [(grey(9, 16), True), (grey(10, 16), False)])
def test_describe_run__folders_of_one_name_with_other_masks(tmp_path: Path, picture: UInt8Array, same: bool) -> None:
    """A run that was killed must not go on with other masks."""
    told = []
    for parent, image in (("begun", grey(9, 16)), ("now", picture)):
        folder = tmp_path / parent / "masks"
        write_image(folder / "x.png", image)
        (folder / "masks.cfg").write_text(CFG)
        parts = replace(plain_parts(), occluder=Occluder(folder_templates(folder)))
        told.append(describe_run(parts, FeatureSettings()))
    assert told[0]["masks"] == told[1]["masks"] == "folder:masks"
    assert (told[0] == told[1]) is same


def test_describe_run__one_file_declared_in_two_ways() -> None:
    told = []
    for declared in ("range=-1.0..1.0", "range=0.0..1.0"):
        embedder = MiddleEmbedder()
        embedder.declared = declared  # type: ignore[attr-defined]
        told.append(describe_run(plain_parts(embedder), FeatureSettings()))
    assert told[0] != told[1]
    assert describe_run(plain_parts(), FeatureSettings()) == describe_run(plain_parts(), FeatureSettings())
