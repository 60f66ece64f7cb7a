"""Training pictures: masks, points and correspondence stay together with what they belong to."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.random import default_rng
from numpy.typing import NDArray
from scipy import ndimage

from maskfix.data import FaceStore
from maskfix.occlude import PAPER_KINDS, Occluder
from maskfix.train.config import ViewConfig
from maskfix.train.surroundings import photograph_part
from maskfix.train.views import OccludedViews
from tests.train.stores import POINTS_128, coded_ellipse, frame, smooth_pictures
from tests.train.view_batches import Recorder, dataset

STILL = ViewConfig(shift=0, turn=0, scale=0, coarsest=1, light=0, point_noise=0)
"""Nothing moves or changes; only mirroring and grey pictures are left."""


class TestOcclude:
    @pytest.mark.parametrize("drawn_on", ["pattern", "prints"])
    def test_pattern_and_print_share(self, faces: FaceStore, drawn_on: str) -> None:
        """A patterned or printed mask lies where the plain one does; the face around it is the same."""
        views = {share: dataset(faces, clean=0.0, **{drawn_on: share}).views for share in (0.0, 0.5, 1.0)}
        face = views[0.0].face(0, np.random.default_rng(0))
        changed = {0.0: 0, 0.5: 0, 1.0: 0}
        for seed in range(24):
            plain = views[0.0].occlude(face, np.random.default_rng(seed))
            for share, found in (
                (share, one.occlude(face, np.random.default_rng(seed))) for share, one in views.items()
            ):
                np.testing.assert_array_equal(found.alpha, plain.alpha)
                differs = (found.picture != plain.picture).any(2)
                assert not differs[plain.alpha == 0].any()
                np.testing.assert_array_equal(found.clean, face.crop)
                changed[share] += bool(differs.any())
        assert changed[0.0] == 0
        assert 4 <= changed[0.5] <= 20
        assert changed[1.0] >= 22

    def test_coarsen_masks__face_and_mask_lose_the_same_detail(self) -> None:
        """The face waits for its mask; then both, and the mask's opacity, go down and up together."""
        fine = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
        points = (POINTS_128 / 2)[None]
        store = FaceStore(fine, points, coded_ellipse(64)[None], frame(64)[None], ("a.png",))
        still = {"shift": 0, "turn": 0, "scale": 0, "light": 0, "coarsest": 0.5, "clean": 0.0}
        views = OccludedViews(store, ViewConfig(**still, coarsen_masks=1.0), [Occluder()])
        coarse = 0
        for seed in range(16):
            face = views.face(0, default_rng(seed))
            grey = np.array_equal(face.crop[..., 0], face.crop[..., 1])  # one in twenty
            assert grey or face.crop.std() > 0.95 * fine.std()
            masked = views.occlude(face, default_rng(seed))
            sharp = views.occlude(face._replace(coarseness=None), default_rng(seed))
            np.testing.assert_array_equal(sharp.clean, face.crop)
            if face.coarseness is None:
                assert all(np.array_equal(a, b) for a, b in zip(masked, sharp, strict=True))
                continue
            coarse += 1
            side = round(64 * face.coarseness)
            for found, before in zip(masked, sharp, strict=True):
                small = cv2.resize(before, (side, side), interpolation=cv2.INTER_AREA)
                np.testing.assert_array_equal(found, cv2.resize(small, (64, 64)))
        assert 3 <= coarse <= 13

    def test_clean_share(self, faces: FaceStore) -> None:
        batch = dataset(faces, size=8, clean=1.0)[0]
        assert torch.equal(batch.clean, batch.occluded)
        assert not batch.alpha.any()
        masked = dataset(faces, size=8, clean=0.0)[0]
        assert masked.alpha.flatten(1).any(1).all()

    def test_clean_share__as_often_as_asked(self, faces: FaceStore) -> None:
        views = OccludedViews(faces, ViewConfig(clean=0.3), [recorder := Recorder()])  # type: ignore[list-item]
        rng = default_rng(0)
        face = views.face(0, rng)
        for _ in range(1000):
            views.occlude(face, rng)
        assert 640 <= len(recorder.kinds) <= 760

    def test_alpha__says_which_pixels_changed(self, faces: FaceStore) -> None:
        batch = dataset(faces, size=8, clean=0.0)[0]
        changed = (batch.clean != batch.occluded).any(-1)
        assert not changed[batch.alpha == 0].any()
        assert changed[batch.alpha > 200].float().mean() > 0.9
        share = (batch.alpha > 127).float().mean((1, 2))
        assert (share > 0.05).all()
        assert (share < 0.7).all()

    def test_kinds__the_papers_nine_or_those_given(self, faces: FaceStore) -> None:
        for kinds in ((), ("N95", "cloth#112233")):
            views = OccludedViews(faces, ViewConfig(kinds=kinds, clean=0, random_cloth=0), [recorder := Recorder()])  # type: ignore[list-item]
            rng = default_rng(0)
            face = views.face(0, rng)
            for _ in range(120):
                views.occlude(face, rng)
            assert set(recorder.kinds) == set(kinds or PAPER_KINDS)

    def test_random_cloth__share_and_colours(self, faces: FaceStore) -> None:
        views = OccludedViews(faces, ViewConfig(kinds=("N95",), clean=0, random_cloth=0.5), [recorder := Recorder()])  # type: ignore[list-item]
        rng = default_rng(0)
        face = views.face(0, rng)
        for _ in range(400):
            views.occlude(face, rng)
        cloth = [kind for kind in recorder.kinds if kind.startswith("cloth#")]
        assert 150 <= len(cloth) <= 250
        assert len(set(cloth)) > 140

    def test_drawn__share_of_the_projects_own_templates(self, faces: FaceStore) -> None:
        own, folder = Recorder(), Recorder()
        views = OccludedViews(faces, ViewConfig(clean=0, drawn=0.25), [own, folder])  # type: ignore[list-item]
        rng = default_rng(0)
        face = views.face(0, rng)
        for _ in range(400):
            views.occlude(face, rng)
        assert 70 <= len(own.kinds) <= 130
        assert len(own.kinds) + len(folder.kinds) == 400

    def test_point_noise(self, faces: FaceStore) -> None:
        views = OccludedViews(faces, ViewConfig(clean=0, point_noise=2.0), [recorder := Recorder()])  # type: ignore[list-item]
        rng = default_rng(0)
        face = views.face(0, rng)
        for _ in range(200):
            views.occlude(face, rng)
        moved = np.stack(recorder.points) - face.points
        assert moved.std() == pytest.approx(2.0, rel=0.1)
        assert recorder.points[0].dtype == np.float32


class TestFace:
    def test_still__the_face_or_its_mirror_image(self, faces: FaceStore) -> None:
        views = OccludedViews(faces, STILL, [])
        seen = set()
        for seed in range(12):
            face = views.face(5, default_rng(seed))
            crop, points, coded = faces.crops[5], faces.points[5], faces.correspondence[5]
            mirrored = np.array_equal(face.correspondence, coded) is False
            if mirrored:
                # u runs to the right of the picture: it turns round with it; a and c, d and f change places.
                crop = crop[:, ::-1]
                u = np.where(coded[..., 0] > 0, 256 - coded[..., 0].astype(int), 0)
                coded = np.stack([u, coded[..., 1]], axis=2)[:, ::-1]
                points = np.stack([63 - points[:, 0], points[:, 1]], axis=1)[[2, 1, 0, 5, 4, 3]]
            np.testing.assert_array_equal(face.correspondence, coded)
            np.testing.assert_allclose(face.points, points, atol=1e-4)
            if (face.crop[..., 0] != face.crop[..., 1]).any():
                np.testing.assert_array_equal(face.crop, crop)
            assert face.points[0, 0] < face.points[1, 0] < face.points[2, 0]
            seen.add(mirrored)
        assert seen == {True, False}

    def test_face__surrounded_by_pictures_of_the_others_alone(
        self, faces: FaceStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Held-out faces do not stand around training faces."""
        seen: list[NDArray[np.uint8]] = []

        def noted(
            crop: NDArray[np.uint8], _frame: object, _smaller: object, other: NDArray[np.uint8], _: object
        ) -> Any:
            seen.append(other)
            return crop, crop

        monkeypatch.setattr("maskfix.train.views.surround_trimmed", noted)
        views = OccludedViews(faces, ViewConfig(surroundings=1.0), [], np.array([3, 5]))
        for seed in range(12):
            views.face(0, default_rng(seed))
        assert {int(np.flatnonzero((faces.crops == other).all((1, 2, 3)))[0]) for other in seen} == {3, 5}

    @pytest.mark.parametrize("stretch", [0.0, 0.2])
    def test_jitter__points_move_with_the_picture(self, stretch: float) -> None:
        """Bright dots at the six points are found again at the moved points."""
        size = 128
        points = np.array([[40, 50], [64, 44], [88, 52], [44, 80], [66, 96], [86, 78]], np.float32)
        crop = np.zeros((size, size, 3), np.uint8)
        y, x = np.mgrid[0:size, 0:size]
        for px, py in points:
            crop[np.hypot(x - px, y - py) <= 3] = 255
        store = FaceStore(crop[None], points[None], coded_ellipse(size)[None], frame(size)[None], ("a.png",))
        config = ViewConfig(shift=5, turn=15, scale=0.1, light=0, coarsest=1, point_noise=0, stretch=stretch)
        views = OccludedViews(store, config, [])
        distances = []
        for seed in range(20):
            face = views.face(0, default_rng(seed))
            bright = face.crop[..., 0].astype(float)
            for px, py in face.points:
                near = bright * (np.hypot(x - px, y - py) < 7)
                distances.append(np.hypot((near * x).sum() / near.sum() - px, (near * y).sum() / near.sum() - py))
            assert np.abs(face.points - points).max() > 0.5
        assert max(distances) < 0.6

    def test_stretch__changes_shape_and_neither_size_nor_place(self, faces: FaceStore) -> None:
        views = OccludedViews(faces, ViewConfig(shift=0, turn=0, scale=0, stretch=0.2), [])
        logs = []
        for seed in range(40):
            matrix = views.draw_face(default_rng(seed)).matrix
            middle = (faces.size - 1) / 2
            np.testing.assert_allclose(matrix @ [middle, middle, 1], [middle, middle])
            assert np.linalg.det(matrix[:, :2]) == pytest.approx(1)
            assert matrix[0, 1] == matrix[1, 0] == 0
            logs.append(np.log(matrix[1, 1] / matrix[0, 0]))
        assert -0.2 <= min(logs) < -0.15
        assert 0.15 < max(logs) <= 0.2

    def test_correspondence__moves_with_the_picture(self) -> None:
        """A picture painted with its own (u, v) still shows it after every change of place."""
        size = 128
        coded = coded_ellipse(size)
        crop = np.concatenate([coded, coded[..., :1] * 0], axis=2)
        store = FaceStore(crop[None], np.zeros((1, 6, 2), np.float32) + 9, coded[None], frame(size)[None], ("a.png",))
        views = OccludedViews(store, ViewConfig(shift=5, turn=10, scale=0.1, light=0, coarsest=1), [])
        compared = 0
        for seed in range(10):
            face = views.face(0, default_rng(seed))
            inside = face.correspondence[..., 0] > 0
            v = face.correspondence[..., 1].astype(int)
            rim = ~inside | (np.abs(face.crop[..., 1].astype(int) - v) > 20)
            if not face.crop[..., 2].any():
                compared += 1
                assert (rim & inside).mean() < 0.03
                assert np.abs(face.crop[..., 1].astype(int) - v)[~rim].mean() < 2
        assert compared > 5

    def test_correspondence__never_blended_with_no_face(self) -> None:
        """At the rim a mean of (u, v) and of nothing would be a place on the face that is not there."""
        coded = np.where(coded_ellipse(64) > 0, 200, 0).astype(np.uint8)
        store = FaceStore(
            smooth_pictures(1, 64), np.ones((1, 6, 2), np.float32), coded[None], frame(64)[None], ("a.png",)
        )
        views = OccludedViews(store, ViewConfig(turn=15), [])
        for seed in range(5):
            assert set(np.unique(views.face(0, default_rng(seed)).correspondence[..., 1])) == {0, 200}

    def test_surroundings__outside_the_photograph_alone(self, faces: FaceStore) -> None:
        """In the asked share of faces, and those left out are what they were without."""
        still = ViewConfig(shift=0, turn=0, scale=0, light=0, coarsest=1, surroundings=1)
        inside = photograph_part(faces.frames[0], faces.size)
        deep = ndimage.binary_erosion(inside, iterations=7)
        assert deep.any()
        changed = 0
        for seed in range(12):
            crop = OccludedViews(faces, still, []).face(0, default_rng(seed)).crop
            candidates = [faces.crops[0], faces.crops[0][:, ::-1]]
            if not any(np.array_equal(crop[d], c[d]) for c, d in zip(candidates, (deep, deep[:, ::-1]), strict=True)):
                continue  # one in twenty is grey
            changed += min(np.abs(crop.astype(int) - c).max() for c in candidates) > 20
        assert changed >= 9

    def test_trim__the_photograph_ends_elsewhere_each_time(self, faces: FaceStore) -> None:
        still = ViewConfig(shift=0, turn=0, scale=0, light=0, coarsest=1, surroundings=1, trim=0.3)
        inside = photograph_part(faces.frames[0], faces.size)
        kept, same_around = [], 0
        for seed in range(12):
            face = OccludedViews(faces, still, []).face(0, default_rng(seed))
            mirrored = face.points[1, 0] > faces.points[0][1, 0] + 0.5 or not np.array_equal(
                face.correspondence, faces.correspondence[0]
            )
            crop, trimmed = (one[:, ::-1] if mirrored else one for one in (face.crop, face.trimmed))
            deep = ndimage.binary_erosion(inside, iterations=7)
            if not np.array_equal(crop[deep], faces.crops[0][deep]):
                continue  # one in twenty is grey
            kept.append((np.abs(trimmed.astype(int) - faces.crops[0]).max(2) == 0).sum() / inside.sum())
            far = ~ndimage.binary_dilation(inside, iterations=3)
            same_around += np.array_equal(crop[far], trimmed[far])
        assert len(kept) >= 9
        assert max(kept) < 0.95
        assert np.std(kept) > 0.05
        # One draw of surroundings for both; only the colours of the edge depend on where the edge is.
        assert same_around >= 3

    def test_trim__a_mask_hides_the_whole_face(self, faces: FaceStore) -> None:
        """Beside the mask the picture is the trimmed one; the target under its body is not."""
        config = ViewConfig(surroundings=1, trim=0.4, clean=0.0, random_cloth=0.0)
        views = OccludedViews(faces, config, [Occluder()])
        differing = 0
        for seed in range(8):
            face = views.face(1, default_rng(seed))
            masked = views.occlude(face, default_rng(seed))
            deep = ndimage.binary_erosion(masked.alpha > 127, iterations=4)
            assert deep.any()
            np.testing.assert_array_equal(masked.clean[deep], face.crop[deep])
            for picture in (masked.clean, masked.picture):
                outside = masked.alpha == 0
                # An opacity below half a step of 255 may show in the last bit.
                assert np.abs(picture[outside].astype(int) - face.trimmed[outside]).max() <= 1
            differing += (face.crop[deep] != face.trimmed[deep]).any()
        assert differing >= 6

    def test_trim__a_face_without_a_mask_is_the_trimmed_one(self, faces: FaceStore) -> None:
        views = OccludedViews(faces, ViewConfig(surroundings=1, trim=0.4, clean=1.0), [Occluder()])
        face = views.face(1, default_rng(0))
        masked = views.occlude(face, default_rng(0))
        assert (face.crop != face.trimmed).any()
        np.testing.assert_array_equal(masked.clean, face.trimmed)
        np.testing.assert_array_equal(masked.picture, face.trimmed)
        assert not masked.alpha.any()

    @pytest.mark.parametrize(("share", "expected"), [(1.0, 40), (0.0, 0), (0.5, 20)])
    def test_trim_whole__share_of_whole_photographs(self, faces: FaceStore, share: float, expected: int) -> None:
        """Photographs that end inside the crop are trimmed at any share."""
        corners = np.array([[-9, -9], [90, -9], [90, 90], [-9, 90]], np.float32)
        frames = np.broadcast_to(corners, faces.frames.shape)
        whole = FaceStore(faces.crops, faces.points, faces.correspondence, frames, faces.names)
        config = ViewConfig(surroundings=1, trim=0.4, trim_whole=share)
        for store, wanted, apart in ((whole, expected, 10 if 0 < share < 1 else 0), (faces, 40, 0)):
            drawn = [OccludedViews(store, config, []).face(0, default_rng(seed)) for seed in range(40)]
            assert abs(sum(face.trimmed is not face.crop for face in drawn) - wanted) <= apart

    def test_surroundings__leave_the_draws_of_later_rows_alone(self, faces: FaceStore) -> None:
        """A process that makes other rows draws what this one drew, whatever this one's face took."""
        views = OccludedViews(faces, ViewConfig(surroundings=0.8, trim=0.3, trim_whole=0.5), [])
        made, skipped = default_rng(0), default_rng(0)
        for number in range(6):
            views.face(number % len(faces), made)
            views.draw_face(skipped)
        assert made.random() == skipped.random()

    def test_light__changes_brightness_not_place(self, faces: FaceStore) -> None:
        views = OccludedViews(faces, ViewConfig(shift=0, turn=0, scale=0, coarsest=1, light=0.25), [])
        means = [views.face(0, default_rng(seed)).crop.mean() for seed in range(20)]
        assert np.std(means) > 5

    def test_coarsest__takes_detail_away(self) -> None:
        fine = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3)).astype(np.uint8)
        store = FaceStore(fine, np.ones((1, 6, 2), np.float32), coded_ellipse(64)[None], frame(64)[None], ("a.png",))
        config = ViewConfig(shift=0, turn=0, scale=0, light=0, coarsest=0.3)
        views = OccludedViews(store, config, [])
        spread = [views.face(0, default_rng(seed)).crop.std() for seed in range(20)]
        assert min(spread) < 0.75 * max(spread)

    def test_light__gain_and_gamma_to_both_sides(self) -> None:
        """Told apart by a dark and a bright half: gain leaves the quotient of both alone."""
        halves = np.repeat([60, 120], 32).astype(np.uint8)[None, :, None, None]
        crop = np.broadcast_to(halves, (1, 64, 64, 3))
        store = FaceStore(crop, np.ones((1, 6, 2), np.float32), coded_ellipse(64)[None], frame(64)[None], ("a.png",))
        views = OccludedViews(store, ViewConfig(shift=0, turn=0, scale=0, coarsest=1, light=0.25), [])
        shown = np.array([views.face(0, default_rng(seed)).crop[[16, 48], 32, 0] for seed in range(60)]) / 255
        gamma = np.log(shown[:, 1] / shown[:, 0]) / np.log(2)
        gain = shown[:, 1] / (120 / 255) ** gamma
        # Whole numbers of brightness are some hundredths of either.
        for drawn, lowest, highest in ((np.log(gamma), -0.25, 0.25), (gain, 0.75, 1.25)):
            width = highest - lowest
            assert lowest - 0.03 <= drawn.min() < lowest + 0.15 * width
            assert highest - 0.15 * width < drawn.max() <= highest + 0.03

    def test_jitter__turned_scaled_and_shifted_to_both_sides(self, faces: FaceStore) -> None:
        """As far as asked one way as the other, and no farther."""
        views = OccludedViews(faces, ViewConfig(shift=5, turn=10, scale=0.1), [])
        matrices = np.stack([views.draw_face(default_rng(seed)).matrix for seed in range(60)])
        middle = (faces.size - 1) / 2
        shifts = matrices @ [middle, middle, 1] - middle
        turns = np.rad2deg(np.arctan2(matrices[:, 1, 0], matrices[:, 0, 0]))
        scales = np.sqrt(np.linalg.det(matrices[:, :, :2])) - 1
        for drawn, limit in ((shifts[:, 0], 5), (shifts[:, 1], 5), (turns, 10), (scales, 0.1)):
            assert -1.001 * limit <= drawn.min() < -0.8 * limit
            assert 0.8 * limit < drawn.max() <= 1.001 * limit
