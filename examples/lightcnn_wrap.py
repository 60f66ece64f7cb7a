"""LightCNN: colour crops go in, are completed, and greyed afterwards.

    python examples/lightcnn_wrap.py --checkpoint LightCNN_29Layers_V2_checkpoint.pth.tar

Without `--checkpoint` the recogniser has random weights: everything runs, the similarities mean nothing.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from portrait import masked_portrait

import maskfix
from maskfix.align import align
from maskfix.embed import LightCnnEmbedder, create_lightcnn, load_layout


def main() -> None:
    """Compare a masked portrait with the clean one, without and with maskfix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", help="a LightCNN checkpoint as its authors publish it")
    parser.add_argument("--photo", help="photograph of a face; a portrait when left out")
    parser.add_argument("--weights", default="cadf_small_128", help="weights of the completing network")
    args = parser.parse_args()

    model = LightCnnEmbedder(args.checkpoint, "cpu").network if args.checkpoint else create_lightcnn("lightcnn9").eval()
    clean, masked = masked_portrait(args.photo)
    [found] = maskfix.load_detector("mtcnn").detect([clean])
    crops = np.stack([align(photo, found.five, load_layout("lightcnn"))[0] for photo in (clean, masked)])
    colour = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255

    cosine = torch.nn.functional.cosine_similarity
    with torch.no_grad():
        # What the seam does with faces that it lets pass, and what it is compared with: grey crops in [0, 1].
        never = maskfix.wrap(model, layout="lightcnn", mode="observe", deoccluder=args.weights)
        gallery, before = never(colour)

        model = maskfix.wrap(model, layout="lightcnn", deoccluder=args.weights)  # the one line
        _, after = model(colour)
    print(f"covered: {model.last[1].coverage:.1%}, completed: {model.last[1].used}")
    print(f"similarity to the clean face, masked:    {cosine(gallery, before, dim=0):.3f}")
    print(f"similarity to the clean face, completed: {cosine(gallery, after, dim=0):.3f}")


if __name__ == "__main__":
    main()
