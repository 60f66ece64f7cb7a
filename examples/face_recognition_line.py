"""face_recognition: one line of an existing script changes.

    python examples/face_recognition_line.py

dlib and its four model files come with `pip install dlib-bin face-recognition-models`; face_recognition itself is not
needed.
"""

from __future__ import annotations

import argparse

from portrait import masked_portrait

from maskfix import face_recognition  # the one line; it was: import face_recognition


def main() -> None:
    """Compare a masked portrait with the clean one, without and with maskfix."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", help="photograph of a face; a portrait when left out")
    parser.add_argument("--weights", default="cadf_small_128", help="weights of the completing network")
    args = parser.parse_args()

    clean, masked = masked_portrait(args.photo)
    places = face_recognition.face_locations(clean)
    if not places:
        raise SystemExit("dlib found no face; choose another photograph")

    face_recognition.configure(args.weights, mode="observe")
    [known] = face_recognition.face_encodings(clean, places[:1])
    # dlib's HOG detector rarely sees a masked face; here the place is known from the clean picture.
    [unknown] = face_recognition.face_encodings(masked, places[:1])
    [masked_distance] = face_recognition.face_distance([known], unknown)

    face_recognition.configure(args.weights)
    [unknown] = face_recognition.face_encodings(masked, places[:1])
    [told] = face_recognition.last.faces
    [distance] = face_recognition.face_distance([known], unknown)
    print(f"covered: {told.coverage:.1%}, completed: {told.used}")
    print(f"distance to the clean face, masked:    {masked_distance:.3f}")
    print(f"distance to the clean face, completed: {distance:.3f}")
    print(f"one person (tolerance 0.6): {face_recognition.compare_faces([known], unknown)[0]}")


if __name__ == "__main__":
    main()
