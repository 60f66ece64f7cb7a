"""The mask detector against torchvision's own transforms and the package's layers, on a file of its form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from benchmarks.mask_detector import MaskDetector
from maskfix.base import EmbedderError, InputError, UInt8Array
from maskfix.weights import file_sha256
from tests.benchmarks.held_out import mask_detector_layers, write_mask_detector

AS_PUBLISHED = transforms.Compose(
    [transforms.Resize((128, 128)), transforms.ToTensor(), transforms.Normalize(mean=[0.5] * 3, std=[0.5] * 3)]
)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    path = tmp_path_factory.mktemp("detector") / "model.pth"
    return path, write_mask_detector(path)


@pytest.fixture(scope="module")
def crops() -> UInt8Array:
    """Stripes of all widths and colours, so that the network has something to tell apart."""
    generator, place = np.random.default_rng(3), np.arange(128)
    waves = [
        np.sin(place[:, None, None] / width + place[None, :, None] / (width + 2) + [0, 1, 2]) for width in range(2, 14)
    ]
    level = generator.uniform(40, 215, (12, 1, 1, 3))
    return (level + 40 * np.stack(waves)).clip(0, 255).astype(np.uint8)


def reference(state: dict[str, Tensor], crops: UInt8Array, box: tuple[int, int, int, int]) -> Tensor:
    """How much likelier a mask is, as the package has it."""
    layers = mask_detector_layers().eval()
    layers.load_state_dict(state)
    faces = torch.stack([AS_PUBLISHED(Image.fromarray(crop).crop(box)) for crop in crops])
    with torch.inference_mode():
        found = layers["top"](layers["bottom"](faces).reshape(len(faces), -1))
    return torch.as_tensor(found[:, 0] - found[:, 1])


@pytest.mark.parametrize(("size", "box"), [(128, (24, 8, 104, 116)), (64, (12, 4, 52, 58))])
def test_see__as_the_package(
    tmp_path: Path, state: tuple[Path, dict[str, Tensor]], crops: UInt8Array, size: int, box: tuple[int, int, int, int]
) -> None:
    crops = crops[:, :size, :size]
    odds = reference(state[1], crops, box)
    ranked = odds.sort().values
    # The bias moves the border between masked and bare to where the crops lie furthest apart.
    gap = int((ranked[1:] - ranked[:-1])[2:-2].argmax()) + 2
    moved = dict(state[1])
    moved["top.2.bias"] = moved["top.2.bias"] - torch.tensor([float(ranked[gap] + ranked[gap + 1]) / 2, 0.0])
    torch.save(moved, tmp_path / "model.pth")
    detector = MaskDetector(tmp_path / "model.pth", "cpu", batch_size=5)
    seen = detector.see(crops)
    assert seen.tolist() == (odds > ranked[gap]).tolist()
    assert 3 <= seen.sum() <= 9
    outside = crops.copy()
    outside[:, : box[1]], outside[:, box[3] :], outside[:, :, : box[0]], outside[:, :, box[2] :] = 255, 0, 255, 0
    assert detector.see(outside).tolist() == seen.tolist()
    assert detector.sha256 == file_sha256(tmp_path / "model.pth")


def test_see__refuses_and_empty(state: tuple[Path, dict[str, Tensor]], crops: UInt8Array) -> None:
    detector = MaskDetector(state[0], "cpu")
    assert detector.see(crops[:0]).shape == (0,)
    with pytest.raises(InputError, match="crops"):
        detector.see(crops / np.float32(255))  # type: ignore[arg-type]


def test_detector__other_files(tmp_path: Path, state: tuple[Path, dict[str, Tensor]]) -> None:
    with pytest.raises(EmbedderError, match=r"nowhere\.pth: no such checkpoint file"):
        MaskDetector("nowhere.pth", "cpu")
    torch.save({key: value for key, value in state[1].items() if key != "top.2.bias"}, tmp_path / "other.pth")
    with pytest.raises(EmbedderError, match=r"does not fit mask-recognition 0\.0\.1: it lacks 'top\.2\.bias'"):
        MaskDetector(tmp_path / "other.pth", "cpu")
