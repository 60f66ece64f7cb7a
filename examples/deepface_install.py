"""deepface: a wrapped model in its registry, under a name of its own.

    make test-deepface                                    # makes .venv-deepface, once
    .venv-deepface/bin/python examples/deepface_install.py A.jpg B.jpg

deepface downloads the weights of the model on first use (ArcFace: 137 MB).
"""

from __future__ import annotations

import argparse

from deepface import DeepFace

import maskfix.deepface


def main() -> None:
    """Verify two pictures, without and with maskfix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", help="picture with a face")
    parser.add_argument("second", help="picture with a face")
    parser.add_argument("--model", default="ArcFace", help="one of deepface's models")
    parser.add_argument("--detector", default="opencv", help="one of deepface's detectors")
    parser.add_argument("--expand", type=int, default=30, help="room around the detector's box, in percent of it")
    parser.add_argument("--weights", default="cadf_small_128", help="weights of the completing network")
    args = parser.parse_args()

    wrapped = maskfix.deepface.install(args.model, deoccluder=args.weights)  # the one line
    for name in (args.model, wrapped):
        result = DeepFace.verify(
            args.first, args.second, model_name=name, detector_backend=args.detector, expand_percentage=args.expand
        )
        print(f"{name}: verified {result['verified']}, distance {result['distance']:.3f} of {result['threshold']}")
    for told in maskfix.deepface.last.faces:
        print("no landmarks found" if told is None else f"covered: {told.coverage:.1%}, completed: {told.used}")


if __name__ == "__main__":
    main()
