"""The mirrored half of the training views: its targets are those of the mirrored face."""

from __future__ import annotations

import numpy as np
import pytest

from maskfix.align.mesh import mask_points_from_mesh
from maskfix.base import UInt8Array
from maskfix.data import FaceStore, correspondence_target, decode_correspondence
from maskfix.train.config import ViewConfig
from maskfix.train.views import Face, OccludedViews
from tests.data.meshes import placed_face, twins

SIZE = 96
STILL = ViewConfig(shift=0, turn=0, scale=0, light=0, coarsest=1)
"""Nothing is left of the augmentation but the mirror, and grey for one picture in twenty."""


def store(mesh: np.ndarray) -> FaceStore:
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    crop = np.dstack([2 * x, 2 * y, 255 - x - y]).astype(np.uint8)
    points = mask_points_from_mesh(mesh)
    return FaceStore(
        crop[None], points[None], correspondence_target(mesh, SIZE)[None], np.zeros((1, 4, 2), np.float32), ("face",)
    )


def drawn(faces: FaceStore, picture: UInt8Array) -> Face:
    """The first view that shows the given picture."""
    views = OccludedViews(faces, STILL, ())
    found = (views.face(0, np.random.default_rng(seed)) for seed in range(60))
    return next(face for face in found if np.abs(face.crop.astype(int) - picture).max() <= 1)


@pytest.mark.parametrize(("turn", "roll"), [(0, 0), (25, 0), (-15, 12)])
def test_mirrored_target_is_the_mirrored_faces(turn: float, roll: float) -> None:
    mesh = placed_face(SIZE, turn, roll)
    faces = store(mesh)
    view = drawn(faces, faces.crops[0, :, ::-1])
    # In the mirror, each vertex stands where its twin's mirror image is.
    mirrored = (mesh * [-1, 1, 1] + [SIZE - 1, 0, 0])[twins()]
    (ours, seen), (theirs, also) = map(
        decode_correspondence, (view.correspondence, correspondence_target(mirrored, SIZE))
    )
    assert (seen == also).mean() > 0.985
    away = np.abs(ours - theirs)[seen & also]
    # The canonical face is symmetric to about 1% of the eye distance; creases differ by more in a few pixels.
    assert away.mean() < 0.005
    assert np.quantile(away, 0.98) < 0.02
    np.testing.assert_allclose(view.points, mask_points_from_mesh(mirrored), atol=1)


def test_mirrored_codes_to_the_bit() -> None:
    faces = store(placed_face(SIZE, 20))
    view, coded = drawn(faces, faces.crops[0, :, ::-1]), faces.correspondence[0, :, ::-1].astype(int)
    seen = coded[..., 0] > 0
    np.testing.assert_array_equal(view.correspondence[..., 0], np.where(seen, 256 - coded[..., 0], 0))
    np.testing.assert_array_equal(view.correspondence[..., 1], coded[..., 1])
    uv, visible = decode_correspondence(view.correspondence)
    before, _ = decode_correspondence(faces.correspondence[0, :, ::-1])
    np.testing.assert_array_equal(visible, seen)
    np.testing.assert_allclose(uv[seen, 0], 1 - before[seen, 0], atol=1e-6)


def test_unmirrored_is_as_stored() -> None:
    faces = store(placed_face(SIZE, 20))
    view = drawn(faces, faces.crops[0])
    np.testing.assert_array_equal(view.correspondence, faces.correspondence[0])
    np.testing.assert_allclose(view.points, faces.points[0], atol=1e-4)
