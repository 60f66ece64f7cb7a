"""The frozen networks behind the texture terms, and training with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from maskfix.base import EmbedderError, arcface_layout, canonical_layout
from maskfix.embed import OnnxTorchNetwork
from maskfix.embed.mobilefacenet import MobileFaceNet
from maskfix.losses import ObjectiveWeights
from maskfix.train.checkpoint import read_checkpoint
from maskfix.train.completion import LOG, train_completion
from maskfix.train.config import CompletionConfig
from maskfix.train.texture import Texture, arcface_part, load_texture, vgg_weights, weights_sha256
from maskfix.weights import file_sha256
from tests.embed.onnx_files import write_mobilefacenet, write_strided
from tests.train.runs import logged

RECOGNISER = Path(__file__).resolve().parents[3] / "shared" / "models" / "mobilefacenet-arcface" / "mobilefacenet.onnx"


def pictures(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def test_vgg_weights__only_where_torchvision_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert vgg_weights() is None
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "vgg16-397923af.pth").touch()
    assert vgg_weights() == tmp_path / "checkpoints" / "vgg16-397923af.pth"


def test_texture__identity_network_alone() -> None:
    """It sees the ArcFace crop inside the canonical one."""
    network = MobileFaceNet()
    texture = Texture(network)
    assert texture.style_network == "early maps of mobilefacenet"
    assert texture.identity_networks == "mobilefacenet"
    embedding, maps = texture(pictures())
    part = pictures()[:, :, :56, 4:60]
    small = functional.interpolate(part, size=(112, 112), mode="bilinear", align_corners=False)
    expected, expected_maps = network.eval().forward_features(small)
    torch.testing.assert_close(embedding, expected)
    assert len(maps) == len(expected_maps) > 0


def test_arcface_part__is_where_the_layouts_say() -> None:
    places = torch.stack(torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="xy"))[None]
    part = arcface_part(places)[0]
    assert part.shape == (2, 112, 112)
    for (x, y), (u, v) in zip(arcface_layout(112).points, canonical_layout(128).points, strict=True):
        moved = part[:, int(y), int(x)].numpy() - (int(x), int(y))
        assert moved == pytest.approx((u - x, v - y))


class Corner(nn.Module):
    """An identity network that embeds a part of the picture."""

    def __init__(self, first: int) -> None:
        super().__init__()
        self.first = first

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_features(images)[0]

    def forward_features(self, images: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        row = images[:, :, self.first : self.first + 4, 0]
        return functional.normalize(row.flatten(1), dim=1), [row]


def test_texture__cosine_of_several_networks_is_the_mean_of_theirs() -> None:
    first, second = pictures(), pictures().flip(0)
    texture = Texture(MobileFaceNet(), others={"a": Corner(0), "b": Corner(30)}, judges={"c": Corner(9)})
    assert texture.identity_networks == "mobilefacenet, a, b"
    one, two = texture.opinions(first), texture.opinions(second)
    maps = texture(first)[1]
    assert len(maps) == 3 + 2
    torch.testing.assert_close(maps[4], first[:, :, 30:34, 4])
    assert list(one) == ["mobilefacenet", "a", "b", "c"]
    mean = sum((one[name] * two[name]).sum(1) for name in ("mobilefacenet", "a", "b")) / 3
    torch.testing.assert_close((texture(first)[0] * texture(second)[0]).sum(1), mean)
    torch.testing.assert_close(one["c"], Corner(9)(first[:, :, :56, 4:60]))


def test_load_texture__onnx_networks(tmp_path: Path) -> None:
    """In the term and among the judges, by the stem of the file."""
    first, other = write_mobilefacenet(tmp_path / "first.onnx"), write_strided(tmp_path / "v2.0.onnx")
    spec = f"{other}?layout=arcface_16&range=0..1"
    judge = tmp_path / "judge.onnx"
    judge.write_bytes(other.read_bytes())
    texture = load_texture(first, [spec], [f"{judge}?layout=arcface_16&range=0..1"])
    assert texture.identity_networks == "mobilefacenet, v2_0"
    assert texture.sha256 == {path.name: file_sha256(path) for path in (first, other)}
    assert texture.dimensions() == [16, 5]
    expected = OnnxTorchNetwork(spec)(arcface_part(pictures()))
    for name in ("v2_0", "judge"):
        torch.testing.assert_close(texture.opinions(pictures())[name], expected)
    with pytest.raises(EmbedderError, match="another identity network is called 'v2_0'"):
        load_texture(first, [spec, spec])


def test_weights_sha256__of_what_holds_the_weights(tmp_path: Path) -> None:
    for name, text in (("a.json", "layers"), ("a.bin", "weights"), ("b.onnx", "both")):
        (tmp_path / name).write_text(text)
    found = weights_sha256([tmp_path / "a.json", f"{tmp_path}/b.onnx?layout=arcface_112"])
    assert found == {name: file_sha256(tmp_path / name) for name in ("a.bin", "b.onnx")}


def test_texture__one_network_in_turn() -> None:
    """Each step asks one network alone: its own vector, of unit length, and its own maps."""
    alone = [Texture(MobileFaceNet()), Corner(0), Corner(30)]
    texture = Texture(alone[0].identity, others={"a": alone[1], "b": alone[2]})  # type: ignore[arg-type]
    faces = arcface_part(pictures())
    for step, network in enumerate([*alone, alone[0]]):
        vector, maps = texture.one(step)(pictures())
        wanted, wanted_maps = network.forward_features(faces) if isinstance(network, Corner) else network(pictures())
        torch.testing.assert_close(vector, wanted)
        torch.testing.assert_close(list(maps), list(wanted_maps))


def test_texture__frozen_but_transparent() -> None:
    """No parameter learns and no statistic moves, yet the gradient passes through to the picture."""
    texture = Texture(MobileFaceNet())
    assert not texture.training
    assert not any(p.requires_grad for p in texture.parameters())
    x = pictures().requires_grad_()
    texture(x)[0].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_texture__style_of_vgg() -> None:
    """Style maps are the outputs of the first three stages, on pictures normalised as torchvision wants them."""
    layers: list[nn.Module] = [nn.Identity() for _ in range(17)]
    layers[0], layers[7], layers[12] = nn.Conv2d(3, 4, 1), nn.AvgPool2d(2), nn.Conv2d(4, 5, 1)
    vgg = nn.Sequential(*layers)
    texture = Texture(MobileFaceNet(), vgg)
    assert texture.style_network == "torchvision VGG-16"
    maps = texture(pictures())[1]
    assert [tuple(m.shape) for m in maps] == [(2, 4, 64, 64), (2, 4, 32, 32), (2, 5, 32, 32)]
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normal = (pictures() - mean[:, None, None]) / deviation[:, None, None]
    torch.testing.assert_close(maps[0], layers[0](normal))
    torch.testing.assert_close(maps[2], vgg(normal))


@pytest.mark.skipif(not RECOGNISER.is_file(), reason=f"no recogniser at {RECOGNISER}")
def test_train__with_the_identity_network(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "no-vgg"))
    assert load_texture(RECOGNISER).vgg is None
    config = CompletionConfig(
        network="tiny",
        steps=2,
        texture_start=1,
        batch_size=3,
        held_out=0.3,
        validate_every=2,
        perturb_identity=True,
        objective=ObjectiveWeights(
            style=0.02, identity=2, identity_form="cosine", texture_scales=(1,), texture_samples=2
        ),
    )
    path = train_completion(config, store, tmp_path / "out", identity=RECOGNISER, device="cpu", workers=0)
    rows = logged(path.with_name(LOG))
    # The texture terms wait for their step.
    assert ["identity" in row for row in rows] == [False, True]
    assert rows[1]["texture"] == pytest.approx(2 * rows[1]["identity"] + 0.02 * rows[1]["style"], rel=1e-4)
    assert 0 < rows[1]["identity"] < 2
    assert rows[1]["style"] > 0
    assert -1 <= rows[1]["val_identity_mobilefacenet"] <= 1
    assert -1 <= rows[1]["val_identity_masked_mobilefacenet"] <= 1
    assert read_checkpoint(path)["config"]["style_network"] == "early maps of mobilefacenet"
    assert read_checkpoint(path)["sources"]["networks"] == {RECOGNISER.name: file_sha256(RECOGNISER)}


def test_train__asks_one_network_a_step(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    real = Texture.one
    monkeypatch.setattr(Texture, "one", lambda self, step: asked.append(step) or real(self, step))
    config = CompletionConfig(
        network="tiny",
        steps=4,
        batch_size=2,
        texture_start=1,
        texture_in_turn=True,
        validate_every=0,
        objective=ObjectiveWeights(style=0.0, texture_samples=1),
    )
    path = train_completion(config, store, tmp_path, identity=RECOGNISER, device="cpu", workers=0)
    assert asked == [1, 2, 3]
    assert read_checkpoint(path)["config"]["texture_in_turn"] is True
