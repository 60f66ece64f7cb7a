"""facenet-pytorch: the completion between MTCNN and InceptionResnetV1.

    python examples/facenet_wrap.py --pretrained vggface2

Without `--pretrained` the recogniser has random weights: everything runs, the similarities mean nothing.
"""

from __future__ import annotations

import argparse

import torch
from facenet_pytorch import MTCNN, InceptionResnetV1
from portrait import masked_portrait

import maskfix
from maskfix.plugin import box_landmarks


def main() -> None:
    """Compare a masked portrait with the clean one, without and with maskfix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pretrained", choices=["vggface2", "casia-webface"], help="downloaded by facenet-pytorch")
    parser.add_argument("--photo", help="photograph of a face; a portrait when left out")
    parser.add_argument("--weights", default="cadf_small_128", help="weights of the completing network")
    args = parser.parse_args()

    clean, masked = masked_portrait(args.photo)
    mtcnn = MTCNN(image_size=160, margin=14)
    resnet = InceptionResnetV1(pretrained=args.pretrained).eval()
    faces = [mtcnn(photo) for photo in (clean, masked)]
    if any(face is None for face in faces):
        raise SystemExit("MTCNN found no face; choose another photograph")
    with torch.no_grad():
        gallery, before = resnet(torch.stack(faces))

        resnet = maskfix.wrap(resnet, deoccluder=args.weights)  # the one line
        [after] = resnet(faces[1][None])
        [told] = resnet.last
        print(f"covered: {told.coverage:.1%}, completed: {told.used}")
        print(f"similarity to the clean face, masked:    {gallery @ before:.3f}")
        print(f"similarity to the clean face, completed: {gallery @ after:.3f}")

        # A crop by a box says only roughly where eyes and mouth lie; with the detector's landmarks the fit is better.
        boxes, _, points = mtcnn.detect(masked, landmarks=True)
        landmarks = box_landmarks(points[:1].astype(float), boxes[:1].astype(float), masked.shape[1::-1])
        [placed] = resnet(faces[1][None], landmarks=landmarks)
        print(f"similarity with landmarks:               {gallery @ placed:.3f}")

        # Pictures without a face give None, and None passes.
        print(f"no face: {resnet(mtcnn(clean[:40, :40]))}")


if __name__ == "__main__":
    main()
