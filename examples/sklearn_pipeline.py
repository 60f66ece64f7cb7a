"""scikit-learn: complete, embed and classify in one pipeline.

    python examples/sklearn_pipeline.py --embedder dlib

The pipeline takes stacks of crops in the canonical layout, as `maskfix prepare` writes them.
"""

from __future__ import annotations

import argparse

import numpy as np
from portrait import masked_portrait
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from maskfix import load_detector
from maskfix.align import align
from maskfix.base import canonical_layout
from maskfix.plugin.sklearn import DeoccluderTransformer, EmbedderTransformer


def main() -> None:
    """Enrol a portrait and its mirror image as two people, and find out whose the masked one is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", help="photograph of a face; a portrait when left out")
    parser.add_argument("--weights", default="cadf_small_128", help="weights of the completing network")
    parser.add_argument("--embedder", default="dlib", help="recogniser, see maskfix.embed.load")
    args = parser.parse_args()

    clean, masked = masked_portrait(args.photo)
    [found] = load_detector("mtcnn").detect([clean])
    crop, masked_crop = (align(photo, found.five, canonical_layout(128))[0] for photo in (clean, masked))
    crops = np.stack([crop, crop[:, ::-1]])

    pipeline = make_pipeline(
        DeoccluderTransformer(args.weights),  # or Deoccluder.from_pretrained(), which completes every face
        EmbedderTransformer(args.embedder),
        KNeighborsClassifier(n_neighbors=1, metric="cosine"),
    )
    pipeline.fit(crops, ["as she is", "mirrored"])
    print(f"the masked face is nearest to: {pipeline.predict(masked_crop[None])[0]}")
    covered = pipeline[0].complete(masked_crop[None])
    print(f"covered: {covered.completion.coverage[0]:.1%}, completed: {bool(covered.used[0])}")

    # Settings are parameters, to be set or searched over.
    pipeline.set_params(deoccludertransformer__mode="observe").fit(crops, ["as she is", "mirrored"])
    distances, _ = pipeline[-1].kneighbors(pipeline[:-1].transform(masked_crop[None]))
    print(f"cosine distance without completion: {distances[0, 0]:.3f}")


if __name__ == "__main__":
    main()
