"""Small finished runs for tests of web pages, one of them hostile, and a strict parser of the page."""

from __future__ import annotations

import copy
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from maskfix.base import UInt8Array, write_image
from maskfix.metrics import auc, eer, fmr_fnmr, operating_points, split_scores
from maskfix.plot.saved import SavedScores, save_scores

RATES = ("0.01", "0.001")
VOID = {"meta", "link", "img", "br", "input", "hr"}


class Page(HTMLParser):
    """What a page holds: tags with their attributes, text, `data` values of each table; nesting is checked."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.values: dict[str, list[float]] = {}
        self.blocks: dict[str, list[str]] = {"script": [], "style": []}
        self._open: list[tuple[str, dict[str, str]]] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {key: value or "" for key, value in attrs}
        self.tags.append((tag, attributes))
        if tag == "data":
            tables = [at["id"] for name, at in self._open if name == "table"]
            self.values.setdefault(tables[0] if tables else "", []).append(float(attributes["value"]))
        if tag in self.blocks:
            self.blocks[tag].append("")
        if tag not in VOID:
            self._open.append((tag, attributes))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] in self.blocks:
            self.blocks[self._open[-1][0]][-1] += data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    @property
    def curves(self) -> dict[str, Any]:
        data: dict[str, Any] = json.loads(self.blocks["script"][0])
        return data


def scores_of(seed: int, pairs: int = 1200) -> SavedScores:
    rng = np.random.default_rng(seed)
    same = np.arange(pairs) < pairs // 2
    lift = {"clean": 0.6, "masked": 0.25, "completed": 0.4}
    scores = {n: (rng.normal(size=pairs) * 0.12 + v * same).astype(np.float32) for n, v in lift.items()}
    scores["masked"][3] = -np.inf
    names = np.array([f"Ann_{number}/Ann_{number}_0001" for number in range(pairs)])
    people = np.arange(pairs)
    return SavedScores(scores, same, people % 10, names, names[::-1], people, people)


def report_of(saved: SavedScores, name: str = "net", rates: tuple[str, ...] = RATES) -> dict[str, Any]:
    """A report of these scores, as benchmarks.report builds it; its intervals are made up."""
    sides = {method: split_scores(values, saved.same) for method, values in saved.scores.items()}
    asked = [float(rate) for rate in rates]
    thresholds = [point.threshold for point in operating_points(*sides["clean"], asked)]
    methods = {}
    for method, classes in sides.items():
        points = operating_points(*classes, asked)
        moved = [fmr_fnmr(*classes, threshold) for threshold in thresholds]
        area = auc(*classes)
        methods[method] = {
            "auc": area,
            "auc_ci95": [area - 0.011, min(area + 0.007, 1)],
            "eer": eer(*classes),
            "tpr_at_fpr": {
                rate: {**point._asdict(), "ci95": [max(point.tpr - 0.03, 0), min(point.tpr + 0.02, 1)]}
                for rate, point in zip(rates, points, strict=True)
            },
            "fmr_fnmr_at_clean_threshold": {
                rate: {"threshold": threshold, **rates_moved._asdict()}
                for rate, threshold, rates_moved in zip(rates, thresholds, moved, strict=True)
            },
            "accuracy": {"mean": 0.97, "se": 0.004},
            "n_genuine": len(classes[0]),
            "n_impostor": len(classes[1]),
            "failures": {"gallery": {"genuine": 0, "impostor": 0}, "probe": {"genuine": 1, "impostor": 0}},
        }
    gain = {"auc": {"value": 0.0123, "ci95": [0.0101, 0.0145]}}
    gain |= {rate: {"value": -0.04, "ci95": [-0.1, 0.05]} for rate in rates}
    return {
        "format": 1,
        "benchmark": "lfw",
        "protocol": {"name": "LFW View 2, clean gallery", "comparisons": len(saved.same)},
        "methods": methods,
        "recovered": {"auc": 0.31, **dict.fromkeys(rates, 0.27)},
        "difference": {"completed_minus_masked": gain},
        "failures": {"no_face": {"Bob/Bob_0001": "no face found"}, "not_masked": {}},
        "embedder": {"name": name, "sha256": "ab" * 32},
        "weights": {"name": "cadf_small_128.utkface", "sha256": "cd" * 32},
        "masks": {"source": "drawn", "kinds": ["surgical", "N95"]},
        "settings": {"probes": {"seed": 7, "fuse": None}},
        "command": "python -m benchmarks.lfw --seed 7",
        "created": "2026-01-02T03:04:05+00:00",
    }


def write_run(folder: Path, seed: int, name: str = "net") -> dict[str, Any]:
    saved = scores_of(seed)
    report = report_of(saved, name)
    folder.mkdir(parents=True)
    save_scores(folder / "scores.npz", saved)
    (folder / "report.json").write_text(json.dumps(report))
    write_image(folder / "panel.png", np.full((300, 200, 3), seed, dtype=np.uint8))
    return report


IJBC_RATES = ("1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1")
GALLERY, PROBES = 6, 60


def picture_of(template: int) -> UInt8Array:
    """The first picture of a template: dark, with a square of its own grey around (60, 30)."""
    picture = np.zeros((90, 160, 3), dtype=np.uint8)
    picture[20:40, 50:70] = 3 * template
    return picture


def write_templates(folder: Path, pictures: Path | None, *, boxes: bool = True, seed: int = 3) -> dict[str, Any]:
    """A finished run as `ijbc run` leaves it: 6 gallery and 60 probe templates, ten probes for each of six subjects.

    Template ids are 1, 2, 3, ...; with `pictures`, each has a picture there.
    """
    gallery, probe = (places.ravel() for places in np.meshgrid(np.arange(GALLERY), GALLERY + np.arange(PROBES)))
    subject = np.append(np.arange(GALLERY), np.arange(PROBES) % GALLERY).astype(np.int32)
    same = subject[gallery] == subject[probe]
    rng = np.random.default_rng(seed)
    lift = {"clean": 0.7, "masked": 0.25, "completed": 0.4}
    scores = {n: (rng.normal(size=len(same)) * 0.15 + v * same).astype(np.float32) for n, v in lift.items()}
    scores["masked"][7] = -np.inf
    for name in ("scores", "pairs"):
        (folder / name).mkdir(parents=True)
    for name, values in scores.items():
        np.save(folder / "scores" / f"{name}.npy", values)
    for name, places in {"gallery": gallery.astype(np.int32), "probe": probe.astype(np.int32), "same": same}.items():
        np.save(folder / "pairs" / f"{name}.npy", places)
    ids = np.arange(1, GALLERY + PROBES + 1, dtype=np.int32)
    np.savez(folder / "templates.npz", id=ids, subject=subject, is_probe=ids > GALLERY)
    if pictures is not None:
        names = [f"img/{template}.png" for template in ids]
        for template, name in zip(ids.tolist(), names, strict=True):
            write_image(pictures / name, picture_of(template))
        box = np.tile(np.float32([50, 20, 20, 20]), (len(ids), 1))
        where = np.array(str(pictures))
        box[:] = box if boxes else np.nan
        np.savez_compressed(folder / "pictures.npz", folder=where, image=np.array(names), box=box)
    saved = scores_of(0, len(same))._replace(scores=scores, same=same)
    report = report_of(saved, "arcface:templates", IJBC_RATES)
    for method in report["methods"].values():
        del method["accuracy"]
        method |= {"cllr": 0.21, "min_cllr": 0.2}
    sample = {"subjects": GALLERY, "of_subjects": 747, "of_templates": 2209, "seed": 0}
    protocol = {"name": "LFW templates 1:1", "comparisons": len(same), "sample": sample}
    report |= {"benchmark": "ijbc", "protocol": protocol, "data": {"root": "somewhere", "official": False}}
    report["failures"] = {"no_face": {"img/9.png": "no face found"}, "not_masked": {}}
    report["command"] = "python -m benchmarks.ijbc run --data somewhere"
    (folder / "report.json").write_text(json.dumps(report))
    write_image(folder / "panel.png", np.full((300, 200, 3), 90, dtype=np.uint8))
    return report


NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{7*7}}"


def nasty_run(folder: Path) -> None:
    report = write_run(folder, 7)
    report["embedder"]["name"] = NASTY
    report["command"] = NASTY
    report["protocol"]["name"] = NASTY
    report["settings"][NASTY] = [NASTY, 1]
    report["failures"]["no_face"] = {NASTY: NASTY}
    report["methods"][NASTY] = copy.deepcopy(report["methods"]["masked"])
    report["difference"][f"{NASTY}_minus_masked"] = report["difference"]["completed_minus_masked"]
    (folder / "report.json").write_text(json.dumps(report))
    saved = scores_of(7)
    names = np.array([f"{NASTY}{number}" for number in range(len(saved.same))])
    saved = saved._replace(scores={**saved.scores, NASTY: saved.scores["masked"]}, gallery=names)
    save_scores(folder / "scores.npz", saved)
