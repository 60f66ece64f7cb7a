"""`python -m benchmarks.scoring --json OUT`: what scoring IJB-C costs, as ratios to the usual tools in one run.

Data of IJB-C's size are made in memory (`benchmarks.scoring_data`). Every figure is measured in a fresh process of its
own, one after the other, and times are wall times. Memory is the largest resident memory as the kernel counts it, which
sees what NumPy's sort and BLAS take, as tracemalloc does not: VmHWM in /proc/self/status, elsewhere
`resource.getrusage`, which on Linux would count the process that started this one as well. `peak_gb` is all that the
process held while the step ran, interpreter, libraries and input included; `extra_gb` is the growth over what it held
before. The count is set back before a step where the kernel allows it (/proc/self/clear_refs); elsewhere making the
input counts as well. GB are 10^9 bytes.

The products of matrices in `pair_scores` are oneDNN's, which torch brings: it is imported before the clock starts, as
in every run that embeds, and both sides warm up first. `pipeline` goes without torch, by NumPy's BLAS.

| figure | ours | yardstick |
|---|---|---|
| auc_and_points | split, sort, AUC, six operating points with insightface's rule, EER; median of three | scikit-learn |
| pair_scores | `maskfix.score.pair_scores`; median of nine | float64 gather and dot; nine batches scaled up |
| pair_list | `protocols.ijb.pair_list.read_pair_list`, first and second start; median of three | `pandas.read_csv` |
| bootstrap | 1,000 replicates, three methods, six rates, AUC, all differences | - |
| pipeline | features of three methods to templates, scores, all figures, no bootstrap | - |
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.report import peak_rss_bytes
from benchmarks.scoring_data import (
    DIMENSIONS,
    METHODS,
    FaceList,
    FeatureSource,
    Pairs,
    ijbc_sizes,
    make_faces,
    make_method_scores,
    make_pairs,
    make_scores,
    probe_subjects,
)
from benchmarks.scoring_yardstick import LOOP_BATCH, gather_loop, loop_inputs
from maskfix.base import DoubleArray, FloatArray, MaskfixError, replacing
from maskfix.cli.shared import one_line_errors
from maskfix.metrics import SortedScores, calibrate, cllr, min_cllr, own_subjects, subject_bootstrap
from maskfix.score import TemplatePooling, pair_scores

FPRS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)

_GB = 1e9
_REPEATS = 3
_PAIR_SCORE_REPEATS = 9
"""A quarter of a second each: on a machine shared with others two of three can fall into the same slow second."""
_LOOP_STRETCH = 3

Figures = dict[str, float]


def measure_points(scale: float) -> Figures:
    """Time, peak memory and AUC of our own path from unsorted scores to all figures."""
    scores, same = make_scores(ijbc_sizes(scale))
    reset_peak()
    seconds = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        ranked = SortedScores.from_pairs(scores, same)
        area = ranked.auc()
        ranked.operating_points(FPRS)
        ranked.eer()
        seconds.append(time.perf_counter() - start)
        del ranked
    return {"seconds": statistics.median(seconds), "peak_gb": peak_memory() / _GB, "auc": area}


def measure_sklearn(scale: float) -> Figures:
    """Time and AUC of scikit-learn's `roc_curve` and `roc_auc_score` on the same scores."""
    from sklearn.metrics import roc_auc_score, roc_curve

    scores, same = make_scores(ijbc_sizes(scale))
    start = time.perf_counter()
    roc_curve(same, scores)
    area = float(roc_auc_score(same, scores))
    return {"seconds": time.perf_counter() - start, "auc": area}


def measure_pair_scores(scale: float) -> Figures:
    """Time and extra memory of `pair_scores`; largest difference to the yardstick on its batches."""
    pairs, gallery, probe = _template_features(scale)
    import torch  # noqa: F401 - as in every run that embeds; pair_scores then multiplies by it

    pair_scores(gallery[:1], probe[:1], np.zeros(1, np.int32), np.zeros(1, np.int32))
    before = reset_peak()
    seconds = []
    scores = np.empty(0, np.float32)
    for _ in range(_PAIR_SCORE_REPEATS):
        del scores  # the last one's memory is no part of the next
        start = time.perf_counter()
        scores = pair_scores(gallery, probe, pairs.gallery, pairs.probe)
        seconds.append(time.perf_counter() - start)
    extra = max(0, peak_memory() - before) / _GB
    loop = gather_loop(*loop_inputs(pairs, gallery, probe, slice(0, LOOP_BATCH)))
    return {
        "seconds": statistics.median(seconds),
        "extra_gb": extra,
        "difference": float(np.abs(loop - scores[:LOOP_BATCH]).max()),
    }


def measure_gather_loop(scale: float) -> Figures:
    """Time of the yardstick for all pairs, from stretches of some batches each; the median, after one to warm up.

    The first batch of a process waits for memory that the machine has given to nobody yet; of 157 that is one, so it
    must not be a third of what is scaled up.
    """
    pairs, gallery, probe = _template_features(scale)
    count = len(pairs.same)
    length = min(count, _LOOP_STRETCH * LOOP_BATCH)
    rates = []
    for place in range(1 + _REPEATS):
        first = place * (count - length) // _REPEATS
        inputs = loop_inputs(pairs, gallery, probe, slice(first, first + length))
        start = time.perf_counter()
        gather_loop(*inputs)
        rates.append((time.perf_counter() - start) / length)
    return {"seconds": statistics.median(rates[1:]) * count}


def measure_pair_list(scale: float) -> Figures:
    """First reading of a pair list, with its cache written, and the second start."""
    from protocols.ijb.pair_list import cache_path, read_pair_list

    with tempfile.TemporaryDirectory() as folder:
        path = write_pair_list(Path(folder), scale)
        first: list[float] = []
        second: list[float] = []
        for _ in range(_REPEATS):
            cache_path(path).unlink(missing_ok=True)
            for seconds in (first, second):
                start = time.perf_counter()
                pairs = read_pair_list(path)
                # A mapped file is not read before it is looked at.
                checks = [
                    int(pairs.gallery.max()),
                    int(pairs.probe.max()),
                    0 if pairs.same is None else int(np.count_nonzero(pairs.same)),
                ]
                seconds.append(time.perf_counter() - start)
    if checks[2] != ijbc_sizes(scale).genuine:
        raise MaskfixError(f"pair list: {checks[2]} genuine pairs read, {ijbc_sizes(scale).genuine} written")
    return {"seconds": statistics.median(first), "cached_seconds": statistics.median(second)}


def measure_pandas(scale: float) -> Figures:
    """`pandas.read_csv` of the same list."""
    import pandas as pd

    with tempfile.TemporaryDirectory() as folder:
        path = write_pair_list(Path(folder), scale)
        seconds = []
        for _ in range(_REPEATS):
            start = time.perf_counter()
            pd.read_csv(path, sep=" ", header=None)
            seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds)}


def write_pair_list(folder: Path, scale: float) -> Path:
    """Write a list in the layout of ijbc_template_pair_label.txt: gallery ids first, probe ids after them."""
    sizes = ijbc_sizes(scale)
    pairs = make_pairs(sizes)
    path = folder / "ijbc_template_pair_label.txt"
    gallery = np.array([f"{number + 1} " for number in range(sizes.gallery)], dtype=object)
    probe = np.array([f"{sizes.gallery + number + 1} " for number in range(sizes.probe)], dtype=object)
    ends = np.array(["0\n", "1\n"], dtype=object)
    with path.open("w", encoding="ascii") as stream:
        for start in range(0, len(pairs.same), 1 << 18):
            piece = slice(start, start + (1 << 18))
            lines = gallery[pairs.gallery[piece]] + probe[pairs.probe[piece]] + ends[pairs.same[piece].astype(np.int8)]
            stream.write("".join(lines))
    return path


def measure_bootstrap(scale: float, replicates: int = 1000) -> Figures:
    """Intervals of three methods and of all their differences."""
    sizes = ijbc_sizes(scale)
    pairs = make_pairs(sizes)
    scores = make_method_scores(sizes, pairs)
    subject = own_subjects(np.concatenate([np.arange(sizes.gallery, dtype=np.int32), probe_subjects(sizes)]))
    first, second = subject[pairs.gallery].astype(np.int32), subject[pairs.probe + sizes.gallery].astype(np.int32)
    before = reset_peak()
    start = time.perf_counter()
    subject_bootstrap(scores, pairs.same, first, second, rng=np.random.default_rng(0), fprs=FPRS, replicates=replicates)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "extra_gb": max(0, peak_memory() - before) / _GB}


def measure_pipeline(scale: float) -> Figures:
    """Rows of three methods to templates, pair scores, AUC, operating points, EER, DET, thresholds, Cllr.

    Drawing the features, where a run would compute or read them, counts; making the lists does not.
    """
    sizes = ijbc_sizes(scale)
    pairs, source = make_pairs(sizes), FeatureSource(sizes)
    own, subject = np.arange(sizes.gallery, dtype=np.int32), probe_subjects(sizes)
    gallery_faces = make_faces(sizes.gallery, sizes.gallery_rows)
    probe_faces = make_faces(sizes.probe, sizes.probe_rows)
    folds = pairs.gallery % 10
    reset_peak()
    start = time.perf_counter()
    gallery = _pool(source.blocks(gallery_faces, own, "clean"), gallery_faces, sizes.gallery)
    thresholds: DoubleArray | None = None
    for method in METHODS:
        probe = _pool(source.blocks(probe_faces, subject, method), probe_faces, sizes.probe)
        scores = pair_scores(gallery, probe, pairs.gallery, pairs.probe)
        ranked = SortedScores.from_pairs(scores, pairs.same)
        ranked.auc(), ranked.eer(), ranked.thinned_curve()
        points = ranked.operating_points(FPRS)
        if thresholds is None:
            thresholds = np.array([point.threshold for point in points])
        ranked.rates_at(thresholds)
        min_cllr(ranked.genuine, ranked.impostor)
        del ranked
        ratios = calibrate(scores, pairs.same, folds)
        cllr(ratios[pairs.same], ratios[~pairs.same])
        del ratios
    return {"seconds": time.perf_counter() - start, "peak_gb": peak_memory() / _GB}


MEASURES: Mapping[str, Callable[[float], Figures]] = {
    "points": measure_points,
    "sklearn": measure_sklearn,
    "pair_scores": measure_pair_scores,
    "gather_loop": measure_gather_loop,
    "pair_list": measure_pair_list,
    "pandas": measure_pandas,
    "bootstrap": measure_bootstrap,
    "pipeline": measure_pipeline,
}


def measure_apart(name: str, scale: float) -> Figures:
    """One of `MEASURES` in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.scoring", "--measure", name, "--scale", str(scale)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MaskfixError(f"measuring {name} failed: {done.stderr.strip().splitlines()[-1:]}")
    figures: Figures = json.loads(done.stdout)
    return figures


def summarise(measured: Mapping[str, Figures]) -> dict[str, Figures]:
    """The table of the report from what was measured.

    Args:
        measured: Figures of each of `MEASURES`.
    """
    points, usual = measured["points"], measured["sklearn"]
    scores, listed = measured["pair_scores"], measured["pair_list"]
    return {
        "auc_and_points": {
            "speedup": usual["seconds"] / points["seconds"],
            "peak_gb": points["peak_gb"],
            "auc_difference": abs(points["auc"] - usual["auc"]),
        },
        "pair_scores": {
            "speedup": measured["gather_loop"]["seconds"] / scores["seconds"],
            "extra_gb": scores["extra_gb"],
        },
        "pair_list": {
            "ratio": listed["seconds"] / measured["pandas"]["seconds"],
            "cached_seconds": listed["cached_seconds"],
        },
        "bootstrap": {"seconds": measured["bootstrap"]["seconds"]},
        "pipeline": {name: measured["pipeline"][name] for name in ("seconds", "peak_gb")},
    }


def blas_kernels() -> str:
    """Name, version, kernels and threads of each BLAS in this process."""
    from threadpoolctl import ThreadpoolController

    found = ThreadpoolController().select(user_api="blas").info()
    names = {
        f"{part['internal_api']} {part['version']} ({part.get('architecture')} kernels, threads: {part['num_threads']})"
        for part in found
    }
    return ", ".join(sorted(names)) or "unknown"


def peak_memory() -> int:
    """Largest resident memory of this process, in bytes, since it began or since `reset_peak`."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return peak_rss_bytes()


def reset_peak() -> int:
    """Set the count of peak memory back to what is held now, where Linux allows it; gives what is held, in bytes."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def _template_features(scale: float) -> tuple[Pairs, FloatArray, FloatArray]:
    """Comparisons, and unit features of the gallery and the probe templates."""
    sizes = ijbc_sizes(scale)
    rng = np.random.default_rng(0)
    sides = []
    for count in (sizes.gallery, sizes.probe):
        features = rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        sides.append(features)
    return make_pairs(sizes), sides[0], sides[1]


def _pool(blocks: Iterable[FloatArray], faces: FaceList, templates: int) -> FloatArray:
    """Template features from blocks of rows."""
    pooling = TemplatePooling(*faces, templates=templates, dimensions=DIMENSIONS)
    for block in blocks:
        pooling.add(block)
    return pooling.templates().features


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    out: Annotated[Path | None, typer.Option("--json", help="File for the figures.")] = None,
    scale: Annotated[float, typer.Option(help="Share of IJB-C's pairs, from 0.0001 to 1.")] = 1.0,
    measure: Annotated[
        str | None, typer.Option(help="Measure one thing in this process and print it; used by the whole run.")
    ] = None,
) -> None:
    """Time and memory of scoring at IJB-C's size, against scikit-learn, pandas and the usual loop."""
    with one_line_errors():
        ijbc_sizes(scale)
        if measure is not None:
            if measure not in MEASURES:
                raise MaskfixError(f"measure: {measure!r} is unknown; known: {', '.join(MEASURES)}")
            print(json.dumps(MEASURES[measure](scale)))
            return
        if out is None:
            raise MaskfixError("--json: say where the figures go")
        print(f"BLAS: {blas_kernels()}", flush=True)
        measured = {}
        for name in MEASURES:
            measured[name] = measure_apart(name, scale)
            figures = ", ".join(f"{key} {value:.4g}" for key, value in measured[name].items())
            print(f"{name:12} {figures}  (load {os.getloadavg()[0]:.1f})", flush=True)
        with replacing(out) as temporary:
            temporary.write_text(json.dumps(summarise(measured), indent=2) + "\n")
        print(out.read_text(), end="")


if __name__ == "__main__":
    app()
