"""What views put on faces: templates of a folder, prints, valves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.random import default_rng
from PIL import Image

from maskfix.base import InputError
from maskfix.data import FaceStore
from maskfix.occlude import Occluder
from maskfix.train.config import ViewConfig
from maskfix.train.views import OccludedViews, open_occluders
from tests.train.view_batches import dataset

POINTS_20 = ((2, 4), (10, 1), (18, 4), (3, 10), (10, 15), (17, 10))
"""Mask points of a template of 20 by 16 pixels."""


def write_templates(folder: Path, names: Sequence[str]) -> Path:
    """Small templates in MaskTheFace's layout."""
    points = "".join(f"mask_{letter}: {x}, {y}\n" for letter, (x, y) in zip("abcdef", POINTS_20, strict=True))
    (folder / "masks.cfg").write_text("".join(f"[{name}]\ntemplate: x.png\n{points}" for name in names))
    Image.new("RGBA", (20, 16), "red").save(folder / "x.png")
    return folder


class TestOpenOccluders:
    def test_own_and_a_folders(self, tmp_path: Path) -> None:
        assert [one.source.name for one in open_occluders(None, ViewConfig())] == ["drawn"]
        written = write_templates(tmp_path, ("cloth", "N95"))
        config = ViewConfig(kinds=("N95",), random_cloth=0.1)
        assert [one.source.templates for one in open_occluders(written, config)][1:] == [("N95", "cloth")]

    def test_folder_that_lacks_a_kind(self, tmp_path: Path) -> None:
        """Said at once, not by a worker in the middle of a run; random cloth needs cloth."""
        written = write_templates(tmp_path, ("N95",))
        assert len(open_occluders(written, ViewConfig(kinds=("N95",), random_cloth=0.0))) == 2
        for config in (ViewConfig(), ViewConfig(kinds=("N95",), random_cloth=0.1)):
            with pytest.raises(InputError, match="is unknown; known: N95"):
                open_occluders(written, config)


class TestOcclude:
    def test_valves_share(self, faces: FaceStore) -> None:
        """Valves are part of the mask: what they hide is opaque, and the clean face is whole behind them."""
        views = {share: dataset(faces, clean=0.0, valves=share).views for share in (0.0, 0.5, 1.0)}
        face = views[0.0].face(0, np.random.default_rng(0))
        changed = {0.0: 0, 0.5: 0, 1.0: 0}
        for seed in range(24):
            plain = views[0.0].occlude(face, np.random.default_rng(seed))
            for share, one in views.items():
                found = one.occlude(face, np.random.default_rng(seed))
                np.testing.assert_array_equal(found.clean, face.crop)
                np.testing.assert_array_equal(found.picture[found.alpha == 0], face.crop[found.alpha == 0])
                assert (found.alpha >= plain.alpha).all()
                changed[share] += bool((found.picture != plain.picture).any())
        assert changed[0.0] == 0
        assert 4 <= changed[0.5] <= 20
        assert changed[1.0] == 24

    def test_prints__show_the_others_alone(self, faces: FaceStore) -> None:
        """What is printed on a mask comes from the faces that may be used."""
        alone = np.zeros_like(faces.crops)
        both = []
        for crops in (alone.copy(), alone):
            crops[2] = 255 * (crops is alone)
            store = replace(faces, crops=crops)
            both.append(OccludedViews(store, ViewConfig(clean=0.0, prints=1.0), [Occluder()], np.array([2])))
        face = dataset(faces).views.face(0, default_rng(0))
        differs = [
            not np.array_equal(*(views.occlude(face, default_rng(seed)).picture for views in both))
            for seed in range(24)
        ]
        assert 4 <= sum(differs) <= 20
