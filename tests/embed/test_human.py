"""The two npm recognisers, on synthetic files in their published format, and on the real ones where they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from maskfix.base import EmbedderError, InputError, arcface_layout
from maskfix.embed.factory import load
from maskfix.embed.human import HumanEmbedder, HumanNetwork
from tests.embed.tfjs_files import node, write_graph

RNG = np.random.default_rng(0)


def faceres(folder: Path) -> Path:
    nodes = [
        node("c", "Conv2D", "x", "k", stride=2, padding="SAME"),
        node("a", "Add", "c", "b"),
        node("conv_pw_3_relu/clip_by_value", "Relu", "a"),
        node("conv_pw_5_relu/clip_by_value", "Relu", "conv_pw_3_relu/clip_by_value"),
        node("conv_pw_11_relu/clip_by_value", "Relu", "conv_pw_5_relu/clip_by_value"),
        node("global_pooling/Mean", "Mean", "conv_pw_11_relu/clip_by_value", "axes"),
    ]
    weights: dict[str, Any] = {
        "k": RNG.normal(0, 0.01, (3, 3, 3, 1024)).astype(np.float32),
        "b": RNG.normal(0, 0.1, 1024).astype(np.float32),
        "axes": np.array([1, 2], np.int32),
    }
    return write_graph(folder / "faceres.json", nodes, weights)


def mobileface(folder: Path) -> Path:
    nodes = [
        node("add_4", "Conv2D", "x", "k", stride=4, padding="VALID"),
        node("add_8", "Conv2D", "add_4", "half", stride=2, padding="VALID"),
        node("add_12", "Conv2D", "add_8", "half", stride=2, padding="VALID"),
        node("f", "Reshape", "add_12", "shape"),
        node("d", "MatMul", "f", "w"),
        node("batchnorm0/add_1", "AddV2", "d", "b"),
    ]
    weights: dict[str, Any] = {
        "k": RNG.normal(0, 0.01, (4, 4, 3, 2)).astype(np.float32),
        "half": RNG.normal(0, 0.5, (2, 2, 2, 2)).astype(np.float32),
        "shape": np.array([-1, 98], np.int32),
        "w": RNG.normal(0, 1, (98, 256)).astype(np.float32),
        "b": RNG.normal(0, 1, 256).astype(np.float32),
    }
    return write_graph(folder / "mobileface.json", nodes, weights)


def test_faceres_sees_bgr_less_its_mean(tmp_path: Path) -> None:
    network = HumanNetwork(faceres(tmp_path))
    assert (network.size, network.dimension) == (224, 1024)
    picture = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    red, green, blue = (picture * 255).unbind(1)
    fed = torch.stack([blue - 103.939, green - 116.779, red - 123.68], 1)
    expected = functional.normalize(network._graph(fed), dim=1)
    torch.testing.assert_close(network(picture), expected)
    vector, maps = network.forward_features(picture)
    torch.testing.assert_close(vector, expected)
    assert len(maps) == 3
    torch.testing.assert_close(functional.normalize(maps[2].mean((2, 3)), dim=1), expected)


def test_mobileface_sees_rgb_from_0_to_255(tmp_path: Path) -> None:
    network = HumanNetwork(mobileface(tmp_path))
    larger = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    picture = functional.interpolate(larger, size=(112, 112), mode="bilinear", align_corners=False)
    expected = functional.normalize(network._graph(picture * 255), dim=1)
    torch.testing.assert_close(network(picture), expected)
    torch.testing.assert_close(network(larger), expected)
    vector, maps = network.forward_features(picture)
    torch.testing.assert_close(vector, expected)
    assert [tuple(x.shape) for x in maps] == [(2, 2, 28, 28), (2, 2, 14, 14), (2, 2, 7, 7)]


def test_other_sides(tmp_path: Path) -> None:
    assert HumanNetwork(faceres(tmp_path), 160)(torch.rand(1, 3, 112, 112)).shape == (1, 1024)
    with pytest.raises(EmbedderError, match=r"mobileface\.json: takes 112x112 pictures only, not 160"):
        HumanNetwork(mobileface(tmp_path), 160)


def test_other_names(tmp_path: Path) -> None:
    with pytest.raises(EmbedderError, match=r"emotion\.json: expected faceres\.json or mobileface\.json"):
        HumanNetwork(tmp_path / "emotion.json")


def test_frozen_but_transparent(tmp_path: Path) -> None:
    network = HumanNetwork(mobileface(tmp_path))
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    picture = torch.rand(1, 3, 112, 112).requires_grad_()
    network(picture)[0, 0].backward()
    assert picture.grad is not None
    assert picture.grad.abs().sum() > 0


class TestEmbedder:
    def test_facts(self, tmp_path: Path) -> None:
        embedder = load(f"human:{faceres(tmp_path)}", device="cpu")
        assert (embedder.name, embedder.layout, embedder.dimension) == ("human:faceres", arcface_layout(224), 1024)
        assert len(embedder.sha256) == 64

    def test_batches_agree_with_the_network(self, tmp_path: Path) -> None:
        path = mobileface(tmp_path)
        crops = RNG.integers(0, 256, (5, 112, 112, 3), np.uint8)
        vectors = HumanEmbedder(path, device="cpu", batch_size=2).embed(crops)
        expected = HumanNetwork(path)(torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255)
        np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-6)
        assert vectors.dtype == np.float32

    def test_nothing_and_nonsense(self, tmp_path: Path) -> None:
        embedder = HumanEmbedder(mobileface(tmp_path), device="cpu")
        assert embedder.embed(np.zeros((0, 112, 112, 3), np.uint8)).shape == (0, 256)
        with pytest.raises(InputError):
            embedder.embed(np.zeros((1, 100, 100, 3), np.uint8))
        with pytest.raises(InputError, match="batch_size: expected at least 1, got 0"):
            HumanEmbedder(mobileface(tmp_path), batch_size=0)


REAL = Path(os.environ.get("MASKFIX_HUMAN_MODELS", "human-models"))


@pytest.mark.skipif(not (REAL / "faceres.json").is_file(), reason="MASKFIX_HUMAN_MODELS names no folder with faceres")
@pytest.mark.parametrize("name", ["faceres", "mobileface"])
def test_real_networks_know_a_face_again(name: str) -> None:
    """The same picture darker and mirrored stays closer than another texture does."""
    from skimage import data

    face = data.astronaut()[20:244, 110:334]
    embedder = HumanEmbedder(REAL / f"{name}.json", device="cpu")
    from maskfix.align import warp

    scale = embedder.layout.size / 224
    crops = [warp(p, np.array([[scale, 0, 0], [0, scale, 0]]), embedder.layout.size) for p in (
        face, face[:, ::-1].copy(), (face * 0.7).astype(np.uint8), data.coffee()[:224, :224].copy(),
    )]  # fmt: skip
    alike = embedder.embed(np.array(crops))
    assert (alike[1:3] @ alike[0]).min() > 0.7 > alike[3] @ alike[0] + 0.2
    network = HumanNetwork(REAL / f"{name}.json")
    maps = network.forward_features(torch.rand(1, 3, network.size, network.size))[1]
    assert [network.size // x.shape[-1] for x in maps] == [4, 8, 16]


def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mobileface(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert HumanEmbedder("~/mobileface.json", "cpu").dimension == 256
