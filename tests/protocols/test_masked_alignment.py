"""Probes cut out by what a detector finds on the masked picture, on the tiny LFW of worlds.py.

Masked faces of Red and Blue people are told from clean ones by their first row; Green people look alike with and
without the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from maskfix.align import mask_points_from_five
from maskfix.align.base import nothing
from maskfix.base import Completion, InputError, Landmarks, UInt8Array
from protocols import LfwDataset, LfwResult, LfwSettings, ProbeSettings, run_lfw
from protocols.pictures import Pictures
from protocols.probes import embed_pictures
from tests.protocols.worlds import COLOURS, FirstRowRestorer, FlatDetector, GreenOccluder, MiddleEmbedder, write_world

GUESS = np.array([[0, 0], [0, 0], [0, 200], [0, 200], [0, 200]], np.float32)
"""Where a guess under the mask lies: so far down that the crop shows nothing of the picture."""

ASIDE = np.float32(1)
"""The aligner's points lie beside the detector's, so that it can be told which are used."""


class MisledDetector(FlatDetector):
    """Finds the eyes of masked faces and guesses the rest, or finds no masked face."""

    name = "misled"

    def __init__(self, blind: bool = False) -> None:
        super().__init__()
        self.blind = blind

    def detect(self, photos: Sequence[UInt8Array]) -> list[Landmarks]:
        return [self._misled(photo) for photo in photos]

    def _misled(self, photo: UInt8Array) -> Landmarks:
        found = self._one(photo)
        if found.five is None:
            return found
        masked = tuple(photo[1, 0]) == COLOURS["Green"] != tuple(photo[0, 0])
        if masked and self.blind:
            return nothing("no face under the mask")
        five = found.five + ASIDE + (GUESS if masked else 0)
        return found._replace(five=five.astype(np.float32), mask=None)


class RecordingRestorer(FirstRowRestorer):
    def __init__(self) -> None:
        self.given: list[NDArray[np.float32]] = []

    def restore_batch(
        self, photos: Sequence[UInt8Array], landmarks: NDArray[np.float32], /
    ) -> tuple[list[UInt8Array], Completion]:
        self.given += list(np.array(landmarks))
        return super().restore_batch(photos, landmarks)


def play(
    root: Path,
    aligner: FlatDetector | None,
    restorer: FirstRowRestorer | None = None,
    fuse: float | None = None,
    align: str = "masked",
) -> LfwResult:
    write_world(root)
    probes = ProbeSettings(batch_size=5, align=align, clean_completed=False, fuse=fuse)
    return run_lfw(
        LfwDataset(root),
        detector=FlatDetector(),
        occluder=GreenOccluder(),
        restorer=restorer or FirstRowRestorer(),
        embedders=[MiddleEmbedder()],
        cache=root / "cache",
        settings=LfwSettings(probes, replicates=20),
        aligner=aligner,
    )


def test_refined_landmarks_bring_back_what_the_guess_lost(tmp_path: Path) -> None:
    result = play(tmp_path, MisledDetector())
    figures = result.figures[0]
    methods = figures["methods"]
    assert list(methods) == ["clean", "masked", "completed", "refined"]
    assert (methods["clean"]["auc"], methods["refined"]["auc"]) == (1, 1)
    # Red and Blue probes are cut out of the blue: 4 of 6 genuine pairs, 4 of 6 impostor pairs.
    for method in ("masked", "completed"):
        assert methods[method]["failures"]["probe"] == {"genuine": 4, "impostor": 4}
    assert methods["refined"]["failures"]["probe"] == {"genuine": 0, "impostor": 0}
    assert figures["recovered_refined"]["auc"] == 1
    assert figures["difference"]["refined_minus_completed"]["auc"]["ci95"] is not None
    assert result.pictures.counts["masked without a face"] == 0


def test_which_points_are_used_where(tmp_path: Path) -> None:
    """The aligner's for every crop, the detector's for the masks; refined ones are those of an unmasked face."""
    restorer = RecordingRestorer()
    result = play(tmp_path, MisledDetector(), restorer)
    [plain] = FlatDetector().detect([np.full((64, 64, 3), 9, np.uint8)])
    assert plain.five is not None
    guessed = [np.array_equal(five, plain.five + ASIDE + GUESS) for five in restorer.given]
    true = [np.array_equal(five, plain.five + ASIDE) for five in restorer.given]
    assert (sum(guessed), sum(true)) == (4, 8)
    assert all(record.ok and np.array_equal(record.points, plain.mask) for record in result.pictures.records)


def test_examples_are_those_of_the_refined_landmarks(tmp_path: Path) -> None:
    """The crops of the guess would be black."""
    examples = play(tmp_path, MisledDetector()).pictures.examples
    assert len(examples) == 6
    assert all(example.clean.any(axis=2).mean() > 0.6 for example in examples)


def test_no_face_under_the_mask_is_a_failure_of_every_method(tmp_path: Path) -> None:
    result = play(tmp_path, MisledDetector(blind=True), fuse=0.5)
    methods = result.figures[0]["methods"]
    for method in ("masked", "completed", "refined", "fused"):
        assert methods[method]["failures"]["probe"] == {"genuine": 4, "impostor": 4}
    assert methods["clean"]["failures"]["probe"] == {"genuine": 0, "impostor": 0}
    assert result.pictures.counts["masked without a face"] == 4
    assert (~np.isnan(result.pictures.figures["psnr_inside"])).sum() == 2


class GuessingDetector(MisledDetector):
    """Sees no masked face, and guesses where one may be."""

    def __init__(self) -> None:
        super().__init__(blind=True)

    def guess(self, photo: UInt8Array) -> NDArray[np.float32]:
        five = self._one(photo).five
        assert five is not None
        return np.stack([five + ASIDE, five + GUESS]).astype(np.float32)


class FindingRestorer(FirstRowRestorer):
    """Brings out the first guess, but on photographs of red people."""

    def find_hidden(self, photo: UInt8Array, guess: Any, find: Any, /) -> NDArray[np.float32]:
        completed = np.broadcast_to(photo[0, 0], photo.shape).copy()
        assert len(find(photo)) == 0
        assert len(find(completed)) == 1
        points: NDArray[np.float32] = guess(photo)[: 0 if tuple(photo[0, 0]) == COLOURS["Red"] else 1]
        return points


def test_faces_that_completion_brings_out_count_as_refined_ones(tmp_path: Path) -> None:
    """Of four probes without a face two are found: those of the blue people, one genuine pair each."""
    result = play(tmp_path, GuessingDetector(), FindingRestorer(), fuse=0.5)
    methods, counts = result.figures[0]["methods"], result.pictures.counts
    assert (counts["masked without a face"], counts["masked, found by completion"]) == (4, 2)
    for method in ("masked", "completed"):
        assert methods[method]["failures"]["probe"] == {"genuine": 4, "impostor": 4}
    for method in ("refined", "fused"):
        assert methods[method]["failures"]["probe"] == {"genuine": 2, "impostor": 2}
    scores = result.scores[0]
    found = np.isfinite(scores["refined"]) & ~np.isfinite(scores["masked"])
    np.testing.assert_array_equal(scores["fused"][found], scores["refined"][found])
    np.testing.assert_allclose(scores["refined"][found], scores["clean"][found], atol=1e-6)
    assert len(result.pictures.examples) == 4


@pytest.mark.parametrize(
    ("aligner", "restorer"), [(MisledDetector(blind=True), FindingRestorer()), (GuessingDetector(), FirstRowRestorer())]
)
def test_nothing_is_brought_out_without_guesses_or_a_restorer_that_can(
    tmp_path: Path, aligner: MisledDetector, restorer: FirstRowRestorer
) -> None:
    result = play(tmp_path, aligner, restorer)
    assert result.figures[0]["methods"]["refined"]["failures"]["probe"] == {"genuine": 4, "impostor": 4}


def test_the_fused_face_is_the_refined_one(tmp_path: Path) -> None:
    scores = play(tmp_path, MisledDetector(), fuse=1.0).scores[0]
    # The masked side failed, and with it the mixture; the others are those of the refined face.
    both = np.isfinite(scores["fused"])
    assert both.sum() == 4
    np.testing.assert_allclose(scores["fused"][both], scores["refined"][both], atol=1e-6)


def test_an_aligner_of_its_own_for_clean_alignment(tmp_path: Path) -> None:
    restorer = RecordingRestorer()
    result = play(tmp_path, MisledDetector(), restorer, align="clean")
    assert list(result.figures[0]["methods"]) == ["clean", "masked", "completed"]
    [plain] = FlatDetector().detect([np.full((64, 64, 3), 9, np.uint8)])
    assert plain.five is not None
    assert len(restorer.given) == 6
    assert all(np.array_equal(five, plain.five + ASIDE) for five in restorer.given)


class NeighbourDetector(FlatDetector):
    """Means somebody else on pictures of blue people."""

    name = "neighbour"

    def detect(self, photos: Sequence[UInt8Array]) -> list[Landmarks]:
        aside = [30 if tuple(photo[0, 0]) == COLOURS["Blue"] else ASIDE for photo in photos]
        found = zip(super().detect(photos), aside, strict=True)
        return [item._replace(five=item.five + by, mask=None) for item, by in found if item.five is not None]


def test_the_mask_goes_onto_the_face_that_is_cut_out(tmp_path: Path) -> None:
    """Where two detectors mean different faces, it is placed by an average face's points, and that is counted."""
    result = play(tmp_path, NeighbourDetector(), align="clean")
    [plain] = FlatDetector().detect([np.full((64, 64, 3), 9, np.uint8)])
    assert plain.five is not None
    moved = mask_points_from_five(plain.five + np.float32(30))
    for record in result.pictures.records:
        assert record.points is not None
        np.testing.assert_allclose(record.points, moved if "Blue" in record.image else plain.mask, atol=1e-4)
    # Two of the four pictures of blue people are probes.
    assert result.pictures.counts["masked by the points of an average face"] == 2


def test_the_detector_aligns_where_no_other_is_given(tmp_path: Path) -> None:
    assert play(tmp_path, None).figures[0]["methods"]["refined"]["auc"] == 1


def test_no_aligner() -> None:
    with pytest.raises(InputError, match="aligner: align='masked' needs a detector"):
        embed_pictures(
            Pictures((), (), (), np.zeros(0, np.bool_)),
            occluder=GreenOccluder(),
            restorer=FirstRowRestorer(),
            embedders=[],
            settings=ProbeSettings(align="masked"),
        )


def test_unknown_alignment() -> None:
    with pytest.raises(InputError, match="align: 'probe' is unknown; known: clean, masked"):
        ProbeSettings(align="probe")
