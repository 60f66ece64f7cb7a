"""The frozen networks behind the texture terms: one for identity, one for style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from maskfix.base import EmbedderError
from maskfix.embed.human import HumanNetwork
from maskfix.embed.mobilefacenet import INPUT_SIZE, MobileFaceNet
from maskfix.embed.onnx_torch import OnnxTorchNetwork
from maskfix.losses import TextureNetwork
from maskfix.weights import file_sha256

_VGG_FILE = "vgg16-397923af.pth"
# Outputs of the first three pooling layers, as in DFNet and partial convolution.
_VGG_STAGES = ((0, 5), (5, 10), (10, 17))


def vgg_weights() -> Path | None:
    """Torchvision's VGG-16 weights, if they lie where torchvision keeps them; nothing is downloaded."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / _VGG_FILE
    return path if path.is_file() else None


class Texture(nn.Module):
    """Identity embedding and style maps of pictures in the canonical crop; a `losses.TextureNetwork`.

    With several identity networks the embedding is theirs side by side, scaled to unit length: the cosine of two such
    vectors is the mean of the networks' cosines.

    Args:
        identity: A network with `forward_features(x) -> (embedding, maps)` on 112x112 pictures.
        vgg: VGG-16's features, or None to take the identity networks' early maps for style and perceptual loss.
        others: More identity networks by name, each from pictures `(N, 3, H, W)` in [0, 1] to unit vectors, with a
            `forward_features` as the first has.
        judges: Networks that no term sees; validation reports what they make of the completed faces.
        sha256: Hashes of the identity networks' files by name, for the run's record.
    """

    def __init__(
        self,
        identity: MobileFaceNet,
        vgg: nn.Module | None = None,
        others: Mapping[str, nn.Module] | None = None,
        judges: Mapping[str, nn.Module] | None = None,
        sha256: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self.sha256 = dict(sha256 or {})
        self.identity = identity
        self.vgg = vgg
        self.others = nn.ModuleDict(others)
        self.judges = nn.ModuleDict(judges)
        self.eval().requires_grad_(False)

    @property
    def style_network(self) -> str:
        """Which network the style term uses, for the run's record."""
        return "torchvision VGG-16" if self.vgg is not None else f"early maps of {self.identity_networks}"

    @property
    def identity_networks(self) -> str:
        """Which networks the identity term uses, for the run's record."""
        return ", ".join(["mobilefacenet", *self.others])

    @property
    def count(self) -> int:
        """How many networks the identity term has."""
        return 1 + len(self.others)

    @torch.no_grad()
    def dimensions(self) -> list[int]:
        """Length of each identity network's embedding."""
        black = torch.zeros(1, 3, 128, 128, device=next(self.parameters()).device)
        return [self._ask(black, [number])[0].shape[1] for number in range(self.count)]

    def forward(self, images: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Embed `(N, 3, H, W)` pictures in [0, 1]; returns `(N, D)` of unit length and the style maps."""
        return self._ask(images, range(self.count))

    def one(self, step: int) -> TextureNetwork:
        """One of the identity networks alone, another one at each step."""
        chosen = step % self.count
        return lambda images: self._ask(images, [chosen])

    def _ask(self, images: Tensor, chosen: Sequence[int]) -> tuple[Tensor, Sequence[Tensor]]:
        """What some of the identity networks make of pictures, by number."""
        faces = arcface_part(images)
        networks: list[Any] = [self.identity, *self.others.values()]
        # MobileFaceNet, the first, is the only one that takes no other side than its own.
        found = [networks[i].forward_features(faces if i else _small(faces)) for i in chosen]
        embedding = torch.cat([vector.float() for vector, _ in found], 1) / len(found) ** 0.5
        if self.vgg is None:
            return embedding, [one for _, maps in found for one in maps]
        return embedding, self._vgg_maps(images)

    def opinions(self, images: Tensor) -> dict[str, Tensor]:
        """What each network by itself makes of pictures: unit vectors by name, the judges' last."""
        faces = arcface_part(images)
        found = {"mobilefacenet": self.identity(_small(faces))}
        return found | {name: network(faces) for name, network in [*self.others.items(), *self.judges.items()]}

    def _vgg_maps(self, images: Tensor) -> list[Tensor]:
        mean, deviation = images.new_tensor([0.485, 0.456, 0.406]), images.new_tensor([0.229, 0.224, 0.225])
        x = (images - mean[:, None, None]) / deviation[:, None, None]
        maps = []
        layers: Any = self.vgg
        for first, last in _VGG_STAGES:
            x = layers[first:last](x)
            maps.append(x)
        return maps


def texture_at(texture: Texture, step: int, in_turn: bool, mirror: bool) -> TextureNetwork:
    """The texture network of one step.

    Args:
        texture: All networks.
        step: The optimiser's.
        in_turn: Whether only the identity network is asked whose turn it is.
        mirror: Whether pictures are mirrored every second time that a network is asked.
    """
    asked: TextureNetwork = texture.one(step) if in_turn else texture
    turns = texture.count if in_turn else 1
    return (lambda images: asked(images.flip(3))) if mirror and step // turns % 2 else asked


def load_texture(identity: str | Path, others: Sequence[str | Path] = (), judges: Sequence[str | Path] = ()) -> Texture:
    """Load the identity networks, and VGG-16 where its weights are on this machine.

    Args:
        identity: MobileFaceNet as ONNX.
        others: More networks for the identity term: `faceres.json` or `mobileface.json` (see `embed.human`), or
            `PATH.onnx?layout=arcface_SIZE` (see `embed.OnnxTorchNetwork`).
        judges: The same, for validation alone.

    Raises:
        EmbedderError: If a file is not the network that it should be, or two have the same name.
        DependencyError: If onnx or onnx2torch is not installed.
    """
    path = vgg_weights()
    vgg = None
    if path is not None:
        from torchvision.models import vgg16

        whole = vgg16()
        whole.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        vgg = whole.features
    network = MobileFaceNet.from_onnx(identity)
    return Texture(network, vgg, _by_name(others), _by_name(judges), weights_sha256([identity, *others]))


def weights_sha256(paths: Sequence[str | Path]) -> dict[str, str]:
    """Hashes of the files that networks' weights lie in, by the file's name.

    Args:
        paths: As `load_texture` takes them.

    Raises:
        WeightsError: If a file cannot be read.
    """
    files = [Path(str(path).partition("?")[0]) for path in paths]
    # Of a network in two files, the `.json` says the same of all of its kind.
    weights = [file.with_suffix(".bin") if file.suffix == ".json" else file for file in files]
    return {file.name: file_sha256(file) for file in weights}


def _by_name(paths: Sequence[str | Path]) -> dict[str, nn.Module]:
    """Load networks by the stem of their file, without dots, which modules' names may not have."""
    found: dict[str, nn.Module] = {}
    for path in paths:
        file, _, query = str(path).partition("?")
        name = Path(file).stem.replace(".", "_")
        if name in found:
            raise EmbedderError(f"{path}: another identity network is called {name!r} as well; rename the file")
        if query or file.endswith(".onnx"):
            found[name] = OnnxTorchNetwork(path)
        else:
            # A side of 160 pixels holds all that a crop of 128 shows, for half the cost of FaceRes's 224.
            found[name] = HumanNetwork(path, 160 if name == "faceres" else None)
    return found


def arcface_part(images: Tensor) -> Tensor:
    """The ArcFace crop inside canonical crops, `(N, 3, S, S)` to `(N, 3, 7/8 S, 7/8 S)`; see `canonical_layout`."""
    margin, side = images.shape[3] // 16, images.shape[3] * 7 // 8
    return images[:, :, :side, margin : margin + side]


def _small(images: Tensor) -> Tensor:
    """Pictures at the side that MobileFaceNet wants; at 128 the ArcFace part has it already."""
    if images.shape[2:] == (INPUT_SIZE, INPUT_SIZE):
        return images
    return functional.interpolate(images, size=(INPUT_SIZE, INPUT_SIZE), mode="bilinear", align_corners=False)
