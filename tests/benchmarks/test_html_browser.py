"""The web page in a real browser: opens from disk at phone width and in the dark, draws, answers mouse and keys."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.html_report import html, write_html_report
from maskfix.metrics import roc_curve, split_scores, tpr_at_fpr
from maskfix.plot.saved import save_scores
from maskfix.plot.thinning import thinned_curve
from tests.benchmarks.browser import CHROMIUM, Browser
from tests.benchmarks.pages import nasty_run, report_of, scores_of, write_run, write_templates

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; install it with: apt-get install chromium")

WINDOWS = [(320, False), (360, True), (400, False), (1200, False), (1200, True)]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "runs" / "a", 1, "a recogniser with a rather long name that must not widen the page")
    write_run(folder / "runs" / "b", 2, "an_unbroken_name_of_a_recogniser_that_is_wider_than_a_phone_is_by_far")
    return html([folder / "runs"], folder / "report.html")


def write_methods(folder: Path, lifts: dict[str, float]) -> Path:
    """Page of one run whose genuine pairs lie so far above the impostors, whose scores are 0 to 0.1."""
    saved = scores_of(1)
    noise = np.random.default_rng(0).random((len(lifts), len(saved.same)), np.float32) / 10
    scores = {name: row + lift * saved.same for row, (name, lift) in zip(noise, lifts.items(), strict=True)}
    saved = saved._replace(scores={name: values.astype(np.float32) for name, values in scores.items()})
    (folder / "run").mkdir(parents=True)
    (folder / "run" / "report.json").write_text(json.dumps(report_of(saved)))
    save_scores(folder / "run" / "scores.npz", saved)
    return html([folder / "run"], folder / "report.html")


@pytest.fixture(scope="module")
def methods(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Page of one run with every method that has a colour of its own, and one that has none."""
    names = ("clean", "masked", "completed", "refined", "fused", "clean_completed", "blurred")
    return write_methods(tmp_path_factory.mktemp("methods"), {name: 0.08 - 0.01 * i for i, name in enumerate(names)})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as started:
        yield started


def box(browser: Browser) -> tuple[float, float, float, float]:
    """Left, top, width and height of the chart in the window, scrolled into view."""
    browser.value("document.getElementById('chart').scrollIntoView({block: 'center'})")
    code = "(r => [r.left, r.top, r.width, r.height])(document.getElementById('chart').getBoundingClientRect())"
    left, top, width, height = browser.value(code)
    return left, top, width, height


def tip(browser: Browser) -> str:
    """Text of the box beside the point; empty where none is shown."""
    text: str = browser.value("(t => t.hidden ? '' : t.innerText)(document.getElementById('tip'))")
    return text


def numbers(text: str) -> dict[str, float]:
    """FPR, TPR and threshold that a box shows; rates as fractions."""
    rates = dict(re.findall(r"(FPR \(FMR\)|TPR|FNMR) ([\d.e+-]+)%", text))
    found = {name.split()[0]: float(value) / 100 for name, value in rates.items()}
    return found | {"threshold": float(re.findall(r"threshold ([\d.-]+)", text)[0])}


@pytest.mark.parametrize(("width", "dark"), WINDOWS)
def test_opens_clean(page: Path, browser: Browser, width: int, dark: bool) -> None:
    browser.open(page, width, dark=dark)
    assert browser.problems() == []
    assert browser.requests() == [page.resolve().as_uri()]
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value("document.querySelectorAll('#chart path.curve').length") == 6
    drawn = browser.value("[...document.querySelectorAll('#chart path.curve')].map(p => p.getBBox().width)")
    assert min(drawn) > 0.6 * min(width, 1000) - 60
    # Wide tables scroll inside their own boxes.
    boxes = browser.value("[...document.querySelectorAll('.wide')].map(b => [b.scrollWidth, b.clientWidth])")
    assert all(inner <= width for _, inner in boxes)
    if width < 600:
        assert boxes[0][0] > boxes[0][1]
    # Opened up, it is no wider.
    browser.value("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.value("document.documentElement.scrollWidth") <= width


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("templates")
    write_templates(folder / "run", folder / "pictures")
    return html([folder / "run"], folder / "report.html")


@pytest.mark.parametrize(("width", "dark"), [(320, True), (1200, False)])
def test_templates__open_clean(templates: Path, browser: Browser, width: int, dark: bool) -> None:
    browser.open(templates, width, dark=dark)
    assert browser.problems() == []
    assert browser.requests() == [templates.resolve().as_uri()]
    assert browser.value("document.querySelectorAll('#chart path.curve').length") == 3
    browser.value("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    assert browser.value("document.documentElement.scrollWidth") <= width
    shown = browser.value("[...document.querySelectorAll('img.thumb')].map(i => [i.naturalWidth, i.clientWidth])")
    assert len(shown) > 12
    assert min(min(sizes) for sizes in shown) > 30
    assert "subject" in browser.value("document.querySelector('ul.failures').innerText")


def test_templates__hover_at_an_operating_point(templates: Path, browser: Browser) -> None:
    report = json.loads((templates.parent / "run" / "report.json").read_text())
    point = report["methods"]["completed"]["tpr_at_fpr"]["0.01"]
    browser.open(templates, 1000)
    box(browser)
    code = "(r => [r.left + r.width / 2, r.top + r.height / 2])({}.getBoundingClientRect())"
    browser.hover(*browser.value(code.format("document.querySelector('#chart circle.mark.m-completed')")))
    shown = numbers(tip(browser))
    assert shown["TPR"] == pytest.approx(point["tpr"], abs=1e-4)
    assert shown["threshold"] == pytest.approx(point["threshold"], abs=1e-4)
    assert "operating point: FPR at most 1%" in tip(browser)
    browser.click("button[data-kind=det]")
    assert "False non-match rate (FNMR)" in browser.value("document.querySelector('#chart svg').textContent")
    assert browser.problems() == []


def luminance(colour: str) -> float:
    """Relative luminance of `rgb(...)`, after WCAG 2."""
    channels = np.array([float(value) for value in re.findall(r"[\d.]+", colour)[:3]]) / 255
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("dark", [False, True])
def test_colours_can_be_told_from_the_ground(methods: Path, browser: Browser, dark: bool) -> None:
    browser.open(methods, 400, dark=dark)
    ground = luminance(browser.value("getComputedStyle(document.body).backgroundColor"))
    assert (ground < 0.1) == dark
    style = "getComputedStyle({}).{}"
    texts = {"body": "color", ".soft": "color", ".ci": "color"}
    seen = [(browser.value(style.format(f"document.querySelector('{s}')", p)), 4.5) for s, p in texts.items()]
    for lines, count in (("#chart path.curve", 7), (".plots path.genuine", 7), (".plots path.impostor", 7)):
        colours = browser.value(f"[...document.querySelectorAll('{lines}')].map(p => getComputedStyle(p).stroke)")
        assert len(colours) == count
        seen += [(colour, 3.0) for colour in colours]
    seen.append((browser.value(style.format("document.querySelector('#chart text')", "fill")), 4.5))
    for colour, least in seen:
        light, low = max(luminance(colour), ground), min(luminance(colour), ground)
        assert (light + 0.05) / (low + 0.05) >= least, colour


def test_lines_of_one_recogniser_differ_by_method(methods: Path, page: Path, browser: Browser) -> None:
    """Of several recognisers the lines are theirs."""
    look = "[...document.querySelectorAll('{}')].map(p => [{}, p.getAttribute('stroke-dasharray') || ''])"
    curves = look.format("#chart path.curve", "p.classList[1]")
    chips = look.format("button[data-hide={}] line", "p.closest('button').className")
    browser.open(methods, 800)
    drawn = dict(browser.value(curves))
    assert (len(drawn), len(set(drawn.values()))) == (7, 6), "the seventh method begins again"
    assert dict(browser.value(chips.format("methods"))) == drawn
    browser.open(page, 800)
    solid, dashed = (line for _, line in browser.value(chips.format("runs")))
    assert [line for _, line in browser.value(curves)] == [solid] * 3 + [dashed] * 3
    assert {line for _, line in browser.value(chips.format("methods"))} == {""}


@pytest.mark.parametrize("width", [360, 1200])
def test_hover_shows_points_of_the_curves(page: Path, browser: Browser, width: int) -> None:
    browser.open(page, width)
    left, top, across, down = box(browser)
    assert tip(browser) == ""
    exact = {}
    for run, seed in (("a recogniser", 1), ("an_unbroken", 2)):
        saved = scores_of(seed)
        for name, values in saved.scores.items():
            exact[run, name] = roc_curve(*split_scores(values, saved.same))
    heads = set()
    for x, y in [(0.3, 0.2), (0.5, 0.4), (0.7, 0.3), (0.25, 0.85), (0.9, 0.1)]:
        browser.hover(left + x * across, top + y * down)
        text = tip(browser)
        shown = numbers(text)
        heads.add(text.splitlines()[0])
        run, name = next(key for key in exact if text.startswith(key[0]) and key[1] in text.splitlines()[0].lower())
        curve = exact[run, name]
        off = np.abs(curve.fpr - shown["FPR"]) + np.abs(curve.tpr - shown["TPR"])
        near = np.flatnonzero(off < 1e-4)
        assert len(near)
        assert np.abs(curve.thresholds[near] - shown["threshold"]).min() < 1e-4
        assert shown["TPR"] + shown["FNMR"] == pytest.approx(1, abs=1e-4)
        inside = browser.value(
            "(t => t.left >= 0 && t.right <= innerWidth)(document.getElementById('tip').getBoundingClientRect())"
        )
        assert inside
    assert len(heads) > 1
    browser.hover(left + across / 2, top + down + 30)
    assert tip(browser) == ""
    assert browser.problems() == []


def test_hover_at_an_operating_point(page: Path, browser: Browser) -> None:
    report = json.loads((page.parent / "runs" / "a" / "report.json").read_text())
    point = report["methods"]["masked"]["tpr_at_fpr"]["0.01"]
    browser.open(page, 1000)
    box(browser)
    code = "(r => [r.left + r.width / 2, r.top + r.height / 2])({}.getBoundingClientRect())"
    browser.hover(*browser.value(code.format("document.querySelector('#chart circle.mark.m-masked')")))
    shown = numbers(tip(browser))
    assert shown["TPR"] == pytest.approx(point["tpr"], abs=1e-4)
    assert shown["threshold"] == pytest.approx(point["threshold"], abs=1e-4)
    low, high = point["ci95"]
    assert f"[{low * 100:.2f}, {high * 100:.2f}]" in tip(browser)
    assert "operating point: FPR at most 1%" in tip(browser)


def test_keyboard(page: Path, browser: Browser) -> None:
    browser.open(page, 1000)
    browser.value("document.querySelector('button[data-kind=det]').focus()")
    for _ in range(20):
        browser.send("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        if browser.value("document.activeElement.id") == "chart":
            break
    assert browser.value("document.activeElement.id") == "chart"
    first = tip(browser)
    assert "Clean" in first
    assert "operating point: FPR at most 1%" in first
    browser.press("ArrowRight")
    assert numbers(tip(browser))["FPR"] >= numbers(first)["FPR"]
    browser.press("Home")
    start = numbers(tip(browser))
    for _ in range(5):
        browser.press("ArrowRight")
    assert numbers(tip(browser))["FPR"] > start["FPR"]
    browser.press("ArrowDown")
    assert "Masked" in tip(browser)
    browser.press("PageUp")
    assert "operating point" in tip(browser)
    spoken = browser.value("document.getElementById('live').textContent")
    assert spoken.startswith("a recogniser")
    assert "Masked: FPR (FMR) 1%, TPR" in spoken
    browser.press("Escape")
    assert tip(browser) == ""
    assert browser.problems() == []


def test_keyboard__methods_without_a_miss_are_passed_by(tmp_path: Path, browser: Browser) -> None:
    """On DET axes a method whose FNMR is 0 at an FMR of 0 has no point; alone, it leaves the keys nothing to do."""
    browser.open(write_methods(tmp_path, {"clean": 1, "masked": 0.02, "completed": 1}), 900)
    browser.click("button[data-kind=det]")
    for _ in range(2):
        browser.send("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        browser.value("document.getElementById('chart').blur()")
        browser.value("document.getElementById('chart').focus()")
        for key in ("ArrowRight", "ArrowDown", "ArrowUp", "End", "Home", "PageUp"):
            browser.press(key)
            hidden = browser.value("document.querySelector('button[data-index=\"1\"]').ariaPressed") == "false"
            assert tip(browser).startswith("" if hidden else "Masked")
            assert bool(tip(browser)) != hidden
        browser.press("Escape")
        browser.click("button[data-hide=methods][data-index='1']")
    assert browser.problems() == []


def test_switches(page: Path, browser: Browser) -> None:
    browser.open(page, 700)
    count = "document.querySelectorAll('#chart path.curve').length"
    browser.click("button[data-hide=methods][data-index='1']")
    assert browser.value(count) == 4
    browser.click("button[data-hide=runs][data-index='0']")
    assert browser.value(count) == 2
    assert browser.value("document.querySelectorAll('button[aria-pressed=false]').length") == 3
    browser.click("button[data-kind=det]")
    assert "False non-match rate (FNMR)" in browser.value("document.querySelector('#chart svg').textContent")
    left, top, width, height = box(browser)
    browser.hover(left + width / 2, top + height / 2)
    assert numbers(tip(browser))["FNMR"] > 0
    browser.click("button[data-hide=runs][data-index='1']")
    assert browser.value(count) == 0
    assert "Every curve is hidden." in browser.value("document.querySelector('#chart svg').textContent")
    assert tip(browser) == ""
    browser.click("button[data-hide=runs][data-index='1']")
    assert browser.value(count) == 2
    assert browser.problems() == []


def test_redrawn_when_the_window_changes(page: Path, browser: Browser) -> None:
    browser.open(page, 1000)
    wide = browser.value("document.querySelector('#chart svg').getAttribute('viewBox')")
    browser.send("Emulation.setDeviceMetricsOverride", width=340, height=700, deviceScaleFactor=1, mobile=True)
    browser.value("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")
    narrow = browser.value("document.querySelector('#chart svg').getAttribute('viewBox')")
    assert float(narrow.split()[2]) < 340 < float(wide.split()[2])


def test_printed_in_the_dark(page: Path, browser: Browser) -> None:
    browser.open(page, 800, dark=True, media="print")
    assert luminance(browser.value("getComputedStyle(document.body).backgroundColor")) == pytest.approx(1)
    assert browser.value("getComputedStyle(document.querySelector('.switch')).display") == "none"
    browser.value("dispatchEvent(new Event('beforeprint'))")
    assert browser.value("document.querySelectorAll('details:not([open])').length") == 0
    browser.value("dispatchEvent(new Event('afterprint'))")
    assert browser.value("document.querySelectorAll('details:not([open])').length") > 0


def test_hostile_names_do_nothing(tmp_path: Path, browser: Browser) -> None:
    nasty_run(tmp_path / "run")
    page = html([tmp_path / "run"], tmp_path / "report.html")
    browser.open(page, 360)
    dialogs: list[Any] = [event for event in browser.events if event[0] == "Page.javascriptDialogOpening"]
    assert dialogs == []
    assert browser.problems() == []
    assert browser.requests() == [page.resolve().as_uri()]
    assert browser.value("document.scripts.length") == 2
    assert browser.value("document.querySelectorAll('#chart path.curve').length") == 4
    assert browser.value("document.documentElement.scrollWidth") <= 360
    left, top, width, height = box(browser)
    browser.hover(left + width / 2, top + height / 2)
    assert tip(browser)
    assert browser.problems() == []


def test_axes_down_to_one_in_a_million(tmp_path: Path, browser: Browser) -> None:
    pairs = 1_500_000
    rng = np.random.default_rng(0)
    impostor = rng.standard_normal(pairs, dtype=np.float32)
    genuine = rng.standard_normal(60_000, dtype=np.float32) + 5
    report = report_of(scores_of(1), rates=("0.0001", "1e-06"))
    report["methods"] = {"clean": {**report["methods"]["clean"], "n_genuine": 60_000, "n_impostor": pairs}}
    for key, point in report["methods"]["clean"]["tpr_at_fpr"].items():
        point.update(tpr_at_fpr(genuine, impostor, float(key))._asdict())
    page = write_html_report([report], [{"clean": thinned_curve(genuine, impostor)}], tmp_path / "report.html")
    browser.open(page, 360)
    ticks = browser.value("[...document.querySelectorAll('#chart text')].map(t => t.textContent)")
    assert [tick for tick in ticks if tick.startswith("10⁻")] == [f"10⁻{digit}" for digit in "⁶⁵⁴³²¹"]
    assert browser.value("document.querySelectorAll('#chart circle.mark').length") == 2
    box(browser)
    code = "(r => [r.left + r.width / 2, r.top + r.height / 2])({}.getBoundingClientRect())"
    browser.hover(*browser.value(code.format("document.querySelector('#chart circle.mark')")))
    assert "FPR at most 1e-6" in tip(browser)
    browser.click("button[data-kind=det]")
    ticks = browser.value("[...document.querySelectorAll('#chart text')].map(t => t.textContent)")
    assert {"0.0001%", "0.01%", "1%", "50%"} <= set(ticks)
    # Normal scores lie on a straight line of normal deviates.
    x, y = np.array(
        browser.value(
            "(p => Array.from({length: 60}, (_, i) => p.getPointAtLength((0.05 + i / 120) * p.getTotalLength()))"
            ".map(q => [q.x, q.y]))(document.querySelector('#chart path.curve'))"
        )
    ).T
    assert np.ptp(x) > 80
    assert np.abs(y - np.polyval(np.polyfit(x, y, 1), x)).max() < 6
    assert browser.problems() == []
