"""Sessions are opened so that their threads sleep between two calls, and give what they gave before."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from maskfix.embed import reopen_sessions, session_options
from maskfix.embed.sessions import session_device, session_gpu, session_providers, spins_on
from tests.embed.gpu_session import SessionOnGpu
from tests.embed.onnx_files import write_recogniser

onnxruntime = pytest.importorskip("onnxruntime")
model_zoo = pytest.importorskip("insightface.model_zoo.model_zoo")
CPU = ["CPUExecutionProvider"]
CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recogniser(tmp_path / "tiny.onnx")


@pytest.mark.parametrize("providers", [[CUDA], [TENSORRT, CUDA]])
@pytest.mark.parametrize(("number", "device"), [("0", "cuda"), ("1", "cuda:1"), (None, "cuda")])
def test_gpu_of_a_session(providers: list[str], number: str | None, device: str) -> None:
    session = SessionOnGpu(number, *providers)
    assert session_gpu(session) == int(number or 0)
    assert session_device(session) == device
    # As `maskfix.embed.onnx_network.providers` asks for a GPU.
    options = {"device_id": int(number or 0)}
    assert session_providers(session) == [*((name, options) for name in providers), "CPUExecutionProvider"]


def test_session_on_the_cpu(path: Path) -> None:
    session = onnxruntime.InferenceSession(str(path), providers=CPU)
    assert (session_gpu(session), session_device(session), session_providers(session)) == (None, "cpu", CPU)


def threaded(threads: int = 2, **entries: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    for name, value in entries.items():
        options.add_session_config_entry(f"session.{name.replace('__', '.')}", value)
    return options


def model(path: Path, options: Any) -> Any:
    """What insightface's models have of this: a session of its own class."""
    return SimpleNamespace(session=model_zoo.PickableInferenceSession(str(path), sess_options=options, providers=CPU))


def test_options_are_kept() -> None:
    options = threaded(3)
    assert session_options(options) is options
    assert options.intra_op_num_threads == 3
    assert options.get_session_config_entry("session.force_spinning_stop") == "1"


@pytest.mark.parametrize(
    ("options", "spins"),
    [
        (threaded(), True),
        (threaded(1), False),
        (threaded(force_spinning_stop="1"), False),
        (threaded(force_spinning_stop="0"), True),
        (threaded(intra_op__allow_spinning="0"), False),
        (threaded(intra_op__allow_spinning="1"), True),
    ],
)
def test_which_spin_on(path: Path, options: Any, spins: bool) -> None:
    assert spins_on(onnxruntime.InferenceSession(str(path), options, providers=CPU)) is spins


class TestReopen:
    def test_same_to_the_bit_and_quiet(self, path: Path) -> None:
        options = threaded(3)
        options.log_severity_level = 2
        one = model(path, options)
        before, pictures = one.session, np.random.default_rng(0).random((1, 3, 112, 112), np.float32)
        name = before.get_inputs()[0].name
        known = before.run(None, {name: pictures})
        assert reopen_sessions([one, SimpleNamespace(), SimpleNamespace(session=None)]) == 1
        assert one.session is not before
        assert type(one.session) is type(before)
        assert not spins_on(one.session)
        assert one.session.get_session_options().intra_op_num_threads == 3
        assert one.session.get_session_options().log_severity_level == 3, "its warnings were told before"
        np.testing.assert_array_equal(one.session.run(None, {name: pictures}), known)
        assert reopen_sessions([one]) == 0, "it is quiet already"

    def test_others_stay(self, path: Path) -> None:
        single, gone, damaged = model(path, threaded(1)), model(path, threaded()), model(path, threaded())
        own = SimpleNamespace(session=onnxruntime.InferenceSession(str(path), threaded(), providers=CPU))
        gone.session.model_path = str(path) + ".moved"
        damaged.session.model_path = str(path.with_name("damaged.onnx"))
        path.with_name("damaged.onnx").write_bytes(b"no network")
        models = [single, gone, damaged, own]
        before = [one.session for one in models]
        with pytest.warns(UserWarning, match="damaged.onnx: cannot be opened again"):
            assert reopen_sessions(models) == 0
        assert all(one.session is session for one, session in zip(models, before, strict=True))
