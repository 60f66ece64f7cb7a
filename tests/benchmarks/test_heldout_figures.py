"""Figures of held-out faces on a store whose answers are known by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.groups import HeldoutFigures
from benchmarks.heldout_figures import ROLE, SURROUNDINGS, heldout_figures, stranger_margins
from benchmarks.restorer import load_restorer
from maskfix.base import BoolArray, Completion, EmbedderError, FloatArray, InputError, Occluded, UInt8Array
from maskfix.data import FaceStore, open_store
from maskfix.deocclude import Deoccluder
from maskfix.metrics import laplacian_variance, psnr
from maskfix.occlude import PAPER_KINDS, Occluder, draw_kind
from maskfix.restore import CONFIGS, create_network
from tests.benchmarks.held_out import TINY, Corner, write_checkpoint, write_faces

SIZE = 128
WHOLE = np.array([[-9, -9], [999, -9], [999, 999], [-9, 999]], np.float32)
NAMES = [f"{age}_{age % 2}_{age % 5}_2017.jpg" for age in range(3, 87, 7)]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "tiny", TINY)


@pytest.fixture(scope="module")
def store() -> FaceStore:
    """Twelve grey faces with a dotted lower half; points[0, 0] holds the face's number."""
    count = len(NAMES)
    crops = np.full((count, SIZE, SIZE, 3), 100, dtype=np.uint8) + np.arange(count, dtype=np.uint8)[:, None, None, None]
    crops[:, SIZE // 2 :: 2, ::2] += 20
    points = np.zeros((count, 6, 2), dtype=np.float32)
    points[:, 0, 0] = np.arange(count)
    return FaceStore(crops, points, crops[..., :2], np.tile(WHOLE, (count, 1, 1)), tuple(NAMES))


class LowerHalf(Occluder):
    """Blackens the lower half; refuses face 5, and misses face 6 altogether."""

    def occlude(self, photo: UInt8Array, points: FloatArray, kind: str) -> Occluded:
        assert photo[0, 0, 0] == 100 + points[0, 0]  # the points of this face
        if points[0, 0] == 5:
            raise InputError("points: this face takes no mask")
        alpha = np.zeros(photo.shape[:2], dtype=np.float32)
        if points[0, 0] != 6:
            alpha[SIZE // 2 :] = 1
        return Occluded((photo * (alpha == 0)[..., None]).astype(np.uint8), alpha, alpha >= 0.5)


class Smooth:
    """Paints the lower half in the colour of the upper one."""

    size = SIZE
    weights = None

    def complete(self, crops: UInt8Array, composed: bool = True) -> Completion:
        images = np.broadcast_to(crops[:, :1, :1], crops.shape).copy()
        maps = np.zeros(crops.shape[:3], dtype=np.float32)
        return Completion(images, maps, maps[:, 0, 0], maps, np.zeros((*maps.shape, 2), np.float32))


def measure(store: FaceStore, faces: list[int], *embedders: Any, **options: Any) -> HeldoutFigures:
    restorer: Any = Smooth()
    return heldout_figures(restorer, store, np.array(faces), LowerHalf(), embedders, **options)


def test_heldout_figures__by_hand(store: FaceStore) -> None:
    faces = [7, 0, 11, 3, 4]
    figures = measure(store, faces, Corner(), seed=9, batch_size=2)
    assert figures.image == tuple(NAMES[face] for face in faces)
    assert figures.kind == tuple(draw_kind(name, ROLE, 9, PAPER_KINDS) for name in figures.image)
    assert figures.coverage == pytest.approx(np.full(5, 0.5))
    # A quarter of the lower half is 20 too dark: a mean square of 100 there, 50 in the whole crop.
    assert figures.psnr_masked == pytest.approx(np.full(5, 20 * np.log10(255 / 10)))
    assert figures.psnr == pytest.approx(figures.psnr_masked + 10 * np.log10(2))
    level = 100.0 + np.array(faces)
    inside = (3 * level**2 + (level + 20) ** 2) / 4
    assert figures.psnr_masked_before == pytest.approx(10 * np.log10(255**2 / inside))
    assert figures.psnr_before == pytest.approx(10 * np.log10(255**2 / inside * 2))
    assert (figures.ssim_before < figures.ssim).all()
    assert (figures.ssim < 1).all()
    assert figures.sharpness == pytest.approx(np.zeros(5))
    # The recogniser's rows end at 112 of 128, all in the lower half: levels x + 5 clean, x completed, 0 masked.
    angles = [np.arctan2(values, 100.0) for values in (level + 5, level, 0 * level)]
    assert figures.similarity_after["corner"] == pytest.approx(np.cos(angles[0] - angles[1]), abs=1e-6)
    assert figures.similarity_before["corner"] == pytest.approx(np.cos(angles[0] - angles[2]), abs=1e-6)


class Black:
    """Sees a mask wherever the lowest row is black."""

    def see(self, crops: UInt8Array) -> BoolArray:
        return np.asarray(crops[:, -1].max(axis=(1, 2)) == 0)


def test_heldout_figures__what_a_mask_detector_sees(store: FaceStore) -> None:
    figures = measure(store, [3, 5, 6, 9], mask_detector=Black(), batch_size=3)
    assert {name: values.tolist() for name, values in figures.mask_seen.items()} == {
        "clean": pytest.approx([0, np.nan, np.nan, 0], nan_ok=True),
        "masked": pytest.approx([1, np.nan, np.nan, 1], nan_ok=True),
        "completed": pytest.approx([0, np.nan, np.nan, 0], nan_ok=True),
    }
    assert measure(store, [3]).mask_seen == {}


def test_heldout_figures__sharpness_is_completed_over_clean(store: FaceStore) -> None:
    class Louder(Smooth):
        def complete(self, crops: UInt8Array, composed: bool = True) -> Completion:
            completion = super().complete(crops)
            completion.images[:, SIZE // 2 :: 2, ::2] += 40
            return completion

    restorer: Any = Louder()
    figures = heldout_figures(restorer, store, np.array([1, 2]), LowerHalf(), [])
    # Dots of twice the height have four times the variance.
    assert figures.sharpness == pytest.approx([4, 4], rel=0.05)
    clean, mask = np.array(store.crops[[1, 2]]), np.zeros((2, SIZE, SIZE), dtype=bool)
    mask[:, SIZE // 2 :] = True
    made = restorer.complete(clean).images
    assert figures.sharpness == pytest.approx(laplacian_variance(made, mask) / laplacian_variance(clean, mask))


def test_heldout_figures__batches_and_order_change_nothing(store: FaceStore) -> None:
    told: list[tuple[str, int, int]] = []
    once = measure(store, [1, 2, 3, 4, 8], Corner(), batch_size=64)
    again = measure(store, [8, 4, 3, 2, 1], Corner(), batch_size=2, progress=lambda *words: told.append(words))
    turned = again.take(np.arange(5)[::-1])
    assert turned.kind == once.kind
    for name in ("psnr", "psnr_before", "ssim"):
        np.testing.assert_allclose(getattr(turned, name), getattr(once, name), rtol=1e-12)
    np.testing.assert_allclose(turned.similarity_after["corner"], once.similarity_after["corner"])
    assert told == [("faces", 0, 5), ("faces", 2, 5), ("faces", 4, 5), ("faces", 5, 5)]
    assert set(measure(store, [1, 2, 3], kinds=["N95"]).kind) == {"N95"}


def test_heldout_figures__crops_of_recognisers(store: FaceStore) -> None:
    # ArcFace's crop of 112 lies in the canonical one of 128 to the pixel, also after masking and completing.
    embedder, large = Corner(), Corner("large", 224)
    measure(store, [1, 2], embedder, large)
    [crops], [wide] = embedder.seen, large.seen
    clean = np.array(store.crops[[1, 2]])
    lower = np.arange(SIZE)[None, :, None, None] >= SIZE // 2
    masked = np.where(lower, 0, clean).astype(np.uint8)
    completed = np.broadcast_to(clean[:, :1, :1], clean.shape)
    expected = np.concatenate([clean, masked, completed])[:, :112, 8:120]
    np.testing.assert_array_equal(crops, expected)
    np.testing.assert_array_equal(wide[:, ::2, ::2], expected)


def test_heldout_figures__faces_without_a_mask(store: FaceStore) -> None:
    figures = measure(store, [4, 5, 6, 7], Corner())
    assert figures.coverage.tolist() == [0.5, 0, 0, 0.5]
    columns = (*figures[2:6], *figures[7:10], figures.similarity_before["corner"], figures.similarity_after["corner"])
    for column in columns:
        assert np.isnan(column).tolist() == [False, True, True, False]
    with pytest.raises(InputError, match="scarf"):
        measure(store, [5], kinds=["scarf"])


def test_heldout_figures__failures_of_recognisers(store: FaceStore) -> None:
    class Failing(Corner):
        def embed(self, crops: UInt8Array) -> FloatArray:
            vectors = super().embed(crops)
            vectors[-1] = 0  # the completed picture of the last face
            return vectors

    figures = measure(store, [1, 2], Failing())
    assert np.isnan(figures.similarity_after["corner"]).tolist() == [False, True]
    assert not np.isnan(figures.similarity_before["corner"]).any()

    class Wrong(Corner):
        dimension = 3

    with pytest.raises(EmbedderError, match=r"corner: expected vectors of shape \(6, 3\), got \(6, 2\)"):
        measure(store, [1, 2], Wrong())
    with pytest.raises(InputError, match="two have one name among corner, corner"):
        measure(store, [1], Corner(), Corner())
    with pytest.raises(InputError, match="crops of 128 pixels, the network wants 64"):
        heldout_figures(Deoccluder(create_network("tiny"), device="cpu"), store, np.array([1]), LowerHalf(), [])


def test_heldout_figures__not_composed(tmp_path: Path) -> None:
    faces = open_store(write_faces(tmp_path / "faces"))
    write_checkpoint(tmp_path / "run" / "completion.pt")
    restorer = load_restorer(tmp_path / "run" / "completion.pt", "cpu")
    rows = np.array([3, 8, 9])
    own = heldout_figures(restorer, faces, rows, Occluder(), [], composed=False, surroundings="reflection")
    composed = heldout_figures(restorer, faces, rows, Occluder(), [], surroundings="reflection")
    clean = np.array(faces.crops[rows])
    masked = np.stack(
        [
            Occluder().occlude(crop, points, kind).image
            for crop, points, kind in zip(clean, np.array(faces.points[rows]), own.kind, strict=True)
        ]
    )
    completion, pictures = restorer.complete(masked), restorer.complete(masked, composed=False).images
    np.testing.assert_allclose(composed.psnr, psnr(completion.images, clean))
    np.testing.assert_allclose(own.psnr, psnr(pictures, clean))
    assert (own.psnr != composed.psnr).all()
    np.testing.assert_array_equal(own.psnr_before, composed.psnr_before)


def test_heldout_figures__surroundings(store: FaceStore) -> None:
    """Outside of the photograph other pixels stand before the mask is put on, and figures inside it leave them out."""

    class Seeing(Smooth):
        def complete(self, crops: UInt8Array, composed: bool = True) -> Completion:
            seen.append(crops)
            return super().complete(crops)

    seen: list[UInt8Array] = []
    restorer: Any = Seeing()
    rows = np.array([7, 0, 11])
    # The photographs end at column 96, with dots on black beyond.
    crops = store.crops.copy()
    crops[:, :, 98:] = 0
    crops[:, ::2, 98::2] = 255
    frames = np.tile(np.where(WHOLE > 900, 96, WHOLE)[None], (len(crops), 1, 1)).astype(np.float32)
    frames[:, :, 1] = np.where(WHOLE > 900, 999, WHOLE)[:, 1]
    cut = FaceStore(crops, store.points, store.correspondence, frames, store.names)
    for kind in SURROUNDINGS:
        one = heldout_figures(restorer, cut, rows, LowerHalf(), [], surroundings=kind, seed=4)
        turned = heldout_figures(restorer, cut, rows[::-1], LowerHalf(), [], surroundings=kind, seed=4, batch_size=1)
        np.testing.assert_allclose(turned.psnr[::-1], one.psnr)
        upper = seen[-4][:, : SIZE // 2]
        np.testing.assert_array_equal(upper[:, :, :88], crops[rows, : SIZE // 2, :88])
        if kind == "reflection":
            np.testing.assert_array_equal(upper, crops[rows, : SIZE // 2])
            assert (one.psnr_masked < 18).all()
        else:
            # As without any surroundings, a quarter of the pixels is 20 too dark; but for a soft seam.
            assert one.psnr_masked == pytest.approx(np.full(3, 20 * np.log10(255 / 10)), abs=5)
            assert not np.array_equal(upper[:, :, 98:], crops[rows, : SIZE // 2, 98:])
            again = heldout_figures(restorer, cut, rows, LowerHalf(), [], surroundings=kind, seed=5)
            assert kind == "edge" or (again.psnr != one.psnr).any()
    near = FaceStore(crops, store.points, store.correspondence, np.clip(frames, -9, SIZE + 9), store.names)
    trimmed = heldout_figures(restorer, near, rows, LowerHalf(), [], surroundings="edge", seed=4, trim=0.08)
    # The seam at column 96 has moved inwards beside the mask, by each face's own share; under it stays the whole face.
    middle = slice(SIZE // 4, SIZE // 2)
    kept = (seen[-1][:, middle] == crops[rows, middle]).all((1, 3)).sum(1)
    assert len(set(kept.tolist())) == len(rows)
    assert kept.min() < 90
    whole = heldout_figures(restorer, near, rows, LowerHalf(), [], surroundings="edge", seed=4)
    np.testing.assert_allclose(trimmed.psnr_masked_before, whole.psnr_masked_before)
    with pytest.raises(InputError, match="surroundings: 'sea' is unknown, known: reflection, edge, "):
        measure(store, [1], surroundings="sea")


def test_heldout_figures__margins(store: FaceStore) -> None:
    figures = measure(store, [7, 0, 11, 3, 5], Corner(), batch_size=2)
    level = 100.0 + np.array([7, 0, 11, 3])
    clean, after, before = (np.arctan2(values, 100.0) for values in (level + 5, level, 0 * level))
    for name, angles in (("margin_before", before), ("margin_after", after)):
        cosines = np.cos(angles[:, None] - clean)
        others = cosines[~np.eye(4, dtype=bool)].reshape(4, 3)
        expected = (np.diag(cosines) - others.mean(axis=1)) / others.std(axis=1)
        assert getattr(figures, name)["corner"][:4] == pytest.approx(expected, rel=1e-2)
        assert np.isnan(getattr(figures, name)["corner"][4])


def test_stranger_margins__against_a_loop() -> None:
    generator = np.random.default_rng(0)
    gallery, probes = (generator.normal(size=(9, 5)) for _ in range(2))
    gallery, probes = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (gallery, probes))
    gallery[3], probes[6] = np.nan, np.nan
    found = stranger_margins(probes, gallery)
    for i in range(9):
        if i in (3, 6):
            assert np.isnan(found[i])
            continue
        strangers = [probes[i] @ gallery[j] for j in range(9) if j not in (i, 3)]
        assert found[i] == pytest.approx((probes[i] @ gallery[i] - np.mean(strangers)) / np.std(strangers))
    assert np.isnan(stranger_margins(probes[:1], gallery[:1])).all()
