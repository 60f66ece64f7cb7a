"""The development benchmark on a store whose answers are known by hand, and its command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner, Result

from benchmarks.heldout import ROLE, HeldoutFigures, app, heldout_figures, load_restorer
from maskfix.base import (
    CheckpointError,
    Completion,
    EmbedderError,
    FloatArray,
    InputError,
    MaskfixError,
    Occluded,
    UInt8Array,
    arcface_layout,
)
from maskfix.data import FaceStore, held_out, open_store
from maskfix.deocclude import Deoccluder
from maskfix.metrics import laplacian_variance, psnr
from maskfix.occlude import PAPER_KINDS, Occluder, draw_kind
from maskfix.restore import CONFIGS, NetworkConfig, create_network
from maskfix.train.checkpoint import save_checkpoint
from maskfix.weights import file_sha256
from tests.train.stores import write_store

TINY = NetworkConfig(
    size=64, widths=(8, 8, 12, 12, 16, 16), kernels=(3,) * 6, full_width=8, fusion_width=6, projection=16
)
SIZE = 128
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
    return FaceStore(crops, points, crops[..., :2], np.zeros((count, 4, 2), np.float32), tuple(NAMES))


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


class Corner:
    """The mean of the lowest rows against a constant, as a unit vector; keeps what it saw."""

    dimension = 2

    def __init__(self, name: str = "corner", size: int = 112) -> None:
        self.name, self.layout, self.sha256 = name, arcface_layout(size), "ab" * 32
        self.seen: list[UInt8Array] = []

    def embed(self, crops: UInt8Array) -> FloatArray:
        self.seen.append(crops)
        level = crops[:, -8:].mean(axis=(1, 2, 3))
        vectors = np.stack([level, np.full_like(level, 100)], axis=1)
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


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


def write_faces(folder: Path, count: int = 60) -> Path:
    """A store of 64 pixels with UTKFace's names but for the last."""
    write_store(folder, 64, count)
    records = pd.read_csv(folder / "records.csv")
    names = [f"{number}_{number % 2}_{number % 5}_20170101.jpg" for number in range(1, count)]
    records["image"] = [*names, "somebody.jpg", "empty.png"]
    records.to_csv(folder / "records.csv", index=False)
    return folder


def write_checkpoint(path: Path, share: float = 0.5, **changes: Any) -> dict[str, torch.Tensor]:
    """Write a stage 2 checkpoint; returns the averaged weights, which differ from the network's."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, average = create_network("tiny").state_dict(), create_network("tiny").state_dict()
    state = {
        "config": {"network": "tiny", "held_out": share},
        "step": 7,
        "network": network,
        "average": {"n_averaged": torch.tensor(3)} | {f"module.{key}": value for key, value in average.items()},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, state | changes)
    return average


def test_heldout_figures__not_composed(tmp_path: Path) -> None:
    faces = open_store(write_faces(tmp_path / "faces"))
    write_checkpoint(tmp_path / "run" / "completion.pt")
    restorer = load_restorer(tmp_path / "run" / "completion.pt", "cpu")
    rows = np.array([3, 8, 9])
    own = heldout_figures(restorer, faces, rows, Occluder(), [], composed=False)
    composed = heldout_figures(restorer, faces, rows, Occluder(), [])
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


def test_load_restorer__takes_the_average(tmp_path: Path) -> None:
    path = tmp_path / "run3" / "completion.pt"
    average = write_checkpoint(path, share=0.03)
    restorer = load_restorer(path, "cpu", 4)
    row = restorer.weights
    assert row is not None
    assert (row.name, row.arch, row.sha256) == ("run3@7", "tiny", file_sha256(path))
    assert row.training == {"config": {"network": "tiny", "held_out": 0.03}, "step": 7}
    assert restorer.batch_size == 4
    loaded = restorer._network.state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in average.items())


def test_load_restorer__network_without_fusion(tmp_path: Path) -> None:
    bare = create_network("tiny", fusion=False).state_dict()
    assert bare.keys() != create_network("tiny").state_dict().keys()
    average = {f"module.{key}": value for key, value in bare.items()}
    write_checkpoint(tmp_path / "completion.pt", average=average, config={"network": "tiny", "fusion": False})
    assert load_restorer(tmp_path / "completion.pt", "cpu")._network.state_dict().keys() == bare.keys()


@pytest.mark.parametrize("changes", [{"average": {}}, {"config": {}}, {"average": None}, {"config": {"network": "x"}}])
def test_load_restorer__other_checkpoints(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "completion.pt"
    write_checkpoint(path, **changes)
    with pytest.raises(MaskfixError, match=r"no checkpoint of stage 2|'x' is unknown"):
        load_restorer(path, "cpu")


def test_load_restorer__missing_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MaskfixError, match="nowhere"):
        load_restorer(tmp_path / "nowhere.pt", "cpu")
    write_checkpoint(tmp_path / "completion.pt")
    hashes = iter(["a" * 64, "b" * 64])
    monkeypatch.setattr("benchmarks.heldout.file_sha256", lambda _: next(hashes))
    with pytest.raises(CheckpointError, match="replaced by its training run"):
        load_restorer(tmp_path / "completion.pt", "cpu")


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str | Path]:
    embedders = {"one": Corner("one"), "two": Corner("two", 64)}
    monkeypatch.setattr("benchmarks.heldout.load", lambda spec, *_: embedders[spec])
    weights = tmp_path / "run" / "completion.pt"
    write_checkpoint(weights)
    faces = write_faces(tmp_path / "faces")
    return ["--faces", faces, "--weights", weights, "--embedder", "one", "--device", "cpu", "--replicates", "50"]


def test_main__report(tmp_path: Path, arguments: list[str | Path]) -> None:
    out = tmp_path / "reports" / "run.json"
    done = call(*arguments, "--embedder", "two", "--json", out, "--seed", "4", "--kind", "N95", "--kind", "KN95")
    assert done.exit_code == 0, done.stderr
    assert "two: recovered similarity" in done.stdout
    assert "By group" in done.stdout
    report = json.loads(out.read_text())
    names = open_store(tmp_path / "faces").names
    apart = held_out(names, 0.5)
    assert report["data"] == {
        "store": str(tmp_path / "faces"),
        "faces": 60,
        "held_out": 0.5,
        "measured": int(apart.sum()),
    }
    assert report["overall"]["faces"] == apart.sum()
    assert report["overall"]["figures"]["psnr"]["ci95"][0] < report["overall"]["figures"]["psnr"]["value"]
    assert report["weights"]["sha256"] == file_sha256(tmp_path / "run" / "completion.pt")
    assert [(one["spec"], one["name"], one["sha256"]) for one in report["embedders"]] == [
        ("one", "one", "ab" * 32),
        ("two", "two", "ab" * 32),
    ]
    assert report["masks"] == {"source": "drawn", "kinds": ["N95", "KN95"]}
    assert report["settings"]["seed"] == 4
    assert {"maskfix", "python", "numpy", "torch"} <= set(report["versions"])
    assert report["commit"] is None or len(report["commit"]) >= 40
    females = sum(name.split("_")[1] == "1" for name, kept in zip(names, apart, strict=True) if kept and "_" in name)
    assert report["groups"]["sex"]["female"]["faces"] == females
    assert report["groups"]["sex"]["unlabelled"]["faces"] == int(apart[-1])
    assert report["worst"]["figures"]["psnr"] is None or report["worst"]["figures"]["psnr"]["faces"] >= 30


def test_main__limit_and_share(tmp_path: Path, arguments: list[str | Path]) -> None:
    out = tmp_path / "run.json"
    done = call(*arguments, "--limit", "5", "--held-out", "0.4", "--no-composed", "--json", out)
    assert done.exit_code == 0, done.stderr
    report = json.loads(out.read_text())
    assert (report["data"]["held_out"], report["data"]["measured"]) == (0.4, 5)
    assert report["settings"]["composed"] is False


BAD_INPUT = {
    "share of trained faces": (["--held-out", "0.6"], "run@7 left out 0.5 in training, 0.6 would hold trained faces"),
    "limit": (["--limit", "0"], "limit 0"),
    "no store": (["--faces", "nowhere"], "nowhere: crops.npy"),
    "no weights": (["--weights", "nowhere.pt"], "nowhere.pt"),
    "unknown weights": (["--weights", "cadf_tiny_8"], "weights 'cadf_tiny_8' are unknown"),
    "templates": (["--templates", "nowhere"], "nowhere: no such folder of mask templates"),
    "kind": (["--kind", "scarf"], "mask kind: 'scarf' is unknown"),
    "batch size": (["--batch-size", "0"], "batch size: expected a number in [1, 4096], got 0"),
    "replicates": (["--replicates", "-1"], "replicates: expected a number in"),
    "seed": (["--seed", "-1"], "seed: expected a number in"),
    "device": (["--device", "tpu"], "known: auto, cpu, cuda"),
    "json is a folder": (["--json", "."], "error: .: is a folder"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_main__bad_input(tmp_path: Path, arguments: list[str | Path], case: str) -> None:
    words, message = BAD_INPUT[case]
    out = tmp_path / "run.json"
    done = call(*arguments, "--json", out, *words)
    assert done.exit_code == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not done.stdout
    assert not out.exists()
