"""Any recogniser: say where the landmarks lie in its crops and which numbers it takes, nothing is guessed.

python examples/any_module.py
python examples/any_module.py --onnx model.onnx --layout arcface_112 --range symmetric
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from portrait import masked_portrait
from torch import Tensor, nn

import maskfix
from maskfix.align import align
from maskfix.base import CropLayout
from maskfix.embed import load_layout

#: A crop of one's own: 96 pixels, eyes at 40 %, mouth at 80 % of the height.
OWN = CropLayout("own_96", 96, ((31.0, 38.0), (65.0, 38.0), (48.0, 58.0), (34.0, 77.0), (62.0, 77.0)))


class Recogniser(nn.Module):
    """Stands for a network of one's own: RGB crops in [0, 1] to embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(8)

    def forward(self, crops: Tensor) -> Tensor:
        """Crops `(N, 3, 96, 96)` to `(N, 192)`."""
        return self.pool(crops - crops.mean((2, 3), keepdim=True)).flatten(1)


def main() -> None:
    """Compare a masked portrait with the clean one, without and with maskfix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", help="an ONNX recogniser instead of the module of this file")
    parser.add_argument("--layout", default="arcface_112", help="crop layout of the ONNX recogniser")
    parser.add_argument("--range", default="symmetric", help="unit, symmetric, fixed_standard or byte, likewise")
    parser.add_argument("--photo", help="photograph of a face; a portrait when left out")
    parser.add_argument("--weights", default="cadf_small_128", help="weights of the completing network")
    args = parser.parse_args()

    clean, masked = masked_portrait(args.photo)
    [found] = maskfix.load_detector("mtcnn").detect([clean])
    layout = load_layout(args.layout) if args.onnx else OWN
    crops = np.stack([align(photo, found.five, layout)[0] for photo in (clean, masked)])

    if args.onnx:
        import onnxruntime

        session = onnxruntime.InferenceSession(args.onnx, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        scale, offset = maskfix.plugin.VALUE_RANGES[args.range]
        batch = ((crops.astype(np.float32) - offset) / scale).astype(np.float32).transpose(0, 3, 1, 2)
        gallery, before = session.run(None, {name: batch})[0]
        seam = maskfix.wrap(session, layout=layout, value_range=args.range, deoccluder=args.weights)  # the one line
        after = seam.run(None, {name: batch})[0][1]
    else:
        model = Recogniser()
        tensor = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
        gallery, before = model(tensor).numpy()
        seam = maskfix.wrap(model, layout=layout, value_range="unit", deoccluder=args.weights)  # the one line
        after = seam(tensor)[1].numpy()

    print(f"covered: {seam.last[1].coverage:.1%}, completed: {seam.last[1].used}")
    for text, vector in (("masked:   ", before), ("completed:", after)):
        cosine = vector @ gallery / np.linalg.norm(vector) / np.linalg.norm(gallery)
        print(f"similarity to the clean face, {text} {cosine:.3f}")


if __name__ == "__main__":
    main()
