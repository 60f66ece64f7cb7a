"""insightface: one line puts the completion before recognition, another takes it out again.

    python examples/insightface_attach.py --recogniser mobilefacenet.onnx
    python examples/insightface_attach.py --pack buffalo_l --photo masked.jpg

With `--recogniser`, MTCNN finds the faces and no pack is downloaded.
"""

from __future__ import annotations

import argparse

import numpy as np
from portrait import masked_portrait

import maskfix


def main() -> None:
    """Compare a masked portrait with the clean one, without and with maskfix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--recogniser", help="ONNX file of an ArcFace recogniser")
    source.add_argument("--pack", help="installed insightface pack, such as buffalo_l")
    parser.add_argument("--photo", help="photograph of a face; a portrait when left out")
    parser.add_argument("--weights", default="cadf_small_128", help="weights of the completing network")
    args = parser.parse_args()

    if args.pack:
        from insightface.app import FaceAnalysis

        app = FaceAnalysis(name=args.pack)
        app.prepare(ctx_id=-1)
    else:
        from maskfix.plugin import pack_free_analysis

        app = pack_free_analysis(args.recogniser)

    clean, masked = (np.ascontiguousarray(photo[..., ::-1]) for photo in masked_portrait(args.photo))
    [gallery] = app.get(clean, max_num=1)
    [before] = app.get(masked, max_num=1)

    maskfix.attach(app, deoccluder=args.weights)  # the one line
    [after] = app.get(masked, max_num=1)
    print(f"covered: {after.completion.coverage:.1%}, completed: {after.completion.used}")
    print(f"similarity to the clean face, masked:    {gallery.normed_embedding @ before.normed_embedding:.3f}")
    print(f"similarity to the clean face, completed: {gallery.normed_embedding @ after.normed_embedding:.3f}")

    maskfix.detach(app)
    [again] = app.get(masked, max_num=1)
    print(f"detached, the embedding is the first one: {np.array_equal(again.embedding, before.embedding)}")


if __name__ == "__main__":
    main()
