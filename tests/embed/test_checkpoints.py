"""Files that are no checkpoint, or more than one, and networks built around a state dict."""

from __future__ import annotations

import hashlib
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from maskfix.base import EmbedderError, WeightsError
from maskfix.embed import checkpoints
from maskfix.embed.checkpoints import build_loaded, is_path, read_state
from maskfix.weights import save_weights


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _refused(path: Path, message: str) -> None:
    with pytest.raises(EmbedderError, match=message) as raised:
        read_state(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


class TestReadState:
    @pytest.mark.parametrize("new", [True, False])
    def test_bare_and_wrapped(self, tmp_path: Path, new: bool) -> None:
        weights = {"a.weight": torch.arange(4.0), "b": torch.tensor(3)}
        for name, content in (("bare", weights), ("wrapped", {"state_dict": weights, "epoch": 3, "arch": "x"})):
            path = tmp_path / f"{name}.pth.tar"
            torch.save(content, path, _use_new_zipfile_serialization=new)
            state, sha256 = read_state(path)
            assert list(state) == ["a.weight", "b"]
            assert torch.equal(state["a.weight"], weights["a.weight"])
            assert state["b"].dtype == torch.int64
            assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_prefix_is_stripped_where_every_key_has_it(self, tmp_path: Path) -> None:
        path = tmp_path / "x.pt"
        torch.save({"module.a": torch.zeros(1), "module.module.b": torch.zeros(1)}, path)
        assert list(read_state(path)[0]) == ["a", "module.b"]
        torch.save({"module.a": torch.zeros(1), "b": torch.zeros(1)}, path)
        assert list(read_state(path)[0]) == ["module.a", "b"]

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_other_precision(self, tmp_path: Path, dtype: torch.dtype) -> None:
        torch.save({"a": torch.tensor([0.5, -2], dtype=dtype)}, tmp_path / "x.pt")
        found = read_state(tmp_path / "x.pt")[0]["a"]
        assert (found.dtype, found.tolist()) == (torch.float32, [0.5, -2])

    def test_safetensors(self, tmp_path: Path) -> None:
        row = save_weights(tmp_path / "x.safetensors", {"module.a": torch.ones(2)}, "any")
        state, sha256 = read_state(tmp_path / "x.safetensors")
        assert (list(state), sha256) == (["a"], row.sha256)
        with pytest.raises(WeightsError, match=r"y\.safetensors: no such weights file"):
            read_state(tmp_path / "y.safetensors")

    def test_home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        torch.save({"a": torch.zeros(1)}, tmp_path / "x.pt")
        assert list(read_state("~/x.pt")[0]) == ["a"]


class TestWrongFiles:
    def test_missing(self, tmp_path: Path) -> None:
        _refused(tmp_path / "x.pth", r"x\.pth: no such checkpoint file")
        _refused(tmp_path, "no such checkpoint file")

    def test_too_large(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checkpoints, "MAX_BYTES", 3)
        _refused(_write(tmp_path / "x.pth", b"four"), "larger than 3 bytes")

    @pytest.mark.parametrize("head", [b"<!DOCTYPE html><html>", b"\n  <HTML><body>", b"<?xml version='1.0'?>"])
    def test_web_page(self, tmp_path: Path, head: bytes) -> None:
        _refused(_write(tmp_path / "x.pth", head + b"Google Drive - Virus scan warning"), "a web page, no checkpoint")

    def test_git_lfs_pointer(self, tmp_path: Path) -> None:
        text = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n"
        _refused(_write(tmp_path / "x.pth", text), "a Git LFS pointer, no checkpoint")

    def test_zip_of_something_else(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
            archive.writestr("readme.txt", "hello")
        _refused(tmp_path / "x.pth", "damaged, or no checkpoint of torch")

    def test_tar_archive(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "x.pth.tar", "w") as archive:
            archive.add(_write(tmp_path / "readme.txt", b"hello"), "readme.txt")
        _refused(tmp_path / "x.pth.tar", "damaged, or no checkpoint of torch")

    @pytest.mark.parametrize("content", [b"", b"hello", bytes(range(256)), b"\x80\x02"])
    def test_no_checkpoint(self, tmp_path: Path, content: bytes) -> None:
        _refused(_write(tmp_path / "x.pth", content), "damaged, or no checkpoint of torch")

    @pytest.mark.parametrize("new", [True, False])
    def test_truncated(self, tmp_path: Path, new: bool) -> None:
        torch.save({"a": torch.zeros(1000)}, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
        content = (tmp_path / "x.pth").read_bytes()
        _refused(_write(tmp_path / "x.pth", content[: len(content) // 2]), "damaged, or no checkpoint of torch")

    def test_code_is_not_executed(self, tmp_path: Path) -> None:
        class Evil:
            def __reduce__(self) -> Any:
                return os.mkdir, (str(tmp_path / "executed"),)

        torch.save({"state_dict": {"a": torch.zeros(1)}, "best": Evil()}, tmp_path / "x.pth")
        _refused(tmp_path / "x.pth", r"holds more than tensors and is not executed; if you trust it, save torch\.load")
        assert not (tmp_path / "executed").exists()

    def test_whole_network(self, tmp_path: Path) -> None:
        torch.save(nn.Linear(1, 1), tmp_path / "x.pth")
        _refused(tmp_path / "x.pth", "holds more than tensors")

    def test_numpy_score_beside_the_weights(self, tmp_path: Path) -> None:
        torch.save({"state_dict": {"a": torch.zeros(1)}, "prec1": np.float64(98.7)}, tmp_path / "x.pth")
        _refused(tmp_path / "x.pth", "holds more than tensors")

    @pytest.mark.parametrize("content", [{}, [torch.zeros(1)], torch.zeros(1), {"state_dict": {}}])
    def test_no_mapping(self, tmp_path: Path, content: Any) -> None:
        torch.save(content, tmp_path / "x.pth")
        _refused(tmp_path / "x.pth", "holds no state dict")

    @pytest.mark.parametrize("content", [{"epoch": 3}, {3: torch.zeros(1)}, {"a": torch.zeros(1), "b": {}}])
    def test_entries_that_are_no_tensors(self, tmp_path: Path, content: Any) -> None:
        torch.save(content, tmp_path / "x.pth")
        _refused(tmp_path / "x.pth", "holds no state dict, entry .* is no tensor")


def _tiny() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


class TestBuildLoaded:
    def test_old_batch_norm_without_counter(self) -> None:
        state = {key: torch.ones_like(value) for key, value in _tiny().state_dict().items()}
        del state["1.num_batches_tracked"]
        network = build_loaded(_tiny, state, "x.pt", "tiny")
        assert not network.training
        assert not any(parameter.requires_grad or parameter.is_meta for parameter in network.parameters())
        assert not any(buffer.is_meta for buffer in network.buffers())
        # 1 * 1 + 1 * 1 + 1 = 3, less the mean 1, times 1 / sqrt(1 + eps), plus 1.
        torch.testing.assert_close(network(torch.ones(1, 2)), torch.full((1, 3), 1 + 2 / (1 + 1e-5) ** 0.5))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"0.bias": None}, "does not fit tiny: it lacks '0.bias'$"),
            ({"0.bias": None, "1.bias": None}, "does not fit tiny: it lacks '0.bias' and 1 more$"),
            ({"2.bias": torch.zeros(1)}, "does not fit tiny: it has '2.bias'$"),
            ({"0.bias": torch.zeros(4)}, r"does not fit tiny: '0.bias' has shape \(4,\), not \(3,\)$"),
            ({"0.bias": torch.full((3,), torch.inf)}, "'0.bias' holds NaN or infinity"),
            ({"0.bias": torch.zeros(3, dtype=torch.int64)}, r"does not fit tiny: '0.bias' is no dense .* \(int64\)$"),
            ({"0.bias": torch.zeros(3, dtype=torch.complex64)}, r".*'0.bias' is no dense .* real .* \(complex64\)$"),
            ({"0.bias": torch.zeros(3).to_sparse()}, "does not fit tiny: '0.bias' is no dense tensor"),
            ({"0.bias": torch.zeros(3, device="meta")}, "does not fit tiny: '0.bias' is no dense tensor"),
        ],
    )
    def test_does_not_fit(self, change: dict[str, Any], message: str) -> None:
        state = _tiny().state_dict() | change
        state = {key: value for key, value in state.items() if value is not None}
        with pytest.raises(EmbedderError, match=f"^x.pt: {message}"):
            build_loaded(_tiny, state, "x.pt", "tiny")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a.pth", True), ("a.pth.tar", True), ("a.safetensors", True), ("a/b", True), ("vggface2", False), ("x.y", False)],
)
def test_is_path(text: str, expected: bool) -> None:
    assert is_path(text) is expected
