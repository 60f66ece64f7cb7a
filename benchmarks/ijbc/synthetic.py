"""A set of IJB-C's size without pictures: meta files, pair list and features drawn from a seed, for tests of scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from maskfix.base import ARCFACE_112, BoolArray, FloatArray, InputError, replacing

FEATURES = "features.npy"
"""File of the features, beside `meta`."""

_BLOCK = 8192
_MEDIA_NOISE, _ROW_NOISE = 0.9, 0.9  # gives TPR 0.95 at FPR 1e-4, about that of good recognisers

# One stream of random numbers for each purpose, so that one does not move when another draws more.
_LAYOUT, _PAIRS, _SUBJECTS, _NOISE = range(4)


class SyntheticSize(NamedTuple):
    """How much of everything; the defaults are IJB-C's own numbers.

    Attributes:
        gallery: Gallery templates, one of each subject.
        probes: Probe templates.
        strangers: Probe templates without any genuine pair, among `probes`.
        gallery_rows: Faces of the gallery.
        probe_rows: Faces of the probes.
        pairs: Comparisons, one genuine for each probe that is no stranger.
    """

    gallery: int = 3_531
    probes: int = 19_593
    strangers: int = 36
    gallery_rows: int = 11_856
    probe_rows: int = 457_519
    pairs: int = 15_658_489

    def scaled(self, scale: float) -> SyntheticSize:
        """A smaller set: templates and rows times `scale`, pairs times its square, so that as many are listed.

        Args:
            scale: In (0, 1].

        Raises:
            InputError: If `scale` is out of range.
        """
        if not 0 < scale <= 1:
            raise InputError(f"scale: expected a number in (0, 1], got {scale}")
        gallery, probes = max(3, round(self.gallery * scale)), max(9, round(self.probes * scale))
        strangers = max(1, round(self.strangers * scale))
        return SyntheticSize(
            gallery,
            probes,
            strangers,
            max(gallery, round(self.gallery_rows * scale)),
            max(probes, round(self.probe_rows * scale)),
            max(2 * (probes - strangers), round(self.pairs * scale**2)),
        )


class SyntheticRows(NamedTuple):
    """T templates and their R rows, drawn.

    Attributes:
        templates: Ids, sorted, `(T,)` int32; gallery and probes mixed.
        subject: Person of each template, `(T,)` int32; strangers have one of their own.
        is_probe: `(T,)` bool.
        place: Template of each row, a place in `templates`, `(R,)` int32, sorted.
        media: Media id of each row, `(R,)` int32; rows of one medium follow each other, ids occur in several templates.
        starts: Whether a medium starts in a row, `(R,)` bool.
        blur: How bad a picture is, `(R,)` float32, positive, 1 in the middle: the factor of its noise.
        score: Detector's score, `(R,)` float32 in [0.5, 1]; bad pictures have lower ones.
    """

    templates: NDArray[np.int32]
    subject: NDArray[np.int32]
    is_probe: BoolArray
    place: NDArray[np.int32]
    media: NDArray[np.int32]
    starts: BoolArray
    blur: FloatArray
    score: FloatArray


def draw_rows(size: SyntheticSize, seed: int = 0) -> SyntheticRows:
    """Draw templates and rows.

    Args:
        size: How many.
        seed: Seed.
    """
    rng = np.random.default_rng([seed, _LAYOUT])
    count = size.gallery + size.probes
    # Templates in order of birth: gallery, probes of the gallery's subjects, strangers; then mixed.
    mated = size.probes - size.strangers
    mates = np.concatenate([np.arange(size.gallery), rng.integers(size.gallery, size=max(mated - size.gallery, 0))])
    subject = np.concatenate([np.arange(size.gallery), mates[:mated], size.gallery + np.arange(size.strangers)])
    is_probe = np.arange(count) >= size.gallery
    rows = np.concatenate(
        [
            _share(rng, size.gallery, size.gallery_rows, shape=2.0),
            _share(rng, size.probes, size.probe_rows, shape=0.5),
        ]
    )
    order = rng.permutation(count)
    subject, is_probe, rows = subject[order], is_probe[order], rows[order]
    place = np.repeat(np.arange(count, dtype=np.int32), rows)
    # A gallery is made of stills, probes of videos as well.
    starts = rng.random(len(place)) < np.where(is_probe[place], 0.25, 0.8)
    starts[np.cumsum(rows) - rows] = True
    group = np.cumsum(starts) - 1
    media = 1 + group % max(int(group[-1]) * 4 // 5, int(rows.max()))
    blur = np.exp(0.5 * rng.standard_normal(int(group[-1]) + 1))[group] * np.exp(0.2 * rng.standard_normal(len(place)))
    return SyntheticRows(
        templates=np.arange(1, count + 1, dtype=np.int32),
        subject=subject.astype(np.int32),
        is_probe=is_probe,
        place=place,
        media=media.astype(np.int32),
        starts=starts,
        blur=blur.astype(np.float32),
        score=(0.5 + 0.5 * np.exp(-0.1 * blur**2)).astype(np.float32),
    )


def write_meta(folder: Path, rows: SyntheticRows, size: SyntheticSize, seed: int = 0) -> None:
    """Write the three meta files of the community's layout.

    Args:
        folder: The data set; `meta` is made in it.
        rows: From `draw_rows`.
        size: The same as there.
        seed: The same as there.

    Raises:
        InputError: If there are more pairs than templates can form.
    """
    import pandas as pd

    meta = folder / "meta"
    name = [f"{number}.jpg" for number in range(1, len(rows.place) + 1)]
    points = {f"p{number}": value for number, value in enumerate(np.asarray(ARCFACE_112).ravel())}
    frames = {
        "ijbc_face_tid_mid.txt": pd.DataFrame({"name": name, "t": rows.templates[rows.place], "m": rows.media}),
        "ijbc_name_5pts_score.txt": pd.DataFrame({"name": name, **points, "score": rows.score}),
    }
    for file, frame in frames.items():
        with replacing(meta / file) as temporary:
            frame.to_csv(temporary, sep=" ", header=False, index=False, float_format="%.4f")
    _write_pairs(meta / "ijbc_template_pair_label.txt", rows, size, seed)


def write_features(
    path: Path,
    rows: SyntheticRows,
    dimension: int = 512,
    *,
    seed: int = 0,
    probe_noise: float = 1.0,
    dtype: Any = np.float32,
) -> None:
    """Write a feature for each row as .npy `(R, dimension)`: subject + medium + picture, each from a normal law.

    Blocks of rows are drawn one after the other, so memory stays below 200 MB whatever R is. The same seed gives the
    same draws under any `probe_noise`, so that conditions of one probe can be compared.

    Args:
        path: The file.
        rows: From `draw_rows`.
        dimension: Length of a feature.
        seed: Seed.
        probe_noise: Factor of the noise in rows of probes: 1 for clean ones, more for masked ones.
        dtype: float32 or float16.
    """
    axes = (
        np.arange(1, dimension + 1, dtype=np.float32) ** -0.3
    )  # some axes carry more than others, as in real features
    axes /= np.linalg.norm(axes)
    people = np.random.default_rng([seed, _SUBJECTS]).standard_normal(
        (int(rows.subject.max()) + 1, dimension), dtype=np.float32
    )
    factor = rows.blur * np.where(rows.is_probe[rows.place], np.float32(probe_noise), np.float32(1))
    group = np.cumsum(rows.starts) - 1
    medium = np.zeros((1, dimension), dtype=np.float32)
    with replacing(path) as temporary:
        features = _create(temporary, dtype, (len(group), dimension))
        for number, start in enumerate(range(0, len(group), _BLOCK)):
            part = slice(start, start + _BLOCK)
            rng = np.random.default_rng([seed, _NOISE, number])
            noise = rng.standard_normal((len(group[part]), dimension), dtype=np.float32) * np.float32(_ROW_NOISE)
            # A medium that began in the block before keeps its draw.
            fresh = int(np.count_nonzero(rows.starts[part]))
            drawn = rng.standard_normal((fresh, dimension), dtype=np.float32)
            media = np.concatenate([medium, drawn])
            noise += np.float32(_MEDIA_NOISE) * media[group[part] - group[part][0] + int(rows.starts[start])]
            noise *= factor[part, None]
            noise += people[rows.subject[rows.place[part]]]
            features[part] = noise * axes
            medium = media[-1:]
        del features  # the last blocks reach the file


def _create(path: Path, dtype: Any, shape: tuple[int, int]) -> NDArray[Any]:
    """A .npy file mapped into memory, to be filled."""
    created: NDArray[Any] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        path, mode="w+", dtype=dtype, shape=shape
    )
    return created


def _share(rng: np.random.Generator, templates: int, rows: int, *, shape: float) -> NDArray[np.int64]:
    """How many of the rows each template gets: at least one, and a few very many where `shape` is small."""
    weights = rng.gamma(shape, size=templates)
    return 1 + rng.multinomial(rows - templates, weights / weights.sum())


def _write_pairs(path: Path, rows: SyntheticRows, size: SyntheticSize, seed: int) -> None:
    """Write the pair list, one gallery template after the other: all genuine pairs and its share of impostors."""
    rng = np.random.default_rng([seed, _PAIRS])
    gallery, probes = np.flatnonzero(~rows.is_probe), np.flatnonzero(rows.is_probe)
    persons = rows.subject[probes]
    # Each gallery template gets impostors in proportion to the probes that are not its own; rounded sums add up.
    mates = np.bincount(persons, minlength=int(rows.subject.max()) + 1)[rows.subject[gallery]]
    room = np.cumsum(len(probes) - mates)
    impostors = size.pairs - int(mates.sum())
    if impostors > room[-1]:
        raise InputError(f"pairs: {size.pairs} are more than {len(gallery)} x {len(probes)} templates can form")
    shares = np.diff(room * impostors // room[-1], prepend=0)
    impostor = np.array([f"{template} 0" for template in rows.templates[probes]], dtype=object)
    genuine = np.array([f"{template} 1" for template in rows.templates[probes]], dtype=object)
    with replacing(path) as temporary, temporary.open("w", encoding="ascii") as stream:
        for place, wanted in zip(gallery, shares, strict=True):
            own = persons == rows.subject[place]
            others = np.flatnonzero(~own)
            listed = own.copy()
            listed[others[rng.choice(len(others), wanted, replace=False, shuffle=False)]] = True
            # Joined by the beginning of the next line: text for millions of pairs without a loop over them.
            start = f"{rows.templates[place]} "
            stream.write(start + f"\n{start}".join(np.where(own, genuine, impostor)[listed]) + "\n")
