"""The commands: what they print, and one line and exit code 2 for what they cannot use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from maskfix import __version__
from maskfix.plot.saved import SavedScores, save_scores
from tests.cli.random_networks import called


def command(*words: object) -> subprocess.CompletedProcess[str]:
    """Run `maskfix` in a process of its own."""
    return subprocess.run([sys.executable, "-m", "maskfix", *map(str, words)], capture_output=True, text=True)


def write_scores(path: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    same = np.arange(60) % 2 == 0
    names, people = np.array([f"a/{n}" for n in range(60)]), np.arange(60)
    scores = {m: (rng.normal(size=60) + 2 * same).astype(np.float32) for m in ("clean", "masked", "completed")}
    save_scores(path, SavedScores(scores, same, people // 6, names, names, people, people))
    return path


def test_version__in_a_process() -> None:
    done = command("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"maskfix {__version__}\n", "")


def test_nothing_heavy_is_loaded_before_a_command_runs() -> None:
    heavy = ("cv2", "torch", "PIL", "scipy", "pandas", "matplotlib", "onnxruntime")
    code = f"import sys, maskfix.cli.app; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_bad_input__in_a_process(tmp_path: Path) -> None:
    done = command("roc", tmp_path / "absent.npz", "-o", tmp_path / "roc.png")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"error: {tmp_path}/absent.npz: no such file")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_verify__a_bug_is_no_decision(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Python itself would end with 1, which says that two pictures show different people."""

    def fail(*_: object, **__: object) -> int:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("maskfix.cli.verify.run_verify", fail)
    assert called(monkeypatch, "verify", "a.png", "b.png") == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.endswith("RuntimeError: out of memory\n")


def test_interrupted_while_it_is_loaded() -> None:
    code = "import sys, maskfix.cli\nclass Stop:\n def find_spec(self, *_): raise KeyboardInterrupt\n"
    code += "sys.meta_path.insert(0, Stop())\nmaskfix.cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


def test_help__lists_the_commands(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert called(monkeypatch, "--help") == 0
    shown = capsys.readouterr().out
    for name in ("demo", "prepare", "train", "weights", "roc"):
        assert name in shown


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_roc__writes_a_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    runs = [write_scores(tmp_path / f"{seed}.npz", seed) for seed in (1, 2)]
    target = tmp_path / f"roc.{suffix}"
    assert called(monkeypatch, "roc", *runs, "-o", target) == 0
    assert capsys.readouterr().out == f"written: {target}\n"
    assert target.read_bytes()[:4] == {"png": b"\x89PNG", "pdf": b"%PDF"}[suffix]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train completion --faces absent --out out", "error: absent: crops.npy"),
        ("train siamese --faces absent --out out", "error: absent: crops.npy"),
        ("train siamese --faces absent --out out --device abacus", "error: device: 'abacus' is unknown; known: auto"),
        ("train siamese --faces absent --out out --config run.toml", "error: run.toml: unknown key speed; known: "),
        ("train completion --faces absent --out out --config absent.toml", "error: absent.toml: cannot read"),
        ("train completion --faces absent --out out --steps 0", "error: configuration: steps and batch_size: expected"),
        ("prepare --images absent --out out", "error: absent: no such folder"),
        ("prepare --images empty --out out", "error: empty: no pictures"),
        ("weights release absent.pt cadf_small_128.x --data d --out out", "error: absent.pt: no such checkpoint"),
        ("demo --out out --photo absent.jpg", "error: absent.jpg: no such picture"),
        ("demo --out out --photo half.png", "error: half.png: truncated or damaged picture"),
        ("demo --out out --photo text.png", "error: text.png: not a picture"),
        ("roc text.png -o out/roc.png", "error: text.png: "),
        ("roc saved.npz --method fused -o out/roc.png", "error: ROC: no run has a method of fused; they have: clean, "),
    ],
)
def test_bad_input__one_line_and_nothing_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "run.toml").write_text("speed = 3\n")
    (tmp_path / "text.png").write_text("no picture")
    write_scores(tmp_path / "saved.npz", 1)
    (tmp_path / "half.png").write_bytes(half_a_picture())
    assert called(monkeypatch, *words.split()) == 2
    shown = capsys.readouterr()
    assert shown.err.startswith(message)
    assert shown.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def half_a_picture() -> bytes:
    """The first half of a PNG file."""
    import cv2

    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    whole = cv2.imencode(".png", noise)[1].tobytes()
    return whole[: len(whole) // 2]
