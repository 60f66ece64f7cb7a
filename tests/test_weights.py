from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from maskfix import weights
from maskfix.base import InputError, WeightsError
from maskfix.weights import (
    WeightsRow,
    add_to_manifest,
    file_sha256,
    list_weights,
    load_weights,
    manifest_row,
    read_manifest,
    replace_in_manifest,
    save_weights,
)


def _state(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3, generator=generator),
        "bn.num_batches_tracked": torch.tensor(7),
        "scalar": torch.tensor(0.5),
    }


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that weights are looked for in."""
    monkeypatch.setattr(weights, "weights_folders", lambda: [tmp_path])
    return tmp_path


def _add(folder: Path, name: str, seed: int = 0, **changes: Any) -> WeightsRow:
    arch = name.partition(".")[0]
    row = save_weights(folder / f"{name}.safetensors", _state(seed), arch)
    row = dataclasses.replace(row, **changes)
    add_to_manifest(row, folder)
    return row


class TestLoadWeights:
    def test_by_name(self, folder: Path) -> None:
        row = _add(folder, "net.a", licence="CC0", scores={"auc": 0.99}, training={"lr": 1e-4})
        state, loaded = load_weights("net.a")
        assert loaded == row
        assert list_weights() == [row]
        assert set(state) == set(_state())
        assert state["conv.weight"].dtype == torch.float32
        torch.testing.assert_close(state["conv.weight"], _state()["conv.weight"], atol=1e-3, rtol=1e-3)
        assert state["bn.num_batches_tracked"].dtype == torch.int64
        assert int(state["bn.num_batches_tracked"]) == 7

    def test_bare_architecture_takes_the_last_row(self, folder: Path) -> None:
        _add(folder, "net.a")
        _add(folder, "other.a")
        newest = _add(folder, "net.b", seed=1)
        assert load_weights("net")[1] == newest

    def test_unknown_name_lists_the_known(self, folder: Path) -> None:
        _add(folder, "net.a")
        _add(folder, "net.b")
        with pytest.raises(WeightsError, match=r"weights 'nat' are unknown; known: net\.a, net\.b; or give the path"):
            load_weights("nat")

    def test_unknown_name_without_any_manifest(self, folder: Path) -> None:
        with pytest.raises(WeightsError, match="known: none"):
            load_weights("net")

    @pytest.mark.parametrize("by_path", [True, False])
    def test_one_changed_byte(self, folder: Path, by_path: bool) -> None:
        row = _add(folder, "net.a")
        path = folder / row.file
        blob = bytearray(path.read_bytes())
        blob[-1] ^= 1
        path.write_bytes(bytes(blob))
        with pytest.raises(WeightsError, match=r"net\.a\.safetensors: sha256 is .* the manifest says") as raised:
            load_weights(path if by_path else "net.a")
        assert "\n" not in str(raised.value)

    def test_file_gone(self, folder: Path) -> None:
        row = _add(folder, "net.a")
        (folder / row.file).unlink()
        with pytest.raises(WeightsError, match=r"net\.a\.safetensors: no such weights file; set MASKFIX_WEIGHTS"):
            load_weights("net.a")

    def test_path_without_a_manifest(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.safetensors"
        saved = save_weights(path, _state(), "net", {"data": "faces", "training": {"steps": 3}})
        state, row = load_weights(str(path))
        assert row == saved
        assert (row.name, row.arch, row.data, row.training) == ("mine", "net", "faces", {"steps": 3})
        assert row.sha256 == file_sha256(path)
        assert row.bytes == path.stat().st_size
        assert set(state) == set(_state())

    def test_header_without_architecture(self, tmp_path: Path) -> None:
        save_file(_state(), tmp_path / "bare.safetensors")
        with pytest.raises(WeightsError, match=r"bare\.safetensors: its header does not say which network"):
            load_weights(tmp_path / "bare.safetensors")

    @pytest.mark.parametrize("keep", [0, 4, 60, 200])
    def test_truncated_file(self, tmp_path: Path, keep: int) -> None:
        path = tmp_path / "cut.safetensors"
        save_weights(path, _state(), "net")
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(WeightsError, match=r"cut\.safetensors: damaged") as raised:
            load_weights(path)
        assert "\n" not in str(raised.value)

    def test_pickle_is_refused(self, tmp_path: Path) -> None:
        torch.save(_state(), tmp_path / "net.pth")
        with pytest.raises(WeightsError, match="damaged or no"):
            load_weights(str(tmp_path / "net.pth"))

    @pytest.mark.parametrize("name", ["a/none.safetensors", "none.safetensors"])
    def test_missing_path(self, name: str) -> None:
        with pytest.raises(WeightsError, match="no such weights file"):
            load_weights(name)


class TestFolders:
    def test_environment_comes_first(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        own, shipped = tmp_path / "own", tmp_path / "shipped"
        mine = _add(own, "net.a", seed=1)
        _add(shipped, "net.a", seed=2)
        theirs = _add(shipped, "net.b", seed=3)
        monkeypatch.setenv("MASKFIX_WEIGHTS", str(own))
        monkeypatch.setattr(weights, "checkout_folder", lambda: shipped)
        rows = {row.name: row for row in list_weights()}
        assert rows["net.a"] == mine
        assert rows["net.b"] == theirs
        assert load_weights("net")[1] == mine

    def test_mistyped_environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else other weights, of another licence, would be loaded in their place."""
        monkeypatch.setenv("MASKFIX_WEIGHTS", str(tmp_path / "myweihgts"))
        with pytest.raises(
            WeightsError, match=r"MASKFIX_WEIGHTS: .*myweihgts is no folder; name one that holds weights"
        ):
            load_weights("net")
        (tmp_path / "myweihgts").mkdir()
        with pytest.raises(WeightsError, match="'net' are unknown"):
            load_weights("net")

    def test_checkout_lies_beside_the_package(self) -> None:
        assert weights.checkout_folder() == Path(__file__).resolve().parents[1] / "weights"

    def test_shipped_rows_load(self) -> None:
        rows = read_manifest(weights.checkout_folder())
        if not rows:
            pytest.skip("this checkout ships no weights yet")
        for row in rows:
            _, loaded = load_weights(weights.checkout_folder() / row.file)
            assert loaded == row


class TestSaveWeights:
    @pytest.mark.parametrize(("half", "dtype"), [(True, torch.float16), (False, torch.float32)])
    def test_precision(self, tmp_path: Path, half: bool, dtype: torch.dtype) -> None:
        save_weights(tmp_path / "n.safetensors", _state(), "net", half=half)
        stored = load_file(tmp_path / "n.safetensors")
        assert stored["conv.weight"].dtype == dtype
        assert stored["bn.num_batches_tracked"].dtype == torch.int64

    def test_full_precision_is_exact(self, tmp_path: Path) -> None:
        save_weights(tmp_path / "n.safetensors", _state(), "net", half=False)
        torch.testing.assert_close(load_weights(tmp_path / "n.safetensors")[0], _state(), atol=0, rtol=0)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e6])
    def test_what_half_precision_cannot_hold(self, tmp_path: Path, bad: float) -> None:
        with pytest.raises(WeightsError, match="tensor 'w' holds NaN, infinity or a value beyond 65504"):
            save_weights(tmp_path / "n.safetensors", {"w": torch.tensor([bad])}, "net")
        assert list(tmp_path.iterdir()) == []

    def test_shared_and_strided_tensors(self, tmp_path: Path) -> None:
        base = torch.arange(6.0).view(2, 3)
        save_weights(tmp_path / "n.safetensors", {"a": base, "b": base, "c": base.t()}, "net")
        state, _ = load_weights(tmp_path / "n.safetensors")
        torch.testing.assert_close(state["c"], base.t())
        torch.testing.assert_close(state["b"], base)

    def test_other_suffix(self, tmp_path: Path) -> None:
        with pytest.raises(WeightsError, match=r"n\.pt: weights are kept as \.safetensors only"):
            save_weights(tmp_path / "n.pt", _state(), "net")

    def test_a_failed_write_leaves_the_old_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "n.safetensors"
        save_weights(path, _state(), "net")
        before = path.read_bytes()

        def fail(_tensors: Any, name: Path, metadata: Any = None) -> None:
            Path(name).write_bytes(b"half")
            raise OSError("disk full")

        monkeypatch.setattr("safetensors.torch.save_file", fail)
        with pytest.raises(OSError, match="disk full"):
            save_weights(path, _state(1), "net")
        assert path.read_bytes() == before
        assert [item.name for item in tmp_path.iterdir()] == ["n.safetensors"]

    def test_full_disk(self, tmp_path: Path) -> None:
        """In a process that may write no file of more than 8 KiB; safetensors says so by an error of its own."""
        pytest.importorskip("resource", reason="no limit of a file's size to be set here")
        code = """
import resource, signal, sys, torch
from maskfix.base import WeightsError
from maskfix.weights import save_weights
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    save_weights(sys.argv[1], {"a": torch.zeros(100_000)}, "net")
except WeightsError as error:
    print(error)
"""
        path = tmp_path / "n.safetensors"
        said = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout
        assert said.startswith(f"{path}: cannot be written (")
        assert list(tmp_path.iterdir()) == []


class TestManifest:
    def test_same_name_is_replaced(self, folder: Path) -> None:
        _add(folder, "net.a", notes="old")
        _add(folder, "net.b")
        _add(folder, "net.a", seed=1, notes="new")
        assert [(row.name, row.notes) for row in read_manifest(folder)] == [("net.b", ""), ("net.a", "new")]

    def test_add_checks_the_hash(self, folder: Path) -> None:
        row = save_weights(folder / "net.a.safetensors", _state(), "net")
        with pytest.raises(WeightsError, match="the row says"):
            add_to_manifest(dataclasses.replace(row, sha256="0" * 64), folder)
        with pytest.raises(WeightsError, match="cannot be read"):
            add_to_manifest(dataclasses.replace(row, file="none.safetensors"), folder)
        assert not (folder / "manifest.json").exists()

    def test_what_is_said_of_a_row_does_not_make_it_the_newest(self, folder: Path) -> None:
        first, second = _add(folder, "net.a", seed=1), _add(folder, "net.b", seed=2)
        told = dataclasses.replace(first, notes="told")
        replace_in_manifest(told, folder)
        assert read_manifest(folder) == [told, second]
        assert load_weights("net")[1] == second
        add_to_manifest(first, folder)
        assert read_manifest(folder) == [second, first]
        assert load_weights("net")[1] == first
        with pytest.raises(InputError, match=r"net\.c: not in .*manifest\.json; known: net\.b, net\.a"):
            replace_in_manifest(dataclasses.replace(first, name="net.c"), folder)
        with pytest.raises(WeightsError, match="the row says 000000000000"):
            replace_in_manifest(dataclasses.replace(first, sha256="0" * 64), folder)
        assert read_manifest(folder) == [second, first]

    @pytest.mark.parametrize("file", ["../net.a.safetensors", "/etc/passwd", "net.a.pt", ""])
    def test_files_elsewhere_are_refused(self, folder: Path, file: str) -> None:
        _add(folder, "net.a")
        text = json.loads((folder / "manifest.json").read_text())
        text["weights"][0]["file"] = file
        (folder / "manifest.json").write_text(json.dumps(text))
        with pytest.raises(WeightsError, match=r"manifest\.json: row 'net\.a'"):
            load_weights("net.a")

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", "{}", '{"weights": 3}', '{"weights": [{"name": "a"}]}', '{"weights": [{"nome": "a"}]}']
    )
    def test_damaged(self, folder: Path, text: str) -> None:
        (folder / "manifest.json").write_text(text)
        with pytest.raises(WeightsError, match=r"manifest\.json: ") as raised:
            list_weights()
        assert "\n" not in str(raised.value)


def test_manifest_row(folder: Path, tmp_path: Path) -> None:
    known = [_add(folder, "net.a"), _add(folder, "net.b", 1)]
    assert [manifest_row(row.name, folder) for row in known] == known
    with pytest.raises(InputError, match=r"net\.z: not in .*manifest\.json; known: net\."):
        manifest_row("net.z", folder)
    with pytest.raises(InputError, match=r"manifest\.json: names no weights; name the folder of a checkout"):
        manifest_row("net.z", tmp_path / "elsewhere")


def test_load__larger_than_any_weights_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "n.safetensors"
    row = save_weights(path, _state(), "net")
    monkeypatch.setattr(weights, "MAX_BYTES", row.bytes)
    assert load_weights(path)[1] == row
    monkeypatch.setattr(weights, "MAX_BYTES", row.bytes - 1)
    with pytest.raises(WeightsError, match=rf"n\.safetensors: larger than {row.bytes - 1} bytes"):
        load_weights(path)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_load__half_precision_widens(tmp_path: Path, dtype: torch.dtype) -> None:
    """Other programs' files may hold either kind."""
    stored = {"w": torch.tensor([1.0, -0.3]).to(dtype), "count": torch.tensor(7)}
    save_file(stored, tmp_path / "n.safetensors", metadata={"arch": "net"})
    state, _ = load_weights(tmp_path / "n.safetensors")
    torch.testing.assert_close(state, {"w": stored["w"].float(), "count": torch.tensor(7)}, rtol=0, atol=0)
